"""What decides a run: what was asked for, and what it came to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..model import GPT2
from ..parallel import available_cores

Number = float | int  # `minutes=3` is as good as `minutes=3.0`


@dataclass(frozen=True)
class Settings:
    """How to train; None is decided by the model, the machine and the number of steps.

    Raises `InputError` for impossible values.
    """

    steps: int | None = None
    minutes: Number | None = None  # instead of steps: some are timed first, and then their number is fixed
    batch_size: int = 16  # windows in a batch
    accumulation: int = 1  # batches whose gradients a step adds up
    learning_rate: Number | None = None  # at its peak; the wider a model, the smaller
    warmup: int | None = None  # steps on the way up to it: a tenth of all, and 100 at most
    weight_decay: Number = 0.1
    beta2: Number | None = None  # 0.95, and 0.99 for steps of few tokens, whose gradients jump about
    clip: Number = 1.0  # the longest that a gradient may be
    seed: int = 0
    threads: int | None = None  # as many as there are cores

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise InputError("steps, minutes: a run needs one of the two, and not both.")
        for name, (fits, allowed) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and fits(value)):
                raise InputError(f"{name} is {value}; it must be {allowed}.")

    def plan(self, model: GPT2, steps: int) -> "Plan":
        """With nothing left to decide."""
        n_tokens = self.accumulation * self.batch_size * model.config.n_positions
        return Plan(
            steps=steps,
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            learning_rate=float(self.learning_rate or 2.5e-3 * 128 / model.config.n_embd),
            warmup=min(100, steps // 10) if self.warmup is None else self.warmup,
            weight_decay=float(self.weight_decay),
            beta2=float(self.beta2 or (0.95 if n_tokens >= 1000 else 0.99)),
            clip=float(self.clip),
            seed=self.seed,
            threads=self.threads or available_cores(),
        )


@dataclass(frozen=True)
class Plan:
    """Everything that decides a run apart from its model and its text. It is stored with the run."""

    steps: int
    batch_size: int
    accumulation: int
    learning_rate: float
    warmup: int
    weight_decay: float
    beta2: float
    clip: float
    seed: int
    threads: int


Range = tuple[Callable[[Any], bool], str]


def whole(least: int) -> Range:
    """Allow integers from `least` on."""
    return lambda value: isinstance(value, int) and value >= least, f"an integer, {least} or above"


def between(low: float, high: float) -> Range:
    """Allow numbers above `low` and below `high`."""
    return lambda value: low < value < high, f"above {low:g} and below {high:g}"


RANGES: dict[str, Range] = {
    "steps": whole(1),
    "minutes": between(0.0, 1e6),
    "batch_size": whole(1),
    "accumulation": whole(1),
    "learning_rate": between(0.0, 10.0),
    "warmup": whole(0),
    "weight_decay": (lambda value: 0 <= value < 10, "from 0 to 10"),
    "beta2": between(0.0, 1.0),
    "clip": (lambda value: value > 0, "above 0"),
    "seed": whole(0),
    "threads": whole(1),
}
