"""Work on several cores at once: Python threads, each of which runs NumPy by itself.

NumPy lets go of Python's lock inside its loops and products, so threads that each take a part of the work
keep every core busy, in the elementwise half as well, which the threads of BLAS alone never reach. While
they run, BLAS is held to one thread, or both kinds of threads would fight over the cores.

Training works in `Threads` for a whole run. The forward pass has only fractions of a millisecond to share at
a time, so it asks for help (`in_parallel`) from threads that wait, and does by itself what nobody takes.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, copy_context
from itertools import pairwise
from queue import SimpleQueue
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
        self._has_cores = _everybody.acquire(blocking=False)
        _one_blas_thread.enter()
        self._executor = ThreadPoolExecutor(self.count, "minigpt")
        return self

    def __exit__(self, *_error: object) -> None:
        self._executor.shutdown()
        _one_blas_thread.leave()
        if self._has_cores:
            _everybody.release()

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
        self._lock, self._users, self._before = threading.Lock(), 0, list[int]()

    def enter(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before = [library.num_threads for library in _blas()]
                for library in _blas():
                    library.set_num_threads(1)
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                for library, number in zip(_blas(), self._before, strict=True):
                    library.set_num_threads(number)


@functools.cache
def _blas() -> list[Any]:
    """The BLAS libraries of this process; finding them takes a millisecond, so it is done once."""
    return ThreadpoolController().select(user_api="blas").lib_controllers


def has_small_kernel() -> bool:
    """Whether BLAS multiplies small matrices as they lie in memory, without copying them first.

    OpenBLAS does with its kernels for AVX-512 (interface/gemm.c there), up to a million multiplications.
    """
    return any(getattr(library, "architecture", "") == "SkylakeX" for library in _blas())


_one_blas_thread = _OneBlasThread()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread within."""
    _one_blas_thread.enter()
    try:
        yield
    finally:
        _one_blas_thread.leave()


# ------------------------------------------------------------------------------------ help for a moment

_everybody = threading.Lock()  # held by whoever has all cores at work
_calls: "SimpleQueue[tuple[Context, _Errand]]" = SimpleQueue()  # what the waiting helpers are called to


class _Errand:
    """Work on some items, which whoever has time takes one by one."""

    def __init__(self, work: Callable[[Any], object], items: Sequence[Any]) -> None:
        self.work, self.left, self.answers = work, iter(items), SimpleQueue[BaseException | None]()

    def run(self) -> None:
        """Take items until none is left. The next of an iterator goes to one thread alone."""
        for item in self.left:
            try:
                self.work(item)
                self.answers.put(None)
            except BaseException as error:  # it is raised by whoever asked for the work
                self.answers.put(error)


def in_parallel(work: Callable[[Item], object], items: Sequence[Item]) -> None:
    """`work` of every item, in no order, on all cores that are free; it must not matter who does which.

    While another caller has the cores, the items are done here, one after another. A helper that comes too
    late is not waited for, so that a busy machine costs no more than the help.
    """
    if len(items) == 1:
        work(items[0])  # with all the threads that BLAS has
        return
    if not _everybody.acquire(blocking=False):
        with one_blas_thread():  # as a helper would do it, to the bit
            for item in items:
                work(item)
        return
    try:
        with one_blas_thread():
            errand = _Errand(work, items)
            for _ in range(min(_helpers(os.getpid()), len(items) - 1) - _calls.qsize()):
                _calls.put((copy_context(), errand))  # with the caller's np.errstate
            errand.run()
            errors = [error for _ in items if (error := errand.answers.get()) is not None]
    finally:
        _everybody.release()
    if errors:
        raise errors[0]


@functools.cache
def _helpers(_process: int) -> int:
    """How many helpers wait: one for each core but the caller's. A forked process starts its own."""

    def wait() -> None:
        while True:
            context, errand = _calls.get()
            context.run(errand.run)
            del context, errand  # the arrays in it are not kept while waiting

    count = available_cores() - 1
    for _ in range(count):
        threading.Thread(target=wait, name="minigpt helper", daemon=True).start()
    return count
