"""What README.md shows is what the commands print now."""

import re

import pytest

from scripts.update_readme import BLOCK, MAKERS, README

BLOCKS = [(block[2], block[3], block[0]) for block in BLOCK.finditer(README.read_text(encoding="utf-8"))]
TINY = README.parent / "weights" / "tiny" / "model.safetensors"


@pytest.mark.parametrize(("kind", "words", "shown"), BLOCKS, ids=[words[:40] for _, words, _ in BLOCKS])
def test_the_blocks_are_up_to_date(kind: str, words: str, shown: str) -> None:
    if kind != "lines" and not TINY.exists():
        pytest.skip("weights/tiny is not in this checkout")
    new = MAKERS[kind](words)
    assert steady(new) in steady(shown), "run: python -m scripts.update_readme"


def steady(text: str) -> str:
    """The text without what rounding may change on another machine; lines of code stay."""
    return re.sub(r"(?<!py:)(?<![\w.])[-+]?\d[\d,.]*(e[-+]\d+)?%?|[▁▂▃▄▅▆▇█▉▊▋▌▍▎▏]+|  +", "~", text)


def test_the_commands_that_set_it_up_name_what_there_is() -> None:
    text = README.read_text(encoding="utf-8")
    assert 'pip install -e . && python -m minigpt "I love"' in text
    assert "pip install -e '.[dev]' && pytest" in text
    assert "pip install minigpt" not in text  # on PyPI that is somebody else's
    for target in re.findall(r"\]\(([\w./-]+)(?:#L\d+)?\)", text):
        if target != "weights/tiny/README.md" or TINY.exists():
            assert (README.parent / target).exists(), target
