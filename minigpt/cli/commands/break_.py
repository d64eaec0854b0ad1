"""`minigpt break`: one classic mistake, and what it does to the logits and the text."""

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ...errors import InputError
from ..terminal import console, cut, harmless, print_rows
from . import open_model, print_json
from ._looking import about, add_prompt_arguments, check_finite, labels, not_finite, prompt_ids

if TYPE_CHECKING:
    import numpy
    import rich.console

    import minigpt.hooks
    import minigpt.inspection
    import minigpt.model
    import minigpt.tokenizer

HELP = "make one classic mistake and see what it does to logits and text"
MADE_IN = {
    "config": "a changed copy of the config",
    "parameters": "a changed copy of the parameters",
    "hook": "a hook",
    "block": "another block in the place of the right one",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The mistake and the prompt."""
    parser.add_argument(
        "mistake", metavar="MISTAKE", help='which one: "list" shows them, "all" makes one after the other'
    )
    add_prompt_arguments(parser, 'minigpt break erf-gelu "I love"', default="I love")
    parser.add_argument(
        "-n", "--max-new-tokens", type=int, default=12, metavar="N", help="of greedy text (12)"
    )


@dataclass(frozen=True)
class Effect:
    """What a mistake did to one prompt."""

    mistake: "minigpt.inspection.Mistake"
    logits: "numpy.ndarray"  # the last token's, right
    wrong_logits: "numpy.ndarray"
    largest_change: float  # of any logit at any position
    rank: int  # of the right model's likeliest token, counted from 1
    text: str
    wrong_text: str


def run(args: argparse.Namespace) -> None:
    """Make the mistake and compare."""
    from ...inspection import MISTAKES

    if args.mistake == "list":
        show_list(args)
        return
    chosen = list(MISTAKES) if args.mistake == "all" else [args.mistake]
    if chosen[0] not in MISTAKES:
        close = difflib.get_close_matches(args.mistake, MISTAKES, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise InputError(
            f"break: there is no mistake called {args.mistake!r}.{hint} `minigpt break list` shows them."
        )
    if args.max_new_tokens < 0:
        raise InputError(f"--max-new-tokens is {args.max_new_tokens}; it must be 0 or above.")
    source, model, tokenizer = open_model(args)
    ids = prompt_ids(args, model, tokenizer)
    effects = effects_of([MISTAKES[name] for name in chosen], model, tokenizer, ids, args.max_new_tokens)
    if args.json:
        print_json(
            about(source, model, tokenizer, ids)
            | {"mistakes": [as_document(effect, tokenizer) for effect in effects]}
        )
    elif args.mistake == "all":
        show_all(console(), effects, tokenizer, ids)
    else:
        show_one(console(), effects[0], tokenizer, ids)


def effects_of(
    mistakes: "list[minigpt.inspection.Mistake]",
    model: "minigpt.model.GPT2",
    tokenizer: "minigpt.tokenizer.AnyTokenizer",
    ids: list[int],
    n_new: int,
) -> list[Effect]:
    """Run the right model once and each wrong one, on the prompt and for some greedy tokens."""
    import numpy as np

    from ...tokenizer import text_of

    right = model(ids)
    check_finite(right)
    text = text_of(tokenizer, greedy(model, ids, n_new, None))
    likeliest, effects = int(right[-1].argmax()), []
    for mistake in mistakes:
        wrong_model, hook = mistake.apply(model)
        wrong = wrong_model(ids, hook=hook)
        if not np.isfinite(wrong).all():
            raise not_finite([mistake.name], "make another mistake with these weights")
        rank = 1 + int((wrong[-1] > wrong[-1][likeliest]).sum())
        largest_change = float(np.abs(wrong - right).max())
        wrong_text = text_of(tokenizer, greedy(wrong_model, ids, n_new, hook))
        effects.append(Effect(mistake, right[-1], wrong[-1], largest_change, rank, text, wrong_text))
    return effects


def greedy(
    model: "minigpt.model.GPT2", ids: list[int], n_new: int, hook: "minigpt.hooks.Hook | None"
) -> list[int]:
    """The likeliest token, again and again.

    Without a cache: what is kept in it is right only where tokens do not see what comes later, which is one
    of the things that a mistake may break.
    """
    new: list[int] = []
    while len(new) < n_new and len(ids) + len(new) < model.config.n_positions:
        new.append(int(model(ids + new, hook=hook, logits_to_keep=1)[-1].argmax()))
    return new


def as_document(
    effect: Effect, tokenizer: "minigpt.tokenizer.AnyTokenizer", top: int = 5
) -> dict[str, object]:
    """What a mistake did, for programs."""
    return {
        "name": effect.mistake.name,
        "does": effect.mistake.does,
        "because": effect.mistake.because,
        "changes": effect.mistake.changes,
        "largest_change": effect.largest_change,
        "rank_of_likeliest": effect.rank,
        "right": {"next_tokens": top_tokens(effect.logits, tokenizer, top), "text": effect.text},
        "wrong": {"next_tokens": top_tokens(effect.wrong_logits, tokenizer, top), "text": effect.wrong_text},
    }


def top_tokens(
    logits: "numpy.ndarray", tokenizer: "minigpt.tokenizer.AnyTokenizer", top: int
) -> list[dict[str, object]]:
    """The likeliest tokens with logit and probability."""
    from ...scoring import next_tokens

    return [asdict(row) for row in next_tokens(logits, tokenizer, top)]


# ------------------------------------------------------------------------------------- for the terminal


def show_list(args: argparse.Namespace) -> None:
    """All mistakes, with what each does."""
    from ...inspection import MISTAKES

    if args.json:
        print_json([{"name": m.name, "does": m.does, "because": m.because} for m in MISTAKES.values()])
        return
    rows = [(mistake.name, mistake.does) for mistake in MISTAKES.values()]
    print_rows(console(), ("mistake", "what is done"), rows, wraps="what is done")


def show_all(
    out: "rich.console.Console",
    effects: list[Effect],
    tokenizer: "minigpt.tokenizer.AnyTokenizer",
    ids: list[int],
) -> None:
    """A row per mistake."""
    prompt, first = harmless(tokenizer.decode(ids)), effects[0]
    top = labels(tokenizer, [int(first.logits.argmax())])[0]
    out.print(
        f'After "{prompt}" the likeliest token is {top}, and greedy text goes on '
        f'"{harmless(one_line(first.text))}". For each mistake: the largest change of any logit, the rank of '
        f"{top}, and the greedy text.\n"
    )
    rows = []
    for effect in effects:
        text = (
            "the same" if effect.wrong_text == effect.text else harmless(one_line(effect.wrong_text)).strip()
        )
        cells = (effect.mistake.name, f"{effect.largest_change:.2g}", str(effect.rank))
        rows.append((*cells, text if out.width < 64 else cut(text, out.width - 44)))
    print_rows(
        out, ("mistake", "change", "rank", "greedy text"), rows, right=("change", "rank"), wraps="greedy text"
    )


def show_one(
    out: "rich.console.Console", effect: Effect, tokenizer: "minigpt.tokenizer.AnyTokenizer", ids: list[int]
) -> None:
    """The mistake, the reason, the logits before and after, and the text."""
    mistake, prompt = effect.mistake, harmless(tokenizer.decode(ids))
    out.print(f"{mistake.name}: {mistake.does}", style="bold")
    out.print(f"{mistake.because}\n")
    top = labels(tokenizer, [int(effect.logits.argmax())])[0]
    span = float(effect.logits.max() - effect.logits.min())
    verb = "stays" if effect.rank == 1 else "becomes"
    out.print(
        f'After "{prompt}" the largest change of a logit is {effect.largest_change:.2g}; the logits of the '
        f"last token span {span:.1f}. The likeliest token, {top}, {verb} number {effect.rank}.\n"
    )
    sides = [
        [cells(token, tokenizer) for token in top_tokens(logits, tokenizer, 5)]
        for logits in (effect.logits, effect.wrong_logits)
    ]
    show_sides(out, *sides)
    if effect.text or effect.wrong_text:
        out.print(f"\nright: {prompt}{harmless(one_line(effect.text))}", soft_wrap=False)
        out.print(f"wrong: {prompt}{harmless(one_line(effect.wrong_text))}", soft_wrap=False)
    out.print(f"\nMade by {MADE_IN[mistake.changes]} (minigpt/inspection/gallery.py).", style="dim")


def show_sides(
    out: "rich.console.Console", right: Sequence[tuple[str, ...]], wrong: Sequence[tuple[str, ...]]
) -> None:
    """The likeliest tokens of the right and of the wrong model, side by side if there is room for both."""
    from rich.cells import cell_len

    both = [(*r, "", *w) for r, w in zip(right, wrong, strict=True)]
    headers = ("right", "logit", "%", "", "wrong", "logit", "%")
    if sum(max(map(cell_len, column)) + 2 for column in zip(headers, *both, strict=True)) < out.width:
        rows = [(str(rank), *row) for rank, row in enumerate(both, start=1)]
        print_rows(out, ("", *headers), rows, right=("logit", "%"))
        return
    print_rows(out, headers[:3], right, right=("logit", "%"))
    print_rows(out, headers[4:], wrong, right=("logit", "%"))


def cells(token: dict[str, object], tokenizer: "minigpt.tokenizer.AnyTokenizer") -> tuple[str, str, str]:
    """A token's cells in the table."""
    return (
        labels(tokenizer, [int(str(token["id"]))])[0],
        f"{token['logit']:.2f}",
        f"{100 * float(str(token['probability'])):.1f}",
    )


def one_line(text: str) -> str:
    """Text with its line ends shown."""
    return text.replace("\n", "⏎")
