"""What the commands that look inside share: the prompt, the interventions, and tokens as labels."""

import argparse
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import InputError, NumericsError, notice
from ..terminal import cut, harmless, visible
from . import add_model_arguments, read_standard_input, text

if TYPE_CHECKING:
    import numpy.typing

    import minigpt.checkpoints.find
    import minigpt.hooks
    import minigpt.model
    import minigpt.tokenizer

Found = TypeVar("Found")
WEIGHTS_AT_FAULT = (
    "the model's numbers are not all finite; its weights are broken or too large: download or convert them "
    "again, or try another --model."
)


def add_prompt_arguments(parser: argparse.ArgumentParser, *examples: str, default: str | None = None) -> None:
    """PROMPT, which may be left out if it has a default, the model's options, and examples in the help."""
    parser.epilog = "\n".join(f"example: {example}" for example in examples)
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
    source: "minigpt.checkpoints.find.Source",
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
    args: argparse.Namespace,
    model: "minigpt.model.GPT2",
    tokenizer: "minigpt.tokenizer.Tokenizer",
    n_tokens: int,
) -> tuple["minigpt.hooks.Hook | None", list[str]]:
    """The hook that `--ablate` and `--patch` ask for, and what it does, in words."""
    from ...inspection import ablate, chain, patch, trace

    if bool(args.patch) != (args.patch_from is not None):
        raise InputError("--patch and --patch-from belong together: what to take, and from which prompt.")
    hooks = [ablate(model, name, head=head) for name, head in map(_target, args.ablate)]
    done = [f"{target} set to zero" for target in args.ablate]
    if args.patch:
        source = trace(model, donor_ids(args, model, tokenizer, n_tokens), names=())  # computed when taken
        hooks += [patch(model, name, source, head=head) for name, head in map(_target, args.patch)]
        donor = (
            f'"{harmless(args.patch_from)}"'
            if args.patch_from
            else tokenizer.token_text(tokenizer.end_of_text)
        )
        done += [f"{target} taken from {donor}" for target in args.patch]
    return (chain(*hooks) if hooks else None), done


def donor_ids(
    args: argparse.Namespace,
    model: "minigpt.model.GPT2",
    tokenizer: "minigpt.tokenizer.Tokenizer",
    n_tokens: int,
) -> list[int]:
    """The ids of the prompt of `--patch-from`; an empty one is <|endoftext|>, as it is for PROMPT."""
    from .. import document

    if not args.patch_from:
        notice("--patch-from is empty: its forward pass starts from <|endoftext|>, the sign between texts.")
    ids = document.prompt_ids(model, tokenizer, args.patch_from)
    if len(ids) != n_tokens:
        raise InputError(
            f"--patch-from: its number of tokens is {len(ids)}, and that of PROMPT {n_tokens}; "
            "give prompts of equally many tokens."
        )
    return ids


def _target(target: str) -> tuple[str, int | None]:
    """The name and the head in "h.0.attn.v:3"."""
    name, colon, head = target.partition(":")
    if colon and not (head.isascii() and head.isdecimal() and len(head) < 10):
        shown = target if len(target) < 80 else f"{target[:79]}…"
        raise InputError(f"{shown}: the head after the colon must be a number, as in h.0.attn.v:3.")
    return name, int(head) if colon else None


def look(
    found: Callable[["minigpt.hooks.Hook | None"], Found],
    hook: "minigpt.hooks.Hook | None",
    changes: list[str],
) -> Found:
    """What `found` returns for a forward pass that the hook changes.

    `found` raises `NumericsError` for numbers that are not finite, which nobody could show. Only then, the
    pass without the changes is run and tells what is at fault: they are, or the weights.
    """
    for each in [hook] if hook is None else [hook, None]:
        with suppress(NumericsError):
            result = found(each)
            if each is hook:
                return result
            raise not_finite(changes, "change another array")
    raise NumericsError(WEIGHTS_AT_FAULT)


def check_finite(numbers: "numpy.typing.ArrayLike") -> None:
    """Raise `NumericsError` for numbers that are not finite, of weights near the limit of float32."""
    import numpy as np

    if not np.isfinite(numbers).all():
        raise NumericsError(WEIGHTS_AT_FAULT)


def not_finite(changes: list[str], instead: str) -> InputError:
    """The error for changes that leave a good model without numbers."""
    what = "it" if len(changes) == 1 else "them"
    return InputError(f"{', '.join(changes)}: what follows from {what} is not finite; {instead}.")


def labels(tokenizer: "minigpt.tokenizer.Tokenizer", ids: list[int]) -> list[str]:
    """Tokens as they are shown: nothing invisible, nothing that steers the terminal."""
    return [visible(tokenizer.token_bytes(token_id)) for token_id in ids]


def pad(text: str, width: int, right: bool = False) -> str:
    """The text in exactly so many columns."""
    from rich.cells import cell_len

    text = cut(text, width - 1)
    space = " " * (width - cell_len(text))
    return space + text if right else text + space
