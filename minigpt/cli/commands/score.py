"""`minigpt score`: how likely a model finds a text, and which of its tokens surprise it most."""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from rich.console import Console
from rich.text import Text

from ...errors import InputError, NumericsError, notice
from ...hooks import Hook
from ...scoring import (
    ScoredTokens,
    checked_stride,
    never_seen,
    never_seen_note,
    perplexity_of,
    score_windows,
    windows,
)
from ...tokenizer import bytes_of, text_of, token_text
from ..document import print_json
from ..options import ChangeOptions, ModelOptions, add_change_options, add_model_options, number
from ..passes import Changes, Checkpoint, look, model_document, model_name, open_model, plan_changes
from ..tables import WIDEST, Column, console, print_table, with_progress
from ..terminal import harmless, visible
from ..text_files import TextFile, read_text

TOKENS_OF_CONTEXT = 40


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions, ChangeOptions):
    """Which text is scored, and how."""

    file: str
    special: bool
    stride: int | None
    top: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """The text, and how to read it."""
    parser.epilog = "example: minigpt score README.md --top 20"
    parser.add_argument("file", metavar="FILE", help='a text file in UTF-8; "-" reads standard input')
    parser.add_argument(
        "--special", action="store_true", help="<|endoftext|> in the text means the token between documents"
    )
    parser.add_argument(
        "--stride",
        type=int,
        metavar="N",
        help="how many tokens each window of text begins after the last one; less is slower and gives the "
        "model more to go by (half its context)",
    )
    parser.add_argument(
        "--top", type=number("n_surprises", int), metavar="N", default=10,
        help="surprising tokens to show (10)",
    )  # fmt: skip
    add_model_options(parser)
    add_change_options(parser)


def run(options: Options) -> None:
    """Read the text, score it window by window, and show the figures."""
    file = read_text(options.file, special=options.special)
    if not file.text:
        raise InputError(f"{file.name}: it is empty; scoring takes a text.")
    checkpoint = open_model(options)
    if file.notes:
        notice(f"{file.name}: {', '.join(file.notes)}.")
    source, model = checkpoint.source, checkpoint.model
    ids = encode(checkpoint, file, options.special)
    stride = checked_stride(options.stride, model.config.n_positions)
    changes = plan(options, checkpoint, ids, stride)
    score = summarise(checkpoint, ids, stride, options.top, look(scorer(checkpoint, ids, stride), changes))
    if not math.isfinite(score.perplexity):
        raise NumericsError(f"{source.name}: the perplexity is {score.perplexity}; its weights are broken.")
    if options.json:
        document = {"model": model_document(source, model), "file": file.name, **asdict(score)}
        print_json(document | ({"changes": changes.words} if changes.words else {}))
    else:
        out = console()
        show(out, f"{file.name}, read by {model_name(source)}", score)
        for change in changes.words:
            out.print(f"changed: {change}", soft_wrap=True)


# ------------------------------------------------------------------------------------------- the figures

Ids = Int[np.ndarray, " tokens"]


@dataclass(frozen=True)
class Surprise:
    """A token that the model did not expect where it stands."""

    position: int
    id: int
    text: str
    context: str  # the text before it
    logprob: float
    expected: str  # the text of the likeliest token there


@dataclass(frozen=True)
class Score:
    """What the model thinks of a text. The first token follows nothing, so the figures are without it."""

    tokens: int
    scored_tokens: int
    stride: int
    perplexity: float
    bits_per_token: float
    bits_per_byte: float
    most_surprising: list[Surprise]
    never_seen: int  # tokens that were not in what the model was trained on


def encode(checkpoint: Checkpoint, file: TextFile, special: bool) -> Ids:
    """The tokens of the text."""
    tokenizer: Any = checkpoint.tokenizer  # one that was loaded, which knows special tokens
    ids = tokenizer.encode(file.text, allow_special=special)
    if len(ids) == 1:
        raise InputError(
            f"{file.name}: it is a single token, and nothing predicts the first; give a longer text."
        )
    return np.array(ids)


def plan(options: Options, checkpoint: Checkpoint, ids: Ids, stride: int) -> Changes:
    """What is changed in the forward passes. Raises `InputError` for a patch of more windows than one."""
    n_windows = len(windows(len(ids), checkpoint.model.config.n_positions, stride))
    if options.patch and n_windows > 1:
        raise InputError(
            f"--patch: this text is read in {n_windows} windows, and a patch is of the positions of one; "
            f"give a text of at most {checkpoint.model.config.n_positions} tokens."
        )
    return plan_changes(options, checkpoint, len(ids), len(ids) - 1)  # the last token predicts nothing here


def scorer(checkpoint: Checkpoint, ids: Ids, stride: int) -> Callable[[Hook | None], list[ScoredTokens]]:
    """What runs the model over the text, with a progress bar if that takes long."""
    n_windows = len(windows(len(ids), checkpoint.model.config.n_positions, stride))

    def score(hook: Hook | None) -> list[ScoredTokens]:
        scored = score_windows(checkpoint.model, ids, stride, hook=hook)
        return list(with_progress(scored, n_windows, "scoring"))

    return score


def summarise(
    checkpoint: Checkpoint, ids: Ids, stride: int, top: int, scored: Sequence[ScoredTokens]
) -> Score:
    """The figures of a text."""
    tokenizer = checkpoint.tokenizer
    positions = np.concatenate([part.start + np.arange(len(part.ids)) for part in scored])
    logprobs = np.concatenate([part.logprobs for part in scored])
    likeliest = np.concatenate([part.likeliest for part in scored])
    n_bytes = sum(len(bytes_of(tokenizer, token_id)) for token_id in ids[positions].tolist())
    bits = -float(logprobs.sum()) / math.log(2)

    def surprise(index: int) -> Surprise:
        position = int(positions[index])
        before = text_of(tokenizer, ids[max(0, position - TOKENS_OF_CONTEXT) : position].tolist())
        text, expected = (token_text(tokenizer, int(i)) for i in (ids[position], likeliest[index]))
        return Surprise(position, int(ids[position]), text, before, float(logprobs[index]), expected)

    return Score(
        tokens=len(ids),
        scored_tokens=len(positions),
        stride=stride,
        perplexity=perplexity_of(logprobs),
        bits_per_token=bits / len(positions),
        bits_per_byte=bits / n_bytes,
        most_surprising=[surprise(int(index)) for index in np.argsort(logprobs, kind="stable")[:top]],
        never_seen=len(never_seen(checkpoint.model, ids.tolist())),
    )


# ------------------------------------------------------------------------------------------ the terminal


def show(out: Console, title: str, score: Score) -> None:
    """The figures with what they mean, and the surprises in context."""
    out.width = min(out.width, WIDEST)
    out.print(f"{harmless(title)}: {score.tokens:,} tokens\n")
    if score.never_seen:
        out.print(f"{never_seen_note(score.never_seen, score.tokens)}\n")
    figures = (
        (score.perplexity, "perplexity: as unsure as between so many equally likely tokens"),
        (score.bits_per_token, "bits per token: the same as a logarithm"),
        (score.bits_per_byte, "bits per byte: the same for each byte of the text"),
    )
    values = Column("", [f"{figure:,.2f}" for figure, _ in figures], right=True)
    print_table(out, [values, Column("", [meaning for _, meaning in figures], flexible="wrap")])
    if score.most_surprising:
        out.print("\nThe tokens that surprised it most, behind the text that leads there:")
        print_table(out, surprise_columns(score.most_surprising))


def surprise_columns(rows: Sequence[Surprise]) -> list[Column]:
    """A line per token: what stands before it, how improbable it was, and what was expected instead."""
    texts = [
        Text.assemble((re.sub(r"\s+", " ", harmless(row.context)), "dim"), (visible(row.text), "bold"))
        for row in rows
    ]
    return [
        Column("text", texts, right=True, flexible="end"),
        Column("position", [f"{row.position:,}" for row in rows], right=True),
        Column("chance", [one_in(math.exp(min(-row.logprob, 700))) for row in rows], right=True),
        Column("expected", [visible(row.expected) for row in rows]),
    ]


def one_in(times: float) -> str:
    """A small chance, to two digits."""
    if times >= 1e12:
        return f"1 in {times:.1e}"
    digits = max(0, math.floor(math.log10(times)) - 1)
    return f"1 in {round(times, -digits):,.0f}"
