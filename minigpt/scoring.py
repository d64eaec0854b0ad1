"""How likely a model finds a text: log-probabilities, perplexity, comparisons of continuations.

Logits are float32, as the model gives them; what is computed from them is float64. Logarithms are natural
unless a name says bits. A prompt or a continuation is a sequence of ids.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from .checks import checked_classes, checked_ids, checked_items, checked_text
from .errors import InputError, brief
from .hooks import Hook
from .model import GPT2
from .parallel import in_parallel
from .ranges import Number, check_range
from .sampling import Logits, check_finite, probabilities
from .tokenizer import AnyTokenizer, text_of, token_text

Vector = Float[np.ndarray, " vocab"]
Logprobs = Float[np.ndarray, " tokens"]
CERTAIN = -sys.float_info.min  # the largest log P below 0 for which 1 / (1 - P) is a float as well
ROWS_AT_A_TIME = 32  # 32 rows of 50,257 logits are 13 MB in float64; a window's 1,023 would be 411


def log_softmax(logits: Logits) -> Float[np.ndarray, "*batch vocab"]:
    """Logits to log-probabilities over the last axis. Raises `NumericsError` for NaN and +inf."""
    check_finite(logits)
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return scores


def logprobs_of(logits: Float[np.ndarray, "tokens vocab"], ids: Int[np.ndarray, " tokens"]) -> Logprobs:
    """The log-probability that each row of logits gives to the id beside it."""
    result = np.empty(len(ids))

    def work(start: int) -> None:
        rows = slice(start, start + ROWS_AT_A_TIME)
        result[rows] = np.take_along_axis(log_softmax(logits[rows]), ids[rows, None], axis=-1)[:, 0]

    in_parallel(work, range(0, len(ids), ROWS_AT_A_TIME))
    return result


def largest(values: Float[np.ndarray, " n"], count: int) -> Int[np.ndarray, " largest"]:
    """Where the `count` largest values are, largest first; of equal ones the lower index comes first."""
    count = min(count, len(values))
    contenders = np.flatnonzero(
        values >= np.partition(values, -count)[-count]
    )  # sorting all takes far longer
    return contenders[np.argsort(-values[contenders], kind="stable")][:count]


# ---------------------------------------------------------------------------------------- the next token


@dataclass(frozen=True)
class NextToken:
    """A row of the table of next tokens."""

    rank: int  # from 1, by logit; of equal ones the lower id comes first
    id: int
    text: str
    logit: float  # the raw score
    probability: float  # after temperature


@checked_classes
def next_tokens(
    logits: Vector, tokenizer: AnyTokenizer, top: int = 10, temperature: Number = 1.0
) -> list[NextToken]:
    """The `top` largest of the logits that follow a context, largest first."""
    check_range("top", top)
    ranking, probability = largest(logits, top).tolist(), probabilities(logits, temperature)
    return [
        NextToken(place, token_id, token_text(tokenizer, token_id), float(logits[token_id]), float(p))
        for place, (token_id, p) in enumerate(zip(ranking, probability[ranking], strict=True), start=1)
    ]


def rank(logits: Vector, token_id: int) -> int:
    """A token's place by logit, from 1 for the largest; of equal ones the lower id comes first."""
    if not isinstance(token_id, Integral) or not 0 <= token_id < len(logits):
        raise InputError(f"token_id is {brief(token_id)}; these logits are of ids 0 to {len(logits) - 1}.")
    larger = np.count_nonzero(logits > logits[token_id])
    return int(1 + larger + np.count_nonzero(logits[:token_id] == logits[token_id]))


@dataclass(frozen=True)
class Candidate:
    """A continuation that somebody asked about."""

    text: str
    ids: list[int]
    logit: float  # of its first token, as are probability and rank
    probability: float  # after temperature
    rank: int
    logprob: float  # of the whole continuation, at temperature 1
    # The same of prompt and continuation encoded as one text, where the prompt ends in white space, which
    # belongs to the token behind it: behind "I love " the model has seen no "you", only " you".
    joined_logprob: float | None = None


@checked_classes
def candidates(
    model: GPT2,
    tokenizer: AnyTokenizer,
    prompt: Sequence[int],
    logits: Vector,
    texts: Sequence[str],
    temperature: Number = 1.0,
    hook: Hook | None = None,
) -> list[Candidate]:
    """What the `logits` that follow `prompt` say about some continuations, in the order given.

    Only a continuation of several tokens runs the model again. Raises `InputError` for an empty one.
    """
    texts = checked_items("candidates", texts, str, "texts")
    if "" in texts:
        raise InputError("candidates: found an empty text; a candidate has at least one character.")
    probability, logprobs = probabilities(logits, temperature), log_softmax(logits)
    encoded = [tokenizer.encode(text) for text in texts]
    several = [ids for ids in encoded if len(ids) > 1]
    scored = iter(continuation_logprobs(model, prompt, several, hook=hook) if several else ())

    def candidate(text: str, ids: list[int]) -> Candidate:
        first = ids[0]
        logprob = next(scored).logprob if len(ids) > 1 else float(logprobs[first])
        joined = None if hook else joined_logprob(model, tokenizer, prompt, text)
        place = rank(logits, first)
        return Candidate(text, ids, float(logits[first]), float(probability[first]), place, logprob, joined)

    return [candidate(*pair) for pair in zip(texts, encoded, strict=True)]


def joined_logprob(model: GPT2, tokenizer: AnyTokenizer, prompt: Sequence[int], text: str) -> float | None:
    """The log-probability of a continuation that is encoded together with a prompt that ends in white space.

    It counts what follows the tokens that both encodings share. None where the prompt ends otherwise.
    """
    before = text_of(tokenizer, prompt)
    if not before[-1:].isspace():
        return None
    joined = tokenizer.encode(before + text)
    pairs = zip(joined, prompt, strict=False)
    shared = next((n for n, (one, other) in enumerate(pairs) if one != other), len(prompt))
    if shared == 0:
        return None  # nothing is left to start from
    return continuation_logprob(model, joined[:shared], joined[shared:])


# --------------------------------------------------------------------------- tokens that were never trained


def never_seen(model: GPT2, ids: Sequence[int]) -> list[int]:
    """The positions of tokens that the model never saw in training, as far as its embedding tells.

    Training moves the row of every token that it meets, and no two of them to the same numbers. A row that
    several tokens share is as whoever made the model left it.
    """
    wte = model.parameters.wte
    first = np.ascontiguousarray(wte[:, 0])
    shared: set[int] = set()
    for token_id in set(ids):
        if token_id not in shared:
            alike = np.flatnonzero(first == first[token_id])
            alike = alike[(wte[alike] == wte[token_id]).all(axis=1)]
            shared.update(alike.tolist() if len(alike) > 1 else [])
    return [position for position, token_id in enumerate(ids) if token_id in shared]


def never_seen_note(n_unseen: int, n_tokens: int) -> str:
    """What to say about a text with such tokens."""
    return f"The model never saw {n_unseen:,} of these {n_tokens:,} tokens; to it they are all the same."


# ----------------------------------------------------------------------------------------- continuations


@dataclass(frozen=True)
class ScoredTokens:
    """A stretch of a text, and what the model thought of each token given the ones before."""

    start: int  # position of the first of them in the text
    ids: Int[np.ndarray, " tokens"]
    logprobs: Logprobs
    likeliest: Int[np.ndarray, " tokens"]  # the ids that the model would have put in their places

    @property
    def logprob(self) -> float:
        """Of all tokens together: the sum (the chain rule)."""
        return float(self.logprobs.sum())

    @property
    def is_greedy(self) -> Bool[np.ndarray, " tokens"]:
        """Whether each token was the likeliest; greedy choice would have written a text where all are."""
        return self.likeliest == self.ids


@checked_classes
def continuation_logprobs(
    model: GPT2,
    prompt: Sequence[int],
    continuations: Iterable[Sequence[int]],
    *,
    hook: Hook | None = None,
) -> list[ScoredTokens]:
    """The log-probability of each token of each continuation, given `prompt` and the tokens before it.

    The prompt is read once: each continuation starts from its keys and values. A `hook` sees the prompt, then
    each continuation but its last token. Raises `ContextLengthError` if a continuation does not fit into the
    context behind the prompt; its last token, which predicts nothing that is asked for, may stand behind the
    end.
    """
    prompt_ids = checked_text("prompt", prompt, model.config)
    if not isinstance(continuations, Iterable):
        raise InputError(
            f"continuations: found {type(continuations).__name__}; expected several rows of ids."
        )
    texts = [checked_text("continuation", ids, model.config) for ids in continuations]
    if not len(prompt_ids):
        raise InputError("prompt: no tokens; to start from nothing, give the tokenizer's end_of_text.")
    for ids in texts:
        checked_ids(np.concatenate([prompt_ids, ids[:-1]]), model.config)
    if len(texts) == 1 and hook is None and len(texts[0]):  # one alone takes a single pass
        logits = model(np.concatenate([prompt_ids, texts[0][:-1]]), logits_to_keep=len(texts[0]))
        scores = logprobs_of(logits, texts[0])
        return [ScoredTokens(len(prompt_ids), texts[0], scores, logits.argmax(axis=-1))]
    cache = model.new_cache()
    first = model(prompt_ids, cache=cache, hook=hook, logits_to_keep=1)

    def score(ids: Int[np.ndarray, " tokens"]) -> ScoredTokens:
        logits = first[: len(ids)]
        if len(ids) > 1:
            logits = np.concatenate([first, model(ids[:-1], cache=cache, hook=hook)])
            cache.rewind(len(prompt_ids))
        return ScoredTokens(len(prompt_ids), ids, logprobs_of(logits, ids), logits.argmax(axis=-1))

    return [score(ids) for ids in texts]


@checked_classes
def continuation_logprob(
    model: GPT2, prompt: Sequence[int], continuation: Sequence[int], *, hook: Hook | None = None
) -> float:
    """The log-probability of `continuation` given `prompt`: the sum over its tokens (the chain rule)."""
    return continuation_logprobs(model, prompt, [continuation], hook=hook)[0].logprob


# ----------------------------------------------------------------------------------- texts of any length


def checked_stride(stride: int | None, context: int) -> int:
    """The stride to use: half the context if None. Raises `InputError` unless it is 1 to `context`."""
    if stride is None:
        return max(1, context // 2)
    if not isinstance(stride, Integral) or not 1 <= stride <= context:
        raise InputError(f"stride is {brief(stride)}; it must be an integer, 1 to {context} (the context).")
    return stride


def windows(n_tokens: int, context: int, stride: int) -> list[tuple[int, int, int]]:
    """Where each window begins, where the tokens begin that it is the first to score, where both end."""
    result: list[tuple[int, int, int]] = []
    scored_to = 0
    for begin in range(0, n_tokens, stride):
        end = min(begin + context, n_tokens)
        first = max(scored_to, begin + 1)  # nothing in a window predicts its first token
        if first < end:
            result.append((begin, first, end))
        scored_to = end
        if end == n_tokens:
            break
    return result


@checked_classes
def score_windows(
    model: GPT2, ids: ArrayLike, stride: int | None = None, *, hook: Hook | None = None
) -> Iterator[ScoredTokens]:
    """Score a text of any length, (tokens,), in overlapping windows; one forward pass gives one result.

    Each window is as long as the context, begins `stride` tokens after the one before it (None: half the
    context), and scores the tokens that no earlier one did; so each of these has at least `n_positions -
    stride` tokens to go by. Smaller strides cost more and find the text likelier. The first token of all
    follows nothing and has no score. This is the strided evaluation of "Perplexity of fixed-length
    models" in the documentation of `transformers`.

    A `hook` sees each window's forward pass. Raises `InputError` for fewer than two tokens, for a model of
    one position, which sees nothing to predict from, and for a stride that is not 1 to `n_positions`.
    """
    tokens, context = checked_text("ids", ids, model.config), model.config.n_positions
    stride = checked_stride(stride, context)
    if len(tokens) < 2:
        raise InputError(f"ids: found shape {tokens.shape}; scoring takes one text of at least two tokens.")
    if context < 2:
        raise InputError("n_positions is 1: this model sees one token, and scoring takes one before each.")
    for begin, first, end in windows(len(tokens), context, stride):
        window = tokens[begin:end]
        logits, scored = model(window[:-1], hook=hook, logits_to_keep=end - first), window[first - begin :]
        yield ScoredTokens(first, scored, logprobs_of(logits, scored), logits.argmax(axis=-1))


@checked_classes
def token_logprobs(
    model: GPT2, ids: ArrayLike, stride: int | None = None, *, hook: Hook | None = None
) -> Logprobs:
    """The log-probability of every token of a text but the first, given those before; see `score_windows`.

    With a stride of the whole context the first token of every window is missing.
    """
    return np.concatenate([window.logprobs for window in score_windows(model, ids, stride, hook=hook)])


@checked_classes
def perplexity(model: GPT2, ids: ArrayLike, stride: int | None = None, *, hook: Hook | None = None) -> float:
    """exp of the mean negative log-probability: between how many equally likely tokens the model wavers.

    Every scored token counts once. (The guide's own loop leaves one token per window out of its weights,
    for the shift of the labels, which costs a token in the first window alone: a small difference.)
    """
    return perplexity_of(token_logprobs(model, ids, stride, hook=hook))


def perplexity_of(logprobs: Logprobs) -> float:
    """The perplexity of tokens that have these log-probabilities."""
    with np.errstate(over="ignore"):  # hopeless, not wrong: inf
        return float(np.exp(-logprobs.mean()))


# ------------------------------------------------------------------------------------------- preferences


@checked_classes
def log_odds(model: GPT2, prompt: Sequence[int], continuation: Sequence[int]) -> float:
    """log(P / (1 - P)) of a continuation, P being the geometric mean of its tokens' probabilities.

    The mean makes continuations of different lengths comparable. Hong et al. 2024, "ORPO: Monolithic
    Preference Optimization without Reference Model", arXiv 2403.07691, equations (3) and (4).
    """
    logprobs = continuation_logprobs(model, prompt, [continuation])[0].logprobs
    if not len(logprobs):
        raise InputError("continuation: no tokens; a mean takes at least one.")
    return log_odds_of(float(logprobs.mean()))


def log_odds_of(logprob: float) -> float:
    """log(P / (1 - P)) for a P given as its logarithm.

    A P of 1 counts as a little less (`CERTAIN`): its log-odds are 708 then, and not infinite, so that two
    certain answers have a difference, which is 0.
    """
    logprob = min(logprob, CERTAIN)
    # log(1 - P): each formula keeps its digits on one side of P = 1/2.
    near_1 = logprob > -math.log(2)
    return logprob - (math.log(-math.expm1(logprob)) if near_1 else math.log1p(-math.exp(logprob)))


def log_odds_slope(logprob: float) -> float:
    """The derivative of `log_odds_of`, 1 / (1 - P)."""
    return -1.0 / math.expm1(min(logprob, CERTAIN))


@checked_classes
def log_odds_ratio(
    model: GPT2, prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int]
) -> float:
    """By how much the log-odds of `chosen` exceed those of `rejected`; Hong et al. 2024, equation (5)."""
    return log_odds(model, prompt, chosen) - log_odds(model, prompt, rejected)
