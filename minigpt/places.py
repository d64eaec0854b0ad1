"""Where a function stands: looked up in the running code, so that what is shown cannot go stale."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def file_name(path: str | Path) -> str:
    """The file as a reader of the project calls it: `minigpt/model.py`; elsewhere its name alone."""
    file = Path(path)
    return (file.relative_to(ROOT) if file.is_relative_to(ROOT) else Path(file.name)).as_posix()


def definition(function: Callable[..., Any]) -> tuple[list[str], int]:
    """The source lines of a function from its `def` on, and the number of the first.

    There are no lines if Python was installed without sources; decorators do not count.
    """
    original = inspect.unwrap(function)
    try:
        lines, number = inspect.getsourcelines(original)
    except OSError:
        return [], original.__code__.co_firstlineno
    while not lines[0].lstrip().startswith("def "):
        lines, number = lines[1:], number + 1
    return lines, number
