"""What the commands that look inside share: the prompt, the interventions, and tokens as labels."""

import argparse
from typing import TYPE_CHECKING, Any

from ..errors import InputError, NumericsError
from ..notices import notice
from ..terminal import cut, harmless, visible
from . import add_model_arguments, read_standard_input, text

if TYPE_CHECKING:
    import numpy.typing

    import minigpt.checkpoint
    import minigpt.hooks
    import minigpt.model
    import minigpt.tokenizer


def add_prompt_arguments(parser: argparse.ArgumentParser, example: str, default: str | None = None) -> None:
    """PROMPT, which may be left out if it has a default, the model's options, and an example in the help."""
    parser.epilog = f"example: {example}"
    parser.add_argument(
        "prompt",
        metavar="PROMPT",
        nargs=None if default is None else "?",
        type=text,
        default=default,
        help='the text to look at; "-" reads standard input' + (f" ({default})" if default else ""),
    )
    add_model_arguments(parser)


def add_intervention_arguments(parser: argparse.ArgumentParser) -> None:
    """`--ablate` and `--patch`, with which the forward pass is changed before it is looked at."""
    group = parser.add_argument_group("changing the forward pass")
    group.add_argument(
        "--ablate",
        action="append",
        default=[],
        metavar="NAME[:HEAD]",
        help="set an array, or one head of it, to zero (h.0.attn.v:3, h.2.mlp.out); may be repeated",
    )
    group.add_argument(
        "--patch",
        action="append",
        default=[],
        metavar="NAME[:HEAD]",
        help="take it from the forward pass of another prompt, given by --patch-from",
    )
    group.add_argument("--patch-from", type=text, metavar="PROMPT", help="a prompt of equally many tokens")


def prompt_ids(
    args: argparse.Namespace, model: "minigpt.model.GPT2", tokenizer: "minigpt.tokenizer.Tokenizer"
) -> list[int]:
    """The ids of PROMPT; an empty one is <|endoftext|>, and says so."""
    from .. import document

    prompt = read_standard_input() if args.prompt == "-" else args.prompt
    if not prompt:
        notice("the prompt is empty: the model starts from <|endoftext|>, the sign between texts.")
    return document.prompt_ids(model, tokenizer, prompt)


def about(
    source: "minigpt.checkpoint.Source",
    model: "minigpt.model.GPT2",
    tokenizer: "minigpt.tokenizer.Tokenizer",
    ids: list[int],
) -> dict[str, Any]:
    """What a JSON document begins with: what ran, and the tokens of the prompt."""
    from ..document import model_document, tokens_document

    return {"model": model_document(source, model), "tokens": tokens_document(tokenizer, ids)}


def check_position(position: int | None, n_tokens: int) -> None:
    """Raise `InputError` for a `--position` that the prompt does not have; None is none."""
    if position is not None and not -n_tokens <= position < n_tokens:
        raise InputError(f"--position is {position}; there are {n_tokens} tokens, counted from 0.")


def intervention(
    args: argparse.Namespace, model: "minigpt.model.GPT2", tokenizer: "minigpt.tokenizer.Tokenizer"
) -> tuple["minigpt.hooks.Hook | None", list[str]]:
    """The hook that `--ablate` and `--patch` ask for, and what it does, in words."""
    from ..inspection import ablate, chain, patch, trace

    if bool(args.patch) != (args.patch_from is not None):
        raise InputError("--patch and --patch-from belong together: what to take, and from which prompt.")
    hooks = [ablate(model, name, head=head) for name, head in map(_target, args.ablate)]
    done = [f"{target} set to zero" for target in args.ablate]
    if args.patch:
        source = trace(
            model, tokenizer.encode(args.patch_from), names=()
        )  # each is computed when it is taken
        hooks += [patch(model, name, source, head=head) for name, head in map(_target, args.patch)]
        done += [f'{target} taken from "{harmless(args.patch_from)}"' for target in args.patch]
    return (chain(*hooks) if hooks else None), done


def _target(target: str) -> tuple[str, int | None]:
    """The name and the head in "h.0.attn.v:3"."""
    name, colon, head = target.partition(":")
    if colon and not (head.isascii() and head.isdecimal()):
        raise InputError(f"{target}: the head after the colon must be a number, as in h.0.attn.v:3.")
    return name, int(head) if colon else None


def check_finite(numbers: "numpy.typing.ArrayLike", changes: list[str]) -> None:
    """Raise an error if weights near the limit of float32, or a change, left numbers that nobody can show."""
    import numpy as np

    if np.isfinite(numbers).all():
        return
    if changes:
        raise InputError(f"{changes[0]}: what follows from it is not finite.")
    raise NumericsError("the model's numbers are not all finite; its weights are broken or too large.")


def labels(tokenizer: "minigpt.tokenizer.Tokenizer", ids: list[int]) -> list[str]:
    """Tokens as they are shown: nothing invisible, nothing that steers the terminal."""
    return [visible(tokenizer.token_bytes(token_id)) for token_id in ids]


def pad(text: str, width: int, right: bool = False) -> str:
    """The text in exactly so many columns."""
    from rich.cells import cell_len

    text = cut(text, width - 1)
    space = " " * (width - cell_len(text))
    return space + text if right else text + space
