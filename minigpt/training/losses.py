"""A loss is a value, and a coefficient for each position: how hard the target's log-probability is pushed.

To `minigpt.backward`, whatever is learnt is Σ c (−log p). Losses differ in c: that of language modelling
is the same everywhere; that of preferences depends on how likely the whole answers are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

PerToken = Float[np.ndarray, "rows tokens"]
Ids = Int[np.ndarray, "rows tokens"]
# From the targets' log-probabilities to the value and the coefficients.
Loss = Callable[[PerToken], tuple[float, PerToken]]


@dataclass(frozen=True)
class CrossEntropy:
    """A loss whose coefficients are known before anything is computed."""

    weights: PerToken

    def __call__(self, logprobs: PerToken) -> tuple[float, PerToken]:
        """Σ c (−log p), and c."""
        return -float((self.weights * logprobs).sum(dtype=np.float64)), self.weights


@dataclass(frozen=True)
class Batch:
    """Rows of ids, the ids that should follow them, and the loss of what the model makes of these."""

    ids: Ids
    targets: Ids
    loss: Loss


def language_modelling(
    ids: Ids,
    targets: Ids,
    n_targets: int,
    dtype: np.dtype,
    counts: Bool[np.ndarray, "rows tokens"] | None = None,
) -> Batch:
    """The mean of −log p over `n_targets` positions, which may be those of several batches.

    A mean of the means of unequal batches would be another loss. What does not count has the coefficient 0.
    """
    weights = np.full(ids.shape, 1.0 / n_targets, dtype)
    return Batch(ids, targets, CrossEntropy(weights if counts is None else weights * counts))
