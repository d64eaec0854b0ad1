"""Building models: at random, from arrays, in another precision, with a shorter context; and the cache."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

import minigpt
from minigpt.errors import CheckpointError, InputError
from minigpt.fast import FastGPT2
from minigpt.model import GPT2, n_parameters, named_parameters
from minigpt.parameters import Config, arrays_by_name, parameter_shapes
from tests.synthetic import SMALL, random_gpt2

IDS = [5, 17, 3, 40]


def test_a_random_model_begins_as_gpt2_did() -> None:
    config = Config(vocab_size=500, n_positions=64, n_embd=64, n_layer=8, n_head=4)
    arrays = named_parameters(GPT2.random(config, seed=3))
    assert {name: array.shape for name, array in arrays.items()} == parameter_shapes(config)
    for name, array in arrays.items():
        assert array.dtype == np.float32
        if array.ndim == 1:
            assert (array == (0.0 if name.endswith("bias") else 1.0)).all(), name
        else:
            deviation = 0.02 / math.sqrt(16) if name.endswith("c_proj.weight") else 0.02
            assert array.std() == pytest.approx(deviation, rel=0.05), name
            assert abs(array.mean()) < 4 * deviation / math.sqrt(array.size), name


def test_the_seed_decides() -> None:
    config = Config(**SMALL)
    one, same, other = (GPT2.random(config, seed=seed)(IDS) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_it_knows_nothing_at_first() -> None:
    """The loss of a model that knows nothing is ln V."""
    chances = minigpt.probabilities(GPT2.random(Config(**SMALL))(IDS))
    assert -np.log(chances).mean() == pytest.approx(math.log(307), rel=0.02)


@pytest.mark.parametrize("config", [{}, {"tie_word_embeddings": False}], ids=str)
def test_from_arrays_is_the_inverse_of_named_parameters(config: dict[str, Any]) -> None:
    model = random_gpt2(**config)
    again = GPT2.from_arrays(model.config, named_parameters(model))
    for name, array in arrays_by_name(again.parameters).items():
        np.testing.assert_array_equal(array, arrays_by_name(model.parameters)[name])
        assert not array.flags.writeable
    assert isinstance(FastGPT2.from_arrays(model.config, named_parameters(model)), FastGPT2)


def test_a_state_dict_with_prefix_masks_and_a_repeated_head() -> None:
    model = random_gpt2()
    arrays: dict[str, Any] = {f"transformer.{k}": v for k, v in named_parameters(model).items()}
    arrays["lm_head.weight"] = arrays["transformer.wte.weight"]
    arrays["transformer.h.0.attn.bias"] = np.tril(np.ones((1, 1, 48, 48), bool))
    again = GPT2.from_arrays(model.config, arrays)
    assert again.parameters.lm_head is again.parameters.wte
    assert n_parameters(again) == n_parameters(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("h.1.ln_2.bias"), "h.1.ln_2.bias is missing"),
        (lambda a: a.update({"h.9.ln_1.bias": np.zeros(32)}), "h.9.ln_1.bias has no place"),
        (lambda a: a.update({"wpe.weight": np.zeros((47, 32))}), r"wpe.weight has shape \(47, 32\)"),
        (lambda a: a.update({"lm_head.weight": np.zeros((307, 32))}), "lm_head.weight has no place"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(change: Any, message: str) -> None:
    model = random_gpt2()
    arrays = named_parameters(model)
    change(arrays)
    with pytest.raises(CheckpointError, match=message):
        GPT2.from_arrays(model.config, arrays)


def test_named_parameters_survive_a_writer_that_ignores_strides(tmp_path: Any) -> None:
    """Loaded models keep `mlp.c_proj` by columns, which safetensors' NumPy writer would scramble."""
    model = minigpt.load_model("tiny")
    assert not model.parameters.h[0].mlp.c_proj.weight.flags.c_contiguous
    arrays = named_parameters(model)
    assert all(array.flags.c_contiguous for array in arrays.values())
    again = GPT2.from_arrays(model.config, load(save(arrays)))
    np.testing.assert_allclose(again(IDS), model(IDS), rtol=0, atol=1e-4)


@pytest.mark.parametrize("config", [{}, {"tie_word_embeddings": False}], ids=str)
def test_astype_keeps_the_numbers_and_the_tie(config: dict[str, Any]) -> None:
    model = random_gpt2(**config)
    double = model.astype(np.float64)
    assert double(IDS).dtype == np.float64
    np.testing.assert_allclose(double(IDS), model(IDS), rtol=1e-4, atol=1e-4)
    assert (double.parameters.lm_head is double.parameters.wte) == model.config.tie_word_embeddings
    np.testing.assert_array_equal(double.astype("float32")(IDS), model(IDS))


@pytest.mark.parametrize("dtype", ["float16", np.int64, "words"])
def test_a_model_computes_in_two_precisions(dtype: Any) -> None:
    with pytest.raises(InputError, match="float32 or float64"):
        random_gpt2().astype(dtype)


def test_a_cropped_context_computes_the_same() -> None:
    model = random_gpt2()
    short = model.crop(4)
    np.testing.assert_array_equal(short(IDS), model(IDS))
    assert short.config == replace(model.config, n_positions=4)
    with pytest.raises(minigpt.ContextLengthError):
        short([*IDS, 1])


@pytest.mark.parametrize("n_positions", [0, 49])
def test_a_context_is_cropped_to_what_there_is(n_positions: Any) -> None:
    with pytest.raises(InputError, match="1 to 48"):
        random_gpt2().crop(n_positions)


# ------------------------------------------------------------------------------------------------ the cache


def test_a_rewound_cache_goes_on_as_if_the_tokens_had_never_come() -> None:
    model = random_gpt2()
    cache = model.new_cache()
    first = model(IDS, cache=cache)
    cache.rewind(2)
    np.testing.assert_array_equal(cache.lengths, 2)
    np.testing.assert_allclose(model(IDS[2:], cache=cache), first[2:], rtol=0, atol=1e-4)
    cache.rewind(100)  # it holds no more than it holds
    np.testing.assert_array_equal(cache.lengths, 4)


@pytest.mark.parametrize("length", [-1, -5])
def test_a_cache_is_rewound_to_a_number_of_tokens(length: Any) -> None:
    with pytest.raises(InputError, match="0 or above"):
        random_gpt2().new_cache().rewind(length)


def test_reordered_rows_go_on_as_copies() -> None:
    model = random_gpt2()
    rows = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    cache = model.new_cache(3)
    model(rows, cache=cache)
    cache.reorder(np.array([2, 2, 0]))
    found = model([[10], [11], [12]], cache=cache)
    for row, (beam, new) in enumerate(((2, 10), (2, 11), (0, 12))):
        np.testing.assert_allclose(found[row, -1], model([*rows[beam], new])[-1], rtol=0, atol=1e-4)
