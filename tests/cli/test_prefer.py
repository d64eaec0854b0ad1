"""`minigpt prefer`: before and after, the pushes of one pair, and mistakes before anything is written."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigpt
from minigpt.cli.commands.prefer import Teller
from minigpt.cli.main import main
from minigpt.parameters import Config
from minigpt.training.pairs import read_pairs
from minigpt.training.pushes import pushes
from scripts.benchmark.checkpoint import random_tensors, write_checkpoint
from tests.cli.conftest import CONFIG
from tests.synthetic import save_checkpoint

Run = Callable[..., Any]
FAST = ("--steps", "2", "--threads", "1")


def words(text: str) -> str:
    """A text without the ends of its lines."""
    return " ".join(text.split())


def test_a_run_shows_its_steps_both_sides_and_what_to_do_next(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "kind"
    shown = run("prefer", "demo", "--out", str(out), "--watch", "The girl", "I", *FAST).out
    assert "learns which of two answers is the better one: orpo, beta 1, 2 steps of 6 pairs." in words(shown)
    assert "200 pairs, of which every fifth is held out." in words(shown)
    assert "step loss nll_loss logps/chosen logps/rejected log_odds_chosen" in words(shown)
    assert "12 pairs that it learnt from" in shown
    assert "40 held-out pairs" in shown
    assert "perplexity (lower is better)" in shown
    assert "After “The girl”" in shown
    assert "After “I”" in shown
    assert 'minigpt "The girl" --model' in shown
    minigpt.load(out)


def test_the_document_holds_what_the_run_found(document: Run, tmp_path: Path) -> None:
    text = tmp_path / "other.txt"
    text.write_text("It was the best of times, it was the worst of times.")
    found = document("prefer", "demo", "--loss", "dpo", "--watch", "I", "--text", str(text), *FAST)
    assert (found["loss"], found["beta"], found["steps"], found["out"]) == ("dpo", 0.1, 2, None)
    assert found["history"][0]["loss"] == pytest.approx(np.log(2), rel=1e-5)
    assert found["history"][0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert found["before"]["held_out"]["n_pairs"] == 40
    assert found["before"]["perplexity"] != found["after"]["perplexity"]
    (watched,) = found["watch"]
    assert all(token["probabilities"][1] > token["probabilities"][0] for token in watched["risen"])
    assert all(token["probabilities"][1] < token["probabilities"][0] for token in watched["fallen"])


@pytest.mark.parametrize("width", [40, 80, 120])
def test_nothing_is_wider_than_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = run("prefer", "demo", "--explain", "6").out
    shown += run("prefer", "demo", "--watch", "The girl", *FAST).out
    assert max(map(len, shown.splitlines())) <= width


# ---------------------------------------------------------------------------------------------- one pair


def test_every_token_of_both_answers_is_shown_with_its_pushes(run: Run, folder: Path) -> None:
    shown = run("prefer", "demo", "--explain", "6").out
    model, tokenizer = minigpt.load(folder)
    pair = read_pairs("demo")[5]
    expected = pushes(model, tokenizer, pair)
    answers = [token for token in (*expected.chosen, *expected.rejected) if token.is_answer]
    for token in (*expected.chosen, *answers):
        line = f"{token.logprob:.3f} {token.nll:+.4f} {token.preference:+.4f} {token.total:+.4f}"
        assert line in words(shown), token.text
    assert f"After “{pair.prompt}” rather “{pair.chosen}” than “{pair.rejected}”." in words(shown)
    assert f"log-odds ratio {expected.log_odds_ratio:.3f} (what TRL logs under that name is" in words(shown)
    for move in (*expected.rise, *expected.fall):
        assert f"{move.push:+.4f}" in shown


def test_the_same_as_a_document(document: Run) -> None:
    found = document("prefer", "demo", "--explain", "3", "--beta", "2")
    assert found["beta"] == 2
    assert [token["text"] for token in found["chosen"]][-1] == " sweet"
    assert [token["text"] for token in found["rejected"]][-1] == " cross"


def test_a_page_needs_a_folder_to_stand_in(run: Run, tmp_path: Path) -> None:
    error = run("prefer", "demo", "--explain", "3", "--html", str(tmp_path / "no" / "x.html"), status=1).err
    assert "x.html: there is no folder" in error


# ----------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"not JSON", "line 2: not valid JSON ("),
        (b'{"prompt": "I", "chosen": " a"}', "line 2: 'rejected' is missing"),
        (b'{"prompt": "I", "chosen": "", "rejected": " b"}', "line 2: 'chosen' is empty"),
        (b'{"prompt": "I", "chosen": " a", "rejected": " a"}', "line 2: both answers are ' a'"),
        (b'{"prompt": "I", "chosen": "%s", "rejected": " b"}' % (b" a" * 50), "line 2: the chosen answer"),
    ],
    ids=["no JSON", "a key is missing", "empty", "equal", "too long"],
)  # fmt: skip
def test_a_broken_line_is_told_by_its_number_and_nothing_is_written(
    run: Run, tmp_path: Path, line: bytes, message: str
) -> None:
    file, out = tmp_path / "pairs.jsonl", tmp_path / "run"
    good = b'{"prompt": "I", "chosen": " a", "rejected": " b"}\n'
    file.write_bytes(good + line + b"\n" + good * 4)
    error = run("prefer", str(file), "--out", str(out), *FAST, status=2).err
    assert error.startswith(f"minigpt: {file}, {message}")
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_prompt_that_is_cut_is_told_on_standard_error(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    pair = '{"prompt": "%s", "chosen": " a", "rejected": " b"}\n'
    file.write_text(pair % "I" * 1 + pair % ("so " * 60) + (pair % "I") * 4)
    result = run("prefer", str(file), *FAST)
    assert f"{file}, line 2: the prompt does not fit into the context of 40 with its answer" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--explain", "0"], "--explain is 0; demo has pairs 1 to 200."),
        (["--explain", "3", "--out", "x"], "--explain trains nothing; leave --out"),
        (["--html", "x.html"], "--html shows the pushes of one pair; say which"),
        (["--steps", "0"], "--steps: found '0'; it must be an integer, 1 or above"),
        (["--beta", "-1"], "--beta: found '-1'; it must be a finite number, 0 or above"),
        (["--learning-rate", "0"], "--learning-rate: found '0'; it must be above 0"),
        (["--loss", "kto"], "invalid choice: 'kto'"),
    ],
)
def test_impossible_options_are_told(run: Run, options: list[str], message: str) -> None:
    error = run("prefer", "demo", *options, status=2).err
    assert message in error
    assert error.count("\n") == 1


def test_a_run_that_unlearns_everything_is_told_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "new"
    words = ["--learning-rate", "10", "--steps", "3", "--out", str(out), "--json"]
    error = run("prefer", "demo", *words, status=1).err
    assert "(perplexity inf) is no longer all finite; try a smaller learning rate." in error
    assert not out.exists()


@pytest.mark.parametrize("scale", [2e3, 1e36, 3e38], ids=["infinite perplexity", "overflow", "no numbers"])
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_weights_that_are_too_large_are_told_before_anything_is_learnt(
    scale: float, form: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = random_tensors(config := Config(**CONFIG))
    tensors["ln_f.weight"] = np.full_like(tensors["ln_f.weight"], scale)
    model = ["--model", str(write_checkpoint(tmp_path / "model", config, tensors))]
    out, page = tmp_path / "out", tmp_path / "page.html"
    assert main(["prefer", "demo", "--watch", "I", "--out", str(out), *FAST, *form, *model]) == 1
    shown = capsys.readouterr()
    assert "its weights are broken or too large" in shown.err or "weights are too large" in shown.err
    assert shown.err.count("\n") == 1
    assert "nan" not in shown.out
    assert not out.exists()
    status = main(["prefer", "demo", "--explain", "1", "--html", str(page), *form, *model])
    shown = capsys.readouterr()
    assert "bug" not in shown.err
    assert shown.err.count("\n") == 1
    assert (status, page.exists()) == ((1, False) if scale == 3e38 else (0, True))


def test_a_run_of_a_trillion_steps_begins_at_once(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Ctrl-C ends it: nothing of its steps to come is kept in memory."""
    monkeypatch.setattr(Teller, "step", lambda _self, step: os.kill(os.getpid(), signal.SIGINT))
    out = run("prefer", "demo", "--steps", "9" * 12).out
    assert "Stopped after 1 of 999999999999 steps." in out


def test_a_folder_of_something_else_is_told_and_stays_as_it_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    error = run("prefer", "demo", "--out", str(tmp_path), *FAST, status=2).err
    assert "holds something else; choose a new folder, or an empty one." in error
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, vocab_size=50257, n_embd=8, n_layer=1, n_head=1)
    assert main(["prefer", "none.jsonl", "--model", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error == "minigpt: none.jsonl: No such file or directory; give a file of JSON lines, or `demo`.\n"
