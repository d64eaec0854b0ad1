"""`minigpt score`: how likely a model finds a text, and which of its tokens surprise it most."""

import argparse
import math
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError, NumericsError
from ..terminal import NARROWEST, WIDEST, console, harmless, indented, print_rows, table, visible
from . import add_model_arguments, open_model, print_json, read_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ...model import GPT2
    from ...scoring import ScoredTokens
    from ...tokenizer import AnyTokenizer

HELP = "perplexity of a text, and its most surprising tokens"
PATIENCE = 2.0  # seconds that one waits without asking how long it will take
TOKENS_OF_CONTEXT = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The text, and how to read it."""
    parser.epilog = "example: minigpt score README.md --top 20"
    parser.add_argument("file", metavar="FILE", help='a text file in UTF-8; "-" reads standard input')
    parser.add_argument(
        "--stride",
        type=int,
        metavar="N",
        help="how many tokens each window of text begins after the last one; less is slower and gives the "
        "model more to go by (half its context)",
    )
    parser.add_argument("--top", type=int, metavar="N", default=10, help="surprising tokens to show (10)")
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Read the text, score it window by window, and show the figures."""
    if args.top < 0:
        raise InputError(f"--top is {args.top}; it must be 0 or above.")
    name, text = read_text(args.file)
    if not text:
        raise InputError(f"{name}: it is empty; scoring takes a text.")
    source, model, tokenizer = open_model(args)
    score = score_text(model, tokenizer, name, text, args.stride, args.top)
    if not math.isfinite(score.perplexity):
        raise NumericsError(f"{source.name}: the perplexity is {score.perplexity}; its weights are broken.")
    if args.json:
        from ..document import model_document

        print_json({"model": model_document(source, model), "file": name, **asdict(score)})
    else:
        show(console(), f"{name}, read by {Path(source.name).name}", score)


# ------------------------------------------------------------------------------------------- the figures


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


def score_text(
    model: "GPT2", tokenizer: "AnyTokenizer", name: str, text: str, stride: int | None, top: int
) -> Score:
    """Run the model over the text, with a progress bar if that takes long."""
    import numpy as np

    from ...scoring import checked_stride, never_seen, perplexity_of, score_windows, windows
    from ...tokenizer import token_text

    stride = checked_stride(stride, model.config.n_positions)
    ids = np.array(tokenizer.encode(text))
    if len(ids) == 1:
        raise InputError(f"{name}: it is a single token, and nothing predicts the first; give a longer text.")
    n_windows = len(windows(len(ids), model.config.n_positions, stride))
    scored = list(with_progress(score_windows(model, ids, stride), n_windows))
    positions = np.concatenate([np.arange(part.start, part.start + len(part.logprobs)) for part in scored])
    logprobs = np.concatenate([part.logprobs for part in scored])
    likeliest = np.concatenate([part.likeliest for part in scored])
    n_bytes = sum(len(tokenizer.token_bytes(token_id)) for token_id in ids[positions].tolist())
    bits = -float(logprobs.sum()) / math.log(2)

    def surprise(index: int) -> Surprise:
        position = int(positions[index])
        before = tokenizer.decode(ids[max(0, position - TOKENS_OF_CONTEXT) : position].tolist())
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
        never_seen=len(never_seen(model, ids.tolist())),
    )


def with_progress(scored: Iterator["ScoredTokens"], n_windows: int) -> Iterator["ScoredTokens"]:
    """Pass the results on; the time that the first one took tells whether to show a bar meanwhile."""
    start = time.monotonic()
    yield next(scored)
    seconds = (time.monotonic() - start) * n_windows
    if seconds < PATIENCE or sys.stderr is None or not sys.stderr.isatty():
        yield from scored
        return
    from rich.progress import Progress

    with Progress(console=console(sys.stderr), transient=True) as progress:
        task = progress.add_task("scoring", total=n_windows, completed=1)
        for part in scored:
            yield part
            progress.advance(task)


# ------------------------------------------------------------------------------------------ the terminal


def show(out: "Console", title: str, score: Score) -> None:
    """The figures with what they mean, and the surprises in context."""
    from ...scoring import never_seen_note

    out.width = min(out.width, WIDEST)
    out.print(f"{harmless(title)}: {score.tokens:,} tokens\n")
    if score.never_seen:
        out.print(f"{never_seen_note(score.never_seen, score.tokens)}\n")
    figures = (
        (score.perplexity, "perplexity: as unsure as between so many equally likely tokens"),
        (score.bits_per_token, "bits per token: the same as a logarithm"),
        (score.bits_per_byte, "bits per byte: the same for each byte of the text"),
    )
    print_rows(out, ("", ""), [(f"{figure:>9,.2f}", meaning) for figure, meaning in figures], wraps="")
    if score.most_surprising:
        out.print("\nThe tokens that surprised it most, behind the text that leads there:")
        out.print(surprises(out.width, score.most_surprising))


def surprises(width: int, rows: list[Surprise]) -> "RenderableType":
    """A line per token: what stands before it, how improbable it was, and what was expected instead.

    In a narrow terminal the figures stand below the text.
    """
    from rich.cells import cell_len
    from rich.console import Group
    from rich.text import Text

    columns = {
        "position": [f"{row.position:,}" for row in rows],
        "chance": [one_in(math.exp(min(-row.logprob, 700))) for row in rows],
        "expected": [visible(row.expected) for row in rows],
    }
    room = width - sum(max(map(cell_len, (name, *cells))) + 2 for name, cells in columns.items())
    text_width = width if room < NARROWEST else room
    result = table(*("text", *columns), right=["text", "position", "chance"])
    below: list[RenderableType] = []
    for index, row in enumerate(rows):
        token = visible(row.text)
        before = last_columns(re.sub(r"\s+", " ", harmless(row.context)), text_width - cell_len(token))
        text = Text.assemble((before, "dim"), (token, "bold"))
        position, chance, expected = (column[index] for column in columns.values())
        result.add_row(text, position, chance, expected)
        below += [text, *indented([f"position {position}", chance, f"expected {expected}"], width)]
    return Group(*below) if room < NARROWEST else result


def one_in(times: float) -> str:
    """A small chance, to two digits."""
    if times >= 1e12:
        return f"1 in {times:.1e}"
    digits = max(0, math.floor(math.log10(times)) - 1)
    return f"1 in {round(times, -digits):,.0f}"


def last_columns(text: str, width: int) -> str:
    """The end of a text, in at most so many columns."""
    from rich.cells import cell_len

    start = 0
    while cell_len(text[start:]) > max(width - 1, 0):
        start += 1
    return "…" + text[start:] if start else text
