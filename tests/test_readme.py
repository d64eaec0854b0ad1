"""What README.md shows is what the commands print now."""

import math
import re

import pytest

from scripts.update_readme import BLOCK, MAKERS, README

BLOCKS = [(block[2], block[3], block[0]) for block in BLOCK.finditer(README.read_text(encoding="utf-8"))]
TINY = README.parent / "weights" / "tiny" / "model.safetensors"


@pytest.mark.parametrize(("kind", "words", "shown"), BLOCKS, ids=[words[:40] for _, words, _ in BLOCKS])
def test_the_blocks_are_up_to_date(kind: str, words: str, shown: str) -> None:
    if kind != "lines" and not TINY.exists():
        pytest.skip("weights/tiny is not in this checkout")
    difference = first_difference(MAKERS[kind](words), shown)
    assert not difference, f"{difference}; run: python -m scripts.update_readme"


def first_difference(new: str, shown: str) -> str:
    """Where two texts differ in words, or in a number by more than rounding explains."""
    new_words, shown_words = words_of(new), words_of(shown[shown.index("\n") :].removesuffix("<!-- end -->"))
    for new_word, shown_word in zip(new_words, shown_words, strict=False):
        a, b = number(new_word), number(shown_word)
        close = a is not None and b is not None and (math.isclose(a, b, rel_tol=0.01, abs_tol=0.0101))
        if new_word != shown_word and not close:
            return f"{shown_word!r} is now {new_word!r}"
    return "" if len(new_words) == len(shown_words) else "another number of words"


def words_of(text: str) -> list[str]:
    """Words and numbers, without bars, and without what `verify` says about the machine."""
    text = re.sub(r"minigpt [\d.]+, python.*?cpus \d+\s", "", text, flags=re.DOTALL)
    return re.sub("[▁▂▃▄▅▆▇█▉▊▋▌▍▎▏]+", " ", text).split()


def number(word: str) -> float | None:
    """What a word of digits says: 50,257 or 1.3e-15 or <0.1%."""
    try:
        return float(word.strip("<%(),;:").replace(",", ""))
    except ValueError:
        return None


def test_what_counts_as_a_difference() -> None:
    block = "<!-- run: minigpt -->\na 10.90 49.6% █▎\nb 2e-16\n<!-- end -->"
    assert first_difference("a 10.91 49.7% █▏\nb 7e-17", block) == ""
    assert first_difference("a 11.90 49.6% █▎\nb 2e-16", block) == "'10.90' is now '11.90'"
    assert first_difference("a 10.90 49.6% █▎\nc 2e-16", block) == "'b' is now 'c'"
    assert first_difference("a 10.90 49.6% █▎", block) == "another number of words"


def test_the_commands_that_set_it_up_name_what_there_is() -> None:
    text = README.read_text(encoding="utf-8")
    assert 'pip install -e . && python -m minigpt "I love"' in text
    assert "pip install -e '.[dev]' && pytest" in text
    assert "pip install minigpt" not in text  # on PyPI that is somebody else's
    for target in re.findall(r"\]\(([\w./-]+)(?:#L\d+)?\)", text):
        if target != "weights/tiny/README.md" or TINY.exists():
            assert (README.parent / target).exists(), target
