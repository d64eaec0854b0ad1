"""The numbers that a person may give, as an argument in Python or as an option of the command line.

Nothing here needs NumPy, so that a mistake on the command line is answered at once.
"""

from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from math import isfinite
from numbers import Real
from operator import index
from typing import Any

from .errors import InputError, brief

LARGEST_SIZE = 10**8  # the shape of an array of two such sizes is still one that NumPy can have
Number = float | int  # `temperature=0` is as good as `temperature=0.0`

RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {  # `index` takes integers alone
    "temperature": (lambda value: value >= 0 and isfinite(value), "a finite number, 0 (greedy) or above"),
    "top_k": (lambda value: index(value) >= 0, "an integer: 0 (off) or a number of tokens"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1 (off)"),
    "min_p": (lambda value: 0 <= value <= 1, "from 0 (off) to 1"),
    # A penalty that means something, and cannot by itself make a logit larger than float32 holds.
    "repetition_penalty": (lambda value: 1e-3 <= value <= 1e3, "from 0.001 to 1000; 1 is off"),
    "max_new_tokens": (lambda value: index(value) >= 0, "an integer, 0 or above"),
    # A run writes its own into JSON, and Python reads no number from text that is longer.
    "seed": (lambda value: 0 <= index(value) < 10**4000, "an integer, 0 or above, of 4,000 digits at most"),
    "top": (lambda value: index(value) >= 1, "an integer, 1 or above"),
    "n_surprises": (lambda value: index(value) >= 0, "an integer, 0 or above"),
    "num_beams": (lambda value: 1 <= index(value) <= 1000, "an integer from 1 to 1000"),
    "num_return_sequences": (lambda value: index(value) >= 1, "an integer, 1 or above"),
    "length_penalty": (lambda value: -10 <= value <= 10, "from -10 to 10"),
    "steps": (lambda value: 1 <= index(value) <= 10**12, "an integer, 1 or above, and at most 10^12"),
    "minutes": (lambda value: 0 < value <= 1e6, "above 0 and at most a million"),
    "window": (lambda value: index(value) >= 1, "an integer, 1 or above"),
    "batch_size": (lambda value: 1 <= index(value) <= 10**6, "an integer from 1 to a million"),
    "accumulation": (lambda value: 1 <= index(value) <= 10**6, "an integer from 1 to a million"),
    "learning_rate": (lambda value: 0 < value <= 10, "above 0 and at most 10"),
    "warmup": (lambda value: 0 <= index(value) <= 10**12, "an integer, 0 or above, and at most 10^12"),
    "weight_decay": (lambda value: 0 <= value <= 10, "from 0 to 10"),
    "beta2": (lambda value: 0 < value < 1, "above 0 and below 1"),
    "clip": (lambda value: value > 0, "above 0"),
    "threads": (lambda value: 1 <= index(value) <= 1024, "an integer from 1 to 1024"),
    "vocab_size": (
        lambda value: 256 <= index(value) <= LARGEST_SIZE,
        "an integer from 256 (bytes alone) to 100,000,000",
    ),
    "n_layer": (lambda value: 1 <= index(value) <= LARGEST_SIZE, "an integer from 1 to 100,000,000"),
    "n_head": (lambda value: 1 <= index(value) <= LARGEST_SIZE, "an integer from 1 to 100,000,000"),
    "n_embd": (lambda value: 1 <= index(value) <= LARGEST_SIZE, "an integer from 1 to 100,000,000"),
    "n_positions": (lambda value: 2 <= index(value) <= LARGEST_SIZE, "an integer from 2 to 100,000,000"),
    "beta": (lambda value: value >= 0 and isfinite(value), "a finite number, 0 or above"),
    "height": (lambda value: 1 <= index(value) <= 10**5, "an integer from 1 to 100,000"),
    "share": (lambda value: 0 < value < 1, "above 0 and below 1"),
}


def check_range(name: str, value: Any) -> None:
    """Raise `InputError` if the argument `name` cannot have this value (NaN never can)."""
    is_valid, allowed = RANGES[name]
    # NumPy cannot compute with a Fraction, and True is no number to whoever writes it.
    is_number = isinstance(value, Real) and not isinstance(value, bool | Fraction)
    try:
        fits = is_number and bool(is_valid(value))
    except (TypeError, OverflowError):  # no integer where one is needed, more than a float holds
        fits = False
    if not fits:
        raise InputError(f"{name} is {brief(value)}; it must be {allowed}.")


def check_ranges(settings: Any) -> None:
    """`check_range` of every field of a dataclass that has one; None is fine where it is the default."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name in RANGES and not (value is None and field.default is None):
            check_range(field.name, value)
