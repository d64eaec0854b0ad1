"""Every processor gives what its namesake in `transformers` gives, and so do all of them in a row."""

from typing import Any

import numpy as np
import pytest

from minigpt.sampling import Sampling, min_p, repetition_penalty, temperature, top_k, top_p

torch = pytest.importorskip("torch", reason="the parity tests compare with torch, which is not installed")
transformers = pytest.importorskip("transformers", reason="the parity tests compare with transformers")

from transformers.generation import logits_process  # noqa: E402

VOCAB = 1000
RNG = np.random.default_rng(0)
GPT2_LIKE = (RNG.normal(size=(4, VOCAB)) * 3 - 60).astype(np.float32)
LOGITS = {
    "like GPT-2's": GPT2_LIKE,
    "around zero": GPT2_LIKE + 60,
    "with many ties": np.round(GPT2_LIKE),
    "all equal": np.zeros((2, VOCAB), np.float32),
    "one token": np.float32([[3.0]]),
    "some ruled out": np.where(RNG.random((4, VOCAB)) < 0.5, -np.inf, GPT2_LIKE),
}


@pytest.fixture(params=LOGITS)
def logits(request: pytest.FixtureRequest) -> np.ndarray:
    return LOGITS[request.param]


def process(processor: Any, logits: np.ndarray, ids: np.ndarray | None = None) -> np.ndarray:
    input_ids = None if ids is None else torch.tensor(ids)
    return processor(input_ids, torch.tensor(logits)).numpy()


@pytest.mark.parametrize("value", [1e-4, 0.3, 0.7, 1.0, 1.5, 1e4])
def test_temperature(logits: np.ndarray, value: float) -> None:
    expected = process(logits_process.TemperatureLogitsWarper(value), logits)
    np.testing.assert_array_equal(temperature(logits, value), expected)


@pytest.mark.parametrize("k", [1, 2, 50, VOCAB - 1, VOCAB, VOCAB + 1])
def test_top_k(logits: np.ndarray, k: int) -> None:
    np.testing.assert_array_equal(top_k(logits, k), process(logits_process.TopKLogitsWarper(k), logits))


# Not round numbers: where the cumulative sum meets 1 - p exactly, the last bit of a softmax decides.
@pytest.mark.parametrize("p", [1e-6, 0.1234, 0.5678, 0.9012, 0.9987, 1.0])
def test_top_p(logits: np.ndarray, p: float) -> None:
    found, expected = top_p(logits, p), process(logits_process.TopPLogitsWarper(p), logits)
    # Which of several equal logits stay is open there: its sort is not stable. How many stay is not.
    np.testing.assert_array_equal(np.sort(found), np.sort(expected))
    if all(len(set(row)) == len(row) for row in logits):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("p", [0.0, 0.0123, 0.1234, 0.5678, 1.0])
def test_min_p(logits: np.ndarray, p: float) -> None:
    np.testing.assert_array_equal(min_p(logits, p), process(logits_process.MinPLogitsWarper(p), logits))


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.3, 10.0])
def test_repetition_penalty(logits: np.ndarray, penalty: float) -> None:
    rows, vocab = logits.shape
    ids = np.random.default_rng(1).integers(0, vocab, (rows, 30))
    expected = process(logits_process.RepetitionPenaltyLogitsProcessor(penalty), logits, ids)
    np.testing.assert_array_equal(repetition_penalty(logits, ids, penalty), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7, "top_k": 40},
        {"temperature": 1.3, "top_p": 0.9123},
        {"top_k": 100, "top_p": 0.8123, "min_p": 0.0123},
        {"temperature": 0.8, "top_k": 200, "top_p": 0.9512, "min_p": 0.0212, "repetition_penalty": 1.2},
    ],
    ids=str,
)
def test_all_together_in_the_order_of_generate(settings: dict[str, Any]) -> None:
    """The processors that `generate` itself would build from these settings, in its own order."""
    ids = np.random.default_rng(1).integers(0, VOCAB, (4, 30))
    config = transformers.GenerationConfig(do_sample=True, **({"top_k": 0} | settings))
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9))
    processors = model._get_logits_processor(config, input_ids_seq_length=30)
    expected = processors(torch.tensor(ids), torch.tensor(GPT2_LIKE)).numpy()

    sampling = Sampling(**settings)
    found = sampling.process(GPT2_LIKE, ids)
    np.testing.assert_array_equal(np.isneginf(found), np.isneginf(expected))
    # minigpt's are relative to the largest logit, which is the same distribution.
    left = np.isfinite(expected)
    largest = np.where(left, expected, -np.inf).max(axis=-1, keepdims=True)
    np.testing.assert_allclose(found[left], (expected - largest)[left], rtol=1e-5, atol=1e-5)
