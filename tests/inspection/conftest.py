"""A small random model with GPT-2's vocabulary, in memory and on disk."""

from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest

from minigpt.model import GPT2
from minigpt.tokenizer import Tokenizer
from tests.synthetic import random_gpt2, save_checkpoint

FULL_VOCABULARY = {"vocab_size": 50257, "n_embd": 16, "n_layer": 2, "n_head": 2}


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As users run it: without the checks of types and shapes that the suite switches on."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer()


@pytest.fixture(scope="session")
def speaking() -> GPT2:
    """A model that knows every token, and says nonsense."""
    return random_gpt2(**FULL_VOCABULARY)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a folder."""
    return save_checkpoint(tmp_path_factory.mktemp("speaking"), **FULL_VOCABULARY)
