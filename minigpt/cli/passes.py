"""What the commands that look inside share: the prompt, the interventions, and tokens as labels."""

import argparse
from typing import TYPE_CHECKING, TypeVar

from .options import add_model_arguments, text

if TYPE_CHECKING:
    import minigpt.checkpoints.load
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
    args: argparse.Namespace, model: "minigpt.model.GPT2", tokenizer: "minigpt.tokenizer.AnyTokenizer"
) -> list[int]:
    """The ids of the prompt of `--patch-from`; an empty one is what it is for PROMPT."""
