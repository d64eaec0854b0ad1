"""A copy of a model whose parameters lie side by side in one buffer: the one that training changes."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from ..model import GPT2

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
    arrays = named_arrays(model)
    arrays = dict(sorted(arrays.items(), key=lambda item: item[1].ndim == 1))
    buffer = np.empty(sum(array.size for array in arrays.values()), dtype)
    places: dict[str, slice] = {}
    views: dict[str, np.ndarray] = {}
    end = 0
    for name, array in arrays.items():
        places[name] = slice(end, end + array.size)
        views[name] = buffer[places[name]].reshape(array.shape)
        views[name][...] = array
        end += array.size
    n_matrix = sum(array.size for array in arrays.values() if array.ndim > 1)
    return FlatModel(with_arrays(model, views), buffer, places, n_matrix)


def named_arrays(model: GPT2) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def walk(name: str, node: Any) -> None:
        if isinstance(node, np.ndarray):
            found[name] = node
        elif isinstance(node, tuple):
            for index, item in enumerate(node):
                walk(f"{name}.{index}", item)
        else:
            for field in fields(node):
                walk(f"{name}.{field.name}", getattr(node, field.name))

    p = model.parameters
    walk("wte.weight", p.wte)
    walk("wpe.weight", p.wpe)
    walk("h", p.h)
    walk("ln_f", p.ln_f)
    if p.lm_head is not p.wte:
        walk("lm_head.weight", p.lm_head)
    return found


def with_arrays(model: GPT2, arrays: dict[str, np.ndarray]) -> GPT2:
    def build(name: str, node: Any) -> Any:
        if isinstance(node, np.ndarray):
            return arrays[name]
        if isinstance(node, tuple):
            return tuple(build(f"{name}.{index}", item) for index, item in enumerate(node))
        return replace(
            node, **{field.name: build(f"{name}.{field.name}", getattr(node, field.name)) for field in fields(node)}
        )

    p = model.parameters
    wte = arrays["wte.weight"]
    parameters = replace(
        p,
        wte=wte,
        wpe=arrays["wpe.weight"],
        h=build("h", p.h),
        ln_f=build("ln_f", p.ln_f),
        lm_head=arrays.get("lm_head.weight", wte),
    )
    return replace(model, parameters=parameters)
