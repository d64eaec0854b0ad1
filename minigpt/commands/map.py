"""`minigpt map`: one table for the paper, the checkpoint, the hooks, `transformers` and `model.py`."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..terminal import console
from . import print_json

if TYPE_CHECKING:
    import minigpt.inspection.map

HELP = "one table of names: paper, checkpoint, hook, transformers, line of model.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How to print it."""
    parser.epilog = "example: minigpt map"
    parser.add_argument("--markdown", action="store_true", help="as docs/map.md has it")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(args: argparse.Namespace) -> None:
    """Print the table."""
    from ..inspection.map import markdown, stages

    if args.markdown:
        print(markdown(), end="")
    elif args.json:
        print_json([asdict(stage) for stage in stages()])
    else:
        show(stages())


def show(found: Sequence["minigpt.inspection.map.Stage"]) -> None:
    """Two lines per stage: hook, line and term; below, the checkpoint's and the reference's names."""
    out = console()
    out.print(
        "hook                   line of model.py   the paper's term", style="bold", no_wrap=True, crop=True
    )
    out.print(
        "  parameters in the checkpoint · module in transformers, (inside which)\n", style="dim"
    )
    for stage in found:
        out.print(f"{stage.hook:<23} {stage.where:<16} {stage.term}", no_wrap=True, overflow="ellipsis")
        names = ", ".join(stage.checkpoint)
        out.print(f"  {names or 'no parameters'} · {stage.transformers}", style="dim")
