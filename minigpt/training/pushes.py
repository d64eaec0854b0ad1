"""One pair under the magnifying glass: how hard its loss pushes each token, and which logits that moves."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ..model import GPT2, softmax
from ..parallel import Threads
from ..sampling import check_range
from ..scoring import largest
from ..tape import check_differentiable
from ..tokenizer import AnyTokenizer, token_text
from .pairs import Pair, PairIds, answer_logprobs, encode_pair, logprobs_of_rows, rows_of
from .preferences import (
    Objective,
    PairLogprobs,
    PreferenceLoss,
    checked_objective,
    log_odds_ratio_of,
    totals_of,
)


@dataclass(frozen=True)
class TokenPush:
    """A token of one of the texts, and its coefficients: above 0 its log-probability is pushed up."""

    position: int
    id: int
    text: str
    logprob: float
    nll: float  # what the first term of the loss pushes with, which wants all of the chosen text
    preference: float  # what the pair's own term pushes with
    is_answer: bool

    @property
    def total(self) -> float:
        """Both together: the c of Σ c (−log p)."""
        return self.nll + self.preference


@dataclass(frozen=True)
class LogitPush:
    """A logit, and the push on it: minus the gradient of the loss."""

    id: int
    text: str
    logit: float
    probability: float
    push: float


@dataclass(frozen=True)
class Pushes:
    """What the loss of one pair wants."""

    loss: str
    beta: float
    value: float
    nll: float
    log_odds_ratio: float  # h; what TRL logs under this name is log σ(h)
    chosen: list[TokenPush]  # every token that something predicts, those of the prompt included
    rejected: list[TokenPush]
    context: str  # where both answers part
    rise: list[LogitPush]  # the logits after it that are pushed up most
    fall: list[LogitPush]  # and down

    def as_document(self) -> dict[str, Any]:
        """The same as what JSON can hold."""
        return asdict(self)
