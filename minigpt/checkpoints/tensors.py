"""Reads tensors out of safetensors files, trusting nothing that a file claims about itself.

A safetensors file is eight bytes of length, a JSON header of that length (name -> dtype, shape, first and
last byte), and then the raw numbers. safetensors' own `safe_open` validates the header: every tensor
inside the file, no overlap, no gap, byte counts that fit the shapes. What it leaves open is checked here:
that no name occurs twice, that a header is not absurdly long, that an index stays within its folder.

The numbers are read straight from their place in the file into new, aligned arrays, piece by piece, so
that loading takes no more memory than the parameters themselves. Where the file's data starts is up to the
header's length (byte 14,291 in the official `gpt2`), and BLAS crawls on what is not aligned.

Format: README of huggingface/safetensors, "Format".
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float, Float32, UInt16

from ..errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# The header of the official gpt2-xl has 60 kB. JSON is parsed before anything in it can be trusted, and takes
# up to fifty times its length in memory.
LONGEST_JSON = 2 << 20
ALIGNMENT = 64  # bytes: a cache line, and the widest vector register
PIECE = 1 << 16  # numbers read at a time; a piece stays in the processor's cache until it is checked
# As stored, little-endian. NumPy has no bfloat16: it is the upper half of a float32.
STORED_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def shown(value: object, longest: int = 80) -> str:
    """A name or value out of a file, safe to print: quoted, escaped, on one line and not too long."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: nothing of it has been read yet."""

    name: str  # as the file spells it
    file: Path
    dtype: str  # safetensors' word, such as "F32"
    shape: tuple[int, ...]
    first_byte: int  # counted from the start of the file

    def read(self) -> Float[np.ndarray, "..."]:
        """The numbers as an aligned float32 array.

        Raises `CheckpointError` if the file is shorter than its header says, or a number is not finite.
        """
        array = aligned_empty(self.shape)
        flat, start = array.reshape(-1), 0
        for piece in self.pieces():
            flat[start : start + piece.size] = piece
            start += piece.size
        return array

    def equals(self, other: "StoredTensor") -> bool:
        """Whether two tensors of the same shape hold the same numbers, found out in little memory."""
        return all(np.array_equal(*pair) for pair in zip(self.pieces(), other.pieces(), strict=True))

    def pieces(self) -> Iterator[Float[np.ndarray, " n"]]:
        """The numbers in order, a few at a time; float16 and bfloat16 are widened to float32, exactly."""
        with _open(self.file) as file:
            file.seek(self.first_byte)
            missing = int(np.prod(self.shape, dtype=np.int64))
            while missing:
                stored = np.empty(min(missing, PIECE), STORED_TYPES[self.dtype])
                if file.readinto(stored.data) != stored.nbytes:  # type: ignore[attr-defined]
                    raise CheckpointError(f"{self.file}: the file ends within {shown(self.name)}.")
                missing -= stored.size
                wide = widened(stored) if self.dtype == "BF16" else stored.astype(np.float32, copy=False)
                yield self._finite(wide)

    def _finite(self, piece: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        if np.isfinite(piece).all():
            return piece
        raise CheckpointError(
            f"{self.file}: {shown(self.name)} holds {piece[~np.isfinite(piece)][0]}, not only finite "
            "numbers; the file is damaged, or the training that made it diverged."
        )


def widened(bfloat16: UInt16[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """The float32 whose upper half these bits are: that is what bfloat16 means."""
    return (bfloat16.astype(np.uint32) << 16).view(np.float32)


def aligned_empty(shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """An uninitialised float32 array, in row-major order, that starts on a cache line."""
    n_bytes = 4 * int(np.prod(shape, dtype=np.int64))
    buffer = np.empty(n_bytes + ALIGNMENT, np.uint8)
    offset = -buffer.ctypes.data % ALIGNMENT
    return buffer[offset : offset + n_bytes].view(np.float32).reshape(shape)


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint, by the name that the file gives it.

    `path` is a safetensors file, or a folder with `model.safetensors` or, if the checkpoint is cut into
    shards, with `model.safetensors.index.json`. Raises `CheckpointError` with the culprit's name.
    """
    if path.is_file():
        return _read_header(path)
    if present(path / SINGLE_FILE):
        return _read_header(inside(path, SINGLE_FILE))
    if not present(path / INDEX_FILE):
        raise CheckpointError(_no_weights(path))
    index = read_index(inside(path, INDEX_FILE))
    tensors: dict[str, StoredTensor] = {}
    for shard in shard_names(index):
        if not present(path / shard):
            raise CheckpointError(f"{path / shard}: there is no such file, which {INDEX_FILE} names.")
        for name, tensor in _read_header(inside(path, shard)).items():
            if name in tensors:
                raise CheckpointError(
                    f"{path}: {shown(name)} is in {tensors[name].file.name} and in {shard}."
                )
            tensors[name] = tensor
    for name, shard in index.items():
        if name not in tensors or tensors[name].file.name != shard:
            raise CheckpointError(f"{path / shard}: {shown(name)} is missing, which {INDEX_FILE} promises.")
    return tensors


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
                f"{path}: {shown(name)} is said to be in {shown(shard)}; "
                "a shard is a .safetensors file in the same folder."
            )
    return weight_map


def shard_names(index: dict[str, str]) -> list[str]:
    """The files of a sharded checkpoint, each once, sorted."""
    return sorted(set(index.values()))


def inside(folder: Path, name: str) -> Path:
    """The file of that name in a folder, unless a symbolic link leads out of the folder.

    The Hub's cache is made of such links (`snapshots/<revision>/<file>` points into `blobs/`), so there
    anything within the cache is inside.
    """
    path, home = folder / name, folder.resolve()
    # <cache>/models--<owner>--<name>/snapshots/<revision>
    if home.parent.name == "snapshots" and home.parents[1].name.startswith("models--"):
        home = home.parents[2]
    try:
        target = path.resolve()
    except (OSError, RuntimeError):  # RuntimeError: a link to itself, before Python 3.13
        raise CheckpointError(f"{path}: a symbolic link that leads nowhere.") from None
    if not target.is_relative_to(home):
        raise CheckpointError(
            f"{path}: a symbolic link that leads out of its folder, to {target}; copy the file instead."
        )
    return path


def read_json(path: Path, longest: int = LONGEST_JSON) -> Any:
    """The content of a JSON file. Raises `CheckpointError` if it is none, or longer than `longest` bytes."""
    return parse_json(read_bytes(path, longest), path)


def read_bytes(path: Path, longest: int) -> bytes:
    """A whole small file. Raises `CheckpointError` if it cannot be read or is longer than `longest`."""
    with _open(path) as file:
        content = file.read(longest + 1)
    if len(content) > longest:
        raise CheckpointError(f"{path}: longer than {longest >> 20} MB, which no file of this kind is.")
    return content


def parse_json(text: bytes, path: Path) -> Any:
    """JSON in UTF-8, in which no key may occur twice: two readers might then see two different files."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in pairs:
            if name in result:
                raise CheckpointError(f"{path}: {shown(name)} occurs twice.")
            result[name] = value
        return result

    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, or not JSON
        raise CheckpointError(f"{path}: not valid JSON ({shown(str(error))}).") from None


def _read_header(path: Path) -> dict[str, StoredTensor]:
    with _open(path) as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise CheckpointError(
                f"{path}: not a safetensors file, or cut short: it has {size:,} bytes, "
                f"and its header alone is said to have {length:,}."
            )
        if length > LONGEST_JSON:
            raise CheckpointError(
                f"{path}: its header is said to have {length:,} bytes; a GPT-2's has up to {LONGEST_JSON:,}."
            )
        header = parse_json(file.read(length), path)
    _validate(path)
    header.pop("__metadata__", None)
    if not header:
        raise CheckpointError(f"{path}: holds no tensors, so no blocks either (h.0 and so on).")
    return {
        name: StoredTensor(
            name, path, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0]
        )
        for name, entry in header.items()
    }


def _validate(path: Path) -> None:
    """Let safetensors check the header: dtypes, shapes, and offsets that tile the file exactly."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a valid safetensors file: {shown(str(error), 200)}.") from None


def present(path: Path) -> bool:
    """Whether a folder has an entry of that name; a link to nowhere counts, and is an error when read."""
    return path.exists() or path.is_symlink()


def _open(path: Path) -> BinaryIO:
    if not path.is_file():  # a pipe or a device could block for ever
        problem = "not a regular file" if path.exists() else "there is no such file"
        raise CheckpointError(f"{path}: {problem}.")
    try:
        return path.open("rb")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from None


def pickled(names: Iterable[str]) -> list[str]:
    """Those file names that are pickles, as torch writes them: opening one can run any code it holds."""
    return [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))]


def _no_weights(folder: Path) -> str:
    expected = f"{folder}: no {SINGLE_FILE} (or {INDEX_FILE}) in this folder"
    found = pickled(sorted(path.name for path in folder.iterdir()))
    return f"{expected}, only {found[0]}. {CONVERT}" if found else f"{expected}."


CONVERT = (
    "That is a pickle, which can run any code when it is opened, so minigpt does not open it; convert it "
    "where you trust it: transformers.GPT2LMHeadModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)."
)
