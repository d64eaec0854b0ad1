"""The mission: on the official GPT-2, minigpt and `transformers` on torch agree about "I love".

All 50,257 logits of both tokens, and every tensor on the way to them.
"""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="this test compares with torch, which is not installed")

from minigpt.model import GPT2
from tests.official.conftest import loaded, official
from tests.parity.reference import (
    FLOAT32_TOLERANCE,
    FLOAT64_TOLERANCE,
    beyond,
    differences,
    load_reference,
    reference_logits,
    reference_tensors,
)


@pytest.fixture(scope="module")
def gpt2() -> GPT2:
    official("gpt2")
    return loaded("gpt2")[0]


@pytest.fixture(scope="module")
def ids(gpt2: GPT2) -> np.ndarray:
    found = np.array(loaded("gpt2")[1].encode("I love"))
    assert found.tolist() == [40, 1842]
    return found


def reference(dtype: str) -> Any:
    return load_reference(official("gpt2").path, dtype)


def test_all_logits(gpt2: GPT2, ids: np.ndarray) -> None:
    logits, expected = gpt2(ids), reference_logits(reference("float32"), ids)
    assert logits.shape == expected.shape == (2, 50257)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=FLOAT32_TOLERANCE * np.abs(expected).max())
    np.testing.assert_array_equal(np.argsort(logits[-1])[-10:], np.argsort(expected[-1])[-10:])


def test_every_tensor_in_float32(gpt2: GPT2, ids: np.ndarray) -> None:
    found = differences(gpt2, ids, reference_tensors(reference("float32"), ids))
    assert not beyond(found, FLOAT32_TOLERANCE)


def test_every_tensor_in_float64(gpt2: GPT2, ids: np.ndarray) -> None:
    found = differences(gpt2.astype(np.float64), ids, reference_tensors(reference("float64"), ids))
    assert not beyond(found, FLOAT64_TOLERANCE)
