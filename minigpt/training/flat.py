"""A copy of a model whose parameters lie side by side in one buffer: the one that training changes."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from ..model import GPT2
from ..parameters import arrays_by_name, transform

Flat = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class FlatModel:
    """A model, and the buffer that all of its parameters are views of."""

    model: GPT2
    buffer: Flat
    places: dict[str, slice]  # a parameter's part of the buffer, by checkpoint name
    n_matrix: int  # so many numbers at the beginning belong to tables and matrices, the rest to vectors


def flatten(model: GPT2, dtype: Any = np.float32) -> FlatModel:
    """A copy of the model in one buffer, in which tables and matrices come first."""
    arrays = arrays_by_name(model.parameters)
    matrices = [name for name, array in arrays.items() if array.ndim > 1]
    vectors = [name for name, array in arrays.items() if array.ndim == 1]
    places, end = {}, 0
    for name in matrices + vectors:
        places[name] = slice(end, end + arrays[name].size)
        end += arrays[name].size
    buffer = np.empty(end, dtype)

    def view(name: str, array: np.ndarray) -> np.ndarray:
        copy = buffer[places[name]].reshape(array.shape)
        copy[...] = array
        return copy

    n_matrix = sum(arrays[name].size for name in matrices)
    return FlatModel(replace(model, parameters=transform(model.parameters, view)), buffer, places, n_matrix)
