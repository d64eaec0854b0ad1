"""Files of people: read within bounds, and written so that nobody sees half of one."""

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import InputError, MiniGPTError, brief

MEBIBYTE = 1 << 20
LONGEST_TEXT = 1024 * MEBIBYTE  # /dev/zero and `yes` have no end


def read_file(file: str | Path, longest: int) -> bytes:
    """The bytes of a file. Raises `OSError` if it cannot be read, and `InputError` if it is longer."""
    try:
        with open(file, "rb") as stream:  # noqa: PTH123 - an empty name is an error here, and "." for a Path
            return read_at_most(stream, longest, str(file))
    except InputError:
        raise
    except ValueError:  # a NUL in it
        raise OSError(errno.EINVAL, "no file can have this name") from None


def read_at_most(stream: Any, longest: int, name: str) -> bytes:
    """All bytes of a stream. Raises `InputError` as soon as there are more than `longest`."""
    content: bytes = stream.read(longest + 1)
    if len(content) > longest:
        raise InputError(f"{name}: more than {longest // MEBIBYTE:,} MiB; give a shorter text.")
    return content


def checked_path(name: str, path: Any) -> Path:
    """The argument `name` as a path, `~` being the user's own; `InputError` for one that nothing can have."""
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise InputError(f"{name}: found {type(path).__name__}; expected a path.")
    words = os.path.expanduser(path)  # noqa: PTH111 - which leaves `~nobody` as it is
    try:
        os.fsencode(words)
    except UnicodeEncodeError:  # half of a character
        words = ""
    if not words or "\0" in words:
        raise InputError(
            f"{name}: found {brief(path, repr)}; expected the path of a file or folder to write."
        )
    return Path(words)


def write_whole(path: Path, text: str) -> None:
    """Write a text; if that fails, with `OSError`, an older file of that name stays as it was.

    An older file keeps its permissions. The text is first written beside it, under a name that nobody can
    have prepared.
    """
    partial = path.with_name(f".minigpt-{secrets.token_hex(8)}.tmp")
    try:
        with partial.open("xb") as file:
            file.write(text.encode())
        with suppress(FileNotFoundError):
            partial.chmod(stat.S_IMODE(path.stat().st_mode))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def follow_own_link(path: Path) -> Path:
    """Where a path leads. A link is followed if whoever runs this made it: another's may lead anywhere.

    Raises `MiniGPTError` for a link of somebody else.
    """
    is_link = os.path.islink(path)  # noqa: PTH114 - which finds no link under a name that nothing can have
    if is_link and hasattr(os, "getuid") and path.lstat().st_uid != os.getuid():
        raise MiniGPTError(f"{path}: is a link that somebody else made; give another name.")
    return Path(os.path.realpath(path))
