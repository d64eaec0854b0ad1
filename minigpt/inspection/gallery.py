"""The classic mistakes, one at a time: what each does to the logits shows what the right line is for.

Every shape is right in all of them, no error is raised, and several still write fluent text. That is why
a comparison with the reference is needed, number by number.

Each mistake is made openly, without touching `model.py`: a changed copy of the config or of the
parameters, a hook, or another function in the place of `GPT2.block`. Nothing is patched.

    wrong, hook = MISTAKES["erf-gelu"].apply(model)
    logits = wrong(ids, hook=hook)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..hooks import Hook
from ..model import GPT2, Call, Residual, attention, block, layer_norm, merge_heads, mlp
from ..parameters import Block, Linear


@dataclass(frozen=True)
class Mistake:
    """One thing done wrong. `apply(model)` gives the wrong model and the hook that it needs, if any."""

    name: str
    does: str  # what is done instead of the right thing
    because: str  # why the right thing is right
    changes: str  # what differs from the right model: "config", "parameters", "hook" or "block"
    apply: Callable[[GPT2], tuple[GPT2, Hook | None]]


def with_config(model: GPT2, **changes: Any) -> tuple[GPT2, Hook | None]:
    """The same parameters under another config."""
    return replace(model, config=replace(model.config, **changes)), None


def with_block(model: GPT2, wrong: Callable[..., np.ndarray]) -> tuple[GPT2, Hook | None]:
    """The same model built from another block."""
    return GPT2(model.config, model.parameters, wrong), None


def with_parameters(model: GPT2, **changes: Any) -> tuple[GPT2, Hook | None]:
    """The same model with some of its parameters replaced."""
    return replace(model, parameters=replace(model.parameters, **changes)), None


# ---------------------------------------------------------------------------------------- wrong parameters


def zero_positions(model: GPT2) -> tuple[GPT2, Hook | None]:
    """Position embeddings of zero."""
    return with_parameters(model, wpe=np.zeros_like(model.parameters.wpe))


def shifted_positions(model: GPT2) -> tuple[GPT2, Hook | None]:
    """Position embeddings read from row 1 on; the last row comes round to the end."""
    return with_parameters(model, wpe=np.roll(model.parameters.wpe, -1, axis=0))


def random_head(model: GPT2) -> tuple[GPT2, Hook | None]:
    """A head of its own, at GPT-2's initial values (normal, standard deviation 0.02)."""
    wte = model.parameters.wte
    fresh = np.random.default_rng(0).normal(0.0, 0.02, wte.shape).astype(wte.dtype)
    untied, _ = with_config(model, tie_word_embeddings=False)
    return with_parameters(untied, lm_head=fresh)


def transposed_projections(model: GPT2) -> tuple[GPT2, Hook | None]:
    """`attn.c_proj.weight` the other way round, in every block."""

    def transposed(h: Block) -> Block:
        c_proj = Linear(np.ascontiguousarray(h.attn.c_proj.weight.T), h.attn.c_proj.bias)
        return replace(h, attn=replace(h.attn, c_proj=c_proj))

    return with_parameters(model, h=tuple(transposed(h) for h in model.parameters.h))


# --------------------------------------------------------------------------------------------- wrong hooks


def changing(suffixes: tuple[str, ...], change: Callable[[np.ndarray], np.ndarray]) -> Hook:
    """A hook that changes every array whose name ends like one of these."""
    return lambda name, array: change(array) if name.endswith(suffixes) else array


def scaled_by_n_embd(model: GPT2) -> tuple[GPT2, Hook | None]:
    """Scores divided by the root of n_embd instead of head_dim."""
    factor = (model.config.head_dim / model.config.n_embd) ** 0.5
    return model, changing((".scores",), lambda scores: scores * factor)


def untransposed_heads(model: GPT2) -> tuple[GPT2, Hook | None]:
    """Heads cut by a reshape alone, so that a "head" holds pieces of different tokens."""

    def reshape_only(heads: np.ndarray) -> np.ndarray:
        return merge_heads(heads).reshape(heads.shape)

    return model, changing((".attn.q", ".attn.k", ".attn.v"), reshape_only)


def with_scale(model: GPT2, wrong: Callable[[np.ndarray, float], np.ndarray]) -> tuple[GPT2, Hook | None]:
    """Every layer norm divides by `wrong(variance, epsilon)`."""
    epsilon = model.config.layer_norm_epsilon

    def rescale(scale: np.ndarray) -> np.ndarray:
        return wrong(np.maximum(np.square(scale) - epsilon, 0.0), epsilon)

    return model, changing((".scale",), rescale)


def unbiased(model: GPT2) -> tuple[GPT2, Hook | None]:
    """The variance divided by n_embd - 1."""
    bessel = model.config.n_embd / max(model.config.n_embd - 1, 1)
    return with_scale(model, lambda variance, epsilon: np.sqrt(variance * bessel + epsilon))


# -------------------------------------------------------------------------------------------- wrong blocks


def unmasked(x: Residual, p: Block, layer: int, call: Call) -> Residual:
    """A block in which every token sees every token."""
    return block(x, p, layer, replace(call, visible=np.ones_like(call.visible)))


def masked_too_late(x: Residual, p: Block, layer: int, call: Call) -> Residual:
    """A block that lets softmax see every token and sets the forbidden weights to zero afterwards."""

    def mask_weights(name: str, array: np.ndarray) -> np.ndarray:
        return call.hook(name, np.where(call.visible, array, 0.0) if name == "attn.weights" else array)

    return block(x, p, layer, replace(call, visible=np.ones_like(call.visible), hook=mask_weights))


def post_norm(x: Residual, p: Block, layer: int, call: Call) -> Residual:
    """The block of the first transformer (and of GPT-1): each layer norm after its addition."""
    hook, epsilon = call.hook, call.config.layer_norm_epsilon
    x = hook("resid_pre", x)
    x = x + attention(x, p.attn, layer, call.within("attn"))
    x = hook("resid_mid", layer_norm(x, p.ln_1, epsilon, hook, "ln_1"))
    x = x + mlp(x, p.mlp, call.within("mlp"))
    return hook("resid_post", layer_norm(x, p.ln_2, epsilon, hook, "ln_2"))


def no_residual(x: Residual, p: Block, layer: int, call: Call) -> Residual:
    """A block that passes on only the answers, and forgets what they were added to."""
    hook, epsilon = call.hook, call.config.layer_norm_epsilon
    x = hook("resid_pre", x)
    ln_1 = layer_norm(x, p.ln_1, epsilon, hook, "ln_1")
    x = hook("resid_mid", attention(ln_1, p.attn, layer, call.within("attn")))
    ln_2 = layer_norm(x, p.ln_2, epsilon, hook, "ln_2")
    return hook("resid_post", mlp(ln_2, p.mlp, call.within("mlp")))


# -------------------------------------------------------------------------------------------- the gallery

_ALL = (
    Mistake(
        "erf-gelu",
        "The MLPs use the exact GELU, x times the normal distribution function.",
        "GPT-2 was trained with the tanh formula; the two differ by less than 0.0005 anywhere, so the text "
        "stays fluent and only a comparison of numbers finds it.",
        "config",
        partial(with_config, activation_function="gelu"),
    ),
    Mistake(
        "no-scale",
        "Query-key products go into softmax without the factor 1/sqrt(head_dim).",
        "A sum of head_dim products spreads like its square root; without the factor softmax saturates, and "
        "each head looks at hardly more than one token.",
        "config",
        partial(with_config, scale_attn_weights=False),
    ),
    Mistake(
        "scale-by-n-embd",
        "Query-key products are divided by sqrt(n_embd) instead of sqrt(head_dim).",
        "The products are taken inside a head, so head_dim numbers are added up; a larger divisor flattens "
        "the attention towards a plain mean.",
        "hook",
        scaled_by_n_embd,
    ),
    Mistake(
        "no-mask",
        "Every token attends to every token, also to those that come after it.",
        "GPT-2 predicts each token from those before it and never saw the future in training; with the mask "
        "gone, earlier tokens carry information that they cannot have.",
        "block",
        partial(with_block, wrong=unmasked),
    ),
    Mistake(
        "mask-after-softmax",
        "Attention weights of later tokens are set to zero after softmax instead of before.",
        "The rest no longer sums to one: early tokens, which had most of the future taken away, get a mean "
        "that is too small. The last token has no future: only what it reads from the others is wrong.",
        "block",
        partial(with_block, wrong=masked_too_late),
    ),
    Mistake(
        "post-norm",
        "Layer norm comes after each addition, as in the transformer of 2017.",
        "GPT-2 moved it in front of attention and MLP (section 2.3 of the paper), so that the residual "
        "stream runs through all blocks untouched; the weights fit no other order.",
        "block",
        partial(with_block, wrong=post_norm),
    ),
    Mistake(
        "no-residual",
        "The answers of attention and MLP replace the residual stream instead of being added to it.",
        "Each block contributes a correction to what is known so far; without the addition the token itself "
        "is forgotten in the first block.",
        "block",
        partial(with_block, wrong=no_residual),
    ),
    Mistake(
        "no-position",
        "The position embedding is left out.",
        "Attention compares contents and knows no order: apart from the mask, the prompt becomes a bag of "
        "words.",
        "parameters",
        zero_positions,
    ),
    Mistake(
        "positions-from-one",
        "Positions are counted from 1 instead of 0.",
        "The first position's vector is unlike all others, because every context of the training began "
        "there; without it, every token stands somewhere it never stood.",
        "parameters",
        shifted_positions,
    ),
    Mistake(
        "untied-head",
        "The LM head has weights of its own, which nobody trained.",
        "The checkpoint holds no lm_head.weight, because the head is the token embedding wte; a loader that "
        "misses it starts from random numbers, and so the likeliest token is random.",
        "parameters",
        random_head,
    ),
    Mistake(
        "transposed-weights",
        "attn.c_proj.weight is read transposed.",
        "The checkpoint stores (in, out), torch's Linear (out, in); this matrix is square, so no shape check "
        "can tell, while the heads' answers land in the wrong directions.",
        "parameters",
        transposed_projections,
    ),
    Mistake(
        "heads-without-transpose",
        "(tokens, n_embd) is reshaped to (n_head, tokens, head_dim) without swapping axes.",
        "The shape is right but the contents are not: a head then holds pieces of several tokens. Split the "
        "last axis first, then swap.",
        "hook",
        untransposed_heads,
    ),
    Mistake(
        "epsilon-outside-root",
        "Layer norm divides by sqrt(variance) + epsilon instead of sqrt(variance + epsilon).",
        "epsilon belongs under the root, as in the reference; where the variance is small, as in the "
        "embeddings, the two differ in the fourth digit.",
        "hook",
        partial(with_scale, wrong=lambda variance, epsilon: np.sqrt(variance) + epsilon),
    ),
    Mistake(
        "unbiased-variance",
        "Layer norm divides the sum of squares by n_embd - 1 (the default of torch.var) instead of n_embd.",
        "It describes these n_embd numbers, not a sample from more; the factor is 1 + 1/(2 n_embd), small, "
        "and it is in every layer norm.",
        "hook",
        unbiased,
    ),
)

MISTAKES: dict[str, Mistake] = {mistake.name: mistake for mistake in _ALL}
