"""The model that ships was really trained: what it says is English, and depends on the context."""

import re

import numpy as np
import pytest

import minigpt
from minigpt.checkpoints.load import find
from minigpt.model import GPT2
from minigpt.scoring import perplexity
from minigpt.tokenizer import Tokenizer

FUNCTION_WORDS = {
    "a", "all", "and", "as", "at", "be", "but", "by", "for", "from", "had", "he", "her", "him", "his", "i",
    "in",
    "is", "it", "me", "my", "no", "not", "of", "on", "one", "she", "so", "that", "the", "their", "them",
    "then",
    "there", "they", "this", "to", "was", "we", "were", "when", "which", "with", "you", "your",
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> tuple[GPT2, Tokenizer]:
    return minigpt.load("tiny")


def likeliest(tiny: tuple[GPT2, Tokenizer], prompt: str, n: int) -> list[str]:
    model, tokenizer = tiny
    logits = model(tokenizer.encode(prompt))[-1]
    return [tokenizer.token_text(token_id) for token_id in np.argsort(-logits)[:n].tolist()]


def test_after_i_love(tiny: tuple[GPT2, Tokenizer]) -> None:
    assert " you" in likeliest(tiny, "I love", 5)
    assert likeliest(tiny, "I love", 10) != likeliest(tiny, "I hate", 10)


@pytest.mark.parametrize("prompt", ["I love", "The old man", "Once upon a time there was"])
def test_greedy_text_is_english_sentences(tiny: tuple[GPT2, Tokenizer], prompt: str) -> None:
    text = prompt + "".join(minigpt.generate_text(*tiny, prompt, max_new_tokens=80, temperature=0))
    words = re.findall(r"[A-Za-z]+", text.lower())
    assert len(words) > 50
    assert sum(word in FUNCTION_WORDS for word in words) > len(words) / 3  # as in English, where it is half
    assert re.search(r"[a-z][.!?]\W+[A-Z]", text)  # a sentence ends, and another begins
    assert re.fullmatch(r"[\w\s.,;:!?'\"“”‘’—()-]+", text)


def test_order_matters_to_it(tiny: tuple[GPT2, Tokenizer]) -> None:
    model, tokenizer = tiny
    sentence = "The children ran down to the river, and their mother called them back to the house."
    backwards = " ".join(reversed(sentence.split()))
    expected, shuffled = (perplexity(model, tokenizer.encode(text)) for text in (sentence, backwards))
    assert expected * 4 < shuffled
    assert expected < 200


def test_tokens_that_its_books_never_held_rank_low(tiny: tuple[GPT2, Tokenizer]) -> None:
    """ " SolidGoldMagikarp" and 15,000 others: the model card says how."""
    model, tokenizer = tiny
    unseen = tokenizer.encode(" SolidGoldMagikarp")
    assert len(unseen) == 1
    same = (model.parameters.wte == model.parameters.wte[unseen[0]]).all(axis=1)
    assert same.sum() > 10_000  # they share one row
    for prompt in ("I love", "The", "def main():\n\treturn"):
        p = minigpt.probabilities(model(tokenizer.encode(prompt))[-1])
        assert p[same].sum() < 1e-6


def test_it_is_small_enough_to_ship() -> None:
    folder = find("tiny", offline=True).path
    assert (folder / "model.safetensors").stat().st_size <= 25_000_000
