"""The schedule at its corners, clipping, and what decays."""

import math

import numpy as np
import pytest

from minigpt.model import GPT2
from minigpt.parallel import Threads
from minigpt.parameters import Config, arrays_by_name
from minigpt.tape import gradients
from minigpt.training.flat import flatten
from minigpt.training.optimizer import CHUNK, AdamW, chunks, clip_factor, gradient_norm, learning_rate

CONFIG = Config(vocab_size=263, n_positions=24, n_embd=36, n_layer=3, n_head=4)


def test_the_schedule_at_its_corners() -> None:
    steps, warmup, peak = 100, 9, 3.0
    assert learning_rate(0, steps, warmup, peak) == pytest.approx(peak / 10)
    assert learning_rate(8, steps, warmup, peak) == pytest.approx(peak * 9 / 10)
    assert learning_rate(9, steps, warmup, peak) == pytest.approx(peak)
    halfway = 9 + 91 / 2
    rates = [learning_rate(step, steps, warmup, peak) for step in range(steps)]
    assert rates[round(halfway)] == pytest.approx(0.55 * peak, rel=0.03)
    assert rates[99] == pytest.approx(0.1 * peak, rel=0.01)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert all(type(rate) is float for rate in rates)  # a NumPy number would turn float32 into float64


def test_the_shortest_run_has_a_rate() -> None:
    assert learning_rate(0, 1, 0, 3.0) == 3.0


def test_clipping_shortens_and_never_lengthens() -> None:
    assert clip_factor(0.5, 1.0) == 1.0
    assert clip_factor(4.0, 1.0) == 1.0 / (4.0 + 1e-6)
    with Threads(2) as threads:
        found = {"a": np.full((3, 4), 2.0), "b": np.full(4, -2.0)}
        assert gradient_norm(found, threads) == 8.0


def test_the_first_loss_is_that_of_a_guess() -> None:
    ids, targets = np.random.default_rng(0).integers(0, 263, (2, 8, 24))
    loss, _ = gradients(GPT2.random(CONFIG), ids, targets)
    assert loss == pytest.approx(math.log(263), rel=0.02)


def test_the_chunks_cover_every_number_once_and_mix_nothing() -> None:
    flat = flatten(GPT2.random(Config(vocab_size=2048, n_positions=8, n_embd=40, n_layer=1, n_head=1)))
    found = chunks(flat)
    assert len(found) > 3
    assert [chunk.where.start for chunk in found[1:]] == [chunk.where.stop for chunk in found[:-1]]
    assert (found[0].where.start, found[-1].where.stop) == (0, flat.buffer.size)
    for chunk in found:
        n = chunk.where.stop - chunk.where.start
        assert n <= CHUNK
        assert not chunk.where.start < flat.n_matrix < chunk.where.stop
        assert sum(piece.stop - piece.start for piece, _, _ in chunk.pieces) == n


def test_only_tables_and_matrices_decay() -> None:
    flat = flatten(GPT2.random(CONFIG))
    before = flat.buffer.copy()
    nothing = {name: np.zeros_like(array) for name, array in arrays_by_name(flat.model.parameters).items()}
    with Threads(1) as threads:
        AdamW(flat, 0.9, 0.95, 1e-8, 0.5).step(nothing, 0.1, 1.0, threads)
    for name, array in arrays_by_name(flat.model.parameters).items():
        expected = before[flat.places[name]].reshape(array.shape) * (0.95 if array.ndim > 1 else 1.0)
        np.testing.assert_allclose(array, expected, rtol=1e-6)


def test_the_first_step_is_the_learning_rate() -> None:
    """Without the correction of the bias it would be a small part of it."""
    flat = flatten(GPT2.random(CONFIG))
    before = flat.buffer.copy()
    ones = {name: np.ones_like(array) for name, array in arrays_by_name(flat.model.parameters).items()}
    with Threads(1) as threads:
        AdamW(flat, 0.9, 0.95, 1e-8, 0.0).step(ones, 0.25, 1.0, threads)
    np.testing.assert_allclose(before - flat.buffer, 0.25, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_flat_copy_is_the_model(dtype: type) -> None:
    model = GPT2.random(CONFIG)
    flat = flatten(model, dtype)
    np.testing.assert_allclose(flat.model([1, 2, 3]), model([1, 2, 3]), rtol=1e-4, atol=1e-6)
    assert flat.model.parameters.lm_head is flat.model.parameters.wte
    flat.buffer[...] = 0.0
    assert not flat.model([1, 2, 3]).any()
    assert model([1, 2, 3]).any()
