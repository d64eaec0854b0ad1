"""Every named intermediate of one forward pass: its value, its shape, and the line of code that made it.

t = trace(model, ids)
t                                  # a table: name, shape, function and line
t["h.3.attn.weights"]              # one array
t.stack("h.*.attn.weights")        # all layers in one array, (n_layer, n_head, tokens, tokens)
"""

import fnmatch
import inspect
import linecache
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check_class, checked_classes, checked_ids, checked_items
from ..errors import InputError
from ..hooks import Hook
from ..model import GPT2, Cache
from .intervention import chain
from .notebook import html_table

LARGE = 1 << 20  # bytes; `trace` by default computes what is larger only when it is asked for
ROOT = Path(__file__).resolve().parents[2]  # of the checkout, or of the installation


class UnknownNameError(InputError, KeyError):
    """Nothing in a forward pass has this name."""

    __str__ = Exception.__str__  # a KeyError would put the message into quotation marks


@dataclass(frozen=True)
class Intermediate:
    """What is known about an array without holding it."""

    name: str  # the hook's name for it, such as "h.3.attn.weights"
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    function: str  # the function of model.py that computed it
    path: str  # the file of that function; another than model.py for an alternative block
    line: int  # the line on which it was handed to the hook

    @property
    def where(self) -> str:
        """File and line, as editors and terminals understand them: "model.py:181"."""
        return f"{Path(self.path).name}:{self.line}"

    @property
    def code(self) -> str:
        """The text of that line."""
        return linecache.getline(self.path, self.line).strip()


class Trace(Mapping[str, np.ndarray]):
    """The intermediates of one forward pass, by name, in the order in which they were computed.

    A mapping from names to arrays, which are read-only. An array that was not kept is computed again, by
    another forward pass, when it is asked for; the model and the ids cannot have changed in between.
    """

    def __init__(
        self,
        model: GPT2,
        ids: np.ndarray,
        hook: Hook | None,
        names: Iterable[str] | None,
        logits_to_keep: int,
        cache: Cache = None,
    ) -> None:
        self.model, self.ids, self.hook, self.logits_to_keep = model, ids, hook, logits_to_keep
        self._cache = cache
        self.intermediates: dict[str, Intermediate] = {}
        self._kept: dict[str, np.ndarray] = {}
        patterns = None if names is None else tuple(names)
        if cache is not None:
            patterns = ("*",)  # it moves on, and nothing can be computed a second time
        self._run(lambda name, array: array.nbytes <= LARGE if patterns is None else matches(name, patterns))
        for pattern in patterns or ():
            self._names(pattern)

    def _run(self, wanted: Callable[[str, np.ndarray], bool]) -> None:
        def record(name: str, array: np.ndarray) -> np.ndarray:
            code, line = _maker(sys._getframe(1))
            self.intermediates[name] = Intermediate(
                name, array.shape, array.dtype, code.co_qualname, code.co_filename, line
            )
            if wanted(name, array):
                self._kept[name] = array.view()  # a flag of its own: the array may be a hook's
                self._kept[name].flags.writeable = False
            return array

        hook = chain(self.hook, record)
        self.model(self.ids, cache=self._cache, hook=hook, logits_to_keep=self.logits_to_keep)

    def _names(self, pattern: str) -> list[str]:
        check_class("pattern", pattern, (str,))
        names = [name for name in self.intermediates if matches(name, (pattern,))]
        if not names:
            raise UnknownNameError(
                f"trace: nothing is called {pattern!r}; names are like 'wte', 'h.0.attn.weights', "
                "'h.*.resid_post' or 'logits' (print the trace to see them all)."
            )
        return names

    def select(self, pattern: str = "*") -> dict[str, np.ndarray]:
        """The arrays whose names match, such as "h.*.attn.weights"; `*` is any text, also with dots.

        What is not at hand yet is computed by one forward pass. Raises `InputError` if nothing matches.
        """
        names = self._names(pattern)
        missing = set(names) - self._kept.keys()
        if missing:
            self._run(lambda name, _array: name in missing)
        return {name: self._kept[name] for name in names}

    def stack(self, pattern: str) -> np.ndarray:
        """The matching arrays in one, with a new first axis: (n_layer, …) for "h.*.attn.weights"."""
        arrays = self.select(pattern)
        if len({array.shape for array in arrays.values()}) > 1:
            raise InputError(f"trace: {pattern!r} matches arrays of different shapes, which do not stack.")
        return np.stack(list(arrays.values()))

    def __getitem__(self, name: str) -> np.ndarray:
        found = self.select(name)
        if name not in found:
            raise UnknownNameError(
                f"trace: {name!r} is a pattern, and [...] takes one name; .select({name!r}) gives all that "
                f"match, .stack({name!r}) puts them into one array."
            )
        return found[name]

    def __contains__(self, name: object) -> bool:
        return name in self.intermediates

    def __iter__(self) -> Iterator[str]:
        return iter(self.intermediates)

    def __len__(self) -> int:
        return len(self.intermediates)

    def __repr__(self) -> str:
        rows = [(*row, found.where, found.function, found.code) for row, found in self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ("  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows)
        head = f"{len(self)} intermediates of one forward pass, {len(self._kept)} of them kept"
        return "\n".join((head, *(line if len(line) <= 120 else f"{line[:119]}…" for line in lines)))

    def _repr_html_(self) -> str:
        rows = [[*row, found.where, found.function, found.code] for row, found in self._rows()]
        return html_table(["name", "shape", "line", "function", "code"], rows)

    def _rows(self) -> Iterator[tuple[tuple[str, str], Intermediate]]:
        """One row per array; the blocks, which are alike, share theirs."""
        seen = set()
        for found in self.intermediates.values():
            name = re.sub(r"^h\.\d+\.", "h.*.", found.name)
            key = (name, found.shape, found.where)
            if key not in seen:
                seen.add(key)
                yield (name, str(found.shape)), found

    @cached_property
    def logits(self) -> np.ndarray:
        """What the forward pass returned."""
        return self["logits"]


@checked_classes
def trace(
    model: GPT2,
    ids: ArrayLike,
    *,
    names: str | Iterable[str] | None = None,
    hook: Hook | None = None,
    logits_to_keep: int = 0,
    cache: Cache = None,
) -> Trace:
    """Run the model once and remember what happened inside.

    `names` are patterns of what to keep, such as "h.*.attn.weights"; without them every array of at most
    a megabyte is kept. The others are listed too, and computed when asked for. With a `hook`, the trace
    shows what the model went on with; `logits_to_keep` is the model's own. With a `cache` the ids continue
    the tokens in it, and all is kept. Raises `InputError` for ids that the model cannot take, and for a
    pattern that matches nothing.
    """
    expected = "patterns such as 'h.*.attn.weights'"
    patterns = None if names is None else checked_items("names", names, str, expected)
    copy = np.array(checked_ids(ids, model.config))  # which nobody changes before the model runs again
    return Trace(model, copy, hook, patterns, logits_to_keep, cache)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether the name fits one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _maker(frame: FrameType) -> tuple[Any, int]:
    """The code that handed an array to the hook, and its line.

    The functions of the model stand at the top of their module; what lies between them and here are the
    functions inside functions that hooks are made of.
    """
    while "<locals>" in frame.f_code.co_qualname and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lineno


def file_name(path: str | Path) -> str:
    """The file as a reader of the project calls it: `minigpt/model.py`; elsewhere its name alone."""
    file = Path(path)
    return (file.relative_to(ROOT) if file.is_relative_to(ROOT) else Path(file.name)).as_posix()


def definition(function: Callable[..., Any]) -> tuple[list[str], int]:
    """The source lines of a function from its `def` on, and the number of the first.

    There are no lines if Python was installed without sources; decorators do not count.
    """
    original = inspect.unwrap(function)
    try:
        lines, number = inspect.getsourcelines(original)
    except OSError:
        return [], original.__code__.co_firstlineno
    while not lines[0].lstrip().startswith("def "):
        lines, number = lines[1:], number + 1
    return lines, number
