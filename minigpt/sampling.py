"""From logits to a token: shape the distribution, then draw from it.

Each processor is a pure function from logits to logits over the last axis: it rescales them, or sets the
logits of the tokens it rules out to -inf, which is probability 0. `Sampling` holds one setting of each
and applies them in the order of `transformers` (`GenerationMixin._get_logits_processor`): repetition
penalty, temperature, top-k, top-p, min-p. Every processor gives what its namesake gives in
`transformers.generation.logits_process`, which the test suite checks.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from . import model
from .errors import InputError, NumericsError
from .ranges import Number, check_range, check_ranges

Logits = Float[np.ndarray, "*batch vocab"]


def as_scores(logits: ArrayLike) -> Float[np.ndarray, "*batch vocab"]:
    """The logits in float64. Raises `InputError` for anything but rows of numbers, one for each token."""
    try:
        scores = np.asarray(logits).astype(np.float64, casting="same_kind", copy=False)
        found = f"shape {scores.shape}" if scores.ndim == 0 or scores.shape[-1] == 0 else None
    except (TypeError, ValueError):  # text, complex numbers, rows of different lengths
        found = type(logits).__name__
    if found:
        raise InputError(f"logits: found {found}; expected numbers, (*batch, vocab), one for each token.")
    return scores


def check_finite(logits: Logits) -> None:
    """Raise `NumericsError` unless every row has a largest logit; -inf stands for an impossible token."""
    largest = logits.max(axis=-1)  # NaN, if there is one anywhere
    if not np.isfinite(largest).all():
        culprit = largest[~np.isfinite(largest)][0] if largest.ndim else largest
        raise NumericsError(
            f"the logits are not finite: the largest is {culprit}, so there are no probabilities. "
            "Either the checkpoint's weights are too large or not finite, or a hook made them so."
        )


def probabilities(logits: ArrayLike, temperature: Number = 1.0) -> Float[np.ndarray, "*batch vocab"]:
    """Softmax of `logits / temperature` over the last axis, in float64.

    Below 1 a temperature sharpens the distribution, above 1 it flattens it; 0 is the limit: the argmax has
    probability 1. Raises `InputError` for a temperature that is not finite or below 0 and for logits that
    are not numbers, and `NumericsError` for logits that are NaN or +inf.
    """
    check_range("temperature", temperature)
    scores = as_scores(logits)
    check_finite(scores)
    if temperature == 0:
        likeliest = scores.argmax(axis=-1, keepdims=True)
        return (np.arange(scores.shape[-1]) == likeliest).astype(np.float64)
    with np.errstate(over="ignore"):  # relative to the largest, whatever overflows is -inf: probability 0
        return model.softmax((scores - scores.max(axis=-1, keepdims=True)) / temperature)


# ------------------------------------------------------------------------ processors: logits to logits


def check_logits(logits: Logits) -> None:
    """Raise `InputError` for anything but an array of rows of numbers."""
    is_array = isinstance(logits, np.ndarray) and logits.dtype.kind == "f"
    if not is_array or logits.shape[-1:] in ((), (0,)):
        raise InputError(
            f"logits: found {type(logits).__name__}; expected a NumPy array of floats, (*batch, vocab)."
        )


def checked_previous(ids: ArrayLike, logits: Logits) -> Int[np.ndarray, "*batch n"]:
    """The ids that occurred. Raises `InputError` for what is none of these logits' ids."""
    try:
        array = np.asarray(ids if np.size(ids) else np.zeros(np.shape(ids), np.int64))
    except ValueError:  # rows of different lengths
        array = np.zeros(0)
    *batch, n_vocab = logits.shape
    fits = array.dtype.kind in "iu" and array.ndim == logits.ndim and array.shape[:-1] == (*batch,)
    if not fits or (array.size and not 0 <= array.min() <= array.max() < n_vocab):
        raise InputError(f"previous_ids: expected ids from 0 to {n_vocab - 1}, (*batch, n).")
    return array


def repetition_penalty(logits: Logits, previous_ids: ArrayLike, penalty: Number) -> Logits:
    """Make the tokens that occurred less likely: divide their logits if positive, multiply if negative.

    `previous_ids` is (*batch, n), prompt included. Keskar et al. 2019, "CTRL", section 4.1, as in
    `RepetitionPenaltyLogitsProcessor`: a token counts once, however often it occurred.
    """
    check_range("repetition_penalty", penalty)
    check_logits(logits)
    ids = checked_previous(previous_ids, logits)
    previous = np.take_along_axis(logits, ids, axis=-1)
    penalised = logits.copy()
    with np.errstate(over="ignore"):  # of logits near the limit: -inf is an impossible token, inf is refused
        lower = np.where(previous < 0, previous * penalty, previous / penalty)
    np.put_along_axis(penalised, ids, lower, axis=-1)
    return penalised


def temperature(logits: Logits, value: Number) -> Logits:
    """Stretch (below 1) or squeeze (above 1) the logits; `value` is above 0, as 0 means greedy choice.

    Raises `InputError` for a value that the logits' own precision would round to 0 or to infinity.
    """
    check_range("temperature", value)
    check_logits(logits)
    if value == 0:
        raise InputError("temperature is 0; there is nothing to divide by: take the argmax instead.")
    with np.errstate(over="ignore", under="ignore"):
        divisor = logits.dtype.type(value)
    if not 0 < divisor < np.inf:
        raise InputError(
            f"temperature is {value}, beyond what {logits.dtype} holds; give the logits as float64."
        )
    return logits / divisor


def top_k(logits: Logits, k: int) -> Logits:
    """Keep the `k` largest logits, and all that equal the smallest of them; 0 keeps everything."""
    check_range("top_k", k)
    check_logits(logits)
    if k == 0 or k >= logits.shape[-1]:
        return logits
    smallest_kept = np.partition(logits, -k, axis=-1)[..., -k, None]
    return np.where(logits < smallest_kept, -np.inf, logits)


def top_p(logits: Logits, p: Number) -> Logits:
    """Keep the likeliest tokens, as few as have a probability of `p` together, and at least one.

    Where only some of several equal logits are needed, those of the lower ids stay, as in every ranking here.
    `transformers` leaves that to the order in which `torch.sort` puts equal values, which keeps higher ids.
    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1 (nucleus sampling).
    """
    check_range("top_p", p)
    check_logits(logits)
    ascending = np.sort(logits, axis=-1)
    cumulative = np.cumsum(model.softmax(ascending), axis=-1, dtype=np.float64)
    n_removed = (cumulative[..., :-1] <= 1 - p).sum(axis=-1, keepdims=True)
    smallest_kept = np.take_along_axis(ascending, n_removed, axis=-1)
    larger, equal = logits > smallest_kept, logits == smallest_kept
    n_equal_kept = logits.shape[-1] - n_removed - larger.sum(axis=-1, keepdims=True)
    kept = larger | (equal & (np.cumsum(equal, axis=-1, dtype=np.int32) <= n_equal_kept))
    return np.where(kept, logits, -np.inf)


def min_p(logits: Logits, p: Number) -> Logits:
    """Keep the tokens that are at least `p` times as likely as the likeliest.

    Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", section 3.
    """
    check_range("min_p", p)
    check_logits(logits)
    relative = np.exp(logits - logits.max(axis=-1, keepdims=True))  # the ratio needs no normalisation
    return np.where(relative < p, -np.inf, logits)


# --------------------------------------------------------------------------------- choosing one token


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: one setting per processor, with the values that switch it off.

    Raises `InputError` for a value out of range.
    """

    temperature: Number = 1.0  # 0 is greedy: always the likeliest
    top_k: int = 0
    top_p: Number = 1.0
    min_p: Number = 0.0
    repetition_penalty: Number = 1.0

    def __post_init__(self) -> None:
        check_ranges(self)

    def process(self, logits: Logits, previous_ids: ArrayLike) -> Logits:
        """The logits to draw from: penalty, temperature, and what top-k, top-p and min-p leave of them.

        Raises `NumericsError` for logits that are NaN or +inf.
        """
        return self.trim(top_k(self.rescale(logits, previous_ids), self.top_k))

    def rescale(self, logits: Logits, previous_ids: ArrayLike) -> Logits:
        """Penalty and temperature; 0 is greedy choice, which asks for no more than the penalty."""
        if self.repetition_penalty != 1:
            logits = repetition_penalty(logits, previous_ids, self.repetition_penalty)
        check_finite(logits)
        if self.temperature == 0:
            return logits
        with np.errstate(over="ignore"):  # relative to the largest, whatever overflows is -inf: probability 0
            relative = logits - logits.max(axis=-1, keepdims=True)
            # What float32 holds: nearer to 0 ties alone are left to chance, and above nothing differs.
            return temperature(relative, min(max(self.temperature, 1e-30), 3e38))

    def trim(self, logits: Logits) -> Logits:
        """Rule tokens out by top-p, then by min-p of what is left."""
        logits = top_p(logits, self.top_p) if self.top_p < 1 else logits
        return min_p(logits, self.min_p) if self.min_p > 0 else logits

    def choose(
        self, logits: Float[np.ndarray, " vocab"], previous_ids: ArrayLike, rng: np.random.Generator
    ) -> int:
        """The id of the next token, drawn with one uniform number from `rng`; greedy choice draws none.

        It is drawn from what `process` leaves, only sooner: what top-k rules out is left behind at once.
        """
        scores = self.rescale(logits, previous_ids)
        if self.temperature == 0:
            return int(scores.argmax())
        kept = np.flatnonzero(top_k(scores, self.top_k) > -np.inf)
        return int(kept[draw(self.trim(scores[kept]), rng)])


def draw(logits: Float[np.ndarray, " vocab"], rng: np.random.Generator) -> int:
    """A place in these logits, each as likely as its probability.

    The probabilities laid end to end are a stick; a uniform number falls on one of its pieces.
    """
    ends = np.cumsum(model.softmax(logits), dtype=np.float64)
    return int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))
