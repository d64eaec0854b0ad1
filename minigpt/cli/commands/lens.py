"""`minigpt lens`: what each layer would predict if it were the last."""

import argparse
from typing import TYPE_CHECKING

from ..terminal import console, cut, print_rows
from . import open_model, print_json
from ._looking import (
    about,
    add_intervention_arguments,
    add_prompt_arguments,
    check_position,
    intervention,
    labels,
    look,
    pad,
    prompt_ids,
)

if TYPE_CHECKING:
    import rich.console

    import minigpt.inspection
    import minigpt.tokenizer

HELP = "the logit lens: what each layer would predict if it were the last"
NARROWEST_CELL = 12  # columns for a token and its per cent
LONGEST_TOKEN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The prompt and what to show of it."""
    add_prompt_arguments(parser, 'minigpt lens "I love" --ablate h.0.attn.v:3')
    parser.add_argument(
        "--position", type=int, metavar="N", help="only after this token, but its likeliest few"
    )
    parser.add_argument("--top", type=int, metavar="N", default=5, help="how many of them (5)")
    add_intervention_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Read the residual stream at every depth and show what it predicts."""
    source, model, tokenizer = open_model(args)
    from ...inspection import logit_lens

    ids = prompt_ids(args, model, tokenizer)
    check_position(args.position, len(ids))
    hook, changes = intervention(args, model, tokenizer, len(ids))
    found = look(lambda hook: logit_lens(model, ids, top=args.top, hook=hook), hook, changes)
    if args.json:
        positions = list(range(len(ids))) if args.position is None else [args.position % len(ids)]
        print_json(about(source, model, tokenizer, ids) | as_document(tokenizer, found, positions, changes))
        return
    out = console()
    tokens = labels(tokenizer, ids)
    if args.position is None:
        all_positions(out, found, tokenizer, tokens)
    else:
        one_position(out, found, tokenizer, tokens, args.position % len(ids))
    for change in changes:
        out.print(f"changed: {change}", soft_wrap=True)


def as_document(
    tokenizer: "minigpt.tokenizer.AnyTokenizer",
    found: "minigpt.inspection.Lens",
    positions: list[int],
    changes: list[str],
) -> dict[str, object]:
    """What was asked for, by depth, position and rank."""
    from ...tokenizer import token_text

    def likeliest(d: int, p: int) -> list[dict[str, object]]:
        columns = (array[d, p].tolist() for array in (found.ids, found.logits, found.probabilities))
        return [
            {"id": i, "text": token_text(tokenizer, i), "logit": logit, "probability": chance}
            for i, logit, chance in zip(*columns, strict=True)
        ]

    depths = [
        {"name": name, "positions": [likeliest(d, p) for p in positions]}
        for d, name in enumerate(found.names)
    ]
    return {"positions": positions, "depths": depths, "changes": changes}


def all_positions(
    out: "rich.console.Console",
    found: "minigpt.inspection.Lens",
    tokenizer: "minigpt.tokenizer.AnyTokenizer",
    tokens: list[str],
) -> None:
    """A row per depth and a column per token: the likeliest next token, and its probability in per cent."""
    names = [depth(name) for name in found.names]
    first = max(map(len, names)) + 2
    n_shown = min(len(tokens), (out.width - first) // NARROWEST_CELL)
    if n_shown < 1:
        one_position(out, found, tokenizer, tokens, len(tokens) - 1, top=1)
        out.print("--position N shows another token, and more of what is likely there.", style="dim")
        return
    width = min((out.width - first) // n_shown, 20)
    shown = range(len(tokens) - n_shown, len(tokens))
    out.print(
        "The likeliest next token, and its probability in per cent, if the model ended at each depth:\n"
    )
    out.print(
        " " * first + "".join(pad(f"after {tokens[p]}", width) for p in shown), style="dim", no_wrap=True
    )
    for d, name in enumerate(names):
        best = [
            (labels(tokenizer, [int(found.ids[d, p, 0])])[0], found.probabilities[d, p, 0]) for p in shown
        ]
        cells = (pad(f"{cut(token, width - 5)} {100 * chance:.0f}", width) for token, chance in best)
        out.print((pad(name, first) + "".join(cells)).rstrip(), no_wrap=True, crop=True)
    out.print("\nThe last line is the model's own prediction.", style="dim")
    if n_shown < len(tokens):
        out.print(
            f"These are the last {n_shown} of {len(tokens)} tokens; --position N shows one.", style="dim"
        )


def one_position(
    out: "rich.console.Console",
    found: "minigpt.inspection.Lens",
    tokenizer: "minigpt.tokenizer.AnyTokenizer",
    tokens: list[str],
    position: int,
    top: int | None = None,
) -> None:
    """A row per depth and a column per rank, at one position."""
    out.print(
        f"The likeliest next tokens after token {position} ({tokens[position]}), if the model ended at each "
        "depth:\n"
    )
    rows = []
    for d, name in enumerate(found.names):
        texts = labels(tokenizer, found.ids[d, position, :top].tolist())
        chances = 100 * found.probabilities[d, position, :top]
        cells = (f"{cut(t, LONGEST_TOKEN)} {c:.0f}%" for t, c in zip(texts, chances, strict=True))
        rows.append((depth(name), *cells))
    ranks = map(str, range(1, len(rows[0])))
    print_rows(out, ("", *ranks) if top != 1 else ("", ""), rows)
    out.print("\nThe last line is the model's own prediction.", style="dim")


def depth(name: str) -> str:
    """Where in the model this is: "embedding", "after layer 3"."""
    return "embedding" if name == "h.0.resid_pre" else f"after layer {name.split('.')[1]}"
