"""The parity ledger: this machine's numbers against what torch computed, stored with the package.

`scripts/tiny/reference.py` ran `GPT2LMHeadModel` on one prompt and one model file and wrote down, for every
intermediate tensor, values in float64 at fixed places, and all of the last token's logits in float32. So
anyone can check that the code is right on their machine, without torch. They stand in
`minigpt/data/reference.json`, beside the figures that others published (facts.py).

Two questions are asked of every tensor. In float64: is the formula the same? Nothing but a different
computation is further off than 1e-9. In float32, as the program runs: is the rounding as small as it
should be? Beside it stands how far torch's own float32 was off.
"""

import base64
import hashlib
import json
import os
import platform
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike

from .. import __version__
from ..errors import CheckpointError
from ..model import GPT2
from .tracing import trace

N_SAMPLES = 128  # values kept of each tensor
# Largest differences allowed, relative to the tensor's largest value. Measured: about 1e-15 and 2e-6, with
# one BLAS on one machine; another adds up in another order.
TOLERANCE_FLOAT64, TOLERANCE_FLOAT32 = 1e-9, 1e-5


@dataclass(frozen=True)
class Reference:
    """What torch computed, for one prompt on one model file."""

    prompt: str
    ids: list[int]
    sha256: str  # of the model's safetensors file
    versions: dict[str, str]  # of torch and transformers
    shapes: dict[str, tuple[int, ...]]  # by hook name, in order
    largest: dict[str, float]  # the largest absolute value of each tensor, -inf apart
    torch_differences: dict[str, float]  # largest difference between torch's float32 and its float64
    samples: dict[str, Float[np.ndarray, " n"]]  # float64
    last_logits: Float[np.ndarray, " vocab"]  # float32, as GPT2LMHeadModel returned them

    def save(self, path: Path) -> None:
        """Put it into the data file in the place of the old one: a line for each tensor."""
        tensors = [
            {
                "name": name,
                "shape": shape,
                "largest": self.largest[name],
                "torch_difference": self.torch_differences[name],
                "samples": encoded(self.samples[name], "<f8"),
            }
            for name, shape in self.shapes.items()
        ]
        tiny = {"prompt": self.prompt, "ids": self.ids, "sha256": self.sha256, "versions": self.versions}
        parts = json.loads(path.read_text(encoding="utf-8")) | {
            "tiny": tiny,
            "tensors": tensors,
            "last_logits": encoded(self.last_logits, "<f4"),
        }
        lines = ",\n".join(f"{json.dumps(name)}: {on_lines(value)}" for name, value in parts.items())
        path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8", newline="\n")


def on_lines(value: Any) -> str:
    """JSON, and of a list a line for each item."""
    if isinstance(value, list):
        return "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]"
    return json.dumps(value, ensure_ascii=False)


def encoded(array: np.ndarray, dtype: str) -> str:
    """The exact numbers as text: base64 of their bytes."""
    return base64.b64encode(array.astype(dtype).tobytes()).decode("ascii")


def decoded(text: str, dtype: str) -> np.ndarray:
    """The inverse of `encoded`."""
    return np.frombuffer(base64.b64decode(text), dtype)


@dataclass(frozen=True)
class Row:
    """One tensor, compared. Differences are the largest absolute ones."""

    name: str
    shape: tuple[int, ...]
    float32: float
    float32_tolerance: float
    torch_float32: float | None  # how far torch's own float32 was from its float64
    float64: float | None
    float64_tolerance: float | None

    @property
    def passed(self) -> bool:
        """Whether both differences are within their tolerances (NaN is not)."""
        formula = (
            self.float64 is None or self.float64_tolerance is None or self.float64 <= self.float64_tolerance
        )
        return formula and self.float32 <= self.float32_tolerance


def data_file() -> dict[str, Any]:
    """What ships with the package: published facts, and what torch computed. Raises `CheckpointError`."""
    file = resources.files("minigpt") / "data" / "reference.json"
    if not file.is_file():
        raise CheckpointError(
            f"{file}: it is missing; install minigpt-numpy again, or restore it in a clone."
        )
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return data


def load_reference() -> Reference:
    """The reference that ships with the package, made on `tiny`. Raises `CheckpointError` if it is gone."""
    data = data_file()
    tensors = {entry["name"]: entry for entry in data["tensors"]}
    return Reference(
        **data["tiny"],
        shapes={name: tuple(entry["shape"]) for name, entry in tensors.items()},
        largest={name: entry["largest"] for name, entry in tensors.items()},
        torch_differences={name: entry["torch_difference"] for name, entry in tensors.items()},
        samples={name: decoded(entry["samples"], "<f8") for name, entry in tensors.items()},
        last_logits=decoded(data["last_logits"], "<f4"),
    )


def places(shape: tuple[int, ...]) -> np.ndarray:
    """Where a tensor of this shape is sampled: indices into it, laid out flat, all different.

    Steps of a prime larger than any tensor visit every place once before they come back.
    """
    size = int(np.prod(shape))
    return np.arange(min(N_SAMPLES, size), dtype=np.int64) * 2_654_435_761 % size


def sample(array: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, " n"]:
    """The values of an array at those places, in float64."""
    return array.ravel()[places(array.shape)].astype(np.float64)


def check_file(reference: Reference, path: Path) -> None:
    """Raise `CheckpointError` unless this is the model file that the reference was made on."""
    file = path / "model.safetensors" if path.is_dir() else path
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != reference.sha256:
        raise CheckpointError(
            f"{file}: sha256 is {found[:12]}…; the reference was made on {reference.sha256[:12]}… and says "
            "nothing about this file. Restore it, or run: python -m scripts.tiny.reference"
        )


def compare(model: GPT2, reference: Reference) -> list[Row]:
    """Run the model in float32 and in float64 and compare every tensor with the reference."""
    single, double = (traced(model, dtype, reference) for dtype in (np.float32, np.float64))
    rows = [
        Row(
            name,
            shape,
            largest_difference(single[name], reference.samples[name]),
            float32_tolerance(reference, name),
            reference.torch_differences[name],
            largest_difference(double[name], reference.samples[name]),
            TOLERANCE_FLOAT64 * reference.largest[name],
        )
        for name, shape in reference.shapes.items()
    ]
    logits = model(reference.ids)[-1]  # without a hook: the way that users go
    difference = largest_difference(logits, reference.last_logits)
    tolerance = float32_tolerance(reference, "logits")
    return [*rows, Row("logits[-1], all of them", logits.shape, difference, tolerance, None, None, None)]


def float32_tolerance(reference: Reference, name: str) -> float:
    """How far a float32 tensor may be off: little, or, where torch's own rounding is larger, as little."""
    return max(TOLERANCE_FLOAT32 * reference.largest[name], 3 * reference.torch_differences[name])


def traced(model: GPT2, dtype: Any, reference: Reference) -> dict[str, Float[np.ndarray, " n"]]:
    """The samples of one pass in this precision; empty where the shape is not the reference's."""
    found = trace(model.astype(dtype), reference.ids, names="*")
    return {
        name: sample(found[name]) if name in found and found[name].shape == shape else np.zeros(0)
        for name, shape in reference.shapes.items()
    }


def largest_difference(found: ArrayLike, expected: ArrayLike) -> float:
    """The largest absolute difference; where both are -inf there is none. Other shapes are infinitely far."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        return float("inf")
    differ = found != expected
    return float(np.abs(found[differ] - expected[differ]).max(initial=0.0))


def environment() -> dict[str, str]:
    """What a report has to say about the machine."""
    build: Any = np.show_config(mode="dicts")
    blas = build.get("Build Dependencies", {}).get("blas", {})
    return {
        "minigpt": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".rstrip(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": str(os.cpu_count()),
    }
