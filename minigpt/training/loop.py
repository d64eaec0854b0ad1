"""Training: a batch, its gradients, a step of the optimizer, again and again; and now and then a look.

    run = train(model, tokenizer, corpus, "my-model", minutes=3)

A run is decided by its model, its text, its settings and its number of threads, and then repeats bit for bit.
It can be stopped at any step, and goes on as if it had not been.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..backward import check_differentiable
from ..errors import CheckpointError, InputError, MiniGPTError, NumericsError
from ..generation import generate_text
from ..model import GPT2, Config
from ..parallel import Threads, available_cores
from ..tokenizer import Tokenizer
from .curve import History
from .data import Corpus, Tokens, bigram_bits_per_byte, random_windows, tokenize
from .evaluation import bits_per_byte, mean_loss, windows_of
from .flat import flatten
from .losses import Batch, language_modelling
from .optimizer import AdamW, clip_factor, gradient_norm, learning_rate
from .state import State, check_folder, load_state, save_state
from .step import batch_gradients

EVALUATIONS, SAMPLES = 20, 5  # in the course of a run
QUICK_WINDOWS = 64  # of held-out text that an evaluation on the way reads; the last one reads all
SAVE_SECONDS = 300.0  # a run that is killed loses no more than this
PROBE_SECONDS = 2.0  # for measuring how long a step takes


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run, apart from its model and its text."""

    steps: int
    batch_size: int  # windows in a batch
    accumulation: int  # batches whose gradients a step adds up
    learning_rate: float  # at its peak
    warmup: int  # steps on the way up to it
    weight_decay: float
    beta2: float
    clip: float  # the longest that a gradient may be
    seed: int
    threads: int


@dataclass(frozen=True)
class Progress:
    """Where a run is after a step."""

    step: int  # steps done
    steps: int
    loss: float  # of this step's batch, in nats per token
    gradient_norm: float  # before clipping
    tokens_per_second: float
    seconds_left: float


class Reporter:
    """What a run tells while it goes on; this one keeps it to itself."""

    def step(self, progress: Progress) -> None:
        """A step is done."""

    def held_out(self, step: int, loss: float, bits_per_byte: float) -> None:
        """The model was tested on held-out text."""

    def sample(self, step: int, text: str) -> None:
        """The model has written something."""

    def warning(self, message: str) -> None:
        """Something went wrong that does not end the run."""


class Training:
    """A run in memory: the model that changes, the optimizer, and what has happened so far."""

    def __init__(self, model: GPT2, tokens: Tokens, settings: Settings) -> None:
        check_differentiable(model)
        self.flat, self.tokens, self.settings, self.history = flatten(model), tokens, settings, History()
        self.optimizer = AdamW(self.flat, 0.9, settings.beta2, 1e-8, settings.weight_decay)

    @property
    def model(self) -> GPT2:
        """The model as it is now; the next step changes it."""
        return self.flat.model

    def batches(self, threads: Threads) -> Iterator[list[Batch]]:
        """The batches of the next step, each in one part for each thread: a function of seed and step alone."""
        settings, length = self.settings, self.model.config.n_positions
        n_targets = settings.accumulation * settings.batch_size * length
        for number in range(settings.accumulation):
            seed = (settings.seed, self.optimizer.steps, number)
            ids, targets = random_windows(self.tokens.training, settings.batch_size, length, seed)
            rows = threads.split(range(settings.batch_size))
            yield [
                language_modelling(ids[part], targets[part], n_targets, self.flat.buffer.dtype) for part in rows
            ]

    def step(self, threads: Threads) -> tuple[float, float]:
        """Learn from the next batches; returns their loss and the length of its gradient."""
        settings, gradients = self.settings, dict[str, np.ndarray]()
        loss = sum(batch_gradients(self.model, parts, threads, gradients) for parts in self.batches(threads))
        norm = gradient_norm(gradients, threads)
        if not np.isfinite(norm):
            raise NumericsError(
                f"training: the gradient of step {self.optimizer.steps + 1} is {norm}, and nothing can be learnt "
                "from it; try a smaller learning rate."
            )
        peak, warmup = settings.learning_rate, settings.warmup
        rate = learning_rate(self.optimizer.steps, settings.steps, warmup, peak)
        self.optimizer.step(gradients, rate, clip_factor(norm, settings.clip), threads)
        self.history.losses.append(loss)
        return loss, norm

    def test(self, threads: Threads, n_windows: int | None = None) -> float:
        """The mean loss on held-out text, of which `n_windows` are read, evenly spread; None reads all."""
        windows = windows_of(self.tokens.held_out, self.model.config.n_positions)
        if n_windows is not None:
            windows = windows[:: max(1, len(windows) * windows[0][0].shape[0] // n_windows)]
        loss = mean_loss(self.model, windows, threads)
        self.history.held_out.append((self.optimizer.steps, loss))
        return loss

    def bits_per_byte(self, loss: float) -> float:
        """A held-out loss in bits per byte."""
        return bits_per_byte(loss, len(self.tokens.held_out) - 1, self.tokens.held_out_bytes)

    def state(self) -> State:
        """Everything that the steps to come depend on."""
        arrays = {
            "parameters": self.flat.buffer,
            "first_moments": self.optimizer.first,
            "second_moments": self.optimizer.second,
            "losses": np.array(self.history.losses),
            "held_out": np.array(self.history.held_out, np.float64).reshape(-1, 2),
        }
        facts = {
            "steps_done": self.optimizer.steps,
            "settings": asdict(self.settings),
            "config": asdict(self.model.config),
            "text": self.tokens.fingerprint,
        }
        return State(arrays, facts)

    def restore(self, state: State) -> None:
        """Go back to a state of a run with this model, text and these settings."""
        if state.facts["text"] != self.tokens.fingerprint:
            raise InputError("text: it is not the one that the run began with; give the same files.")
        self.flat.buffer[...] = state.arrays["parameters"]
        self.optimizer.first[...] = state.arrays["first_moments"]
        self.optimizer.second[...] = state.arrays["second_moments"]
        self.optimizer.steps = state.facts["steps_done"]
        self.history.losses[:] = state.arrays["losses"].tolist()
        self.history.held_out[:] = [(int(step), loss) for step, loss in state.arrays["held_out"].tolist()]
