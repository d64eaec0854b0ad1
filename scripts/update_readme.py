"""Write what the commands in README.md print into it, and the lines that its reading guide names.

    python -m scripts.update_readme    # after a change of the output, of weights/tiny, of lines in model.py

A generated block stands between two comments, and what is between them is made anew:

    <!-- run: minigpt "I love" --model tiny -->          what a command prints, without colour, at 80 columns
    <!-- run: echo "I love" | minigpt score - -->        the same with a text on its standard input
    <!-- run: minigpt "I love" -n 9 # from The model --> the same from the first line that begins so
    <!-- python: print(len(tokenizer)) -->               what Python prints; the model is tiny
    <!-- lines: minigpt/model.py embed attention -->     a table: line, function, first words of its docstring
    <!-- end -->
"""

import argparse
import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- (run|python|lines): (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)
PLAIN = {"COLUMNS": "80", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1"}


def updated(text: str) -> str:
    """The text with every generated block made anew."""
    return BLOCK.sub(lambda block: block[1] + MAKERS[block[2]](block[3]) + block[4], text)


def output_of(words: str) -> str:
    """A command and what it prints, as a fenced block. A command that fails ends the script."""
    command, _, start = words.partition(" # from ")
    before, _, last = command.rpartition(" | ")
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(last)],
        input=before.removeprefix("echo ").strip('"') + "\n",
        stdout=subprocess.PIPE, cwd=ROOT, env=os.environ | PLAIN, encoding="utf-8", check=True,
    )  # fmt: skip
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


def table_of_lines(words: str) -> str:
    """Where functions and classes of a file begin, and what they do, as a table in the file's order."""
    file, *names = words.split()
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    rows = ["| line | | |", "|---:|---|---|"]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
            names.remove(node.name)
            summary = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
            rows.append(f"| [{node.lineno}]({file}#L{node.lineno}) | `{node.name}` | {summary} |")
    if names:
        sys.exit(f"README.md: {file} has no {', '.join(names)}.")
    return "\n".join([*rows, ""])


MAKERS = {"run": output_of, "python": output_of_python, "lines": table_of_lines}


def main() -> None:
    """Update README.md."""
    argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False).parse_args()
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
