"""Work on all cores: everything is done once, whoever does it, and BLAS has its threads again afterwards."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from minigpt import fast, parallel
from minigpt.parallel import Threads, in_parallel, one_blas_thread
from tests.synthetic import random_gpt2


@pytest.fixture
def three_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """More helpers than cores, so that they come late and out of order; they wait until the process ends."""
    monkeypatch.setattr(parallel, "available_cores", lambda: 4)
    parallel._helpers.cache_clear()


@pytest.mark.usefixtures("three_helpers")
def test_every_item_is_done_once() -> None:
    for _ in range(200):
        done: list[int] = []
        in_parallel(done.append, range(37))
        assert sorted(done) == list(range(37))


@pytest.mark.usefixtures("three_helpers")
def test_helpers_help() -> None:
    workers = set()

    def work(_item: int) -> None:
        workers.add(threading.current_thread())
        time.sleep(0.02)

    in_parallel(work, range(20))
    assert len(workers) > 1


@pytest.mark.usefixtures("three_helpers")
def test_an_error_reaches_the_caller_and_the_next_work_is_done() -> None:
    def fail(item: int) -> None:
        if item == 3:
            raise KeyError(item)

    with pytest.raises(KeyError, match="3"):
        in_parallel(fail, range(8))
    assert not parallel._everybody.locked()
    test_every_item_is_done_once()


@pytest.mark.usefixtures("three_helpers")
def test_helpers_work_under_the_caller_s_errstate() -> None:
    def divide(_item: int) -> None:
        _ = np.ones(100) / np.zeros(100)
        time.sleep(0.001)

    with np.errstate(divide="ignore"):
        in_parallel(divide, range(20))


def test_while_somebody_has_the_cores_the_caller_does_all_of_it() -> None:
    here, workers = threading.current_thread(), set()
    with Threads(2):
        in_parallel(lambda _item: workers.add(threading.current_thread()), range(20))
    assert workers == {here}


def blas_threads() -> list[int]:
    return [library.num_threads for library in parallel._blas()]


def test_blas_has_its_threads_again_after_nested_work() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with one_blas_thread():
            in_parallel(lambda _item: None, range(4))
            with one_blas_thread():
                assert set(blas_threads()) <= {1}
            assert set(blas_threads()) <= {1}
        assert blas_threads() == before


def filled(times: Callable[..., None], x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    out = np.full((len(x), weight.shape[1]), np.nan, x.dtype)
    times(x, weight, out)
    return out


@pytest.mark.usefixtures("three_helpers")
@pytest.mark.parametrize("rows", [5, 8, 12])
@pytest.mark.parametrize("shape", [(768, 2304), (3072, 768), (1000, 1001), (6, 30_011)])
@pytest.mark.parametrize("times", [fast.times_by_columns, fast.times_by_depth])
def test_a_product_by_pieces_is_the_product_whoever_helps(rows, shape, times) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(rows)
    x, weight = random.standard_normal((rows, shape[0])), random.standard_normal(shape)
    np.testing.assert_allclose(filled(times, x, weight), x @ weight, atol=1e-10)
    single, single_weight = x.astype(np.float32), weight.astype(np.float32)
    helped = filled(times, single, single_weight)
    with Threads(1):  # nobody helps
        alone = filled(times, single, single_weight)
    np.testing.assert_array_equal(helped, alone)
    np.testing.assert_allclose(helped, x @ weight, atol=4e-4)


@pytest.mark.usefixtures("three_helpers")
def test_a_long_text_has_the_same_bits_whoever_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, layer_norm = set(), fast.layer_norm
    monkeypatch.setattr(fast, "ROW_BLOCK", 32)

    def noted(*arguments: Any) -> np.ndarray:
        workers.add(threading.current_thread())
        time.sleep(0.002)
        return layer_norm(*arguments)

    monkeypatch.setattr(fast, "layer_norm", noted)
    model = random_gpt2(n_positions=256, n_embd=64)
    ids = np.random.default_rng(3).integers(0, model.config.vocab_size, (2, 200))
    cache, lonely_cache = model.new_cache(2), model.new_cache(2)
    helped = model(ids, cache=cache)
    assert len(workers) > 1
    workers.clear()
    with Threads(1):  # nobody helps
        alone = model(ids, cache=lonely_cache)
    assert len(workers) == 1
    np.testing.assert_array_equal(helped, alone)
    np.testing.assert_array_equal(cache.keys, lonely_cache.keys)


@pytest.mark.parametrize("rows", [5, 8, 12])
def test_with_a_small_kernel_a_batch_goes_by_pieces(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    random = np.random.default_rng(rows)
    x, weight = random.standard_normal((rows, 512)), random.standard_normal((512, 512))
    taken: list[str] = []
    for name in ("times_by_depth", "times_by_columns"):
        way = getattr(fast, name)
        monkeypatch.setattr(fast, name, lambda *a, way=way, name=name: taken.append(name) or way(*a))
    for has_kernel in (True, False):
        monkeypatch.setattr(fast, "has_small_kernel", lambda has_kernel=has_kernel: has_kernel)
        for order in ("C", "F"):
            found = fast.times(x, np.asarray(weight, order=order))
            np.testing.assert_allclose(found, x @ weight, atol=1e-11)
    assert taken == ["times_by_depth", "times_by_columns"]
