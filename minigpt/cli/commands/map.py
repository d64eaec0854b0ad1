"""`minigpt map`: one table for the paper, the checkpoint, the hooks, `transformers` and `model.py`."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..options import print_json
from ..tables import indented
from ..terminal import console

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
    from ...inspection.map import markdown, stages

    if args.markdown:
        print(markdown(), end="")
    elif args.json:
        print_json([asdict(stage) for stage in stages()])
    else:
        show(stages())


def show(found: Sequence["minigpt.inspection.map.Stage"]) -> None:
    """For each stage hook, line and term; below, the checkpoint's and the reference's names."""
    out, headers = console(), ("hook", "line", "the paper's term")
    stages = [(stage.hook, stage.where, stage.term) for stage in found]
    hook, line, term = (max(map(len, column)) for column in zip(headers, *stages, strict=True))
    fits = hook + line + term + 4 <= out.width

    def show_stage(name: str, where: str, words: str, names: str, style: str) -> None:
        if fits:
            out.print(f"{name:<{hook}}  {where:<{line}}  {words}", style=style)
        else:
            out.print(name, *indented([f"{where}  {words}"], out.width), sep="\n", style=style)
        out.print(*indented([names], out.width), style="dim")

    show_stage(*headers, "parameters in the checkpoint · module in transformers, (inside which)", "bold")
    out.print()
    for stage, cells in zip(found, stages, strict=True):
        names = ", ".join(stage.checkpoint) or "no parameters"
        show_stage(*cells, f"{names} · {stage.transformers}", "")
