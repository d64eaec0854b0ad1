"""Write what commands and Python print into README.md and docs/, and the lines that a reading guide names.

    python -m scripts.docs.update               # after a change of the output or of weights/tiny
    python -m scripts.docs.update README.md     # one page

A generated block stands between two comments, and what is between them is made anew:

    <!-- run: minigpt "I love" --model tiny -->          what a command prints, without colour, at 80 columns
    <!-- run: echo "I love" | minigpt score - -->        the same with a text on its standard input
    <!-- run: minigpt "I love" -n 9 # from The model --> the same from the first line that begins so
    <!-- run: minigpt practice check x.py # exits 1 -->  the same of a command that ends with another status
    <!-- python: print(len(tokenizer)) -->               what Python prints; the model is tiny
    <!-- prints -->                                      what the page's ```python block above it prints
    <!-- lines: minigpt/model.py embed attention -->     a table: line, function, first words of its docstring
    <!-- lessons: en -->                                 a list of the lessons in that language
    <!-- end -->

The ```python blocks of a page run from top to bottom, as a reader would type them, in an empty folder. A
lesson in Korean has the code of the English one, so what it prints is copied from there.
"""

import argparse
import ast
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt.cli.commands.lessons import read_lessons

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?P<head><!-- (?P<kind>run|python|prints|lines|lessons)(?:: (?P<words>.*?))? -->\n)"
    r"(?P<body>.*?)(?P<end><!-- end -->)|^```python\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
PLAIN = {"COLUMNS": "80", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Block:
    """One generated block: where it stands, what it shows, and what it should show now."""

    start: int
    end: int
    words: str  # what makes it
    shown: str
    new: str


def blocks(page: Path) -> Iterator[Block]:
    """The generated blocks of a page, made anew one after the other; a translation has the original's."""
    original = page.parents[1] / "en" / page.name
    return copied_blocks(page, original) if is_translation(page) else blocks_made_anew(page)


def is_translation(page: Path) -> bool:
    """Whether a page is a lesson in another language than English."""
    return page.parent.parent.name == "lessons" and page.parent.name != "en"


def copied_blocks(page: Path, original: Path) -> Iterator[Block]:
    """The blocks of a translated page with what the page that it was made from shows."""
    pages = [generated(file.read_text(encoding="utf-8")) for file in (page, original)]
    if [match["head"] for match in pages[0]] != [match["head"] for match in pages[1]]:
        raise SystemExit(f"{page} has other generated blocks than {original}.")
    for own, made in zip(*pages, strict=True):
        start, end = own.span("body")
        yield Block(start, end, own["words"] or "prints", own["body"], made["body"])


def generated(text: str) -> list[re.Match[str]]:
    """The generated blocks of a text, as they stand there."""
    return [match for match in BLOCK.finditer(text) if match["code"] is None]


def blocks_made_anew(page: Path) -> Iterator[Block]:
    """The generated blocks of a page, each made by what its comment says."""
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    printed = ""
    with tempfile.TemporaryDirectory() as folder:
        for match in BLOCK.finditer(text):
            if match["code"] is not None:
                needed = "<!-- prints -->" in text  # other pages show code that is not theirs to run
                printed = run_code(match["code"], names, folder, f"{page.name}") if needed else ""
                continue
            new = made(match["kind"], match["words"], page) if match["words"] else f"```text\n{printed}```\n"
            yield Block(*match.span("body"), match["words"] or "prints", match["body"], new)


def made(kind: str, words: str, page: Path) -> str:
    """What a block shows whose comment says how it is made."""
    return table_of_lines(words, page) if kind == "lines" else MAKERS[kind](words)


def run_code(code: str, names: dict[str, Any], folder: str, page: str) -> str:
    """What a page's Python prints, with the names of the blocks before it."""
    output, before = io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(output):
            exec(compile(code, page, "exec"), names)
    finally:
        os.chdir(before)
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    return "".join(f"{line}\n" for line in lines)


def output_of(words: str) -> str:
    """A command and what it prints, as a fenced block. One that fails, unasked, ends the script."""
    words, _, status = words.partition(" # exits ")
    command, _, start = words.partition(" # from ")
    before, _, last = command.rpartition(" | ")
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(last)],
        input=before.removeprefix("echo ").strip('"') + "\n",
        stdout=subprocess.PIPE, cwd=ROOT, env=os.environ | PLAIN, encoding="utf-8", check=not status,
    )  # fmt: skip
    if done.returncode != int(status or 0):
        raise SystemExit(f"{command}: ended with {done.returncode}, not {status}.")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    if start:
        lines = ["...", *lines[next(i for i, line in enumerate(lines) if line.startswith(start)) :]]
    return "\n".join(["```console", f"$ {command}", *lines, "```", ""])


def output_of_python(statement: str) -> str:
    """A Python statement and what it prints, as a fenced block."""
    code = f"import minigpt; model, tokenizer = minigpt.load('tiny'); {statement}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, cwd=ROOT, env=os.environ | PLAIN, encoding="utf-8", check=True,
    )  # fmt: skip
    return "\n".join(["```pycon", f">>> {statement}", done.stdout.rstrip(), "```", ""])


def table_of_lines(words: str, page: Path) -> str:
    """Where functions and classes of a file begin, and what they do, as a table in the file's order."""
    file, *names = words.split()
    link = Path(os.path.relpath(ROOT / file, page.parent)).as_posix()
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    rows = ["| line | | |", "|---:|---|---|"]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
            names.remove(node.name)
            summary = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
            rows.append(f"| [{node.lineno}]({link}#L{node.lineno}) | `{node.name}` | {summary} |")
    if names:
        raise SystemExit(f"{file} has no {', '.join(names)}.")
    return "\n".join([*rows, ""])


def list_of_lessons(language: str) -> str:
    """The lessons of a language with their questions, as a list of links from docs/lessons."""
    return "".join(
        f"{lesson.number}. [{lesson.title}]({language}/{lesson.file.name})<br>{lesson.question}\n"
        for lesson in read_lessons(ROOT / "docs" / "lessons" / language)
    )


MAKERS = {"run": output_of, "python": output_of_python, "lessons": list_of_lessons}


def main() -> None:
    """Update the pages."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument(
        "pages",
        nargs="*",
        type=lambda name: Path(name).resolve(),
        default=PAGES,
        help="files (README.md and docs/)",
    )
    for page in parser.parse_args().pages:
        text = page.read_text(encoding="utf-8")
        for block in reversed(list(blocks(page))):
            text = text[: block.start] + block.new + text[block.end :]
        page.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
