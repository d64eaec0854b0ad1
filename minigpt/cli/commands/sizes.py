"""`minigpt sizes`: how large a model is, from its config alone."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console

from ...checkpoints.config import read_config
from ...checkpoints.find import find
from ...inspection.sizes import (
    FAMILY,
    Part,
    activation_bytes,
    cache_bytes,
    family_page,
    file_bytes,
    n_parameters_of,
    operations,
    parts,
)
from ...parameters import Config
from ..document import print_json
from ..options import add_json_option, text
from ..tables import Column, console, print_items, print_table
from ..terminal import harmless


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which model is measured, and how it is printed."""

    model: str
    markdown: bool
    json: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """The model; an official one need not be on this machine."""
    parser.epilog = "example: minigpt sizes gpt2-xl\nexample: minigpt sizes tiny"
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", type=text, default="gpt2",
        help=f"{', '.join(FAMILY)}, tiny, a Hub repository, or a folder (gpt2)",
    )  # fmt: skip
    parser.add_argument("--markdown", action="store_true", help="the whole family, as docs/numbers.md has it")
    add_json_option(parser)


def run(options: Options) -> None:
    """Print what the config alone tells."""
    if options.markdown:
        print(family_page(), end="")
        return
    config = FAMILY.get(options.model) or read_config(find(options.model).path)
    if options.json:
        print_json(as_document(options.model, config))
    else:
        show(console(), options.model, config)


def as_document(name: str, config: Config) -> dict[str, object]:
    """All quantities."""
    full = config.n_positions
    return {
        "model": name,
        "config": asdict(config),
        "n_parameters": n_parameters_of(config),
        "parts": [asdict(part) for part in parts(config)],
        "file_bytes": file_bytes(config),
        "file_bytes_with_masks": file_bytes(config, masks=True),
        "cache_bytes_per_token": cache_bytes(config, 1),
        "cache_bytes": cache_bytes(config, full),
        "operations_first_token": operations(config, 1),
        "operations_last_token": operations(config, full),
        "activation_bytes": activation_bytes(config, full),
    }


def show(out: Console, name: str, config: Config) -> None:
    """The parameters by part, then bytes and operations with the way they are counted."""
    found = parts(config)
    block = sum(part.count for part in found if part.name.startswith("h."))
    rest = [f"{part.name} {part.count:,}" for part in found if not part.name.startswith("h.")]
    print_items(out, [f"{harmless(name)}: {n_parameters_of(config):,} parameters"], 0)
    print_items(out, [f"= {config.n_layer} blocks × {block:,} + {' + '.join(rest)}"], 0)
    out.print()
    print_table(out, part_columns(found, n_parameters_of(config)))
    out.print()
    names, values, why = zip(*quantities(config), strict=True)
    print_table(out, [Column("", names), Column("", values, right=True), Column("", why, flexible="wrap")])


def part_columns(found: Sequence[Part], total: int) -> list[Column]:
    """Each part with its shape and its share, and the sum."""
    counts = [part.count * part.times for part in found]
    return [
        Column("part", [*(part.name for part in found), "all"]),
        Column("shape", [*(part.product for part in found), ""], right=True),
        Column("times", [*(f"× {part.times}" if part.times > 1 else "" for part in found), ""], right=True),
        Column("parameters", [f"{count:,}" for count in (*counts, total)], right=True),
        Column("", [*(f"{count / total:.1%}" for count in counts), ""], right=True),
    ]


def quantities(config: Config) -> list[tuple[str, str, str]]:
    """What follows from the shapes: what it is, how much, and why."""
    n, full = config.n_layer, config.n_positions
    masks = f"old files also hold {n} causal masks of {full:,} × {full:,} numbers"
    a_token = f"2 × {n} × {config.n_embd} × 4: keys and values"
    tape = f"arrays that the gradients of {full:,} tokens need"
    return [
        ("file", megabytes(file_bytes(config)), "4 bytes for each parameter, in float32"),
        ("file with masks", megabytes(file_bytes(config, masks=True)), masks),
        ("cache, a token", f"{cache_bytes(config, 1):,} B", a_token),
        ("cache, in full", megabytes(cache_bytes(config, full)), f"the same for {full:,} tokens"),
        ("first token", billions(operations(config, 1)), "operations: 2 for each number of each matrix"),
        (f"token {full:,}", billions(operations(config, full)), "the same, and attention to all before it"),
        ("kept to train", megabytes(activation_bytes(config, full)), tape),
    ]


def megabytes(count: int) -> str:
    """Bytes in millions."""
    return f"{count / 1e6:,.1f} MB"


def billions(count: int) -> str:
    """Operations in thousands of millions."""
    return f"{count / 1e9:,.3f} G"
