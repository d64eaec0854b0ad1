"""Tables for the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .terminal import NARROWEST

if TYPE_CHECKING:
    import rich.console
    import rich.padding
    import rich.table


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
