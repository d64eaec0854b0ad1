"""Changing one thing in a forward pass to see what depends on it.

An intervention is a hook, so it lives exactly as long as the call that it is passed to: the model keeps
nothing, and the next call without it gives the old logits.

    silent = ablate(model, "h.0.attn.v", head=8)
    logits = model(ids, hook=silent)

    donor = trace(model, other_ids, names="h.5.resid_post")
    logits = model(ids, hook=chain(silent, patch(model, "h.5.resid_post", donor)))

References: Olsson et al. 2022, "In-context Learning and Induction Heads" (ablation); Vig et al. 2020,
"Investigating Gender Bias in Language Models Using Causal Mediation Analysis" (patching).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..checks import checked_position
from ..errors import InputError
from ..hooks import Hook
from ..model import GPT2, MLP, Attention, Block, Config, LayerNorm, Linear, Parameters

# Arrays with one slice per head, (*batch, n_head, tokens, …).
PER_HEAD = ("q", "k", "v", "scores", "masked_scores", "weights", "mixed")

Position = int | slice | None  # one token, some, or all


def chain(*hooks: Hook | None) -> Hook:
    """One hook that calls these in order, each with what the one before it returned; None is skipped."""

    def chained(name: str, array: np.ndarray) -> np.ndarray:
        for hook in hooks:
            if hook is not None:
                array = hook(name, array)
        return array

    return chained


def smallest_model(n_layer: int, **changes: Any) -> GPT2:
    """A model of one-number vectors and one token, which passes the same hooks as a real one."""
    config = Config(vocab_size=1, n_positions=1, n_embd=1, n_head=1, n_inner=1, n_layer=n_layer)
    one = np.ones(1, np.float32)
    table, norm = one[None], LayerNorm(one, one)
    c_attn, other = Linear(np.ones((1, 3), np.float32), np.ones(3, np.float32)), Linear(table, one)
    block = Block(norm, Attention(c_attn, other), norm, MLP(other, other))
    return GPT2(config, Parameters(table, table, (block,) * n_layer, norm, table), **changes)


def hook_names(model: GPT2) -> list[str]:
    """The names with which this model calls a hook, in order."""
    names: list[str] = []

    def note(name: str, array: np.ndarray) -> np.ndarray:
        names.append(name)
        return array

    smallest_model(model.config.n_layer, block=model.block)([0], hook=note)
    return names


def intervene(
    model: GPT2,
    name: str,
    change: Callable[[np.ndarray], np.ndarray],
    *,
    head: int | None = None,
    position: Position = None,
) -> Hook:
    """A hook that replaces one array, or one head or position of it, by `change` of it.

    `name` is a hook's name, such as "h.0.attn.v". `change` gets the whole array, or one head's
    (*batch, tokens, …); where a `position` is given, only those tokens take its result (in `scores` and
    `weights` they are the queries). Raises `InputError` if the model has no such name, or head.
    """
    check_target(model, name, head)

    def hook(found: str, array: np.ndarray) -> np.ndarray:
        if found != name:
            return array
        result = array.copy()  # what the model handed out stays as it is
        whole = result if head is None else result[..., head, :, :]
        new, old = _tokens(change(whole), position), _tokens(whole, position)
        if new.shape != old.shape:
            raise InputError(
                f"{name}: the new values have shape {new.shape}, the old ones {old.shape}; "
                "use texts of equally many tokens, or one position."
            )
        old[...] = new
        return result

    return hook


def ablate(
    model: GPT2,
    name: str,
    *,
    head: int | None = None,
    position: Position = None,
    by: str = "zero",
) -> Hook:
    """A hook that takes out what an array contributes: sets it to "zero" or to its "mean" over the tokens.

    A head is silenced by its values, and its effect is what changes then:

        change = model(ids, hook=ablate(model, "h.0.attn.v", head=8)) - model(ids)
    """
    if by not in ("zero", "mean"):
        raise InputError(f"by is {by!r}; an ablation sets to 'zero' or to the 'mean' over the tokens.")

    def change(array: np.ndarray) -> np.ndarray:
        mean = array.mean(axis=-2, keepdims=True) if by == "mean" else np.zeros((), array.dtype)
        return np.broadcast_to(mean, array.shape)

    return intervene(model, name, change, head=head, position=position)


def patch(
    model: GPT2,
    name: str,
    source: Mapping[str, np.ndarray],
    *,
    head: int | None = None,
    position: Position = None,
) -> Hook:
    """A hook that puts an array of another forward pass in the place of this one's.

    `source` is that pass's trace, or its arrays by name. Without a `position` both texts must have equally
    many tokens; a negative position counts from the end of each. Raises `InputError` for a name or a head
    that the model or the source does not have.

        hook = patch(model, "h.5.resid_post", trace(model, other_ids), position=-1)
        logits = model(ids, hook=hook)
    """
    check_target(model, name, head)
    if name not in source:
        raise InputError(f"source: it holds no {name!r}; patch with a trace of the other text.")
    donor = source[name]
    if head is not None:
        if head >= donor.shape[-3]:
            raise InputError(f"head is {head}; {name} of the source has heads 0 to {donor.shape[-3] - 1}.")
        donor = donor[..., head, :, :]
    return intervene(model, name, lambda _array: donor, head=head, position=position)


def check_target(model: GPT2, name: str, head: int | None) -> None:
    """Raise `InputError` if the model has no array of this name, or the array no such head.

    A hook for a name that never comes would change nothing, and say nothing.
    """
    if name not in hook_names(model):
        last = model.config.n_layer - 1
        raise InputError(
            f"{name!r} is no hook of this model; hooks are like 'wte', 'h.0.attn.v', 'h.{last}.resid_post'."
        )
    if head is not None and name.rpartition(".")[2] not in PER_HEAD:
        raise InputError(f"head: {name} has no heads; h.N.attn.{{{','.join(PER_HEAD)}}} have.")
    if head is not None and not 0 <= head < model.config.n_head:
        raise InputError(f"head is {head}; this model has heads 0 to {model.config.n_head - 1}.")


def _tokens(array: np.ndarray, position: Position) -> np.ndarray:
    """The rows of these tokens, as a view; a single token keeps its axis."""
    if position is None:
        return array
    if isinstance(position, int):
        position = checked_position(position, array.shape[-2])
        position = slice(position, position + 1)
    return array[..., position, :]
