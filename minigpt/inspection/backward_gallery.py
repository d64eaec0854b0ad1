"""The classic mistakes of learning, one at a time: in the way back, in the optimizer, in what is averaged.

Every shape is right in all of them, and with most of them the loss still falls, only less far. What finds
them is a comparison: of a gradient with a finite difference, of an optimizer with another.

Each mistake is made openly: it is one part of a `Recipe` that differs from the right one.

    wrong = TRAINING_MISTAKES["no-tie-in-backward"].recipe
    losses = practise(model, batches, wrong)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..backward import (
    Tape,
    attention_backward,
    layer_norm_backward,
    mlp_backward,
    part,
    scatter_add,
)
from ..hooks import Hook
from ..model import GPT2, Call, Residual, Vectors, block
from ..parallel import Threads
from ..parameters import Attention, Block, Config, LayerNorm
from ..tape import gradients, record, target_logprobs
from ..training.flat import FlatModel, flatten
from ..training.optimizer import AdamW, clip_factor, gradient_norm

Gradients = dict[str, np.ndarray]
Example = tuple[np.ndarray, np.ndarray]  # ids, and the ids that follow them
Find = Callable[[GPT2, np.ndarray, np.ndarray, np.ndarray], tuple[float, Gradients]]


def adamw(flat: FlatModel) -> AdamW:
    """The right optimizer."""
    return AdamW(flat, 0.9, 0.95, 1e-8, 0.1)


def mean(targets: np.ndarray, n_targets: int, _n_texts: int) -> np.ndarray:
    """The right ones: every target of the step counts the same."""
    return np.full(targets.shape, 1.0 / n_targets)


@dataclass(frozen=True)
class Recipe:
    """How to learn. Each of the mistakes replaces one of these parts."""

    find: Find = gradients  # of a model, ids, targets and coefficients: the loss and the gradients
    optimizer: Callable[[FlatModel], AdamW] = adamw
    # The coefficients of some texts' positions, given how many targets all texts of the step have.
    coefficients: Callable[[np.ndarray, int, int], np.ndarray] = mean


@dataclass(frozen=True)
class TrainingMistake:
    """One thing done wrong while learning."""

    name: str
    does: str  # what is done instead of the right thing
    because: str  # why the right thing is right
    changes: str  # what of the recipe differs: "find", "optimizer" or "coefficients"
    recipe: Recipe


def step_gradients(model: GPT2, texts: Sequence[Example], recipe: Recipe) -> tuple[float, Gradients]:
    """The loss of a step, whose texts differ in length, and its gradients."""
    n_targets, loss, total = sum(targets.size for _, targets in texts), 0.0, Gradients()
    for ids, targets in texts:
        weights = recipe.coefficients(targets, n_targets, len(texts))
        value, found = recipe.find(model, ids, targets, weights)
        loss += value
        total = {name: total.get(name, 0.0) + gradient for name, gradient in found.items()}
    return loss, total


def mean_loss(model: GPT2, texts: Sequence[Example]) -> float:
    """The mean of −log p over all targets of the texts."""
    logprobs = [
        target_logprobs(record(model, ids)["ln_f"], model.parameters.lm_head, targets)
        for ids, targets in texts
    ]
    return -float(np.concatenate(logprobs).mean())


def practise(
    model: GPT2, steps: Sequence[Sequence[Example]], recipe: Recipe, rate: float = 3e-3
) -> list[float]:
    """The loss of each step of a short training: the mean over all targets, whatever the recipe averages."""
    flat, losses = flatten(model, model.parameters.wte.dtype), []
    optimizer = recipe.optimizer(flat)
    with Threads(1) as threads:
        for texts in steps:
            losses.append(mean_loss(flat.model, texts))
            _, found = step_gradients(flat.model, texts, recipe)
            optimizer.step(found, rate, clip_factor(gradient_norm(found, threads), 1.0), threads)
    return losses


# ---------------------------------------------------------------------------------------- a wrong way back


@dataclass(frozen=True)
class WrongBlock:
    """GPT-2's own block, whose way back takes wrong turns."""

    norm: Callable[..., tuple[Vectors, LayerNorm]] = layer_norm_backward
    attention: Callable[..., tuple[Vectors, Attention]] = attention_backward

    def __call__(self, x: Residual, p: Block, layer: int, call: Call) -> Residual:
        """As `model.block`."""
        return block(x, p, layer, call)

    def backward(self, dx: Residual, tape: Tape, p: Block, layer: int, call: Call) -> tuple[Residual, Block]:
        """As `backward.block_backward`, by the functions of this block."""
        d_ln_2, mlp = mlp_backward(dx, tape["ln_2"], part(tape, "mlp"), p.mlp, call.within("mlp"))
        change, ln_2 = self.norm(d_ln_2, tape["resid_mid"], tape["ln_2.scale"], p.ln_2, call.hook, "ln_2")
        dx = dx + change
        inside = part(tape, "attn"), p.attn, layer, call.within("attn")
        d_ln_1, attn = self.attention(dx, tape["ln_1"], *inside)
        change, ln_1 = self.norm(d_ln_1, tape["resid_pre"], tape["ln_1.scale"], p.ln_1, call.hook, "ln_1")
        return dx + change, Block(ln_1, attn, ln_2, mlp)


def through(wrong: WrongBlock) -> Find:
    """The gradients that come back through a wrong block."""
    return lambda model, *batch: gradients(replace(model, block=wrong), *batch)


def norm_without_means(
    dy: Vectors, x: Vectors, scale: np.ndarray, p: LayerNorm, see: Hook, name: str
) -> tuple[Vectors, LayerNorm]:
    """A layer norm whose mean and scale count as constants."""
    _, right = layer_norm_backward(dy, x, scale, p, see, name)
    return dy * p.weight / scale, right


def unscaled_attention(
    d_out: Vectors, x: Vectors, tape: Tape, p: Attention, layer: int, call: Call
) -> tuple[Vectors, Attention]:
    """Attention that was scaled on the way forward, and is not on the way back."""
    config = replace(call.config, scale_attn_weights=False)
    return attention_backward(d_out, x, tape, p, layer, replace(call, config=config))


def without_tie(model: GPT2, *batch: Any) -> tuple[float, Gradients]:
    """The tied table learns as the embedding alone, and forgets that it is the head as well."""
    p = model.parameters
    loss, found = gradients(replace(model, parameters=replace(p, lm_head=p.wte.copy())), *batch)
    del found["lm_head.weight"]
    return loss, found


def repeated_ids_lost(
    model: GPT2, ids: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[float, Gradients]:
    """`table[ids] += dx`, which writes a repeated id's row several times and keeps the last."""
    seen: Gradients = {}
    loss, found = gradients(model, ids, targets, weights, seen.__setitem__)
    right, wrong = np.zeros((2, *model.parameters.wte.shape), seen["wte"].dtype)
    scatter_add(right, ids, seen["wte"])
    wrong[ids] += seen["wte"]
    return loss, found | {"wte.weight": found["wte.weight"] - right + wrong}


# --------------------------------------------------------------------------------------- a wrong optimizer


class Uncorrected(AdamW):
    """AdamW that takes its means for those of a long run, from the first step on."""

    def step(self, *arguments: Any) -> None:
        """As `AdamW.step`, with 1 − βᵗ = 1."""
        self.steps = 1 << 30
        super().step(*arguments)


def uncorrected(flat: FlatModel) -> AdamW:
    """AdamW without the correction of its means."""
    return Uncorrected(flat, 0.9, 0.95, 1e-8, 0.1)


def everything_decays(flat: FlatModel) -> AdamW:
    """AdamW with weight decay on gains and biases too."""
    return adamw(replace(flat, n_matrix=flat.buffer.size))


# ---------------------------------------------------------------------------------------- wrong coefficients


def mean_of_means(targets: np.ndarray, _n_targets: int, n_texts: int) -> np.ndarray:
    """Every text counts the same, however long it is."""
    return np.full(targets.shape, 1.0 / targets.size / n_texts)


def without_end_of_text(targets: np.ndarray, n_targets: int, _n_texts: int) -> np.ndarray:
    """What has the id of the last target, which is <|endoftext|>, is taken for padding."""
    return (targets != targets[..., -1:]) / n_targets


# --------------------------------------------------------------------------------------------- the gallery

_ALL = (
    TrainingMistake(
        "no-means-in-layer-norm",
        "The way back through a layer norm divides by the scale, and takes mean and scale for constants.",
        "Both hang on every number of x. Their terms take out of the gradient what only shifts or "
        "stretches x, which no layer norm lets through; without them most of a push can go where nothing "
        "comes of it.",
        "find",
        Recipe(find=through(WrongBlock(norm=norm_without_means))),
    ),
    TrainingMistake(
        "no-scale-in-backward",
        "Query-key products are multiplied by 1/sqrt(head_dim) on the way forward, and not on the way back.",
        "Every factor of the way forward is one of the way back. Queries and keys get gradients that are "
        "too large by sqrt(head_dim). AdamW divides by their size again and hides it; clipping does not.",
        "find",
        Recipe(find=through(WrongBlock(attention=unscaled_attention))),
    ),
    TrainingMistake(
        "no-tie-in-backward",
        "The table is embedding and head at once, but only what comes back to it as the embedding is added.",
        "A parameter that is used twice learns from both uses. Most of what a table learns comes from the "
        "head, and a token that does not occur in a text learns there alone that it was not to be "
        "expected.",
        "find",
        Recipe(find=without_tie),
    ),
    TrainingMistake(
        "lost-repeated-ids",
        "The embedding's gradients are added by `table[ids] += dx`.",
        "For an id that occurs twice NumPy computes both sums from the old row and keeps the last, so "
        "that the commonest tokens lose most of what comes back to them.",
        "find",
        Recipe(find=repeated_ids_lost),
    ),
    TrainingMistake(
        "no-bias-correction",
        "AdamW divides by the root of its second mean as it is, from the first step on.",
        "Both means begin at 0 and are too small at first, each in its own way. The first step is 0.45 of "
        "the learning rate with the betas 0.9 and 0.95, and 3.2 times the learning rate with 0.9 and "
        "0.999.",
        "optimizer",
        Recipe(optimizer=uncorrected),
    ),
    TrainingMistake(
        "decayed-gains",
        "Weight decay shrinks every parameter, the gains and biases of layer norms included.",
        "A smaller matrix is a simpler one. A gain that shrinks silences all that stands behind it, "
        "whatever has been learnt there; a short training hardly shows it.",
        "optimizer",
        Recipe(optimizer=everything_decays),
    ),
    TrainingMistake(
        "mean-of-means",
        "Each text's loss is averaged by itself, and then the texts' means are.",
        "A token of a short text then counts more than one of a long text. Divide by the number of "
        "targets of all texts together, also where their gradients are added one after the other.",
        "coefficients",
        Recipe(coefficients=mean_of_means),
    ),
    TrainingMistake(
        "masked-end-of-text",
        "Positions whose target is the end of text are left out, because padding has the same id.",
        "A model that is never asked for the end never learns to stop. What padding is, its position "
        "tells; the id does not.",
        "coefficients",
        Recipe(coefficients=without_end_of_text),
    ),
)

TRAINING_MISTAKES: dict[str, TrainingMistake] = {mistake.name: mistake for mistake in _ALL}

# ---------------------------------------------------------------------------------------- what they do

WORDS = ("sheep", "goats", "hills", "clouds", "rivers", "stones", "and", "over")
LETTERS = "\0 " + "".join(sorted(set("".join(WORDS))))  # the first ends a text


@dataclass(frozen=True)
class Symptom:
    """What a mistake does to a small model's first gradient, and to its learning."""

    differences: dict[str, float]  # of each gradient, as a share of the right one's length
    right: list[float]  # losses, step by step
    wrong: list[float]


def symptom(mistake: TrainingMistake, n_steps: int) -> Symptom:
    """Let a small model learn to write a few words, right and wrong."""
    config = Config(vocab_size=len(LETTERS), n_positions=128, n_embd=32, n_layer=2, n_head=2)
    model, steps = GPT2.random(config), [short_and_long_text(step) for step in range(n_steps)]
    (_, right), (_, wrong) = (
        step_gradients(model, steps[0], recipe) for recipe in (Recipe(), mistake.recipe)
    )
    differences = {
        name: float(np.linalg.norm(wrong[name] - right[name]) / np.linalg.norm(right[name])) for name in right
    }
    return Symptom(differences, practise(model, steps, Recipe()), practise(model, steps, mistake.recipe))


def short_and_long_text(seed: int) -> list[Example]:
    """Three words and twelve words, as letters, each with its end."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, n_words)) for n_words in (3, 12)]
    rows = [np.array([LETTERS.index(letter) for letter in f"\0{text}\0"]) for text in texts]
    return [(row[:-1], row[1:]) for row in rows]
