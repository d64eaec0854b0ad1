"""Tables for the terminal: the one way in which rows and columns are laid out, whatever the width.

What does not fit is dropped, continued below or stacked, as the table asks; no number is cut in half.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, zip_longest
from typing import Any, Literal, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.padding import Padding
from rich.progress import Progress
from rich.text import Text

from .streams import Stream, accept_any_character

WIDEST = 110  # columns; longer lines are hard to read
NARROWEST = 20  # columns of running text beside others
SHORTEST_BAR, LONGEST_BAR = 8, 40
GAP = 2
PATIENCE = 2.0  # seconds that one waits without asking how long it will take

Cell = str | Text | float | None
Item = TypeVar("Item")


class Terminal(Console):
    """A console whose reader may leave: `cli.main` ends well then; rich would end with a failure."""

    def on_broken_pipe(self) -> None:
        """Let `cli.main` decide."""
        raise BrokenPipeError


def console(file: Stream | None = None) -> Console:
    """A console as wide and as colourful as the terminal; plain text with NO_COLOR or without a terminal.

    Markup is off: `[red]` in a prompt is text. What the stream's encoding lacks becomes a stand-in.
    """
    accept_any_character(sys.stdout if file is None else file)
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    out = Terminal(
        file=file,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        width=shutil.get_terminal_size().columns if dumb else None,
        markup=False,
        highlight=False,
        emoji=False,
    )
    if out.width < 1:  # a terminal that does not know its width says 0
        out.width = 80
    return out


@dataclass(frozen=True)
class Column:
    """A column of a table. One that is `flexible` takes the room that the others leave.

    There, text goes on below ("wrap") or loses its beginning ("end"), and numbers from 0 to 1 are bars. A
    `group` is a heading above this column and its neighbours of the same group.
    """

    header: str
    cells: Sequence[Cell]
    right: bool = False
    style: str = ""
    flexible: Literal["", "wrap", "end", "bar"] = ""
    group: str = ""

    @cached_property
    def widths(self) -> tuple[int, int]:
        """The least and the most that it can use."""
        if self.flexible == "bar":
            return SHORTEST_BAR, LONGEST_BAR
        widest = max(cell_len(str(cell)) for cell in (self.header, *self.cells))
        return min(widest, NARROWEST) if self.flexible else widest, widest


def print_table(
    out: Console,
    columns: Sequence[Column],
    *,
    drop: Sequence[Column] = (),
    narrow: Literal["stack", "continue"] = "stack",
    indent: int = 0,
    notes: Sequence[str] = (),
) -> None:
    """Print a table, with a note below each row if there are notes.

    In a terminal that is too narrow for it, the columns of `drop` go first, in that order. If it is still too
    wide, each row is stacked: its first cell stands above the others, and these have their headers before
    them. Or the columns go on in another table below, which begins with the first one again.
    """
    room, kept = out.width - indent, list(columns)
    for column in drop:
        if least_width(kept) <= room:
            break
        kept.remove(column)
    if narrow == "continue":
        for number, chunk in enumerate(chunks(kept[1:], room - kept[0].widths[0] - GAP)):
            if number:
                out.print()
            print_table(out, [kept[0], *chunk], indent=indent)
    elif least_width(kept) <= room:
        lines = list(lay_out(kept, room))
        n_heading = len(lines) - len(notes)  # a table with notes has one line for each row
        print_lines(out, lines[: n_heading if notes else None], indent)
        for line, note in zip(lines[n_heading:], notes, strict=False):
            print_lines(out, [line], indent)
            print_items(out, [note], indent + 2, "dim")
    else:
        for row in range(len(kept[0].cells)):
            out.print(Padding(stacked_cell(kept[0], row, room), (0, 0, 0, indent), expand=False))
            print_items(out, stacked_items(kept[1:], row), indent + 2)
            print_items(out, notes[row : row + 1], indent + 2, "dim")


def least_width(columns: Sequence[Column]) -> int:
    """The narrowest that these columns can be beside each other."""
    return sum(column.widths[0] + GAP for column in columns) - GAP


def chunks(columns: Sequence[Column], room: int) -> list[list[Column]]:
    """The columns in tables that fit, none of which tears a group apart."""
    result: list[list[Column]] = []
    for _, members in groupby(enumerate(columns), lambda pair: pair[1].group or pair[0]):
        group = [column for _, column in members]
        if result and least_width([*result[-1], *group]) <= room:
            result[-1] += group
        else:
            result.append(group)
    return result


# ----------------------------------------------------------------------------------------- columns to lines


def lay_out(columns: Sequence[Column], room: int) -> Iterator[Text]:
    """The lines of a table whose columns fit."""
    widths = [least for least, _ in (column.widths for column in columns)]
    spare = room - sum(widths) - GAP * (len(widths) - 1)
    for index, column in enumerate(columns):
        if column.flexible:
            more = min(spare, column.widths[1] - widths[index])
            widths[index] += more
            spare -= more
    if any(column.group for column in columns):
        yield group_line(columns, widths)
    if any(column.header for column in columns):
        headers = [fit(Text(c.header, "dim"), w, c.right) for c, w in zip(columns, widths, strict=True)]
        yield join_cells(headers)
    for row in range(len(columns[0].cells)):
        yield from row_lines(columns, widths, row)


def group_line(columns: Sequence[Column], widths: Sequence[int]) -> Text:
    """The headings of the groups, each at the right end of its columns."""
    headings = []
    for name, members in groupby(zip(columns, widths, strict=True), lambda pair: pair[0].group):
        width = sum(width + GAP for _, width in members) - GAP
        headings.append(fit(Text(cut(name, width), "dim"), width, right=True))
    return join_cells(headings)


def row_lines(columns: Sequence[Column], widths: Sequence[int], row: int) -> Iterator[Text]:
    """A row, which has more lines than one if a cell wraps."""
    pairs = zip(columns, widths, strict=True)
    cells = [cell_lines(column, column.cells[row], width) for column, width in pairs]
    for line in zip_longest(*cells, fillvalue=Text("")):
        fitted = zip(line, widths, columns, strict=True)
        yield join_cells([fit(cell, width, column.right) for cell, width, column in fitted])


def cell_lines(column: Column, cell: Cell, width: int) -> list[Text]:
    """A cell in at most so many columns of the terminal."""
    if column.flexible == "bar":
        return [bar(float(str(cell)), width)]
    text = cell.copy() if isinstance(cell, Text) else Text(str(cell), column.style)
    if column.flexible == "wrap" and cell_len(text.plain) > width:
        return list(text.wrap(MEASURE, width))
    return [last_columns(text, width) if column.flexible == "end" else text]


MEASURE = Console(width=WIDEST, color_system=None)  # rich asks for one to wrap text


def fit(text: Text, width: int, right: bool) -> Text:
    """A text with the space that fills its column."""
    space = " " * (width - cell_len(text.plain))
    return Text.assemble(space, text) if right else Text.assemble(text, space)


def join_cells(cells: Iterable[Text]) -> Text:
    """A line of a table."""
    line = Text(" " * GAP).join(cells)
    line.rstrip()
    return line


def bar(share: float, width: int) -> Text:
    """A share of the whole width, to an eighth of a column."""
    whole, eighths = divmod(round(share * width * 8), 8)
    return Text("█" * whole + " ▏▎▍▌▋▊▉"[eighths].strip(), "green")


def print_lines(out: Console, lines: Iterable[str | Text], indent: int = 0) -> None:
    """Print lines that fit."""
    for line in lines:
        out.print(Text.assemble(" " * indent if line else "", line), no_wrap=True, crop=True, overflow="crop")


# ------------------------------------------------------------------------------------- what is too narrow


def stacked_cell(column: Column, row: int, room: int) -> Text:
    """The first cell of a row, alone on its line."""
    cell = column.cells[row]
    text = cell.copy() if isinstance(cell, Text) else Text(str(cell).strip(), column.style)
    return last_columns(text, room) if column.flexible == "end" else text


def stacked_items(columns: Sequence[Column], row: int) -> list[str]:
    """The other cells of a row with their headers; running text needs none."""
    found = [(column, str(column.cells[row])) for column in columns if column.flexible != "bar"]
    return [
        cell if not column.header or column.flexible == "wrap" else f"{column.header} {cell}"
        for column, cell in found
        if cell
    ]


def print_items(out: Console, items: Sequence[str], indent: int, style: str = "") -> None:
    """Short texts on indented lines, as many to a line as fit; what is longer than a line is wrapped."""
    lines: list[str] = []
    for item in items:
        if lines and indent + cell_len(lines[-1]) + GAP + cell_len(item) <= out.width:
            lines[-1] += f"  {item}"
        else:
            lines.append(item)
    for line in lines:
        out.print(Padding(Text(line, style), (0, 0, 0, indent), expand=False))


def cut(text: str, width: int) -> str:
    """A text in at most so many columns."""
    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)).rstrip() + "…"


def last_columns(text: Text, width: int) -> Text:
    """The end of a text, in at most so many columns."""
    start = 0
    while cell_len(text.plain[start:]) > max(width - (start > 0), 0):
        start += 1
    return Text.assemble("…", text[start:]) if start else text


# -------------------------------------------------------------------------------------------------- waiting


def with_progress(items: Iterator[Item], total: int, label: str, *, is_long: bool = False) -> Iterator[Item]:
    """Pass the items on; whether to show a bar meanwhile is known, or told by the time of the first one."""
    if not is_watched():
        yield from items
        return
    start, n_done = time.monotonic(), 0
    if not is_long:
        yield next(items)
        n_done = 1
        if (time.monotonic() - start) * total < PATIENCE:
            yield from items
            return
    with Progress(console=console(sys.stderr), transient=True) as progress:
        task = progress.add_task(label, total=total, completed=n_done)
        for item in items:
            progress.advance(task)
            yield item


@contextmanager
def waiting(label: str, is_long: bool) -> Iterator[None]:
    """Show that something is being computed whose parts cannot be counted."""
    if not is_long or not is_watched():
        yield
        return
    with Progress(console=console(sys.stderr), transient=True) as progress:
        progress.add_task(label, total=None)
        yield


def is_watched() -> bool:
    """Whether somebody sees standard error as it is written."""
    stream: Any = sys.stderr
    return stream is not None and bool(stream.isatty())
