"""Numbers that other projects have published about the official weights, each with its source.

The facts are in `minigpt/data/reference.json`; `python -m minigpt verify --model gpt2` checks the same.
"""

import pytest

from minigpt.inspection.facts import Fact, check_fact, official_facts
from tests.official.conftest import loaded, official


@pytest.mark.parametrize("fact", official_facts(), ids=lambda fact: f"{fact.model}-{fact.id}")
def test_a_published_fact(fact: Fact) -> None:
    official(fact.model)
    result = check_fact(fact, *loaded(fact.model))
    assert result.passed, str(result)
