"""`minigpt attention`: who looks at whom, per layer and head."""

import argparse
from typing import TYPE_CHECKING

from ...errors import InputError
from ..options import open_model, print_json
from ..passes import (
    about,
    add_intervention_arguments,
    add_prompt_arguments,
    check_finite,
    check_position,
    intervention,
    labels,
    look,
    pad,
    prompt_ids,
)
from ..terminal import console, cut

if TYPE_CHECKING:
    import numpy
    import rich.console
    import rich.text

    import minigpt.hooks

HELP = "who looks at whom: attention weights, per layer and head"
# A digit is a weight in tenths, so that no colour is needed to read it; nothing at all is masked.
DIGITS = ".123456789#"
LEGEND = "a digit is a weight in tenths, . less than 0.05, # more than 0.95; blank is masked"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The prompt and what to show of it."""
    add_prompt_arguments(
        parser,
        'minigpt attention "The cat sat because it was tired" --layer 5 --head 1',
        'minigpt attention "I love" --patch h.0.mlp.out --patch-from "I hate"',
    )
    parser.add_argument("--layer", type=int, metavar="L", help="show every token's weights in this layer")
    parser.add_argument("--head", type=int, metavar="H", help="of that layer, only this head")
    parser.add_argument(
        "--position", type=int, metavar="N", help="who looks: in the summary (the last), or with --json (all)"
    )
    add_intervention_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Compute the weights and show the summary, one layer, or one head."""
    source, model, tokenizer = open_model(args)
    from ...inspection import attention_weights

    ids = prompt_ids(args, model, tokenizer)
    check_ranges(args, model.config.n_layer, model.config.n_head, len(ids))
    hook, changes = intervention(args, model, tokenizer, len(ids))

    def found(hook: "minigpt.hooks.Hook | None") -> "numpy.ndarray":
        weights = attention_weights(model, ids, hook=hook)
        check_finite(weights)
        return weights

    weights = look(found, hook, changes)
    tokens = labels(tokenizer, ids)
    if args.json:
        print_json(about(source, model, tokenizer, ids) | as_document(args, weights, changes))
        return
    out = console()
    if args.layer is None:
        summary(out, weights, tokens, -1 % len(ids) if args.position is None else args.position % len(ids))
    elif args.head is None:
        heads(out, weights[args.layer], tokens, args.layer, range(model.config.n_head))
    else:
        one_head(out, weights[args.layer], tokens, args.layer, args.head)
    for change in changes:
        out.print(f"changed: {change}", soft_wrap=True)


def check_ranges(args: argparse.Namespace, n_layer: int, n_head: int, n_tokens: int) -> None:
    """Raise `InputError` for a layer, head or position that does not exist."""
    if args.head is not None and args.layer is None:
        raise InputError("--head needs --layer: heads are numbered within a layer.")
    for name, value, n in (("layer", args.layer, n_layer), ("head", args.head, n_head)):
        if value is not None and not 0 <= value < n:
            raise InputError(f"--{name} is {value}; this model has {name}s 0 to {n - 1}.")
    check_position(args.position, n_tokens)
    if args.position is not None and args.layer is not None and not args.json:
        raise InputError(
            "--position and --layer exclude each other: a layer is shown with all of its tokens."
        )


def as_document(args: argparse.Namespace, weights: "numpy.ndarray", changes: list[str]) -> dict[str, object]:
    """The weights that were asked for, `weights[layer][head][position][key]`: layer 5 may be the first."""
    n_tokens = weights.shape[-1]
    layers = range(len(weights)) if args.layer is None else [args.layer]
    chosen = range(weights.shape[1]) if args.head is None else [args.head]
    positions = list(range(n_tokens)) if args.position is None else [args.position % n_tokens]
    return {
        "layers": list(layers),
        "heads": list(chosen),
        "positions": positions,
        "weights": [[weights[layer, head, positions].tolist() for head in chosen] for layer in layers],
        "changes": changes,
    }


# ------------------------------------------------------------------------------------- for the terminal


def summary(out: "rich.console.Console", weights: "numpy.ndarray", tokens: list[str], position: int) -> None:
    """One cell per layer and head: where the token at `position` looks most, and how much."""
    from rich.text import Text

    n_layer, n_head = weights.shape[:2]
    rows = weights[:, :, position, : position + 1]
    most, label, width = rows.argmax(axis=-1), len("layer "), len(f" {position}:99")
    out.print(
        f"Where token {position} ({tokens[position]}) looks most in each head, and with how much weight, "
        "in per cent (99 is 99 or more):"
    )
    show_tokens(out, tokens, sorted({position, *most.ravel().tolist()}))
    per_row = max(1, (out.width - label) // width)
    for start in range(0, n_head, per_row):
        chosen = range(start, min(start + per_row, n_head))
        head = "layer ".ljust(label) + "".join(f"h{h}".rjust(width) for h in chosen)
        out.print("\n" + head, style="dim", no_wrap=True, crop=True)
        for layer in range(n_layer):
            line = Text(f"{layer:>5} ")
            for h in chosen:
                key = int(most[layer, h])
                line.append_text(_looks_at(key, float(rows[layer, h, key]), width))
            out.print(line, no_wrap=True, crop=True)
    out.print(
        "\nA head that finds nothing looks at token 0. Closer: --layer L, or also --head H.", style="dim"
    )


def _looks_at(key: int, weight: float, width: int) -> "rich.text.Text":
    from rich.text import Text

    cell = f"{key}:{min(99, round(weight * 100))}".rjust(width)
    return Text(cell, style="bold" if weight >= 0.8 else "dim" if weight < 0.4 else "")


def show_tokens(out: "rich.console.Console", tokens: list[str], looked_at: list[int]) -> None:
    """The tokens with their numbers; of a long text only those that are looked at."""
    shown = range(len(tokens)) if len(tokens) <= 30 else looked_at
    out.print("   ".join(f"{i} {cut(tokens[i], 20)}" for i in shown), style="dim")


def heads(
    out: "rich.console.Console", weights: "numpy.ndarray", tokens: list[str], layer: int, numbers: range
) -> None:
    """Some heads of a layer as small maps, side by side."""
    from rich.text import Text

    label = min(max(map(len, tokens)), 12) + 1
    shown = fitting(len(tokens), max(2, out.width - label - 2))
    width = max(len(shown), 7) + 2
    per_row = max(1, (out.width - label) // width)
    out.print(f"Layer {layer}: each row is a token, each column a token that it looks at; {LEGEND}.")
    for start in range(0, len(numbers), per_row):
        chosen = numbers[start : start + per_row]
        titles = "".join(f" head {h}".ljust(width) for h in chosen)
        out.print("\n" + " " * label + titles, style="dim", no_wrap=True, crop=True)
        for query in shown:
            line = Text(pad(tokens[query], label))
            for h in chosen:
                line.append(" ")
                for key in shown:
                    line.append_text(_digit(float(weights[h, query, key]), key <= query))
                line.append(" " * (width - 1 - len(shown)))
            line.rstrip()
            out.print(line, no_wrap=True, crop=True)
    if len(shown) < len(tokens):
        left_out = f"Shown: token 0 and tokens {shown[1]} to {shown[-1]}; a wider terminal shows more."
        out.print(f"\n{left_out}", style="dim")


def one_head(
    out: "rich.console.Console", weights: "numpy.ndarray", tokens: list[str], layer: int, head: int
) -> None:
    """One head: the weights in per cent, if they fit, else as digits."""
    from rich.text import Text

    label = min(max(map(len, tokens)), 14) + 1
    cell = max(5, min(9, (out.width - label) // len(tokens)))
    if cell * len(tokens) > out.width - label:
        heads(out, weights, tokens, layer, range(head, head + 1))
        return
    out.print(f"Layer {layer}, head {head}: each row is a token, with its weights in per cent.\n")
    out.print(" " * label + "".join(pad(t, cell, right=True) for t in tokens), style="dim")
    for query, token in enumerate(tokens):
        line = Text(pad(token, label))
        for weight in weights[head, query, : query + 1]:
            line.append(f"{weight * 100:.0f}".rjust(cell), style=shade(float(weight)))
        out.print(line, no_wrap=True, crop=True)


def fitting(n_tokens: int, width: int) -> list[int]:
    """The tokens of a map that fits: all, or the first, where idle heads look, and the last ones."""
    return list(range(n_tokens)) if n_tokens <= width else [0, *range(n_tokens - width + 1, n_tokens)]


def _digit(weight: float, seen: bool) -> "rich.text.Text":
    from rich.text import Text

    return Text(DIGITS[round(weight * 10)] if seen else " ", style=shade(weight) if seen else "")


def shade(weight: float) -> str:
    """A background for a weight: five steps of one hue, with a foreground that reads on each."""
    dark, light = ("#123047", "#17517a", "#1f78b4"), ("#7fc4ee", "#d6efff")
    steps = ("", *(f"white on {colour}" for colour in dark), *(f"black on {colour}" for colour in light))
    return steps[min(int(weight * 5.0 + 0.5), 5)]
