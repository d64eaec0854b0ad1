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
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints.load import load
from ..checkpoints.saving import check_model, save
from ..checks import checked_classes
from ..errors import CheckpointError, InputError, NumericsError
from ..files import checked_path
from ..generation import generate_text
from ..model import GPT2
from ..parallel import Threads
from ..parameters import arrays_by_name, read_only
from ..tape import check_differentiable
from ..tokenizer import Tokenizer
from .curve import History
from .data import Corpus, Tokens, bigram_bits_per_byte, random_windows, read_corpus, tokenize
from .evaluation import bits_per_byte, mean_loss, windows_of
from .flat import flatten
from .losses import Batch, language_modelling
from .optimizer import AdamW, clip_factor, gradient_norm, learning_rate
from .settings import Plan, TrainingSettings
from .state import STATE, State, claimed, load_state, run_folder, save_state
from .step import batch_gradients

EVALUATIONS, SAMPLES = 20, 5  # in the course of a run
QUICK_TOKENS = 16384  # of held-out text that a test on the way reads at most; the last one reads all
SAMPLE_TOKENS = 60
SAVE_SECONDS = 300.0  # a run that is killed loses no more than this
PROBE_SECONDS = 2.0  # for measuring how long a step takes
SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")  # a state and its model share


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

    def __init__(self, model: GPT2, tokens: Tokens, plan: Plan) -> None:
        check_differentiable(model)
        self.flat, self.tokens, self.plan, self.history = flatten(model), tokens, plan, History()
        self.optimizer = AdamW(self.flat, 0.9, plan.beta2, 1e-8, plan.weight_decay)

    @property
    def model(self) -> GPT2:
        """The model as it is now; the next step changes it."""
        return self.flat.model

    def batches(self, threads: Threads) -> Iterator[list[Batch]]:
        """The batches of the next step, in a part for each thread: they depend on seed and step alone."""
        plan = self.plan
        for number in range(plan.accumulation):
            seed = (plan.seed, self.optimizer.steps, number)
            ids, targets = random_windows(self.tokens.training, plan.batch_size, plan.window, seed)
            rows = threads.split(range(plan.batch_size))
            yield [
                language_modelling(ids[part], targets[part], plan.n_tokens, self.flat.buffer.dtype)
                for part in (slice(some[0], some[-1] + 1) for some in rows)
            ]

    def step(self, threads: Threads) -> tuple[float, float]:
        """Learn from the next batches; returns their loss and the length of its gradient."""
        plan, gradients = self.plan, dict[str, np.ndarray]()
        loss = sum(batch_gradients(self.model, parts, threads, gradients) for parts in self.batches(threads))
        norm = gradient_norm(gradients, threads)
        if not np.isfinite(norm):
            raise NumericsError(
                f"training: the gradient of step {self.optimizer.steps + 1} is {norm}, and nothing can be "
                "learnt from it; try a smaller learning rate."
            )
        rate = learning_rate(self.optimizer.steps, plan.steps, plan.warmup, plan.learning_rate)
        self.optimizer.step(gradients, rate, clip_factor(norm, plan.clip), threads)
        self.history.losses.append(loss)
        return loss, norm

    def test(self, threads: Threads, *, quick: bool) -> float:
        """The mean loss on held-out text; a quick test reads parts of it, in a small part of a run's time."""
        windows = windows_of(self.tokens.held_out, self.plan.window)
        if quick:
            n_tokens = min(QUICK_TOKENS, self.plan.steps * self.plan.n_tokens // 64)
            windows = windows[:: max(1, len(self.tokens.held_out) // max(1, n_tokens))]
        loss = mean_loss(self.model, windows, threads)
        if not np.isfinite(loss):
            steps = self.optimizer.steps
            advice = "try a smaller learning rate" if steps else "its weights are broken or too large"
            raise NumericsError(f"training: after step {steps} the held-out loss is {loss}; {advice}.")
        self.history.add_test(self.optimizer.steps, loss)
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
            "plan": asdict(self.plan),
            "config": asdict(self.model.config),
            "text": self.tokens.fingerprint,
        }
        return State(arrays, facts)

    def restore(self, state: State) -> None:
        """Go back to a state of a run with this model, text and these settings."""
        config = asdict(self.model.config)
        same = all(state.facts["config"].get(name) == config[name] for name in SIZES)
        if not same or state.arrays["parameters"].size != self.flat.buffer.size:
            raise CheckpointError(f"{STATE}: is of another model than the one beside it; start a new run.")
        if state.facts["text"] != self.tokens.fingerprint:
            raise InputError("text: it is not the one that the run began with; give the same files.")
        self.flat.buffer[...] = state.arrays["parameters"]
        self.optimizer.first[...] = state.arrays["first_moments"]
        self.optimizer.second[...] = state.arrays["second_moments"]
        self.optimizer.steps = state.facts["steps_done"]
        self.history.losses[:] = state.arrays["losses"].tolist()
        self.history.held_out[:] = [(int(step), loss) for step, loss in state.arrays["held_out"].tolist()]


@dataclass(frozen=True)
class Run:
    """What a run has come to."""

    model: GPT2
    tokenizer: Tokenizer
    plan: Plan
    history: History
    steps: int  # done
    held_out_loss: float  # in nats per token
    bits_per_byte: float  # the same for each byte of held-out text
    bigram_bits_per_byte: float  # what counting pairs of bytes gives, to compare with

    @property
    def finished(self) -> bool:
        """Whether all steps are done; if not, Ctrl-C has ended the run."""
        return self.steps == self.plan.steps

    def __repr__(self) -> str:
        return (
            f"Run({self.steps:,} of {self.plan.steps:,} steps; held-out text: "
            f"{self.held_out_loss:.3f} nats per token, {self.bits_per_byte:.3f} bits per byte; "
            f"pairs of bytes: {self.bigram_bits_per_byte:.3f})"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>{self.history._repr_html_()}"


@checked_classes
def train(
    model: GPT2,
    tokenizer: Tokenizer,
    corpus: Corpus,
    out: str | Path | None,
    settings: TrainingSettings,
    reporter: Reporter | None = None,
) -> Run:
    """Train a copy of a model, and keep it in the new folder `out`; None keeps it in memory alone.

    Ctrl-C ends the run after the step, and loses nothing. Raises `InputError` for what cannot be trained,
    `NumericsError` if the numbers overflow, and `CheckpointError` if the folder cannot be written.
    """
    begin = time.monotonic()
    check_vocabulary(model, tokenizer)
    if out is not None:
        check_model(model, tokenizer)  # now, and not when everything has been learnt
    with run_folder(out) as folder, Threads(settings.threads) as threads:
        tokens = tokenize(corpus, tokenizer, settings.plan(model, 1).window)
        steps = settings.steps or steps_within(settings, model, tokens, threads, begin)
        training = Training(model, tokens, settings.plan(model, steps))
        return run(training, tokenizer, corpus, folder, threads, reporter or Reporter())


@checked_classes
def resume(out: str | Path, corpus: Corpus | None = None, reporter: Reporter | None = None) -> Run:
    """Go on with the run in a folder as if it had never stopped; without a corpus, with its own files."""
    folder = checked_path("out", out)
    with claimed(folder):
        state = load_state(folder)
        if corpus is None and state.facts["corpus"] is None:
            raise InputError(f"{folder}: its texts were given in memory; give them again, as the corpus.")
        corpus = corpus or read_corpus(**state.facts["corpus"])
        model, tokenizer = load(folder)
        plan = Plan(**state.facts["plan"])
        training = Training(model, tokenize(corpus, tokenizer, plan.window), plan)
        training.restore(state)
        with Threads(plan.threads) as threads:
            return run(training, tokenizer, corpus, folder, threads, reporter or Reporter())


def steps_within(
    settings: TrainingSettings, model: GPT2, tokens: Tokens, threads: Threads, begin: float
) -> int:
    """How many steps fit into the minutes, tests included: measured on a copy that is thrown away."""
    probe = Training(model, tokens, settings.plan(model, 1 << 30))
    end = begin + 60.0 * (settings.minutes or 0.0)
    probe.step(threads)  # the first takes longer, because memory is still to come from the system
    start, measured = time.monotonic(), 0
    while measured < 2 or time.monotonic() < min(start + PROBE_SECONDS, start + 0.05 * (end - start)):
        probe.step(threads)
        measured += 1
    seconds = (time.monotonic() - start) / measured
    start = time.monotonic()
    probe.test(threads, quick=True)
    quick = time.monotonic() - start
    share = len(tokens.held_out) / min(len(tokens.held_out), QUICK_TOKENS)
    return max(1, int((end - time.monotonic() - quick * (EVALUATIONS + share)) / seconds))


def run(
    training: Training,
    tokenizer: Tokenizer,
    corpus: Corpus,
    folder: Path | None,
    threads: Threads,
    reporter: Reporter,
) -> Run:
    """Take the steps that are left, keep what they gave, and say how it went."""
    sitting = Sitting(training, tokenizer, corpus, folder, threads, reporter)
    with stopped_by_interrupt() as stopped:
        sitting.learn(stopped)
        loss = sitting.test(quick=stopped())
        sitting.save()
    for array in arrays_by_name(training.model.parameters).values():
        read_only(array)
    bits, bigram = training.bits_per_byte(loss), bigram_bits_per_byte(corpus.training, corpus.held_out)
    done = training.optimizer.steps
    return Run(training.model, tokenizer, training.plan, training.history, done, loss, bits, bigram)


@dataclass
class Sitting:
    """A run from its beginning, or from where it was stopped, to its end or to where it is stopped."""

    training: Training
    tokenizer: Tokenizer
    corpus: Corpus
    folder: Path | None
    threads: Threads
    reporter: Reporter

    def learn(self, stopped: Callable[[], bool]) -> None:
        """Take steps; test, write a sample and save now and then."""
        training, n_steps = self.training, self.training.plan.steps
        first = training.optimizer.steps
        begin = saved = time.monotonic()
        if first == 0:
            self.test(quick=True)
        while (done := training.optimizer.steps) < n_steps and not stopped():
            start = time.monotonic()
            loss, norm = training.step(self.threads)
            done, now = done + 1, time.monotonic()
            left = (now - begin) / (done - first) * (n_steps - done)
            self.reporter.step(
                Progress(done, n_steps, loss, norm, training.plan.n_tokens / (now - start), left)
            )
            if done % max(1, n_steps // EVALUATIONS) == 0 and done < n_steps:
                self.test(quick=True)
            if done % max(1, n_steps // SAMPLES) == 0:
                self.sample()
            if time.monotonic() - saved > SAVE_SECONDS:
                self.try_to_save()
                saved = time.monotonic()

    def test(self, *, quick: bool) -> float:
        """Test the model on held-out text."""
        loss = self.training.test(self.threads, quick=quick)
        self.reporter.held_out(self.training.optimizer.steps, loss, self.training.bits_per_byte(loss))
        return loss

    def sample(self) -> None:
        """Let the model write a few words; what comes is the same for the same step."""
        steps, model = self.training.optimizer.steps, self.training.model
        prompt = "" if self.tokenizer.end_of_text is not None else "\n"
        length = min(SAMPLE_TOKENS, model.config.n_positions - 1)
        words = generate_text(
            model, self.tokenizer, prompt, max_new_tokens=length, temperature=0.8, seed=steps, stop_ids=()
        )
        self.reporter.sample(steps, "".join(words))

    def save(self) -> None:
        """Write the checkpoint and the state, each whole or not at all."""
        if self.folder is not None:
            # The state comes last: whoever goes on from it finds its config and tokenizer there.
            save(self.folder, self.training.model, self.tokenizer, overwrite=True)
            state = self.training.state()
            save_state(self.folder, State(state.arrays, state.facts | {"corpus": self.corpus.source}))

    def try_to_save(self) -> None:
        """Save; a disk that is full now may have room again the next time."""
        try:
            self.save()
        except CheckpointError as error:
            self.reporter.warning(str(error))


def check_vocabulary(model: GPT2, tokenizer: Tokenizer) -> None:
    """Raise `InputError` if the tokenizer has ids that the model does not know."""
    if tokenizer.n_vocab > model.config.vocab_size:
        raise InputError(
            f"tokenizer: it has {tokenizer.n_vocab:,} tokens, the model knows {model.config.vocab_size:,}; "
            "take the one that belongs to the model."
        )


@contextmanager
def stopped_by_interrupt() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, as a function. A second one interrupts at once, as it always does.

    Who ignores Ctrl-C goes on doing so, and only the main thread may ask for it.
    """
    pressed: list[int] = []

    def note(number: int, _frame: Any) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
