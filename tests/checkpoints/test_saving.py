"""Saving: what is written is what `load` reads; no folder is ever half of one; nothing else is destroyed."""

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import minigpt
from minigpt.checkpoints import saving
from minigpt.checks import checked_dtype
from minigpt.errors import CheckpointError, InputError, MiniGPTError
from minigpt.files import checked_path
from minigpt.model import GPT2, named_parameters
from minigpt.parameters import Config
from minigpt.tokenizer import Tokenizer
from tests.synthetic import random_gpt2

WEIGHTS = "model.safetensors"
TEXTS = ["she sells sea shells", "나는 너를 사랑해", "the shells she sells are sea shells"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, vocab_size=264)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ------------------------------------------------------------------------------------- what comes back


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"tie_word_embeddings": False},
        {"n_inner": 17, "activation_function": "gelu", "layer_norm_epsilon": 1e-3},
        {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    ],
    ids=str,
)
def test_what_was_saved_is_loaded_bit_for_bit(
    tmp_path: Path, tokenizer: Tokenizer, config: dict[str, Any]
) -> None:
    model = random_gpt2(**config)
    minigpt.save(tmp_path / "saved", model, tokenizer)
    loaded, spoken = minigpt.load(tmp_path / "saved")
    assert loaded.config == model.config
    expected = named_parameters(model)
    assert named_parameters(loaded).keys() == expected.keys()
    for name, array in named_parameters(loaded).items():
        assert np.array_equal(array, expected[name]), name
    ids = tokenizer.encode("she sells 사랑 <|endoftext|>")
    assert spoken.encode("she sells 사랑 <|endoftext|>") == ids
    assert spoken.decode(ids) == "she sells 사랑 <|endoftext|>"
    # A loaded weight may lie by columns, which some kernels add up in another order.
    np.testing.assert_allclose(loaded(ids), model(ids), rtol=1e-5, atol=1e-5)


def test_a_loaded_model_is_saved_the_same_again(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Loaded weights lie otherwise in memory, which a file must not show."""
    minigpt.save(tmp_path / "one", random_gpt2(), tokenizer)
    minigpt.save(tmp_path / "two", *minigpt.load(tmp_path / "one"))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_float16_is_half_the_size_and_rounds(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = random_gpt2()
    for dtype in ("float32", "float16"):
        minigpt.save(tmp_path / dtype, model, tokenizer, dtype)
    sizes = [(tmp_path / dtype / WEIGHTS).stat().st_size for dtype in ("float32", "float16")]
    assert sizes[1] < 0.55 * sizes[0]
    loaded = named_parameters(minigpt.load_model(tmp_path / "float16"))
    for name, array in named_parameters(model).items():
        assert np.array_equal(loaded[name], array.astype(np.float16).astype(np.float32)), name


def test_the_layout_is_that_of_transformers(tmp_path: Path, tokenizer: Tokenizer) -> None:
    minigpt.save(tmp_path / "saved", random_gpt2(), tokenizer)
    config = json.loads((tmp_path / "saved" / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["architectures"]) == ("gpt2", ["GPT2LMHeadModel"])
    assert (config["n_ctx"], config["n_positions"], config["vocab_size"]) == (48, 48, 307)
    assert config["bos_token_id"] == config["eos_token_id"] == tokenizer.end_of_text
    generation = json.loads((tmp_path / "saved" / "generation_config.json").read_text(encoding="utf-8"))
    assert generation == {"bos_token_id": tokenizer.end_of_text, "eos_token_id": tokenizer.end_of_text}
    with safe_open(tmp_path / "saved" / WEIGHTS, framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == {f"transformer.{name}" for name in named_parameters(random_gpt2())}


def test_an_untied_head_has_its_own_name(tmp_path: Path, tokenizer: Tokenizer) -> None:
    minigpt.save(tmp_path / "saved", random_gpt2(tie_word_embeddings=False), tokenizer)
    with safe_open(tmp_path / "saved" / WEIGHTS, framework="numpy") as file:
        assert "lm_head.weight" in set(file.keys())


def test_what_others_may_read_is_up_to_the_umask(tmp_path: Path, tokenizer: Tokenizer) -> None:
    minigpt.save(tmp_path / "saved", random_gpt2(), tokenizer)
    (tmp_path / "plain").touch()
    mode = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "saved").iterdir()} == {mode}


# ------------------------------------------------------------------------------------- what is refused


def spoilt(name: str, value: float) -> GPT2:
    arrays = {key: array.copy() for key, array in named_parameters(random_gpt2()).items()}
    arrays[name].flat[3] = value
    return GPT2.from_arrays(random_gpt2().config, arrays)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": random_gpt2(vocab_size=263)}, "tokenizer: it has 264 tokens, and the model knows 263"),
        ({"dtype": "bfloat16"}, "dtype: found 'bfloat16'; expected float32 or float16"),
        ({"dtype": "int8"}, "dtype: found 'int8'"),
        ({"model": spoilt("ln_f.bias", np.nan)}, r"ln_f\.bias holds nan, which float32 cannot"),
        ({"model": spoilt("wpe.weight", np.inf)}, r"wpe\.weight holds inf, which float32 cannot"),
        (
            {"model": spoilt("h.1.mlp.c_proj.weight", 7e4), "dtype": "float16"},
            r"h\.1\.mlp\.c_proj\.weight holds 70000.0, which float16 cannot",
        ),
        ({"model": replace(random_gpt2(), block=lambda x, *_: x)}, "a block of its own"),
    ],
)
def test_what_no_gpt2_checkpoint_can_hold_is_refused(
    tmp_path: Path, tokenizer: Tokenizer, changes: dict[str, Any], words: str
) -> None:
    arguments: dict[str, Any] = {"model": random_gpt2(), "tokenizer": tokenizer} | changes
    with pytest.raises(InputError, match=words):
        minigpt.save(tmp_path / "saved", **arguments)
    assert not list(tmp_path.iterdir())


def test_arguments_of_another_kind_are_explained(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"model: found int; expected GPT2"):
        saving.check_model(3, tokenizer)
    with pytest.raises(InputError, match=r"tokenizer: found NoneType; expected Tokenizer"):
        saving.check_model(random_gpt2(), None)
    for folder in (3, b"x", None, "", "a\0b"):
        with pytest.raises(InputError, match=r"folder: found .*; expected (a|the) path"):
            checked_path("folder", folder)
    for dtype in (None, 3, "float33", np.complex64):
        with pytest.raises(InputError, match=r"dtype: found .*expected float32 or float16"):
            checked_dtype(dtype, saving.DTYPES)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("what", ["file", "checkpoint", "shards", "weights", "other tokenizer"])
def test_nothing_of_somebody_else_is_overwritten(
    tmp_path: Path, tokenizer: Tokenizer, overwrite: bool, what: str
) -> None:
    folder = tmp_path / "theirs"
    if what == "file":
        folder.write_text("a poem", encoding="utf-8")
    elif what == "other tokenizer":
        minigpt.save(folder, random_gpt2(), Tokenizer.train(TEXTS[::-1], vocab_size=263))
    else:
        minigpt.save(folder, random_gpt2(n_head=2), tokenizer)
        if what == "weights":
            (folder / "config.json").unlink()
        elif what == "shards":
            (folder / "config.json").unlink()
            (folder / WEIGHTS).rename(folder / "model.safetensors.index.json")
    before = contents(folder) if folder.is_dir() else folder.read_bytes()
    with pytest.raises(CheckpointError, match=r"is a file|is not empty|holds another checkpoint"):
        minigpt.save(folder, random_gpt2(), tokenizer, overwrite=overwrite)
    assert before == (contents(folder) if folder.is_dir() else folder.read_bytes())
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_the_own_folder_is_written_again_only_when_asked(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder, trained = tmp_path / "run", random_gpt2(seed=1)
    minigpt.save(folder, random_gpt2(), tokenizer)
    (folder / "losses.csv").write_text("1,2\n", encoding="utf-8")
    before = contents(folder)
    with pytest.raises(CheckpointError, match="is not empty"):
        minigpt.save(folder, trained, tokenizer)
    assert contents(folder) == before
    minigpt.save(folder, trained, tokenizer, overwrite=True)
    assert {name for name, content in contents(folder).items() if before[name] != content} == {WEIGHTS}
    assert contents(folder).keys() == before.keys()
    assert np.array_equal(minigpt.load(folder)[0].parameters.wpe, trained.parameters.wpe)


def test_an_empty_folder_and_one_with_other_files_can_be_filled(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "empty").mkdir()
    minigpt.save(tmp_path / "empty", random_gpt2(), tokenizer)
    assert minigpt.load(tmp_path / "empty")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "losses.csv").touch()
    minigpt.save(tmp_path / "run", random_gpt2(), tokenizer, overwrite=True)
    assert minigpt.load(tmp_path / "run")


def test_a_folder_below_one_that_is_missing_is_made(tmp_path: Path, tokenizer: Tokenizer) -> None:
    minigpt.save(tmp_path / "a" / "b", random_gpt2(), tokenizer)
    assert minigpt.load(tmp_path / "a" / "b")


# ------------------------------------------------------------------------------------------ half-written


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("fault", [full_disk, interrupted])
@pytest.mark.parametrize("where", ["minigpt.checkpoints.saving.save_file", "pathlib.Path.write_bytes"])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_failure_leaves_what_was_there(
    tmp_path: Path,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[..., None],
    where: str,
    is_there: bool,
) -> None:
    folder = tmp_path / "run"
    if is_there:
        minigpt.save(folder, random_gpt2(), tokenizer)
    before = contents(folder) if is_there else None
    with monkeypatch.context() as patch:
        patch.setattr(where, fault)
        with pytest.raises((CheckpointError, KeyboardInterrupt)) as caught:
            minigpt.save(folder, random_gpt2(seed=1), tokenizer, overwrite=True)
    if fault is full_disk:
        assert str(caught.value) == f"{folder}: cannot be written (No space left on device)."
    assert [path.name for path in tmp_path.iterdir()] == (["run"] if is_there else [])
    assert before == (contents(folder) if is_there else None)


def test_the_folder_has_its_name_only_when_it_is_whole(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        seen.append((tmp_path / "saved").exists())
        assert minigpt.load(self)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    minigpt.save(tmp_path / "saved", random_gpt2(), tokenizer)
    assert seen == [False]


def test_of_a_folder_that_is_filled_the_weights_come_last(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then nobody takes it for a checkpoint."""
    replace_file, refused = Path.replace, []

    def watched(self: Path, target: Path) -> Path:
        with pytest.raises(MiniGPTError):
            minigpt.load(tmp_path)
        refused.append(target.name)
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    minigpt.save(tmp_path, random_gpt2(), tokenizer)
    assert refused[-1] == WEIGHTS
    assert minigpt.load(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows lets only developers make symbolic links")
def test_no_planted_link_is_followed(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder, victim = tmp_path / "run", tmp_path / "victim"
    minigpt.save(folder, random_gpt2(), tokenizer)
    (folder / WEIGHTS).rename(victim)
    (folder / WEIGHTS).symlink_to(victim)
    before = victim.read_bytes()
    minigpt.save(folder, random_gpt2(seed=1), tokenizer, overwrite=True)
    assert victim.read_bytes() == before
    assert not (folder / WEIGHTS).is_symlink()


def test_the_weights_keep_their_mode(tmp_path: Path, tokenizer: Tokenizer) -> None:
    minigpt.save(tmp_path / "run", random_gpt2(), tokenizer)
    (tmp_path / "run" / WEIGHTS).chmod(0o640)
    minigpt.save(tmp_path / "run", random_gpt2(seed=1), tokenizer, overwrite=True)
    assert stat.S_IMODE((tmp_path / "run" / WEIGHTS).stat().st_mode) == 0o640


def test_a_new_model_is_saved_as_well_as_a_loaded_one(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = Config(vocab_size=270, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    minigpt.save(str(tmp_path / "new"), GPT2.random(config).astype(np.float64), tokenizer)
    assert minigpt.load(tmp_path / "new")[0].config == config


def test_a_head_that_is_the_embedding_is_tied_whatever_the_config_says(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    model = random_gpt2()
    untied = replace(model, parameters=replace(model.parameters, lm_head=model.parameters.wte * 2))
    minigpt.save(tmp_path / "untied", untied, tokenizer)
    loaded = minigpt.load_model(tmp_path / "untied")
    assert not loaded.config.tie_word_embeddings
    assert np.array_equal(loaded.parameters.lm_head, untied.parameters.lm_head)


def test_parameters_of_another_config_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = replace(random_gpt2(), config=random_gpt2(n_positions=40).config)
    with pytest.raises(InputError, match="its parameters are not those that its config asks for"):
        minigpt.save(tmp_path / "saved", model, tokenizer)


def test_the_texts_of_a_checkpoint_are_stable(tokenizer: Tokenizer) -> None:
    """Else a training could not write into its own folder again."""
    one, other = (saving.checkpoint_texts(random_gpt2(), tokenizer, "float32") for _ in range(2))
    assert one == other
