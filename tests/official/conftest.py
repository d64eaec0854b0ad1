"""The official weights, wherever they are: `weights/NAME`, or the Hub's cache. Nothing is downloaded here."""

from functools import cache

import pytest

from minigpt.checkpoints.find import Source, find
from minigpt.checkpoints.load import load
from minigpt.errors import MiniGPTError
from minigpt.model import GPT2
from minigpt.tokenizer import Tokenizer

HOW_TO = "python -m minigpt download {name} brings them where there is a network"


def official(name: str) -> Source:
    """Where the official model is on this machine; skips the test, and says so, where it is not."""
    try:
        return find(name, offline=True)
    except MiniGPTError:
        pytest.skip(f"the official {name} weights are not on this machine: {HOW_TO.format(name=name)}")


@cache
def loaded(name: str) -> tuple[GPT2, Tokenizer]:
    """The official model, read once."""
    return load(official(name))
