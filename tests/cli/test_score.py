"""`minigpt score`: the figures of a text, from the words of the command line to what is printed."""

import io
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.cli import tables
from minigpt.cli.commands import score
from minigpt.cli.main import main
from minigpt.cli.tables import console, print_table
from minigpt.model import GPT2
from minigpt.scoring import perplexity, token_logprobs
from minigpt.tokenizer import Tokenizer
from tests.synthetic import random_gpt2, save_checkpoint

CONFIG = {"vocab_size": 50257, "n_embd": 8, "n_layer": 1, "n_head": 1}
CONTEXT = 48
TOKENIZER = Tokenizer()
TEXT = "It was the best of times, it was the worst of times,\nit was the age of wisdom 🦄 " * 5


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_gpt2(**CONFIG)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), **CONFIG)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "times.txt"
    path.write_bytes(TEXT.encode())
    return path


def scored(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    assert main(["score", *map(str, words), "--json"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    result: dict[str, Any] = json.loads(output.out)
    return result


def test_the_document_holds_the_figures_of_the_text(
    file: Path, checkpoint: Path, model: GPT2, capsys: pytest.CaptureFixture[str]
) -> None:
    found = scored(capsys, file, "--model", checkpoint)
    ids = TOKENIZER.encode(TEXT)
    assert found["model"]["n_layer"] == 1
    assert found["file"] == str(file)
    assert (found["tokens"], found["scored_tokens"], found["stride"]) == (len(ids), len(ids) - 1, 24)
    assert found["perplexity"] == pytest.approx(perplexity(model, ids))
    assert found["bits_per_token"] == pytest.approx(math.log2(found["perplexity"]))
    n_bytes = len(TEXT.encode()) - len(TOKENIZER.token_bytes(ids[0]))
    assert found["bits_per_byte"] * n_bytes == pytest.approx(found["bits_per_token"] * (len(ids) - 1))


def test_the_most_surprising_tokens_come_first(
    file: Path, checkpoint: Path, model: GPT2, capsys: pytest.CaptureFixture[str]
) -> None:
    found = scored(capsys, file, "--model", checkpoint, "--top", "3")["most_surprising"]
    ids = TOKENIZER.encode(TEXT)
    logprobs = token_logprobs(model, ids)
    assert [row["logprob"] for row in found] == pytest.approx(np.sort(logprobs)[:3])
    for row in found:
        position = row["position"]
        assert row["id"] == ids[position]
        assert row["text"] == TOKENIZER.token_text(ids[position])
        assert row["logprob"] == pytest.approx(logprobs[position - 1])
        assert TOKENIZER.decode(ids[:position]).endswith(row["context"])
        if position < CONTEXT:  # in the first window, which sees all of the text before it
            likeliest = int(model(ids[:position])[-1].argmax())
            assert row["expected"] == TOKENIZER.token_text(likeliest)


def test_the_stride_and_standard_input(
    checkpoint: Path, model: GPT2, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    found = scored(capsys, "-", "--model", checkpoint, "--stride", "5", "--top", "0")
    assert found["file"] == "standard input"
    assert found["most_surprising"] == []
    assert found["perplexity"] == pytest.approx(perplexity(model, TOKENIZER.encode(TEXT), 5))


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_what_a_person_sees_fits_the_terminal(
    columns: int,
    file: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    found = scored(capsys, file, "--model", checkpoint)
    assert main(["score", str(file), "--model", str(checkpoint)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= columns for line in lines)
    text = "\n".join(lines)
    assert f"{found['perplexity']:,.2f}" in text
    assert f"{found['bits_per_byte']:,.2f}" in text
    if columns >= 80:
        row = found["most_surprising"][0]
        assert any(f"{row['position']:,}" in line and "1 in" in line for line in lines)


def test_control_characters_do_not_reach_the_terminal(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "steers.txt"
    file.write_bytes(b"one \x1b[2J two \x07 three \x1b[31m four " * 3)
    assert main(["score", str(file), "--model", str(checkpoint), "--top", "30"]) == 0
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert "\x07" not in output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"a", "single token"),
        (b"caf\xe9 au lait", "byte 3 is 0xe9, and not UTF-8"),
        (None, "No such file"),
    ],
)
def test_bad_files_get_one_clear_line(
    content: bytes | None,
    message: str,
    tmp_path: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "bad.txt"
    if content is not None:
        file.write_bytes(content)
    assert main(["score", str(file), "--model", str(checkpoint)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert message in output.err
    assert "bad.txt" in output.err


def test_a_folder_is_not_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(tmp_path), "--model", "tiny"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"), [(["--stride", "0"], "--stride is 0"), (["--top", "-1"], "--top: found '-1'")]
)
def test_bad_arguments_get_one_clear_line(
    words: list[str], message: str, file: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(file), "--model", str(checkpoint), *words]) == 2
    assert message in capsys.readouterr().err


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds_per_window", "stream", "bar"),
    [(0.1, Terminal(), False), (1.0, Terminal(), True), (1.0, io.StringIO(), False)],
)
def test_a_progress_bar_is_for_people_who_wait(
    seconds_per_window: float, stream: io.StringIO, bar: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    clock = itertools.count(0, seconds_per_window)
    monkeypatch.setattr(tables.time, "monotonic", lambda: next(clock))
    assert list(tables.with_progress(iter("abcd"), 4, "scoring")) == list("abcd")
    assert ("scoring" in stream.getvalue()) is bar


@pytest.mark.parametrize("gap", [" ", "\n", " \n\t"])
def test_the_space_before_a_token_stays(gap: str) -> None:
    row = score.Surprise(9, 11250, "config", f"on  every\nvariant of the{gap}", -9.0, "same")
    out = io.StringIO()
    print_table(console(out), score.surprise_columns([row]))
    assert "on every variant of the config " in out.getvalue()


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (1.0, "1 in 1"),
        (7.4, "1 in 7"),
        (123.0, "1 in 120"),
        (4.05e8, "1 in 400,000,000"),
        (3e15, "1 in 3.0e+15"),
    ],
)
def test_chances_are_given_to_two_digits(times: float, words: str) -> None:
    assert score.one_in(times) == words
