"""The parity ledger: this machine's numbers against what torch computed, stored with the package.

`scripts/make_reference.py` ran `GPT2LMHeadModel` on one prompt and one model file and wrote down, for every
intermediate tensor, values in float64 at fixed places, and all of the last token's logits in float32. So
anyone can check that the code is right on their machine, without torch.

Two questions are asked of every tensor. In float64: is the formula the same? Nothing but a different
computation is further off than 1e-9. In float32, as the program runs: is the rounding as small as it
should be? Beside it stands how far torch's own float32 was off.
"""

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike

from .. import __version__
from ..checkpoint import assemble, named_parameters
from ..errors import CheckpointError
from ..model import GPT2
from .tracing import trace

N_SAMPLES = 128  # values kept of each tensor
# Largest differences allowed, relative to the tensor's largest value. Measured: about 1e-15 and 2e-6.
TOLERANCE_FLOAT64, TOLERANCE_FLOAT32 = 1e-9, 2e-5


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
        """Write one compressed file."""
        about = asdict(self)
        samples, last_logits = about.pop("samples"), about.pop("last_logits")
        values = np.concatenate(list(samples.values()))
        np.savez_compressed(path, about=np.array(json.dumps(about)), samples=values, last_logits=last_logits)


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


def load_reference() -> Reference:
    """The reference that ships with the package, made on `tiny`. Raises `CheckpointError` if it is gone."""
    file = resources.files("minigpt") / "data" / "reference_tiny.npz"
    if not file.is_file():
        raise CheckpointError(
            f"{file}: it is missing, and with it what torch computed; install minigpt-numpy again, or, in a "
            "clone, run: python -m scripts.make_reference"
        )
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        about = json.loads(str(stored["about"]))
        about["shapes"] = {name: tuple(shape) for name, shape in about["shapes"].items()}
        sizes = [len(places(shape)) for shape in about["shapes"].values()]
        pieces = np.split(stored["samples"], np.cumsum(sizes)[:-1])
        samples = dict(zip(about["shapes"], pieces, strict=True))
        return Reference(**about, samples=samples, last_logits=stored["last_logits"])


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
            "nothing about this file. Restore it, or run: python -m scripts.make_reference"
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
    return max(TOLERANCE_FLOAT32 * reference.largest[name], 5 * reference.torch_differences[name])


def traced(model: GPT2, dtype: Any, reference: Reference) -> dict[str, Float[np.ndarray, " n"]]:
    """The samples of one pass in this precision; empty where the shape is not the reference's."""
    arrays = {name: array.astype(dtype) for name, array in named_parameters(model.parameters).items()}
    cast = GPT2(model.config, assemble(arrays, model.config), model.block)
    found = trace(cast, reference.ids, names="*")
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
