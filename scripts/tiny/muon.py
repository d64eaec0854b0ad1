"""Muon, an optimizer for the matrices of blocks (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

A gradient's running mean is mostly a few strong directions. Muon makes all singular values of it nearly
equal before it is applied, so that every direction of a matrix learns at the same pace; that was worth about
5 % of tiny's loss.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from minigpt.parallel import Threads

Matrix = Float[np.ndarray, "n_in n_out"]

MOMENTUM = 0.95
# One iteration maps each singular value s to a s + b s³ + c s⁵: five of them bring whatever lies between
# about 0.001 and 1 to between about 0.7 and 1.2, which is as good as 1 here.
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalize(matrix: Matrix) -> Matrix:
    """A matrix with the same singular vectors, whose singular values are all near 1."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / max(float(np.linalg.norm(wide)), 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = A * x + (B * square + C * (square @ square)) @ x
    return x if wide is matrix else x.T


def parts(name: str, matrix: Matrix) -> list[tuple[slice, slice]]:
    """The matrices that lie in one array: those of queries, keys and values lie side by side in `c_attn`."""
    n_in, n_out = matrix.shape
    width = n_in if name.endswith("attn.c_attn.weight") else n_out
    return [(slice(None), slice(start, start + width)) for start in range(0, n_out, width)]


class Muon:
    """The running means of some matrices' gradients, and the step that moves the matrices by them."""

    def __init__(self, matrices: Mapping[str, Matrix], decay: float) -> None:
        self.matrices, self.decay = matrices, decay
        self.means = {name: np.zeros_like(matrix) for name, matrix in matrices.items()}

    def step(self, gradients: Mapping[str, np.ndarray], rate: float, factor: float, threads: Threads) -> None:
        """Move every matrix once, by its gradient times the `factor` of clipping."""

        def work(names: Sequence[str]) -> None:
            for name in names:
                self._move(name, gradients[name] * np.float32(factor), rate)

        threads.map(work, threads.split(list(self.matrices)))

    def _move(self, name: str, g: Matrix, rate: float) -> None:
        matrix, mean = self.matrices[name], self.means[name]
        mean += (1.0 - MOMENTUM) * (g - mean)
        ahead = g + MOMENTUM * (mean - g)  # Nesterov: where the mean will be after one more such gradient
        matrix *= 1.0 - rate * self.decay
        for part in parts(name, matrix):
            # A step is as long as AdamW's usually is, 0.2 in the root of the mean square, so that the
            # learning rates of both can be compared.
            step = 0.2 * max(matrix[part].shape) ** 0.5 * rate
            matrix[part] -= step * orthogonalize(ahead[part])
