"""One pair of answers in a terminal: how hard its loss pushes each token, and which logits that moves."""

from collections.abc import Sequence

from rich.console import Console

from ..training.pairs import Pair
from ..training.preferences import softplus
from ..training.pushes import Pushes, TokenPush
from .passes import Checkpoint
from .tables import Column, print_table
from .terminal import harmless, percent


def tell_pushes(out: Console, title: str, checkpoint: Checkpoint, pair: Pair, found: Pushes) -> None:
    """Which way each token is pushed and by what, and which logits that moves."""
    out.print(f"{title}: what {found.loss}, beta {found.beta:g}, wants", style="bold")
    out.print(
        f"After “{harmless(pair.prompt)}” rather “{harmless(pair.chosen)}” than “{harmless(pair.rejected)}”. "
        f"The loss is {found.value:.3f}, the log-odds ratio {found.log_odds_ratio:.3f} (what TRL logs under "
        f"that name is log σ of it, {-softplus(-found.log_odds_ratio):.3f}).\n"
    )
    out.print(
        "How hard each token's log-probability is pushed: above 0 up, below 0 down. nll wants all of the "
        "chosen text; preference wants the answers apart.\n"
    )
    answer = [token for token in found.rejected if token.is_answer]
    for name, tokens in (("the chosen text", found.chosen), ("the rejected answer", answer)):
        out.print(name)
        print_table(out, push_columns(checkpoint, tokens), indent=2)
        out.print()
    out.print(f"The push on each logit after “{harmless(found.context)}”", style="bold")
    moves = [*found.rise, *found.fall]
    columns = [
        Column("token", [checkpoint.label(move.id) for move in moves], style="bold"),
        Column("logit", [f"{move.logit:.2f}" for move in moves], right=True),
        Column("probability", [percent(move.probability) for move in moves], right=True),
        Column("push", [f"{move.push:+.4f}" for move in moves], right=True),
    ]
    print_table(out, columns, indent=2)


def push_columns(checkpoint: Checkpoint, tokens: Sequence[TokenPush]) -> list[Column]:
    """A row for each token."""
    return [
        Column("token", [checkpoint.label(token.id) for token in tokens], style="bold"),
        Column("log p", [f"{token.logprob:.3f}" for token in tokens], right=True),
        Column("nll", [f"{token.nll:+.4f}" for token in tokens], right=True),
        Column("preference", [f"{token.preference:+.4f}" for token in tokens], right=True),
        Column("together", [f"{token.total:+.4f}" for token in tokens], right=True),
    ]
