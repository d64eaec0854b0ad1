"""Work on several cores at once: Python threads, each of which runs NumPy by itself.

NumPy lets go of Python's lock inside its loops and products, so threads that each take a part of the work
keep every core busy, in the elementwise half as well, which the threads of BLAS alone never reach. While
they run, BLAS is held to one thread, or both kinds of threads would fight over the cores.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Threads:
    """A few threads, as a context: `map` gives each a part of the work, in a fixed order.

    The number of threads of BLAS belongs to the whole process, so it is set back when the last context
    ends, and a host program finds its own again.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> "Threads":
        self._executor = ThreadPoolExecutor(self.count, "minigpt")
        _limit.acquire()
        return self

    def __exit__(self, *_error: object) -> None:
        _limit.release()
        self._executor.shutdown()

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """`work` of every item, at the same time; the results come in the order of the items."""
        return list(self._executor.map(work, items))

    def start(self, work: Callable[[], Result]) -> "Future[Result]":
        """Begin some work; its `result()` waits for it."""
        return self._executor.submit(work)
