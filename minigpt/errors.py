"""What can go wrong, as exceptions whose messages are written for the person who reads them.

Every failure that a user can cause is a `MiniGPTError`. Its message is one sentence or two: the thing
that is wrong, what was found, what was expected, and the way out. The subclasses exist so that a caller
can tell the kinds apart.

What a person should know although nothing failed is a notice: one line on standard error. Tokens, files
and people hold anything: ESC, half of a character, a right-to-left mark. A line that tells of them must not
steer the terminal, nor may it fail: who closed standard error still gets the output.
"""

import contextlib
import os
import sys
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import Any


class MiniGPTError(Exception):
    """Base class of every error that minigpt raises on purpose."""


class InputError(MiniGPTError, ValueError):
    """An argument is out of range: token ids, text, temperature."""


class ContextLengthError(InputError):
    """More tokens than the model has positions for."""


class HookError(MiniGPTError, ValueError):
    """A hook returned something other than an array of the shape it was given."""


class ConfigError(MiniGPTError, ValueError):
    """A config names something that GPT-2 is not, or that this implementation does not compute."""


class NumericsError(MiniGPTError):
    """The model's numbers overflowed or were never numbers, so that nothing can be said about a token."""


class CheckpointError(MiniGPTError):
    """A checkpoint is missing, broken, or does not hold the tensors its config asks for."""


class DownloadError(MiniGPTError):
    """The Hub could not be reached, refused, or sent something else than it promised."""


# -------------------------------------------------------------------------------------------------- notices

# Categories of Unicode that steer a terminal instead of being drawn: controls, formatting (zero-width and
# right-to-left marks), surrogates, line and paragraph separators.
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def notice(message: str) -> None:
    """Say something in one line on standard error, where it does not mix with the output."""
    print_error(f"minigpt: {' '.join(harmless(message).split())}")


def print_error(line: str) -> None:
    """Print on standard error if anybody can read there."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # its reader is gone, or the disk is full
        discard(sys.stderr)


def discard(stream: Any) -> None:
    """Let what is left in a stream go nowhere: Python would try it once more at its end, and complain."""
    with contextlib.suppress(OSError):  # io.UnsupportedOperation: the stream is in memory
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def harmless(text: str) -> str:
    """Running text as it is, lines and emoji included, but no character that steers the terminal."""
    return "".join(escape(c) if _steers(c) else c for c in text)


def escape(character: str) -> str:
    """The character as Python writes it: `\\n`, `\\x1b`, `\\u202e`."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no character, as `surrogateescape` keeps it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", errors="backslashreplace").decode("ascii")


def brief(value: object, write: Callable[[Any], str] = str, longest: int = 60) -> str:
    """A value for a message of one line, whatever it is and however long; `write` is `str` or `repr`."""
    if isinstance(value, int) and abs(value) > 1e20:
        return f"{Decimal(value):.2e}"  # which has no limit of digits
    try:
        text = " ".join(write(value).split())
    except Exception:  # a class may do anything here, and a list of integers of 5,000 digits ends here, too
        text = f"a {type(value).__name__}"
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _steers(character: str) -> bool:
    if character in "\n\t\u200c\u200d":  # the joiners belong to emoji and to several scripts
        return False
    return unicodedata.category(character) in STEERING
