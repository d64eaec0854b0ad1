"""`minigpt lessons`: what the lessons ask, in English and in Korean, and where they are."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..tables import Column, console, print_items, print_table
from ..terminal import harmless

ROOT = Path(__file__).resolve().parents[3]  # of the checkout; an installed package has no docs/ beside it
LANGUAGES = ("en", "ko")


@dataclass(frozen=True)
class Lesson:
    """One lesson: its file, its number, what it is called, and the question with which it begins."""

    file: Path
    number: int
    title: str
    question: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """There is nothing to choose."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Only an example."""
    parser.epilog = "example: minigpt lessons"


def run(_options: Options) -> None:
    """Print the lessons of each language, or where they are if they are not here."""
    out = console()
    for language in LANGUAGES:
        folder = ROOT / "docs" / "lessons" / language
        found = read_lessons(folder)
        if not found:
            print_items(out, [f"docs/lessons/{language} is not in this installation: see the repository."], 0)
            continue
        print_items(out, [harmless(str(folder))], 0, "bold")
        columns = [
            Column("", [str(lesson.number) for lesson in found], right=True),
            Column("", [lesson.title for lesson in found], style="bold", flexible="wrap"),
            Column("", [lesson.question for lesson in found], flexible="wrap"),
        ]
        print_table(out, columns)
        out.print()


def read_lessons(folder: Path) -> Sequence[Lesson]:
    """The lessons in a folder, in their order; none if there is no such folder."""
    return [read_lesson(file) for file in sorted(folder.glob("[0-9][0-9]-*.md"))]


def read_lesson(file: Path) -> Lesson:
    """A lesson's title, "# 1 · What is a logit?", and its question, which is quoted below it."""
    text = file.read_text(encoding="utf-8")
    title = re.search(r"^# \d+ · (.+)$", text, re.MULTILINE)
    question = re.search(r"^> .+(?:\n> .+)*", text, re.MULTILINE)
    return Lesson(
        file,
        int(file.name[:2]),
        title[1] if title else file.stem,
        question[0][2:].replace("\n> ", " ") if question else "",
    )
