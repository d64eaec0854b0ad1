"""What an exercise is: a function to write, the cases that test it, and the mistakes that many make in it.

The function in this package is the solution, and its docstring is the task: what goes in, what comes out, and
an example for paper, which is a doctest. A mistake is an edit of the solution: a line of it as many write it.
"""

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from ..inspection.gallery import MISTAKES as GALLERY

Function = Callable[..., Any]
Arguments = tuple[Any, ...]
Cases = dict[str, Arguments]  # what is passed to the function, by what is special about it

FILE = '''"""{title}

When it is written:  minigpt practice check {name}.py
When you are stuck:  minigpt practice {name} --hint 1
"""

import numpy as np


{signature}
    """{task}
    """
    raise NotImplementedError  # your lines go here
'''


@dataclass(frozen=True)
class Mistake:
    """A wrong way to write the solution: `edits` says what of its text is replaced, and by what."""

    says: str  # what is done instead of the right thing
    edits: Mapping[str, str]
    because: str = ""  # why the right thing is right
    gallery: str = ""  # the same mistake in `minigpt break`, which has the reason then

    @property
    def explanation(self) -> str:
        """What was done, why not, and where a whole model shows what that does."""
        if not self.gallery:
            return f"{self.says} {self.because}".strip()
        reason = GALLERY[self.gallery].because
        return f"{self.says} {reason} (`minigpt break {self.gallery}` shows what this does to a whole model.)"


@dataclass(frozen=True, eq=False)
class Exercise:
    """One function to write."""

    solution: Function
    cases: Callable[[np.random.Generator], Cases] = field(
        repr=False
    )  # the numbers are drawn, the sizes given
    real: Callable[[], Arguments] | None = field(repr=False)  # arrays of the model that ships, or None
    mistakes: tuple[Mistake, ...] = field(repr=False)
    hints: tuple[str, ...] = field(repr=False)
    use: Callable[[Function], str] = field(repr=False)  # the whole model with this function in it, in words

    @property
    def name(self) -> str:
        """The function's name, which is that of the exercise."""
        return self.solution.__name__

    @property
    def task(self) -> str:
        """What is to be written, in full."""
        return inspect.cleandoc(self.solution.__doc__ or "")

    @property
    def title(self) -> str:
        """What is to be written, in one line."""
        return self.task.splitlines()[0]

    @cached_property
    def argument_names(self) -> list[str]:
        """The names of the function's arguments."""
        return list(inspect.signature(self.solution).parameters)

    @property
    def signature(self) -> str:
        """The line with which the function begins."""
        return f"def {self.name}({', '.join(self.argument_names)}):"

    @property
    def file(self) -> str:
        """The file to fill in."""
        return FILE.format(
            title=self.title,
            name=self.name,
            signature=self.signature,
            task=textwrap.indent(self.task, "    ").lstrip(),
        )

    @property
    def parts(self) -> dict[str, list[str]]:
        """What is returned, and the names of its axes, as the task has them."""
        returned = self.task.partition("\nreturns ")[2].partition("\n\n")[0]
        found = re.findall(r"^ *(\w*) *\((.*?)\)", returned, re.MULTILINE)
        return {name: [axis for axis in re.split(r",\s*", axes) if axis] for name, axes in found}

    def tests(self, seed: int = 0) -> Cases:
        """All cases, the real model's arrays last."""
        real = {} if self.real is None else {"arrays of the real model": self.real()}
        return {**self.cases(np.random.default_rng(seed)), **real}

    @cached_property
    def wrong_ways(self) -> list[tuple[Mistake, Function]]:
        """Each mistake, and the solution with that mistake in it."""
        return [(mistake, edited(self.solution, mistake.edits)) for mistake in self.mistakes]

    @cached_property
    def doubly_wrong_ways(self) -> list[tuple[Mistake, Mistake, Function]]:
        """The solution with two mistakes in it, for all two whose edits do not touch the same text."""
        found = []
        for one, other in combinations(self.mistakes, 2):
            if one.edits.keys() & other.edits.keys():
                continue
            with suppress(ValueError, SyntaxError):
                found.append((one, other, edited(self.solution, {**one.edits, **other.edits})))
        return found


@lru_cache(maxsize=64)
def source_of(function: Function) -> str:
    """The text of a function."""
    return inspect.getsource(function)


def edited(function: Function, edits: Mapping[str, str]) -> Function:
    """A function whose body differs from another's by these replacements, each of text that is there once."""
    plain = inspect.unwrap(function)
    head, docstring, body = source_of(plain).split('"""')
    for old, new in edits.items():
        if body.count(old) != 1:
            raise ValueError(f"{plain.__name__}: {old!r} is there {body.count(old)} times; expected once.")
        body = body.replace(old, new)
    namespace = dict(plain.__globals__)
    exec(compile(f'{head}"""{docstring}"""{body}', f"<{plain.__name__} with a mistake>", "exec"), namespace)
    return namespace[plain.__name__]
