"""A learner's file runs apart: whatever it does, the answer is a report."""

from pathlib import Path

import pytest

from minigpt.errors import InputError
from minigpt.practice import EXERCISES, process
from minigpt.practice.process import check_file
from minigpt.practice.report import Report

RIGHT = """
import numpy as np
def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
"""


def reports(folder: Path, text: str, name: str = "softmax.py") -> list[Report]:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return list(check_file(path))


def test_a_right_file_is_right(tmp_path: Path) -> None:
    (report,) = reports(tmp_path, RIGHT)
    assert report.is_right
    assert 'after "I love" comes' in report.story


def test_the_file_that_practice_writes_is_empty_and_says_so(tmp_path: Path) -> None:
    (report,) = reports(tmp_path, EXERCISES["softmax"].file)
    assert "it is still empty" in repr(report)


def test_a_wrong_file_is_told_its_mistake_and_its_line(tmp_path: Path) -> None:
    (report,) = reports(tmp_path, RIGHT.replace("np.exp", "np.exp2"))
    assert "The powers are those of 2" in report.diagnosis
    (report,) = reports(tmp_path, RIGHT.replace("e.sum(", "e.total("))
    assert "it stopped at line 5, `return e / e.total" in " ".join(repr(report).split())


def test_a_loop_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LIMIT", 3.0)
    (report,) = reports(tmp_path, "def softmax(scores):\n    while True:\n        print('again')\n")
    assert report.tests[0].case == "the example, float64"
    assert "not finished in 3 seconds" in report.tests[0].problem
    assert report.headline == "softmax could not be judged: the time ran out."
    assert "wrong" not in repr(report)


def test_a_file_that_never_ends_being_read_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LIMIT", 3.0)
    (report,) = reports(tmp_path, RIGHT + "\nwhile True: pass\n")
    assert report.tests[0].case == "reading the file"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import os; os._exit(3)", "it ended Python (exit status 3)."),
        ("raise SystemExit", "SystemExit"),
        ("input()", "EOFError"),
        ("1 / 0", "ZeroDivisionError: division by zero."),
    ],
)
@pytest.mark.parametrize("where", ["in the function", "in the file"])
def test_whatever_stops_it_is_told(tmp_path: Path, line: str, words: str, where: str) -> None:
    text = (
        RIGHT.replace("    e =", f"    {line}\n    e =")
        if where == "in the function"
        else f"{RIGHT}\n{line}\n"
    )
    (report,) = reports(tmp_path, text)
    assert not report.is_right
    assert words in " ".join(repr(report).split())


def test_files_beside_it_may_be_imported(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text(RIGHT, encoding="utf-8")
    text = "from helpers import softmax as mine\ndef softmax(scores):\n    return mine(scores)\n"
    (report,) = reports(tmp_path, text)
    assert report.is_right


def test_a_file_of_several_functions_is_checked_for_all_and_one_of_a_name_for_that(tmp_path: Path) -> None:
    text = f"{RIGHT}\ndef gelu_new(x):\n    return x\n"
    assert [each.exercise for each in reports(tmp_path, text, "mine.py")] == ["softmax", "gelu_new"]
    assert [each.exercise for each in reports(tmp_path, text)] == ["softmax"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def softmax(scores)\n    pass\n", "line 1: this is not Python: expected ':'"),
        ("x = 1\n", "it defines none of the functions of the exercises"),
        ("def softmax():\n\0", "this is not Python"),
    ],
)
def test_a_file_that_cannot_be_checked_is_refused_and_nothing_runs(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        reports(tmp_path, text)
