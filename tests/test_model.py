"""What `model.py` promises apart from its numbers: hooks, cache, shapes, dtypes, and refusals."""

import threading
from dataclasses import FrozenInstanceError, replace
from typing import Any

import jaxtyping
import numpy as np
import pytest

from minigpt.errors import ConfigError, ContextLengthError, HookError, InputError, NumericsError
from minigpt.model import GPT2, layer_norm, softmax, split_heads
from minigpt.parameters import Config, LayerNorm
from minigpt.sampling import probabilities
from tests.synthetic import plain, random_gpt2

IDS = [5, 3, 8, 200]


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_gpt2()


# ------------------------------------------------------------------------------------------------- hooks


def block_points(layer: int) -> list[str]:
    attention = ["q", "k", "v", "scores", "masked_scores", "weights", "mixed", "out"]
    points = ["resid_pre", "ln_1.scale", "ln_1", *(f"attn.{name}" for name in attention)]
    points += ["resid_mid", "ln_2.scale", "ln_2", "mlp.pre", "mlp.act", "mlp.out", "resid_post"]
    return [f"h.{layer}.{point}" for point in points]


def record(model: GPT2, ids: Any, **arguments: Any) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def hook(name: str, array: np.ndarray) -> np.ndarray:
        assert name not in found
        found[name] = array
        return array

    model(ids, hook=hook, **arguments)
    return found


def test_the_hook_points_and_their_order(model: GPT2) -> None:
    blocks = [point for layer in range(3) for point in block_points(layer)]
    assert list(record(model, IDS)) == ["wte", "wpe", *blocks, "ln_f.scale", "ln_f", "logits"]


def test_the_shapes_of_what_hooks_see(model: GPT2) -> None:
    found = record(model, [IDS, IDS])
    assert found["h.0.attn.q"].shape == (2, 4, 4, 8)  # batch, heads, tokens, head_dim
    assert found["h.0.attn.scores"].shape == (2, 4, 4, 4)  # batch, heads, tokens, keys
    assert found["h.0.ln_1.scale"].shape == (2, 4, 1)
    assert found["h.0.mlp.act"].shape == (2, 4, 128)
    assert found["logits"].shape == (2, 4, 307)


def test_looking_changes_nothing(model: GPT2) -> None:
    looked: dict[str, np.ndarray] = {}
    logits = model(IDS, hook=looked.setdefault)
    np.testing.assert_array_equal(logits, plain(model)(IDS))


def test_the_model_never_writes_to_an_array_it_handed_out(model: GPT2) -> None:
    kept: list[tuple[np.ndarray, np.ndarray]] = []

    def hook(name: str, array: np.ndarray) -> np.ndarray:
        kept.append((array, array.copy()))
        array.setflags(write=False)
        return array

    model(IDS, hook=hook, cache=model.new_cache())
    for array, copy in kept:
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("point", ["wte", "h.1.attn.v", "h.0.ln_2.scale", "h.2.resid_mid", "ln_f"])
def test_what_a_hook_returns_is_used(point: str, model: GPT2) -> None:
    def hook(name: str, array: np.ndarray) -> np.ndarray:
        return array * 2 if name == point else array

    assert np.abs(model(IDS, hook=hook) - model(IDS)).max() > 0.01


def test_the_logits_can_be_replaced(model: GPT2) -> None:
    zeros = model(IDS, hook=lambda name, array: array * 0 if name == "logits" else array)
    assert not zeros.any()


def test_masked_scores_and_their_weights(model: GPT2) -> None:
    found = record(model, IDS)
    future = np.triu(np.ones((4, 4), bool), 1)
    for layer in range(3):
        assert np.isneginf(found[f"h.{layer}.attn.masked_scores"][:, future]).all()
        weights = found[f"h.{layer}.attn.weights"]
        assert (weights[:, future] == 0).all()
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("result", "found"), [(None, "NoneType"), (np.zeros(3), r"shape \(3,\)"), (1.0, "float")]
)
def test_a_hook_must_keep_the_shape(result: Any, found: str, model: GPT2) -> None:
    with pytest.raises(HookError, match=rf"h\.1\.ln_1 must stay .* it returned {found}"):
        model(IDS, hook=lambda name, array: result if name == "h.1.ln_1" else array)


@pytest.mark.parametrize("dtype", [np.complex64, object, str])
def test_a_hook_must_keep_real_numbers(dtype: Any, model: GPT2) -> None:
    with pytest.raises(HookError, match=r"h\.1\.ln_1 must stay real numbers; it returned (complex64|obj|<U)"):
        model(IDS, hook=lambda name, array: array.astype(dtype) if name == "h.1.ln_1" else array)
    assert model(IDS, hook=lambda name, array: np.ones(array.shape, bool)).dtype == np.float32


def test_a_hook_cannot_change_the_dtype(model: GPT2) -> None:
    found = record(model, IDS)
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    assert model(IDS, hook=lambda name, array: array.astype(np.float64)).dtype == np.float32


# ----------------------------------------------------------------------------------------- cache and ids


def test_a_failed_call_leaves_the_cache_as_it_was(model: GPT2) -> None:
    cache = model.new_cache()
    model(IDS, cache=cache)

    def failing(name: str, array: np.ndarray) -> np.ndarray:
        if name == "h.2.resid_pre":
            raise KeyboardInterrupt
        return array

    with pytest.raises(KeyboardInterrupt):
        model([1, 2], cache=cache, hook=failing)
    expected = model([*IDS, 7])[-1]
    np.testing.assert_allclose(model([7], cache=cache)[0], expected, atol=2e-5)


def test_causality(model: GPT2) -> None:
    """What comes later changes nothing before it."""
    other = [*IDS[:2], 9, 9]
    np.testing.assert_allclose(model(IDS)[:2], model(other)[:2], rtol=0, atol=1e-5)
    assert np.abs(model(IDS)[2] - model(other)[2]).max() > 0.1


def test_logits_to_keep(model: GPT2) -> None:
    np.testing.assert_allclose(model(IDS, logits_to_keep=2), model(IDS)[-2:], atol=2e-5)
    assert model([IDS, IDS], logits_to_keep=1).shape == (2, 1, 307)
    assert record(model, IDS, logits_to_keep=1)["logits"].shape == (1, 307)


def test_leading_dimensions_are_free(model: GPT2) -> None:
    ids = np.arange(24).reshape(2, 3, 4)
    expected = np.stack([[model(row) for row in rows] for rows in ids])
    np.testing.assert_allclose(model(ids), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "no tokens"),
        (np.array(5), "found ndarray; expected a row of ids"),
        ([[], []], "no tokens"),
        ([[1, 2], [3]], "different lengths"),
        ([1.0, 2.0], "float64 values"),
        ([True], "bool values"),
        (["a"], "values; token ids are integers"),
        ([1, -1], "-1 is not a token id; this model's are 0 to 306"),
        ([1, 307], "307 is not a token id"),
    ],
)
def test_impossible_ids(ids: Any, message: str, model: GPT2) -> None:
    with pytest.raises(InputError, match=message):
        model(ids)


def test_more_tokens_than_positions(model: GPT2) -> None:
    assert model([1] * 48).shape == (48, 307)
    with pytest.raises(ContextLengthError, match="49 tokens do not fit into the context of 48"):
        model([1] * 49)
    cache = model.new_cache()
    model([1] * 47, cache=cache)
    with pytest.raises(ContextLengthError, match="47 in the cache and 2 new tokens"):
        model([1, 1], cache=cache)


def test_a_cache_of_another_batch(model: GPT2) -> None:
    with pytest.raises(InputError, match=r"batch shape \(\) does not match the cache's \(2,\)"):
        model(IDS, cache=model.new_cache(2))


@pytest.mark.parametrize("other", [{"n_layer": 2}, {"n_head": 2}, {"n_positions": 64}, {"dtype": np.float64}])
def test_a_cache_of_another_model(model: GPT2, other: dict[str, Any]) -> None:
    cache = random_gpt2(**other).new_cache()
    with pytest.raises(InputError, match=r"cache: another model's, float.* and not float32") as error:
        model(IDS, cache=cache)
    assert "\n" not in str(error.value)
    assert cache.lengths == 0


def test_a_cache_for_less_than_no_text(model: GPT2) -> None:
    assert model.new_cache(0).lengths.shape == (0,)
    with pytest.raises(InputError, match="batch is -1; it must be an integer, 0 to 1,000,000, or None"):
        model.new_cache(-1)


@pytest.mark.parametrize("hook", [None, lambda name, array: array], ids=["fast", "plain"])
def test_more_logits_to_keep_than_tokens_are_all(hook: Any, model: GPT2) -> None:
    """As `transformers` has it, which takes `slice(-logits_to_keep, None)`."""
    np.testing.assert_array_equal(model(IDS, hook=hook, logits_to_keep=5), model(IDS, hook=hook))
    assert model([IDS, IDS], hook=hook, logits_to_keep=999).shape == (2, 4, 307)
    cache = model.new_cache()
    model(IDS, cache=cache, hook=hook)
    assert model([7], cache=cache, hook=hook, logits_to_keep=2).shape == (1, 307)


def test_fewer_logits_to_keep_than_none(model: GPT2) -> None:
    with pytest.raises(InputError, match="logits_to_keep is -1; it must be an integer: 0"):
        model(IDS, logits_to_keep=-1)


# ------------------------------------------------------------------------------- config, shapes and dtypes


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"n_head": 5}, "n_embd is 32, which n_head = 5 does not divide"),
        ({"n_layer": 0}, "n_layer is 0; it must be at least 1"),
        ({"n_inner": 0}, "mlp_width is 0"),
        ({"layer_norm_epsilon": 0.0}, "layer_norm_epsilon is 0.0"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan"),
        (
            {"activation_function": "swish"},
            "'swish'; known are gelu_new, gelu_pytorch_tanh, gelu, relu, silu",
        ),
    ],
)
def test_an_impossible_config(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config(**({"n_embd": 32, "n_head": 4} | config))


def test_attention_scale() -> None:
    assert Config().attention_scale(5) == 0.125
    assert Config(scale_attn_weights=False).attention_scale(5) == 1
    assert Config(scale_attn_by_inverse_layer_idx=True).attention_scale(3) == 0.125 / 4


def test_the_arithmetic_follows_the_parameters(model: GPT2) -> None:
    double = model.astype(np.float64)
    assert {array.dtype for array in record(double, IDS).values()} == {np.dtype(np.float64)}
    assert double.new_cache().keys.dtype == np.float64
    np.testing.assert_allclose(model(IDS), double(IDS), atol=5e-5)


def test_softmax_of_extreme_scores() -> None:
    scores = np.float32([[3e38, 0.0, -3e38], [-np.inf, 0.0, -np.inf]])
    with np.errstate(over="ignore"):  # the difference of the extremes is -inf, and its exp is 0
        np.testing.assert_array_equal(softmax(scores), np.float32([[1, 0, 0], [0, 1, 0]]))


def test_a_model_is_immutable(model: GPT2) -> None:
    with pytest.raises(FrozenInstanceError):
        model.config.n_layer = 1  # type: ignore[misc]


def test_shapes_are_checked_while_the_tests_run() -> None:
    """The signatures' shapes are not comments: an array that breaks one is refused here."""
    ones = np.ones(8, np.float32)
    layer_norm(np.zeros((3, 8), np.float32), LayerNorm(ones, ones), 1e-5, lambda name, array: array, "ln")
    with pytest.raises(jaxtyping.TypeCheckError, match="scores"):
        softmax(np.arange(3))
    with pytest.raises(jaxtyping.TypeCheckError):
        split_heads(ones, 2)  # needs a token axis
    with pytest.raises(jaxtyping.TypeCheckError):
        LayerNorm(ones, np.ones(9, np.float32))  # gain and offset of different lengths


def test_threads_share_a_model(model: GPT2) -> None:
    expected, results = model(IDS), [np.empty(0)] * 8

    def run(slot: int) -> None:
        cache = model.new_cache()
        results[slot] = np.concatenate([model(IDS[:2], cache=cache), model(IDS[2:], cache=cache)])

    threads = [threading.Thread(target=run, args=(slot,)) for slot in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        np.testing.assert_array_equal(result, results[0])
        np.testing.assert_allclose(result, expected, atol=2e-5)


def test_weights_near_the_float32_limit_give_no_warning(model: GPT2) -> None:
    """What overflows comes out as inf or NaN, without NumPy's warnings; sampling then refuses it."""
    ln_f = replace(model.parameters.ln_f, weight=np.full(32, 3e38, np.float32))
    huge = replace(model, parameters=replace(model.parameters, ln_f=ln_f))
    assert not np.isfinite(huge(IDS)).all()
    with pytest.raises(NumericsError, match="logits"):
        probabilities(huge(IDS)[-1])


def test_a_model_is_printed_in_one_line_and_compared_by_identity(model: GPT2) -> None:
    assert repr(model) == "GPT2(49,536 parameters: 3 blocks of 32 numbers, 4 heads, 48 positions)"
    assert model == model  # noqa: PLR0124
    assert model != replace(model)
    assert len({model, model}) == 1
