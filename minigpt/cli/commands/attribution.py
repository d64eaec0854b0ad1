"""`minigpt attribution`: one logit as a sum of what each part contributed."""

import argparse
from dataclasses import dataclass

from rich.console import Console

from ...errors import InputError
from ...hooks import Hook
from ...inspection.attribution import Attribution, attribute
from ...tokenizer import token_text
from ..document import print_json, reading_document
from ..options import LookOptions, add_change_options, add_prompt, text
from ..passes import Checkpoint, Reading, check_finite, look, open_prompt
from ..tables import Column, console, print_table
from ..terminal import visible

N_LARGEST = 8


@dataclass(frozen=True, kw_only=True)
class Options(LookOptions):
    """Whose logit is taken apart."""

    token: str | None
    against: str | None
    position: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """The prompt, and whose logit."""
    add_prompt(
        parser,
        'minigpt attribution "I love" --token " you" --against " it"',
        'minigpt attribution "I love" --token " you" --ablate h.0.attn.v:3',
    )
    parser.add_argument("--token", type=text, metavar="TEXT", help="whose logit (the likeliest token's)")
    parser.add_argument(
        "--against", type=text, metavar="TEXT", help="minus whose logit, to see what decides between them"
    )
    parser.add_argument("--position", type=int, default=-1, metavar="N", help="after which token (-1: last)")
    add_change_options(parser)


def run(options: Options) -> None:
    """Take a logit apart and show the sum."""
    reading = open_prompt(options)
    checkpoint = reading.checkpoint
    token = one_token(checkpoint, "token", options.token)
    against = one_token(checkpoint, "against", options.against)

    def compute(hook: Hook | None) -> Attribution:
        found = attribute(
            checkpoint.model, reading.ids, token, against=against, position=options.position, hook=hook
        )
        check_finite([found.logit, found.total])
        return found

    attribution = look(compute, reading.changes)
    if options.json:
        print_json(reading_document(reading) | as_document(reading, attribution))
    else:
        show(console(), attribution, reading)


def one_token(checkpoint: Checkpoint, option: str, word: str | None) -> int | None:
    """The id of a text that is one token. Raises `InputError` if it is several, or none."""
    if word is None:
        return None
    ids = checkpoint.tokenizer.encode(word)
    if len(ids) != 1:
        pieces = " + ".join(checkpoint.labels(ids)) or "nothing"
        hint = "" if word.startswith(" ") else f'; with the space in front, " {word}", it may be one'
        raise InputError(f"--{option}: {visible(word)} is {len(ids)} tokens ({pieces}), not one{hint}.")
    return ids[0]


def as_document(reading: Reading, attribution: Attribution) -> dict[str, object]:
    """The parts by name, their sum, and the logit that they add up to."""
    tokenizer, against = reading.checkpoint.tokenizer, attribution.against
    return {
        "position": attribution.position,
        "token": token_text(tokenizer, attribution.token),
        "against": None if against is None else token_text(tokenizer, against),
        "logit": attribution.logit,
        "sum": attribution.total,
        "parts": attribution.parts,
        "changes": reading.changes.words,
    }


def show(out: Console, attribution: Attribution, reading: Reading) -> None:
    """The sum, layer by layer, and the parts with the largest shares."""
    checkpoint, position = reading.checkpoint, attribution.position
    whose = f"the logit of {checkpoint.label(attribution.token)}"
    if attribution.against is not None:
        whose += f" minus that of {checkpoint.label(attribution.against)}"
    out.print(f"What adds up to {whose} after token {position} ({reading.tokens[position]}):\n")
    tolerance = 1e-4 * max(1.0, abs(attribution.logit))  # for the rounding of float32
    parts = attribution.parts
    rest = parts.pop("hook", 0.0)
    if abs(rest) > tolerance:  # else all of what was changed is in the parts
        parts["the change"] = rest
    names, *numbers, remarks = zip(*sum_rows(attribution, parts.get("the change")), strict=True)
    columns = [Column("", names)]
    headers = ("heads", "bias", "MLP", "so far")
    columns += [Column(header, cells, right=True) for header, cells in zip(headers, numbers, strict=True)]
    print_table(out, [*columns, Column("most for and most against", remarks, flexible="wrap")])
    total = sum(parts.values())
    what = "logit" if attribution.against is None else "difference"
    out.print(
        f"\nThe parts add up to {total:.6f}; the model's own {what} is {attribution.logit:.6f}"
        f"{'' if abs(total - attribution.logit) <= tolerance else ': NOT EQUAL'}."
    )
    largest = sorted(parts.items(), key=lambda part: -abs(part[1]))[:N_LARGEST]
    out.print("\nLargest shares: " + ", ".join(f"{name} {share:+.2f}" for name, share in largest))
    out.print(
        "The final layer norm's scale is taken as it was. A head counts with its value bias and an MLP with "
        "its biases; attention's output bias belongs to no head and stands apart.",
        style="dim",
    )
    for change in reading.changes.words:
        out.print(f"changed: {change}", soft_wrap=True)


def sum_rows(attribution: Attribution, change: float | None) -> list[tuple[str, ...]]:
    """A row per layer, with the running total; and what a change added that none of the parts holds."""
    heads = [
        f"{int(h.argmax())}: {h.max():+.2f}, {int(h.argmin())}: {h.min():+.2f}" for h in attribution.heads
    ]
    total = float(attribution.embedding.sum())
    token, position = attribution.embedding
    rows: list[tuple[str, ...]] = [
        ("embedding", "", "", "", f"{total:.2f}", f"token {token:+.2f}, position {position:+.2f}")
    ]
    for layer, head in enumerate(attribution.heads):
        shares = (
            float(head.sum()), float(attribution.attention_bias[layer]), float(attribution.mlps[layer])
        )  # fmt: skip
        total += sum(shares)
        cells = [f"{share:+.2f}" for share in shares]
        rows.append((f"layer {layer}", *cells, f"{total:.2f}", f"head {heads[layer]}"))
    total += attribution.final_bias
    rows.append(("final layer norm", "", f"{attribution.final_bias:+.2f}", "", f"{total:.2f}", ""))
    if change is not None:
        rows.append(("the change", "", "", "", f"{total + change:.2f}", f"{change:+.2f} that is in no part"))
    return rows
