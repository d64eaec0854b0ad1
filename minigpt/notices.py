"""Messages of one line on standard error, and text that is harmless wherever it is shown.

Tokens, files and people hold anything: ESC, half of a character, a right-to-left mark. A line that tells of
them must not steer the terminal, nor may it fail: who closed standard error still gets the output.
"""

import contextlib
import os
import sys
import unicodedata
from typing import Any

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


def _steers(character: str) -> bool:
    if character in "\n\t\u200c\u200d":  # the joiners belong to emoji and to several scripts
        return False
    return unicodedata.category(character) in STEERING
