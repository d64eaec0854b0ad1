"""Check a function: run it on every case, compare, and name the mistake that explains what comes out."""

import contextlib
import inspect
import io
import linecache
import math
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import copy_as, has_floats, same
from .comparison import TOLERANCES, Parts, alike, as_parts, distance, first_difference
from .exercise import Arguments, Exercise, Function
from .report import Report, Test

FAR_CLOSER = 20.0  # so many times closer to a mistake than to the right answer is worth a word
PRINTED = 400  # characters of what a function printed that are shown
SAME = "Your answer equals, to rounding and in every test, what"


@dataclass(frozen=True)
class Outcome:
    """What came of calling a function once: an answer, or in words why there is none that can be compared."""

    parts: Parts
    problem: str = ""
    error: str = ""  # the type of what it raised
    printed: str = ""


@dataclass(frozen=True, eq=False)
class Trial:
    """A case in one precision, with the right answer."""

    case: str
    number: int
    precision: str
    arguments: Arguments
    expected: Any

    @property
    def name(self) -> str:
        """Which trial this is."""
        return f"{self.case}, {self.precision}" if self.precision else self.case


Compared = Sequence[tuple[Trial, Outcome]]


class FirstCharacters(io.StringIO):
    """Keeps the beginning of what is printed; a loop may print for ever."""

    def write(self, text: str) -> int:
        """Write what there is room for."""
        super().write(text[: max(PRINTED - self.tell(), 0)])
        return len(text)


# ---------------------------------------------------------------------------------------------- the check


def examine(exercise: Exercise, function: Function, announce: Callable[[str], object] = str) -> Report:
    """Try the function on every case. `announce` is told which test begins."""
    if problem := wrong_signature(exercise, function):
        return Report(exercise.name, (Test("the signature", "", problem),))
    every = list(trials(exercise))
    outcomes: list[Outcome] = []
    for trial in every:
        announce(trial.name)
        outcomes.append(answer(exercise, function, trial))
        if outcomes[-1].error == "NotImplementedError":
            problem = "it is still empty: it raises NotImplementedError. Put your own lines there."
            return Report(exercise.name, (Test("the function", "", problem),))
    tests = [
        Test(trial.case, trial.precision, problem_of(exercise, trial, outcome))
        for trial, outcome in zip(every, outcomes, strict=True)
    ]
    report = Report(exercise.name, tuple(tests), remarks=tuple(remarks(every, outcomes)))
    if not report.is_right:
        return Report(report.exercise, report.tests, diagnose(exercise, every, outcomes), report.remarks)
    announce("the whole model")
    return with_whole_model(report, exercise, function, every[-1])


def trials(exercise: Exercise, seed: int = 0) -> Iterator[Trial]:
    """Every case in float64 and float32; once, where there is nothing to round."""
    for number, (case, arguments) in enumerate(exercise.tests(seed).items(), start=1):
        for precision in ("float64", "float32") if has_floats(arguments) else ("",):
            given = copy_as(arguments, precision or None)
            exact = copy_as(given, "float64")  # of float32 numbers the answer is computed in float64, too
            with np.errstate(all="ignore"):
                yield Trial(case, number, precision, given, exercise.solution(*exact))


def wrong_signature(exercise: Exercise, function: Function) -> str:
    """What is wrong with how the function wants to be called; empty if nothing is."""
    names = exercise.argument_names
    try:
        inspect.signature(function).bind(*names)
    except TypeError:
        return f"it cannot be called with {len(names)} arguments; expected is `{exercise.signature}`"
    except ValueError:  # it has none that Python knows of
        return ""
    return ""


def run(function: Function, arguments: Arguments, names: Sequence[str], expected: Any) -> Outcome:
    """Call a function with copies of the arguments."""
    given, printed = copy_as(arguments), FirstCharacters()
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.simplefilter("ignore")
            answer = function(*given)
    except (Exception, SystemExit) as error:
        return Outcome([], stopped(function, error), type(error).__name__, printed.getvalue())
    parts, problem = as_parts(answer, expected)
    for name, before, after in zip(names, arguments, given, strict=True):
        if not same(before, after):
            problem = (
                f"it changes its argument {name}, which belongs to the caller. Leave what you are given as "
                "it is: `x = x + 1` makes a new array, `x += 1` and `x[...] = 1` write into the old one."
            )
    return Outcome(parts, problem, "", printed.getvalue())


def stopped(function: Function, error: BaseException) -> str:
    """Where a function stopped, and why."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if code and frame.filename == code.co_filename
    ]
    where = ""
    if frames and frames[-1].lineno:
        line = linecache.getline(frames[-1].filename, frames[-1].lineno).strip()
        where = f" at line {frames[-1].lineno}, `{line}`" if line else ""
    return f"it stopped{where}: {type(error).__name__}: {str(error) or 'no message'}".rstrip(".") + "."


def problem_of(exercise: Exercise, trial: Trial, outcome: Outcome) -> str:
    """What is wrong with an outcome, and how to get the same arguments; empty if nothing is."""
    problem = outcome.problem
    if not problem:
        names, expected = exercise.parts or {"": []}, right_answer(trial).parts
        problem = first_difference(outcome.parts, expected, names, TOLERANCES[trial.precision])
    if not problem:
        return ""
    again = f'minigpt.practice.arguments("{exercise.name}", {trial.number})'
    return f"{problem}\nThe same arguments in Python: {again}"


def remarks(every: Sequence[Trial], outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What is worth knowing besides."""
    for trial, outcome in zip(every, outcomes, strict=True):
        if trial.precision == "float32" and any(
            part.dtype == np.float64 and part.ndim for part in outcome.parts
        ):
            yield (
                "A remark, not a mistake: your answer to float32 arrays is float64, twice the memory and "
                "slower. Usual causes: np.sqrt of a Python number is a float64 scalar, which turns arrays "
                "into its own precision (math.sqrt(2) and 2 ** 0.5 do not); np.zeros without a dtype is "
                "a float64 array."
            )
            break
    for trial, outcome in zip(every, outcomes, strict=True):
        if outcome.printed:
            yield f"It printed ({trial.name}):\n{outcome.printed}"
            break


# ------------------------------------------------------------------------------------------- the diagnosis


def diagnose(exercise: Exercise, every: Sequence[Trial], outcomes: Sequence[Outcome]) -> str:
    """Which known mistake gives these answers, or which two, or which comes close; empty if none does."""
    compared = [pair for pair in zip(every, outcomes, strict=True) if pair[0].precision != "float32"]
    if not any(outcome.parts for _, outcome in compared):
        return ""
    for mistake, function in exercise.wrong_ways:
        if explains(exercise, function, compared):
            return f"The mistake: {mistake.explanation}\n{SAME} this gives."
    for one, other, function in exercise.doubly_wrong_ways:
        if explains(exercise, function, compared):
            both = f"1. {one.explanation}\n2. {other.explanation}"
            return f"Two mistakes at once:\n{both}\n{SAME} the two give together."
    return more_axes(exercise, compared) or resemblance(exercise, compared)


def more_axes(exercise: Exercise, compared: Compared) -> str:
    """What to say where only the cases with the most axes stop; empty if that is not so."""
    stops = [axes_of(trial) for trial, outcome in compared if outcome.error]
    runs = [(trial, outcome) for trial, outcome in compared if not outcome.error]
    if not stops or min(stops) <= max(axes_of(trial) for trial, _ in runs):
        return ""
    said = (
        "It stops only where there are more axes: `...` means any number of axes in front. Index from the "
        "end, as in x.shape[-1]."
    )
    if all(is_same(outcome, right_answer(trial), trial.precision) for trial, outcome in runs):
        return said
    for mistake, function in exercise.wrong_ways:
        if explains(exercise, function, runs):
            return f"The tests that ran give what this mistake gives: {mistake.explanation}\n{said}"
    return said


def axes_of(trial: Trial) -> int:
    """How many axes the right answer has."""
    return right_answer(trial).parts[0].ndim


def explains(exercise: Exercise, function: Function, compared: Compared) -> bool:
    """Whether a wrong function gives the same answers in every case, at least one of them wrong."""
    evidence, same_errors = False, True
    for trial, outcome in compared:
        other = answer(exercise, function, trial)
        if not is_same(outcome, other, trial.precision):
            return False
        evidence |= not outcome.error and not is_same(outcome, right_answer(trial), trial.precision)
        same_errors &= outcome.error == other.error
    return evidence or same_errors


def resemblance(exercise: Exercise, compared: Compared) -> str:
    """Which mistake's answers are by far closer than the right ones; empty if none are."""
    outcomes = [outcome for _, outcome in compared]
    right = gap(outcomes, [right_answer(trial) for trial, _ in compared])
    if not np.isfinite(right):
        return ""
    gaps = [
        (gap(outcomes, [answer(exercise, function, trial) for trial, _ in compared]), mistake)
        for mistake, function in exercise.wrong_ways
    ]
    nearest, mistake = min(gaps, key=lambda pair: pair[0])
    if nearest * FAR_CLOSER >= right:
        return ""
    return (
        f"It resembles a known mistake, though it is not quite that: {mistake.explanation} Your answers are "
        f"{right / nearest:.0f} times closer to what this gives than to the right ones."
    )


def answer(exercise: Exercise, function: Function, trial: Trial) -> Outcome:
    """What comes out of another function."""
    return run(function, trial.arguments, exercise.argument_names, trial.expected)


def right_answer(trial: Trial) -> Outcome:
    """What should come out."""
    return Outcome(as_parts(trial.expected, trial.expected)[0])


def is_same(outcome: Outcome, other: Outcome, precision: str) -> bool:
    """Whether two outcomes are the same: equal answers, or that both stopped."""
    if outcome.error or other.error:
        return bool(outcome.error and other.error)
    return bool(outcome.parts) and alike(outcome.parts, other.parts, TOLERANCES[precision])


def gap(outcomes: Sequence[Outcome], others: Sequence[Outcome]) -> float:
    """How far answers are from others, all cases together."""
    pairs = zip(outcomes, others, strict=True)
    return math.sqrt(sum(distance(one.parts, other.parts) ** 2 for one, other in pairs))


# ----------------------------------------------------------------------------------------- when it is right


def with_whole_model(report: Report, exercise: Exercise, function: Function, trial: Trial) -> Report:
    """The report of a right function: how long it takes, and what the whole model says with it."""
    try:
        with (
            contextlib.redirect_stdout(FirstCharacters()),
            np.errstate(all="ignore"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            words = exercise.use(function)
    except (Exception, SystemExit) as error:
        failed = Test("the whole model", "", stopped(function, error))
        return Report(report.exercise, (*report.tests, failed), remarks=report.remarks)
    yours, ours = (seconds(each, trial) for each in (function, exercise.solution))
    took = f"{trial.case.capitalize()}: yours took {milliseconds(yours)}, ours {milliseconds(ours)}."
    return Report(report.exercise, report.tests, "", report.remarks, f"{took}\n{words}")


def seconds(function: Function, trial: Trial, at_most: float = 0.2) -> float:
    """The shortest of some calls."""
    found: list[float] = []
    with np.errstate(all="ignore"), warnings.catch_warnings(), contextlib.redirect_stdout(FirstCharacters()):
        warnings.simplefilter("ignore")
        while len(found) < 20 and sum(found) < at_most:
            arguments = copy_as(trial.arguments)
            start = time.perf_counter()
            function(*arguments)
            found.append(time.perf_counter() - start)
    return min(found)


def milliseconds(duration: float) -> str:
    """A duration for people."""
    return f"{1000 * duration:.2g} ms"
