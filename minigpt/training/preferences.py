"""Preference optimisation: which of two answers to the same prompt is the better one, as pushes on logits.

    π(answer)  ─ loss of the pair ─  how wrong the model still is  ─ coefficients ─  a push for each token

The loss of a pair is a function of the log-probabilities of both answers' tokens. Its coefficients say how
hard each of these is pushed: up if positive, down if negative. In the terms of `minigpt.backward` the loss
is Σ c (−log p), so the logits after a token get −c (p − onehot), and everything else is as in any training.

References: Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model", arXiv
2403.07691; Rafailov et al. 2023, "Direct Preference Optimization", arXiv 2305.18290. Conventions are those of
TRL, `trl/experimental/orpo/orpo_trainer.py` and `trl/trainer/dpo_trainer.py`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from ..errors import InputError, brief
from ..ranges import Number, check_range
from ..scoring import log_odds_of, log_odds_slope
from .losses import Batch, PerToken
from .pairs import Logprobs, PairIds, Rows, rows_of

Coefficients = Float[np.ndarray, "_"] | float  # one number is meant for every token


@dataclass(frozen=True)
class PairLogprobs:
    """The log-probability of each token of both answers, now and by the model before training."""

    chosen: Float[np.ndarray, " chosen_tokens"]
    rejected: Float[np.ndarray, " rejected_tokens"]
    reference_chosen: Float[np.ndarray, " chosen_tokens"]
    reference_rejected: Float[np.ndarray, " rejected_tokens"]


@dataclass(frozen=True)
class PairLoss:
    """The loss of one pair, and the coefficient of each token's −log p, which is −∂loss/∂log p."""

    value: float
    chosen: Coefficients
    rejected: Coefficients


PairTerm = Callable[[PairLogprobs, float], PairLoss]


# ----------------------------------------------------------------------------------------------- the losses


def odds_ratio(pair: PairLogprobs, beta: float) -> PairLoss:
    """ORPO's second term: β softplus(−h), where h is by how much the chosen answer's log-odds are larger.

    σ(−h) is how wrong the model still is, and fades as it learns. 1 / (1 − P) is large for an answer that is
    likely already: this bites on a rejected answer that learning the chosen one has pulled up.
    """
    chosen, rejected, h = float(pair.chosen.mean()), float(pair.rejected.mean()), log_odds_ratio_of(pair)
    push = beta * sigmoid(-h)
    return PairLoss(
        beta * softplus(-h),
        push * log_odds_slope(chosen) / pair.chosen.size,
        -push * log_odds_slope(rejected) / pair.rejected.size,
    )


def dpo(pair: PairLogprobs, beta: float) -> PairLoss:
    """softplus(−βΔ), where Δ is by how much the chosen answer has gained more than the rejected one.

    Both gains are sums over the tokens, not means. Before the first step both are 0, and the loss is ln 2.
    """
    gain = (pair.chosen - pair.reference_chosen).sum() - (pair.rejected - pair.reference_rejected).sum()
    push = beta * sigmoid(-beta * float(gain))
    return PairLoss(softplus(-beta * float(gain)), push, -push)


@dataclass(frozen=True)
class Objective:
    """What is minimised: the mean of the pairs' losses, the NLL of the chosen texts, or their sum."""

    name: str
    pair: PairTerm | None
    nll: bool  # the mean of −log p over all tokens of all chosen texts
    default_beta: float = 1.0
    has_reference: bool = False  # whether the pair's loss looks at the model before training

    def weight(self, beta: Number | None) -> float:
        """The β to use. Raises `InputError` for one that is no weight."""
        if beta is None:
            return self.default_beta
        check_range("beta", beta)
        return float(beta)


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("orpo", odds_ratio, nll=True, default_beta=1.0),
        Objective("dpo", dpo, nll=False, default_beta=0.1, has_reference=True),
        Objective("sft", None, nll=True),  # fine-tuning alone: the rejected answers are not looked at
    )
}


def checked_objective(loss: str | Objective) -> Objective:
    """An objective, or the one of that name."""
    if isinstance(loss, Objective):
        return loss
    if not isinstance(loss, str) or loss not in OBJECTIVES:
        raise InputError(
            f"loss is {brief(loss, repr)}; it must be {', '.join(OBJECTIVES)}, or an Objective of your own."
        )
    return OBJECTIVES[loss]


# --------------------------------------------------------------------------------------------- of a batch


@dataclass(frozen=True)
class Totals:
    """What a step divides by: pairs and tokens of all its batches and threads, never a mean of means."""

    n_pairs: int
    n_tokens: int  # that the NLL covers


@dataclass
class PreferenceLoss:
    """The loss of some rows, of which the first half are chosen texts and the second the rejected ones."""

    objective: Objective
    beta: float
    rows: Rows
    reference: Sequence[tuple[Logprobs, Logprobs]]  # by the model before training, for each pair
    totals: Totals
    answer_only: bool = False  # the NLL leaves the prompt out
    pairs: list[PairLogprobs] = field(default_factory=list)  # of the last call, for the metrics
    nll: float = 0.0  # of the last call

    def __call__(self, logprobs: PerToken) -> tuple[float, PerToken]:
        """The value, and the coefficient of every position; a pair's are added to those of the NLL."""
        half = len(logprobs) // 2
        weights = np.zeros(logprobs.shape)
        weights[:half][self.covered] = 1.0 / self.totals.n_tokens
        self.nll = -float((weights * logprobs).sum())
        self.pairs = [self.pair_logprobs(logprobs, number) for number in range(half)]
        value = self.nll if self.objective.nll else 0.0
        weights *= self.objective.nll
        for number, pair in enumerate(self.pairs):
            if self.objective.pair is None:
                break
            loss = self.objective.pair(pair, self.beta)
            value += loss.value / self.totals.n_pairs
            for row, coefficients in ((number, loss.chosen), (half + number, loss.rejected)):
                weights[row, self.rows.is_answer[row]] += np.asarray(coefficients) / self.totals.n_pairs
        return value, weights.astype(logprobs.dtype)

    @property
    def covered(self) -> Bool[np.ndarray, "pairs tokens"]:
        """The positions of the chosen texts that the NLL counts."""
        where = self.rows.is_answer if self.answer_only else self.rows.is_text
        return where[: len(where) // 2]

    def pair_logprobs(self, logprobs: PerToken, number: int) -> PairLogprobs:
        """The answers' tokens of one pair, in float64.

        What rounding has made a certainty is taken for the largest probability below 1, which keeps
        1 / (1 − P) within what the numbers can hold.
        """
        certain, half = np.log1p(-np.finfo(logprobs.dtype).epsneg), len(logprobs) // 2
        now = (logprobs[row, self.rows.is_answer[row]] for row in (number, half + number))
        return PairLogprobs(
            *(np.minimum(some.astype(np.float64), certain) for some in (*now, *self.reference[number]))
        )


def preference_batch(
    objective: Objective,
    beta: float,
    pairs: Sequence[PairIds],
    reference: Sequence[tuple[Logprobs, Logprobs]],
    totals: Totals,
    answer_only: bool = False,
) -> Batch:
    """Some pairs as a batch: all chosen texts, then all rejected ones."""
    chosen, rejected = ([(pair.prompt, pair.answers[which]) for pair in pairs] for which in (0, 1))
    rows = rows_of([*chosen, *rejected])
    loss = PreferenceLoss(objective, beta, rows, reference, totals, answer_only)
    return Batch(rows.ids, rows.targets, loss)


def totals_of(pairs: Sequence[PairIds], answer_only: bool = False) -> Totals:
    """What the coefficients of a step with these pairs divide by."""
    lengths = (len(pair.chosen) + (0 if answer_only else len(pair.prompt) - 1) for pair in pairs)
    return Totals(len(pairs), sum(lengths))


def metrics(objective: Objective, beta: float, pairs: Sequence[PairLogprobs]) -> dict[str, float]:
    """Means over pairs, by the names that TRL gives them.

    As there, `logps` are means over an answer's tokens, and `rewards` β times these; with a reference both
    are sums, and rewards are what was gained. `log_odds_ratio` is log σ(h), and so never positive.
    """
    if objective.has_reference:
        logps = np.array([(pair.chosen.sum(), pair.rejected.sum()) for pair in pairs])
        old = np.array([(pair.reference_chosen.sum(), pair.reference_rejected.sum()) for pair in pairs])
        rewards = beta * (logps - old)
    else:
        logps = np.array([(pair.chosen.mean(), pair.rejected.mean()) for pair in pairs])
        rewards = beta * logps
    ratios = np.array([log_odds_ratio_of(pair) for pair in pairs])
    return {
        "rewards/chosen": float(rewards[:, 0].mean()),
        "rewards/rejected": float(rewards[:, 1].mean()),
        "rewards/accuracies": float((rewards[:, 0] > rewards[:, 1]).mean()),
        "rewards/margins": float((rewards[:, 0] - rewards[:, 1]).mean()),
        "logps/chosen": float(logps[:, 0].mean()),
        "logps/rejected": float(logps[:, 1].mean()),
        "log_odds_chosen": float(ratios.mean()),
        "log_odds_ratio": -float(np.logaddexp(0.0, -ratios).mean()),
    }


def log_odds_ratio_of(pair: PairLogprobs) -> float:
    """By how much the log-odds of the chosen answer exceed those of the rejected one: h."""
    return log_odds_of(float(pair.chosen.mean())) - log_odds_of(float(pair.rejected.mean()))


# -------------------------------------------------------------------------------------------- the functions


def sigmoid(x: float) -> float:
    """1 / (1 + exp(−x)), which cannot overflow this way."""
    return math.exp(-softplus(-x))


def softplus(x: float) -> float:
    """log(1 + exp(x)), which is −log σ(−x)."""
    return float(np.logaddexp(0.0, x))
