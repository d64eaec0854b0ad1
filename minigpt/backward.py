"""From the loss back to every parameter: `model.py` once more, function by function, in the reverse order.

    loss ─ logits ─ final layer norm ─ last block ─ … ─ block 0 ─ embedding

Every array X of the forward pass has a gradient dX of the same shape, ∂loss/∂X: by how much the loss would
grow if a number of X grew a little. Each function here belongs to one of `model.py`. It takes the gradient
of what that function returned and what a hook recorded inside it (the *tape*), and returns the gradient of
what that function was given. Gradients of parameters come in the parameters' own class: that of a `Linear`
is a `Linear`.

Four rules make all of it. What was copied on the way forward (the residual stream) is added up on the way
back. What was broadcast (a bias) is summed. What was looked up (an embedding) is added to the row that it
came from. And x W sends dy Wᵀ back to x, and xᵀ dy to W.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from . import activations
from .hooks import Hook, as_it_is
from .model import GPT2, Call, Hidden, Ids, Residual, Vectors, Weights, causal_mask, merge_heads, split_heads
from .parameters import MLP, Attention, Block, LayerNorm, Linear

Tape = dict[str, np.ndarray]  # what the forward pass computed, by the names that it gives to hooks
Table = Float[np.ndarray, "vocab n_embd"]
PerToken = Float[np.ndarray, "*batch tokens"]
# A parameter's name and gradient; or, with ids, the gradients of those of its rows that were looked up.
Piece = tuple[str, np.ndarray, Ids | None]

LOGIT_ROWS = 256  # rows of logits at a time: 51 MB in float32, where those of 4,096 tokens would be 823


# ---------------------------------------------------------------------------------------- loss and logits


def cross_entropy_backward(
    logits: Float[np.ndarray, "rows vocab"],
    targets: Int[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"],
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, "rows vocab"]]:
    """The targets' log-probabilities, and the gradient of Σ w (−log p), which takes the logits' memory.

    The gradient is w p for every token, and w (p − 1) for the target: whatever the model holds for likely
    is pushed down, the target is pushed up, and the pushes of a row add up to zero.
    """
    target = (np.arange(len(targets)), targets)
    logits -= logits.max(axis=-1, keepdims=True)
    logprobs = logits[target]
    np.exp(logits, out=logits)
    total = logits.sum(axis=-1)
    logits *= (weights / total)[:, None]
    logits[target] -= weights
    return logprobs - np.log(total), logits


def head_backward(
    x: Vectors, head: Table, targets: Ids, weights: PerToken, see: Hook | None = None
) -> tuple[PerToken, Vectors, Table]:
    """The targets' log-probabilities, and the gradients of the last vectors (`ln_f`) and of the head.

    Some rows at a time, because all logits would be by far the largest array of a training step; only who
    looks at their gradient gets it as a whole.
    """
    rows, row_targets, row_weights = x.reshape(-1, x.shape[-1]), targets.reshape(-1), weights.reshape(-1)
    logprobs, dx = np.empty_like(row_weights), np.empty_like(rows)
    d_head: Any = None
    step = len(rows) if see else LOGIT_ROWS
    for some in (slice(start, start + step) for start in range(0, len(rows), step)):
        logits = rows[some] @ head.T
        logprobs[some], d_logits = cross_entropy_backward(logits, row_targets[some], row_weights[some])
        if see:
            see("logits", d_logits.reshape(*x.shape[:-1], -1))
        np.matmul(d_logits, head, out=dx[some])
        product = d_logits.T @ rows[some]
        d_head = product if d_head is None else np.add(d_head, product, out=d_head)
    return logprobs.reshape(targets.shape), dx.reshape(x.shape), d_head


# --------------------------------------------------------------------------------- the parts of a block


def layer_norm_backward(
    dy: Vectors, x: Vectors, scale: Float[np.ndarray, "*batch tokens 1"], p: LayerNorm, see: Hook, name: str
) -> tuple[Vectors, LayerNorm]:
    """Mean and spread hang on x as well: what would only shift or stretch the vector is taken out of dx."""
    see(name, dy)
    n = (x - x.mean(axis=-1, keepdims=True)) / scale
    dn = dy * p.weight
    stretch = (dn * n).mean(axis=-1, keepdims=True)
    see(f"{name}.scale", stretch * (-x.shape[-1] / scale))
    dx = (dn - dn.mean(axis=-1, keepdims=True) - n * stretch) / scale
    return dx, LayerNorm(column_sums(dy * n), column_sums(dy))


def column_sums(dy: Float[np.ndarray, "*batch tokens n"]) -> Float[np.ndarray, " n"]:
    """A bias or a gain was broadcast to every token, so its gradient is a sum over all of them."""
    rows = dy.reshape(-1, dy.shape[-1])
    return np.ones(len(rows), dy.dtype) @ rows  # `rows.sum(axis=0)` says the same, is slower and rounds more


def linear_backward(
    dy: Float[np.ndarray, "*batch tokens n_out"], x: Float[np.ndarray, "*batch tokens n_in"], p: Linear
) -> tuple[Float[np.ndarray, "*batch tokens n_in"], Linear]:
    """x goes to the outputs through W, so dy comes back through Wᵀ; each weight joins one x and one dy."""
    x_rows, dy_rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    dx = (dy_rows @ p.weight.T).reshape(x.shape)
    return dx, Linear(x_rows.T @ dy_rows, column_sums(dy))


def gelu_new_backward(dy: Hidden, x: Hidden) -> Hidden:
    """The product rule on x/2 · (1 + t), with t = tanh(…), whose own derivative is 1 − t²."""
    kappa = math.sqrt(2.0 / math.pi)
    square = x * x
    t = np.tanh(kappa * x * (1.0 + 0.044715 * square))
    return dy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * kappa * (1.0 + 3 * 0.044715 * square))


def activation_backward(name: str) -> Callable[[Hidden, Hidden], Hidden]:
    """The way back through the function that a config names."""
    is_gelu_new = name in ("gelu_new", "gelu_pytorch_tanh")
    return gelu_new_backward if is_gelu_new else getattr(activations, f"{name}_backward")


def mlp_backward(d_out: Vectors, x: Vectors, tape: Tape, p: MLP, call: Call) -> tuple[Vectors, MLP]:
    """Narrow, bend and widen again, from the last to the first."""
    see = call.hook
    see("out", d_out)
    d_act, c_proj = linear_backward(d_out, tape["act"], p.c_proj)
    see("act", d_act)
    d_pre = activation_backward(call.config.activation_function)(d_act, tape["pre"])
    see("pre", d_pre)
    dx, c_fc = linear_backward(d_pre, x, p.c_fc)
    return dx, MLP(c_fc, c_proj)


def softmax_backward(
    d_weights: Weights, weights: Weights, pull: Float[np.ndarray, "*batch n_head tokens 1"]
) -> Weights:
    """A score gains by how much its own weight pays more than the mean (`pull`): a row's sum is zero."""
    return weights * (d_weights - pull)


def attention_backward(
    d_out: Vectors, x: Vectors, tape: Tape, p: Attention, layer: int, call: Call
) -> tuple[Vectors, Attention]:
    """A key or value hears from every query that looked at it; masked weights are 0, and pass nothing on."""
    see = call.hook
    see("out", d_out)
    n_head, scale = call.config.n_head, call.config.attention_scale(layer)
    q, k, v, weights, mixed = (tape[name] for name in ("q", "k", "v", "weights", "mixed"))
    d_merged, c_proj = linear_backward(d_out, merge_heads(mixed), p.c_proj)
    d_mixed = split_heads(d_merged, n_head)
    d_weights = d_mixed @ v.swapaxes(-1, -2)
    # The mean of d_weights under the weights is a product of what attention gave back: cheaper, and equal.
    pull = (d_mixed * mixed).sum(axis=-1, keepdims=True)
    d_scores = softmax_backward(d_weights, weights, pull)
    d_q = d_scores @ k * scale
    d_k = d_scores.swapaxes(-1, -2) @ q * scale
    d_v = weights.swapaxes(-1, -2) @ d_mixed
    seen = {"mixed": d_mixed, "weights": d_weights, "masked_scores": d_scores, "scores": d_scores}
    for name, gradient in (seen | {"v": d_v, "k": d_k, "q": d_q}).items():
        see(name, gradient)
    dx, c_attn = linear_backward(np.concatenate([merge_heads(d) for d in (d_q, d_k, d_v)], -1), x, p.c_attn)
    return dx, Attention(c_attn, c_proj)


def block_backward(dx: Residual, tape: Tape, p: Block, layer: int, call: Call) -> tuple[Residual, Block]:
    """What the next block wants of x, plus what MLP and attention want of their normalised copies of it."""
    see = call.hook
    see("resid_post", dx)
    d_ln_2, mlp = mlp_backward(dx, tape["ln_2"], part(tape, "mlp"), p.mlp, call.within("mlp"))
    change, ln_2 = layer_norm_backward(d_ln_2, tape["resid_mid"], tape["ln_2.scale"], p.ln_2, see, "ln_2")
    dx = dx + change
    see("resid_mid", dx)
    attn_tape, attn_call = part(tape, "attn"), call.within("attn")
    d_ln_1, attn = attention_backward(dx, tape["ln_1"], attn_tape, p.attn, layer, attn_call)
    change, ln_1 = layer_norm_backward(d_ln_1, tape["resid_pre"], tape["ln_1.scale"], p.ln_1, see, "ln_1")
    dx = dx + change
    see("resid_pre", dx)
    return dx, Block(ln_1, attn, ln_2, mlp)


def scatter_add(table: Table, ids: Ids, dx: Residual) -> None:
    """Add each token's gradient to its row of the table; a token that occurs often is added up first.

    `table[ids] += dx` would keep only one of a token's occurrences. Sorted by id, they lie side by side. What
    has no gradient is left out: even a 0 would change the order of a sum, and padding should change nothing.
    """
    gradients = dx.reshape(-1, dx.shape[-1])
    places = np.flatnonzero(gradients.any(axis=-1))
    flat = ids.reshape(-1)[places]
    order = np.argsort(flat, kind="stable")
    rows, starts = np.unique(flat[order], return_index=True)
    table[rows] += np.add.reduceat(gradients[places[order]], starts, axis=0)


# ------------------------------------------------------------------------------------------- the model


def part(tape: Tape, name: str) -> Tape:
    """One part's tape, by the names that the part itself uses."""
    return {key.removeprefix(f"{name}."): tape[key] for key in tape if key.startswith(f"{name}.")}


def backward(model: GPT2, ids: Ids, tape: Tape, d_ln_f: Vectors, see: Hook = as_it_is) -> Iterator[Piece]:
    """The gradients of all parameters but the head, from the last to the first, given that of `ln_f`.

    Each comes as soon as it is known, and takes what it needs off the tape, so that never all is in memory.
    """
    p, config = model.parameters, model.config
    x, scale = tape[f"h.{config.n_layer - 1}.resid_post"], tape["ln_f.scale"]
    dx, ln_f = layer_norm_backward(d_ln_f, x, scale, p.ln_f, see, "ln_f")
    yield from named("ln_f", ln_f)
    positions = np.arange(ids.shape[-1])
    call = Call(config, positions, causal_mask(positions), None, see)
    way_back = getattr(model.block, "backward", block_backward)
    for layer in reversed(range(config.n_layer)):
        own = {name: tape.pop(name) for name in list(tape) if name.startswith(f"h.{layer}.")}
        dx, h = way_back(dx, part(own, f"h.{layer}"), p.h[layer], layer, call.within(f"h.{layer}"))
        yield from named(f"h.{layer}", h)
    see("wte", dx)
    d_wpe = np.zeros_like(p.wpe)
    d_wpe[: ids.shape[-1]] = dx.reshape(-1, *dx.shape[-2:]).sum(axis=0)  # one row served the whole batch
    see("wpe", d_wpe[: ids.shape[-1]])
    yield "wpe.weight", d_wpe, None
    yield "wte.weight", dx, ids


def named(name: str, gradient: Any) -> Iterator[Piece]:
    """The arrays of a part by checkpoint name."""
    for field in fields(gradient):
        value, path = getattr(gradient, field.name), f"{name}.{field.name}"
        if isinstance(value, np.ndarray):
            yield path, value, None
        else:
            yield from named(path, value)
