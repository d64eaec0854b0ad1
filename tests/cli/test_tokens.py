"""`minigpt tokens`: what a text is cut and merged into."""

import json
from pathlib import Path
from typing import Any

import pytest

from minigpt.checkpoints.tokenizer_files import tokenizer_files
from minigpt.cli.main import main
from minigpt.tokenizer import LONG, Tokenizer
from tests.korean import KOREAN
from tests.synthetic import save_checkpoint

TOKENIZER = Tokenizer()


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["tokens", *words]) == 0
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(shown(capsys, *words, "--json"))


def test_each_merge_is_shown_in_order_with_its_rank(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, " unbelievable")
    assert '" unbelievable": 13 characters, 13 bytes, 1 token\n' in out
    lines = [line.split() for line in out.splitlines()]
    first = lines.index(["37", "l", "+", "e", *"␣unbelievab", "le"])
    assert lines[first + 1] == ["78", "␣", "+", "u", "␣u", *"nbelievab", "le"]
    assert lines[first + 11] == ["24223", "␣unbeliev", "+", "able", "␣unbelievable"]


def test_the_merges_lead_to_the_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    text = "Tokenizers don't unbelievably  misbehave, 2022!"
    found = document(capsys, text)
    assert [token["id"] for token in found["tokens"]] == TOKENIZER.encode(text)
    assert [i for piece in found["pieces"] for i in piece["tokens"]] == TOKENIZER.encode(text)
    assert "".join(piece["text"] for piece in found["pieces"]) == text.replace(" ", "␣")
    for piece in found["pieces"]:
        for merge in piece["merges"]:
            assert merge["left"] + merge["right"] in merge["parts"]
            assert TOKENIZER.merges[merge["rank"]] == tuple(
                merge[side].replace("␣", " ").encode() for side in ("left", "right")
            )
        if piece["merges"]:
            texts = [found["tokens"][i]["text"] for i in range(len(found["tokens"]))]
            assert set(piece["merges"][-1]["parts"]) <= set(texts)
    assert "never_seen" not in found


def test_korean_is_characters_bytes_and_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "안녕하세요")
    assert (found["characters"], found["bytes"], len(found["tokens"])) == (5, 15, 14)
    assert found["tokens"][6] == {"position": 6, "id": 47991, "text": r"\xed\x95", "bytes": "ed 95"}
    assert [character["text"] for character in found["broken"]] == list("안녕하세요")
    assert found["broken"][2] == {"text": "하", "bytes": "ed 95 98", "positions": [6, 7]}
    out = shown(capsys, "안녕하세요")
    assert '"안녕하세요": 5 characters, 15 bytes, 14 tokens' in out
    assert "There are 5 characters that no token holds whole" in out
    assert shown(capsys, "a 🤗").count("There is one character that no token holds whole") == 1
    assert "whole" not in shown(capsys, "I love")


def test_a_model_tells_whose_tokens_and_which_of_them_it_never_saw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "The model never saw 15 of these 19 tokens" in shown(capsys, "나는 너를 사랑해", "--model", "tiny")
    assert document(capsys, "I love", "--model", "tiny")["never_seen"] == []
    trained = Tokenizer.train([KOREAN], 450)
    folder = save_checkpoint(tmp_path / "model", vocab_size=450)
    for name, content in tokenizer_files(trained).items():
        (folder / name).write_text(content, encoding="utf-8")
    found = document(capsys, "나는 너를 사랑해", "--model", str(folder))
    assert [token["id"] for token in found["tokens"]] == trained.encode("나는 너를 사랑해")
    assert len(found["broken"]) < len(document(capsys, "나는 너를 사랑해")["broken"])


def test_a_long_piece_is_counted_but_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    text = "a" * (LONG + 1)
    assert "too long to show" in shown(capsys, text)
    found = document(capsys, text)
    assert found["pieces"] == [{"text": text, "tokens": TOKENIZER.encode(text), "merges": None}]


def test_many_pieces_are_cut_short_but_not_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(chr(ord("a") + i) + "x" for i in range(26))
    assert "… and 6 other pieces" in shown(capsys, text)
    assert len(document(capsys, text)["pieces"]) == 26


@pytest.mark.parametrize("columns", ["20", "80", "120"])
@pytest.mark.parametrize("text", [" unbelievable", "안녕하세요", "\x1b[31m\u202e 🤗"])
def test_it_fits_any_terminal_and_steers_none(
    columns: str, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    out = shown(capsys, text)
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert all(len(line) <= int(columns) for line in out.splitlines())


def test_no_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", ""]) == 2
    assert "TEXT: it is empty" in capsys.readouterr().err
