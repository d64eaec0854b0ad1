"""Arguments to try a function on: drawn numbers, and copies that belong to whoever gets them.

Arguments may be arrays, numbers, containers and parameters of a model; a `functools.partial` stands for a
function that holds arrays, as a block holds its parameters.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np

from ..parameters import Attention, LayerNorm, Linear

# ------------------------------------------------------------------------------------------- drawn numbers


def draw_linear(rng: np.random.Generator, n_in: int, n_out: int) -> Linear:
    """A linear map whose answers are about as large as what goes in."""
    return Linear(rng.standard_normal((n_in, n_out)) / n_in**0.5, rng.standard_normal(n_out) / 2)


def draw_attention(rng: np.random.Generator, n_embd: int) -> Attention:
    """The two linear maps of attention."""
    return Attention(draw_linear(rng, n_embd, 3 * n_embd), draw_linear(rng, n_embd, n_embd))


def draw_layer_norm(rng: np.random.Generator, n_embd: int) -> LayerNorm:
    """A gain and an offset."""
    return LayerNorm(1 + rng.standard_normal(n_embd) / 4, rng.standard_normal(n_embd) / 4)


def draw_shares(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers above 0 that sum to 1 along the last axis."""
    drawn = rng.exponential(size=shape)
    return drawn / drawn.sum(axis=-1, keepdims=True)


# ------------------------------------------------------------------------------------- copies of arguments


def copy_as(value: Any, dtype: Any = None) -> Any:
    """A copy that shares no memory; with a dtype, all numbers that are not whole have it."""
    match value:
        case np.ndarray():
            is_float = np.issubdtype(value.dtype, np.floating)
            return np.array(value, dtype if is_float and dtype is not None else value.dtype)
        case list() | tuple():
            return type(value)(copy_as(item, dtype) for item in value)
        case dict():
            return {key: copy_as(item, dtype) for key, item in value.items()}
        case partial():
            return partial(value.func, *copy_as(value.args, dtype), **copy_as(value.keywords, dtype))
        case _ if is_dataclass(value) and not isinstance(value, type):
            return type(value)(*(copy_as(getattr(value, each.name), dtype) for each in fields(value)))
    return value


def same(a: Any, b: Any) -> bool:
    """Whether two copies of an argument are still equal, number by number."""
    match a:
        case np.ndarray():
            return isinstance(b, np.ndarray) and a.shape == b.shape and np.array_equal(a, b, equal_nan=True)
        case list() | tuple():
            return len(a) == len(b) and all(map(same, a, b))
        case dict():
            return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        case partial():
            return True  # of a function nobody changes the arrays
        case _ if is_dataclass(a):
            return all(same(getattr(a, each.name), getattr(b, each.name)) for each in fields(a))
    return bool(a == b)


def has_floats(values: Sequence[Any]) -> bool:
    """Whether there are arrays whose precision can be chosen."""
    return any(np.issubdtype(found.dtype, np.floating) for value in values for found in arrays_in(value))


def arrays_in(value: Any) -> Iterator[np.ndarray]:
    """All arrays of an argument."""
    match value:
        case np.ndarray():
            yield value
        case list() | tuple():
            for item in value:
                yield from arrays_in(item)
        case dict():
            yield from arrays_in(list(value.values()))
        case partial():
            yield from arrays_in((value.args, value.keywords))
        case _ if is_dataclass(value) and not isinstance(value, type):
            for each in fields(value):
                yield from arrays_in(getattr(value, each.name))
