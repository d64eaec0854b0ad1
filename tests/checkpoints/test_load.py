"""Checkpoints: what is read, how it lies in memory, and that nothing wrong gets through."""

import copy
import gc
import json
import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from minigpt.checkpoints import find as sources
from minigpt.checkpoints.config import read_config
from minigpt.checkpoints.find import find
from minigpt.checkpoints.load import load, load_model, select_tensors
from minigpt.checkpoints.reading import parse_json
from minigpt.checkpoints.tokenizer_files import tokenizer_files
from minigpt.cli.main import main
from minigpt.errors import CheckpointError, ConfigError, InputError, MiniGPTError
from minigpt.model import GPT2, n_parameters, named_parameters
from minigpt.parameters import Config, Parameters, arrays_by_name, build, parameter_shapes
from minigpt.tokenizer import Tokenizer
from scripts.benchmark.checkpoint import random_tensors, write_checkpoint, write_safetensors
from tests.synthetic import SMALL, parameters_of, random_gpt2, save_checkpoint

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
Tensors = dict[str, np.ndarray]
Header = dict[str, Any]


def tensors_of(**config: Any) -> Tensors:
    return random_tensors(Config(**(SMALL | config)))


def write(folder: Path, tensors: Tensors, **config: Any) -> Path:
    """A checkpoint of these tensors, whatever the config asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_type": "gpt2", **SMALL, **config}
    (folder / CONFIG).write_text(json.dumps(content), encoding="utf-8")
    write_safetensors(folder / WEIGHTS, tensors)
    return folder


def write_raw(folder: Path, header: Header | bytes, data: bytes = b"", length: int | None = None) -> Path:
    """A checkpoint with any header at all."""
    write(folder, {})
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", size) + text + data)
    return folder


def write_shards(folder: Path, n_shards: int = 2) -> Path:
    tensors = tensors_of()
    folder.mkdir()
    write(folder, {})
    (folder / WEIGHTS).unlink()
    weight_map = {}
    for n in range(n_shards):
        names = list(tensors)[n::n_shards]
        shard = f"model-{n + 1:05}-of-{n_shards:05}.safetensors"
        write_safetensors(folder / shard, {name: tensors[name] for name in names})
        weight_map |= dict.fromkeys(names, shard)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    return folder


def assert_parameters(parameters: Parameters, expected: Parameters) -> None:
    left = arrays_by_name(expected)
    for name, array in arrays_by_name(parameters).items():
        assert np.array_equal(array, left.pop(name)), name
    assert not left


# ------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("where", ["folder", "file"])
def test_a_checkpoint_is_read_exactly(tmp_path: Path, prefix: str, where: str) -> None:
    folder = save_checkpoint(tmp_path, prefix=prefix)
    model = load_model(folder if where == "folder" else folder / WEIGHTS)
    assert model.config == replace(random_gpt2().config)
    assert_parameters(model.parameters, random_gpt2().parameters)


def test_parameters_are_aligned_float32_and_read_only(tmp_path: Path) -> None:
    model = load_model(save_checkpoint(tmp_path))
    header_bytes = int.from_bytes((tmp_path / WEIGHTS).read_bytes()[:8], "little")
    assert header_bytes % 4  # the file's data is not aligned
    for name, array in arrays_by_name(model.parameters).items():
        assert array.dtype == np.float32, name
        assert array.flags.aligned, name
        assert array.ctypes.data % 64 == 0, name
        with pytest.raises(ValueError, match="read-only"):
            array.flat[0] = 1.0


def test_a_tied_head_is_the_embedding_itself(tmp_path: Path) -> None:
    model = load_model(save_checkpoint(tmp_path))
    assert model.parameters.lm_head is model.parameters.wte
    assert "lm_head.weight" not in named_parameters(model)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_types_are_widened_exactly(tmp_path: Path, dtype: str) -> None:
    every_finite = np.arange(1 << 16, dtype=np.uint16)
    if dtype == "float16":
        stored = every_finite.view(np.float16)
        expected = stored.astype(np.float32)
    else:
        stored = every_finite
        expected = np.array([struct.unpack(">f", struct.pack(">HH", bits, 0))[0] for bits in every_finite])
        expected = expected.astype(np.float32)
    stored, expected = stored[np.isfinite(expected)], expected[np.isfinite(expected)]
    tensors = tensors_of()
    shape = tensors["wte.weight"].shape
    n = int(np.prod(shape))
    halves = {name: np.zeros(array.shape, stored.dtype) for name, array in tensors.items()}
    for start in range(0, stored.size, n):
        halves["wte.weight"] = np.resize(stored[start : start + n], shape)
        model = load_model(write(tmp_path, halves))
        assert np.array_equal(model.parameters.wte, np.resize(expected[start : start + n], shape))


def test_masks_are_not_read(tmp_path: Path) -> None:
    masks = {
        "h.0.attn.bias": np.full((1, 1, 48, 48), np.nan, np.float32),
        "h.1.attn.masked_bias": np.array(np.nan, np.float32),
    }
    model = load_model(write(tmp_path, tensors_of() | masks))
    assert_parameters(model.parameters, random_gpt2().parameters)


@pytest.mark.parametrize("n_shards", [1, 2, 5])
def test_shards_are_put_together(tmp_path: Path, n_shards: int) -> None:
    model = load_model(write_shards(tmp_path / "sharded", n_shards))
    assert_parameters(model.parameters, random_gpt2().parameters)


def test_a_single_file_counts_more_than_an_index(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "both")
    write_safetensors(folder / WEIGHTS, tensors_of())
    (folder / INDEX).write_text("{}", encoding="utf-8")
    assert_parameters(load_model(folder).parameters, random_gpt2().parameters)


def test_names_and_parameters_are_each_others_inverse() -> None:
    for tied in (True, False):
        config = Config(**SMALL, tie_word_embeddings=tied)
        tensors = random_tensors(config)
        parameters = build(config, lambda name, _shape, tensors=tensors: tensors[name])
        assert_parameters(parameters, parameters_of(tensors, config))
        named = arrays_by_name(parameters)
        assert {name: array.shape for name, array in named.items()} == parameter_shapes(config)
        assert all(named[name] is tensors[name] for name in named)


def test_the_official_parameter_count() -> None:
    # Published: 124,439,808 parameters (facts about the official gpt2, without its masks).
    assert sum(int(np.prod(shape)) for shape in parameter_shapes(Config()).values()) == 124_439_808
    assert n_parameters(random_gpt2()) == sum(array.size for array in tensors_of().values())


# ------------------------------------------------------------------------------------------ tied or untied


def test_an_untied_head_is_read(tmp_path: Path) -> None:
    model = load_model(save_checkpoint(tmp_path, tie_word_embeddings=False))
    assert_parameters(model.parameters, random_gpt2(tie_word_embeddings=False).parameters)


def test_an_untied_head_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lm_head\.weight is missing"):
        load_model(write(tmp_path, tensors_of(), tie_word_embeddings=False))


def test_a_copy_of_the_embedding_counts_as_tied(tmp_path: Path) -> None:
    tensors = tensors_of()
    model = load_model(write(tmp_path, tensors | {"lm_head.weight": tensors["wte.weight"]}))
    assert model.parameters.lm_head is model.parameters.wte


def test_a_head_that_differs_counts_more_than_the_config(tmp_path: Path) -> None:
    head = tensors_of()["wte.weight"] * np.float32(2)
    model = load_model(write(tmp_path, tensors_of() | {"lm_head.weight": head}))
    assert np.array_equal(model.parameters.lm_head, head)
    assert not model.config.tie_word_embeddings


def test_either_name_will_do_for_a_tied_embedding(tmp_path: Path) -> None:
    tensors = tensors_of()
    tensors["lm_head.weight"] = tensors.pop("wte.weight")
    assert_parameters(load_model(write(tmp_path, tensors)).parameters, random_gpt2().parameters)


# ------------------------------------------------------------------ tensors that are absent, or too many

NORM_BIASES = ("ln_1.bias", "ln_2.bias", "ln_f.bias")
LINEAR_BIASES = ("c_attn.bias", "c_proj.bias", "c_fc.bias")


@pytest.mark.parametrize("kinds", [NORM_BIASES, LINEAR_BIASES, NORM_BIASES + LINEAR_BIASES])
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_biases_of_which_there_is_not_one_are_zeros(
    tmp_path: Path, kinds: tuple[str, ...], prefix: str
) -> None:
    tensors = tensors_of()
    kept = {prefix + name: array for name, array in tensors.items() if not name.endswith(kinds)}
    named = arrays_by_name(load_model(write(tmp_path, kept)).parameters)
    assert named.keys() == tensors.keys()
    for name, array in named.items():
        assert np.array_equal(array, np.zeros_like(array) if name.endswith(kinds) else tensors[name]), name
        assert not array.flags.writeable


@pytest.mark.parametrize(
    "head", ["v_head.summary.weight", "multiple_choice_head.summary.bias", "score.weight"]
)
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_second_head_is_left_out_with_a_notice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], head: str, prefix: str
) -> None:
    tensors = {prefix + name: array for name, array in tensors_of().items()} | {head: np.ones(3, np.float32)}
    model = load_model(write(tmp_path, tensors, architectures=["GPT2DoubleHeadsModel"]))
    assert_parameters(model.parameters, random_gpt2().parameters)
    told = capsys.readouterr().err
    assert told == f"minigpt: {tmp_path / WEIGHTS}: without ['{head}'], on which no logit depends.\n"


def test_a_name_of_no_gpt2_is_not_called_a_mixture(tmp_path: Path) -> None:
    tensors = {f"transformer.{name}": array for name, array in tensors_of().items()}
    stray = {"wandering.weight": np.ones(3, np.float32)}
    with pytest.raises(CheckpointError, match=r"'wandering\.weight' has no place in a GPT-2"):
        load_model(write(tmp_path, tensors | stray))


def test_float64_is_rounded_to_float32(tmp_path: Path) -> None:
    tensors = {name: array.astype(np.float64) * (1 + 1e-12) for name, array in tensors_of().items()}
    model = load_model(write(tmp_path, tensors))
    for name, array in named_parameters(model).items():
        assert np.array_equal(array, tensors[name].astype(np.float32)), name
    tensors["ln_f.bias"][3] = 1e300
    with pytest.raises(CheckpointError, match=r"'ln_f\.bias' holds 1e\+300, not only finite float32"):
        load_model(write(tmp_path, tensors))


# ------------------------------------------------------------------------------- tensors that do not fit


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: array for key, array in tensors.items() if key != name}


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: change(tensors[name])}


def renamed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {prefix + name: array for name, array in tensors.items()}


def with_nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[-1] = np.nan
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("h.2.ln_2.bias"), r"h\.2\.ln_2\.bias is missing"),
        (without("ln_f.weight"), r"ln_f\.weight is missing"),
        (
            changed("h.0.attn.c_attn.weight", lambda a: a.T),
            r"h\.0\.attn\.c_attn\.weight has shape \(96, 32\).*asks for \(32, 96\); it looks transposed",
        ),
        (changed("wte.weight", lambda a: a[:-1]), r"wte\.weight has shape \(306, 32\).*vocab_size"),
        (changed("wpe.weight", lambda a: a[:-1]), r"wpe\.weight has shape \(47, 32\).*n_positions"),
        (changed("h.1.mlp.c_fc.weight", lambda a: a[:, :-1]), r"\(32, 127\).*n_inner"),
        (changed("h.1.ln_1.weight", lambda a: a[:-1]), r"\(31,\).*\(32,\).*n_embd"),
        (changed("ln_f.bias", with_nan), r"'ln_f\.bias' holds nan"),
        (changed("wpe.weight", lambda a: a / np.float32(0)), r"'wpe\.weight' holds -?inf"),
        (lambda t: t | {"h.3.ln_1.bias": t["ln_f.bias"]}, r"n_layer is 3.*has 4 blocks"),
        (lambda t: t | {"scores.weight": t["ln_f.bias"]}, r"'scores\.weight' has no place"),
        (
            lambda t: t | {"h.0.crossattention.c_attn.weight": t["ln_f.bias"]},
            r"crossattention.*has no place.*cross-attention",
        ),
        (lambda t: {k: a for k, a in t.items() if "h.2." not in k}, r"n_layer is 3.*has 2 blocks"),
        (
            lambda t: t | {"transformer.wte.weight": t["wte.weight"]},
            r"'transformer\.wte\.weight' has the pre",
        ),
        (lambda t: t | {"transformer.lm_head.weight": t["wte.weight"]}, "lm_head.weight' has no place"),
        (lambda t: t | {"lm_head.bias": t["ln_f.bias"]}, r"'lm_head\.bias' has no place"),
        (without("h.1.attn.c_proj.bias"), r"h\.1\.attn\.c_proj\.bias is missing"),
        (without("ln_f.bias"), r"ln_f\.bias is missing"),
        (lambda t: {}, "no blocks"),
        (renamed("bert."), "a BERT checkpoint"),
        (renamed("model.layers."), "a Llama-like checkpoint"),
        (renamed("_orig_mod.transformer."), r"torch\.compile"),
        (renamed("base_model.model."), "PEFT adapter"),
        (lambda t: t | {"\x1b[31mred\nline": t["ln_f.bias"]}, r"'\\x1b\[31mred\\nline' has no place"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, change: Callable[[Tensors], Tensors], message: str
) -> None:
    with np.errstate(divide="ignore"):
        tensors = change(tensors_of())
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(write(tmp_path, tensors))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("stored", ["I64", "F8_E4M3"])
def test_other_types_are_refused(tmp_path: Path, stored: str) -> None:
    folder = save_checkpoint(tmp_path)
    header, data = split(folder)
    size = {"I64": 8, "F8_E4M3": 1}[stored]
    entry = header["ln_f.bias"]
    entry["dtype"], entry["shape"] = stored, [4 * 32 // size]
    write_raw(folder, header, data)
    save_config(folder)
    with pytest.raises(CheckpointError, match=r"ln_f\.bias has"):
        load_model(folder)


# --------------------------------------------------------------------------------- files that are not right


def split(folder: Path) -> tuple[Header, bytes]:
    """The header and the data of a safetensors file."""
    content = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def save_config(folder: Path, **config: Any) -> None:
    (folder / CONFIG).write_text(json.dumps({"model_type": "gpt2", **SMALL, **config}), encoding="utf-8")


def entry(dtype: str, shape: list[Any], start: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        (b"", b"", 0),
        (b"{}", b"", 1 << 63),
        (b"{}", b"", 100),
        (b"[]", b"", None),
        (b"{", b"", None),
        (b"\xff\xfe", b"", None),
        (b"[" * 100_000, b"", None),
        (b'{"a":' * 50_000, b"", None),
        (b'{"a": ' + b"9" * 5_000 + b"}", b"", None),
        (b"{}" + b" " * (3 << 20), b"", None),
        ({"wte.weight": entry("F32", [2], 0, 8)}, b"\0" * 4, None),
        ({"wte.weight": entry("F32", [2], 0, 8)}, b"\0" * 12, None),
        ({"wte.weight": entry("F32", [2], 4, 12)}, b"\0" * 12, None),
        ({"wte.weight": entry("F32", [2], 8, 0)}, b"\0" * 8, None),
        ({"wte.weight": entry("F32", [2], -8, 0)}, b"\0" * 8, None),
        ({"wte.weight": entry("F32", [1 << 62, 1 << 62], 0, 8)}, b"\0" * 8, None),
        ({"wte.weight": entry("F32", [-2], 0, 8)}, b"\0" * 8, None),
        ({"wte.weight": entry("F32", [2.0], 0, 8)}, b"\0" * 8, None),
        ({"wte.weight": entry("F32", [2], 0, 1 << 70)}, b"\0" * 8, None),
        ({"wte.weight": entry("F33", [2], 0, 8)}, b"\0" * 8, None),
        ({"wte.weight": {"dtype": "F32"}}, b"", None),
        ({"wte.weight": None}, b"", None),
        ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, b"\0" * 12, None),
        ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 0, 8)}, b"\0" * 8, None),
        (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
            b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            b"\0" * 4,
            None,
        ),
    ],
)
def test_broken_headers_are_refused(
    tmp_path: Path, header: Header | bytes, data: bytes, length: int | None
) -> None:
    with pytest.raises(CheckpointError, match=WEIGHTS) as caught:
        load_model(write_raw(tmp_path, header, data, length))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("library_reads", [True, False])
def test_an_entry_in_another_form_is_read_or_refused(tmp_path: Path, library_reads: bool) -> None:
    folder = save_checkpoint(tmp_path)
    header, data = split(folder)
    entry = header["wte.weight"]
    header["wte.weight"] = [entry["dtype"], entry["shape"], entry["data_offsets"]]
    if not library_reads:
        header["wte.weight"].append(entry["shape"])
    write_raw(folder, header, data)
    save_config(folder)
    if library_reads:
        assert_parameters(load_model(folder).parameters, random_gpt2().parameters)
        assert np.array_equal(load_file(folder / WEIGHTS)["wte.weight"], random_gpt2().parameters.wte)
    else:
        with pytest.raises(CheckpointError, match=r"'wte\.weight' is described as \['F32'"):
            load_model(folder)


@pytest.mark.parametrize(
    "entry",
    [
        {"F32": None}, "F32", 3, [], [[], [], []], ["F32", [2]], ["F32", [2], [0, 8], 1], [None, [2], [0, 8]],
        ["F32", {"0": 2}, [0, 8]], ["F32", [2], {"0": 0, "1": 8}], ["F32", [True], [0, 4]],
        ["F32", [2], [0, 8.0]], ["F32", [[2]], [0, 8]],
        {"dtype": {"F32": None}, "shape": [2], "data_offsets": [0, 8]},
        ["F32", [1] * 65 + [2], [0, 8]], ["F32", [1 << 64, 0], [0, 0]], ["é\x1b", [2], [0, 8]],
    ],
    ids=str,
)  # fmt: skip
def test_whatever_describes_a_tensor_is_no_crash(tmp_path: Path, entry: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_model(write_raw(tmp_path, {"wte.weight": entry}, b"\0" * 8))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, n_layer=1, vocab_size=5, n_positions=2, n_embd=4, n_head=1)
    content = (folder / WEIGHTS).read_bytes()
    header, _ = split(folder)
    data_start = 8 + int.from_bytes(content[:8], "little")
    boundaries = {data_start + end for tensor in header.values() for end in tensor.get("data_offsets", [])}
    cuts = {0, 1, 7, 8, 9, data_start - 1, data_start + 1, len(content) - 1, *boundaries} - {len(content)}
    for cut in sorted(cuts):
        (folder / WEIGHTS).write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match=WEIGHTS):
            load_model(folder)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("[]", "no 'weight_map'"),
        ("{}", "no 'weight_map'"),
        ('{"weight_map": {}}', "no 'weight_map'"),
        ('{"weight_map": 3}', "no 'weight_map'"),
        ('{"weight_map": {"wte.weight": 3}}', "said to be in 3"),
        ('{"weight_map": {"wte.weight": "../model.safetensors"}}', "in the same folder"),
        ('{"weight_map": {"wte.weight": "/etc/model.safetensors"}}', "in the same folder"),
        ('{"weight_map": {"wte.weight": "C:\\\\model.safetensors"}}', "in the same folder"),
        ('{"weight_map": {"wte.weight": "a/model.safetensors"}}', "in the same folder"),
        ('{"weight_map": {"wte.weight": "model.bin"}}', "in the same folder"),
        ('{"weight_map": {"wte.weight": "\\u0000.safetensors"}}', "in the same folder"),
        ('{"weight_map": {"wte.weight": "model-9.safetensors"}}', "model-9.safetensors: there is no such"),
        ('{"weight_map": {"a": "b.safetensors", "a": "b.safetensors"}}', "'a' occurs twice"),
        ("not json", "not valid JSON"),
    ],
)
def test_a_broken_index_is_refused(tmp_path: Path, index: str, message: str) -> None:
    folder = write_shards(tmp_path / "sharded")
    (folder / INDEX).write_text(index, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_shards_must_agree_with_the_index(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "sharded")
    first, second = sorted(path.name for path in folder.glob("model-*.safetensors"))
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    weight_map = index["weight_map"]
    name = next(name for name, shard in weight_map.items() if shard == first)

    def load_with(weight_map: dict[str, str]) -> None:
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
        load_model(folder)

    with pytest.raises(CheckpointError, match=f"{second}: '{name}' is missing, which"):
        load_with(weight_map | {name: second})
    with pytest.raises(CheckpointError, match=f"{first}: 'other' is missing, which"):
        load_with(weight_map | {"other": first})
    (folder / second).write_bytes((folder / first).read_bytes())
    with pytest.raises(CheckpointError, match=f"is in {first} and in {second}"):
        load_with(weight_map)
    (folder / second).unlink()
    with pytest.raises(CheckpointError, match=f"{second}: there is no such file"):
        load_with(weight_map)


@pytest.mark.skipif(os.name == "nt", reason="Windows lets only developers make symbolic links")
@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, "vocab.json"])
def test_links_do_not_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = save_checkpoint(tmp_path / "inside")
    for tokenizer_file in ("vocab.json", "merges.txt"):
        text = tokenizer_files(Tokenizer.train(["na na na"], vocab_size=258))[tokenizer_file]
        (folder / tokenizer_file).write_text(text, encoding="utf-8")
    assert load(folder)
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(CheckpointError, match="leads out of its folder"):
        load(folder)
    (folder / name).unlink()
    (folder / name).symlink_to(folder / name)
    with pytest.raises(MiniGPTError):
        load(folder)


@pytest.mark.skipif(os.name == "nt", reason="Windows lets only developers make symbolic links")
def test_links_within_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    blobs = save_checkpoint(tmp_path / "models--owner--name" / "blobs")
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        (snapshot / name).symlink_to(blobs / name)
    assert n_parameters(load_model(snapshot)) == n_parameters(random_gpt2())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_pipe_does_not_block(tmp_path: Path, name: str) -> None:
    folder = save_checkpoint(tmp_path)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(CheckpointError, match=f"{name}: not a regular file"):
        load_model(folder)


@pytest.mark.skipif(os.name == "nt", reason="Windows lets only developers make symbolic links")
@pytest.mark.parametrize("where", ["beside", "in the cache", "cache of that name"])
def test_a_link_that_is_named_directly_leads_nowhere_else(tmp_path: Path, where: str) -> None:
    """Not the name of the folder decides, but where the opened file lies."""
    secret = save_checkpoint(tmp_path / "secret") / WEIGHTS
    folder = save_checkpoint(
        tmp_path / {"beside": "x", "in the cache": "models--x/snapshots/y"}.get(where, "snapshots/y")
    )
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(os.path.relpath(secret, folder))
    for name in (folder, folder / WEIGHTS):
        with pytest.raises(CheckpointError, match="leads out of its folder"):
            load_model(name)


@pytest.mark.skipif(os.name == "nt", reason="Windows lets only developers make symbolic links")
def test_the_blobs_that_repositories_share_are_read(tmp_path: Path) -> None:
    """huggingface_hub 2 keeps one copy: snapshots/c/file -> blobs/etag -> <cache>/blobs/ab/<hash>."""
    made = save_checkpoint(tmp_path / "made")
    repository = tmp_path / "models--owner--name"
    (repository / "snapshots" / "c").mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, name in enumerate((CONFIG, WEIGHTS)):
        shared = tmp_path / "blobs" / "ab" / f"ab{number:062}"
        shared.parent.mkdir(parents=True, exist_ok=True)
        (made / name).rename(shared)
        (repository / "blobs" / name).symlink_to(shared)
        (repository / "snapshots" / "c" / name).symlink_to(f"../../blobs/{name}")
    assert_parameters(load_model(repository / "snapshots" / "c").parameters, random_gpt2().parameters)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
@pytest.mark.parametrize("what", ["link", "link and back", "pipe"])
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_what_is_swapped_in_while_a_file_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, name: str
) -> None:
    outside = save_checkpoint(tmp_path / "outside")
    folder = save_checkpoint(tmp_path / "folder")
    real_open = os.open

    def swap_and_open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if Path(path) != folder / name:
            return real_open(path, flags, *args, **kwargs)
        (folder / name).rename(tmp_path / "kept")
        os.mkfifo(path) if what == "pipe" else Path(path).symlink_to(outside / name)
        descriptor = real_open(path, flags, *args, **kwargs)
        if what == "link and back":
            (tmp_path / "kept").replace(folder / name)
        return descriptor

    monkeypatch.setattr(os, "open", swap_and_open)
    with pytest.raises(CheckpointError, match=f"{name}: (was replaced|not a regular)"):
        load_model(folder)


# ----------------------------------------------------------------------- what changes while it is read


def during_load(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Let something happen between the reading of the headers and that of the numbers."""

    def select(*arguments: Any) -> Any:
        change()
        return select_tensors(*arguments)

    monkeypatch.setattr("minigpt.checkpoints.load.select_tensors", select)


def test_a_checkpoint_that_is_replaced_while_it_loads_is_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = save_checkpoint(tmp_path / "old"), save_checkpoint(tmp_path / "new", seed=1)
    during_load(monkeypatch, lambda: (other / WEIGHTS).replace(folder / WEIGHTS))
    assert_parameters(load_model(folder).parameters, random_gpt2().parameters)


@pytest.mark.parametrize("how", ["rewritten", "longer", "shorter", "empty"])
def test_a_checkpoint_that_is_written_to_while_it_loads_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    file = save_checkpoint(tmp_path) / WEIGHTS
    size = file.stat().st_size
    os.utime(file, ns=(0, 0))  # the clock of a file system may be coarse

    def change() -> None:
        if how == "rewritten":
            file.write_bytes(file.read_bytes())
        else:
            os.truncate(file, {"longer": size + 8, "shorter": size // 2, "empty": 0}[how])

    during_load(monkeypatch, change)
    with pytest.raises(CheckpointError, match=r"was changed while it was read|the file ends within"):
        load_model(tmp_path)


@pytest.mark.parametrize("which", [0, 1])
def test_shards_that_are_replaced_while_they_load_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    folder = write_shards(tmp_path / "sharded")
    shard = sorted(folder.glob("model-*.safetensors"))[which]
    (tmp_path / "new").write_bytes(shard.read_bytes())
    during_load(monkeypatch, lambda: (tmp_path / "new").replace(shard))
    with pytest.raises(CheckpointError, match=f"{shard.name}: was changed while it was read"):
        load_model(folder)


# ------------------------------------------------------------------------------------- memory and time


def peak_bytes(action: Callable[[], object]) -> int:
    """What Python and NumPy had allocated at most, beyond what they had before."""
    gc.collect()
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_memory_is_that_of_the_parameters(tmp_path: Path, dtype: Any) -> None:
    tensors = random_tensors(Config(**(SMALL | {"vocab_size": 30_000, "n_embd": 64})))
    size = sum(array.nbytes for array in tensors.values())
    folder = write(tmp_path, {k: a.astype(dtype) for k, a in tensors.items()}, vocab_size=30_000, n_embd=64)
    assert peak_bytes(lambda: load_model(folder)) < size + (3 << 20)


def test_the_headers_of_all_shards_share_one_bound(tmp_path: Path) -> None:
    """Shards of nothing but names: each is below the bound, and sixty of them took a gigabyte."""
    (tmp_path / CONFIG).write_text("{}", encoding="utf-8")
    empty, weight_map = entry("F32", [0], 0, 0), {}
    for shard in range(4):
        names = [f"{shard}.{n}" for n in range(15_000)]
        header = json.dumps(dict.fromkeys(names, empty)).encode()
        (tmp_path / f"m{shard}.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
        weight_map[names[0]] = f"m{shard}.safetensors"
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"m2.*those of all files of a GPT-2 together"):
        load_model(tmp_path)


def test_an_index_of_a_thousand_files_is_refused(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "sharded")
    weight_map = {str(n): f"m{n}.safetensors" for n in range(1000)}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="names 1,000 files; expected at most 128"):
        load_model(folder)


def test_a_config_of_a_hundred_gigabytes_is_not_read(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path)
    os.truncate(folder / CONFIG, 100 << 30)

    def load() -> None:
        with pytest.raises(CheckpointError, match="longer than 2 MB"):
            load_model(folder)

    assert peak_bytes(load) < 10 << 20


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 50_000, b'{"a\\\\": ' + b"[{" * 70])
def test_brackets_that_are_nested_deep_are_refused_before_they_are_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(CheckpointError, match="nested too deep"):
        parse_json(text, tmp_path)


def test_a_file_of_a_million_empty_lists_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    text = b"[" + b"[]," * (2 << 20) + b"1]"

    def parse() -> None:
        with pytest.raises(CheckpointError, match="over a million values"):
            parse_json(text, tmp_path)

    assert peak_bytes(parse) < 1 << 20


def test_brackets_in_strings_are_not_nested(tmp_path: Path) -> None:
    for text in ('{"[[[[' + "[" * 100 + '": 1}', '["' + '\\"[' * 100 + '"]', '["\\\\", "' + "{" * 100 + '"]'):
        assert parse_json(text.encode(), tmp_path) == json.loads(text)


@pytest.mark.parametrize("made", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_model_is_read_only_too(tmp_path: Path, made: Callable[[GPT2], GPT2]) -> None:
    model = load_model(save_checkpoint(tmp_path))
    other = made(model)
    assert_parameters(other.parameters, model.parameters)
    assert other.parameters.lm_head is other.parameters.wte
    for name, array in arrays_by_name(other.parameters).items():
        with pytest.raises(ValueError, match="read-only"):
            array.flat[0] = 1.0
        assert array.flags.f_contiguous == arrays_by_name(model.parameters)[name].flags.f_contiguous


# --------------------------------------------------------------------------------- what there is instead


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 548105171\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LFS, "a git-lfs pointer.*git lfs pull"),
        (b"GGUF\3\0\0\0" + b"\0" * 99, "a GGUF file"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "an HDF5 file"),
        (b"PK\x03\x04" + b"\0" * 99, "a zip archive, as torch.save"),
        (b"<!DOCTYPE html><html>not found</html>", "a web page"),
    ],
)
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_file_that_is_something_else_is_recognised(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    folder = save_checkpoint(tmp_path)
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: {words}"):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.fp16.safetensors", "give the path of the file itself"),
        ("tf_model.h5", "another library's format"),
        ("flax_model.msgpack", "another library's format"),
        ("gpt2.Q4_K_M.gguf", "llama.cpp's format"),
        ("adapter_model.safetensors", "a PEFT adapter; merge it"),
        ("adapter_config.json", "a PEFT adapter; merge it"),
        ("model-00001-of-00002.safetensors", "a shard; model.safetensors.index.json, which joins them"),
        ("pytorch_model.bin", "a pickle"),
        ("model.ckpt.index", "another library's format"),
        ("checkpoint-500", "as transformers' Trainer writes it; give its path"),
    ],
)
@pytest.mark.parametrize("lacks", [CONFIG, WEIGHTS])
def test_what_a_folder_holds_instead_is_said(tmp_path: Path, name: str, words: str, lacks: str) -> None:
    folder = save_checkpoint(tmp_path)
    (folder / WEIGHTS).unlink()
    (folder / name).touch()
    if lacks == CONFIG:
        (folder / CONFIG).unlink()
    with pytest.raises(CheckpointError, match=f"no {lacks}.*, only '{name}'.*{words}"):
        load_model(folder)


@pytest.mark.parametrize("name", ["a\x1b[31mb\u202e.bin", "a\x9b1m.ckpt", "x\r.pt"])
def test_the_name_of_a_pickle_is_spelled_out(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_checkpoint(tmp_path, vocab_size=50257, n_embd=8, n_layer=1, n_head=1)
    (folder / WEIGHTS).unlink()
    (folder / name).touch()
    for model in (folder, folder / name):
        assert main(["I love", "--model", str(model)]) == 1
        error = capsys.readouterr().err
        assert error.rstrip("\n").isprintable()
        assert "That is a pickle" in error


def test_a_variant_is_loaded_by_its_own_path(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path)
    (folder / WEIGHTS).rename(folder / "model.fp16.safetensors")
    assert_parameters(load_model(folder / "model.fp16.safetensors").parameters, random_gpt2().parameters)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model")
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"only 'pytorch_model\.bin'.*save_pretrained"):
        load_model(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        load_model(folder)
    (folder / CONFIG).unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_model(folder)


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_file_is_an_error_or_a_model(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes overwritten, inserted, removed anywhere: `MiniGPTError`, or finite parameters of the config."""
    folder = tmp_path_factory.getbasetemp() / "damaged"
    config = {"vocab_size": 7, "n_positions": 4, "n_embd": 4, "n_layer": 1, "n_head": 2}
    save_checkpoint(folder, **config)
    name = data.draw(st.sampled_from([WEIGHTS, WEIGHTS, WEIGHTS, CONFIG]))
    content = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        end = min(len(content), data.draw(st.sampled_from([16, 600, len(content)])))
        start = data.draw(st.integers(0, max(end - 1, 0)))
        length = data.draw(st.integers(0, 4))
        content[start : start + length] = data.draw(st.binary(max_size=4))
    (folder / name).write_bytes(content)
    try:
        model = load_model(folder)
    except MiniGPTError as error:
        message = str(error)
        assert (str(folder) in message, "\n" in message) == (True, False)
        return
    named = named_parameters(model)
    assert {name: array.shape for name, array in named.items()} == parameter_shapes(model.config)
    assert all(np.isfinite(array).all() for array in named.values())


# ------------------------------------------------------------------------------------------------- configs


def config_of(folder: Path, content: Any) -> Config:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    return read_config(folder)


def test_what_a_config_does_not_say_is_the_default(tmp_path: Path) -> None:
    assert config_of(tmp_path, {}) == Config()
    assert config_of(tmp_path, {"architectures": None, "n_inner": None}) == Config()


def test_the_aliases_of_transformers_count(tmp_path: Path) -> None:
    aliases = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "max_position_embeddings": 9,
    }
    assert config_of(tmp_path, aliases) == Config(n_embd=64, n_head=4, n_layer=2, n_positions=9)
    assert config_of(tmp_path, aliases | {"n_embd": 64}).n_embd == 64
    with pytest.raises(ConfigError, match="n_embd is 64 and, as n_embd, 32"):
        config_of(tmp_path, aliases | {"n_embd": 32})


def test_every_setting_is_read(tmp_path: Path) -> None:
    values = {
        "vocab_size": 11,
        "n_positions": 12,
        "n_embd": 14,
        "n_layer": 3,
        "n_head": 7,
        "n_inner": 5,
        "activation_function": "relu",
        "layer_norm_epsilon": 1e-3,
        "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True,
        "tie_word_embeddings": False,
    }
    assert config_of(tmp_path, values) == Config(**values)  # type: ignore[arg-type]


def test_what_changes_nothing_is_ignored(tmp_path: Path) -> None:
    harmless = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "attn_pdrop": 0.9,
        "reorder_and_upcast_attn": True,
        "add_cross_attention": False,
        "summary_type": "first",
        "initializer_range": 9,
        "torch_dtype": "float16",
        "n_ctx": 5,
        "use_cache": False,
        "task_specific_params": {"text-generation": {"do_sample": True}},
    }
    assert config_of(tmp_path, harmless) == Config()
    assert config_of(tmp_path, {"architectures": ["GPT2Model"]}) == Config()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"model_type": None}, "model_type is None"),
        ({"architectures": ["BertModel"]}, r"architectures is \['BertModel'\]"),
        ({"architectures": ["GPT2ForSequenceClassification"]}, "architectures"),
        ({"architectures": "GPT2LMHeadModel"}, "architectures"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"auto_map": {"AutoModel": "mine.Model"}}, "auto_map"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({"activation_function": "swish2"}, "activation_function is 'swish2'; known are gelu_new"),
        ({"activation_function": ["gelu"]}, r"activation_function is \['gelu'\]; expected str"),
        ({"n_embd": "768"}, "n_embd is '768'; expected int"),
        ({"n_embd": 768.0}, "n_embd is 768.0; expected int"),
        ({"n_layer": True}, "n_layer is True; expected int"),
        ({"n_head": None}, "n_head is None; expected int"),
        ({"vocab_size": [1]}, r"vocab_size is \[1\]; expected int"),
        ({"hidden_size": "x"}, "hidden_size is 'x'; expected int"),
        ({"n_inner": 1.5}, "n_inner is 1.5; expected int | None"),
        ({"scale_attn_weights": 1}, "scale_attn_weights is 1; expected bool"),
        ({"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon is '1e-5'; expected float"),
        ({"layer_norm_epsilon": 0.0}, "layer_norm_epsilon is 0.0"),
        ({"layer_norm_epsilon": 1e300}, r"layer_norm_epsilon is 1e\+300"),
        ({"n_layer": 0}, "n_layer is 0; it must be at least 1"),
        ({"n_positions": -5}, "n_positions is -5"),
        ({"n_inner": 0}, "mlp_width is 0"),
        ({"n_head": 5}, "n_head = 5 does not divide"),
        ({"n_layer": 10**30}, r"n_layer is 1\.00e\+30; expected at most 100000000"),
        ('{"layer_norm_epsilon": NaN}', "layer_norm_epsilon is nan"),
        ('{"layer_norm_epsilon": Infinity}', "layer_norm_epsilon is inf"),
        ('{"n_embd": 1e999}', "n_embd is inf; expected int"),
        ("[]", "found .*expected an object"),
        ("null", "found None"),
        ("", "not valid JSON"),
        ("{'n_embd': 3}", "not valid JSON"),
        ('{"n_embd": 4, "n_embd": 5}', "'n_embd' occurs twice"),
        ("[" * 100_000, "not valid JSON"),
        (" " * (3 << 20), "longer than 2 MB"),
        ('{"model_type": "\\u001b[31m"}', r"'\\x1b\[31m'"),
    ],
)
def test_a_config_that_is_not_computed_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(MiniGPTError, match=message) as caught:
        config_of(tmp_path, content)
    assert str(caught.value).startswith(str(tmp_path / CONFIG))
    assert str(caught.value).count(str(tmp_path)) == 1
    assert len(str(caught.value)) < 600


def test_a_config_cannot_ask_for_a_hundred_million_blocks(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="n_layer is 100000000, but the file has 3 blocks"):
        load_model(write(tmp_path, tensors_of(), n_layer=100_000_000))
    far = {"h.99999999.ln_1.weight": np.zeros(32, np.float32)}
    with pytest.raises(CheckpointError, match=r"the last being h\.99999999"):
        load_model(write(tmp_path, tensors_of() | far, n_layer=100_000_000))


# ------------------------------------------------------------------------------------------------- names


def test_a_found_source_can_be_loaded(tmp_path: Path) -> None:
    source = find(str(save_checkpoint(tmp_path / "model")), offline=True)
    assert (source.name, source.path) == (str(tmp_path / "model"), tmp_path / "model")
    assert source.origin == f"local folder {tmp_path / 'model'}"
    assert n_parameters(load_model(source)) == n_parameters(random_gpt2())


def test_an_existing_folder_counts_more_than_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "owner" / "name")
    save_checkpoint(tmp_path / "plain")
    save_checkpoint(tmp_path / "gpt2-xl")
    assert find("owner/name", offline=True).origin == f"local folder {Path('owner/name')}"
    assert find("plain", offline=True).path == Path("plain")
    with pytest.raises(CheckpointError, match="'gpt2-xl': not on this machine"):
        find("gpt2-xl", offline=True)  # an official name is always the official model
    assert find("./gpt2-xl", offline=True).path == Path("gpt2-xl")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "model '': not known"),
        ("gpt3", "model 'gpt3': not known; give one of gpt2"),
        ("./nowhere", "nowhere: there is no such file"),
        ("~nobody-of-this-name/x", "~nobody-of-this-name/x: there is no such file"),
        ("a/b/c", "there is no such file"),
        ("nul\0", "not known"),
        ("./nul\0", "no such file"),
        ("./" + "x" * 5000, "no such file"),
        ("./config.json", "expected a folder"),
    ],
)
def test_a_name_that_means_nothing_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with pytest.raises(InputError, match=message.replace("/", r"[/\\]")):
        find(name, offline=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("owner/name", "neither a folder here nor whole in the Hub's cache"),
        ("./model.bin", "a pickle, which can run any code"),
        ("./model.pt", "save_pretrained"),
        ("./gpt2.Q4_K_M.gguf", "llama.cpp's format"),
        ("./tf_model.h5", "another library's format"),
    ],
)
def test_a_checkpoint_that_cannot_be_had_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with pytest.raises(CheckpointError, match=message):
        find(name, offline=True)


def test_tiny_is_found_in_the_package_or_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PACKAGE", tmp_path / "minigpt")
    with pytest.raises(CheckpointError, match=r"'tiny'.*is missing"):
        find("tiny")
    (tmp_path / "weights" / "tiny").mkdir(parents=True)
    assert find("tiny").path == tmp_path / "weights" / "tiny"
    (tmp_path / "minigpt" / "weights" / "tiny").mkdir(parents=True)
    assert find("tiny").path == tmp_path / "minigpt" / "weights" / "tiny"


def test_the_full_layout_of_the_official_file(tmp_path: Path) -> None:
    """Prefix, order and masks as in the official files, at a size that takes no time."""
    config = Config(vocab_size=50, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    folder = write_checkpoint(tmp_path, config, random_tensors(config))
    names = list(split(folder)[0])
    assert names != sorted(names)
    assert "h.0.attn.bias" in names
    assert_parameters(load_model(folder).parameters, parameters_of(random_tensors(config), config))
