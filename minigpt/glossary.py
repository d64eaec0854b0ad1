"""The field's words: for each one sentence and one line of code, in English and in Korean.

They stand in `data/glossary.json`, which the command, the page and the lessons use alike.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Term:
    """One word. The code runs behind `model, tokenizer = minigpt.load()` and the lines of earlier terms."""

    term: str
    ko: str
    code: str
    sentence: str
    sentence_ko: str


@cache
def glossary() -> tuple[Term, ...]:
    """All terms, in the order in which a reader meets them."""
    file = Path(__file__).parent / "data" / "glossary.json"
    return tuple(Term(**entry) for entry in json.loads(file.read_text(encoding="utf-8")))
