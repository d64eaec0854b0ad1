"""The fuzzer of checkpoints: a few hundred cases of it, and that it would notice each thing it looks for."""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigpt
from minigpt.checkpoints.load import load
from minigpt.errors import CheckpointError
from minigpt.model import GPT2
from minigpt.parameters import read_only
from scripts.fuzz import checkpoints as fuzz

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the cases hold symbolic links and pipes")


def test_every_case_survives() -> None:
    counts = fuzz.run(300, number=1)
    assert {damage for damage, _ in counts} >= {damage.__name__.replace("_", " ") for damage in fuzz.DAMAGES}
    refused = sum(n for (_, kind), n in counts.items() if kind == "refused")
    assert counts.total() // 3 < refused < counts.total() * 0.95  # not everything is refused


def test_what_the_damages_start_from_is_loaded() -> None:
    assert [fuzz.survive(files) for files in fuzz.intact()] == ["loaded"] * len(fuzz.intact())


# ------------------------------------------------------------- what a broken loader would do, and is it seen


def opens_what_stands_outside(folder: Path) -> None:
    (folder / ".." / "config.json").read_bytes()


def hangs(folder: Path) -> None:
    time.sleep(30)


def takes_memory(folder: Path) -> None:
    np.empty(1 << 30, np.uint8)


def warns(folder: Path) -> None:
    warnings.warn("overflow", RuntimeWarning, stacklevel=1)


def crashes(folder: Path) -> None:
    raise KeyError("wte.weight")


def names_no_file(folder: Path) -> None:
    raise CheckpointError("something is wrong.")


def steers_the_terminal(folder: Path) -> None:
    raise CheckpointError(f"{folder}: \x1b[31mwrong.")


def tells_a_story(folder: Path) -> None:
    raise CheckpointError(f"{folder}: {'x' * 1000}.")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (opens_what_stands_outside, "opened .*config.json"),
        (hangs, "not done after"),
        pytest.param(
            takes_memory,
            "Unable to allocate",
            marks=pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's limits"),
        ),
        (warns, "overflow"),
        (crashes, r"wte\.weight"),
        (names_no_file, "something is wrong"),
        (steers_the_terminal, "wrong"),
        (tells_a_story, "xxx"),
    ],
)
def test_a_loader_that_misbehaves_is_noticed(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[[Path], None], words: str
) -> None:
    def load_badly(path: Path) -> Any:
        broken(path)
        return load(path)

    monkeypatch.setattr(minigpt, "load", load_badly)
    monkeypatch.setattr(fuzz, "SECONDS", 2.0)
    with pytest.raises((AssertionError, OSError, Warning, KeyError, MemoryError), match=words):
        fuzz.survive(fuzz.intact()[0])


def other_numbers(model: GPT2) -> GPT2:
    p = model.parameters
    return replace(model, parameters=replace(p, wpe=read_only(p.wpe + np.float32(1e-6))))


def other_heads(model: GPT2) -> GPT2:
    return replace(model, config=replace(model.config, n_head=1))


def open_to_all(model: GPT2) -> GPT2:
    return replace(model, parameters=replace(model.parameters, wpe=model.parameters.wpe.copy()))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_numbers, r"wpe\.weight is something else"),
        (other_heads, "n_head is 2"),
        (open_to_all, "can be written to"),
    ],
)
def test_a_model_that_is_not_what_the_files_hold_is_noticed(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[GPT2], GPT2], words: str
) -> None:
    def load_another(path: Path) -> Any:
        model, tokenizer = load(path)
        return spoil(model), tokenizer

    monkeypatch.setattr(minigpt, "load", load_another)
    with pytest.raises(AssertionError, match=words):
        fuzz.survive(fuzz.intact()[0])
