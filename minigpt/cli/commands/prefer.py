"""`minigpt prefer`: train on pairs of answers and see which logits that moves; or one pair's pushes."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from ...errors import InputError, notice
from ...page.build import LANGUAGES, write_page
from ...tokenizer import Tokenizer
from ...training.before_after import Evaluation, TokenChange, changes
from ...training.pairs import Pair, read_pairs
from ...training.prefer import PreferenceReporter, PreferenceRun, PreferenceSettings, PreferenceStep, prefer
from ...training.preferences import OBJECTIVES
from ...training.pushes import pushes
from ..document import print_json, tell_page
from ..options import SEVERAL, ModelOptions, add_model_options, file_name, number, text
from ..passes import Checkpoint, model_document, open_model
from ..pushes import tell_pushes
from ..tables import Column, console, print_items, print_table
from ..terminal import harmless, percent
from ..text_files import read_text

LINES = 5  # of progress, after the first
SHOWN = ("loss", "nll_loss", "logps/chosen", "logps/rejected", "log_odds_chosen")


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Which pairs, how to train on them, and what to look at."""

    pairs: str
    out: str | None
    loss: str
    beta: float | None
    steps: int | None
    batch_size: int | None
    accumulation: int | None
    learning_rate: float | None
    completion_only_loss: bool
    end_of_text: bool
    seed: int | None
    threads: int | None
    watch: list[str]
    text: str | None
    explain: int | None
    html: str | None
    lang: str

    def __post_init__(self) -> None:
        if self.explain is None and self.html is not None:
            raise InputError("--html shows the pushes of one pair; say which, as with --explain 3.")
        if self.explain is not None and (self.out or self.watch or self.steps):
            raise InputError("--explain trains nothing; leave --out, --watch and --steps out.")

    @property
    def settings(self) -> PreferenceSettings:
        """What was asked for; the rest is as `PreferenceSettings` has it."""
        names = ("beta", "steps", "batch_size", "accumulation", "learning_rate", "seed", "threads")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return PreferenceSettings(
            loss=self.loss,
            completion_only_loss=self.completion_only_loss,
            end_of_text=self.end_of_text,
            **given,
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The pairs, and what to do with them."""
    parser.epilog = (
        'example: minigpt prefer demo --model tiny --out kind --watch "The girl was very"\n'
        "example: minigpt prefer demo --model tiny --explain 3"
    )
    parser.add_argument(
        "pairs", metavar="PAIRS", type=file_name,
        help='a file of JSON lines {"prompt", "chosen", "rejected"}, or demo: 200 pairs, kind over harsh',
    )  # fmt: skip
    parser.add_argument("--out", metavar="FOLDER", type=file_name, help="where the new model goes")
    add_loss_options(parser.add_argument_group("training"))
    group = parser.add_argument_group("what to look at")
    group.add_argument(
        "--watch", metavar="PROMPT", type=text, **SEVERAL,
        help="which tokens may follow it, before and after; several may be given",
    )  # fmt: skip
    group.add_argument(
        "--text", metavar="FILE", type=file_name,
        help="what else the model should still know (a passage of a novel)",
    )  # fmt: skip
    group.add_argument(
        "--explain", metavar="N", type=int, help="train nothing; show how hard each token of pair N is pushed"
    )
    group.add_argument("--html", metavar="FILE", type=file_name, help="write what --explain shows as a page")
    group.add_argument("--lang", choices=LANGUAGES, default="en", help="the language of that page (en)")
    add_model_options(parser)


def add_loss_options(group: argparse._ArgumentGroup) -> None:
    """What is minimised, and how."""
    group.add_argument(
        "--loss",
        choices=tuple(OBJECTIVES),
        default="orpo",
        help="what is minimised (orpo)",
    )
    numbers: dict[str, tuple[type[int] | type[float], str]] = {
        "beta": (float, "weight of the preference (orpo 1, dpo 0.1)"),
        "steps": (int, "steps of the optimizer (20)"),
        "batch_size": (int, "pairs in a batch (6)"),
        "accumulation": (int, "batches in a step (1)"),
        "learning_rate": (float, "at its peak (0.0384 / n_embd, which is 2e-4 for tiny)"),
        "seed": (int, "decides the order of the pairs (0)"),
        "threads": (int, "threads (as many as cores)"),
    }
    for name, (kind, what) in numbers.items():
        option = f"--{name.replace('_', '-')}"
        group.add_argument(option, metavar="N", type=number(name, kind), help=what)
    group.add_argument(
        "--completion-only-loss", action="store_true", help="the NLL covers the answer without the prompt"
    )
    group.add_argument(
        "--end-of-text", action="store_true", help="answers end with the token that stands between texts"
    )


def run(options: Options) -> None:
    """Read the pairs, then train on them or explain one."""
    pairs, settings = read_pairs(options.pairs), options.settings
    if options.explain is not None and not 1 <= options.explain <= len(pairs):
        raise InputError(f"--explain is {options.explain}; {options.pairs} has pairs 1 to {len(pairs)}.")
    other_text = None if options.text is None else read_text(options.text, special=False).text
    checkpoint = open_model(options)
    if options.explain is not None:
        explain(options, checkpoint, pairs[options.explain - 1])
        return
    out = console()
    reporter = Quiet() if options.json else Teller(out, settings)
    if not options.json:
        tell_plan(out, options, checkpoint, pairs)
    tokenizer = cast(Tokenizer, checkpoint.tokenizer)  # out of a checkpoint's files comes no other kind
    found = prefer(
        checkpoint.model, tokenizer, pairs, options.out, settings,
        watch=options.watch, text=other_text, reporter=reporter,
    )  # fmt: skip
    if options.json:
        print_json(run_document(options, checkpoint, found))
    else:
        tell_run(out, options, checkpoint, found)


# ------------------------------------------------------------------------------------------------- a run


class Quiet(PreferenceReporter):
    """Tells what went another way than it was asked, and nothing else."""

    def warning(self, message: str) -> None:
        """One line on standard error."""
        notice(message)


class Teller(Quiet):
    """Prints some steps while the run goes on, by TRL's names."""

    def __init__(self, out: Console, settings: PreferenceSettings) -> None:
        self.out, self.every = out, max(1, settings.steps // LINES)
        self.widths = [max(len(name), 6) + 2 for name in SHOWN]
        self.fits = 6 + sum(self.widths) <= out.width

    def before(self, _evaluation: Evaluation) -> None:
        """The headers of the lines to come."""
        if self.fits:
            cells = "".join(name.rjust(width) for name, width in zip(SHOWN, self.widths, strict=True))
            self.out.print(f"  step{cells}", style="dim", no_wrap=True)

    def step(self, step: PreferenceStep) -> None:
        """One line, or as many as a narrow terminal needs."""
        if step.step != 1 and step.step % self.every and step.step != step.steps:
            return
        numbers = [f"{step.metrics[name]:.3f}" for name in SHOWN]
        if self.fits:
            cells = "".join(number.rjust(width) for number, width in zip(numbers, self.widths, strict=True))
            self.out.print(f"{step.step:>6}{cells}", no_wrap=True)
        else:
            self.out.print(f"step {step.step}")
            items = [f"{name} {number}" for name, number in zip(SHOWN, numbers, strict=True)]
            print_items(self.out, items, 2)


def tell_plan(out: Console, options: Options, checkpoint: Checkpoint, pairs: Sequence[Pair]) -> None:
    """What is about to happen."""
    settings, first = options.settings, pairs[0]
    name, weight = settings.objective.name, settings.weight
    beta = "" if settings.objective.pair is None else f", beta {weight:g}"
    model = harmless(Path(checkpoint.source.name).name)
    out.print(
        f"{model} learns which of two answers is the better one: {name}{beta}, {settings.steps} steps of "
        f"{settings.batch_size * settings.accumulation} pairs.",
        style="bold",
    )
    out.print(
        f"{len(pairs)} pairs, of which every fifth is held out. The first: after "
        f"“{harmless(first.prompt)}” rather “{harmless(first.chosen)}” than “{harmless(first.rejected)}”.\n"
    )


def tell_run(out: Console, options: Options, checkpoint: Checkpoint, found: PreferenceRun) -> None:
    """Before and after."""
    if found.steps < found.settings.steps:
        out.print(f"\nStopped after {found.steps} of {found.settings.steps} steps.")
    out.print("\nBefore and after", style="bold")
    out.print(
        "log p is an answer's, the mean over its tokens; with a log-odds ratio above 0, the chosen answer is "
        "the likelier one. What is learnt costs a little of everything else: see the other text.\n"
    )
    tell_evaluations(out, found.before, found.after)
    for prompt, before, after in zip(found.watch, found.before.watched, found.after.watched, strict=True):
        out.print(f"\nAfter “{harmless(prompt)}”", style="bold")
        risen, fallen = changes(checkpoint.tokenizer, before, after)
        tell_changes(out, checkpoint, risen, fallen)
    if options.out is None:
        out.print("\nNothing is kept; --out FOLDER keeps the new model.", style="dim")
        return
    prompt = harmless(options.watch[0] if options.watch else "I love")
    out.print(
        f"\nThe new model is in {harmless(options.out)}. Both side by side:\n"
        f'  minigpt "{prompt}" --model {harmless(options.model or checkpoint.source.name)} '
        f"--compare-model {harmless(options.out)}",
        soft_wrap=True,
    )


def tell_evaluations(out: Console, before: Evaluation, after: Evaluation) -> None:
    """A row for each number: of pairs that were learnt from, of others, and of another text."""
    rows: list[tuple[str, str, str]] = []
    for title, old, new in (
        (f"{before.trained.n_pairs} pairs that it learnt from", before.trained, after.trained),
        (f"{before.held_out.n_pairs} held-out pairs", before.held_out, after.held_out),
    ):
        rows += [
            (title, "", ""),
            ("  log p, chosen", f"{old.chosen:.2f}", f"{new.chosen:.2f}"),
            ("  log p, rejected", f"{old.rejected:.2f}", f"{new.rejected:.2f}"),
            ("  log-odds ratio", f"{old.log_odds_ratio:.2f}", f"{new.log_odds_ratio:.2f}"),
            ("  chosen is likelier in", percent(old.accuracy), percent(new.accuracy)),
        ]
    rows += [
        ("another text", "", ""),
        ("  perplexity (lower is better)", f"{before.perplexity:.1f}", f"{after.perplexity:.1f}"),
    ]
    names, old_cells, new_cells = zip(*rows, strict=True)
    columns = [
        Column("", names),
        Column("before", old_cells, right=True),
        Column("after", new_cells, right=True),
    ]
    print_table(out, columns, indent=2)


def tell_changes(
    out: Console, checkpoint: Checkpoint, risen: Sequence[TokenChange], fallen: Sequence[TokenChange]
) -> None:
    """The tokens that have become likelier, then those that have become less likely."""
    tokens = [*risen, *fallen]
    if not tokens:
        out.print("  Nothing has changed.")
        return
    columns = [
        Column("token", [checkpoint.label(token.id) for token in tokens], style="bold"),
        Column("", ["likelier"] * len(risen) + ["less likely"] * len(fallen)),
        *two_columns("logit", [[f"{logit:.2f}" for logit in token.logits] for token in tokens]),
        *two_columns("probability", [list(map(percent, token.probabilities)) for token in tokens]),
    ]
    ranks = Column(
        "rank", [f"{before:,} → {after:,}" for before, after in (t.ranks for t in tokens)], right=True
    )
    print_table(out, [*columns, ranks], drop=[ranks], indent=2)


def two_columns(group: str, cells: Sequence[Sequence[str]]) -> list[Column]:
    """Numbers from before, and beside them those from after."""
    sides = zip(("before", "after"), zip(*cells, strict=True), strict=True)
    return [Column(header, numbers, right=True, group=group) for header, numbers in sides]


def run_document(options: Options, checkpoint: Checkpoint, found: PreferenceRun) -> dict[str, Any]:
    """The same for a program, with all of TRL's names."""

    def side(evaluation: Evaluation) -> dict[str, Any]:
        return {
            "trained": asdict(evaluation.trained),
            "held_out": asdict(evaluation.held_out),
            "perplexity": evaluation.perplexity,
        }

    watched: list[dict[str, Any]] = []
    for prompt, before, after in zip(found.watch, found.before.watched, found.after.watched, strict=True):
        risen, fallen = (list(map(asdict, some)) for some in changes(checkpoint.tokenizer, before, after))
        watched.append({"prompt": prompt, "risen": risen, "fallen": fallen})
    return {
        "model": model_document(checkpoint.source, checkpoint.model),
        "pairs": options.pairs,
        "loss": found.settings.objective.name,
        "beta": found.settings.weight,
        "steps": found.steps,
        "before": side(found.before),
        "after": side(found.after),
        "watch": watched,
        "history": found.history,
        "out": options.out,
    }


# ---------------------------------------------------------------------------------------------- one pair


def explain(options: Options, checkpoint: Checkpoint, pair: Pair) -> None:
    """Show the pushes of one pair, and write the page that shows them."""
    settings = options.settings
    found = pushes(
        checkpoint.model, checkpoint.tokenizer, pair, settings.objective, settings.weight,
        completion_only_loss=settings.completion_only_loss, end_of_text=settings.end_of_text,
    )  # fmt: skip
    page = None
    if options.html is not None:
        page = write_page(
            options.html, checkpoint.model, checkpoint.tokenizer, found.context,
            source=checkpoint.source, pushes=found, language=options.lang,
        )  # fmt: skip
    if options.json:
        model = model_document(checkpoint.source, checkpoint.model)
        print_json({"model": model, "pairs": options.pairs, "pair": options.explain, **asdict(found)})
    else:
        title = f"Pair {options.explain} of {harmless(options.pairs)}"
        tell_pushes(console(), title, checkpoint, pair, found)
    tell_page(page)
