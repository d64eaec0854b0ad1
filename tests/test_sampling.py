"""Shaping a distribution and drawing from it."""

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigpt.errors import InputError, NumericsError
from minigpt.sampling import (
    Sampling,
    check_range,
    min_p,
    probabilities,
    repetition_penalty,
    temperature,
    top_k,
    top_p,
)

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3], np.float32)) - 60  # as far below 0 as GPT-2's are

logit_vectors = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-100, 100, width=32))
settings_of_sampling = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 1e-300, 1e-8, 0.7, 1.0, 1e8, 1e300]),
        "top_k": st.integers(0, 50),
        "top_p": st.floats(1e-6, 1),
        "min_p": st.floats(0, 1),
        "repetition_penalty": st.floats(0.5, 2),
    }
)


def kept(logits: np.ndarray) -> list[int]:
    return np.flatnonzero(logits > -np.inf).tolist()


# ------------------------------------------------------------------------------------- probabilities


def test_probabilities_are_the_softmax_in_float64() -> None:
    found = probabilities(LOGITS)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [0.1, 0.4, 0.2, 0.3], rtol=1e-5)


def test_probabilities_work_over_the_last_axis() -> None:
    batch = np.stack([LOGITS, LOGITS[::-1]])[:, None]
    expected = np.stack([probabilities(LOGITS), probabilities(LOGITS)[::-1]])[:, None]
    np.testing.assert_array_equal(probabilities(batch), expected)


def test_a_temperature_divides_the_logits() -> None:
    weights = np.array([0.1, 0.4, 0.2, 0.3]) ** 2
    np.testing.assert_allclose(probabilities(LOGITS, 0.5), weights / weights.sum(), rtol=1e-5)


def test_temperature_0_is_the_argmax_and_the_lower_id_of_a_tie() -> None:
    np.testing.assert_array_equal(probabilities([1.0, 3.0, 3.0], 0), [0, 1, 0])
    np.testing.assert_array_equal(probabilities([[1.0, 3.0], [3.0, 1.0]], 0), [[0, 1], [1, 0]])


@pytest.mark.parametrize("value", [5e-324, 1e-300, 1e-8, 1e-3, 1.0, 1e8, 1e300])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e30])
def test_probabilities_are_finite_and_sum_to_one_at_any_temperature(value: float, scale: float) -> None:
    logits = np.linspace(-100, 100, 50257, dtype=np.float32) * np.float32(scale)
    found = probabilities(logits, value)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1, abs=1e-12)


def test_temperatures_far_from_1_approach_the_argmax_and_the_uniform_distribution() -> None:
    np.testing.assert_array_equal(probabilities(LOGITS, 1e-8), probabilities(LOGITS, 0))
    np.testing.assert_allclose(probabilities(LOGITS, 1e8), 0.25, rtol=1e-6)


def test_minus_infinity_is_an_impossible_token() -> None:
    np.testing.assert_allclose(probabilities([0.0, -math.inf, 0.0]), [0.5, 0, 0.5])


@pytest.mark.parametrize("bad", [[0.0, math.nan], [0.0, math.inf], [-math.inf, -math.inf]])
def test_logits_without_probabilities_are_refused(bad: list[float]) -> None:
    for logits in (bad, [[0.0, 1.0], bad]):
        with pytest.raises(NumericsError, match=r"logits are not finite: the largest is (nan|-?inf)"):
            probabilities(logits)
    with pytest.raises(NumericsError, match="logits"):
        Sampling().choose(np.array(bad, np.float32), [0], np.random.default_rng(0))
    with pytest.raises(NumericsError, match="logits"):
        Sampling(temperature=0).choose(np.array(bad, np.float32), [0], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ([], r"shape \(0,\)"),
        ([[]], r"shape \(1, 0\)"),
        (np.array(3.0), r"shape \(\)"),
        ("a", "str"),
        ([1j], "list"),
        ([[1.0], [2.0, 3.0]], "list"),
    ],
)
def test_logits_that_are_no_rows_of_numbers_are_refused(bad: Any, found: str) -> None:
    with pytest.raises(InputError, match=f"^logits: found {found}; expected numbers, "):
        probabilities(bad)


# ---------------------------------------------------------------------------------------- processors


@pytest.mark.parametrize(
    ("k", "ids"), [(0, [0, 1, 2, 3]), (1, [1]), (2, [1, 3]), (4, [0, 1, 2, 3]), (99, [0, 1, 2, 3])]
)
def test_top_k_keeps_the_k_largest(k: int, ids: list[int]) -> None:
    assert kept(top_k(LOGITS, k)) == ids


def test_top_k_keeps_what_equals_the_smallest_kept() -> None:
    assert kept(top_k(np.float32([1, 2, 2, 3]), 2)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("p", "ids"), [(1e-9, [1]), (0.39, [1]), (0.5, [1, 3]), (0.71, [1, 2, 3]), (1, [0, 1, 2, 3])]
)
def test_top_p_keeps_the_fewest_tokens_that_reach_p(p: float, ids: list[int]) -> None:
    assert kept(top_p(LOGITS, p)) == ids


def test_top_p_keeps_only_as_many_equal_tokens_as_it_needs() -> None:
    assert kept(top_p(np.zeros(8, np.float32), 0.3)) == [0, 1, 2]


@pytest.mark.parametrize(("p", "ids"), [(0, [0, 1, 2, 3]), (0.3, [1, 2, 3]), (0.6, [1, 3]), (1, [1])])
def test_min_p_is_relative_to_the_likeliest(p: float, ids: list[int]) -> None:
    assert kept(min_p(LOGITS, p)) == ids


def test_repetition_penalty_lowers_what_occurred_once_however_often() -> None:
    found = repetition_penalty(np.float32([2, -2, 3, -3]), [0, 1, 1, 0], 2)
    np.testing.assert_array_equal(found, [1, -4, 3, -3])


def test_repetition_penalty_takes_each_row_s_own_ids() -> None:
    found = repetition_penalty(np.ones((2, 3), np.float32), [[0, 0], [1, 2]], 2)
    np.testing.assert_array_equal(found, [[0.5, 1, 1], [1, 0.5, 0.5]])


@pytest.mark.parametrize("penalty", [1e-3, 0.5, 1.1, 1e3])
def test_repetition_penalty_of_logits_near_the_limit_gives_no_warning(penalty: float) -> None:
    found = repetition_penalty(np.float32([3e38, -3e38, 1]), [0, 1], penalty)
    assert (found[0] > found[2]) or penalty == 1e3
    assert found[1] < found[2] == 1


@given(logit_vectors, st.floats(0.01, 1))
def test_processors_keep_the_likeliest_and_change_nothing_else(logits: np.ndarray, p: float) -> None:
    before = logits.copy()
    for shaped in (top_k(logits, 1 + int(p * 10)), top_p(logits, p), min_p(logits, p)):
        assert shaped.dtype == logits.dtype
        assert shaped.max() == logits.max()
        assert set(shaped) <= {*logits, -np.inf}
    np.testing.assert_array_equal(logits, before)


# --------------------------------------------------------------------------------- choosing one token


def test_the_same_seed_draws_the_same_tokens() -> None:
    def draw(seed: int) -> list[int]:
        rng = np.random.default_rng(seed)
        return [Sampling().choose(LOGITS, [0], rng) for _ in range(40)]

    assert draw(1) == draw(1) != draw(2)


def test_draws_follow_the_distribution() -> None:
    rng = np.random.default_rng(0)
    draws = [Sampling(temperature=0.5).choose(LOGITS, [0], rng) for _ in range(1_000)]
    expected = probabilities(LOGITS, 0.5)
    # Four standard deviations of a binomial proportion.
    tolerance = 4 * np.sqrt(expected * (1 - expected) / 1_000)
    assert (np.abs(np.bincount(draws, minlength=4) / 1_000 - expected) < tolerance).all()


class Fixed(np.random.Generator):
    """Random numbers that are not."""

    def __init__(self, value: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.value = value

    def random(self, *args: Any, **kwargs: Any) -> Any:
        return self.value


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 1), (np.nextafter(1, 0), 3)])
def test_a_token_that_was_ruled_out_is_never_drawn(uniform: float, token: int) -> None:
    logits = np.float32([-np.inf, 1, -np.inf, 1, -np.inf])
    assert Sampling().choose(logits, [0], Fixed(uniform)) == token


@given(logit_vectors, settings_of_sampling, st.floats(0, 1, exclude_max=True))
def test_every_setting_draws_a_token_that_the_processors_left(
    logits: np.ndarray, setting: dict[str, Any], uniform: float
) -> None:
    sampling = Sampling(**setting)
    token = sampling.choose(logits, [0], Fixed(uniform))
    scores = sampling.rescale(logits, [0])
    if setting["temperature"] == 0:
        assert scores[token] == scores.max()
    else:
        assert token in kept(sampling.process(logits, [0]))


def test_greedy_choice_draws_no_random_number() -> None:
    rng = np.random.default_rng(0)
    assert Sampling(temperature=0).choose(LOGITS, [0], rng) == 1
    assert rng.random() == np.random.default_rng(0).random()


def test_greedy_choice_heeds_the_penalty_and_ignores_the_cuts() -> None:
    rng = np.random.default_rng(0)
    assert Sampling(temperature=0, repetition_penalty=1.1).choose(LOGITS, [1], rng) == 3
    assert Sampling(temperature=0, top_k=1, top_p=0.1, min_p=1).choose(LOGITS, [0], rng) == 1


# ------------------------------------------------------------------------------------------ arguments

OUT_OF_RANGE = [
    ("temperature", [-1, -1e-9, math.nan, math.inf]),
    ("top_k", [-1]),
    ("top_p", [0, -0.5, 1.0001, math.nan]),
    ("min_p", [-0.1, 1.1, math.nan]),
    ("repetition_penalty", [0, -1, math.nan, math.inf, 1e39, 1e-46, 1e-300]),
]


PROCESSORS = {
    "temperature": lambda value: temperature(LOGITS, value),
    "top_k": lambda value: top_k(LOGITS, value),
    "top_p": lambda value: top_p(LOGITS, value),
    "min_p": lambda value: min_p(LOGITS, value),
    "repetition_penalty": lambda value: repetition_penalty(LOGITS, [0], value),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in OUT_OF_RANGE for value in values]
)
def test_arguments_out_of_range_are_refused_by_name_and_value(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^{name} is {re.escape(str(value))}; it must be [^\n]+\.$"):
        Sampling(**{name: value})
    with pytest.raises(InputError, match=f"^{name} is"):
        PROCESSORS[name](value)


@pytest.mark.parametrize("name", ["top_k", "max_new_tokens", "seed", "top", "num_beams"])
@pytest.mark.parametrize("value", [2.5, 2.0, math.nan, "2", None, np.array([1, 2])])
def test_what_counts_is_an_integer(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{name} is .*; it must be an integer"):
        check_range(name, value)
    check_range(name, np.int64(2))


def test_another_type_is_refused_like_another_value() -> None:
    with pytest.raises(InputError, match=r"temperature is warm; it must be a finite number"):
        check_range("temperature", "warm")


def test_a_number_of_any_length_is_refused_in_a_short_line() -> None:
    for name, value in (("temperature", 10**400), ("min_p", 10**5000), ("seed", -(10**5000))):
        with pytest.raises(InputError, match=rf"^{name} is -?1\.00e\+\d+; it must be "):
            check_range(name, value)
    check_range("seed", 10**3999)


def test_dividing_by_a_temperature_of_0_is_refused() -> None:
    with pytest.raises(InputError, match="temperature is 0"):
        temperature(LOGITS, 0)
