"""The model that ships, with a learner's function in it: what is read is what runs.

Its arrays are what every exercise is tried on in the end.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from .. import model as model_py
from ..checkpoints.load import load
from ..inspection.tracing import trace
from ..model import GPT2, named_parameters
from ..scoring import next_tokens
from ..tape import gradients
from ..tokenizer import Tokenizer
from .exercise import Function

PROMPT = "I love"
SENTENCE = "I love the sea, and the sea loves me."
LESSON = "I love the sea"  # what the model learns in one step
STEP = 0.05  # how far all parameters together move then
Adapt = Callable[[Function], dict[str, Function]]  # from the learner's function to those of a module


@lru_cache(maxsize=1)
def tiny() -> tuple[GPT2, Tokenizer]:
    """The model that ships, computed by model.py alone."""
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
def replaced(module: Any, functions: dict[str, Function]) -> Iterator[None]:
    """Some functions of a module replaced for a while."""
    before = {name: getattr(module, name) for name in functions}
    try:
        vars(module).update(functions)
        yield
    finally:
        vars(module).update(before)


def in_model(adapt: Adapt) -> Callable[[Function], str]:
    """What runs the model with functions of model.py replaced by what `adapt` makes of the learner's."""

    def use(mine: Function) -> str:
        model, tokenizer = tiny()
        functions = adapt(mine)
        with replaced(model_py, functions):
            logits = model(tokenizer.encode(PROMPT))[-1]
        return (
            f"The whole model with yours in the place of {names(model_py, functions)}: {words_after(logits)}"
        )

    return use


def in_learning(module: Any, adapt: Adapt) -> Callable[[Function], str]:
    """What teaches the model a few words, on a way back that goes through the learner's function."""

    def use(mine: Function) -> str:
        functions = adapt(mine)
        with replaced(module, functions):
            loss, found = lesson(tiny()[0])
        length = float(np.sqrt(sum(np.square(gradient).sum() for gradient in found.values())))
        told = learn(loss, lambda name, p: p - STEP / length * found[name])
        return f"A step of learning with yours in the place of {names(module, functions)}: {told}"

    return use


def lesson(model: GPT2) -> tuple[float, dict[str, np.ndarray]]:
    """The loss of the lesson, and its gradients."""
    ids = tiny()[1].encode(LESSON)
    return gradients(model, ids[:-1], ids[1:])


def learn(loss: float, move: Callable[[str, np.ndarray], np.ndarray]) -> str:
    """What becomes of the loss and of the next words when every parameter is moved."""
    model, tokenizer = tiny()
    moved = {name: move(name, array) for name, array in named_parameters(model).items()}
    after = GPT2.from_arrays(model.config, moved)
    words = words_after(after(tokenizer.encode(PROMPT))[-1])
    return f'the loss of "{LESSON}" goes from {loss:.2f} to {lesson(after)[0]:.2f}. Now {words}'


def names(module: Any, functions: dict[str, Function]) -> str:
    """The full names of what was replaced."""
    return " and ".join(f"{module.__name__}.{name}" for name in functions)


def words_after(logits: np.ndarray) -> str:
    """The likeliest next tokens, in words."""
    rows = next_tokens(logits, tiny()[1], 5)
    words = ", ".join(f'"{row.text}" {row.probability:.1%}' for row in rows)
    return f'after "{PROMPT}" comes {words}.'
