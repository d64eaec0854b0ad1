"""minigpt computes what `transformers` on torch computes: every tensor, in float64 and in float32.

float64 proves the formula: no rounding hides a wrong constant there. float32 proves the program as it
runs. The referee then asks which of the two float32 results is nearer to the float64 one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.model import GPT2
from tests.parity.conftest import REFEREE_ROWS
from tests.parity.prompts import PROMPTS
from tests.parity.reference import (
    FLOAT32_TOLERANCE,
    FLOAT64_TOLERANCE,
    beyond,
    differences,
    load_reference,
    reference_logits,
    reference_tensors,
    torch,
)


@dataclass(frozen=True)
class Pair:
    """The same parameters in minigpt and in `transformers`."""

    model: GPT2
    reference: Any


@pytest.fixture(scope="module")
def float32(official_layout: Path) -> Pair:
    from minigpt.checkpoints.load import load_model

    return Pair(load_model(official_layout), load_reference(official_layout))


@pytest.fixture(scope="module")
def float64(official_layout: Path, float32: Pair) -> Pair:
    return Pair(float32.model.astype(np.float64), load_reference(official_layout, "float64"))


@pytest.fixture(params=PROMPTS, ids=lambda prompt: prompt.replace(" ", "_"))
def prompt(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_tensor_equals_torch_in_float64(float64: Pair, prompt: str) -> None:
    ids = np.array(PROMPTS[prompt])
    found = differences(float64.model, ids, reference_tensors(float64.reference, ids))
    assert len(found) == 2 + 12 * 18 + 3
    assert not beyond(found, FLOAT64_TOLERANCE)


def test_every_tensor_equals_torch_in_float32(float32: Pair, prompt: str) -> None:
    ids = np.array(PROMPTS[prompt])
    found = differences(float32.model, ids, reference_tensors(float32.reference, ids))
    assert not beyond(found, FLOAT32_TOLERANCE)


def test_the_referee(float32: Pair, float64: Pair, prompt: str) -> None:
    """Errors of the float32 logits, as users get them (no hook), against torch in float64."""
    ids = np.array(PROMPTS[prompt])
    exact = reference_logits(float64.reference, ids)
    logits, torch_logits = float32.model(ids), reference_logits(float32.reference, ids)
    error, torch_error = np.abs(logits - exact), np.abs(torch_logits - exact)
    rms, torch_rms = (float(np.sqrt(np.mean(np.square(e)))) for e in (error, torch_error))
    REFEREE_ROWS.append((prompt, len(ids), rms, torch_rms, float(error.max()), float(torch_error.max())))
    assert error.max() <= 3 * torch_error.max()
    assert_same_argmax(logits, torch_logits, float(error.max() + torch_error.max()))


def assert_same_argmax(logits: np.ndarray, torch_logits: np.ndarray, error: float) -> None:
    """The same likeliest token at every position, but where two are tied within the measured error."""
    ours, theirs = logits.argmax(axis=-1), torch_logits.argmax(axis=-1)
    for position in np.flatnonzero(ours != theirs):
        row = torch_logits[position]
        assert row[theirs[position]] - row[ours[position]] <= 2 * error


def test_the_referee_favours_neither() -> None:
    """Over all prompts minigpt rounds about as well as torch: geometric mean of the RMS ratios."""
    if len(REFEREE_ROWS) < len(PROMPTS):
        pytest.skip("the referee needs all prompts: run the whole file")
    ratios = [rms / torch_rms for _, _, rms, torch_rms, _, _ in REFEREE_ROWS]
    assert np.exp(np.mean(np.log(ratios))) <= 1.25


def test_a_batch_equals_torch(float32: Pair) -> None:
    ids = np.random.default_rng(0).integers(0, 50257, (3, 20))
    expected = reference_logits(float32.reference, ids)
    np.testing.assert_allclose(float32.model(ids), expected, atol=FLOAT32_TOLERANCE * np.abs(expected).max())


def test_cached_steps_equal_torch(float32: Pair) -> None:
    """Prefill and single steps with a cache, against one call of torch over the whole sequence."""
    ids = np.array(PROMPTS["127 random ids"])
    cache = float32.model.new_cache()
    parts = np.split(ids, [50, 51, 52, 100, 101])
    logits = np.concatenate([float32.model(part, cache=cache) for part in parts])
    expected = reference_logits(float32.reference, ids)
    np.testing.assert_allclose(logits, expected, atol=FLOAT32_TOLERANCE * np.abs(expected).max())


@pytest.fixture(autouse=True, scope="module")
def _gradients_off() -> Iterator[None]:
    with torch.no_grad():
        yield
