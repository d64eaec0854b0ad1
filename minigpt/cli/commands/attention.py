"""`minigpt attention`: who looks at whom, per layer and head."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.text import Text

from ...checks import checked_position
from ...errors import InputError, notice
from ...hooks import Hook
from ...inspection.attention import attention_weights
from ...inspection.intervention import check_index
from ...parameters import Config
from ..document import reading_document
from ..options import LookOptions, add_change_options, add_prompt
from ..passes import check_finite, look, open_prompt
from ..tables import Column, console, cut, print_table

# A digit is a weight in tenths, so that no colour is needed to read it; nothing at all is masked.
DIGITS = ".123456789#"
LEGEND = "a digit is a weight in tenths, . less than 0.05, # more than 0.95; blank is masked"
LONGEST_LABEL = 13  # columns for a token beside its row
BYTES_PER_WEIGHT = 22  # of JSON: a number in full, a comma and a space
MUCH_JSON = 100_000_000  # bytes

AllWeights = Float[np.ndarray, "n_layer n_head tokens tokens"]
LayerWeights = Float[np.ndarray, "n_head tokens tokens"]


@dataclass(frozen=True, kw_only=True)
class Options(LookOptions):
    """Which weights are shown."""

    layer: int | None
    head: int | None
    position: int | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """The prompt and what to show of it."""
    add_prompt(
        parser,
        'minigpt attention "The cat sat because it was tired" --layer 5 --head 1',
        'minigpt attention "I love" --patch h.0.mlp.out --patch-from "I hate"',
    )
    parser.add_argument("--layer", type=int, metavar="L", help="show every token's weights in this layer")
    parser.add_argument("--head", type=int, metavar="H", help="of that layer, only this head")
    parser.add_argument(
        "--position",
        type=int,
        metavar="N",
        help="the token that looks: in the summary the last, with --json all",
    )
    add_change_options(parser)


def run(options: Options) -> None:
    """Compute the weights and show the summary, one layer, or one head."""
    reading = open_prompt(options)
    position = check_choice(options, reading.checkpoint.model.config, len(reading.ids))

    def compute(hook: Hook | None) -> AllWeights:
        weights = attention_weights(reading.checkpoint.model, reading.ids, hook=hook)
        check_finite(weights)
        return weights

    weights = look(compute, reading.changes)
    if options.json:
        print_document(reading_document(reading) | {"changes": reading.changes.words}, weights, options)
        return
    out, tokens = console(), reading.tokens
    if options.layer is None:
        print_summary(out, weights, tokens, position)
    else:
        print_layer(out, weights[options.layer], tokens, options)
    for change in reading.changes.words:
        out.print(f"changed: {change}", soft_wrap=True)


def check_choice(options: Options, config: Config, n_tokens: int) -> int:
    """The position that looks. Raises `InputError` for a layer, head or position that does not exist."""
    if options.head is not None and options.layer is None:
        raise InputError("--head needs --layer: heads are numbered within a layer.")
    if options.layer is not None:
        check_index("layer", options.layer, config.n_layer)
    if options.head is not None:
        check_index("head", options.head, config.n_head)
    if options.position is not None and options.layer is not None and not options.json:
        raise InputError(
            "--position and --layer exclude each other: a layer is shown with all of its tokens."
        )
    return checked_position(-1 if options.position is None else options.position, n_tokens)


# ----------------------------------------------------------------------------------------- for a program


def print_document(start: dict[str, object], weights: AllWeights, options: Options) -> None:
    """Print `weights[layer][head][position][key]` of what was asked for; layer 5 may be the first.

    All of a long text's weights would fill the memory as Python's numbers, so they are written head by head.
    """
    n_layer, n_head, n_tokens, _ = weights.shape
    layers = range(n_layer) if options.layer is None else [options.layer]
    heads = range(n_head) if options.head is None else [options.head]
    positions = range(n_tokens) if options.position is None else [options.position % n_tokens]
    size = len(layers) * len(heads) * len(positions) * n_tokens * BYTES_PER_WEIGHT
    if size > MUCH_JSON:
        notice(f"this prints about {size / 1e9:.1f} GB; --layer, --head and --position choose.")
    document = start | {"layers": list(layers), "heads": list(heads), "positions": list(positions)}
    print(json.dumps(document, allow_nan=False)[:-1], end=', "weights": [')
    for number, layer in enumerate(layers):
        print(", [" if number else "[", end="")
        for place, head in enumerate(heads):
            rows = json.dumps(weights[layer, head, positions].tolist(), allow_nan=False)
            print(f", {rows}" if place else rows, end="")
        print("]", end="")
    print("]}")


# ------------------------------------------------------------------------------------------ for a person


def print_summary(out: Console, weights: AllWeights, tokens: list[str], position: int) -> None:
    """One cell per layer and head: where the token at `position` looks most, and how much."""
    n_layer, n_head = weights.shape[:2]
    rows = weights[:, :, position, : position + 1]
    most, largest = rows.argmax(axis=-1), rows.max(axis=-1)
    out.print(
        f"Where token {position} ({tokens[position]}) looks most in each head, and with how much weight, "
        "in per cent (99 is 99 or more):"
    )
    named = range(len(tokens)) if len(tokens) <= 30 else sorted({position, *most.ravel().tolist()})
    out.print("   ".join(f"{i} {cut(tokens[i], 20)}" for i in named) + "\n", style="dim")
    columns = [Column("layer", [str(layer) for layer in range(n_layer)], right=True)]
    for head in range(n_head):
        pairs = zip(most[:, head].tolist(), largest[:, head].tolist(), strict=True)
        columns.append(Column(f"h{head}", [summary_cell(*pair) for pair in pairs], right=True))
    print_table(out, columns, narrow="continue")
    out.print(
        "\nA head that finds nothing looks at token 0. Closer: --layer L, or also --head H.", style="dim"
    )


def summary_cell(key: int, weight: float) -> Text:
    """The token that is looked at most, and the weight in per cent."""
    style = "bold" if weight >= 0.8 else "dim" if weight < 0.4 else ""
    return Text(f"{key}:{min(99, round(weight * 100))}", style)


def print_layer(out: Console, weights: LayerWeights, tokens: list[str], options: Options) -> None:
    """One head in per cent if that fits, else its map, or the maps of all heads of a layer."""
    heads = range(len(weights)) if options.head is None else range(options.head, options.head + 1)
    if options.head is not None:
        columns = percent_columns(weights[options.head], tokens)
        if sum(column.widths[0] + 2 for column in columns) - 2 <= out.width:
            title = f"Layer {options.layer}, head {options.head}"
            out.print(f"{title}: each row is a token, with its weights in per cent.\n")
            print_table(out, columns)
            return
    print_maps(out, weights, tokens, options.layer or 0, heads)


def percent_columns(weights: Float[np.ndarray, "tokens tokens"], tokens: list[str]) -> list[Column]:
    """A row per token and a column for each that it looks at."""

    def cell(query: int, key: int) -> Text:
        weight = float(weights[query, key])
        return Text(f"{weight * 100:.0f}", shade(weight)) if key <= query else Text("")

    rows = range(len(tokens))
    columns = [Column("", [cut(token, LONGEST_LABEL) for token in tokens])]
    return columns + [
        Column(cut(token, 7), [cell(query, key) for query in rows], right=True)
        for key, token in enumerate(tokens)
    ]


def print_maps(out: Console, weights: LayerWeights, tokens: list[str], layer: int, heads: range) -> None:
    """Some heads of a layer as small maps, side by side."""
    labels = [cut(token, LONGEST_LABEL - 2) for token in tokens]
    kept = keys_that_fit(len(tokens), max(2, out.width - max(map(len, labels)) - 3))
    out.print(f"Layer {layer}: each row is a token, each column a token that it looks at; {LEGEND}.\n")
    columns = [Column("", [labels[query] for query in kept])]
    columns += [Column(f"head {head}", list(map_rows(weights[head], kept))) for head in heads]
    print_table(out, columns, narrow="continue")
    if len(kept) < len(tokens):
        left_out = f"Shown: token 0 and tokens {kept[1]} to {kept[-1]}; a wider terminal shows more."
        out.print(f"\n{left_out}", style="dim")


def keys_that_fit(n_tokens: int, width: int) -> list[int]:
    """The tokens of a map: all, or the first, where idle heads look, and the last ones."""
    return list(range(n_tokens)) if n_tokens <= width else [0, *range(n_tokens - width + 1, n_tokens)]


def map_rows(weights: Float[np.ndarray, "tokens tokens"], kept: Sequence[int]) -> Iterator[Text]:
    """A line of digits for each token."""
    for query in kept:
        seen = [float(weights[query, key]) for key in kept if key <= query]
        yield Text.assemble(*((DIGITS[round(weight * 10)], shade(weight)) for weight in seen))


def shade(weight: float) -> str:
    """A background for a weight: five steps of one hue, with a foreground that reads on each."""
    dark, light = ("#123047", "#17517a", "#1f78b4"), ("#7fc4ee", "#d6efff")
    steps = ("", *(f"white on {colour}" for colour in dark), *(f"black on {colour}" for colour in light))
    return steps[min(int(weight * 5.0 + 0.5), 5)]
