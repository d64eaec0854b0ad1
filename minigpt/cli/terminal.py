"""What a terminal can show: text made visible, tables, sparklines.

Tokens hold anything that a byte sequence can: ESC, half of a character, a right-to-left mark. No text
from a model, a file or a person goes to the terminal but through `visible` or `harmless`. Rich draws
tables and colours; it is imported when the first of them is drawn, because `--json` needs neither.
"""

import codecs
import functools
import math
import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import STEERING, escape
from ..errors import harmless as harmless  # noqa: PLC0414 - `visible` and `harmless` go together

if TYPE_CHECKING:
    import rich.console
    import rich.padding
    import rich.table

    from ..tokenizer import AnyTokenizer

# What nobody can see for what it is: what steers, private and unassigned characters, and all spaces.
UNSEEN = STEERING | {"Co", "Cn", "Zs"}
# One column each, for encodings that lack a character: an ASCII locale, the code pages of Windows.
STAND_INS = str.maketrans(
    "␣…·×─━│→←↑↓⏎≈≤≥–—’‘“”•█▉▊▋▌▍▎▏▁▂▃▄▅▆▇░▒▓�",
    "_~.x--|><^v/~<>--''\"\"*####    .,:-=+*.:%?",
)
Stream = Any  # anything to write text to; typing.TextIO is more than a StringIO can do
LEVELS = "▁▂▃▄▅▆▇█"
WIDEST = 110  # columns; longer lines are hard to read
NARROWEST = 20  # columns of running text beside others


@functools.lru_cache(1 << 17)  # a page shows every token, and the next page the same ones
def visible(text: str | bytes) -> str:
    """A token's text so that all of it is seen: spaces as ␣, and what cannot be drawn as an escape.

    Escapes are those of Python (`\\n`, `\\x1b`, `\\u202e`), and a backslash is doubled, so nothing is
    ambiguous. Give the token's bytes, and half a character shows as its bytes (`\\xf0\\x9f`).
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="surrogateescape")
    # A combining mark needs something before it to sit on; at the start it would sit on the table.
    start = unicodedata.category(text[0]).startswith("M") if text else False
    return "".join(escape(c) if start and i == 0 else _seen(c) for i, c in enumerate(text))


def visible_token(tokenizer: "AnyTokenizer", token_id: int) -> str:
    """A token for the eye; half a character shows as its bytes, and an id without a token as `<id 50257>`."""
    from ..tokenizer import bytes_of, nameless

    token = bytes_of(tokenizer, token_id)
    return token.decode() if token == nameless(token_id) else visible(token)


def _seen(character: str) -> str:
    known = {" ": "␣", "\\": "\\\\"}.get(character)
    return known or (escape(character) if unicodedata.category(character) in UNSEEN else character)


def console(file: Stream | None = None) -> "rich.console.Console":
    """A console as wide and as colourful as the terminal; plain text with NO_COLOR or without a terminal.

    Markup is off: `[red]` in a prompt is text. What the stream's encoding lacks becomes a stand-in.
    """
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # no failure for `cli.main`; rich would end the program with one

    stream = sys.stdout if file is None else file
    accept_any_character(stream)
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return Terminal(
        file=file,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        width=shutil.get_terminal_size().columns if dumb else None,
        markup=False,
        highlight=False,
        emoji=False,
    )


def accept_any_character(stream: Stream) -> None:
    """Make a stream replace what its encoding cannot show, instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="minigpt.stand_in")


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end].translate(STAND_INS)
    return missing.encode("ascii", errors="backslashreplace").decode("ascii"), error.end


codecs.register_error("minigpt.stand_in", _stand_in)


def cut(text: str, width: int) -> str:
    """A text in at most so many columns."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def table(*headers: str, right: Sequence[str] = ()) -> "rich.table.Table":
    """An empty table in the house style: no lines, one row per line; `right` names right-aligned columns."""
    from rich.table import Table

    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for header in headers:
        result.add_column(header, justify="right" if header in right else "left", no_wrap=True)
    return result


def print_rows(
    out: "rich.console.Console",
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[str] = (),
    wraps: str | None = None,
) -> None:
    """Print a table, or, in a terminal that is too narrow for it, each row on lines of its own.

    There the first cell stands above the others, and these have their headers before them: no number is left
    out. The column that `wraps` names takes what the others leave and needs no header there.
    """
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(headers, *rows, strict=True)]
    needed = [min(w, NARROWEST) if h == wraps else w for w, h in zip(widths, headers, strict=True)]
    if sum(needed) + 2 * (len(needed) - 1) <= out.width:
        result = table(*headers, right=right)
        result.show_header = any(headers)
        for header, column in zip(headers, result.columns, strict=True):
            column.no_wrap = header != wraps
        for row in rows:
            result.add_row(*row)
        out.print(result)
        return
    for first, *cells in rows:
        out.print(first.strip())
        named = zip(headers[1:], cells, strict=True)
        items = [cell if header in ("", wraps) else f"{header} {cell}" for header, cell in named if cell]
        out.print(*indented(items, out.width), sep="\n")


def indented(items: Sequence[str], width: int) -> "list[rich.padding.Padding]":
    """Short texts on indented lines, as many to a line as fit; what is longer than a line is wrapped."""
    from rich.cells import cell_len
    from rich.padding import Padding

    lines: list[str] = []
    for item in items:
        if lines and 2 + cell_len(lines[-1]) + 2 + cell_len(item) <= width:
            lines[-1] += f"  {item}"
        else:
            lines.append(item)
    return [Padding(line, (0, 0, 0, 2), expand=False) for line in lines]


def sparkline(values: Sequence[float | int]) -> str:
    """Numbers from 0 up as a row of small columns, the largest one full height."""
    largest = max(values, default=0.0) or 1.0
    levels = (math.ceil(len(LEVELS) * value / largest) for value in values)
    return "".join(LEVELS[min(max(level, 1), len(LEVELS)) - 1] for level in levels)
