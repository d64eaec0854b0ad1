"""The same tokens after other prompts and by other models, side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..sampling import probabilities
from ..scoring import next_tokens, rank
from ..tokenizer import AnyTokenizer, bytes_of
from .options import PromptOptions
from .passes import Context, model_name
from .tables import Column, cut
from .terminal import percent, visible

LONGEST_NAME = 24
FIELD = 8  # columns for the first number of each context, which sets it off from the one before
ABSENT = "-"  # a text that is no token of another vocabulary
SAME_MODEL = "The model is the same, only the context is another: logits are never fixed."
CHANGE = "change: of the logit, from the first model to this one."
OTHER_VOCABULARY = (
    "Tokens of another vocabulary are compared by their text, in probability and rank; the change is in "
    "percentage points, and - is a text that is no token there."
)

Ids = Mapping[bytes, int]


@dataclass(frozen=True)
class Side:
    """One context of a comparison, and how it stands to the first."""

    context: Context
    name: str
    ids: Ids  # by the bytes of the tokens
    is_another_model: bool
    has_same_vocabulary: bool
    p: Float[np.ndarray, " vocab"]

    @property
    def logits(self) -> Float[np.ndarray, " vocab"]:
        """The scores of all tokens."""
        return self.context.logits


def comparison_columns(contexts: Sequence[Context], options: PromptOptions) -> list[Column]:
    """Logit, probability and rank of the same tokens in every context; of another model's, the change too."""
    tokens = compared_tokens(contexts, options)
    sides = compare(contexts, options.temperature, tokens)
    result = [Column("token", [cut(visible(token), LONGEST_NAME) for token in tokens], style="bold")]
    for side in sides:
        result += side_columns(side, sides[0], tokens, f"T={options.temperature:g}")
    return result


def comparison_notes(contexts: Sequence[Context], options: PromptOptions) -> list[str]:
    """What the numbers say, and how they are to be read."""
    sides = compare(contexts, options.temperature, {})
    others = [side for side in sides if side.is_another_model]
    notes = [SAME_MODEL] if len(others) < len(sides) - 1 else []
    notes += [CHANGE] if any(side.has_same_vocabulary for side in others) else []
    return notes + ([OTHER_VOCABULARY] if not all(side.has_same_vocabulary for side in others) else [])


def compare(contexts: Sequence[Context], temperature: float, tokens: Ids) -> list[Side]:
    """The contexts, each with what to call it, and the ids of its tokens: of one model, of these alone."""
    first = contexts[0].checkpoint
    is_one_model = all(context.checkpoint is first for context in contexts)
    vocabularies = {
        id(context.checkpoint): tokens
        if is_one_model
        else vocabulary(context.checkpoint.tokenizer, len(context.logits))
        for context in contexts
    }
    models_alone = all(context.checkpoint is not first for context in contexts[1:])
    sides = []
    for context in contexts:
        ids = vocabularies[id(context.checkpoint)]
        is_another = context.checkpoint is not first
        name = model_name(context.checkpoint.source) if is_another or models_alone else prompt_name(context)
        same = shared(ids, vocabularies[id(first)])
        sides.append(Side(context, name, ids, is_another, same, probabilities(context.logits, temperature)))
    return sides


def vocabulary(tokenizer: AnyTokenizer, n_vocab: int) -> Ids:
    """The id of every token of a model, by its bytes; of two alike, the first one."""
    return {bytes_of(tokenizer, token_id): token_id for token_id in reversed(range(n_vocab))}


def shared(one: Ids, other: Ids) -> bool:
    """Whether two vocabularies are the same, as far as both go: one may have more tokens behind it."""
    smaller, larger = sorted((one, other), key=len)
    return all(larger.get(token) == token_id for token, token_id in smaller.items())


def compared_tokens(contexts: Sequence[Context], options: PromptOptions) -> dict[bytes, int]:
    """The first tokens of the candidates, or else all that are likely in one of the contexts; their ids."""
    if options.candidates:
        tokenizer = contexts[0].checkpoint.tokenizer
        found = [(tokenizer, tokenizer.encode(text)[0]) for text in options.candidates]
    else:
        found = [
            (context.checkpoint.tokenizer, row.id)
            for context in contexts
            for row in next_tokens(context.logits, context.checkpoint.tokenizer, options.top)
        ]
    return {bytes_of(tokenizer, token_id): token_id for tokenizer, token_id in found}


def side_columns(side: Side, first: Side, tokens: Iterable[bytes], temperature: str) -> list[Column]:
    """What one context makes of the tokens. Logits of another vocabulary's tokens are no comparison."""
    ids = [side.ids.get(token) for token in tokens]
    firsts = [first.ids.get(token) for token in tokens]

    def column(header: str, cells: Sequence[str]) -> Column:
        return Column(header, cells, right=True, group=side.name)

    def change(own: np.ndarray, others: np.ndarray, factor: float | int, digits: int) -> list[str]:
        pairs = zip(ids, firsts, strict=True)
        return [
            "" if i is None or j is None else signed(factor * float(own[i] - others[j]), digits)
            for i, j in pairs
        ]

    logit = column("logit", [ABSENT if i is None else f"{side.logits[i]:.2f}" for i in ids])
    share = column(temperature, [ABSENT if i is None else percent(side.p[i]) for i in ids])
    place = column("rank", [ABSENT if i is None else f"{rank(side.logits, i):,}" for i in ids])
    if not side.has_same_vocabulary:
        result = [share, column("change", change(side.p, first.p, 100.0, 1)), place]
    elif side.is_another_model:
        result = [logit, column("change", change(side.logits, first.logits, 1.0, 2)), share, place]
    else:
        result = [logit, share, place]
    padded = [f"{cell:>{FIELD}}" for cell in result[0].cells]
    return [column(result[0].header, padded), *result[1:]]


def signed(change: float, digits: int) -> str:
    """A change with its sign; what rounds to 0 has none below it."""
    return f"{round(change, digits) + 0.0:+.{digits}f}"


def prompt_name(context: Context) -> str:
    """A prompt as a heading."""
    return visible(context.reading.prompt).replace("␣", " ") or context.reading.tokens[0]
