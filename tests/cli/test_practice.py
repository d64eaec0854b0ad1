"""`minigpt practice`: list, write, hint, check."""

import os
import re
from pathlib import Path

import pytest

from minigpt.cli.main import main
from minigpt.practice import EXERCISES

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_all_exercises_are_listed_in_order(
    columns: int, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["practice"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    names = re.findall(r"^ *[0-9]+ (\w+)", out, re.MULTILINE)
    assert names == list(EXERCISES)


def test_a_file_is_written_once_and_never_over_another(in_a_folder: Path, capsys: Captured) -> None:
    assert main(["practice", "attention"]) == 0
    path = in_a_folder / "attention.py"
    assert path.read_text(encoding="utf-8") == EXERCISES["attention"].file
    assert "minigpt practice check attention.py" in capsys.readouterr().out
    path.write_text("mine", encoding="utf-8")
    assert main(["practice", "attention"]) == 1
    assert path.read_text(encoding="utf-8") == "mine"
    assert "attention.py is there already and stays as it is" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows lets only developers make symbolic links")
@pytest.mark.parametrize("target", ["nowhere.txt", "mine.txt"])
def test_no_planted_link_is_written_through(in_a_folder: Path, capsys: Captured, target: str) -> None:
    (in_a_folder / "mine.txt").write_text("mine", encoding="utf-8")
    (in_a_folder / "softmax.py").symlink_to(target)
    assert main(["practice", "softmax"]) == 1
    assert "softmax.py is there already and stays as it is" in capsys.readouterr().err
    assert not (in_a_folder / "nowhere.txt").exists()
    assert (in_a_folder / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_hints_come_one_by_one(capsys: Captured) -> None:
    hints = EXERCISES["softmax"].hints
    assert main(["practice", "softmax", "--hint", "2"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert hints[0] in out
    assert hints[1] in out
    assert hints[2] not in out


def test_checking_tells_by_its_exit_status(in_a_folder: Path, capsys: Captured) -> None:
    assert main(["practice", "softmax"]) == 0
    assert main(["practice", "check", "softmax.py"]) == 1
    assert "softmax is not right yet" in capsys.readouterr().out
    right = "import numpy as np\ndef softmax(s):\n    e = np.exp(s - s.max(-1, keepdims=True))\n"
    (in_a_folder / "softmax.py").write_text(
        f"{right}    return e / e.sum(-1, keepdims=True)\n", encoding="utf-8"
    )
    assert main(["practice", "check", "softmax.py"]) == 0
    out = capsys.readouterr().out
    assert "softmax is right: 20 of 20 tests passed." in out
    assert "Next: minigpt practice temperature" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["sofmax"], 2, "there is no exercise 'sofmax'; is it softmax?"),
        (["check"], 2, "say which file"),
        (["check", "nowhere.py"], 2, "nowhere.py: No such file"),
        (["softmax.py"], 2, "minigpt practice check softmax.py"),
        (["softmax", "other.py"], 2, "minigpt practice check other.py"),
        (["--hint", "1"], 2, "--hint belongs to an exercise"),
        (["softmax", "--hint", "9"], 2, "softmax has the hints 1 to 3"),
    ],
)
def test_every_mistake_has_a_way_out(words: list[str], status: int, message: str, capsys: Captured) -> None:
    assert main(["practice", *words]) == status
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
