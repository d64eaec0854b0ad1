"""From a checkpoint to a model: the tensors, their names, and whether they fit the config.

A GPT-2 checkpoint is a `config.json` and one or more safetensors files. Everything that the config promises
is compared with what the files hold before a single number is read, and what does not fit is refused by
name. The steps before: `find.py` finds the files that a name means, `config.py` reads the config,
`tensors.py` the tensors; `tokenizer_files.py` tells whether the model speaks GPT-2's tokens.

Names: `transformers.GPT2LMHeadModel`.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import CheckpointError
from ..fast import FastGPT2
from ..model import GPT2
from ..parameters import Config, Shape, build, parameter_shapes
from ..tokenizer import N_VOCAB, Tokenizer
from .config import read_config
from .find import Name, Source, find
from .tensors import STORED_TYPES, StoredTensor, aligned_empty, shown, stored_tensors
from .tokenizer_files import other_tokenizer

# ------------------------------------------------------------------------------------------------ loading


def load(name: Name = None, *, offline: bool = False) -> tuple[GPT2, Tokenizer]:
    """A model and its tokenizer, by official name, Hub id, folder or file, `tiny`, or as `find` found it.

    Without a name: the official `gpt2` where it can be had, else `tiny`. Raises `CheckpointError` if the
    checkpoint cannot be read or has another vocabulary than GPT-2's, `ConfigError` if its config is not one
    of GPT-2's, `DownloadError` if it cannot be had.
    """
    source = find(name, offline=offline)
    config = read_config(source.path)
    check_vocabulary(source, config)
    return _read_model(source.path, config), Tokenizer()


def load_model(name: Name = None, *, offline: bool = False) -> GPT2:
    """The model alone, as `load` finds it; it takes ids, so that its vocabulary may be any."""
    source = find(name, offline=offline)
    return _read_model(source.path, read_config(source.path))


def check_vocabulary(source: Source, config: Config) -> None:
    """Raise `CheckpointError` unless the checkpoint was trained on GPT-2's tokens."""
    folder = source.path if source.path.is_dir() else source.path.parent
    problem = f"vocab_size is {config.vocab_size}, GPT-2's is {N_VOCAB}"
    if config.vocab_size == N_VOCAB:
        culprit = other_tokenizer(folder)
        if culprit is None:
            return
        problem = f"{culprit} is not GPT-2's"
    raise CheckpointError(
        f"{source.path}: another vocabulary: {problem}; minigpt's tokenizer would feed this model wrong ids. "
        "In Python, minigpt.load_model takes ids from the model's own tokenizer."
    )


def _read_model(path: Path, config: Config) -> GPT2:
    stored = checked_tensors(path, config)
    if config.tie_word_embeddings and "lm_head.weight" in stored:
        # As transformers does: a head in the file that differs counts more than the config's word.
        if stored["lm_head.weight"].equals(stored["wte.weight"]):
            del stored["lm_head.weight"]
        else:
            config = replace(config, tie_word_embeddings=False)
    arrays = {name: in_memory_order(name, tensor.read()) for name, tensor in stored.items()}
    for array in arrays.values():
        array.setflags(write=False)  # a model may be shared between threads
    return FastGPT2(config, build(config, lambda name, _shape: arrays[name]))


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


# ------------------------------------------------------------------------------------------------ tensors

# Buffers of older files: the causal mask and its fill value. They are not parameters and never read.
MASKS = re.compile(r"(transformer\.)?h\.[0-9]+\.attn\.(bias|masked_bias)")
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


# ----------------------------------------------------------------------------- does the file fit the config


def checked_tensors(path: Path, config: Config) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint by their un-prefixed names: those that the config asks for, and no others.

    Nothing but headers has been read. Raises `CheckpointError` for what is missing, superfluous, of another
    shape or of another type, with the likely cause.
    """
    stored = stored_tensors(path)
    files = {tensor.file for tensor in stored.values()}
    path = files.pop() if len(files) == 1 else path  # the folder stands for several shards
    tensors = _unprefixed(path, stored)
    if config.tie_word_embeddings and "wte.weight" not in tensors and "lm_head.weight" in tensors:
        # Of two names for one tensor safetensors' `save_model` keeps the first of the alphabet.
        tensors["wte.weight"] = tensors.pop("lm_head.weight")
    _check_blocks(path, tensors, config)
    shapes = parameter_shapes(config)
    if "lm_head.weight" in tensors:
        shapes["lm_head.weight"] = shapes["wte.weight"]
    for name, shape in shapes.items():
        if name not in tensors:
            raise CheckpointError(f"{path}: {name} is missing, which the config asks for.")
        _check_tensor(tensors[name], name, shape)
    for name in tensors:
        if name not in shapes:
            raise CheckpointError(
                f"{path}: {shown(name)} has no place in a GPT-2; {_likely_origin(tensors)}."
            )
    return {name: tensors[name] for name in shapes}


def _unprefixed(path: Path, tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Without masks, and without the `transformer.` that `GPT2LMHeadModel` puts before its body's names."""
    parameters = {name: tensor for name, tensor in tensors.items() if not MASKS.fullmatch(name)}
    body = [name for name in parameters if name != "lm_head.weight"]
    with_prefix = [name for name in body if name.startswith("transformer.")]
    if with_prefix and len(with_prefix) < len(body):
        other = next(name for name in body if name not in with_prefix)
        raise CheckpointError(
            f"{path}: {shown(with_prefix[0])} has the prefix 'transformer.', {shown(other)} has not; "
            "two checkpoints seem to be mixed."
        )
    return {name.removeprefix("transformer."): tensor for name, tensor in parameters.items()}


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
            f"{tensor.file}: {name} has shape {shown(tensor.shape)}, but the config asks for {shape}; "
            f"{_likely_cause(name, tensor.shape, shape)}."
        )
    if tensor.dtype not in STORED_TYPES:
        raise CheckpointError(
            f"{tensor.file}: {name} has dtype {tensor.dtype}; expected {', '.join(STORED_TYPES)}. "
            "If it is quantised, take the original checkpoint."
        )


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


def _likely_origin(tensors: dict[str, StoredTensor]) -> str:
    for prefix, origin in FOREIGN_NAMES.items():
        if any(name.startswith(prefix) for name in tensors):
            return f"this looks like {origin}"
    return "it seems to come from another architecture"
