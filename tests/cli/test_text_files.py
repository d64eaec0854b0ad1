"""Text from files: what is about the file and not about the text does not reach the model."""

import io
import sys
from pathlib import Path

import pytest

from minigpt.cli import text_files
from minigpt.cli.main import main
from minigpt.cli.text_files import read_prompt, read_text
from minigpt.errors import InputError
from minigpt.scoring import perplexity
from minigpt.tokenizer import Tokenizer
from tests.cli.conftest import Run
from tests.synthetic import random_gpt2

PLAIN = "One line.\nAnd another."
VARIANTS = [
    (PLAIN.encode(), []),
    (PLAIN.encode() + b"\n", ["the line ends at the end were left out"]),
    (b"\xef\xbb\xbf" + PLAIN.encode(), ["the byte-order mark was taken off"]),
    (PLAIN.replace("\n", "\r\n").encode(), ["1 CRLF line ends were read as LF"]),
    (
        b"\xef\xbb\xbf" + f"{PLAIN}\n\n".replace("\n", "\r\n").encode(),
        [
            "the byte-order mark was taken off",
            "3 CRLF line ends were read as LF",
            "the line ends at the end were left out",
        ],
    ),
]


@pytest.mark.parametrize(("data", "notes"), VARIANTS)
def test_what_is_about_the_file_is_left_out_and_told(
    tmp_path: Path, data: bytes, notes: list[str], document: Run, run: Run, folder: Path
) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(data)
    found = read_text(str(file), special=False)
    assert (found.text, found.notes) == (PLAIN, notes)
    result = run("score", str(file), "--json")
    assert result.err == (f"minigpt: {file}: {', '.join(notes)}.\n" if notes else "")


def test_all_of_these_files_have_one_perplexity(tmp_path: Path, run: Run) -> None:
    outputs = set()
    for data, _ in VARIANTS:
        (tmp_path / "text.txt").write_bytes(data)
        outputs.add(run("score", str(tmp_path / "text.txt")).out)
    assert len(outputs) == 1
    assert "␤" not in outputs.pop()


def test_the_sign_between_documents_is_text_unless_it_is_asked_for(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "two.txt"
    file.write_text("One.<|endoftext|>Two.", encoding="utf-8")
    plain = run("score", str(file), "--json")
    assert plain.err == (
        f"minigpt: {file}: <|endoftext|> occurs once and was read as text (--special reads the token).\n"
    )
    special = run("score", str(file), "--json", "--special")
    assert special.err == f"minigpt: {file}: <|endoftext|> occurs once and was read as the token.\n"
    ids = Tokenizer().encode(file.read_text(), allow_special=True)
    assert f'"tokens": {len(ids)},' in special.out
    assert f'"tokens": {len(ids)},' not in plain.out
    file.write_text("One. Two.", encoding="utf-8")
    assert run("score", str(file), "--json", "--special").err == (
        f"minigpt: {file}: there is no <|endoftext|> in it.\n"
    )


def test_a_model_sees_a_token_of_that_name(tmp_path: Path, document: Run, folder: Path) -> None:
    file = tmp_path / "two.txt"
    file.write_text("One.<|endoftext|>Two.", encoding="utf-8")
    assert main(["score", str(file), "--special", "--model", str(folder)]) == 0
    model = random_gpt2(vocab_size=50257, n_embd=16, n_layer=3, n_head=2, n_positions=40)
    ids = Tokenizer().encode(file.read_text(), allow_special=True)
    assert 50256 in ids
    assert perplexity(model, ids) != perplexity(model, Tokenizer().encode(file.read_text()))


def pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_prompt_of_standard_input_is_read_likewise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(monkeypatch, b"\xef\xbb\xbfI\r\nlove\r\n")
    assert read_prompt("-") == "I\nlove"
    assert capsys.readouterr().err == (
        "minigpt: standard input: the byte-order mark was taken off, 1 CRLF line ends were read as LF.\n"
    )
    assert read_prompt("I\r\nlove") == "I\r\nlove"  # what is typed is meant


def test_a_stream_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        read_bytes = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            buffer[:] = b"y\n" * (len(buffer) // 2) + b"y" * (len(buffer) % 2)
            self.read_bytes += len(buffer)
            return len(buffer)

    endless = Endless()
    monkeypatch.setattr(text_files, "LONGEST_PROMPT", text_files.MEBIBYTE)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(endless)))
    with pytest.raises(InputError, match="standard input: more than 1 MiB; give a shorter text"):
        read_prompt("-")
    assert endless.read_bytes < 3 * text_files.MEBIBYTE
