"""Texts become tokens and windows; what cannot be read or is too short is told."""

import os
from pathlib import Path

import numpy as np
import pytest

from minigpt.errors import InputError
from minigpt.model import GPT2
from minigpt.parallel import Threads
from minigpt.parameters import Config
from minigpt.scoring import log_softmax
from minigpt.tokenizer import Tokenizer
from minigpt.training.curve import History, loss_curve, text_curve
from minigpt.training.data import bigram_bits_per_byte, read_corpus, split_tails, tokenize
from minigpt.training.evaluation import bits_per_byte, mean_loss, windows_of

BYTES = Tokenizer.train(["."], 256)


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.txt").write_bytes(text.encode())
    return folder


def test_files_and_folders_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, b="second text", a="\ufefffirst text\r\n")
    (tmp_path / "notes.md").write_text("not a text")
    corpus = read_corpus([tmp_path], share=0.5)
    assert corpus.training == ("first", "secon")
    assert corpus.held_out == (" text\n", "d text")


def test_a_file_can_be_held_out_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path, a="to learn", b="to test")
    corpus = read_corpus([tmp_path / "a.txt"], held_out=[tmp_path / "b.txt"])
    assert (corpus.training, corpus.held_out) == (("to learn",), ("to test",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"caf\xe9", "byte 3 is 0xe9, and not UTF-8; save the text as UTF-8"),
        (b" \n", "there is no text in it"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_is_no_text_is_told(content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_corpus([tmp_path / "a.txt"])


def test_a_file_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.training.data.LONGEST_TEXT", 1 << 20)
    with pytest.raises(InputError, match="/dev/zero: more than 1 MiB; give a shorter text"):
        read_corpus(["/dev/zero"])


def test_a_folder_s_pipes_and_folders_are_no_texts(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")  # which would be waited for
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "text.txt").write_text("I love you.", encoding="utf-8")
    assert read_corpus([tmp_path], share=0.5).training == ("I lov",)


def test_a_name_that_no_file_can_have_is_told() -> None:
    with pytest.raises(InputError, match="no file can have this name"):
        read_corpus(["a\0b"])


def test_a_folder_without_texts_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file in this folder is called \*\.txt"):
        read_corpus([tmp_path])


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=r"share is .*; it must be above 0 and below 1"):
        split_tails(["text"], share)


def test_between_texts_stands_the_end_of_text() -> None:
    tokenizer = Tokenizer.train(["aa aa aa"], 258)
    tokens = tokenize(split_tails(["aa aa aa", "b"], 0.4), tokenizer, 2)
    assert tokens.training.tolist() == [*tokenizer.encode("aa a"), 257]
    assert tokens.held_out.tolist() == [*tokenizer.encode("a aa"), 257, *tokenizer.encode("b")]
    assert tokens.held_out_bytes == len("a aa") - 1 + 1 + len("<|endoftext|>")


def test_a_held_out_part_of_one_token_is_refused() -> None:
    with pytest.raises(InputError, match="held out has no two tokens"):
        tokenize(split_tails(["0123456789"]), BYTES, 4)


@pytest.mark.parametrize("n", [2, 8, 9, 10, 300])
def test_the_windows_of_a_test_hold_every_token_but_the_first_once(n: int) -> None:
    windows = windows_of(np.arange(n, dtype=np.int32), 8)
    assert np.concatenate([targets.ravel() for _, targets in windows]).tolist() == list(range(1, n))
    assert all((targets == ids + 1).all() for ids, targets in windows)


def test_the_held_out_loss_is_that_of_scoring() -> None:
    model = GPT2.random(Config(vocab_size=256, n_positions=8, n_embd=12, n_layer=1, n_head=2))
    text = "Windows end where the context ends."
    ids = np.array(BYTES.encode(text))
    with Threads(2) as threads:
        loss = mean_loss(model, windows_of(ids, 8), threads)
    expected = 0.0
    for start in range(0, len(ids) - 1, 8):
        here, after = ids[start : start + 8][: len(ids) - 1 - start], ids[start + 1 : start + 9]
        expected -= np.take_along_axis(log_softmax(model(here)), after[:, None], -1).sum()
    assert loss == pytest.approx(expected / (len(ids) - 1), rel=1e-5)
    assert bits_per_byte(np.log(2), 10, 40) == 0.25


def test_counting_pairs_of_bytes() -> None:
    training = ["ab" * 400]
    assert bigram_bits_per_byte(training, ["abababab"]) == pytest.approx(np.log2(656 / 401), abs=0.01)
    assert bigram_bits_per_byte(training, ["xyz"]) == 8.0  # a byte that never occurred: all are as likely


# ----------------------------------------------------------------------------------------- the loss curve


def test_the_curve_is_one_svg_with_both_losses() -> None:
    history = History([5.0, 4.0, 3.0, 2.0], [(0, 5.5), (4, 2.5)])
    picture = loss_curve(history)
    assert picture.startswith("<svg")
    assert picture.count("<polyline") == 2
    assert "5.50" in picture
    assert "NaN" not in loss_curve(History([1.0], []))
    assert loss_curve(History()).startswith("<svg")


def test_two_tests_after_the_same_step_are_one_point() -> None:
    history = History()
    history.add_test(3, 2.0)
    history.add_test(3, 1.9)
    assert history.held_out == [(3, 1.9)]


def test_the_curve_in_a_terminal_falls_from_top_left_to_bottom_right() -> None:
    rows = text_curve([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], width=8, height=2)
    assert rows == ["█▆▄▂    ", "████▇▅▃▁"]
    assert text_curve([], 8) == []
    assert len(text_curve([2.0] * 500, 40)[0]) == 40


@pytest.mark.parametrize("width", [-1, 0, 1])
def test_a_curve_without_room_is_one_column(width: int) -> None:
    assert {len(row) for row in text_curve([3.0, 2.0, 1.0], width)} == {1}
