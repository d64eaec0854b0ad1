"""The logit lens: what each block would predict if it were the last.

The residual stream has one width from the embedding to the end, so the final layer norm and the LM head
can read it anywhere. Early on they see the token itself, later more and more of the answer.

Reference: nostalgebraist 2020, "interpreting GPT: the logit lens".
"""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from ..checks import checked_classes, checked_ids
from ..errors import InputError, brief
from ..hooks import Hook, as_it_is
from ..model import GPT2, Residual, layer_norm
from ..sampling import probabilities
from ..scoring import largest
from .intervention import Position, chosen
from .notebook import html_table
from .tracing import Trace, trace


@checked_classes
@np.errstate(all="ignore")  # as in the model itself
def unembed(model: GPT2, x: Residual) -> Float[np.ndarray, "*batch tokens vocab"]:
    """The logits that the end of the model gives for a residual stream from anywhere in it.

    The layer norm takes mean and variance from `x` itself, as it would if `x` were the last.
    """
    p = model.parameters
    if x.shape[-1] != model.config.n_embd:
        raise InputError(f"x: found shape {x.shape}; expected vectors of {model.config.n_embd} numbers.")
    return layer_norm(x, p.ln_f, model.config.layer_norm_epsilon, as_it_is, "ln_f") @ p.lm_head.T


@dataclass(frozen=True)
class Lens:
    """The likeliest tokens at every depth: before block 0, and after every block."""

    names: tuple[str, ...]  # what was read: "h.0.resid_pre", "h.0.resid_post", "h.1.resid_post", …
    ids: Int[np.ndarray, "depth tokens top"]  # best first
    logits: Float[np.ndarray, "depth tokens top"]
    probabilities: Float[np.ndarray, "depth tokens top"]

    def __repr__(self) -> str:
        depths, tokens, top = self.ids.shape
        return (
            f"Lens({depths} depths, {tokens} tokens, the likeliest {top} of each: ids, logits, probabilities)"
        )

    def _repr_html_(self) -> str:
        """For every depth the likeliest token's id and probability after each token."""
        headers = ["depth", *(f"after token {number}" for number in range(self.ids.shape[1]))]
        best = zip(self.names, self.ids[..., 0], self.probabilities[..., 0], strict=True)
        rows = [
            [name, *(f"{i} ({100 * p:.0f}%)" for i, p in zip(ids, chances, strict=True))]
            for name, ids, chances in best
        ]
        return html_table(headers, rows)


def residual_names(model: GPT2) -> list[str]:
    """The hooks of the residual stream, from the embedding to the last block."""
    return ["h.0.resid_pre", *(f"h.{layer}.resid_post" for layer in range(model.config.n_layer))]


@checked_classes
def logit_lens(
    model: GPT2,
    ids: ArrayLike,
    *,
    top: int = 1,
    positions: Position = None,
    hook: Hook | None = None,
) -> Lens:
    """Read the residual stream at every depth; keep the `top` likeliest tokens of each position.

    `positions` asks for some, in this order; negative ones count from the end. The last depth is the
    model's own output, with whatever a `hook` did on the way to it; the depths before it are read with the
    final layer norm and the LM head as they are. Raises `InputError` for a batch, for a position that is not
    there, and unless `top` is 1 to the size of the vocabulary.
    """
    check_top(top, model.config.vocab_size)
    (passed, rows), names = single(model, ids, hook, positions), residual_names(model)
    shape = (len(names), len(rows), top)
    best, logits, chances = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
    for depth, name in enumerate(names):
        for column, row in enumerate(depth_logits(model, passed, name, rows)):
            chance = probabilities(row)  # which refuses what is not finite
            best[depth, column] = tokens = largest(row, top)
            logits[depth, column], chances[depth, column] = row[tokens], chance[tokens]
    return Lens(tuple(names), best, logits, chances)


@checked_classes
def lens_logits(
    model: GPT2, ids: ArrayLike, *, position: int = -1, hook: Hook | None = None
) -> Float[np.ndarray, "depth vocab"]:
    """All logits that each depth gives at one position: before block 0, and after every block.

    The last are the model's own. Raises `InputError` for a batch, and for a position that is not there.
    """
    passed, rows = single(model, ids, hook, [position])
    return np.stack([depth_logits(model, passed, name, rows)[0] for name in residual_names(model)])


def depth_logits(
    model: GPT2, passed: Trace, name: str, rows: list[int]
) -> Float[np.ndarray, "positions vocab"]:
    """The logits at these positions of one depth: at the last one, those that the model itself computed."""
    if name == residual_names(model)[-1]:
        return passed.logits[[row - passed.ids.size for row in rows]]  # of which the first may be left out
    return unembed(model, passed[name][rows])


def single(model: GPT2, ids: ArrayLike, hook: Hook | None, positions: Position) -> tuple[Trace, list[int]]:
    """The trace of one text's residual stream, and the positions counted from 0."""
    array = checked_ids(ids, model.config)
    if array.ndim != 1:
        raise InputError(f"ids: found shape {array.shape}; give the ids of one text, (tokens,).")
    rows = chosen(positions, array.size)
    # A hook gets the logits of all tokens, as it would in model(ids, hook=hook).
    keep = 0 if hook is not None else array.size - min(rows, default=array.size - 1)
    names = ("h.0.resid_pre", "h.*.resid_post", "logits")
    return trace(model, array, names=names, hook=hook, logits_to_keep=keep), rows


def check_top(top: object, vocab_size: int) -> None:
    """Raise `InputError` unless there are so many tokens, and at least one."""
    if not isinstance(top, Integral) or isinstance(top, bool) or not 1 <= int(top) <= vocab_size:
        raise InputError(f"top is {brief(top)}; it must be 1 to {vocab_size}.")
