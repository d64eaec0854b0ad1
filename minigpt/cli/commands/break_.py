"""`minigpt break`: one classic mistake, and what it does to the logits and the text."""

import argparse
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.console import Console

from ...errors import InputError
from ...generation import generate_without_cache
from ...hooks import Hook
from ...inspection.backward_gallery import TRAINING_MISTAKES
from ...inspection.gallery import MISTAKES, Mistake
from ...model import GPT2
from ...scoring import next_tokens, rank
from ...tokenizer import text_of
from .. import break_training
from ..document import print_json, reading_document
from ..options import SubjectOptions, add_prompt, number
from ..passes import Checkpoint, Reading, check_finite, not_finite, open_prompt
from ..tables import Column, console, cut, print_table, with_progress
from ..terminal import harmless

MADE_IN = {
    "config": "a changed copy of the config",
    "parameters": "a changed copy of the parameters",
    "hook": "a hook",
    "block": "another block in the place of the right one",
}
N_TOP = 5
MANY_TOKENS = 100  # which take seconds


@dataclass(frozen=True, kw_only=True)
class Options(SubjectOptions):
    """Which mistake is made, and on what."""

    mistake: str
    max_new_tokens: int
    train: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """The mistake and the prompt."""
    parser.add_argument(
        "mistake", metavar="MISTAKE", help='which one: "list" shows them, "all" makes one after the other'
    )
    add_prompt(parser, 'minigpt break erf-gelu "I love"', default="I love")
    parser.add_argument(
        "-n", "--max-new-tokens", type=number("max_new_tokens", int), default=12, metavar="N",
        help="of greedy text (12)",
    )  # fmt: skip
    parser.add_argument(
        "--train", action="store_true", help="a mistake of learning, and what it does to gradients and losses"
    )


@dataclass(frozen=True)
class Effect:
    """What a mistake did to one prompt."""

    mistake: Mistake
    logits: Float[np.ndarray, " vocab"]  # the last token's, right
    wrong_logits: Float[np.ndarray, " vocab"]
    largest_change: float  # of any logit at any position
    rank: int  # of the right model's likeliest token, counted from 1
    text: str
    wrong_text: str


def run(options: Options) -> None:
    """Make the mistake and compare."""
    if options.train:
        break_training.run(options.mistake, options.json)
        return
    if options.mistake == "list":
        show_list(options)
        return
    chosen = list(MISTAKES.values()) if options.mistake == "all" else [find_mistake(options.mistake)]
    reading = open_prompt(options)
    effects = list(
        with_progress(
            compute_effects(chosen, reading, options.max_new_tokens),
            len(chosen),
            "making mistakes",
            is_long=len(reading.ids) > MANY_TOKENS,
        )
    )
    if options.json:
        found = [as_document(effect, reading.checkpoint) for effect in effects]
        print_json(reading_document(reading) | {"mistakes": found})
    elif options.mistake == "all":
        show_all(console(), effects, reading)
    else:
        show_one(console(), effects[0], reading)


def find_mistake(name: str) -> Mistake:
    """The mistake of that name. Raises `InputError` if there is none."""
    if name in TRAINING_MISTAKES:
        raise InputError(f"break: {name} is a mistake of learning; --train makes it.")
    if name not in MISTAKES:
        close = difflib.get_close_matches(name, MISTAKES, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise InputError(
            f"break: there is no mistake called {name!r}.{hint} `minigpt break list` shows them."
        )
    return MISTAKES[name]


def compute_effects(mistakes: Sequence[Mistake], reading: Reading, n_new: int) -> Iterator[Effect]:
    """Run the right model once and each wrong one, on the prompt and for some greedy tokens."""
    checkpoint, ids = reading.checkpoint, reading.ids
    right = checkpoint.model(ids)
    check_finite(right)
    text = greedy_text(checkpoint, checkpoint.model, ids, n_new, None)
    for mistake in mistakes:
        wrong_model, hook = mistake.apply(checkpoint.model)
        wrong = wrong_model(ids, hook=hook)
        if not np.isfinite(wrong).all():
            raise not_finite([mistake.name], "make another mistake with these weights")
        yield Effect(
            mistake,
            right[-1],
            wrong[-1],
            float(np.abs(wrong - right).max()),
            rank(wrong[-1], int(right[-1].argmax())),
            text,
            greedy_text(checkpoint, wrong_model, ids, n_new, hook),
        )


def greedy_text(checkpoint: Checkpoint, model: GPT2, ids: list[int], n_new: int, hook: Hook | None) -> str:
    """The likeliest token, again and again.

    Without a cache: what is kept in it is right only where tokens do not see what comes later, which is one
    of the things that a mistake may break.
    """
    n_new = min(n_new, model.config.n_positions - len(ids))
    return text_of(checkpoint.tokenizer, generate_without_cache(model, ids, n_new, hook=hook))


def as_document(effect: Effect, checkpoint: Checkpoint) -> dict[str, object]:
    """What a mistake did, for programs."""
    mistake = effect.mistake
    return {
        "name": mistake.name,
        "does": mistake.does,
        "because": mistake.because,
        "changes": mistake.changes,
        "largest_change": effect.largest_change,
        "rank_of_likeliest": effect.rank,
        "right": {"next_tokens": top_documents(effect.logits, checkpoint), "text": effect.text},
        "wrong": {"next_tokens": top_documents(effect.wrong_logits, checkpoint), "text": effect.wrong_text},
    }


def top_documents(logits: Float[np.ndarray, " vocab"], checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """The likeliest tokens with logit and probability."""
    return [asdict(row) for row in next_tokens(logits, checkpoint.tokenizer, N_TOP)]


# ------------------------------------------------------------------------------------- for the terminal


def show_list(options: Options) -> None:
    """All mistakes, with what each does."""
    mistakes = list(MISTAKES.values())
    if options.json:
        print_json([{"name": m.name, "does": m.does, "because": m.because} for m in mistakes])
        return
    names = Column("mistake", [mistake.name for mistake in mistakes], style="bold")
    what = Column("what is done", [mistake.does for mistake in mistakes], flexible="wrap")
    print_table(console(), [names, what])


def show_all(out: Console, effects: Sequence[Effect], reading: Reading) -> None:
    """A row per mistake."""
    prompt, first = harmless(reading.text), effects[0]
    top = reading.checkpoint.label(int(first.logits.argmax()))
    out.print(
        f'After "{prompt}" the likeliest token is {top}, and greedy text goes on '
        f'"{one_line(first.text)}". For each mistake: the largest change of any logit, the rank of '
        f"{top}, and the greedy text.\n"
    )
    texts = [
        "the same" if effect.wrong_text == effect.text else one_line(effect.wrong_text).strip()
        for effect in effects
    ]
    width = out.width - 44
    columns = [
        Column("mistake", [effect.mistake.name for effect in effects], style="bold"),
        Column("change", [f"{effect.largest_change:.2g}" for effect in effects], right=True),
        Column("rank", [f"{effect.rank:,}" for effect in effects], right=True),
        Column("greedy text", [cut(text, width) if width > 20 else text for text in texts], flexible="wrap"),
    ]
    print_table(out, columns)


def show_one(out: Console, effect: Effect, reading: Reading) -> None:
    """The mistake, the reason, the logits before and after, and the text."""
    mistake, prompt = effect.mistake, harmless(reading.text)
    out.print(f"{mistake.name}: {mistake.does}", style="bold")
    out.print(f"{mistake.because}\n")
    top = reading.checkpoint.label(int(effect.logits.argmax()))
    span = float(effect.logits.max() - effect.logits.min())
    verb = "stays" if effect.rank == 1 else "becomes"
    out.print(
        f'After "{prompt}" the largest change of a logit is {effect.largest_change:.2g}; the logits of the '
        f"last token span {span:.1f}. The likeliest token, {top}, {verb} number {effect.rank:,}.\n"
    )
    sides = {"right": effect.logits, "wrong": effect.wrong_logits}
    columns = [Column("", [str(rank) for rank in range(1, N_TOP + 1)], right=True)]
    for name, logits in sides.items():
        columns += side_columns(name, logits, reading.checkpoint)
    print_table(out, columns, narrow="continue")
    if effect.text or effect.wrong_text:
        out.print(f"\nright: {prompt}{one_line(effect.text)}")
        out.print(f"wrong: {prompt}{one_line(effect.wrong_text)}")
    out.print(f"\nMade by {MADE_IN[mistake.changes]} (minigpt/inspection/gallery.py).", style="dim")


def side_columns(name: str, logits: Float[np.ndarray, " vocab"], checkpoint: Checkpoint) -> list[Column]:
    """The likeliest tokens of the right or of the wrong model."""
    rows = next_tokens(logits, checkpoint.tokenizer, N_TOP)
    return [
        Column(name, [checkpoint.label(row.id) for row in rows], style="bold", group=name),
        Column("logit", [f"{row.logit:.2f}" for row in rows], right=True, group=name),
        Column("%", [f"{100 * row.probability:.1f}" for row in rows], right=True, group=name),
    ]


def one_line(text: str) -> str:
    """Text with its line ends shown."""
    return harmless(text.replace("\n", "⏎"))
