"""`minigpt gradients`: what a loss wants of every logit, of every block and of every parameter."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float
from rich.console import Console

from ...errors import InputError
from ...model import named_parameters
from ...sampling import probabilities
from ...tape import gradients
from ...tokenizer import AnyTokenizer, token_text
from ..document import print_json, reading_document
from ..options import SubjectOptions, add_prompt, number, some_text
from ..passes import Checkpoint, Reading, check_finite, open_prompt
from ..tables import WIDEST, Column, console, print_table
from ..terminal import harmless, percent

Vector = Float[np.ndarray, " vocab"]

N_PARAMETERS = 8  # of those that move most


@dataclass(frozen=True, kw_only=True)
class Options(SubjectOptions):
    """What should follow the prompt."""

    target: str
    top: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """The prompt and the target."""
    add_prompt(parser, 'minigpt gradients "I love" --target " you"')
    parser.add_argument(
        "--target", metavar="TEXT", type=some_text, required=True,
        help="what should follow; a word begins with its space",
    )  # fmt: skip
    parser.add_argument(
        "--top", metavar="N", type=number("top", int), default=8, help="rows in the table of logits (8)"
    )


@dataclass(frozen=True)
class Push:
    """What the loss wants of a logit: to fall where it is above 0, to rise where it is below."""

    id: int
    text: str
    logit: float
    probability: float
    push: float  # the gradient: p, and p − 1 for the target


@dataclass(frozen=True)
class Moved:
    """A parameter, how long its gradient is, and how long it is itself."""

    name: str
    gradient: float
    length: float


@dataclass(frozen=True)
class Pull:
    """A loss and its gradients, in numbers to look at."""

    target: str
    target_ids: list[int]
    loss: float
    pushes: list[Push]  # of the logits from which the target's first token is taken
    blocks: list[float]  # the gradient's length in the residual stream: before block 0, and after each
    parameters: list[Moved]


def run(options: Options) -> None:
    """Run the model forward and back, and show what came."""
    reading = open_prompt(options)
    pull = measure(reading, options.target, options.top)
    if options.json:
        print_json(reading_document(reading) | asdict(pull))
    else:
        show(console(), reading, pull)


@np.errstate(all="ignore")  # what overflows is refused below
def measure(reading: Reading, target: str, top: int) -> Pull:
    """The loss of the target behind the prompt, and its gradients."""
    model, tokenizer = reading.checkpoint.model, reading.checkpoint.tokenizer
    target_ids = tokenizer.encode(target)
    ids = [*reading.ids, *target_ids[:-1]]
    if len(ids) > model.config.n_positions:
        raise InputError(
            f"--target: with the prompt it has {len(ids) + 1:,} tokens, and the model's context is "
            f"{model.config.n_positions:,}; shorten one of them."
        )
    first = len(reading.ids) - 1  # the position whose logits say what follows the prompt
    targets = [*ids[1 : first + 1], *target_ids]
    logits = model(ids)[first]
    check_finite(logits)
    seen: dict[str, np.ndarray] = {}
    loss, found = gradients(model, ids, targets, np.arange(len(ids)) >= first, seen.__setitem__)
    pull = Pull(
        target,
        target_ids,
        loss,
        largest_pushes(tokenizer, logits, seen["logits"][first], top),
        residual_lengths(seen, model.config.n_layer),
        most_moved(found, named_parameters(model)),
    )
    lengths = [length for moved in pull.parameters for length in (moved.gradient, moved.length)]
    check_finite([loss, *pull.blocks, *lengths])
    return pull


def largest_pushes(tokenizer: AnyTokenizer, logits: Vector, pushes: Vector, top: int) -> list[Push]:
    """The tokens that are pushed hardest; the target comes first, as nothing is pushed harder."""
    order = np.argsort(-np.abs(pushes), kind="stable")[:top].tolist()
    p = probabilities(logits)
    return [Push(i, token_text(tokenizer, i), float(logits[i]), float(p[i]), float(pushes[i])) for i in order]


def residual_lengths(seen: dict[str, np.ndarray], n_layer: int) -> list[float]:
    """How long the gradient is that arrives in the residual stream, before block 0 and after each block."""
    names = ["h.0.resid_pre", *(f"h.{layer}.resid_post" for layer in range(n_layer))]
    return [float(np.linalg.norm(seen[name])) for name in names]


def most_moved(found: dict[str, np.ndarray], parameters: dict[str, np.ndarray]) -> list[Moved]:
    """The parameters with the longest gradients."""
    lengths = [Moved(name, norm(gradient), norm(parameters[name])) for name, gradient in found.items()]
    return sorted(lengths, key=lambda moved: -moved.gradient)[:N_PARAMETERS]


def norm(array: np.ndarray) -> float:
    """The length of an array as one vector."""
    return float(np.linalg.norm(array))


# ------------------------------------------------------------------------------------- for the terminal


def show(out: Console, reading: Reading, pull: Pull) -> None:
    """The pushes on the logits, and how they go on through the blocks to the parameters."""
    out.width = min(out.width, WIDEST)
    out.print(
        f'The loss of "{harmless(pull.target)}" after "{harmless(reading.text)}" is {pull.loss:.3f}: that is '
        "−log p of its tokens. Its gradient says what would make it grow; learning goes the other way.\n"
    )
    out.print("The push on each logit: p for every token, and p − 1 for the target. They add up to 0.")
    show_pushes(out, pull.pushes, reading.checkpoint)
    out.print("\nHow long the gradient is where it arrives in the residual stream:")
    names = ["ln_f", *(f"block {layer}" for layer in reversed(range(len(pull.blocks) - 1)))]
    show_lengths(out, [f"out of {name}" for name in names[1:]] + ["embedding"], pull.blocks[::-1])
    out.print("\nThe parameters with the longest gradients, beside their own length:")
    print_table(
        out,
        [
            Column("parameter", [moved.name for moved in pull.parameters], style="bold"),
            Column("gradient", [f"{moved.gradient:.3g}" for moved in pull.parameters], right=True),
            Column("itself", [f"{moved.length:.3g}" for moved in pull.parameters], right=True),
        ],
    )


def show_pushes(out: Console, pushes: Sequence[Push], checkpoint: Checkpoint) -> None:
    """A row for each token."""
    print_table(
        out,
        [
            Column("token", [checkpoint.label(push.id) for push in pushes], style="bold"),
            Column("logit", [f"{push.logit:.2f}" for push in pushes], right=True),
            Column("p", [percent(push.probability) for push in pushes], right=True),
            Column("push", [f"{push.push:+.4f}" for push in pushes], right=True),
            Column("", ["rises" if push.push < 0 else "falls" for push in pushes]),
        ],
    )


def show_lengths(out: Console, names: Sequence[str], lengths: Sequence[float]) -> None:
    """A bar for each place, from the loss down to the embedding."""
    longest = max(lengths) or 1.0
    print_table(
        out,
        [
            Column("where", names, style="bold"),
            Column("length", [f"{length:.3g}" for length in lengths], right=True),
            Column("", [length / longest for length in lengths], flexible="bar"),
        ],
    )
