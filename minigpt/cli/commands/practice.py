"""`minigpt practice`: exercises, and the checker that names the mistake."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ...errors import InputError, MiniGPTError
from ...practice import EXERCISES, Exercise, Report, exercise
from ...practice.process import check_file
from ..tables import WIDEST, Column, console, print_table
from ..terminal import harmless

EXIT_WRONG = 1


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to do: list, write, give a hint, or check."""

    what: str | None = None
    file: Path | None = None
    hint: int | None = None

    def __post_init__(self) -> None:
        if self.what == "check" and self.file is None:
            raise InputError("check: say which file, as in `minigpt practice check softmax.py`.")
        if self.what != "check" and self.file is not None:
            raise InputError(
                f"{str(self.file)!r} is one word too many; to check it: minigpt practice check {self.file}"
            )
        if self.what is not None and self.what.endswith(".py"):
            raise InputError(f"{self.what!r} is a file; to check it: minigpt practice check {self.what}")
        if self.hint is not None and self.what in (None, "check"):
            raise InputError("--hint belongs to an exercise, as in `minigpt practice softmax --hint 1`.")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The exercise, or the file."""
    parser.epilog = "examples: minigpt practice softmax\n          minigpt practice check softmax.py"
    parser.add_argument(
        "what",
        nargs="?",
        metavar="NAME|check",
        help="the exercise whose file to write; without it, all are listed",
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="what `check` checks")
    parser.add_argument("--hint", type=int, metavar="N", help="show the hints of an exercise, up to the Nth")


def run(options: Options) -> int:
    """Do it; 1 is for something that is not right yet."""
    if options.what is None:
        show_list(console())
    elif options.file is not None:
        return check(console(), options.file)
    elif options.hint is not None:
        show_hints(console(), exercise(options.what), options.hint)
    else:
        write(console(), exercise(options.what))
    return 0


def show_list(out: Console) -> None:
    """All exercises in their order."""
    numbered = [f"{number:>2} {name}" for number, name in enumerate(EXERCISES, start=1)]
    titles = [each.title for each in EXERCISES.values()]
    print_table(
        out, [Column("   exercise", numbered, style="bold"), Column("what to write", titles, flexible="wrap")]
    )
    out.print("\nBegin with the first, which writes merge.py with the task and a place for your lines:")
    out.print("  minigpt practice merge")


def write(out: Console, chosen: Exercise) -> None:
    """The file to fill in; an older one stays as it is."""
    path = Path(f"{chosen.name}.py")
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(chosen.file)
    except FileExistsError:
        raise MiniGPTError(
            f"{path} is there already and stays as it is; move it away for a new one, or check it: "
            f"minigpt practice check {path}"
        ) from None
    out.print(f"{path} has the task. When it is written:\n  minigpt practice check {path}")


def show_hints(out: Console, chosen: Exercise, count: int) -> None:
    """The first hints, up to the one that was asked for."""
    if not 1 <= count <= len(chosen.hints):
        raise InputError(f"--hint is {count}; {chosen.name} has the hints 1 to {len(chosen.hints)}.")
    for number, hint in enumerate(chosen.hints[:count], start=1):
        out.print(f"{number}. {hint}", width=min(out.width, WIDEST))
    left = len(chosen.hints) - count
    out.print(f"\n{left} more: --hint {count + 1}" if left else "\nThat was the last one.", style="dim")


def check(out: Console, path: Path) -> int:
    """Check a file, and print a report for each of its exercises."""
    reports = []
    for report in spaced(out, check_file(path)):
        headline, _, rest = harmless(report.text(min(out.width, WIDEST))).partition("\n")
        out.print(headline, style="bold green" if report.is_right else "bold red")
        out.print(rest)
        reports.append(report)
    names = list(EXERCISES)
    following = names[names.index(reports[-1].exercise) + 1 :]
    if all(report.is_right for report in reports):
        out.print(
            f"\nNext: minigpt practice {following[0]}" if following else "\nThat was the last exercise."
        )
        return 0
    return EXIT_WRONG


def spaced(out: Console, reports: Iterator[Report]) -> Iterator[Report]:
    """The reports, with a line between two."""
    for number, report in enumerate(reports):
        if number:
            out.print()
        yield report
