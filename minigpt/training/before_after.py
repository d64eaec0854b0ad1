"""A model before and after: what it makes of pairs, of another text, and of what may follow a prompt."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..model import GPT2
from ..parallel import Threads
from ..sampling import probabilities
from ..scoring import largest, perplexity, rank
from ..tokenizer import AnyTokenizer, encode_prompt, token_text
from .pairs import Logprobs, PairIds, answer_logprobs
from .preferences import PairLogprobs, log_odds_ratio_of

PASSAGE = Path(__file__).parent.parent / "data" / "held_out.txt"
EVALUATED = 200  # pairs of each kind at most, evenly spread
Logits = Float[np.ndarray, " vocab"]


@dataclass(frozen=True)
class Scores:
    """What a model makes of some pairs: means over them."""

    n_pairs: int
    chosen: float  # mean log-probability of a token of the chosen answers
    rejected: float
    log_odds_ratio: float  # above 0: the chosen answer is the likelier one
    accuracy: float  # share of the pairs for which that is so


@dataclass(frozen=True)
class Evaluation:
    """A model before or after training."""

    trained: Scores  # the pairs that the run learns from
    held_out: Scores  # pairs that it never sees
    perplexity: float  # on a text that has nothing to do with them
    watched: list[Logits]  # the logits after each watched prompt

    @property
    def is_finite(self) -> bool:
        """Whether there is nothing infinite in it, and nothing that is no number."""
        scores = np.array([*astuple(self.trained), *astuple(self.held_out), self.perplexity])
        return all(np.isfinite(numbers).all() for numbers in (scores, *self.watched))


class Look:
    """What is worth knowing about a model before and after: the same questions, asked twice."""

    def __init__(
        self,
        tokenizer: AnyTokenizer,
        trained: Sequence[PairIds],
        held_out: Sequence[PairIds],
        watch: Sequence[str],
        text: str | None,
        threads: Threads,
    ) -> None:
        self.pairs = evenly(trained, EVALUATED), evenly(held_out, EVALUATED)
        self.watched = [encode_prompt(tokenizer, prompt) for prompt in watch]
        passage = PASSAGE.read_text(encoding="utf-8") if text is None else text
        self.text, self.threads = tokenizer.encode(passage), threads

    @np.errstate(all="ignore")  # what overflows is infinite or no number, and the run looks at that
    def __call__(self, model: GPT2) -> Evaluation:
        """Ask a model."""
        trained, held_out = (scores(answer_logprobs(model, some, self.threads)) for some in self.pairs)
        watched = [model(ids, logits_to_keep=1)[-1] for ids in self.watched]
        return Evaluation(trained, held_out, perplexity(model, self.text), watched)


def evenly(items: Sequence[PairIds], most: int) -> list[PairIds]:
    """So many of the items at most, spread over all of them."""
    return list(items[:: -(-len(items) // most)])


def scores(logprobs: Sequence[tuple[Logprobs, Logprobs]]) -> Scores:
    """The means over pairs."""
    pairs = [PairLogprobs(chosen, rejected, chosen, rejected) for chosen, rejected in logprobs]
    chosen, rejected = (
        np.array([pair.mean() for pair in answers]) for answers in zip(*logprobs, strict=True)
    )
    ratios = [log_odds_ratio_of(pair) for pair in pairs]
    return Scores(
        len(pairs),
        float(chosen.mean()),
        float(rejected.mean()),
        float(np.mean(ratios)),
        float((chosen > rejected).mean()),
    )


# --------------------------------------------------------------------------------------------- watched words


@dataclass(frozen=True)
class TokenChange:
    """What became of a token that may follow a prompt. Of each two numbers the first is from before."""

    id: int
    text: str
    logits: tuple[float, float]
    probabilities: tuple[float, float]
    ranks: tuple[int, int]


def changes(
    tokenizer: AnyTokenizer, before: Logits, after: Logits, count: int = 6
) -> tuple[list[TokenChange], list[TokenChange]]:
    """The tokens whose probability has risen most, and those whose has fallen most, at most so many of each.

    Probabilities and not logits, because a number added to all logits changes nothing.
    """
    p = probabilities(before), probabilities(after)
    gain = p[1] - p[0]

    def change(token_id: int) -> TokenChange:
        logits, shares, ranks = (
            (float(before[token_id]), float(after[token_id])),
            (float(p[0][token_id]), float(p[1][token_id])),
            (rank(before, token_id), rank(after, token_id)),
        )
        return TokenChange(token_id, token_text(tokenizer, token_id), logits, shares, ranks)

    risen = [change(token_id) for token_id in largest(gain, count).tolist() if gain[token_id] > 0]
    return risen, [change(token_id) for token_id in largest(-gain, count).tolist() if gain[token_id] < 0]
