"""What decides a run: what was asked for, and what it came to."""

from dataclasses import dataclass

from ..errors import InputError
from ..model import GPT2
from ..parallel import available_cores
from ..ranges import Number, check_ranges


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; None is decided by the model, the machine and the number of steps.

    Raises `InputError` for impossible values.
    """

    steps: int | None = None
    minutes: Number | None = None  # instead of steps: some are timed first, and then their number is fixed
    window: int | None = None  # tokens that are learnt from together: the context, and 256 at most
    batch_size: int | None = None  # windows in a batch: as many as make a thousand tokens
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
        check_ranges(self)

    def plan(self, model: GPT2, steps: int) -> "Plan":
        """With nothing left to decide."""
        window = self.window or min(model.config.n_positions, 256)
        if window > model.config.n_positions:
            raise InputError(f"window is {window}; the model's context is {model.config.n_positions}.")
        batch_size = self.batch_size or max(1, 1024 // window)
        n_tokens = self.accumulation * batch_size * window
        return Plan(
            steps=steps,
            window=window,
            batch_size=batch_size,
            accumulation=self.accumulation,
            learning_rate=float(self.learning_rate or min(2.5e-3, 0.32 / model.config.n_embd)),
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
    window: int
    batch_size: int
    accumulation: int
    learning_rate: float
    warmup: int
    weight_decay: float
    beta2: float
    clip: float
    seed: int
    threads: int

    def __post_init__(self) -> None:
        check_ranges(self)  # one that was stored may hold anything

    @property
    def n_tokens(self) -> int:
        """The targets of a step."""
        return self.accumulation * self.batch_size * self.window
