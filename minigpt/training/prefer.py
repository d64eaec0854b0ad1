"""Training on pairs of answers: before, a few steps, after.

    run = prefer(model, tokenizer, read_pairs("demo"), "kind", PreferenceSettings(loss="orpo"))

It differs from `loop.py` in what a batch is, and in what is worth knowing: what became of the answers, of
pairs that were not learnt from, and of everything else.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checkpoints.saving import check_model, save
from ..checks import check_fields, checked_classes, checked_items
from ..errors import InputError, NumericsError
from ..model import GPT2
from ..parallel import Threads, available_cores
from ..parameters import arrays_by_name, read_only
from ..ranges import Number, check_ranges
from ..tape import check_differentiable
from ..tokenizer import Tokenizer
from .before_after import Evaluation, Look
from .flat import flatten
from .loop import check_vocabulary, stopped_by_interrupt
from .losses import Batch
from .optimizer import AdamW, clip_factor, gradient_norm, learning_rate
from .pairs import Pair, PairIds, answer_logprobs, encode_pairs, split_pairs
from .preferences import (
    Objective,
    PreferenceLoss,
    Totals,
    checked_objective,
    metrics,
    preference_batch,
    totals_of,
)
from .state import run_folder
from .step import batch_gradients

MOST_PAIRS = 1_000_000  # in a step


@dataclass(frozen=True)
class PreferenceSettings:
    """How to train on pairs; None is decided by the loss, the model or the machine.

    Raises `InputError` for impossible values.
    """

    loss: str | Objective = "orpo"
    beta: Number | None = None  # how much the pair's own loss weighs; 1 for ORPO, 0.1 for DPO
    steps: int = 20
    batch_size: int = 6  # pairs in a batch
    accumulation: int = 1  # batches whose gradients a step adds up
    learning_rate: Number | None = None  # at its peak: 2e-4 for tiny; the wider a model, the smaller
    completion_only_loss: bool = False  # the NLL covers the answer alone, and not the prompt
    end_of_text: bool = False  # every answer ends with the token that stands between texts
    seed: int = 0
    threads: int | None = None  # as many as there are cores

    def __post_init__(self) -> None:
        check_fields(self)
        checked_objective(self.loss).weight(self.beta)
        check_ranges(self)
        if self.batch_size * self.accumulation > MOST_PAIRS:
            raise InputError(f"batch_size, accumulation: a step takes {MOST_PAIRS:,} pairs at most.")

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        return checked_objective(self.loss)

    @property
    def weight(self) -> float:
        """The β of the run."""
        return self.objective.weight(self.beta)


@dataclass(frozen=True)
class PreferenceStep:
    """A step that is done. The names in `metrics` are TRL's."""

    step: int
    steps: int
    metrics: dict[str, float]
    seconds: float


class PreferenceReporter:
    """What a run tells while it goes on; this one keeps it to itself."""

    def warning(self, message: str) -> None:
        """Something is not as it was given."""

    def before(self, evaluation: Evaluation) -> None:
        """The model was looked at before the first step."""

    def step(self, step: PreferenceStep) -> None:
        """A step is done."""


@dataclass(frozen=True)
class PreferenceRun:
    """What a run has come to."""

    model: GPT2
    tokenizer: Tokenizer
    settings: PreferenceSettings
    watch: list[str]
    before: Evaluation
    after: Evaluation
    history: list[dict[str, float]]  # the metrics of every step

    @property
    def steps(self) -> int:
        """Steps done: fewer than were asked for if Ctrl-C has ended the run."""
        return len(self.history)

    def __repr__(self) -> str:
        old, new = self.before, self.after
        return (
            f"PreferenceRun({self.settings.objective.name}, {self.steps} steps; held-out pairs: log-odds "
            f"ratio {old.held_out.log_odds_ratio:.2f} → {new.held_out.log_odds_ratio:.2f}, perplexity "
            f"elsewhere {old.perplexity:.1f} → {new.perplexity:.1f})"
        )


@checked_classes
def prefer(
    model: GPT2,
    tokenizer: Tokenizer,
    pairs: Sequence[Pair],
    out: str | Path | None = None,
    settings: PreferenceSettings | None = None,
    *,
    watch: Sequence[str] = (),
    text: str | None = None,
    reporter: PreferenceReporter | None = None,
) -> PreferenceRun:
    """Train a copy of a model to prefer the chosen answers, and keep it in the new folder `out`, if given.

    Of every five pairs one is held out. `watch` are prompts after which all logits are kept, before and
    after; `text` is what else the model should still know, a passage of a novel if it is None. Ctrl-C ends
    the run after the step. Raises `InputError` for what cannot be trained, `NumericsError` if the numbers
    overflow, and `CheckpointError` if the folder cannot be written.
    """
    settings, reporter = settings or PreferenceSettings(), reporter or PreferenceReporter()
    watch = checked_items("watch", watch, str, "prompts")
    training = PreferenceTraining(model, tokenizer, pairs, settings)
    if out is not None:
        check_model(model, tokenizer)  # now, and not when everything has been learnt
    with run_folder(out) as folder, Threads(settings.threads or available_cores()) as threads:
        if cut := training.cut_prompts():
            reporter.warning(cut)
        look = Look(tokenizer, training.learnt, training.held_out, watch, text, threads)
        before = look(model)
        check_evaluation(
            before,
            "model: before any training, what it",
            "not all finite; its weights are broken or too large, try another",
        )
        reporter.before(before)
        with stopped_by_interrupt() as stopped:
            while training.optimizer.steps < settings.steps and not stopped():
                reporter.step(training.step(threads))
        after = look(training.flat.model)
        check_evaluation(
            after, "training: what the model", "no longer all finite; try a smaller learning rate"
        )
        for array in arrays_by_name(training.flat.model.parameters).values():
            read_only(array)
        if folder is not None:
            save(folder, training.flat.model, tokenizer)
    return PreferenceRun(training.flat.model, tokenizer, settings, watch, before, after, training.history)


def check_evaluation(found: Evaluation, what: str, verdict: str) -> None:
    """Raise `NumericsError` unless all that the model makes of the texts is finite."""
    if not found.is_finite:
        texts = f"the pairs and of another text (perplexity {found.perplexity:g})"
        raise NumericsError(f"{what} makes of {texts} is {verdict}.")


class PreferenceTraining:
    """A run in memory: the model that changes, the one that it began as, the optimizer, and the pairs."""

    def __init__(
        self, model: GPT2, tokenizer: Tokenizer, pairs: Sequence[Pair], settings: PreferenceSettings
    ) -> None:
        check_differentiable(model)
        check_vocabulary(model, tokenizer)
        self.reference, self.flat, self.settings = model, flatten(model), settings
        n_positions, end = model.config.n_positions, settings.end_of_text
        training, held_out = split_pairs(pairs)
        self.pairs = encode_pairs(tokenizer, training, n_positions, end)
        self.held_out = encode_pairs(tokenizer, held_out, n_positions, end)
        self.optimizer = AdamW(self.flat, 0.9, 0.99, 1e-8, 0.0)
        self.order = self.draw()
        self.history: list[dict[str, float]] = []

    def draw(self) -> Iterator[list[PairIds]]:
        """The pairs of every step: all of them in a new order, again and again."""
        settings, rng = self.settings, np.random.default_rng(self.settings.seed)
        n = settings.batch_size * settings.accumulation
        numbers = np.empty(0, np.int64)
        for _ in range(settings.steps):
            while len(numbers) < n:
                numbers = np.concatenate([numbers, rng.permutation(len(self.pairs))])
            yield [self.pairs[number] for number in numbers[:n]]
            numbers = numbers[n:]

    @property
    def learnt(self) -> list[PairIds]:
        """The pairs that the run meets, each once."""
        settings = self.settings
        first = np.random.default_rng(settings.seed).permutation(len(self.pairs))  # as in `draw`
        met = settings.steps * settings.batch_size * settings.accumulation
        return [self.pairs[number] for number in first[:met]]

    def cut_prompts(self) -> str:
        """Which prompts do not fit into the context with their answers, in one line; empty if all do."""
        found = [pair for pair in self.pairs + self.held_out if pair.cut]
        if not found:
            return ""
        others = f" (and {len(found) - 1:,} others like it)" if len(found) > 1 else ""
        return (
            f"{found[0].pair.place}: the prompt does not fit into the context of "
            f"{self.reference.config.n_positions:,} with its answer; its first {found[0].cut:,} tokens were "
            f"cut off{others}."
        )

    @property
    def peak(self) -> float:
        """The learning rate at its highest."""
        return float(self.settings.learning_rate or 2e-4 * 192 / self.reference.config.n_embd)

    def step(self, threads: Threads) -> PreferenceStep:
        """Learn from the next pairs, a batch at a time; their gradients are added up."""
        begin, settings, done = time.monotonic(), self.settings, self.optimizer.steps
        pairs, gradients = next(self.order), dict[str, np.ndarray]()
        totals, losses = totals_of(pairs, settings.completion_only_loss), list[PreferenceLoss]()
        value = 0.0
        for start in range(0, len(pairs), settings.batch_size):
            parts = threads.split(pairs[start : start + settings.batch_size])
            batches = [self.batch(part, totals, threads) for part in parts]
            value += batch_gradients(self.flat.model, batches, threads, gradients)
            losses += [batch.loss for batch in batches if isinstance(batch.loss, PreferenceLoss)]
        norm = gradient_norm(gradients, threads)
        if not np.isfinite(norm):
            raise NumericsError(
                f"training: the gradient of step {done + 1} is {norm}, and nothing can be learnt from it; "
                "try a smaller learning rate."
            )
        rate = learning_rate(done, settings.steps, settings.steps // 10, self.peak)
        self.optimizer.step(gradients, rate, clip_factor(norm, 1.0), threads)
        seen = [pair for loss in losses for pair in loss.pairs]
        found = {"loss": value, "nll_loss": sum(loss.nll for loss in losses)}
        found |= metrics(settings.objective, settings.weight, seen)
        self.history.append(found | {"grad_norm": norm, "learning_rate": rate})
        return PreferenceStep(done + 1, settings.steps, self.history[-1], time.monotonic() - begin)

    def batch(self, pairs: Sequence[PairIds], totals: Totals, threads: Threads) -> Batch:
        """Some pairs, with what the model made of them before training if the loss asks for that."""
        settings = self.settings
        reference = (
            answer_logprobs(self.reference, pairs, threads)
            if settings.objective.has_reference
            else [(np.zeros(len(pair.chosen)), np.zeros(len(pair.rejected))) for pair in pairs]
        )
        only = settings.completion_only_loss
        return preference_batch(settings.objective, settings.weight, pairs, reference, totals, only)
