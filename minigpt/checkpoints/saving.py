"""From a model to a folder that other programs load: the layout of `save_pretrained` of transformers.

`config.json`, `generation_config.json`, the tokenizer's files and, last, `model.safetensors`. They are
written under other names first, so that nobody ever finds half of a checkpoint, and what was there before
stays until all of the new one is on the disk. docs/checkpoints.md says where to go from such a folder.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from safetensors import SafetensorError
from safetensors.numpy import save_file

from .. import model as standard
from ..checks import check_class, checked_classes, checked_dtype
from ..errors import CheckpointError, InputError
from ..files import checked_path
from ..model import GPT2, named_parameters
from ..parameters import Config, arrays_by_name, parameter_shapes
from ..tokenizer import Tokenizer
from .reading import is_folder, present, read_bytes
from .tensors import INDEX_FILE, SINGLE_FILE
from .tokenizer_files import LONGEST, tokenizer_files

DTYPES = ("float32", "float16")


@checked_classes
def save(
    folder: str | os.PathLike[str],
    model: GPT2,
    tokenizer: Tokenizer,
    dtype: DTypeLike = "float32",
    *,
    overwrite: bool = False,
) -> None:
    """Write a model and its tokenizer into a folder, from which `load` and `transformers` read the same.

    `dtype` is "float32", or "float16" for half the size and rounded weights. The folder must be new or
    empty. With `overwrite`, which is for training that saves again and again, it may hold the same model
    with other weights, and files that belong to no checkpoint; only the weights are replaced. Raises
    `CheckpointError` if the folder holds something else or cannot be written, `InputError` for a model that
    is no GPT-2's or whose numbers are not finite in that `dtype`; then the folder is as it was.
    """
    folder, dtype = checked_path("folder", folder), checked_dtype(dtype, DTYPES).name
    check_model(model, tokenizer)
    texts = checkpoint_texts(model, tokenizer, dtype)
    arrays = tensors_to_store(model, dtype)
    try:
        check_folder(folder, texts, overwrite)
        write_checkpoint(folder, texts, arrays)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror or error}).") from None


# ------------------------------------------------------------------------------------------ what is saved


def check_model(model: Any, tokenizer: Any) -> None:
    """Raise `InputError` unless other programs compute the same from what is saved."""
    check_class("model", model, (GPT2,))
    check_class("tokenizer", tokenizer, (Tokenizer,))
    if model.block not in (None, standard.block):
        raise InputError(
            "model: it has a block of its own, which whoever loads a GPT-2 would not compute; keep its "
            "arrays (minigpt.named_parameters) together with the code of the block."
        )
    found = {name: array.shape for name, array in arrays_by_name(model.parameters).items()}
    if found != parameter_shapes(as_saved(model)):
        raise InputError("model: its parameters are not those that its config asks for.")
    if tokenizer.n_vocab > model.config.vocab_size:
        raise InputError(
            f"tokenizer: it has {tokenizer.n_vocab:,} tokens, and the model knows "
            f"{model.config.vocab_size:,}; save the model with its own tokenizer."
        )


def as_saved(model: GPT2) -> Config:
    """The model's config, which says whether the head is the embedding itself."""
    return replace(model.config, tie_word_embeddings=model.parameters.lm_head is model.parameters.wte)


def checkpoint_texts(model: GPT2, tokenizer: Tokenizer, dtype: str) -> dict[str, str]:
    """The files beside the weights, by name."""
    ends = {"bos_token_id": tokenizer.end_of_text, "eos_token_id": tokenizer.end_of_text}
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **asdict(as_saved(model)),
        "n_ctx": model.config.n_positions,  # which llama.cpp's converter reads
        "torch_dtype": dtype,
        **ends,
    }
    contents: dict[str, Any] = {"config.json": config, "generation_config.json": ends}
    texts = {name: json.dumps(content, indent=2) + "\n" for name, content in contents.items()}
    return texts | tokenizer_files(tokenizer)


def tensors_to_store(model: GPT2, dtype: str) -> dict[str, np.ndarray]:
    """The parameters under the names of `GPT2LMHeadModel`, a tied head left out, if `dtype` can hold them."""
    arrays = {}
    for name, array in named_parameters(model).items():
        with np.errstate(over="ignore"):
            stored = array.astype(dtype, copy=False)
        if not np.isfinite(stored).all():
            largest = array.flat[np.argmax(~np.isfinite(stored))]
            raise InputError(f"model: {name} holds {largest}, which {dtype} cannot; nothing was saved.")
        arrays[name if name == "lm_head.weight" else f"transformer.{name}"] = stored
    return arrays


# ------------------------------------------------------------------------------------------ where it goes


def check_folder(folder: Path, texts: dict[str, str], overwrite: bool) -> None:
    """Raise `CheckpointError` if saving into the folder would destroy anything but older weights."""
    if not present(folder) or (is_folder(folder) and not any(folder.iterdir())):
        return
    if not is_folder(folder):
        raise CheckpointError(f"{folder}: is a file; give a folder that is new or empty.")
    if not overwrite:
        raise CheckpointError(f"{folder}: is not empty; give a folder that is new or empty.")
    same = present(folder / "config.json") or not present(folder / SINGLE_FILE)
    if not same or present(folder / INDEX_FILE) or differences(folder, texts):
        raise CheckpointError(
            f"{folder}: holds another checkpoint, which is not overwritten; give another folder."
        )


def differences(folder: Path, texts: dict[str, str]) -> list[str]:
    """The files of that name in the folder that hold another text."""
    return [
        name
        for name, text in texts.items()
        if present(folder / name) and read_bytes(folder / name, LONGEST) != text.encode()
    ]


def write_checkpoint(folder: Path, texts: dict[str, str], arrays: dict[str, np.ndarray]) -> None:
    """Write everything beside its place, then move it there: a whole folder, or file by file.

    Without its weights a folder is no checkpoint, so they are moved last.
    """
    is_there = is_folder(folder)
    with staging_folder(folder if is_there else folder.parent) as staged:
        for name, text in texts.items():
            (staged / name).write_bytes(text.encode())
        try:
            save_file(arrays, staged / SINGLE_FILE, metadata={"format": "pt"})
        except SafetensorError as error:  # of the disk
            raise OSError(str(error)) from None
        shutil.copymode(staged / "config.json", staged / SINGLE_FILE)  # safetensors lets only the owner read
        if not is_there:
            staged.rename(folder)
            return
        for name in (*texts, SINGLE_FILE):
            if (folder / name).is_file():
                shutil.copymode(folder / name, staged / name)
            (staged / name).replace(folder / name)


@contextmanager
def staging_folder(home: Path) -> Iterator[Path]:
    """A new folder in `home` to write into; what is left in it at the end is removed."""
    home.mkdir(parents=True, exist_ok=True)
    staged = home / f".minigpt-{secrets.token_hex(8)}.tmp"
    staged.mkdir()
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)
