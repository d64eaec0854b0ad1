"""Text from files and from standard input, as a model should read it.

A byte-order mark, CRLF line ends and the line end at the end of a file are about the file, and a model takes
them for text: they can turn a perplexity of 38 into one of 4,593.
"""

import re
import sys
from dataclasses import dataclass

from ..errors import InputError, notice
from ..files import LONGEST_TEXT, MEBIBYTE, read_at_most, read_file

LONGEST_PROMPT = 32 * MEBIBYTE  # of which no model reads one in a hundred: `yes | minigpt -` has no end
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class TextFile:
    """A text, what to call it, and what reading it has changed, in words."""

    name: str
    text: str
    notes: list[str]


def read_text(file: str, *, special: bool) -> TextFile:
    """The text of a file, of which `-` is standard input, without what is about the file alone.

    `special` says that `<|endoftext|>` is meant as the token. Raises `InputError` for what is no text.
    """
    name, text = read_utf8(file, LONGEST_TEXT)
    text, notes = plain(text)
    if text.endswith("\n"):
        text = text.rstrip("\n")
        notes.append("the line ends at the end were left out")
    if count := text.count(END_OF_TEXT):
        times = "once" if count == 1 else f"{count:,} times"
        reading = "the token" if special else "text (--special reads the token)"
        notes.append(f"{END_OF_TEXT} occurs {times} and was read as {reading}")
    elif special:
        notes.append(f"there is no {END_OF_TEXT} in it")
    return TextFile(name, text, notes)


def read_prompt(word: str) -> str:
    """The prompt that a word stands for; `-` is standard input, without the line end that `echo` puts."""
    if word != "-":
        return word
    name, text = read_utf8(word, LONGEST_PROMPT)
    text, notes = plain(text.removesuffix("\n").removesuffix("\r"))
    if notes:
        notice(f"{name}: {', '.join(notes)}.")
    return text


def plain(text: str) -> tuple[str, list[str]]:
    """The text without a byte-order mark and with line feeds alone, and what that has changed."""
    notes = []
    if text.startswith("\ufeff"):
        text = text[1:]
        notes.append("the byte-order mark was taken off")
    text, n_ends = re.subn("\r\n", "\n", text)
    if n_ends:
        notes.append(f"{n_ends:,} CRLF line ends were read as LF")
    return text, notes


def read_utf8(file: str, longest: int) -> tuple[str, str]:
    """What to call a file, and its text. Raises `InputError` for one that is no text, or too long."""
    name = "standard input" if file == "-" else file
    if file == "-" and sys.stdin is None:
        raise InputError(f"{name}: it is closed; - needs a text there.")
    try:
        content = read_at_most(sys.stdin.buffer, longest, name) if file == "-" else read_file(file, longest)
        return name, content.decode("utf-8")
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}; give a text file, or - for standard input.") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise InputError(
            f"{name}: byte {error.start:,} is 0x{byte:02x}, and not UTF-8; save the text as UTF-8."
        ) from None
