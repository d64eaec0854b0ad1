"""The gradients of one batch, found by several threads: each takes a part of it."""

from collections.abc import Iterator, Sequence
from queue import SimpleQueue

import numpy as np

from ..backward import PerToken, Piece
from ..model import GPT2
from ..parallel import Threads
from ..tape import add, pieces_of
from .losses import Batch, CrossEntropy


@np.errstate(all="ignore")  # what overflows shows in the loss, and the loop looks at that
def batch_gradients(
    model: GPT2, parts: Sequence[Batch], threads: Threads, total: dict[str, np.ndarray]
) -> float:
    """The loss of a batch, given in one part for each thread; its gradients are added to `total`.

    They are added in the order of the parts, so that a run repeats bit for bit with as many threads.
    """
    queues: list[SimpleQueue[Piece | None]] = [SimpleQueue() for _ in parts]
    losses = [threads.start(work, model, part, queue) for part, queue in zip(parts, queues, strict=True)]
    add(total, in_turn(queues))
    return sum(loss.result() for loss in losses)


def work(model: GPT2, part: Batch, queue: "SimpleQueue[Piece | None]") -> float:
    """Hand out one parameter's gradient after the other: each is added up while the next is computed."""

    def coefficients(logprobs: PerToken) -> PerToken:
        return part.loss(logprobs)[1]

    try:
        known = part.loss.weights if isinstance(part.loss, CrossEntropy) else coefficients
        logprobs, pieces = pieces_of(model, part.ids, part.targets, known)
        for piece in pieces:
            queue.put(piece)
        return part.loss(logprobs)[0]
    finally:
        queue.put(None)  # after an error too, or who waits for the next piece would wait for ever


def in_turn(queues: "Sequence[SimpleQueue[Piece | None]]") -> Iterator[Piece]:
    """The first piece of every part, then the second of every part, and so on."""
    for pieces in zip(*(iter(queue.get, None) for queue in queues), strict=False):
        yield from pieces
