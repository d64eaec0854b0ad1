"""The comparison with torch is worth something only if it fails when the model is wrong.

Each classic mistake of the gallery is made on a small model and must be caught, by the same comparison
and tolerance that prove the real one. So must a change of any constant that rounding could hide.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from minigpt.checkpoints.load import load_model
from minigpt.hooks import Hook
from minigpt.inspection.gallery import MISTAKES
from minigpt.model import GPT2
from tests.parity.reference import (
    FLOAT64_TOLERANCE,
    Tensors,
    beyond,
    differences,
    load_reference,
    reference_tensors,
)
from tests.synthetic import save_checkpoint

IDS = np.random.default_rng(0).integers(0, 307, 20)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> GPT2:
    return load_model(save_checkpoint(tmp_path_factory.getbasetemp() / "small")).astype(np.float64)


@pytest.fixture(scope="module")
def reference(model: GPT2, tmp_path_factory: pytest.TempPathFactory) -> Tensors:
    return reference_tensors(load_reference(tmp_path_factory.getbasetemp() / "small", "float64"), IDS)


def verdict(model: GPT2, reference: Tensors, hook: Hook | None = None) -> str:
    return beyond(differences(model, IDS, reference, hook), FLOAT64_TOLERANCE)


def test_the_right_model_passes(model: GPT2, reference: Tensors) -> None:
    assert not verdict(model, reference)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_classic_mistake_fails(name: str, model: GPT2, reference: Tensors) -> None:
    wrong, hook = MISTAKES[name].apply(model)
    found = verdict(wrong, reference, hook)
    assert "logits" in found, f"{name} went unnoticed"


@pytest.mark.parametrize(
    ("pattern", "change"),
    [
        (".mlp.act", lambda a: a * (1 + 1e-8)),  # a constant of GELU, wrong in the eighth digit
        (".ln_1.scale", lambda a: np.sqrt(np.square(a) - 1e-5 + 1.0001e-5)),  # another epsilon
        (".attn.weights", lambda a: a.astype(np.float32).astype(a.dtype)),  # rounded through float32
    ],
)
def test_a_slight_change_fails(pattern: str, change: Any, model: GPT2, reference: Tensors) -> None:
    def hook(name: str, array: np.ndarray) -> np.ndarray:
        return change(array) if name.endswith(pattern) else array

    assert "logits" in verdict(model, reference, hook)


@pytest.mark.parametrize("name", ["h.1.attn.scores", "h.2.mlp.pre", "ln_f.scale", "wpe"])
def test_each_tensor_is_compared(name: str, model: GPT2, reference: Tensors) -> None:
    changed = reference | {name: reference[name] * (1 + 1e-8)}
    assert verdict(model, changed).startswith(f"{name}: ")


def test_a_missing_or_misshapen_tensor_fails(model: GPT2, reference: Tensors) -> None:
    assert "h.0.extra: inf" in verdict(model, reference | {"h.0.extra": np.zeros(1)})
    assert "h.0.ln_1: inf" in verdict(model, reference | {"h.0.ln_1": reference["h.0.ln_1"][:-1]})
    fewer = {name: array for name, array in reference.items() if name != "h.0.mlp.act"}
    assert "h.0.mlp.act: inf" in verdict(model, fewer)


def test_a_nan_fails(model: GPT2, reference: Tensors) -> None:
    broken = replace(model.parameters.ln_f, bias=np.full_like(model.parameters.ln_f.bias, np.nan))
    wrong = replace(model, parameters=replace(model.parameters, ln_f=broken))
    assert "logits: nan" in verdict(wrong, reference)
