"""`minigpt gradients`: the pushes on the logits, and how they reach the parameters."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.cli import break_training
from minigpt.cli.main import main
from minigpt.inspection.backward_gallery import TRAINING_MISTAKES
from minigpt.parameters import Config
from minigpt.sampling import probabilities
from minigpt.scoring import continuation_logprob
from minigpt.tape import gradients
from minigpt.tokenizer import Tokenizer
from scripts.benchmark.checkpoint import random_tensors, write_checkpoint
from tests.synthetic import random_gpt2, save_checkpoint

CONFIG = {"vocab_size": 50257, "n_embd": 8, "n_layer": 2, "n_head": 2}
TOKENIZER = Tokenizer()
MODEL = random_gpt2(**CONFIG)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_checkpoint(tmp_path_factory.mktemp("checkpoint"), **CONFIG))


def document(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["gradients", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_target_is_pushed_up_by_what_it_lacks_and_all_others_down(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, "I love", "--target", " you", "--model", checkpoint, "--top", "4")
    p = probabilities(MODEL([40, 1842])[-1])
    assert found["target_ids"] == [345]
    assert found["loss"] == pytest.approx(-np.log(p[345]), rel=1e-5)
    assert len(found["pushes"]) == 4
    for row in found["pushes"]:
        assert row["push"] == pytest.approx(p[row["id"]] - (row["id"] == 345), abs=1e-6)
        assert row["text"] == TOKENIZER.decode([row["id"]])
    assert found["pushes"][0]["id"] == 345


def test_a_target_of_several_tokens_is_their_whole_loss(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, "I love", "--target", " you and me", "--model", checkpoint)
    ids = TOKENIZER.encode(" you and me")
    assert found["loss"] == pytest.approx(-continuation_logprob(MODEL, [40, 1842], ids), rel=1e-5)
    _, expected = gradients(MODEL, [40, 1842, *ids[:-1]], [0, *ids], [0, 1, 1, 1])
    for row in found["parameters"]:
        assert row["gradient"] == pytest.approx(np.linalg.norm(expected[row["name"]]), rel=1e-5)
    lengths = [np.linalg.norm(gradient) for gradient in expected.values()]
    assert found["parameters"][0]["gradient"] == pytest.approx(max(lengths), rel=1e-5)
    assert len(found["blocks"]) == 3


def test_the_terminal_shows_all_three(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradients", "I love", "--target", " you", "--model", checkpoint]) == 0
    shown = capsys.readouterr().out
    assert "␣you" in shown
    assert "rises" in shown
    assert "out of block 1" in shown
    assert "wte.weight" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["I love"], "missing: --target"),
        (["I love", "--target", ""], "--target: found an empty text"),
        (["I love", "--target", " you" * 60], "the model's context is 48; shorten one of them"),
    ],
)
def test_a_target_that_cannot_be_is_told(
    words: list[str], message: str, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gradients", *words, "--model", checkpoint]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_gradients_that_overflow_are_told(
    form: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = random_tensors(config := Config(**CONFIG))
    tensors["ln_f.weight"] = np.full_like(tensors["ln_f.weight"], 1e36)  # the logits are finite
    folder = str(write_checkpoint(tmp_path, config, tensors))
    assert main(["gradients", "I love", "--target", " you", "--model", folder, *form]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "the model's numbers are not all finite; its weights are broken or too large" in shown.err


# ------------------------------------------------------------------------------------ mistakes of learning


def test_a_mistake_of_learning_shows_its_symptom(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(break_training, "STEPS", (1, 5, 12))
    assert main(["break", "no-tie-in-backward", "--train"]) == 0
    shown = capsys.readouterr().out
    assert "wte.weight" in shown
    assert "backward_gallery.py" in shown
    assert main(["break", "no-tie-in-backward", "--train", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["right"][0] == found["wrong"][0]
    assert found["right"][-1] < found["wrong"][-1] - 0.1
    assert found["differences"]["wte.weight"] > 0.5
    assert found["differences"]["ln_f.weight"] < 1e-4


def test_all_mistakes_of_learning_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["break", "list", "--train"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in TRAINING_MISTAKES)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-tie-in-backwards", "--train"], "Did you mean no-tie-in-backward?"),
        (["erf-gelu", "--train"], "no mistake of learning called 'erf-gelu'"),
        (["mean-of-means"], "mean-of-means is a mistake of learning; --train makes it"),
    ],
)
def test_a_mistake_that_does_not_exist_is_told(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["break", *words]) == 2
    assert message in capsys.readouterr().err
