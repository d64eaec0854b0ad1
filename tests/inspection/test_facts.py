"""The published figures are complete and checkable, and a model that is not GPT-2 fails them."""

import math

import pytest

from minigpt.inspection import Fact, check_fact, official_facts
from minigpt.inspection.facts import CHECKS, worst
from minigpt.model import GPT2
from minigpt.tokenizer import Tokenizer
from tests.synthetic import random_gpt2

FACTS = official_facts()


def test_every_fact_has_a_source_and_a_tolerance() -> None:
    assert len(FACTS) == 45
    assert len({fact.id for fact in FACTS}) == len(FACTS)
    for fact in FACTS:
        assert fact.source
        assert fact.title
        assert 0 <= fact.tolerance <= 0.01
        assert fact.kind in CHECKS


def test_they_can_be_had_for_one_model() -> None:
    models = {fact.model for fact in FACTS}
    assert models == {"gpt2", "distilgpt2", "gpt2-medium", "gpt2-xl"}
    assert sum(len(official_facts(model)) for model in models) == len(FACTS)


def test_every_kind_is_in_use() -> None:
    assert {fact.kind for fact in FACTS} == set(CHECKS)


def test_the_texts_are_the_ids(tokenizer: Tokenizer) -> None:
    for fact in FACTS:
        if "prompt" in fact.data and "ids" in fact.data:
            assert tokenizer.encode(fact.data["prompt"], allow_special=True) == fact.data["ids"]
        for answers in fact.data.get("answers", []):
            assert all(len(tokenizer.encode(answer)) == 1 for answer in answers)


@pytest.fixture(scope="module")
def other_model() -> GPT2:
    """A model with GPT-2's vocabulary and as many heads, as `block_0_scores` wants them."""
    return random_gpt2(vocab_size=50257, n_positions=70, n_embd=24, n_layer=1, n_head=12)


WIDE = {"weights", "modules"}  # they look at places that only 768-wide vectors have
SMALL_ENOUGH = [fact for fact in FACTS if fact.kind not in WIDE and len(fact.data.get("tokens", [])) < 300]


@pytest.mark.parametrize("fact", SMALL_ENOUGH, ids=[fact.id for fact in SMALL_ENOUGH])
def test_another_model_fails(fact: Fact, tokenizer: Tokenizer, other_model: GPT2) -> None:
    result = check_fact(fact, other_model, tokenizer)
    assert not result.passed
    assert not math.isnan(result.difference)
    assert "DIFFERENT" in str(result)
    assert fact.source in str(result)


def test_nan_anywhere_is_a_difference() -> None:
    """`max(0.1, nan)` would be 0.1."""
    assert worst([0.1, 0.3, 0.2]) == 0.3
    for differences in ([math.nan, 0.1], [0.1, math.nan], [0.1, math.nan, 0.2]):
        assert math.isnan(worst(differences))
    broken = {"name": "wpe.weight", "start": 8, "values": [math.nan]}
    right = {"name": "wte.weight", "start": 0}
    model = random_gpt2()
    right["values"] = model.parameters.wte[0, :3].tolist()
    assert CHECKS["weights"]({"at": [right]}, model, Tokenizer()) == 0
    assert math.isnan(CHECKS["weights"]({"at": [right, broken]}, model, Tokenizer()))


def test_a_wrong_tokenizer_is_infinitely_far(speaking: GPT2) -> None:
    class Wrong(Tokenizer):
        def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
            return [0]

    fact = next(fact for fact in FACTS if fact.id == "distil_top_1")
    assert check_fact(fact, speaking, Wrong()).difference == math.inf
