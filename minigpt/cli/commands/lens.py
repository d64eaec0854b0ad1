"""`minigpt lens`: what each layer would predict if it were the last."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from ...checks import checked_position
from ...hooks import Hook
from ...inspection.lens import Lens, check_top, logit_lens
from ...tokenizer import token_text
from ..document import print_json, reading_document
from ..options import LookOptions, add_change_options, add_prompt
from ..passes import Checkpoint, Reading, look, open_prompt
from ..tables import Column, console, cut, print_table, waiting

NARROWEST_CELL, LONGEST_TOKEN = 14, 20  # columns for a token and its per cent, with the gap; for a token
MANY_TOKENS = 100  # which take seconds


@dataclass(frozen=True, kw_only=True)
class Options(LookOptions):
    """Which predictions are shown."""

    position: int | None
    top: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """The prompt and what to show of it."""
    add_prompt(parser, 'minigpt lens "I love" --ablate h.0.attn.v:3')
    parser.add_argument(
        "--position", type=int, metavar="N", help="what is predicted after this token alone, in more detail"
    )
    parser.add_argument("--top", type=int, metavar="N", default=5, help="tokens shown at each depth (5)")
    add_change_options(parser)


def run(options: Options) -> None:
    """Read the residual stream at every depth and show what it predicts."""
    reading, out = open_prompt(options), console()
    model = reading.checkpoint.model
    check_top(options.top, model.config.vocab_size)
    room = out.width - len(depth(f"h.{model.config.n_layer - 1}.resid_post"))
    positions = choose_positions(options, len(reading.ids), room // NARROWEST_CELL)

    def compute(hook: Hook | None) -> Lens:
        with waiting(f"{len(positions):,} tokens at every depth", len(reading.ids) > MANY_TOKENS):
            return logit_lens(model, reading.ids, top=options.top, positions=positions, hook=hook)

    lens = look(compute, reading.changes)
    if options.json:
        print_json(reading_document(reading) | as_document(reading, lens, positions))
        return
    if options.position is None and room >= NARROWEST_CELL:
        print_depths(out, lens, reading, positions)
    else:
        print_ranks(out, lens, reading, positions[0], options)
    for change in reading.changes.words:
        out.print(f"changed: {change}", soft_wrap=True)


def choose_positions(options: Options, n_tokens: int, n_columns: int) -> list[int]:
    """The tokens behind which something is predicted: one, all for a program, or the last that fit."""
    if options.position is not None:
        return [checked_position(options.position, n_tokens)]
    if options.json:
        return list(range(n_tokens))
    return list(range(max(0, n_tokens - max(1, n_columns)), n_tokens))


def as_document(reading: Reading, lens: Lens, positions: Sequence[int]) -> dict[str, object]:
    """What was asked for, by depth, position and rank."""

    def likeliest(d: int, p: int) -> list[dict[str, object]]:
        columns = (array[d, p].tolist() for array in (lens.ids, lens.logits, lens.probabilities))
        return [
            {"id": i, "text": token_text(reading.checkpoint.tokenizer, i), "logit": logit, "probability": p}
            for i, logit, p in zip(*columns, strict=True)
        ]

    depths = [
        {"name": name, "positions": [likeliest(d, p) for p in range(len(positions))]}
        for d, name in enumerate(lens.names)
    ]
    return {"positions": list(positions), "depths": depths, "changes": reading.changes.words}


def print_depths(out: Console, lens: Lens, reading: Reading, positions: Sequence[int]) -> None:
    """A row per depth and a column per token: the likeliest next token, and its probability in per cent."""
    width = min((out.width - len("after layer 10")) // len(positions) - 2, LONGEST_TOKEN)
    columns = [Column("", [depth(name) for name in lens.names])]
    for column, position in enumerate(positions):
        cells = depth_cells(lens, reading.checkpoint, column, width)
        columns.append(Column(cut(f"after {reading.tokens[position]}", width), cells))
    out.print(
        "The likeliest next token, and its probability in per cent, if the model ended at each depth:\n"
    )
    print_table(out, columns, drop=columns[1:-1])
    out.print("\nThe last line is the model's own prediction.", style="dim")
    if len(positions) < len(reading.ids):
        out.print(
            f"These are the last {len(positions)} of {len(reading.ids)} tokens; --position N shows one.",
            style="dim",
        )


def depth_cells(lens: Lens, checkpoint: Checkpoint, column: int, width: int) -> list[str]:
    """The likeliest token at each depth, and its probability in per cent."""
    best = zip(lens.ids[:, column, 0].tolist(), lens.probabilities[:, column, 0], strict=True)
    return [f"{cut(checkpoint.label(token), width - 4)} {100 * p:.0f}" for token, p in best]


def print_ranks(out: Console, lens: Lens, reading: Reading, position: int, options: Options) -> None:
    """A row per depth and a column per rank, at one position."""
    top = options.top if options.position is not None else 1  # for more there is no room
    out.print(
        f"The likeliest next tokens after token {position} ({reading.tokens[position]}), if the model ended "
        "at each depth:\n"
    )
    columns = [Column("", [depth(name) for name in lens.names])]
    for rank in range(top):
        best = zip(lens.ids[:, 0, rank].tolist(), lens.probabilities[:, 0, rank], strict=True)
        cells = [f"{cut(reading.checkpoint.label(t), LONGEST_TOKEN)} {100 * p:.0f}%" for t, p in best]
        columns.append(Column(str(rank + 1) if top > 1 else "", cells))
    print_table(out, columns)
    out.print("\nThe last line is the model's own prediction.", style="dim")
    if options.position is None:
        out.print("--position N shows another token, and more of what is likely there.", style="dim")


def depth(name: str) -> str:
    """Where in the model this is: "embedding", "after layer 3"."""
    return "embedding" if name == "h.0.resid_pre" else f"after layer {name.split('.')[1]}"
