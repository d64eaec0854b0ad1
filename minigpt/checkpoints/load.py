"""From a checkpoint to a model: the tensors, their names, and whether they fit the config.

A GPT-2 checkpoint is a `config.json` and one or more safetensors files. Everything that the config promises
is compared with what the files hold before a single number is read, and what does not fit is refused by
name. The steps before: `find.py` finds the files that a name means, `config.py` reads the config,
`tensors.py` the tensors; `tokenizer_files.py` the tokenizer.

Names: `transformers.GPT2LMHeadModel`.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..checks import checked_classes
from ..errors import CheckpointError, notice
from ..fast import FastGPT2
from ..model import GPT2
from ..parameters import Config, Shape, build, parameter_shapes, read_only
from ..tokenizer import Tokenizer
from .config import read_config
from .find import Name, find
from .reading import folder_of, quote
from .tensors import STORED_TYPES, StoredTensor, aligned_empty, open_tensors, other_type
from .tokenizer_files import read_tokenizer

# ------------------------------------------------------------------------------------------------ loading


@checked_classes
def load(name: Name = None, *, offline: bool = False) -> tuple[GPT2, Tokenizer]:
    """A model and its tokenizer, by official name, Hub id, folder or file, `tiny`, or as `find` found it.

    Without a name: the official `gpt2` where it can be had, else `tiny`. Raises `CheckpointError` if the
    checkpoint cannot be read or its tokenizer is no byte-level BPE, `ConfigError` if its config is not one
    of GPT-2's, `DownloadError` if it cannot be had.
    """
    source = find(name, offline=offline)
    config = read_config(source.path)
    tokenizer = read_tokenizer(folder_of(source.path), config.vocab_size)
    return _read_model(source.path, config), tokenizer


@checked_classes
def load_model(name: Name = None, *, offline: bool = False) -> GPT2:
    """The model alone, as `load` finds it; it takes ids, so that its vocabulary may be any."""
    source = find(name, offline=offline)
    return _read_model(source.path, read_config(source.path))


def _read_model(path: Path, config: Config) -> GPT2:
    with open_tensors(path) as tensors:
        stored = select_tensors(path, tensors, config)
        if config.tie_word_embeddings and "lm_head.weight" in stored:
            # As transformers does: a head in the file that differs counts more than the config's word.
            tied = stored["lm_head.weight"].equals(stored["wte.weight"])
            config = replace(config, tie_word_embeddings=tied)
        try:
            parameters = build(config, lambda name, shape: _array(stored, name, shape))
        except MemoryError:
            size = 4 * sum(math.prod(tensor.shape) for tensor in stored.values())
            raise CheckpointError(
                f"{path}: its parameters need {size / 1e9:.1f} GB of memory, more than is free."
            ) from None
    return FastGPT2(config, parameters)


def _array(stored: dict[str, StoredTensor], name: str, shape: Shape) -> np.ndarray:
    if name in stored:
        return read_only(in_memory_order(name, stored[name].read()))
    zeros = aligned_empty(shape)  # a bias that the model was trained without
    zeros.fill(0)
    return read_only(zeros)


def in_memory_order(name: str, array: np.ndarray) -> np.ndarray:
    """The same values where the matrix-vector product of generation reads them fastest.

    That is row by row, as they are stored, except for `mlp.c_proj`: it has four times more rows than
    columns, and its product is a fifth faster when each column lies along memory.
    """
    if not name.endswith("mlp.c_proj.weight"):
        return array
    columns = aligned_empty(array.shape[::-1])
    for start in range(0, len(array), 64):  # a few rows at a time, or every write misses the cache
        columns[:, start : start + 64] = array[start : start + 64].T
    return columns.T


# ------------------------------------------------------------------------- do the tensors fit the config

# The names of the body, before which `GPT2LMHeadModel` puts `transformer.` and `GPT2Model` puts nothing.
BODY = re.compile(r"(transformer\.)?((wte|wpe|ln_f|h)\..+)")
# Buffers of older files: the causal mask and its fill value. They are not parameters and never read.
MASKS = re.compile(r"(transformer\.)?h\.[0-9]+\.attn\.(bias|masked_bias)")
# What nanoGPT's `bias=False` leaves out: all biases, or those of one kind. Zeros take their place.
BIASES = (re.compile(r"(h\.[0-9]+\.ln_[12]|ln_f)\.bias"), re.compile(r"h\.[0-9]+\.(attn|mlp)\.c_\w+\.bias"))
# Heads of transformers and TRL that read the last vector as the LM head does: no logit depends on them.
OTHER_HEADS = ("multiple_choice_head.", "score.", "classifier.", "qa_outputs.", "v_head.")
# How the tensors of other models and tools are called, for the message that refuses them.
FOREIGN_NAMES = {
    "bert.": "a BERT checkpoint",
    "encoder.layer.": "a BERT checkpoint",
    "distilbert.": "a DistilBERT checkpoint",
    "roberta.": "a RoBERTa checkpoint",
    "model.layers.": "a Llama-like checkpoint",
    "gpt_neox.": "a GPT-NeoX checkpoint",
    "h.0.attn.attention.": "a GPT-Neo checkpoint",
    "h.0.attn.q_proj.": "a GPT-J checkpoint",
    "h.0.self_attention.": "a BLOOM or Falcon checkpoint",
    "h.0.crossattention.": "a decoder with cross-attention, which needs an encoder",
    "model.decoder.": "an OPT checkpoint",
    "decoder.block.": "a T5 checkpoint",
    "blocks.": "a TransformerLens export",
    "_orig_mod.": "a state saved from torch.compile, which prefixes every name",
    "module.": "a state saved from DataParallel, which prefixes every name",
    "base_model.": "a PEFT adapter, to be merged into its base model first",
}


def select_tensors(path: Path, tensors: dict[str, StoredTensor], config: Config) -> dict[str, StoredTensor]:
    """The tensors that the config asks for, by their names without `transformer.`, and no others.

    Nothing but headers has been read. Raises `CheckpointError` for what is missing, superfluous, of another
    shape or of another type, with the likely cause.
    """
    files = {tensor.file.path for tensor in tensors.values()}
    path = files.pop() if len(files) == 1 else path  # the folder stands for several shards
    tensors = _unprefixed(path, tensors)
    if config.tie_word_embeddings and "wte.weight" not in tensors and "lm_head.weight" in tensors:
        # Of two names for one tensor safetensors' `save_model` keeps the first of the alphabet.
        tensors["wte.weight"] = tensors.pop("lm_head.weight")
    _check_blocks(path, tensors, config)
    shapes = parameter_shapes(config)
    if "lm_head.weight" in tensors:
        shapes["lm_head.weight"] = shapes["wte.weight"]
    absent = _absent_biases(tensors, shapes)
    needed = [name for name in shapes if name not in absent]
    for name in needed:
        if name not in tensors:
            raise CheckpointError(f"{path}: {name} is missing, which the config asks for.")
        _check_tensor(tensors[name], name, shapes[name])
    _check_rest(path, [name for name in tensors if name not in shapes])
    return {name: tensors[name] for name in needed}


def _unprefixed(path: Path, tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Without masks, and without the `transformer.` that `GPT2LMHeadModel` puts before its body's names."""
    parameters = {name: tensor for name, tensor in tensors.items() if not MASKS.fullmatch(name)}
    body = {name: match for name in parameters if (match := BODY.fullmatch(name))}
    with_prefix, without = (
        [n for n, match in body.items() if bool(match[1]) == has] for has in (True, False)
    )
    if with_prefix and without:
        raise CheckpointError(
            f"{path}: {quote(with_prefix[0])} has the prefix 'transformer.', {quote(without[0])} has not; "
            "two checkpoints seem to be mixed."
        )
    return {body[name][2] if name in body else name: tensor for name, tensor in parameters.items()}


def _absent_biases(tensors: dict[str, StoredTensor], shapes: dict[str, Shape]) -> set[str]:
    """The biases of each kind of which the file has not one; where it has some, the others are damage."""
    kinds = [{name for name in shapes if kind.fullmatch(name)} for kind in BIASES]
    return set().union(*(names for names in kinds if not names & tensors.keys()))


def _check_rest(path: Path, names: list[str]) -> None:
    """Refuse tensors that have no place in a GPT-2; say it of those that no logit depends on."""
    for name in names:
        if not name.startswith(OTHER_HEADS):
            raise CheckpointError(f"{path}: {quote(name)} has no place in a GPT-2; {_likely_origin(names)}.")
    if names:
        notice(f"{path}: without {quote(sorted(names))}, on which no logit depends.")


def _check_blocks(path: Path, tensors: dict[str, StoredTensor], config: Config) -> None:
    """Compare `n_layer` with the file, before a config that asks for a billion blocks fills the memory."""
    blocks = {int(match[1]) for name in tensors if (match := re.match(r"h\.([0-9]{1,9})\.", name))}
    if not blocks:
        raise CheckpointError(f"{path}: no blocks (h.0 and so on) in it; {_likely_origin(tensors)}.")
    if len(blocks) != config.n_layer or max(blocks) != config.n_layer - 1:
        raise CheckpointError(
            f"{path}: the config says n_layer is {config.n_layer}, but the file has {len(blocks)} blocks, "
            f"the last being h.{max(blocks)}."
        )


def _check_tensor(tensor: StoredTensor, name: str, shape: Shape) -> None:
    if tensor.shape != shape:
        raise CheckpointError(
            f"{tensor.file.path}: {name} has shape {quote(tensor.shape)}, but the config asks for {shape}; "
            f"{_likely_cause(name, tensor.shape, shape)}."
        )
    if tensor.dtype not in STORED_TYPES:
        raise CheckpointError(f"{tensor.file.path}: {name} {other_type(tensor.dtype)}")


def _likely_cause(name: str, found: Shape, expected: Shape) -> str:
    if found == expected[::-1]:
        return "it looks transposed (GPT-2's files hold (in, out), torch.nn.Linear (out, in))"
    setting = {"wte.weight": "vocab_size", "lm_head.weight": "vocab_size", "wpe.weight": "n_positions"}.get(
        name
    )
    if setting and found[1:] == expected[1:]:
        return f"{setting} in config.json does not belong to this file"
    setting = "n_inner" if ".mlp." in name and len({*found} & {*expected}) == 1 else "n_embd"
    return f"{setting} in config.json does not belong to this file"


def _likely_origin(tensors: Iterable[str]) -> str:
    for prefix, origin in FOREIGN_NAMES.items():
        if any(name.startswith(prefix) for name in tensors):
            return f"this looks like {origin}"
    return "it seems to come from another architecture"
