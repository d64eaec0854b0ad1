"""From gradients to changes of the parameters: AdamW, clipping and a schedule, in torch's order.

AdamW (Loshchilov & Hutter 2019) divides a running mean of each gradient by the root of the running mean of
its square. Every number then moves at about the same pace, the learning rate, however large its gradient is.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..parallel import Threads
from .flat import Flat, FlatModel

Gradients = Mapping[str, np.ndarray]

# Numbers at a time: the six arrays of this length that a step works on fit into a core's own cache. A pass
# over memory that does not fit costs more than the arithmetic.
CHUNK = 1 << 15


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """Of a step, counted from 0: up to the peak in a straight line, then down to a tenth in half a cosine."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * (0.1 + 0.45 * (1.0 + math.cos(math.pi * (step - warmup) / (steps - warmup))))


def gradient_norm(gradients: Gradients, threads: Threads) -> float:
    """The length of all gradients as one vector; a tied table has one gradient, and so counts once."""

    def square_sum(some: Sequence[np.ndarray]) -> float:
        return sum(float(np.dot(flat, flat)) for flat in (array.reshape(-1) for array in some))

    return math.sqrt(sum(threads.map(square_sum, threads.split(list(gradients.values())))))


def clip_factor(norm: float, longest: float) -> float:
    """What shortens gradients of length `norm` to the `longest` allowed. The 1e-6 is torch's."""
    return min(1.0, longest / (norm + 1e-6))


@dataclass(frozen=True)
class Chunk:
    """A part of the flat buffer, and the pieces of gradients that belong to it."""

    where: slice
    pieces: list[tuple[slice, str, slice]]  # part of the chunk, a gradient's name, part of the gradient


def chunks(flat: FlatModel) -> list[Chunk]:
    """The buffer in chunks, of which none holds both what decays and what does not."""
    found = []
    for begin, end in ((0, flat.n_matrix), (flat.n_matrix, flat.buffer.size)):
        for start in range(begin, end, CHUNK):
            where = slice(start, min(start + CHUNK, end))
            found.append(Chunk(where, list(overlaps(where, flat.places))))
    return found


def overlaps(where: slice, places: Mapping[str, slice]) -> Iterator[tuple[slice, str, slice]]:
    """The pieces of parameters that lie in a part of the buffer."""
    for name, place in places.items():
        first, last = max(where.start, place.start), min(where.stop, place.stop)
        if first < last:
            in_chunk = slice(first - where.start, last - where.start)
            yield in_chunk, name, slice(first - place.start, last - place.start)


class AdamW:
    """The running means of a model's gradients, and the step that moves its parameters by them."""

    def __init__(self, flat: FlatModel, beta1: float, beta2: float, epsilon: float, decay: float) -> None:
        self.flat, self.beta1, self.beta2, self.epsilon, self.decay = flat, beta1, beta2, epsilon, decay
        self.first, self.second = np.zeros_like(flat.buffer), np.zeros_like(flat.buffer)
        self.steps = 0
        self._chunks = chunks(flat)

    def step(self, gradients: Gradients, rate: float, factor: float, threads: Threads) -> None:
        """Move every parameter once, by its gradient times the `factor` of clipping."""
        self.steps += 1
        flat = {name: gradient.reshape(-1) for name, gradient in gradients.items()}

        def work(some: Sequence[Chunk]) -> None:
            g, scratch = np.empty((2, CHUNK), self.first.dtype)
            for chunk in some:
                n = chunk.where.stop - chunk.where.start
                for into, name, source in chunk.pieces:
                    np.multiply(flat[name][source], factor, out=g[into])
                self._move(chunk.where, g[:n], scratch[:n], rate)

        threads.map(work, threads.split(self._chunks))

    def _move(self, where: slice, g: Flat, scratch: Flat, rate: float) -> None:
        """One step of AdamW on a part of the buffers, in their own memory; `g` is used up."""
        p, m, v = self.flat.buffer[where], self.first[where], self.second[where]
        if where.start < self.flat.n_matrix:
            # Biases and gains do not decay: a gain that shrinks to 0 silences what it belongs to.
            p *= 1.0 - rate * self.decay
        np.subtract(g, m, out=scratch)
        scratch *= 1.0 - self.beta1
        m += scratch  # m = β₁ m + (1 − β₁) g
        v *= self.beta2
        g *= g
        g *= 1.0 - self.beta2
        v += g  # v = β₂ v + (1 − β₂) g²
        # Both means began at 0, and are too small by 1 − βᵗ until they have forgotten it.
        np.sqrt(v, out=g)
        g /= math.sqrt(1.0 - self.beta2**self.steps)
        g += self.epsilon
        np.divide(m, g, out=g)
        g *= rate / (1.0 - self.beta1**self.steps)
        p -= g
