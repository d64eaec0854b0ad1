"""Work on several cores at once: Python threads, each of which runs NumPy by itself.

NumPy lets go of Python's lock inside its loops and products, so threads that each take a part of the work
keep every core busy, in the elementwise half as well, which the threads of BLAS alone never reach. While
they run, BLAS is held to one thread, or both kinds of threads would fight over the cores.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS and Windows do not have it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Threads:
    """A few threads, as a context manager. What they are given and give back keeps its order.

    with Threads(2) as threads:
        results = threads.map(work, parts)
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = available_cores() if count is None else count

    def __enter__(self) -> "Threads":
        keep_freed_memory()
        _one_blas_thread.enter()
        self._executor = ThreadPoolExecutor(self.count, "minigpt")
        return self

    def __exit__(self, *_error: object) -> None:
        self._executor.shutdown()
        _one_blas_thread.leave()

    def start(self, work: Callable[..., Result], *arguments: Any) -> "Future[Result]":
        """Begin some work; the `result()` of what comes back waits for it."""
        # A new thread knows nothing of the caller's np.errstate, unless it runs in a copy of its context.
        return self._executor.submit(copy_context().run, work, *arguments)

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """`work` of every item; the results come in the order of the items."""
        started = [self.start(work, item) for item in items]
        return [future.result() for future in started]

    def split(self, items: Sequence[Item]) -> list[Sequence[Item]]:
        """The items in as many runs as there are threads, equally long or nearly; none of them is empty."""
        ends = [len(items) * n // self.count for n in range(self.count + 1)]
        return [items[start:end] for start, end in pairwise(ends) if end > start]


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep what is freed instead of giving it back to the system, piece by piece.

    glibc raises its bounds to the largest piece that was ever freed, up to 32 MB. Below them every array of a
    step would come from the system anew, page by page, which took a third of the time of small models.
    """
    np.empty(31 << 20, np.uint8)  # and freed at once


class _OneBlasThread:
    """Holds BLAS to one thread while anybody needs it.

    The number belongs to the whole process: the first to come stores it, and the last to go restores it.
    """

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0

    def enter(self) -> None:
        with self._lock:
            if self._users == 0:
                self._limit: Any = _controller().limit(limits=1, user_api="blas")
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._limit.restore_original_limits()


@functools.cache
def _controller() -> ThreadpoolController:
    """Finding the libraries takes a millisecond, so it is done once."""
    return ThreadpoolController()


_one_blas_thread = _OneBlasThread()
