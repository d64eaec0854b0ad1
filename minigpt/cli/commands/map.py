"""`minigpt map`: one table for the paper, the checkpoint, the hooks, `transformers` and `model.py`."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console

from ...inspection.map import Stage, markdown, stages
from ..document import print_json
from ..options import add_json_option
from ..tables import Column, console, print_table


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the table is printed."""

    markdown: bool
    json: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """How to print it."""
    parser.epilog = "example: minigpt map"
    parser.add_argument("--markdown", action="store_true", help="as docs/map.md has it")
    add_json_option(parser)


def run(options: Options) -> None:
    """Print the table."""
    if options.markdown:
        print(markdown(), end="")
    elif options.json:
        print_json([asdict(stage) for stage in stages()])
    else:
        show(console(), stages())


def show(out: Console, found: Sequence[Stage]) -> None:
    """For each stage hook, line and term; below, the checkpoint's and the reference's names."""
    columns = [
        Column("hook", [stage.hook for stage in found], style="bold"),
        Column("line", [stage.where for stage in found]),
        Column("the paper's term", [stage.term for stage in found]),
    ]
    names = [f"{', '.join(stage.checkpoint) or 'no parameters'} · {stage.transformers}" for stage in found]
    out.print("Below each: parameters in the checkpoint · module in transformers, (inside which).\n")
    print_table(out, columns, notes=names)
