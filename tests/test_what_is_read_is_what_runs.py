"""Whatever a reader changes in model.py reaches every output, without a flag and not in silence."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigpt
from minigpt import fast, generation, scoring
from minigpt import model as model_module
from minigpt.fast import FastGPT2, changes
from minigpt.inspection import trace
from minigpt.model import GPT2
from tests.synthetic import plain, random_gpt2

ROOT = Path(__file__).resolve().parent.parent
IDS = [5, 17, 3, 40]


def test_fast_py_knows_the_model_py_that_it_was_proven_equal_to() -> None:
    """Where this fails: run tests/test_fast.py and tests/parity, then write the new sum into fast.py."""
    text = Path(model_module.__file__).read_text(encoding="utf-8")  # newlines as on Linux
    assert hashlib.sha256(text.encode()).hexdigest() == fast.PROVEN_EQUAL_TO


# ------------------------------------------------------------------------------------------- an edited file


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and of `tiny`, to be edited."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "minigpt", folder / "minigpt", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "weights" / "tiny", folder / "weights" / "tiny")
    return folder


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"}
    command = [sys.executable, "-m", "minigpt", *words, "--model", "tiny"]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True, encoding="utf-8"
    )


COMMANDS = {
    "story": ["I love"],
    "text": ["I love", "-n", "8", "--temperature", "0"],
    "json": ["I love", "--json"],
    "score": ["score", "text.txt"],
    "page": ["I love", "--html", "page.html"],
}


def outputs(folder: Path) -> dict[str, str]:
    """What each command prints or writes."""
    (folder / "text.txt").write_text("I love you, and you love me.", encoding="utf-8")
    found = {}
    for name, words in COMMANDS.items():
        done = run(folder, *words)
        found[name] = done.stdout
        if name == "page":
            found[name] = (folder / "page.html").read_text(encoding="utf-8").partition("minigpt/model.py:")[2]
        found[f"{name}'s notice"] = done.stderr
    return found


def test_an_edited_line_changes_every_output_and_is_told(copy: Path) -> None:
    before = outputs(copy)
    file = copy / "minigpt" / "model.py"
    right, wrong = "np.where(visible, scores, -np.inf)", "np.where(visible, scores, 0 * scores)"
    text = file.read_text(encoding="utf-8")
    assert text.count(right) == 1
    file.write_text(text.replace(right, wrong), encoding="utf-8")
    after = outputs(copy)
    for name in COMMANDS:
        assert before[name] != after[name], name
        assert "model.py" not in before[f"{name}'s notice"]
        assert after[f"{name}'s notice"].count("the plain path of model.py runs") == 1


def test_a_windows_checkout_is_the_same_file(copy: Path) -> None:
    """Git may write other newlines there; Python reads them as the same."""
    file = copy / "minigpt" / "model.py"
    file.write_bytes((ROOT / "minigpt" / "model.py").read_bytes().replace(b"\n", b"\r\n"))
    done = run(copy, "I love", "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["next_tokens"]


# -------------------------------------------------------------------------- a function replaced at run time


def doubled(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: 2 * function(*args, **kwargs)


REPLACED = [
    "embed", "layer_norm", "linear", "softmax", "attention_weights", "attention", "gelu_new", "mlp", "block",
]  # fmt: skip


@pytest.mark.parametrize("name", REPLACED)
def test_a_replaced_function_is_what_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fast.say_once.cache_clear()
    model = random_gpt2()
    before = model(IDS)
    monkeypatch.setattr(model_module, name, doubled(getattr(model_module, name)))
    after = model(IDS)
    assert not np.allclose(before, after)
    np.testing.assert_array_equal(after, plain(model)(IDS))
    np.testing.assert_array_equal(after, trace(model, IDS)["logits"])
    assert capsys.readouterr().err.count(f"{name} differs from what fast.py") == 1
    monkeypatch.undo()
    np.testing.assert_array_equal(model(IDS), before)


def test_the_mask_as_a_function_can_be_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_gpt2()
    before = model(IDS)
    right = model_module.causal_mask
    monkeypatch.setattr(model_module, "causal_mask", lambda positions: np.ones_like(right(positions)))
    after = model(IDS)
    assert not np.allclose(before[0], after[0])  # the first token sees what comes later
    assert list(generation.generate(model, IDS, max_new_tokens=1, temperature=0)) == [after[-1].argmax()]


def test_a_replaced_softmax_reaches_the_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "softmax", lambda scores: np.full_like(scores, 1 / scores.shape[-1]))
    np.testing.assert_allclose(minigpt.probabilities(np.arange(4.0)), 0.25)


def test_another_forward_pass_altogether(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_gpt2()
    monkeypatch.setattr(GPT2, "__call__", lambda self, ids, **_: np.zeros((len(ids), self.config.vocab_size)))
    assert not model(IDS).any()


def test_another_block(capsys: pytest.CaptureFixture[str]) -> None:
    fast.say_once.cache_clear()
    model = random_gpt2()
    idle = replace(model, block=lambda x, p, layer, call: x)
    assert not np.allclose(idle(IDS), model(IDS))
    assert "this model's block" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- nothing is changed


def test_the_shipped_code_is_fast_and_says_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_gpt2()
    assert changes(model) == []
    called: list[bool] = []
    real = fast.forward
    monkeypatch.setattr(fast, "forward", lambda *args: called.append(True) or real(*args))
    model(IDS)
    scoring.token_logprobs(model, IDS)
    assert len(called) == 2
    assert capsys.readouterr().err == ""


def test_a_model_built_by_hand_computes_what_its_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_gpt2()
    monkeypatch.setattr(fast, "forward", None)
    logits = GPT2(model.config, model.parameters)(IDS)
    np.testing.assert_array_equal(logits, trace(model, IDS)["logits"])
    assert isinstance(model, FastGPT2)


def test_load_gives_the_fast_way() -> None:
    assert isinstance(minigpt.load("tiny")[0], FastGPT2)
