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

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..checks import checked_classes, checked_position
from ..errors import HookError, InputError, brief
from ..hooks import Hook, checked_hook
from ..model import GPT2
from ..parameters import Config

# Arrays with one slice per head, (*batch, n_head, tokens, …).
PER_HEAD = ("q", "k", "v", "scores", "masked_scores", "weights", "mixed")

Position = int | np.integer | slice | Sequence[int] | np.ndarray | None  # one token, some, or all


def chain(*hooks: Hook | None) -> Hook:
    """One hook that calls these in order, each with what the one before it returned; None is skipped.

    Raises `HookError` at the first one that returns something that the model could not go on with.
    """
    checked = [checked_hook(hook) for hook in hooks if hook is not None]

    def chained(name: str, array: np.ndarray) -> np.ndarray:
        for hook in checked:
            array = hook(name, array)
        return array

    return chained


def smallest_model(n_layer: int) -> GPT2:
    """A model of one-number vectors and one token, which passes the same hooks as a real one."""
    return GPT2.random(Config(vocab_size=1, n_positions=1, n_embd=1, n_head=1, n_inner=1, n_layer=n_layer))


def hook_names(model: GPT2) -> list[str]:
    """The names with which this model calls a hook, in order."""
    names: list[str] = []

    def note(name: str, array: np.ndarray) -> np.ndarray:
        names.append(name)
        return array

    # Another block may own other parameters, so that only the model itself can tell.
    whole = smallest_model(model.config.n_layer) if model.block is None else model
    whole([0], hook=note)
    return names


@checked_classes
def intervene(
    model: GPT2,
    name: str,
    change: Callable[[np.ndarray], np.ndarray],
    *,
    head: int | None = None,
    position: Position = None,
) -> Hook:
    """A hook that replaces one array, or one head or position of it, by `change` of it.

    `name` is a hook's name, such as "h.0.attn.v". `change` gets a copy of the whole array, or of one head's
    (*batch, tokens, …), and returns one like it; where a `position` is given, a number, several of them or a
    slice, only those tokens take its result (in `scores` and `weights` they are the queries). Raises
    `InputError` if the model has no such name or head; the hook raises it for a position that is not there,
    and `HookError` if `change` returns no array.
    """
    check_target(model, name, head)
    if not callable(change):
        raise InputError(f"change: found {type(change).__name__}; expected a function of an array.")

    def hook(found: str, array: np.ndarray) -> np.ndarray:
        if found != name:
            return array
        result = array.copy()  # what the model handed out stays as it is
        whole = result if head is None else result[..., head, :, :]
        rows = chosen(position, whole.shape[-2])
        if not rows:
            raise InputError(f"position is {position}: none of {whole.shape[-2]} tokens; give at least one.")
        new = change(whole.copy())
        if not isinstance(new, np.ndarray):
            raise HookError(f"{name}: its change returned {type(new).__name__}; it must return an array.")
        whole[..., rows, :] = taken_from(new, position, whole[..., rows, :], name)
        return result

    return hook


@checked_classes
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
        raise InputError(
            f"by is {brief(by, repr)}; an ablation sets to 'zero' or to the 'mean' over the tokens."
        )

    def change(array: np.ndarray) -> np.ndarray:
        mean = array.mean(axis=-2, keepdims=True) if by == "mean" else np.zeros((), array.dtype)
        return np.broadcast_to(mean, array.shape)

    return intervene(model, name, change, head=head, position=position)


@checked_classes
def patch(
    model: GPT2,
    name: str,
    source: Mapping[str, ArrayLike],
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
    if not isinstance(source, Mapping):
        raise InputError(f"source: found {type(source).__name__}; patch with a trace of the other text.")
    if name not in source:
        raise InputError(f"source: it holds no {name!r}; patch with a trace of the other text.")
    donor = as_array(name, source[name])
    if head is not None:
        n_head = donor.shape[-3] if donor.ndim > 2 else 0
        if head >= n_head:
            heads = f"heads 0 to {n_head - 1}" if n_head else f"shape {donor.shape}, and no heads"
            raise InputError(f"head is {head}; {name} of the source has {heads}.")
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
    if head is not None:
        check_index("head", head, model.config.n_head)


def check_index(what: str, number: object, n: int, kind: str = "") -> None:
    """Raise `InputError` unless this is the number of one of the model's n layers, heads or tokens."""
    if not isinstance(number, Integral) or isinstance(number, bool) or not 0 <= int(number) < n:
        found = brief(number) if isinstance(number, Integral) else brief(number, repr)
        raise InputError(f"{what} is {found}; this model has {kind or what}s 0 to {n - 1}.")


def taken_from(new: np.ndarray, position: Position, old: np.ndarray, name: str) -> np.ndarray:
    """The new values of these tokens, which have to fit into the place of the old ones."""
    new = as_array(name, new)
    new = new[..., chosen(position, new.shape[-2]), :]
    if new.shape != old.shape:
        raise InputError(
            f"{name}: the new values have shape {new.shape}, the old ones {old.shape}; "
            "use texts of equally many tokens, or one position."
        )
    return new


def chosen(position: Position, n_tokens: int) -> list[int]:
    """These tokens' numbers, counted from 0. Raises `InputError` for one that is not there."""
    if position is None:
        return list(range(n_tokens))
    if isinstance(position, slice):
        try:
            return list(range(n_tokens))[position]
        except (TypeError, ValueError) as error:
            raise InputError(f"position is {position}, which cuts no list of tokens: {error}.") from None
    numbers: Any = position.tolist() if isinstance(position, np.ndarray) else position
    if not isinstance(numbers, Sequence) or isinstance(numbers, str):
        numbers = [numbers]
    if any(isinstance(number, bool) for number in numbers):
        raise InputError(f"position is {position}; give the numbers of tokens, or a slice.")
    plain = (int(number) if isinstance(number, Integral) else number for number in numbers)
    return [checked_position(number, n_tokens) for number in plain]


def as_array(name: str, values: object) -> np.ndarray:
    """The values as an array of tokens and numbers. Raises `InputError` for what is none."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(f"{name}: the new values are rows of different lengths; give an array.") from None
    if array.ndim < 2 or not np.can_cast(array.dtype, np.float32, "same_kind"):
        raise InputError(
            f"{name}: the new values are {array.dtype} of shape {array.shape}; give an array of numbers, "
            "(*batch, tokens, …)."
        )
    return array
