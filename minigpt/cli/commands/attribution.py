"""`minigpt attribution`: one logit as a sum of what each part contributed."""

import argparse
from typing import TYPE_CHECKING

from ...errors import InputError
from ..terminal import console, print_rows, visible
from . import open_model, print_json, text
from ._looking import (
    about,
    add_intervention_arguments,
    add_prompt_arguments,
    check_finite,
    intervention,
    labels,
    look,
    prompt_ids,
)

if TYPE_CHECKING:
    import rich.console

    import minigpt.hooks
    import minigpt.inspection
    import minigpt.tokenizer

HELP = "one logit as a sum: embedding + each head + each MLP + biases"
N_LARGEST = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The prompt, and whose logit."""
    add_prompt_arguments(
        parser,
        'minigpt attribution "I love" --token " you" --against " it"',
        'minigpt attribution "I love" --token " you" --ablate h.0.attn.v:3',
    )
    parser.add_argument("--token", type=text, metavar="TEXT", help="whose logit (the likeliest token's)")
    parser.add_argument(
        "--against", type=text, metavar="TEXT", help="minus whose logit, to see what decides between them"
    )
    parser.add_argument("--position", type=int, default=-1, metavar="N", help="after which token (-1: last)")
    add_intervention_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Take a logit apart and show the sum."""
    source, model, tokenizer = open_model(args)
    from ...inspection import attribute

    ids = prompt_ids(args, model, tokenizer)
    token, against = (one_token(tokenizer, name, getattr(args, name)) for name in ("token", "against"))
    hook, changes = intervention(args, model, tokenizer, len(ids))

    def parts(hook: "minigpt.hooks.Hook | None") -> "minigpt.inspection.Attribution":
        found = attribute(model, ids, token, against=against, position=args.position, hook=hook)
        check_finite([found.logit, found.total])
        return found

    found = look(parts, hook, changes)
    if args.json:
        print_json(about(source, model, tokenizer, ids) | as_document(tokenizer, found, changes))
        return
    show(console(), found, tokenizer, ids, changes)


def one_token(tokenizer: "minigpt.tokenizer.AnyTokenizer", option: str, word: str | None) -> int | None:
    """The id of a text that is one token. Raises `InputError` if it is several, or none."""
    if word is None:
        return None
    ids = tokenizer.encode(word)
    if len(ids) != 1:
        pieces = " + ".join(labels(tokenizer, ids)) or "nothing"
        hint = "" if word.startswith(" ") else f'; with the space in front, " {word}", it may be one'
        raise InputError(f"--{option}: {visible(word)} is {len(ids)} tokens ({pieces}), not one{hint}.")
    return ids[0]


def as_document(
    tokenizer: "minigpt.tokenizer.AnyTokenizer", found: "minigpt.inspection.Attribution", changes: list[str]
) -> dict[str, object]:
    """The parts by name, their sum, and the logit that they add up to."""
    from ...tokenizer import token_text

    return {
        "position": found.position,
        "token": token_text(tokenizer, found.token),
        "against": None if found.against is None else token_text(tokenizer, found.against),
        "logit": found.logit,
        "sum": found.total,
        "parts": found.parts,
        "changes": changes,
    }


def show(
    out: "rich.console.Console",
    found: "minigpt.inspection.Attribution",
    tokenizer: "minigpt.tokenizer.AnyTokenizer",
    ids: list[int],
    changes: list[str],
) -> None:
    """The sum, layer by layer, and the parts with the largest shares."""
    tokens = labels(tokenizer, ids)
    whose = f"the logit of {labels(tokenizer, [found.token])[0]}"
    if found.against is not None:
        whose += f" minus that of {labels(tokenizer, [found.against])[0]}"
    out.print(f"What adds up to {whose} after token {found.position} ({tokens[found.position]}):\n")
    headers = ("", "heads", "bias", "MLP", "so far", "most for and most against")
    tolerance = 1e-4 * max(1.0, abs(found.logit))  # for the rounding of float32
    parts = found.parts
    rest = parts.pop("hook", 0.0)
    if abs(rest) > tolerance:  # else all of what was changed is in the parts
        parts["the change"] = rest
    print_rows(out, headers, sum_rows(found, parts.get("the change")), right=headers[1:5], wraps=headers[-1])
    total = sum(parts.values())
    what = "logit" if found.against is None else "difference"
    out.print(
        f"\nThe parts add up to {total:.6f}; the model's own {what} is {found.logit:.6f}"
        f"{'' if abs(total - found.logit) <= tolerance else ': NOT EQUAL'}."
    )
    largest = sorted(parts.items(), key=lambda part: -abs(part[1]))[:N_LARGEST]
    out.print("\nLargest shares: " + ", ".join(f"{name} {share:+.2f}" for name, share in largest))
    out.print(
        "The final layer norm's scale is taken as it was. A head counts with its value bias and an MLP with "
        "its biases; attention's output bias belongs to no head and stands apart.",
        style="dim",
    )
    for change in changes:
        out.print(f"changed: {change}", soft_wrap=True)


def sum_rows(found: "minigpt.inspection.Attribution", change: float | None) -> list[tuple[str, ...]]:
    """A row per layer, with the running total; and what a change added that none of the parts holds."""
    heads = [f"{int(h.argmax())}: {h.max():+.2f}, {int(h.argmin())}: {h.min():+.2f}" for h in found.heads]
    total = float(found.embedding.sum())
    token, position = found.embedding
    rows: list[tuple[str, ...]] = [
        ("embedding", "", "", "", f"{total:.2f}", f"token {token:+.2f}, position {position:+.2f}")
    ]
    for layer, head in enumerate(found.heads):
        shares = (float(head.sum()), float(found.attention_bias[layer]), float(found.mlps[layer]))
        total += sum(shares)
        cells = [f"{share:+.2f}" for share in shares]
        rows.append((f"layer {layer}", *cells, f"{total:.2f}", f"head {heads[layer]}"))
    total += found.final_bias
    rows.append(("final layer norm", "", f"{found.final_bias:+.2f}", "", f"{total:.2f}", ""))
    if change is not None:
        rows.append(("the change", "", "", "", f"{total + change:.2f}", f"{change:+.2f} that is in no part"))
    return rows
