"""Opens the files of a checkpoint, trusting neither their names nor what they hold.

A name can come to mean another file at any moment, so everything is decided on the file that has been
opened: that it is an ordinary one, and that it lies in the folder it was looked for in.
"""

import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import CheckpointError, brief

# The header of the official gpt2-xl has 60 kB. JSON takes up to fifty times its length in memory.
LONGEST_JSON = 2 << 20
DEEPEST_JSON = 64  # a tokenizer.json is 8 deep; the parser of JSON calls itself for each bracket
MOST_MARKS = (
    3 << 19
)  # commas and brackets; GPT-2's tokenizer.json has 250,000. Each value takes up to 200 bytes


def quote(value: object, longest: int = 80) -> str:
    """A name or value out of a file, safe to print: quoted, escaped, on one line and not too long."""
    return brief(value, repr, longest)


def present(path: Path) -> bool:
    """Whether a folder has an entry of that name; a link to nowhere counts, and is an error when read."""
    return os.path.lexists(path)  # unlike Path.exists, it takes a folder that is forbidden for an empty one


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; one that is forbidden counts as absent."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises PermissionError


def folder_of(path: Path) -> Path:
    """The folder of a checkpoint, which may be given as its safetensors file."""
    return path if is_folder(path) else path.parent


# ------------------------------------------------------------------------------------------------ opening


def open_file(path: Path) -> BinaryIO:
    """An ordinary file in its folder, opened for reading. Raises `CheckpointError` if it is none."""
    home, target = Path(os.path.realpath(path.parent)), Path(os.path.realpath(path))
    if target.parent != home and not _is_blob(target, home):
        raise CheckpointError(
            f"{path}: a symbolic link that leads out of its folder, to {target}; copy the file instead."
        )
    try:
        file = open(target, "rb", opener=_open_itself)  # noqa: SIM115 - Path.open takes no opener
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CheckpointError(f"{path}: {_why_closed(path, error)}.") from None
    if problem := _what_is_wrong(file, target):
        file.close()
        raise CheckpointError(f"{path}: {problem}.")
    return file


def _open_itself(path: str, flags: int) -> int:
    """Open what has that name: no link that was put there since, and no pipe that waits for a writer."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _what_is_wrong(file: BinaryIO, target: Path) -> str | None:
    opened = os.fstat(file.fileno())
    if not stat.S_ISREG(opened.st_mode):
        return "not a regular file"
    try:
        same = os.path.samestat(opened, target.lstat())
    except OSError:
        same = False
    return None if same else "was replaced while it was opened; try again"


def _why_closed(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, IsADirectoryError):
        return "not a regular file"
    if path.is_symlink() and not path.exists():
        return "a symbolic link that leads nowhere"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "there is no such file"
    if getattr(error, "errno", None) == errno.ELOOP:
        return "was replaced while it was opened; try again"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _is_blob(target: Path, folder: Path) -> bool:
    """Whether a link leads to where the Hub's client keeps the content of a snapshot's files.

    `models--<owner>--<name>/snapshots/<commit>/<file>` is a link into `models--<owner>--<name>/blobs`, or
    into the `blobs/<two digits>` that the repositories of one cache share since huggingface_hub 2.
    """
    if folder.parent.name != "snapshots" or not folder.parents[1].name.startswith("models--"):
        return False
    repository = folder.parents[1]
    shared = target.parents[1] == repository.parent / "blobs" and re.fullmatch("[0-9a-f]{64}", target.name)
    return target.parent == repository / "blobs" or bool(shared)


# --------------------------------------------------------------------------------------------- small files


def read_bytes(path: Path, longest: int) -> bytes:
    """A whole small file. Raises `CheckpointError` if it cannot be read or is longer than `longest`."""
    with open_file(path) as file:
        try:
            content = file.read(longest + 1)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from None
    if len(content) > longest:
        raise CheckpointError(f"{path}: longer than {longest >> 20} MB, which no file of this kind is.")
    return content


def read_json(path: Path, longest: int = LONGEST_JSON) -> Any:
    """The content of a JSON file. Raises `CheckpointError` if it is none, or longer than `longest` bytes."""
    return parse_json(read_bytes(path, longest), path)


def parse_json(text: bytes, place: Path | str) -> Any:
    """JSON in UTF-8, in which no key may occur twice: two readers might then see two different files."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in pairs:
            if name in result:
                raise CheckpointError(f"{place}: {quote(name)} occurs twice.")
            result[name] = value
        return result

    if other := recognise(text):
        raise CheckpointError(f"{place}: {other}.")
    if sum(map(text.count, (b",", b"[", b"{", b"]", b"}"))) > MOST_MARKS:
        raise CheckpointError(f"{place}: holds over a million values, which no file of its kind does.")
    if _depth(text) > DEEPEST_JSON:
        raise CheckpointError(f"{place}: not valid JSON of its kind: brackets are nested too deep.")
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except UnicodeDecodeError:
        raise CheckpointError(f"{place}: is not UTF-8, as JSON is.") from None
    except ValueError as error:
        raise CheckpointError(f"{place}: not valid JSON ({quote(str(error))}).") from None


def _depth(text: bytes) -> int:
    """How deep brackets are nested, those in strings not counted."""
    codes = np.frombuffer(text.replace(rb"\\", b"").replace(rb"\"", b""), np.uint8)
    outside = ~np.logical_xor.accumulate(codes == ord('"'))
    steps = np.frombuffer(codes.tobytes().translate(STEPS), np.int8)
    return int(np.cumsum(steps[outside & (steps != 0)], dtype=np.int32).max(initial=0))


# 1 for an opening bracket, -1 for a closing one.
STEPS = bytes(1 if code in b"[{" else 255 if code in b"]}" else 0 for code in range(256))


# ------------------------------------------------------------------------------- what there is instead

# How files begin that are taken for a checkpoint's.
BEGINNINGS = {
    b"version https://git-lfs": "a git-lfs pointer and not the file itself, which `git lfs pull` brings",
    b"GGUF": "a GGUF file, llama.cpp's; take the original checkpoint",
    b"\x89HDF": "an HDF5 file, as TensorFlow writes it; take the safetensors of the original checkpoint",
    b"PK\x03\x04": "a zip archive, as torch.save writes it; it holds a pickle, which minigpt does not open",
    b"<": "a web page; download the file itself",
}


def recognise(content: bytes) -> str | None:
    """What a file is that begins like this, in words, if it is one that people have by mistake."""
    for beginning, words in BEGINNINGS.items():
        if content.startswith(beginning):
            return words
    return None
