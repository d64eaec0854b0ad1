"""The gradients of one batch, found by several threads: each takes some of its rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
from jaxtyping import Float, Int

from ..backward import Piece, add, pieces_of
from ..model import GPT2
from ..parallel import Threads


@dataclass(frozen=True)
class Batch:
    """Rows of ids, the ids that should follow them, and the coefficient c of each position's −log p."""

    ids: Int[np.ndarray, "rows tokens"]
    targets: Int[np.ndarray, "rows tokens"]
    weights: Float[np.ndarray, "rows tokens"]


@np.errstate(all="ignore")  # what overflows shows in the loss, which the loop looks at
def batch_gradients(
    model: GPT2, batch: Batch, threads: Threads, total: dict[str, np.ndarray]
) -> float:
    """The loss Σ c (−log p) of a batch; its gradients are added to `total`, always in the same order."""
    queues: list[SimpleQueue[Piece | None]] = []
    losses = []
    for rows in threads.split(range(len(batch.ids))):
        queues.append(SimpleQueue())
        losses.append(threads.start(work, model, batch, slice(rows[0], rows[-1] + 1), queues[-1]))
    add(total, in_turn(queues))
    return sum(loss.result() for loss in losses)


def work(model: GPT2, batch: Batch, rows: slice, queue: "SimpleQueue[Piece | None]") -> float:
    """Hand out one parameter's gradient after the other, so that the first are added up meanwhile."""
    try:
        weights = batch.weights[rows]
        logprobs, pieces = pieces_of(model, batch.ids[rows], batch.targets[rows], weights)
        for piece in pieces:
            queue.put(piece)
        return -float((weights * logprobs).sum(dtype=np.float64))
    finally:
        queue.put(None)  # also after an error, or the others would wait for ever


def in_turn(queues: "list[SimpleQueue[Piece | None]]") -> Iterator[Piece]:
    """The first piece of every thread, then the second of every thread, and so on."""
    for pieces in zip(*(iter(queue.get, None) for queue in queues), strict=False):
        yield from pieces
