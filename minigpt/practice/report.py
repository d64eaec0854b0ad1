"""What the checker found, in words: a report that prints itself, in a terminal and in a notebook."""

import html
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field

from .comparison import NO_BREAK

WIDTH = 88  # columns of text, where nobody asks for another width


@dataclass(frozen=True)
class Test:
    """One case in one precision."""

    case: str
    precision: str  # "float64", "float32", or "" where there is nothing to round
    problem: str = ""  # what is wrong, in a sentence or two; empty where nothing is

    @property
    def name(self) -> str:
        """Which test this is."""
        return f"{self.case}, {self.precision}" if self.precision else self.case


@dataclass(frozen=True)
class Report:
    """How a function did in an exercise."""

    exercise: str
    tests: tuple[Test, ...]
    diagnosis: str = ""  # which known mistake it is
    remarks: tuple[str, ...] = ()  # what is worth knowing, right or wrong
    story: str = field(
        default="", compare=False
    )  # of a right function: its time, and the whole model with it
    is_judged: bool = True  # not where the time ran out

    @property
    def is_right(self) -> bool:
        """Whether every test was passed."""
        return not any(test.problem for test in self.tests)

    @property
    def headline(self) -> str:
        """The result in one line."""
        passed = sum(not test.problem for test in self.tests)
        if self.is_right:
            return f"{self.exercise} is right: {passed} of {len(self.tests)} tests passed."
        if not self.is_judged:
            return f"{self.exercise} could not be judged: the time ran out."
        return f"{self.exercise} is not right yet: {passed} of {len(self.tests)} tests passed."

    def paragraphs(self) -> Iterator[str]:
        """What is said below the table."""
        wrong = next((test for test in self.tests if test.problem), None)
        if wrong:
            which = "First wrong" if self.is_judged else "Not finished"
            yield f"{which} ({wrong.name}): {wrong.problem}"
        yield from filter(None, (self.diagnosis, *self.remarks, self.story))

    def rows(self) -> list[list[str]]:
        """A row per case: its name, and how it went in each precision."""
        found: dict[str, list[str]] = {}
        for test in self.tests:
            verdict = ("wrong" if self.is_judged else "not judged") if test.problem else "right"
            found.setdefault(test.case, []).append(f"{test.precision} {verdict}".strip())
        return [[case, *verdicts] for case, verdicts in found.items()]

    def text(self, width: int = WIDTH) -> str:
        """All of it, in lines of at most so many columns."""
        rows = self.rows()
        widest = min(max(len(row[0]) for row in rows), max(width - 36, 12))
        lines = [self.headline, ""]
        for case, *verdicts in rows:
            first, *more = textwrap.wrap(case, widest)
            lines += [
                f"  {first:<{widest}}  {'  '.join(verdicts)}".rstrip(),
                *(f"    {each}" for each in more),
            ]
        for paragraph in self.paragraphs():
            lines.append("")
            for line in paragraph.splitlines():
                lines += textwrap.wrap(line, width, break_on_hyphens=False) or [""]
        return "\n".join(lines).replace(NO_BREAK, " ")

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        colour = "seagreen" if self.is_right else "firebrick"
        cells = (
            "".join(f"<td style='text-align: left'>{html.escape(cell)}</td>" for cell in row)
            for row in self.rows()
        )
        table = "".join(f"<tr>{row}</tr>" for row in cells)
        texts = "".join(
            f"<p style='white-space: pre-line'>{html.escape(paragraph)}</p>"
            for paragraph in self.paragraphs()
        )
        return (
            f"<p><b style='color: {colour}'>{html.escape(self.headline)}</b></p><table>{table}</table>{texts}"
        )
