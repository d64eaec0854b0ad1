"""What the page shows of preference training: how hard the loss of one pair pushes tokens and logits."""

from collections.abc import Callable, Sequence
from typing import Any

from ..training.preferences import OBJECTIVES
from ..training.pushes import Pushes, TokenPush, logit_pushes
from .sources import located

FOLLOWED = 3  # logits that are pushed up most, and as many that are pushed down, have a colour of their own


def push_section(found: Pushes) -> dict[str, Any]:
    """The section's numbers. Tokens are ids: the page has the vocabulary, with nothing in it to obey."""
    return {
        "loss": found.loss,
        "beta": found.beta,
        "value": found.value,
        "logOddsRatio": found.log_odds_ratio,
        "chosen": token_rows(found.chosen),
        "rejected": token_rows(found.rejected),
        "moves": [
            {"id": move.id, "logit": move.logit, "probability": move.probability, "push": move.push}
            for move in (*found.rise, *found.fall)
        ],
    }


def token_rows(tokens: Sequence[TokenPush]) -> list[dict[str, Any]]:
    """The tokens of one text, with their coefficients."""
    return [
        {
            "position": token.position,
            "id": token.id,
            "logprob": token.logprob,
            "nll": token.nll,
            "preference": token.preference,
            "isAnswer": token.is_answer,
        }
        for token in tokens
    ]


def push_sources(found: Pushes) -> list[dict[str, str]]:
    """The code that makes a pair's coefficients, and the code that makes pushes of them."""
    objective = OBJECTIVES.get(found.loss)
    used: list[Callable[..., Any]] = [logit_pushes]
    if objective is not None and objective.pair is not None:
        used.insert(0, objective.pair)
    return [located(function) for function in used]


def most_pushed(found: Pushes) -> list[int]:
    """The tokens to follow from the start."""
    return [move.id for move in (*found.rise[:FOLLOWED], *found.fall[:FOLLOWED])]
