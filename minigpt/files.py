"""Writing a file so that nobody ever sees half of it."""

import secrets
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text; if that fails, with `OSError`, an older file of that name stays as it was."""
    partial = path.with_name(f".minigpt-{secrets.token_hex(8)}.tmp")
    try:
        with partial.open("xb") as file:
            file.write(text.encode())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
