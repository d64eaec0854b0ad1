"""The fast path equals the plain one: on every config, with and without a cache, for any batch."""

from typing import Any

import numpy as np
import pytest

from minigpt import fast
from tests.synthetic import plain, random_gpt2


def assert_equal(fast_logits: np.ndarray, plain_logits: np.ndarray) -> None:
    assert fast_logits.dtype == plain_logits.dtype
    np.testing.assert_allclose(fast_logits, plain_logits, rtol=0, atol=1.6e-6 * np.abs(plain_logits).max())


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that a short text needs several of each kind."""
    monkeypatch.setattr(fast, "ROW_BLOCK", 7)
    monkeypatch.setattr(fast, "available_cores", lambda: 2)
    monkeypatch.setattr(fast, "QUERY_BLOCK", 5)
    monkeypatch.setattr(fast, "CACHE_FLOATS", 70)
    monkeypatch.setattr(fast, "GEMV_FLOATS", 300)


CONFIGS: list[dict[str, Any]] = [
    {},
    {"n_inner": 50},
    {"activation_function": "gelu"},
    {"activation_function": "relu"},
    {"activation_function": "silu"},
    {"activation_function": "gelu_pytorch_tanh"},
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True},
    {"tie_word_embeddings": False},
    {"layer_norm_epsilon": 0.1},
    {"n_head": 1},
    {"n_head": 32},
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("shape", [(1,), (2,), (4,), (5,), (48,), (1, 1), (3, 17), (2, 2, 6)], ids=str)
def test_one_call(config: dict[str, Any], shape: tuple[int, ...]) -> None:
    model = random_gpt2(**config)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, shape)
    assert_equal(model(ids), plain(model)(ids))
    assert_equal(model(ids, logits_to_keep=1), plain(model)(ids, logits_to_keep=1))


def test_float64_stays_float64() -> None:
    model = random_gpt2(dtype=np.float64)
    ids = np.arange(20)
    np.testing.assert_allclose(model(ids), plain(model)(ids), rtol=0, atol=1e-11)


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("cuts", [[1, 2, 3], [7, 8, 20, 33], [40], list(range(1, 48))], ids=str)
def test_a_cache_filled_in_parts(batch: int | None, cuts: list[int]) -> None:
    model = random_gpt2()
    shape = (48,) if batch is None else (batch, 48)
    ids = np.random.default_rng(1).integers(0, model.config.vocab_size, shape)
    cache, plain_cache = model.new_cache(batch), model.new_cache(batch)
    for part in np.split(ids, cuts, axis=-1):
        assert_equal(model(part, cache=cache), plain(model)(part, cache=plain_cache))
    np.testing.assert_array_equal(cache.lengths, plain_cache.lengths)


def test_rows_of_different_lengths() -> None:
    """Right-padded prompts, then steps and a longer part, each row going on from its own length."""
    model, rng = random_gpt2(), np.random.default_rng(2)
    caches = model.new_cache(3), model.new_cache(3)
    for tokens, lengths in [(20, [20, 3, 11]), (1, None), (1, None), (6, [28, 6, 14]), (1, None)]:
        ids = rng.integers(0, model.config.vocab_size, (3, tokens))
        assert_equal(model(ids, cache=caches[0]), plain(model)(ids, cache=caches[1]))
        for cache in caches:
            cache.lengths[:] = cache.lengths if lengths is None else lengths


@pytest.mark.parametrize("n_rows", [1, 255, 256, 257, 1023, 4000])
def test_blocks_of_rows_are_of_nearly_equal_length(monkeypatch: pytest.MonkeyPatch, n_rows: int) -> None:
    monkeypatch.setattr(fast, "ROW_BLOCK", 256)
    monkeypatch.setattr(fast, "available_cores", lambda: 1)
    blocks = fast.row_blocks(n_rows)
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(n_rows))
    lengths = {block.stop - block.start for block in blocks}
    assert max(lengths) <= 256
    assert max(lengths) - min(lengths) <= 1


def test_rows_stay_together_where_not_every_core_gets_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "ROW_BLOCK", 256)
    monkeypatch.setattr(fast, "available_cores", lambda: 4)
    assert fast.row_blocks(768) == [slice(0, 768)]
    assert len(fast.row_blocks(769)) == 4


def test_a_hook_or_another_block_takes_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> np.ndarray:
        raise AssertionError("the fast path ran")

    model = random_gpt2()
    monkeypatch.setattr(fast, "forward", refuse)
    model([1, 2, 3], hook=lambda name, array: array)
    plain(model)([1, 2, 3])
    with pytest.raises(AssertionError, match="the fast path ran"):
        model([1, 2, 3])
