"""The glossary's sentences are whole, each in two languages."""

import re

import numpy as np
import pytest

import minigpt
from minigpt.glossary import Term, glossary


@pytest.mark.parametrize("entry", glossary(), ids=lambda entry: entry.term)
def test_every_term_is_one_sentence_in_two_languages(entry: Term) -> None:
    assert re.fullmatch(r"[A-Za-z\u00b4e].*[.?]", entry.sentence)
    assert re.search(r"[가-힣]", entry.sentence_ko)
    assert entry.sentence_ko.endswith("다.")
    assert "\n" not in entry.code


def test_no_term_stands_there_twice() -> None:
    terms = [entry.term for entry in glossary()]
    assert len(terms) == len(set(terms))


def test_every_line_of_code_runs() -> None:
    model, tokenizer = minigpt.load("tiny")
    known = {"np": np, "minigpt": minigpt, "model": model, "tokenizer": tokenizer}
    known["ids"] = tokenizer.encode("I love")
    for entry in glossary():
        exec(entry.code, known)  # one line may use what an earlier one has made
