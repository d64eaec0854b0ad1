"""Reads tensors out of safetensors files, trusting nothing that a file claims about itself.

A safetensors file is eight bytes of length, a JSON header of that length (name -> dtype, shape, first and
last byte), and then the raw numbers, tensor after tensor without a gap. The library opens such a file by its
name and maps it into memory, where another program that shortens it would end this one; so each file is
opened here once, its header is checked, and the numbers are read through that one descriptor.

They go straight from their place in the file into new, aligned arrays, so that loading takes no more memory
than the parameters themselves. Where the file's data starts is up to the header's length (byte 14,291 in the
official `gpt2`), and BLAS crawls on what is not aligned.

Format: README of huggingface/safetensors, "Format".
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float, Float32, UInt16

from ..errors import CheckpointError
from .reading import LONGEST_JSON, is_folder, open_file, parse_json, present, quote, read_json, recognise

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MOST_SHARDS = 128  # each stays open until all are read; a process may have 256 files open on macOS
ALIGNMENT = 64  # bytes: a cache line, and the widest vector register
PIECE = 1 << 16  # numbers read at a time; a piece stays in the processor's cache until it is checked
# As stored, little-endian. NumPy has no bfloat16: it is the upper half of a float32.
STORED_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}
# Bytes of a number, for the types that a file may hold besides: masks are of any.
SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "U64": 8, "I64": 8, "U32": 4, "I32": 4, "U16": 2, "I16": 2,
    "U8": 1, "I8": 1, "BOOL": 1, "C64": 8,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
}  # fmt: skip

Shape = tuple[int, ...]


# ------------------------------------------------------------------------------------------- one tensor


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in an opened file: nothing of it has been read yet."""

    name: str  # as the file spells it
    file: "TensorFile"
    dtype: str  # safetensors' word, such as "F32"
    shape: Shape
    first_byte: int  # counted from the start of the numbers
    last_byte: int  # the first byte behind it

    def read(self) -> Float[np.ndarray, "..."]:
        """The numbers as an aligned float32 array: narrower types are widen exactly, float64 is rounded.

        Raises `CheckpointError` if the file is shorter than its header says, or a number is not finite.
        """
        array = aligned_empty(self.shape)
        flat = array.reshape(-1)
        for start in range(0, flat.size, PIECE):
            self._read_piece(start, flat[start : start + PIECE])
        return array

    def read_as_stored(self) -> np.ndarray:
        """The numbers in the type that they have in the file, finite or not."""
        array = np.empty(self.shape, STORED_TYPES[self.dtype])
        if array.size:
            self.file.read_into(array, self.first_byte, self.name)
        return array

    def equals(self, other: "StoredTensor") -> bool:
        """Whether two tensors of the same shape hold the same numbers, found out in little memory."""
        size = math.prod(self.shape)
        ours, theirs = (np.empty(min(PIECE, size), np.float32) for _ in range(2))
        for start in range(0, size, PIECE):
            n = min(PIECE, size - start)
            self._read_piece(start, ours[:n])
            other._read_piece(start, theirs[:n])
            if not np.array_equal(ours[:n], theirs[:n]):
                return False
        return True

    def _read_piece(self, start: int, piece: Float32[np.ndarray, " n"]) -> None:
        """Fill `piece` with the numbers from number `start` on."""
        dtype = np.dtype(STORED_TYPES[self.dtype])
        stored = piece if dtype == np.float32 else np.empty(piece.size, dtype)
        self.file.read_into(stored, self.first_byte + start * dtype.itemsize, self.name)
        if stored is not piece:
            with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which is refused below
                piece[:] = widen(stored) if self.dtype == "BF16" else stored
        if not np.isfinite(piece).all():
            culprit = stored[~np.isfinite(piece)][0] if self.dtype == "F64" else piece[~np.isfinite(piece)][0]
            raise CheckpointError(
                f"{self.file.path}: {quote(self.name)} holds {culprit}, not only finite float32 "
                "numbers; the file is damaged, or the training that made it diverged."
            )


def widen(bfloat16: UInt16[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """The float32 whose upper half these bits are: that is what bfloat16 means."""
    return (bfloat16.astype(np.uint32) << 16).view(np.float32)


def aligned_empty(shape: Shape) -> Float[np.ndarray, "..."]:
    """An uninitialised float32 array, in row-major order, that starts on a cache line."""
    n_bytes = 4 * math.prod(shape)
    buffer = np.empty(n_bytes + ALIGNMENT, np.uint8)
    offset = -buffer.ctypes.data % ALIGNMENT
    return buffer[offset : offset + n_bytes].view(np.float32).reshape(shape)


# --------------------------------------------------------------------------------------- one file of them


class TensorFile:
    """An opened safetensors file: its tensors, of which nothing but the header has been read."""

    def __init__(self, path: Path, longest_header: int = LONGEST_JSON) -> None:
        self.path = path
        self._file: BinaryIO = open_file(path)
        self._before = os.fstat(self._file.fileno())
        try:
            self.tensors = self._read_header(longest_header)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the descriptor back."""
        self._file.close()

    def read_into(self, array: np.ndarray, first_byte: int, name: str) -> None:
        """Fill an array from a place among the numbers."""
        try:
            self._file.seek(self._start + first_byte)
            n_bytes = self._file.readinto(array)  # type: ignore[attr-defined]
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read: {error.strerror}.") from None
        if n_bytes != array.nbytes:
            raise CheckpointError(f"{self.path}: the file ends within {quote(name)}.")

    def check_unchanged(self, by_name: bool) -> None:
        """Raise `CheckpointError` if the file was written to since it was opened, or has lost its name."""
        now = os.fstat(self._file.fileno())
        same = (now.st_size, now.st_mtime_ns) == (self._before.st_size, self._before.st_mtime_ns)
        try:
            named = not by_name or os.path.samestat(now, self.path.stat())
        except OSError:
            named = False
        if not (same and named):
            raise CheckpointError(f"{self.path}: was changed while it was read; try again when it is whole.")

    def _read_header(self, longest: int) -> dict[str, StoredTensor]:
        size, beginning = self._before.st_size, self._file.read(64)
        length = int.from_bytes(beginning[:8], "little")
        if size < 8 or length > size - 8:
            raise CheckpointError(
                f"{self.path}: {recognise(beginning)}." if recognise(beginning) else
                f"{self.path}: not a safetensors file, or cut short: it has {size:,} bytes, "
                f"and its header alone is said to have {length:,}."
            )  # fmt: skip
        if length > longest:
            raise CheckpointError(
                f"{self.path}: its header has {length:,} bytes; those of all files of a GPT-2 together "
                f"have up to {LONGEST_JSON:,}."
            )
        self.header_bytes, self._start = length, 8 + length
        self._file.seek(8)
        header = parse_json(self._file.read(length), self.path)
        if not isinstance(header, dict):
            raise CheckpointError(f"{self.path}: its header is {quote(header)}; expected an object.")
        self.metadata = header.pop("__metadata__", None)
        if not header:
            raise CheckpointError(f"{self.path}: holds no tensors, so no blocks either (h.0 and so on).")
        tensors = {name: self._tensor(name, entry) for name, entry in header.items()}
        self._check_places(tensors.values(), size - self._start)
        return tensors

    def _tensor(self, name: str, entry: Any) -> StoredTensor:
        if isinstance(entry, dict):  # as safetensors writes it; it also reads a list of the values
            entry = [entry.get(key) for key in ("dtype", "shape", "data_offsets")]
        match entry:
            case [str(dtype), [*shape], [first, last]] if len(shape) <= 64 and all(
                type(n) is int and 0 <= n < 1 << 63 for n in (*shape, first, last)
            ):
                return StoredTensor(name, self, dtype, tuple(shape), first, last)
        raise CheckpointError(
            f"{self.path}: {quote(name)} is described as {quote(entry)}; expected dtype, shape and "
            "data_offsets."
        )

    def _check_places(self, tensors: Iterable[StoredTensor], n_bytes: int) -> None:
        """Every byte belongs to one tensor, and each tensor has the bytes that its shape needs."""
        end = 0
        for tensor in sorted(tensors, key=lambda tensor: (tensor.first_byte, tensor.last_byte)):
            if tensor.dtype not in SIZES:
                raise CheckpointError(f"{self.path}: {quote(tensor.name)} {other_type(tensor.dtype)}")
            needed = math.prod(tensor.shape) * SIZES[tensor.dtype]
            if tensor.first_byte != end or tensor.last_byte - end != needed:
                raise CheckpointError(
                    f"{self.path}: its header is damaged: {quote(tensor.name)}, {quote(tensor.dtype)} "
                    f"{quote(tensor.shape)}, is said to be bytes {tensor.first_byte:,} to "
                    f"{tensor.last_byte:,}; expected {needed:,} bytes from {end:,} on."
                )
            end = tensor.last_byte
        if end != n_bytes:
            raise CheckpointError(
                f"{self.path}: cut short or damaged: it holds {n_bytes:,} bytes of numbers, and its header "
                f"describes {end:,}."
            )


def other_type(dtype: str) -> str:
    """The end of the sentence that refuses a tensor for its type."""
    return (
        f"has dtype {quote(dtype)}; expected {', '.join(STORED_TYPES)}. If it is quantised, take the "
        "original checkpoint."
    )


# ------------------------------------------------------------------------------------- a whole checkpoint


@contextmanager
def open_tensors(path: Path) -> Iterator[dict[str, StoredTensor]]:
    """Every tensor of a checkpoint, by the name that the file gives it, for as long as its files are open.

    `path` is a safetensors file, or a folder with `model.safetensors` or, if the checkpoint is cut into
    shards, with `model.safetensors.index.json`. Raises `CheckpointError` with the culprit's name; at the end,
    too, if what has been read was changed meanwhile.
    """
    with ExitStack() as stack:

        def open_one(path: Path, longest: int = LONGEST_JSON) -> TensorFile:
            return stack.enter_context(closing(TensorFile(path, longest)))

        if not is_folder(path):
            files = [open_one(path)]
        elif present(path / SINGLE_FILE):
            files = [open_one(path / SINGLE_FILE)]
        elif present(path / INDEX_FILE):
            files = _open_shards(path, open_one)
        else:
            raise CheckpointError(f"{path}: no {SINGLE_FILE} (or {INDEX_FILE}) in this folder{instead(path)}")
        yield {name: tensor for file in files for name, tensor in file.tensors.items()}
        for file in files:
            file.check_unchanged(by_name=len(files) > 1)


def _open_shards(folder: Path, open_one: Callable[[Path, int], TensorFile]) -> list[TensorFile]:
    """The files that the index names, if they hold what it promises, each tensor once."""
    index = read_index(folder / INDEX_FILE)
    longest, files = LONGEST_JSON, dict[str, TensorFile]()
    owners: dict[str, str] = {}
    for shard in shard_names(index):
        if not present(folder / shard):
            raise CheckpointError(f"{folder / shard}: there is no such file, which {INDEX_FILE} names.")
        file = files[shard] = open_one(folder / shard, longest)
        longest -= file.header_bytes
        for name in file.tensors:
            if name in owners:
                raise CheckpointError(f"{folder}: {quote(name)} is in {owners[name]} and in {shard}.")
            owners[name] = shard
    for name, shard in index.items():
        if name not in files[shard].tensors:
            raise CheckpointError(f"{folder / shard}: {quote(name)} is missing, which {INDEX_FILE} promises.")
    return list(files.values())


def read_index(path: Path) -> dict[str, str]:
    """The `weight_map` of a sharded checkpoint: tensor name -> name of the shard's file.

    Raises `CheckpointError` for anything but plain file names, so that no index leads out of its folder.
    """
    index = read_json(path)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: there is no 'weight_map' from tensor names to files.")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not re.fullmatch(r"\w[\w.-]{0,99}\.safetensors", shard, re.ASCII):
            raise CheckpointError(
                f"{path}: {quote(name)} is said to be in {quote(shard)}; "
                "a shard is a .safetensors file in the same folder."
            )
    if len(shard_names(weight_map)) > MOST_SHARDS:
        raise CheckpointError(
            f"{path}: names {len(shard_names(weight_map)):,} files; expected at most {MOST_SHARDS}. Save the "
            "checkpoint in larger shards (max_shard_size of transformers)."
        )
    return weight_map


def shard_names(index: dict[str, str]) -> list[str]:
    """The files of a sharded checkpoint, each once, sorted."""
    return sorted(set(index.values()))


# ------------------------------------------------------------------------------- what there is instead


CONVERT = (
    "That is a pickle, which can run any code when it is opened, so minigpt does not open it; convert it "
    "where you trust it: transformers.GPT2LMHeadModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)."
)
# What people have where a checkpoint should be, the most telling first: a pattern of names, and the way on.
OTHERS = {
    r"adapter_(config\.json|model\..+)": "That is a PEFT adapter; merge it into its base model first: "
    "peft's merge_and_unload(), then save_pretrained(NEW_FOLDER).",
    r"model-\d+-of-\d+\.safetensors": f"That is a shard; {INDEX_FILE}, which joins them, is missing.",
    r".+\.safetensors": "If that is the model, give the path of the file itself.",
    r".+\.(bin|pt|pth|ckpt|pkl)": CONVERT,
    r".+\.gguf": "That is llama.cpp's format; take the original checkpoint.",
    r".+\.(h5|msgpack|ot|onnx)|model\.ckpt.*": "That is another library's format; take the safetensors of "
    "the original checkpoint, or convert it with transformers.",
    r"checkpoint-\d+": "That is a folder as transformers' Trainer writes it; give its path.",
}


def instead(folder: Path) -> str:
    """The end of the sentence that says what a folder lacks: what it holds in its place, and the way on."""
    try:
        return instead_among(os.listdir(folder))  # noqa: PTH208 - names, not paths
    except OSError as error:
        return f", which cannot be read: {error.strerror}."


def instead_among(names: Iterable[str]) -> str:
    """The same for the names of files."""
    for pattern, advice in OTHERS.items():
        for name in sorted(names):
            if re.fullmatch(pattern, name):
                return f", only {quote(name)}. {advice}"
    return "."
