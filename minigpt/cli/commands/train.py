"""`minigpt train`: a GPT that learns from a text of your own."""

import argparse
import html
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ...errors import ConfigError, InputError, notice
from ...inspection.sizes import FAMILY, n_parameters_of
from ...model import GPT2, n_parameters
from ...page.build import page_path, write_file
from ...page.document import policy
from ...parameters import Config
from ...tokenizer import Tokenizer
from ...training import Corpus, Reporter, Run, TrainingSettings, read_corpus, resume, train
from ...training.curve import loss_curve, text_curve
from ...training.data import SHORT_TEXT
from ...training.loop import Progress as Step
from ...training.state import check_folder
from ..document import print_json
from ..options import add_json_option, file_name, number
from ..passes import open_named
from ..tables import WIDEST, console
from ..terminal import harmless

# A model that learns something from a text of a megabyte in three minutes.
NEW_MODEL = {"vocab_size": 512, "n_layer": 4, "n_head": 4, "n_embd": 128, "n_positions": 64}
FINE_TUNING = 0.1  # of the learning rate of a new model, or what it knows is forgotten
CURVE_HEIGHT = 8
STYLE = (
    "body{font:16px sans-serif;max-width:44em;margin:2em auto;padding:0 1em}"
    "li{white-space:pre-wrap}svg{max-width:100%;height:auto}"
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to learn from, with what, for how long, and where the result goes."""

    texts: list[str]
    out: str
    from_model: str | None
    offline: bool
    held_out: list[str]
    vocab_size: int | None
    n_layer: int | None
    n_head: int | None
    n_embd: int | None
    n_positions: int | None
    steps: int | None
    minutes: float | None
    batch_size: int | None
    learning_rate: float | None
    weight_decay: float | None
    seed: int | None
    threads: int | None
    resume: bool
    html: str | None
    json: bool

    def __post_init__(self) -> None:
        if self.resume:
            decided = [
                name for name in (*NEW_MODEL, "from_model", *SETTINGS) if getattr(self, name) is not None
            ]
            if decided:
                raise InputError(
                    f"{option(decided[0])}: a run that goes on has it from its beginning; leave it out."
                )
            return
        if not self.texts:
            raise InputError(
                "TEXT is missing: give one or more files or folders of .txt files to learn from."
            )
        if (self.steps is None) == (self.minutes is None):
            raise InputError(
                "--steps, --minutes: say how long to train, by one of the two, as in --minutes 3."
            )
        sizes = [name for name in NEW_MODEL if getattr(self, name) is not None]
        if self.from_model is not None and sizes:
            raise InputError(f"{option(sizes[0])}: the model of --from has its size; leave it out.")

    @property
    def settings(self) -> TrainingSettings:
        """What was asked for; what was not is decided by the run."""
        asked = {name: getattr(self, name) for name in SETTINGS}
        return TrainingSettings(**{name: value for name, value in asked.items() if value is not None})


SETTINGS = ("steps", "minutes", "batch_size", "learning_rate", "weight_decay", "seed", "threads")


def option(name: str) -> str:
    """How the command line spells it."""
    return f"--{name.removesuffix('_model').replace('_', '-')}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The texts, the model, the run."""
    parser.epilog = "example: minigpt train shakespeare.txt --out my-model --minutes 3"
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="files, or folders of .txt files, in UTF-8")
    parser.add_argument(
        "--out", metavar="FOLDER", type=file_name, required=True, help="a new folder for the model"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in FOLDER")
    parser.add_argument(
        "--held-out", metavar="TEXT", nargs="+", action="extend", default=[],
        help="texts to test on (the last tenth of every TEXT)",
    )  # fmt: skip
    parser.add_argument("--html", metavar="FILE", type=file_name, help="write the loss curve as a page")
    add_json_option(parser)
    add_model_options(parser.add_argument_group("the model"))
    add_run_options(parser.add_argument_group("the run"))


def add_model_options(group: argparse._ArgumentGroup) -> None:
    """Which model learns: one that exists, or a new one."""
    group.add_argument(
        "--from", dest="from_model", metavar="NAME_OR_PATH", help="go on with a model, instead of a new one"
    )
    group.add_argument("--offline", action="store_true", help="never use the network")
    helps = {
        "vocab_size": "tokens, learnt from the texts; 256 are the bytes alone",
        "n_layer": "blocks",
        "n_head": "attention heads per block",
        "n_embd": "length of a token's vector",
        "n_positions": "longest context, in tokens",
    }
    for name, what in helps.items():
        group.add_argument(
            option(name), metavar="N", type=number(name, int), help=f"{what} ({NEW_MODEL[name]})"
        )


def add_run_options(group: argparse._ArgumentGroup) -> None:
    """How long and how."""
    group.add_argument("--steps", metavar="N", type=number("steps", int), help="train for N steps")
    group.add_argument(
        "--minutes", metavar="M", type=number("minutes"),
        help="train for about M minutes: the number of steps is measured, and stored",
    )  # fmt: skip
    group.add_argument(
        "--batch-size", metavar="N", type=number("batch_size", int),
        help="windows of text in a step (as many as make a thousand tokens)",
    )  # fmt: skip
    group.add_argument(
        "--learning-rate", metavar="R", type=number("learning_rate"),
        help="at its peak (0.32 / n_embd, 0.0025 at most; with --from a tenth of that)",
    )  # fmt: skip
    group.add_argument(
        "--weight-decay", metavar="D", type=number("weight_decay"), help="how fast matrices shrink (0.1)"
    )
    group.add_argument(
        "--seed", metavar="S", type=number("seed", int), help="decides everything that is drawn at random (0)"
    )
    group.add_argument(
        "--threads", metavar="N", type=number("threads", int), help="threads that share the work (the cores)"
    )


def run(options: Options) -> int:
    """Prepare, train and tell; 130 if Ctrl-C has ended it."""
    page_file = None if options.html is None else page_path(Path(options.html))  # before, not after
    out = console(sys.stderr if options.json else None)
    with watching(out) as screen:
        finished = go_on(options, screen) if options.resume else start(options, screen)
    if page_file is not None:
        write_file(page_file, page(finished, screen.samples, options.out))
        notice(f"wrote {options.html}; open it in a browser.")
    if options.json:
        print_json(as_document(finished))
    else:
        show(out, finished, options.out)
    return 0 if finished.finished else 130


def go_on(options: Options, screen: "Screen") -> Run:
    """The run in the folder, from where it was stopped."""
    corpus = read_corpus(options.texts, options.held_out) if options.texts else None
    return resume(options.out, corpus, screen)


def start(options: Options, screen: "Screen") -> Run:
    """A new run, of a new model or of one that exists."""
    check_folder(Path(options.out))
    corpus = read_corpus(options.texts, options.held_out)
    if corpus.training_bytes < SHORT_TEXT:
        notice(
            f"the text is short, {corpus.training_bytes:,} bytes: a model soon knows it by heart. The "
            "held-out loss tells when: it rises while the other falls."
        )
    if options.from_model is not None:
        checkpoint = open_named(options.from_model, options.offline)
        model, settings = checkpoint.model, options.settings
        tokenizer: Any = checkpoint.tokenizer  # one that was loaded
        if settings.learning_rate is None:
            settings = replace(settings, learning_rate=FINE_TUNING * settings.plan(model, 1).learning_rate)
        return train(model, tokenizer, corpus, options.out, settings, screen)
    return train(*new_model(options, corpus), corpus, options.out, options.settings, screen)


def new_model(options: Options, corpus: Corpus) -> tuple[GPT2, Tokenizer]:
    """A model that has learnt nothing, and a tokenizer that has learnt from the texts."""
    sizes: dict[str, Any] = {name: getattr(options, name) or NEW_MODEL[name] for name in NEW_MODEL}
    try:
        config = Config(**sizes)
    except ConfigError as error:
        raise InputError(str(error)) from None
    if (count := n_parameters_of(config)) > n_parameters_of(FAMILY["gpt2-xl"]):
        raise InputError(
            f"model: it would have {count:.3g} parameters, more than gpt2-xl; give smaller sizes."
        )
    tokenizer = Tokenizer.train(corpus.training, config.vocab_size)
    return GPT2.random(config, options.seed or 0), tokenizer


# --------------------------------------------------------------------------------------------- on the way


class Screen(Reporter):
    """A bar while it goes on, and above it the tests and samples, which stay."""

    def __init__(self, out: Console, bar: Progress) -> None:
        self.out, self.bar, self.task, self.samples = out, bar, bar.add_task("", total=None), list[str]()
        self.last_test = ""

    def step(self, progress: Step) -> None:
        """Move the bar."""
        text = f"loss {progress.loss:.3f}{self.last_test}, {progress.tokens_per_second:,.0f} tokens/s"
        self.bar.update(self.task, total=progress.steps, completed=progress.step, description=text)

    def held_out(self, step: int, loss: float, bits_per_byte: float) -> None:
        """A line for each test."""
        self.last_test = f" (held out {loss:.3f})"
        self.out.print(
            f"step {step:,}: held-out text {loss:.3f} nats per token, {bits_per_byte:.3f} bits per byte",
            soft_wrap=True,
        )

    def sample(self, step: int, text: str) -> None:
        """What the model writes by now."""
        self.samples.append(f"step {step:,}: {text}")
        self.out.print(f"  {harmless(text.replace(chr(10), '⏎'))}", style="dim", soft_wrap=True)

    def warning(self, message: str) -> None:
        """On standard error."""
        notice(message)


@contextmanager
def watching(out: Console) -> Iterator[Screen]:
    """A screen, whose bar is there only where somebody sees it move."""
    columns = (
        BarColumn(bar_width=20), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
    )  # fmt: skip
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        yield Screen(out, bar)


# ------------------------------------------------------------------------------------------ at the end


def as_document(run: Run) -> dict[str, Any]:
    """The run for programs."""
    return {
        "steps": run.steps,
        "finished": run.finished,
        "n_parameters": n_parameters(run.model),
        "plan": {field.name: getattr(run.plan, field.name) for field in fields(run.plan)},
        "held_out_loss": run.held_out_loss,
        "bits_per_byte": run.bits_per_byte,
        "bigram_bits_per_byte": run.bigram_bits_per_byte,
        "losses": run.history.losses,
        "held_out": [{"step": step, "loss": loss} for step, loss in run.history.held_out],
    }


def show(out: Console, run: Run, folder: str) -> None:
    """The loss curve, what it came to, and what to do next."""
    losses = run.history.losses
    if len(losses) > 1:
        end = run.history.smooth()[-1][1]
        out.print(f"\nThe loss of {len(losses):,} steps, from {losses[0]:.2f} to {end:.2f}:")
        for row in text_curve(losses, min(out.width, WIDEST) - 2, CURVE_HEIGHT):
            out.print(f"  {row}", no_wrap=True, crop=True)
    out.print(f"\n{verdict(run)}")
    if run.finished:
        name = harmless(folder)
        out.print(f'The model is in {name}: minigpt --model {name} "…" -n 60 writes with it.')
    else:
        out.print(
            f"Stopped after {run.steps:,} of {run.plan.steps:,} steps; everything is kept. "
            f"minigpt train --out {harmless(folder)} --resume goes on."
        )


def verdict(run: Run) -> str:
    """How well it knows text that it has not learnt from, beside the simplest model there is."""
    return (
        f"Held-out text: {run.bits_per_byte:.3f} bits per byte ({run.held_out_loss:.3f} nats per token). "
        f"Counting pairs of bytes gives {run.bigram_bits_per_byte:.3f}."
    )


def page(run: Run, samples: list[str], folder: str) -> str:
    """The curve, the figures and the samples as one HTML file that loads nothing."""
    title = f"What {html.escape(folder)} has learnt"
    items = "".join(f"<li>{html.escape(sample)}</li>" for sample in samples)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(STYLE, "")}">'
        f"<title>{title}</title><style>{STYLE}</style>"
        f"<h1>{title}</h1><p>{html.escape(verdict(run))}</p>{loss_curve(run.history)}<ol>{items}</ol></html>\n"
    )
