"""Two answers side by side: is one the other, and if not, what is the first thing to say about it?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# How far an answer may be off, as a share of the largest number of the right one.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "": 0.0}
Parts = list[np.ndarray]
NO_BREAK = "\xa0"  # a space at which no line ends


def as_parts(answer: Any, expected: Any) -> tuple[Parts, str]:
    """The arrays of an answer; or why it is not of the kind that is expected, in words."""
    if not isinstance(expected, tuple):
        problem = wrong_kind(answer, expected)
        return ([] if problem else [as_array(answer)]), problem
    if not isinstance(answer, tuple | list) or len(answer) != len(expected):
        return (
            [],
            f"it returned {describe(answer)}; expected are {len(expected)} arrays, as in `return a, b`.",
        )
    problem = next(filter(None, map(wrong_kind, answer, expected)), "")
    return ([] if problem else list(map(as_array, answer))), problem


def wrong_kind(answer: Any, expected: Any) -> str:
    """Why an answer cannot be compared with the right one; empty if it can."""
    if answer is None:
        return "it returned None. Is there a return at the end?"
    right = np.asarray(expected)
    if isinstance(expected, list):
        return "" if isinstance(answer, list) else f"it returned {describe(answer)}; expected is a list."
    is_number = isinstance(answer, int | float | np.number) and right.ndim == 0
    if not is_number and not isinstance(answer, np.ndarray):
        kind = f"a NumPy array of shape {shape_text(right.shape)}" if right.ndim else "a number"
        return f"it returned {describe(answer)}; expected is {kind}."
    found = np.asarray(answer).dtype
    if found.kind not in ("b" if right.dtype == bool else "fiu"):
        return f"it returned {found} values; expected are {right.dtype}."
    return ""


def as_array(answer: Any) -> np.ndarray:
    """An answer as an array; the items of a list are whatever they are."""
    return object_array(answer) if isinstance(answer, list) else np.asarray(answer)


def object_array(items: Sequence[Any]) -> np.ndarray:
    """A list as an array of whatever is in it."""
    found = np.empty(len(items), object)
    for place, item in enumerate(items):
        found[place] = item
    return found


def describe(answer: Any) -> str:
    """The kind of an answer."""
    if isinstance(answer, tuple | list):
        return f"a {type(answer).__name__} of {len(answer)}"
    shape = f" of shape {shape_text(np.shape(answer))}" if isinstance(answer, np.ndarray) else ""
    return f"{type(answer).__name__}{shape}"


def differing(found: np.ndarray, expected: np.ndarray, tolerance: float) -> np.ndarray:
    """Where two arrays of one shape differ by more than rounding."""
    if expected.dtype == object:
        return np.array([one != other for one, other in zip(found, expected, strict=True)], bool)
    if expected.dtype == bool:
        return np.asarray(found != expected)
    a, b = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(all="ignore"):
        near = np.abs(a - b) <= tolerance * magnitude(b)
        return np.asarray(~(near | (a == b) | (np.isnan(a) & np.isnan(b))))


def magnitude(array: np.ndarray) -> float:
    """The largest of its numbers, without regard to signs; 1 if there is none but 0."""
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max(initial=0.0)) or 1.0


def alike(found: Parts, expected: Parts, tolerance: float) -> bool:
    """Whether two answers are the same, to rounding."""
    return len(found) == len(expected) and all(
        a.shape == b.shape
        and (a.dtype == object) == (b.dtype == object)
        and not differing(a, b, tolerance).any()
        for a, b in zip(found, expected, strict=True)
    )


@np.errstate(all="ignore")
def distance(found: Parts, expected: Parts) -> float:
    """How far an answer is from another, as a share of that; infinite where they cannot be compared."""
    squares = []
    for a, b in zip(found, expected, strict=False):
        if a.shape != b.shape or object in (a.dtype, b.dtype):
            return np.inf
        one, other = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(other)
        if not np.isfinite(one[finite]).all() or (one[~finite] == other[~finite]).sum() < (~finite).sum():
            return np.inf
        gaps = (one[finite] - other[finite]) / magnitude(other)
        squares.append(np.square(gaps).sum() / max(gaps.size, 1))
    return float(np.sqrt(sum(squares))) if len(found) == len(expected) > 0 else np.inf


# -------------------------------------------------------------------------------------------------- in words


def first_difference(
    found: Parts, expected: Parts, names: Mapping[str, Sequence[str]], tolerance: float
) -> str:
    """The first thing that is wrong with an answer: a shape, or else a number; empty if nothing is."""
    parts = list(zip(names.items(), found, expected, strict=True))
    for (name, axes), a, b in parts:
        if a.shape != b.shape:
            yours, right = shape_text(a.shape), shape_text(b.shape)
            why = which_axis(a.shape, b.shape, axes)
            return f"{of_part(name)}the shape is {yours}; expected is {right}{why}"
    for (name, _), a, b in parts:
        wrong = differing(a, b, tolerance)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            place = f"at [{', '.join(map(str, at))}] " if at else ""
            shape = f"The shape {a.shape} is right. " if at else ""
            yours, right = shown(a[at], b[at])
            return (
                f"{of_part(name)}{place}yours is {yours}, expected is {right}. {shape}{how_much(wrong, a, b)}"
            )
    return ""


def shape_text(numbers: tuple[int, ...], brackets: str = "()") -> str:
    """A shape or a place, which no line end shall tear apart."""
    comma = "," if len(numbers) == 1 and brackets == "()" else ""
    return f"{brackets[0]}{f',{NO_BREAK}'.join(map(str, numbers))}{comma}{brackets[1]}"


def of_part(name: str) -> str:
    """Which of several arrays is spoken of."""
    return f"in {name}, " if name else ""


def shown(found: Any, expected: Any) -> tuple[str, str]:
    """Two values, with as many digits as tell them apart."""
    if not isinstance(expected, np.floating):
        return repr(getattr(found, "item", lambda: found)()), repr(
            getattr(expected, "item", lambda: expected)()
        )
    for digits in (4, 6, 9, 12, 16):
        texts = f"{float(found):.{digits}g}", f"{float(expected):.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts


def how_much(wrong: np.ndarray, found: np.ndarray, expected: np.ndarray) -> str:
    """How many entries differ, and by how much at most."""
    if wrong.ndim == 0:
        return ""
    count = f"{int(wrong.sum())} of {wrong.size} entries differ"
    if expected.dtype in (object, bool):
        return f"{count}."
    with np.errstate(all="ignore"):
        gaps = np.abs(found.astype(np.float64) - expected.astype(np.float64))[wrong]
    largest = gaps[np.isfinite(gaps)].max(initial=0.0)
    return f"{count}, by up to {largest:.2g}." if largest else f"{count}."


def which_axis(found: tuple[int, ...], expected: tuple[int, ...], axes: Sequence[str]) -> str:
    """Which axis makes the difference."""
    if len(found) != len(expected):
        more = len(found) - len(expected)
        many = f"{abs(more)} {'axis' if abs(more) == 1 else 'axes'} too {'many' if more > 0 else 'few'}"
        hint = " (a mean or sum without keepdims=True loses one)" if more == -1 else ""
        return f", so there {'is' if abs(more) == 1 else 'are'} {many}{hint}."
    if sorted(found) == sorted(expected):
        return ": the same sizes, in another order. Which axes have to be swapped?"
    named = [None] * len(expected) + [axis for axis in axes if axis != "..."]
    for axis, (a, b) in enumerate(zip(found, expected, strict=True)):
        if a != b:
            name = named[len(named) - len(expected) + axis]
            return f": axis {axis}{f' ({name})' if name else ''} has {a} instead of {b}."
    return "."
