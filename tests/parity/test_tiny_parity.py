"""The model that ships with the project computes what `transformers` on torch computes, tensor by tensor."""

import numpy as np
import pytest

from minigpt.checkpoints.load import find, load
from minigpt.model import GPT2
from minigpt.tokenizer import Tokenizer
from tests.parity.reference import (
    FLOAT32_TOLERANCE,
    FLOAT64_TOLERANCE,
    beyond,
    differences,
    load_reference,
    reference_logits,
    reference_tensors,
)

TEXTS = {
    "I love": "I love",
    "I hate": "I hate",
    "a sentence": 'She looked up. "It is only the wind," said the old man, and shut the door.',
    "the whole context": "Once upon a time there was a king who had three daughters. " * 30,
    "not its language": "def main():\n\treturn 42  # ¿qué? 你好 🙂",
}


@pytest.fixture(scope="module")
def tiny() -> tuple[GPT2, Tokenizer]:
    return load("tiny")


@pytest.fixture(params=TEXTS, ids=lambda name: name.replace(" ", "_"))
def ids(request: pytest.FixtureRequest, tiny: tuple[GPT2, Tokenizer]) -> np.ndarray:
    model, tokenizer = tiny
    return np.array(tokenizer.encode(TEXTS[request.param])[: model.config.n_positions])


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", FLOAT64_TOLERANCE), ("float32", FLOAT32_TOLERANCE)]
)
def test_every_tensor(dtype: str, tolerance: float, tiny: tuple[GPT2, Tokenizer], ids: np.ndarray) -> None:
    reference = load_reference(find("tiny").path, dtype)
    found = differences(tiny[0].astype(dtype), ids, reference_tensors(reference, ids))
    assert not beyond(found, tolerance)


def test_the_logits_that_users_get(tiny: tuple[GPT2, Tokenizer], ids: np.ndarray) -> None:
    expected = reference_logits(load_reference(find("tiny").path), ids)
    np.testing.assert_allclose(
        tiny[0](ids), expected, rtol=0, atol=FLOAT32_TOLERANCE * np.abs(expected).max()
    )
    np.testing.assert_array_equal(tiny[0](ids).argmax(axis=-1), expected.argmax(axis=-1))
