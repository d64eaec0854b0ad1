"""What README.md and docs/ show is what the commands and the code print now."""

import math
import re
from pathlib import Path

import pytest

from scripts.docs.update import PAGES, ROOT, blocks

README = ROOT / "README.md"
TINY = ROOT / "weights" / "tiny" / "model.safetensors"
GENERATED = [page for page in PAGES if "<!-- end -->" in page.read_text(encoding="utf-8")]
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


@pytest.mark.parametrize("page", GENERATED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_blocks_are_up_to_date(page: Path) -> None:
    if not TINY.exists():
        pytest.skip("weights/tiny is not in this checkout")
    for block in blocks(page):
        difference = first_difference(block.new, block.shown)
        name = page.relative_to(ROOT).as_posix()
        assert not difference, f"{block.words}: {difference}; run: python -m scripts.docs.update {name}"


def first_difference(new: str, shown: str) -> str:
    """Where two texts differ in words, or in a number by more than rounding explains."""
    new_words, shown_words = words_of(new), words_of(shown)
    for new_word, shown_word in zip(new_words, shown_words, strict=False):
        if new_word != shown_word and not close(new_word, shown_word):
            return f"{shown_word!r} is now {new_word!r}"
    return "" if len(new_words) == len(shown_words) else "another number of words"


def words_of(text: str) -> list[str]:
    """Words and numbers, without bars, and without what `verify` says about the machine."""
    text = re.sub(r"minigpt [\d.]+, python.*?cpus \d+\s", "", text, flags=re.DOTALL)
    return re.sub("[▁▂▃▄▅▆▇█▉▊▋▌▍▎▏]+", " ", text).split()


def close(a: str, b: str) -> bool:
    """Whether two words differ in numbers alone, and in these by no more than rounding explains."""
    return NUMBER.sub("#", a) == NUMBER.sub("#", b) and all(
        math.isclose(*(float(number.replace(",", "")) for number in pair), rel_tol=0.01, abs_tol=0.0101)
        for pair in zip(NUMBER.findall(a), NUMBER.findall(b), strict=True)
    )


def test_what_counts_as_a_difference() -> None:
    block = "a 10.90 49.6% █▎\nb 2e-16"
    assert first_difference("a 10.91 49.7% █▏\nb 7e-17", block) == ""
    assert first_difference("a 11.90 49.6% █▎\nb 2e-16", block) == "'10.90' is now '11.90'"
    assert first_difference("a 10.90 49.6% █▎\nc 2e-16", block) == "'b' is now 'c'"
    assert first_difference("a 10.90 49.6% █▎", block) == "another number of words"


@pytest.mark.parametrize("text", ["It adds up to {}.", "({}, or so)", "T={};", "{}x faster", "{}/s"])
def test_a_number_is_one_whatever_stands_beside_it(text: str) -> None:
    assert first_difference(text.format("2.084104"), text.format("2.084106")) == ""
    assert first_difference(text.format("2.084104"), text.format("2.184106")) != ""


def test_the_commands_that_set_it_up_name_what_there_is() -> None:
    text = README.read_text(encoding="utf-8")
    assert 'pip install -e . && python -m minigpt "I love"' in text
    assert "pip install -e '.[dev]' && pytest" in text
    assert "pip install minigpt" not in text  # on PyPI that is somebody else's


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_what_there_is(page: Path) -> None:
    for target in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8")):
        if target != "weights/tiny/README.md" or TINY.exists():
            assert (page.parent / target).exists(), target


def test_the_page_on_reliability_selects_the_tests_that_it_means() -> None:
    """Its columns are for `pytest -k`, which looks for a part of the name of a test, a file or a folder."""
    names, n_expressions = list[str](), 0
    for line in (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines():
        if header := re.search(r"\(`pytest ?(\S*) -k …`\) \|$", line):
            names = names_of_tests(ROOT / (header[1] or "tests"))
        elif names and line.startswith("|"):
            for expression in re.findall("`([^`]+)`", line.rstrip(" |").rpartition(" | ")[2]):
                found = [name for name in names if expression in name]
                assert 1 <= len(found) <= 3, (expression, found)
                n_expressions += 1
    assert n_expressions > 60


def names_of_tests(folder: Path) -> list[str]:
    """Every test of a folder, behind the name of its file."""
    return [
        f"{file.relative_to(folder).as_posix()}::{name}"
        for file in folder.rglob("test_*.py")
        for name in re.findall(r"^ *def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
