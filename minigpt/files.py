"""Writing a file so that nobody ever sees half of it, or has it written somewhere else."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from .errors import MiniGPTError


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
    if path.is_symlink() and hasattr(os, "getuid") and path.lstat().st_uid != os.getuid():
        raise MiniGPTError(f"{path}: is a link that somebody else made; give another name.")
    return Path(os.path.realpath(path))
