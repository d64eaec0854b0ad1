"""What exercises are tried on: drawn numbers, the arrays of the model that ships, and that model itself.

Arguments may be arrays, numbers, containers and parameters of a model; a `functools.partial` stands for a function
that holds arrays, as a block holds its parameters.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from .. import model as model_py
from ..checkpoints.load import load
from ..inspection.tracing import trace
from ..model import GPT2
from ..parameters import Attention, LayerNorm, Linear
from ..scoring import next_tokens
from ..tokenizer import Tokenizer

PROMPT = "I love"
SENTENCE = "I love the sea, and the sea loves me."

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


# ---------------------------------------------------------------------------------------------- the real model


@lru_cache(maxsize=1)
def tiny() -> tuple[GPT2, Tokenizer]:
    """The model that ships, computed by model.py alone, so that what is replaced there is what runs."""
    model, tokenizer = load("tiny", offline=True)
    return GPT2(model.config, model.parameters), tokenizer


@lru_cache(maxsize=1)
def tape() -> dict[str, np.ndarray]:
    """Every array of its forward pass on a sentence."""
    model, tokenizer = tiny()
    return dict(trace(model, tokenizer.encode(SENTENCE)))


def real(name: str) -> np.ndarray:
    """One of these arrays."""
    return tape()[name]


@contextmanager
def replaced(module: Any, **functions: Callable[..., Any]) -> Iterator[None]:
    """Functions of a module replaced by others for a while: what is read is what runs."""
    before = {name: getattr(module, name) for name in functions}
    try:
        vars(module).update(functions)
        yield
    finally:
        vars(module).update(before)


def in_model(adapt: Callable[[Callable[..., Any]], dict[str, Callable[..., Any]]]) -> Callable[..., str]:
    """What runs the whole model with functions of model.py replaced by what `adapt` makes of the learner's."""

    def use(mine: Callable[..., Any]) -> str:
        model, tokenizer = tiny()
        functions = adapt(mine)
        with replaced(model_py, **functions):
            logits = model(tokenizer.encode(PROMPT))[-1]
        names = " and ".join(f"minigpt.model.{name}" for name in functions)
        return f"The whole model with yours in the place of {names}: {words_after(logits)}"

    return use


def words_after(logits: np.ndarray, temperature: float = 1.0, prompt: str = PROMPT) -> str:
    """The likeliest next tokens, in words."""
    rows = next_tokens(logits, tiny()[1], 5, temperature)
    words = ", ".join(f'"{row.text}" {row.probability:.1%}' for row in rows)
    return f'after "{prompt}" comes {words}.'


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
    return any(
        np.issubdtype(found.dtype, np.floating) for value in values for found in arrays_in(value)
    )


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
