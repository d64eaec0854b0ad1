"""`minigpt train`: from the words of the command line to a folder that every other command takes."""

import base64
import hashlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import minigpt
from minigpt.cli.commands import train as command
from minigpt.cli.main import main
from minigpt.training.loop import Progress

TEXT = "".join(f"{n} sheep and {n + 1} goats went up the hill.\n" for n in range(300))
SMALL = [
    "--vocab-size",
    "280",
    "--n-layer",
    "1",
    "--n-head",
    "2",
    "--n-embd",
    "16",
    "--n-positions",
    "16",
    "--batch-size",
    "4",
]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "sheep.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def run(*words: str | Path) -> int:
    return main(["train", *map(str, words)])


def test_a_new_model_learns_and_other_commands_take_it(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(text, "--out", tmp_path / "run", "--steps", "30", *SMALL) == 0
    output = capsys.readouterr()
    assert "step 0: held-out text 5.6" in output.out
    assert "The loss of 30 steps, from 5.6" in output.out
    assert "Held-out text: " in output.out
    assert "Counting pairs of bytes gives " in output.out.replace(" \n", " ")
    assert "▁" in output.out
    assert "the text is short" in output.err
    model, tokenizer = minigpt.load(tmp_path / "run")
    assert (model.config.n_layer, model.config.n_embd, tokenizer.n_vocab) == (1, 16, 280)
    assert main(["12 sheep", "--model", str(tmp_path / "run"), "-n", "5", "--text"]) == 0


def test_the_document_holds_the_plan_and_the_losses(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--steps", "7", "--seed", "3", "--threads", "1", "--json", *SMALL)
    documents = []
    for name in ("one", "two"):
        assert run(text, "--out", tmp_path / name, *words) == 0
        documents.append(json.loads(capsys.readouterr().out))
    found: dict[str, Any] = documents[0]
    assert found == documents[1]  # the seed repeats it
    assert found["finished"]
    assert len(found["losses"]) == found["steps"] == 7
    assert found["plan"]["seed"] == 3
    assert found["plan"]["learning_rate"] == 2.5e-3
    assert found["bits_per_byte"] < found["held_out"][0]["loss"]
    assert found["held_out"][-1] == {"step": 7, "loss": found["held_out_loss"]}
    assert 1 < found["bigram_bits_per_byte"] < 8


def test_ctrl_c_keeps_what_is_learnt_and_resume_goes_on(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    assert run(text, "--out", whole, "--steps", "12", *SMALL) == 0
    step = command.Screen.step

    def interrupting(self: command.Screen, progress: Progress) -> None:
        step(self, progress)
        if progress.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(command.Screen, "step", interrupting)
    out = tmp_path / "run"
    assert run(text, "--out", out, "--steps", "12", *SMALL) == 130
    assert "Stopped after 5 of 12 steps; everything is kept" in capsys.readouterr().out.replace("\n", " ")
    monkeypatch.undo()
    assert run("--out", out, "--resume") == 0
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_a_model_that_exists_goes_on(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(text, "--out", tmp_path / "first", "--steps", "3", *SMALL) == 0
    words = ("--from", tmp_path / "first", "--steps", "2", "--batch-size", "2", "--json")
    capsys.readouterr()
    assert run(text, "--out", tmp_path / "second", *words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["plan"]["learning_rate"] == pytest.approx(2.5e-4)
    assert minigpt.load(tmp_path / "second")[0].config == minigpt.load(tmp_path / "first")[0].config


def test_the_curve_is_a_page_that_loads_nothing(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "curve.html"
    assert run(text, "--out", tmp_path / "<run>", "--steps", "6", "--html", page, *SMALL) == 0
    written = page.read_text(encoding="utf-8")
    assert "wrote" in capsys.readouterr().err
    assert written.count("<polyline") == 2
    assert "bits per byte" in written
    assert "<run>" not in written
    (style,) = re.findall("<style>(.*?)</style>", written)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert "default-src 'none'; script-src 'sha256-" in written
    assert f"style-src 'sha256-{digest}'" in written
    assert "<script" not in written
    assert "://" not in written.replace("http://www.w3.org/2000/svg", "")


def test_texts_can_be_held_out(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "cows.txt"
    other.write_text("Cows are not in the other text. " * 4, encoding="utf-8")
    words = ("--steps", "1", "--json", *SMALL)
    assert run(text, "--held-out", other, "--out", tmp_path / "run", *words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bigram_bits_per_byte"] > 5


def test_a_page_that_cannot_be_written_is_told_before_anything_is_learnt(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "none" / "curve.html"
    assert run(text, "--out", tmp_path / "run", "--steps", "5", "--html", page, *SMALL) == 1
    assert f"{page}: there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no owners of links")
@pytest.mark.parametrize("command", ["train", "prefer"])
def test_a_new_model_follows_no_planted_link(
    command: str,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    out.symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(os, "getuid", lambda: out.lstat().st_uid + 1)
    words = [str(text), *map(str, SMALL)] if command == "train" else ["demo", "--model", "tiny"]
    assert main([command, *words, "--out", str(out), "--steps", "1"]) == 1
    assert "out: is a link that somebody else made" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_page_of_a_run_keeps_its_mode_and_follows_no_planted_link(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, mine = tmp_path / "curve.html", tmp_path / "mine.txt"
    page.write_text("old")
    page.chmod(0o640)
    words = ["--steps", "2", "--html", page, *SMALL]
    assert run(text, "--out", tmp_path / "one", *words) == 0
    assert "<svg" in page.read_text(encoding="utf-8")
    assert page.stat().st_mode & 0o777 == 0o640
    page.unlink()
    page.symlink_to(mine)
    monkeypatch.setattr(os, "getuid", lambda: page.lstat().st_uid + 1)
    assert run(text, "--out", tmp_path / "two", *words) == 1
    assert "is a link that somebody else made" in capsys.readouterr().err
    assert not mine.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--out new --steps 5", "TEXT is missing"),
        ("TEXT --steps 5", "missing: --out"),
        ("TEXT --out new", "--steps, --minutes: say how long to train"),
        ("TEXT --out new --steps 5 --minutes 1", "--steps, --minutes: say how long to train"),
        ("TEXT --out new --steps 0", "--steps: found '0'; it must be an integer, 1 or above"),
        ("TEXT --out new --minutes nan", "--minutes: found 'nan'"),
        ("TEXT --out new --steps 5 --from tiny --n-layer 3", "--n-layer: the model of --from has its size"),
        ("TEXT --out new --steps 5 --n-embd 10 --n-head 3", "n_embd is 10, which n_head = 3 does not divide"),
        ("TEXT --out new --steps 5 --vocab-size 100", "--vocab-size: found '100'"),
        ("TEXT --out new --steps 5 --vocab-size 5000", "only"),
        ("TEXT --out new --steps 5 --vocab-size 256 --n-positions 100000", "a window of 256 needs"),
        ("TEXT --out new --steps 5 --n-layer 99999999", "parameters, more than gpt2-xl; give smaller sizes"),
        ("TEXT --out new --steps 5 --n-embd 999999999999", "it must be an integer from 1 to 100,000,000"),
        ("TEXT --out new --steps 5 --threads 999999999999", "it must be an integer from 1 to 1024"),
        ("TEXT --out FULL --steps 5", "holds something else"),
        ("--out FULL --resume", "there is no training.safetensors to go on from"),
        ("--out FULL --resume --steps 5", "--steps: a run that goes on has it from its beginning"),
        ("nowhere.txt --out new --steps 5", "nowhere.txt: No such file or directory"),
    ],
)
def test_a_mistake_in_the_words_is_told_in_one_line(
    words: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "novel.txt").write_text("mine")
    (tmp_path / "TEXT").write_text("A short text, which says little. " * 7, encoding="utf-8")
    assert run(*words.split()) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())
    assert [file.name for file in (tmp_path / "FULL").iterdir()] == ["novel.txt"]
