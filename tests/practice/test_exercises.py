"""Every exercise: its solution passes, its mistakes are named, and nothing wrong is called right."""

import ast
import doctest
import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from minigpt.inspection.gallery import MISTAKES as GALLERY
from minigpt.practice import EXERCISES, Exercise, check, checker
from minigpt.practice.checker import Trial, answer, examine, is_same, trials
from tests.practice.mutations import mutants

Function = Callable[..., Any]
# Without the real model's arrays, which take most of the time: fewer cases tell less apart, not more.
SMALL = {name: replace(exercise, real=None, use=lambda _: "") for name, exercise in EXERCISES.items()}
every_exercise = pytest.mark.parametrize("name", EXERCISES)


def solution(name: str) -> Function:
    return inspect.unwrap(EXERCISES[name].solution)


@every_exercise
def test_the_solution_is_right_and_the_whole_model_runs_with_it(name: str) -> None:
    report = check(name, solution(name))
    assert report.is_right, report
    assert not report.remarks
    assert report.diagnosis == ""
    assert "model" in report.story


@every_exercise
def test_every_listed_mistake_is_named(name: str) -> None:
    for mistake, function in SMALL[name].wrong_ways:
        report = examine(SMALL[name], function)
        assert not report.is_right
        assert report.diagnosis.startswith(f"The mistake: {mistake.explanation}"), (
            mistake.says,
            report.diagnosis,
        )


@every_exercise
def test_nothing_that_is_wrong_is_called_right_or_another_mistake(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, "answer", cache(answer))  # of the mistakes, the same for every change
    every = list(trials(SMALL[name]))
    monkeypatch.setattr(checker, "trials", lambda _: every)
    exercise, wrong_verdicts, n_wrong = SMALL[name], [], 0
    others = [trial for seed in (1, 2, 3) for trial in trials(exercise, seed) if trial.precision != "float32"]
    for source, function in mutants(exercise.solution, 200, seed=0):
        report = examine(exercise, function)
        n_wrong += not report.is_right
        claimed = what_it_is_called(exercise, report.is_right, report.diagnosis)
        if claimed and not all(agree(exercise, function, claimed, trial) for trial in others):
            wrong_verdicts.append((source, report))
    assert not wrong_verdicts
    assert n_wrong > 150


def what_it_is_called(exercise: Exercise, is_right: bool, diagnosis: str) -> Function | None:
    """The function that a report says this one equals."""
    if is_right:
        return exercise.solution
    for mistake, function in exercise.wrong_ways:
        if diagnosis.startswith(f"The mistake: {mistake.explanation}\n"):
            return function
    for one, other, function in exercise.doubly_wrong_ways:
        if f"1. {one.explanation}\n2. {other.explanation}\n" in diagnosis:
            return function
    assert "equals" not in diagnosis
    return None


def agree(exercise: Exercise, one: Function, other: Function, trial: Trial) -> bool:
    return is_same(answer(exercise, one, trial), answer(exercise, other, trial), trial.precision)


@every_exercise
def test_the_example_in_the_task_is_what_the_solution_gives(name: str) -> None:
    task = EXERCISES[name].task
    example = doctest.DocTestParser().get_doctest(task, {"np": np, name: solution(name)}, name, None, 0)
    assert example.examples
    printed: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=printed.append)
    assert not printed, "".join(printed)


@every_exercise
def test_the_task_says_what_goes_in_and_what_comes_out(name: str) -> None:
    exercise = EXERCISES[name]
    for argument in exercise.argument_names:
        assert f"\n{argument} " in exercise.task or f";  {argument} " in exercise.task
    first = next(trials(exercise))
    assert first.case == "the example"
    n_parts = len(first.expected) if isinstance(first.expected, tuple) else 1
    assert len(exercise.parts or {"": []}) == n_parts


@every_exercise
def test_the_file_holds_the_task_and_no_solution(name: str) -> None:
    exercise = EXERCISES[name]
    (function,) = [node for node in ast.parse(exercise.file).body if isinstance(node, ast.FunctionDef)]
    assert [argument.arg for argument in function.args.args] == exercise.argument_names
    assert inspect.cleandoc(ast.get_docstring(function) or "") == exercise.task
    assert [type(node) for node in function.body[1:]] == [ast.Raise]
    assert max(map(len, exercise.file.splitlines())) <= 110


@every_exercise
def test_hints_and_mistakes_speak_in_sentences(name: str) -> None:
    exercise = EXERCISES[name]
    assert exercise.hints
    for text in [*exercise.hints, *(mistake.explanation for mistake in exercise.mistakes)]:
        assert text[-1] in ".?)"


def test_mistakes_of_the_gallery_are_told_with_its_reasons() -> None:
    linked = {mistake.gallery for each in EXERCISES.values() for mistake in each.mistakes} - {""}
    assert len(linked) > 8
    explained = next(m for m in EXERCISES["attention"].mistakes if m.gallery == "no-scale").explanation
    assert GALLERY["no-scale"].because in explained
    assert "`minigpt break no-scale`" in explained
