"""A softmax over a sample of the vocabulary, which costs a fifth of the whole one and is right on average.

Of 35,000 tokens most are rare: all logits of a batch are four fifths of a step's work, and nearly all of them
belong to tokens that have next to no probability. So each step draws the tokens that it computes: a token of
inclusion probability π comes in with a logit that is larger by −log π, as if it stood for 1/π tokens of its
kind. The softmax's denominator is then right on average, and so, nearly, are the gradients.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from minigpt.backward import backward, head_backward
from minigpt.model import GPT2
from minigpt.tape import add, record

Ids = Int[np.ndarray, "batch tokens"]


@dataclass(frozen=True)
class Columns:
    """The tokens that a step computes logits of."""

    ids: Int[np.ndarray, " columns"]
    log_weights: Float[np.ndarray, " columns"]  # the logarithm of how many tokens each stands for


def inclusion_probabilities(counts: Int[np.ndarray, " vocab"], n_columns: int) -> Float[np.ndarray, " vocab"]:
    """How likely each token is to be drawn, if `n_columns` are drawn on average: frequent ones are certain.

    Rare tokens are drawn by the power 0.75 of their frequency, since in the few places where they are likely
    at all they are likelier than they are on the whole.
    """
    weights = np.maximum(counts, 1) ** 0.75
    low, high = 0.0, 1.0
    for _ in range(60):  # halve the interval that holds the factor
        factor = (low + high) / 2
        low, high = (factor, high) if np.minimum(1, factor * weights).sum() < n_columns else (low, factor)
    probabilities: Float[np.ndarray, " vocab"] = np.minimum(1, high * weights)
    return probabilities


def draw_columns(
    probabilities: Float[np.ndarray, " vocab"], targets: Ids, random: np.random.Generator
) -> Columns:
    """Draw the tokens of a step. The targets are always among them, each for itself alone."""
    is_target = np.zeros(len(probabilities), bool)
    is_target[targets] = True
    ids = np.flatnonzero(is_target | (random.random(len(probabilities)) < probabilities))
    log_weights = np.where(is_target[ids], 0.0, -np.log(probabilities[ids]))
    return Columns(ids, log_weights.astype(np.float32))


def all_columns(n_vocab: int) -> Columns:
    """The whole vocabulary: the softmax is exact."""
    return Columns(np.arange(n_vocab), np.zeros(n_vocab, np.float32))


def add_sampled_gradients(
    total: dict[str, np.ndarray], model: GPT2, ids: Ids, targets: Ids, columns: Columns, n_targets: int
) -> float:
    """Add every parameter's gradient of some windows to `total`; returns their part of the mean loss.

    A logit's correction becomes a part of the dot product: the vector gets a 1 more, the token's row its log
    weight. So the loss is `backward.head_backward`'s, and the way back begins at the gradient of `ln_f`.
    """
    wte, tape = model.parameters.wte, record(model, ids)
    x = tape["ln_f"]
    with_one = np.concatenate([x, np.ones((*x.shape[:-1], 1), x.dtype)], axis=-1)
    head = np.concatenate([wte[columns.ids], columns.log_weights[:, None]], axis=-1)
    column_of = np.empty(len(wte), np.int64)
    column_of[columns.ids] = np.arange(len(columns.ids))
    weights = np.full(ids.shape, 1.0 / n_targets, x.dtype)
    logprobs, d_x, d_head = head_backward(with_one, head, column_of[targets], weights)
    if "wte.weight" not in total:
        total["wte.weight"] = np.zeros_like(wte)
    total["wte.weight"][columns.ids] += d_head[:, :-1]
    add(total, backward(model, ids, tape, np.ascontiguousarray(d_x[..., :-1])))
    return -float((weights * logprobs).sum(dtype=np.float64))
