"""The losses of pairs as numbers and coefficients, and each way in which others have got them wrong."""

import math
import warnings
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest

from minigpt.errors import InputError
from minigpt.model import GPT2
from minigpt.parallel import Threads
from minigpt.scoring import log_odds_of, log_odds_slope
from minigpt.tape import gradients
from minigpt.training.losses import Batch
from minigpt.training.pairs import Pair, PairIds, answer_logprobs, rows_of
from minigpt.training.preferences import (
    OBJECTIVES,
    Objective,
    PairLogprobs,
    PairLoss,
    PreferenceLoss,
    checked_objective,
    dpo,
    metrics,
    odds_ratio,
    preference_batch,
    sigmoid,
    softplus,
    totals_of,
)
from minigpt.training.step import batch_gradients
from tests.synthetic import random_gpt2

TEXT = Pair("", "a", "b")
PAIRS = [
    PairIds(TEXT, [3, 9, 9, 0], [7, 7, 1], [7, 8]),
    PairIds(TEXT, [50], [2], [11, 0, 12, 2, 3]),
    PairIds(TEXT, [4, 3, 2, 1, 0, 6, 7], [0, 5, 5, 5], [5]),
]


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_gpt2(dtype=np.float64)


def pair_of(chosen: list[float], rejected: list[float], *reference: list[float]) -> PairLogprobs:
    return PairLogprobs(*map(np.array, (chosen, rejected, *(reference or (chosen, rejected)))))


# -------------------------------------------------------------------------------------------------- log-odds


def exact(logprob: float) -> tuple[Decimal, Decimal]:
    """Log-odds and their derivative with 400 digits."""
    a = Decimal(logprob)
    return a - (1 - a.exp()).ln(), 1 / (1 - a.exp())


@pytest.mark.parametrize(
    "logprob", [-1e-300, -1e-12, -1e-7, -0.1, -math.log(2), -0.7, -1.0, -3.0, -20.0, -36.9, -50.0, -700.0]
)
def test_log_odds_and_their_derivative_have_all_their_digits(logprob: float) -> None:
    with localcontext() as context:
        context.prec = 400
        value, slope = exact(logprob)
        assert abs(Decimal(log_odds_of(logprob)) - value) <= Decimal("1e-12") * max(abs(value), 1)
        assert abs(Decimal(log_odds_slope(logprob)) - slope) <= Decimal("1e-12") * slope


@pytest.mark.parametrize("logprob", [-1e-12, -1e-9])
def test_log_of_1_minus_p_as_it_is_often_written_loses_its_digits(logprob: float) -> None:
    naive = logprob - math.log(1 - math.exp(logprob))
    assert abs(naive - log_odds_of(logprob)) > 1e-10 * abs(naive)


def test_two_certain_answers_have_a_loss_and_a_push_that_are_numbers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = odds_ratio(pair_of([0.0, -0.0], [0.0]), 1.0)
    assert loss.value == pytest.approx(math.log(2))
    assert np.isfinite([loss.chosen, loss.rejected]).all()


def test_certainty_by_rounding_pushes_no_harder_than_float32_can_hold() -> None:
    certain = np.zeros((1, 3), np.float32)
    pairs = [PairIds(TEXT, [1, 2], [3, 4, 5], [6, 7, 8])]
    loss = preference_batch(OBJECTIVES["orpo"], 1.0, pairs, [(certain[0], certain[0])], totals_of(pairs)).loss
    value, weights = loss(np.zeros((2, 4), np.float32))
    assert weights.dtype == np.float32
    assert value == pytest.approx(math.log(2))
    assert 1e5 < weights.max() < 1e8


# ---------------------------------------------------------------------------------------------------- losses


def simpo(pair: PairLogprobs, beta: float) -> PairLoss:
    """Meng et al. 2024: means, a target margin of 0.5, no reference."""
    margin = beta * float(pair.chosen.mean() - pair.rejected.mean()) - 0.5
    push = beta * sigmoid(-margin)
    return PairLoss(softplus(-margin), push / pair.chosen.size, -push / pair.rejected.size)


def ipo(pair: PairLogprobs, beta: float) -> PairLoss:
    """Azar et al. 2023, with means as in TRL."""
    gain = (pair.chosen - pair.reference_chosen).mean() - (pair.rejected - pair.reference_rejected).mean()
    push = -2.0 * (float(gain) - 0.5 / beta)
    return PairLoss(push**2 / 4.0, push / pair.chosen.size, -push / pair.rejected.size)


@pytest.mark.parametrize("term", [odds_ratio, dpo, simpo, ipo])
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_coefficients_are_minus_the_derivative_by_each_log_probability(
    term: Callable[[PairLogprobs, float], PairLoss], beta: float
) -> None:
    numbers = [-0.3, -2.0, -1.1], [-0.2, -0.7]
    reference = [-0.5, -1.0, -1.3], [-0.4, -0.1]
    loss = term(pair_of(*numbers, *reference), beta)
    coefficients = [np.broadcast_to(loss.chosen, 3), np.broadcast_to(loss.rejected, 2)]
    for answer, token in ((0, 0), (0, 2), (1, 0), (1, 1)):
        values = []
        for step in (1e-6, -1e-6):
            moved = [list(some) for some in numbers]
            moved[answer][token] += step
            values.append(term(pair_of(*moved, *reference), beta).value)
        slope = (values[0] - values[1]) / 2e-6
        assert coefficients[answer][token] == pytest.approx(-slope, rel=1e-7)


def test_swapping_the_answers_turns_the_sign_of_the_log_odds_ratio() -> None:
    chosen, rejected = [-0.3, -2.0], [-0.1, -0.7, -4.0]
    there, back = (
        metrics(OBJECTIVES["orpo"], 1.0, [pair_of(*two)]) for two in ((chosen, rejected), (rejected, chosen))
    )
    assert there["log_odds_chosen"] == -back["log_odds_chosen"] != 0


def test_what_trl_calls_log_odds_ratio_is_a_logsigmoid_and_never_positive() -> None:
    found = metrics(OBJECTIVES["orpo"], 1.0, [pair_of([-0.01], [-9.0])])
    assert found["log_odds_chosen"] > 10
    assert found["log_odds_ratio"] == pytest.approx(-softplus(-found["log_odds_chosen"]), rel=1e-9)
    assert found["log_odds_ratio"] < 0


def test_dpo_adds_up_an_answers_tokens_where_orpo_takes_their_mean() -> None:
    """A length in the denominator is a fault that DPO has been written with."""
    short, long = (
        pair_of([-1.0], [-2.0], [-1.5], [-1.5]),
        pair_of([-1.0] * 4, [-2.0] * 4, [-1.5] * 4, [-1.5] * 4),
    )
    assert dpo(long, 0.1).value == pytest.approx(softplus(-0.1 * 4.0))
    assert dpo(short, 0.1).value == pytest.approx(softplus(-0.1 * 1.0))
    assert odds_ratio(long, 0.1).value == odds_ratio(short, 0.1).value


def test_an_objective_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match=r"loss is 'kto'; it must be orpo, dpo, sft, or an Objective"):
        checked_objective("kto")


# ------------------------------------------------------------------------------------------------- batches


def batch_of(
    model: GPT2,
    loss: str | Objective,
    beta: float,
    pairs: list[PairIds] = PAIRS,
    reference: GPT2 | None = None,
) -> Batch:
    with Threads(1) as threads:
        old = answer_logprobs(reference or model, pairs, threads)
    return preference_batch(checked_objective(loss), beta, pairs, old, totals_of(PAIRS))


def gradients_of(model: GPT2, *batches: Batch) -> tuple[float, dict[str, np.ndarray]]:
    found: dict[str, np.ndarray] = {}
    with Threads(2) as threads:
        value = sum(batch_gradients(model, [batch], threads, found) for batch in batches)
    return value, found


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], bound: float = 1e-13) -> None:
    assert found.keys() == expected.keys()
    for name, array in found.items():
        if not name.endswith("c_attn.bias"):  # the part of the keys is 0 but for rounding
            assert np.abs(array - expected[name]).max() <= bound * np.abs(expected[name]).max(), name


def test_orpo_without_its_second_term_is_the_nll_of_the_chosen_texts(model: GPT2) -> None:
    """Pooled over the tokens of all texts, the prompts' included, not a mean of the texts' means."""
    value, found = gradients_of(model, batch_of(model, "orpo", 0.0))
    rows = rows_of([(pair.prompt, pair.chosen) for pair in PAIRS])
    weights = rows.is_text / rows.is_text.sum()
    expected, whole = gradients(model, rows.ids, rows.targets, weights)
    assert value == pytest.approx(expected, rel=1e-14)
    same(found, whole)
    assert gradients_of(model, batch_of(model, "sft", 0.0))[0] == pytest.approx(expected, rel=1e-14)


def test_dpo_begins_with_ln_2_and_no_rewards_but_a_gradient(model: GPT2) -> None:
    batch = batch_of(model, "dpo", 0.3)
    value, found = gradients_of(model, batch)
    assert value == pytest.approx(math.log(2), rel=1e-14)
    assert isinstance(batch.loss, PreferenceLoss)
    rewards = metrics(OBJECTIVES["dpo"], 0.3, batch.loss.pairs)
    assert abs(rewards["rewards/chosen"]) < 1e-14
    assert abs(rewards["rewards/margins"]) < 1e-14
    assert np.abs(found["wte.weight"]).max() > 1e-3


@pytest.mark.parametrize("loss", ["orpo", "dpo", "sft"])
def test_other_padding_changes_nothing_bit_for_bit(model: GPT2, loss: str) -> None:
    """Even if it is an id of the texts, as end-of-text often is: masks go by position."""
    single, results = model.astype(np.float32), []
    for pad in (0, 7, 300):
        batch = batch_of(single, loss, 1.0)
        assert isinstance(batch.loss, PreferenceLoss)
        padding = ~batch.loss.rows.is_text
        ids, targets = batch.ids.copy(), np.where(padding, pad, batch.targets)
        ids[:, 1:][padding[:, :-1]] = pad
        results.append(gradients_of(single, Batch(ids, targets, batch.loss)))
    for value, found in results[1:]:
        assert value == results[0][0]
        for name, gradient in found.items():
            np.testing.assert_array_equal(gradient, results[0][1][name], err_msg=name)


@pytest.mark.parametrize("loss", ["orpo", "dpo", "sft"])
def test_unequal_micro_batches_are_one_batch(model: GPT2, loss: str) -> None:
    """The NLL is pooled over all tokens of a step, and the pairs' term over all of its pairs."""
    other = random_gpt2(seed=3, dtype=np.float64)
    value, found = gradients_of(model, batch_of(model, loss, 1.0, reference=other))
    parts = [batch_of(model, loss, 1.0, part, other) for part in (PAIRS[:1], PAIRS[1:])]
    expected, whole = gradients_of(model, *parts)
    assert value == pytest.approx(expected, rel=1e-13)
    same(found, whole)


def test_the_mask_of_an_answer_begins_with_its_first_token_and_ends_with_its_last() -> None:
    """A mask that is one position too long, as in the paper's code, would count a token of the prompt."""
    rows = rows_of([([5, 6, 7], [8, 9]), ([5], [8, 9, 10, 11, 12])])
    assert rows.targets[0][rows.is_answer[0]].tolist() == [8, 9]
    assert rows.targets[1][rows.is_answer[1]].tolist() == [8, 9, 10, 11, 12]
    assert rows.targets[0][rows.is_text[0]].tolist() == [6, 7, 8, 9]


def test_coefficients_stand_where_the_table_says(model: GPT2) -> None:
    batch = batch_of(model, "orpo", 2.0)
    assert isinstance(batch.loss, PreferenceLoss)
    logprobs = np.full(batch.ids.shape, -1.0)
    _, weights = batch.loss(logprobs)
    slope, n_tokens = 1 / (1 - math.exp(-1)), 6 + 1 + 10
    for number, pair in enumerate(PAIRS):
        chosen, rejected, start = weights[number], weights[3 + number], len(pair.prompt) - 1
        push = 2.0 / 3 * 0.5 * slope  # β/M σ(0) / (1 − P)
        assert chosen[:start] == pytest.approx([1 / n_tokens] * start)
        assert chosen[start : start + len(pair.chosen)] == pytest.approx(
            1 / n_tokens + push / len(pair.chosen)
        )
        assert not chosen[start + len(pair.chosen) :].any()
        assert not rejected[:start].any()
        assert rejected[start : start + len(pair.rejected)] == pytest.approx(-push / len(pair.rejected))
        assert not rejected[start + len(pair.rejected) :].any()


def test_the_end_of_text_of_an_answer_counts_although_it_is_the_padding_too(model: GPT2) -> None:
    ended = [PairIds(TEXT, [3, 9], [7, 0], [8, 4, 0])]  # 0 ends the texts, and pads the shorter one
    batch = preference_batch(OBJECTIVES["orpo"], 1.0, ended, [(np.zeros(2), np.zeros(3))], totals_of(ended))
    _, weights = batch.loss(np.full(batch.ids.shape, -1.0))
    assert batch.targets[0].tolist() == [9, 7, 0, 0]
    assert weights[0, 2] == weights[0, 1] > 0
    assert weights[0, 3] == 0
    assert weights[1, 3] == weights[1, 1] < 0
