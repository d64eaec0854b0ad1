"""A small model and a command line to type, and the fixtures of the inspection tests."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minigpt.cli.main import main
from minigpt.model import GPT2
from tests.inspection.conftest import checkpoint, speaking, tokenizer, unchecked
from tests.synthetic import random_gpt2, save_checkpoint

__all__ = ["checkpoint", "speaking", "tokenizer", "unchecked"]

CONFIG = {"vocab_size": 50257, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 40}
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model with GPT-2's vocabulary."""
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), **CONFIG)


@pytest.fixture(scope="module")
def model() -> GPT2:
    """The same model."""
    return random_gpt2(**CONFIG)


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Type a command line without a terminal, at a width of 80; gives status, out and err."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def typed(*words: str, status: int = 0) -> Any:
        found = main([*words, "--model", str(folder)])
        captured = capsys.readouterr()
        assert found == status, captured.err
        return SimpleNamespace(out=captured.out, err=captured.err)

    return typed


@pytest.fixture
def document(run: Run) -> Run:
    """The document that a command line with `--json` prints."""

    def printed(*words: str) -> Any:
        result = run(*words, "--json")
        assert result.err == ""
        assert result.out.isascii()
        assert result.out.count("\n") == 1
        return json.loads(result.out, parse_constant=pytest.fail)  # no NaN, no Infinity

    return printed
