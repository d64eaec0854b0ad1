"""What a model may be given: a config that makes sense, and ids that exist."""

from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from .activations import ACTIVATIONS
from .errors import ConfigError, ContextLengthError, InputError, brief

LARGEST_BATCH = 1_000_000  # texts at once, for which no memory is large enough


def check_config(config: Any) -> None:
    """Raise `ConfigError` if the numbers of a `Config` do not describe a model."""
    for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "mlp_width"):
        if getattr(config, name) < 1:
            raise ConfigError(f"config: {name} is {getattr(config, name)}; it must be at least 1.")
    if config.n_embd % config.n_head:
        raise ConfigError(
            f"config: n_embd is {config.n_embd}, which n_head = {config.n_head} does not divide; "
            "every head needs an equal share of the vector."
        )
    if not (np.isfinite(config.layer_norm_epsilon) and config.layer_norm_epsilon > 0):
        raise ConfigError(f"config: layer_norm_epsilon is {config.layer_norm_epsilon}; it must be above 0.")
    if config.activation_function not in ACTIVATIONS:
        raise ConfigError(
            f"config: activation_function is {config.activation_function!r}; "
            f"known are {', '.join(ACTIVATIONS)}."
        )


def checked_ids(
    ids: ArrayLike, config: Any, cache: Any = None, dtype: Any = None, logits_to_keep: int = 0
) -> Int[np.ndarray, "*batch tokens"]:
    """`ids` as an integer array, if a model with this config and `dtype` can continue `cache` with them.

    Raises `InputError` for anything but integers of the vocabulary (NumPy would take a negative id from
    the table's end), and `ContextLengthError` for more tokens than the model has positions.
    """
    array = _id_array("ids", ids, config)
    if array.size == 0:
        raise InputError("ids: no tokens; to start from nothing, give the tokenizer's end_of_text.")
    past = 0 if cache is None else _checked_length(cache, array.shape[:-1], config, dtype)
    if past + array.shape[-1] > config.n_positions:
        before = f"{past} in the cache and {array.shape[-1]} new" if past else f"{array.shape[-1]}"
        raise ContextLengthError(
            f"ids: {before} tokens do not fit into the context of {config.n_positions}; shorten the text."
        )
    if not isinstance(logits_to_keep, int | np.signedinteger) or logits_to_keep < 0:
        raise InputError(
            f"logits_to_keep is {brief(logits_to_keep)}; it must be an integer: 0 (all) or above."
        )
    return array


def checked_text(name: str, ids: ArrayLike, config: Any) -> Int[np.ndarray, " tokens"]:
    """The ids of one text, of any length or empty, as an integer array; `name` is what an error calls it."""
    array = _id_array(name, ids, config)
    if array.ndim != 1:
        raise InputError(f"{name}: found shape {array.shape}; expected one text, which is a flat row of ids.")
    return array.astype(np.int64, copy=False)


def _id_array(name: str, ids: ArrayLike, config: Any) -> np.ndarray:
    """`ids` as an array, if it is empty or holds ids of the vocabulary."""
    try:
        array = np.asarray(ids)
    except ValueError:
        raise InputError(
            f"{name}: the rows have different lengths; pad them on the right, or give one row at a time."
        ) from None
    if array.ndim == 0:
        raise InputError(
            f"{name}: found {type(ids).__name__}; expected a row of ids (Tokenizer.encode gives it)."
        )
    if array.size == 0:
        return array  # of floats, where it was an empty list
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{name}: found {array.dtype} values; token ids are integers.")
    if array.min() < 0 or array.max() >= config.vocab_size:
        culprit = array.min() if array.min() < 0 else array.max()
        raise InputError(
            f"{name}: {culprit} is not a token id; this model's are 0 to {config.vocab_size - 1}."
        )
    return array


def _checked_length(cache: Any, batch: tuple[int, ...], config: Any, dtype: Any) -> int:
    """The tokens in a cache's fullest row, if `new_cache` of this model made it, for this batch."""
    if not hasattr(cache, "lengths"):
        raise InputError(f"cache: found {type(cache).__name__}; make one with the model's new_cache.")
    if batch != cache.lengths.shape:
        raise InputError(f"ids: batch shape {batch} does not match the cache's {cache.lengths.shape}.")
    shape = (config.n_layer, *batch, config.n_head, config.n_positions, config.head_dim)
    if (cache.keys.shape, cache.keys.dtype) != (shape, dtype):
        found, expected = (f"{d} {s}" for d, s in ((cache.keys.dtype, cache.keys.shape), (dtype, shape)))
        raise InputError(f"cache: another model's, {found} and not {expected}; make one with new_cache.")
    return int(cache.lengths.max())


def batch_shape(batch: int | None) -> tuple[int, ...]:
    """The leading dimensions of a cache: those of so many texts, or for None those of one without a batch."""
    if batch is None:
        return ()
    if not isinstance(batch, Integral) or not 0 <= batch <= LARGEST_BATCH:
        raise InputError(
            f"batch is {brief(batch)}; it must be an integer, 0 to {LARGEST_BATCH:,}, or None for one text."
        )
    return (int(batch),)


def checked_dtype(dtype: Any) -> np.dtype[Any]:
    """The precision in which a model can compute."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found not in (np.float32, np.float64):
        raise InputError(f"dtype: found {dtype!r}; a model computes in float32 or float64.")
    return found


def checked_length(length: int) -> int:
    """How many tokens of a cache stay."""
    if not isinstance(length, Integral) or length < 0:
        raise InputError(f"length is {brief(length)}; it must be an integer, 0 or above.")
    return int(length)


def checked_n_positions(n_positions: int, config: Any) -> int:
    """A context that is no longer than the model's own."""
    if not isinstance(n_positions, Integral) or not 1 <= n_positions <= config.n_positions:
        raise InputError(
            f"n_positions is {brief(n_positions)}; it must be an integer from 1 to {config.n_positions}."
        )
    return int(n_positions)


def checked_items(name: str, items: Any, kind: type, expected: str) -> list[Any]:
    """The items as a list, if all are of one kind. One by itself stands for itself, and None for none."""
    if items is None:
        return []
    try:
        listed = [items] if isinstance(items, kind) else list(items)
    except TypeError:
        listed = [items]
    for item in listed:
        if not isinstance(item, kind):
            raise InputError(f"{name}: found {type(item).__name__}; expected {expected}.")
    return listed


def checked_position(position: int, n_tokens: int) -> int:
    """A token's position counted from 0, if there is one; negative positions count from the end."""
    if not isinstance(position, Integral) or not -n_tokens <= position < n_tokens:
        raise InputError(f"position is {brief(position)}; there are {n_tokens} tokens, counted from 0.")
    return position % n_tokens
