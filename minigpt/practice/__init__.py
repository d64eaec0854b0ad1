"""Exercises: write a part of GPT-2, have it checked number by number, and be told which mistake it is.

minigpt.practice.check("softmax", my_softmax)
"""

import difflib
from numbers import Integral

from ..checks import checked_classes
from ..errors import InputError, brief
from .checker import examine
from .exercise import Arguments, Function
from .exercise import Exercise as Exercise
from .exercises import EXERCISES as EXERCISES
from .report import Report as Report


@checked_classes
def exercise(name: str) -> Exercise:
    """An exercise by its name. Raises `InputError` if there is none."""
    if name not in EXERCISES:
        similar = difflib.get_close_matches(name, EXERCISES, n=1)
        hint = f"; is it {similar[0]}?" if similar else ""
        raise InputError(f"there is no exercise {brief(name)!r}{hint} (`minigpt practice` lists them)")
    return EXERCISES[name]


def check(name: str, function: Function) -> Report:
    """Check a function that solves an exercise. It runs where it is called, and without a time limit.

    Raises `InputError` for a name that is no exercise's, and for anything but a function.
    """
    found = exercise(name)
    if not callable(function):
        raise InputError(
            f"function: found {type(function).__name__}; expected a function: `{found.signature}`"
        )
    return examine(found, function)


def arguments(name: str, case: int = 1) -> Arguments:
    """The arguments of one case, in float64: what a report speaks of. Cases are counted from 1.

    Raises `InputError` if there is no such exercise or case.
    """
    cases = list(exercise(name).tests().values())
    if not isinstance(case, Integral) or not 1 <= case <= len(cases):
        raise InputError(f"case is {brief(case)}; {name} has the cases 1 to {len(cases)}.")
    return cases[case - 1]
