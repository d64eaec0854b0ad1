"""What a call may be given: arguments of the right class, a config that makes sense, ids that exist."""

import functools
import inspect
from collections.abc import Callable
from numbers import Integral
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, get_args, get_type_hints

import numpy as np
from jaxtyping import Int

from .activations import ACTIVATIONS
from .errors import ConfigError, ContextLengthError, InputError, brief
from .ranges import LARGEST_SIZE

LARGEST_BATCH = 1_000_000  # texts at once, for which no memory is large enough
P = ParamSpec("P")
R = TypeVar("R")

# ------------------------------------------------------------------------------- arguments and their classes


def checked_classes(function: Callable[P, R]) -> Callable[P, R]:
    """The function, raising `InputError` for an argument of none of the classes that its annotation names.

    Only annotations that are classes count. Numbers have ranges, lists and arrays have checks of their own.
    """
    parameters = inspect.signature(function).parameters
    expected = {name: classes_of(parameter.annotation) for name, parameter in parameters.items()}

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in [*zip(expected, args, strict=False), *kwargs.items()]:
            check_class(name, value, expected.get(name, ()))
        return function(*args, **kwargs)

    return checked


def classes_of(annotation: Any) -> tuple[type, ...]:
    """The classes that an annotation names; none if it is, or may be, anything else or a number."""
    named = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    are_classes = all(isinstance(one, type) and one is not inspect.Parameter.empty for one in named)
    return named if are_classes and not {int, float} & {*named} else ()


def check_class(name: str, value: Any, classes: tuple[type, ...]) -> None:
    """Raise `InputError` if there are classes, and the value is of none of them."""
    if classes and not isinstance(value, (*classes, np.bool_) if bool in classes else classes):
        words = " or ".join("None" if one is NoneType else one.__name__ for one in classes)
        raise InputError(f"{name}: found {type(value).__name__}; expected {words}.")


def check_fields(instance: Any) -> None:
    """Raise `InputError` for a field of a dataclass of none of the classes that its annotation names."""
    for name, kind in get_type_hints(type(instance)).items():
        check_class(name, getattr(instance, name), classes_of(kind))


# ------------------------------------------------------------------------------------------ configs and ids


def check_config(config: Any) -> None:
    """Raise `ConfigError` if the values of a `Config` do not describe a model."""
    for name, kind in get_type_hints(type(config)).items():
        check_setting(name, getattr(config, name), kind)
    for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "mlp_width"):
        if getattr(config, name) < 1:
            raise ConfigError(f"config: {name} is {getattr(config, name)}; it must be at least 1.")
    if config.n_embd % config.n_head:
        raise ConfigError(
            f"config: n_embd is {config.n_embd}, which n_head = {config.n_head} does not divide; "
            "every head needs an equal share of the vector."
        )
    if not 1e-38 < config.layer_norm_epsilon <= 1.0:  # else float32 makes it 0, or it drowns all activations
        raise ConfigError(
            f"config: layer_norm_epsilon is {config.layer_norm_epsilon}; "
            "expected a small number such as 1e-05."
        )
    if config.activation_function not in ACTIVATIONS:
        raise ConfigError(
            f"config: activation_function is {brief(config.activation_function, repr)}; "
            f"known are {', '.join(ACTIVATIONS)}."
        )


def check_setting(name: str, value: Any, kind: Any) -> None:
    """Raise `ConfigError` for a value of a config that is of another type than its field, or too large."""
    if type(value) not in (get_args(kind) or (kind,)):  # not isinstance, for which True is an int
        expected = getattr(kind, "__name__", str(kind))
        raise ConfigError(f"config: {name} is {brief(value, repr)}; expected {expected}.")
    if isinstance(value, int) and value > LARGEST_SIZE:
        raise ConfigError(f"config: {name} is {brief(value)}; expected at most {LARGEST_SIZE}.")


def checked_ids(
    ids: Any, config: Any, cache: Any = None, dtype: Any = None, logits_to_keep: int = 0
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


def checked_text(name: str, ids: Any, config: Any) -> Int[np.ndarray, " tokens"]:
    """The ids of one text, of any length or empty, as an integer array; `name` is what an error calls it."""
    array = _id_array(name, ids, config)
    if array.ndim != 1:
        raise InputError(f"{name}: found shape {array.shape}; expected one text, which is a flat row of ids.")
    return array.astype(np.int64, copy=False)


def _id_array(name: str, ids: Any, config: Any) -> np.ndarray:
    """`ids` as an array, if it is empty or holds ids of the vocabulary."""
    try:
        array = np.asarray(ids)
    except (ValueError, TypeError):
        raise InputError(
            f"{name}: the rows have different lengths; pad them on the right, or give one row at a time."
        ) from None
    if array.ndim == 0:
        raise InputError(
            f"{name}: found {type(ids).__name__}; expected a row of ids (Tokenizer.encode gives it)."
        )
    if array.size == 0:
        return array  # of floats, where it was an empty list
    if array.dtype.kind not in "iu":  # durations would count as integers otherwise
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


def check_cache(config: Any, batch: Any) -> None:
    """Raise `InputError` unless a cache can be made for this model and these leading dimensions."""
    if not hasattr(config, "head_dim") or not isinstance(batch, tuple):
        raise InputError("cache: expected a Config and the batch as a tuple; make one with new_cache.")
    for size in batch:
        batch_shape(size)


def checked_rows(rows: Any, batch: tuple[int, ...]) -> Int[np.ndarray, " batch"]:
    """As many numbers of a batch's rows as it has."""
    try:
        array = np.asarray(rows)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "iu" or array.shape != batch or not 0 <= array.min() <= array.max() < batch[0]:
        raise InputError(f"rows: expected {batch} numbers of this cache's rows, counted from 0.")
    return array


def checked_dtype(dtype: Any, names: tuple[str, ...] = ("float32", "float64")) -> np.dtype[Any]:
    """One of the precisions of these names, in this machine's order of bytes."""
    try:
        found = np.dtype(dtype).name
    except Exception:  # NumPy has a language for what it reads, and asks objects about themselves
        found = ""
    if dtype is None or found not in names:  # None would be float64
        raise InputError(f"dtype: found {brief(dtype, repr)}; expected {' or '.join(names)}.")
    return np.dtype(found)


def checked_length(length: int) -> int:
    """How many tokens of a cache stay."""
    if not isinstance(length, Integral) or length < 0:
        raise InputError(f"length is {brief(length)}; it must be an integer, 0 or above.")
    return min(int(length), LARGEST_SIZE)


def checked_n_positions(n_positions: int, config: Any) -> int:
    """A context that is no longer than the model's own."""
    if not isinstance(n_positions, Integral) or not 1 <= n_positions <= config.n_positions:
        raise InputError(
            f"n_positions is {brief(n_positions)}; it must be an integer from 1 to {config.n_positions}."
        )
    return int(n_positions)


def checked_items(name: str, items: Any, kind: type | UnionType, expected: str) -> list[Any]:
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
