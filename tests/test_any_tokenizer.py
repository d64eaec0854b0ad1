"""A tokenizer that a learner wrote in fifteen lines does for everything that speaks."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigpt
from minigpt.checkpoints.find import Source
from minigpt.cli.document import context_document
from minigpt.cli.main import read_prompt_options
from minigpt.cli.passes import Checkpoint, read, run_pass
from minigpt.cli.story import tell
from minigpt.errors import InputError
from minigpt.model import GPT2
from minigpt.page import write_page
from minigpt.scoring import candidates, never_seen, never_seen_note, next_tokens
from minigpt.tokenizer import AnyTokenizer, TextStream, encode_prompt, text_of, token_text
from tests.synthetic import random_gpt2


class Letters:
    """Every letter is a token."""

    end_of_text: int | None = 0

    def __init__(self, text: str) -> None:
        self.letters = ["¶", *sorted(set(text))]
        self.n_vocab = len(self.letters)

    def encode(self, text: str) -> list[int]:
        return [self.letters.index(letter) for letter in text]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.letters[token_id] for token_id in ids)

    def token_bytes(self, token_id: int) -> bytes:
        return self.letters[token_id].encode()


LETTERS = Letters("나는 너를 사랑해, I love you")
LIVELY: Any = {"temperature": 50, "seed": 1, "stop_ids": None}
SOURCE = Source("letters", Path("letters"), "made here")


@pytest.fixture(scope="module")
def model() -> GPT2:
    """It knows more ids than there are letters."""
    return random_gpt2(vocab_size=LETTERS.n_vocab + 5)


def test_it_is_a_tokenizer() -> None:
    tokenizer: AnyTokenizer = LETTERS  # mypy checks it, too
    assert isinstance(tokenizer, AnyTokenizer)
    assert not isinstance(object(), AnyTokenizer)


def test_it_generates_text(model: GPT2) -> None:
    generation = minigpt.generate_text(model, LETTERS, "나는 ", max_new_tokens=20, **LIVELY)
    assert "".join(generation) == text_of(LETTERS, generation.ids)
    assert any(token_id >= LETTERS.n_vocab for token_id in generation.ids)
    assert "<id " in generation.text
    stop = generation.text[3:5]
    stopped = minigpt.generate_text(model, LETTERS, "나는 ", max_new_tokens=20, stop=stop, **LIVELY)
    assert "".join(stopped) == generation.text[: generation.text.index(stop)]


def test_its_end_of_text_ends_a_text_and_starts_an_empty_one(model: GPT2) -> None:
    texts = [
        minigpt.generate_text(model, LETTERS, "", max_new_tokens=40, seed=seed, temperature=50)
        for seed in range(20)
    ]
    ended = [text for text in texts if "".join(text) is not None and text.stop_reason == "stop_id"]
    assert ended
    assert all(text.ids[-1] == 0 and "¶" not in text.text for text in ended)
    assert encode_prompt(LETTERS, "") == [0]


def test_without_an_end_of_text_an_empty_prompt_is_refused(model: GPT2) -> None:
    endless = Letters("I love you")
    endless.end_of_text = None
    generation = minigpt.generate_text(model, endless, "I", max_new_tokens=9, seed=0)
    assert len("".join(generation)) >= 9
    with pytest.raises(InputError, match="prompt: it is empty, and this tokenizer has no token"):
        minigpt.generate_text(model, endless, "", max_new_tokens=9)


def test_it_scores(model: GPT2) -> None:
    ids = LETTERS.encode("I love")
    logits = model(ids)[-1]
    rows = next_tokens(logits, LETTERS, top=len(logits))
    assert {row.text for row in rows} == {
        *LETTERS.letters,
        *(f"<id {LETTERS.n_vocab + i}>" for i in range(5)),
    }
    (found,) = candidates(model, LETTERS, ids, logits, [" you"])
    assert found.ids == LETTERS.encode(" you")
    assert np.isfinite(found.logprob)


def test_it_tells_the_story_and_its_document(model: GPT2, capsys: pytest.CaptureFixture[str]) -> None:
    options = read_prompt_options(
        ["나는", "--candidates", " 너를", "--compare", "", "-n", "3", "--seed", "0"]
    )
    readings = [read(Checkpoint(SOURCE, model, LETTERS), prompt, options) for prompt in ("나는", "")]
    tell(readings, options, seed=0)
    out = capsys.readouterr().out
    assert f"Letters.encode  tests/test_any_tokenizer.py:{Letters.encode.__code__.co_firstlineno}" in out
    assert f"{LETTERS.n_vocab} pieces of text" in out
    first, empty = (context_document(run_pass(reading), options, seed=0) for reading in readings)
    assert [token["text"] for token in first["tokens"]] == ["나", "는"]
    assert [token["text"] for token in empty["tokens"]] == ["¶"]
    assert len(first["generated"]["ids"]) == 3


def test_it_makes_a_page(model: GPT2, tmp_path: Path) -> None:
    page = write_page(tmp_path / "letters.html", model, LETTERS, "나는 너를", source=SOURCE, comparisons=[""])
    assert "Letters.encode" in page.read_text(encoding="utf-8")


def test_ids_without_a_token_have_their_number() -> None:
    beyond = LETTERS.n_vocab + 2
    assert token_text(LETTERS, beyond) == f"<id {beyond}>"
    assert (
        text_of(LETTERS, [1, beyond, 1]) == f"{token_text(LETTERS, 1)}<id {beyond}>{token_text(LETTERS, 1)}"
    )
    assert TextStream(LETTERS).push(beyond) == f"<id {beyond}>"


# ----------------------------------------------------------------------------- tokens that were never trained


def test_tokens_that_share_a_row_were_never_trained() -> None:
    model = random_gpt2()
    wte = model.parameters.wte.copy()
    wte[[3, 5, 200]] = wte[7]
    wte[9, 0] = wte[8, 0]  # one number alone may be the same
    object.__setattr__(model.parameters, "wte", wte)
    assert never_seen(model, [3, 4, 9, 3, 8, 7, 306]) == [0, 3, 5]
    assert never_seen(model, [4, 8, 9]) == []
    assert never_seen(random_gpt2(), list(range(307))) == []
    assert never_seen_note(3, 7) == "The model never saw 3 of these 7 tokens; to it they are all the same."


def test_tiny_never_saw_korean() -> None:
    model, tokenizer = minigpt.load("tiny")
    ids = tokenizer.encode("나는 너를 사랑해")
    assert len(never_seen(model, ids)) == 15
    assert never_seen(model, tokenizer.encode("I love you with all my heart.")) == []
