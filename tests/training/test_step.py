"""However a batch is cut, into parts for threads or into micro-batches, its gradient is the same."""

import threading
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from minigpt.errors import InputError
from minigpt.model import GPT2
from minigpt.parallel import Threads, available_cores
from minigpt.tape import gradients
from minigpt.training.losses import Batch, language_modelling
from minigpt.training.step import batch_gradients
from tests.synthetic import random_gpt2

MODEL = random_gpt2(dtype=np.float64)
RNG = np.random.default_rng(4)
IDS, TARGETS = RNG.integers(0, 307, (2, 7, 13))
FLOAT64 = np.dtype(np.float64)
LOSS, WHOLE = gradients(MODEL, IDS, TARGETS)


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray] = WHOLE) -> None:
    assert found.keys() == expected.keys()
    for name, array in found.items():
        if not name.endswith("c_attn.bias"):
            assert np.abs(array - expected[name]).max() <= 1e-13 * np.abs(expected[name]).max(), name


def parts_of(threads: Threads, rows: slice = slice(None), n_targets: int = IDS.size) -> list[Batch]:
    ids, targets = IDS[rows], TARGETS[rows]
    cuts = [slice(some[0], some[-1] + 1) for some in threads.split(range(len(ids)))]
    return [language_modelling(ids[cut], targets[cut], n_targets, FLOAT64) for cut in cuts]


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_any_number_of_threads_finds_the_same(count: int) -> None:
    found: dict[str, np.ndarray] = {}
    with Threads(count) as threads:
        loss = batch_gradients(MODEL, parts_of(threads), threads, found)
    assert loss == pytest.approx(LOSS, rel=1e-13)
    same(found)


def test_the_same_number_of_threads_finds_the_same_bit_for_bit() -> None:
    model = random_gpt2()
    runs = []
    for _ in range(5):
        found: dict[str, np.ndarray] = {}
        with Threads(3) as threads:
            batch_gradients(model, parts_of(threads), threads, found)
        runs.append(found)
    for run in runs[1:]:
        assert all((run[name] == runs[0][name]).all() for name in run)


def test_unequal_micro_batches_are_one_batch() -> None:
    found: dict[str, np.ndarray] = {}
    with Threads(2) as threads:
        cuts = (slice(0, 2), slice(2, 3), slice(3, 7))
        loss = sum(batch_gradients(MODEL, parts_of(threads, cut), threads, found) for cut in cuts)
        assert loss == pytest.approx(LOSS, rel=1e-13)
        same(found)
        means: dict[str, np.ndarray] = {}  # what a mean of means would be
        for cut in cuts:
            batch_gradients(MODEL, parts_of(threads, cut, 3 * IDS[cut].size), threads, means)
    assert np.abs(means["wte.weight"] - WHOLE["wte.weight"]).max() > 1e-3


def test_a_loss_may_ask_for_the_log_probabilities_first() -> None:
    """A preference's coefficients depend on how likely the answers are."""

    def loss(logprobs: np.ndarray) -> tuple[float, np.ndarray]:
        return float((logprobs**2).sum() / 2), -logprobs

    found: dict[str, np.ndarray] = {}
    with Threads(2) as threads:
        value = batch_gradients(MODEL, [Batch(IDS, TARGETS, loss)], threads, found)
    from minigpt.scoring import log_softmax

    logprobs = np.take_along_axis(log_softmax(MODEL(IDS)), TARGETS[..., None], -1)[..., 0]
    assert value == pytest.approx((logprobs**2).sum() / 2, rel=1e-12)
    same(found, gradients(MODEL, IDS, TARGETS, -logprobs)[1])


def test_an_error_in_a_thread_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = language_modelling(IDS[:2], TARGETS[:2], 4, FLOAT64)
    wrong.ids[0, 0] = 1000
    try:
        with Threads(2) as threads, pytest.raises(InputError, match="1000 is not a token id"):
            batch_gradients(MODEL, [*parts_of(threads, slice(3, 5)), wrong], threads, {})
    finally:
        wrong.ids[0, 0] = 0


# ------------------------------------------------------------------------------------------- the threads


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_the_threads_of_blas_are_set_back() -> None:
    before = blas_threads()
    with Threads(2) as threads:
        assert blas_threads() == {1}
        with Threads(2):
            assert blas_threads() == {1}
        assert blas_threads() == {1}  # the outer one still runs
        assert threads.map(lambda _: blas_threads(), range(3)) == [{1}] * 3
    assert blas_threads() == before
    with pytest.raises(ZeroDivisionError), Threads(2) as threads:
        threads.map(lambda n: 1 // n, [1, 0])
    assert blas_threads() == before


def test_results_keep_the_order_of_the_items() -> None:
    started = threading.Barrier(2, timeout=10)

    def work(item: Any) -> Any:
        started.wait()  # which only passes if both run at the same time
        return item

    with Threads(2) as threads:
        assert threads.map(work, "ab") == ["a", "b"]


def test_a_thread_works_under_the_callers_numpy_settings() -> None:
    with Threads(1) as threads, np.errstate(over="ignore"):
        assert threads.map(np.exp, [np.float32(1000)]) == [np.inf]


@pytest.mark.parametrize(("n", "expected"), [(5, [2, 3]), (1, [1]), (0, [])])
def test_work_is_split_evenly(n: int, expected: list[int]) -> None:
    runs = Threads(2).split(range(n))
    assert [len(run) for run in runs] == expected
    assert [item for run in runs for item in run] == list(range(n))


def test_there_are_as_many_threads_as_cores() -> None:
    assert Threads().count == available_cores() >= 1


def test_a_model_is_not_changed_by_its_gradient() -> None:
    model = GPT2(MODEL.config, MODEL.parameters)
    before = MODEL.parameters.wte.copy()
    gradients(model, IDS, TARGETS)
    assert (MODEL.parameters.wte == before).all()
