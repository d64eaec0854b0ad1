"""The autoregressive loop: choose a token, append it, ask the model again.

`generate_without_cache` is that and nothing else: it reads the whole text again for every token. The rest of
this file gives the same tokens and remembers. The prompt runs through the model once (the *prefill*); after
that every step feeds one token, because the key/value cache holds the others (the *decode*). A generation
owns its cache and its random numbers, so generations that share a model, also from several threads, do not
influence each other.

A generation ends for one of four reasons:

- `max_new_tokens`: there are as many new tokens as were asked for;
- `stop_id`: the model chose one of `stop_ids`, which for a text is by default <|endoftext|>;
- `stop_text`: the text contains a stop string (`generate_text` alone);
- `context_full`: there is no position left for another token.

A `hook` sees every forward pass: the prefill with the tokens of the prompt, then each decode with one.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from numbers import Integral
from typing import Literal, NamedTuple, TypedDict, Unpack, overload

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from .checks import checked_classes, checked_ids, checked_items, checked_text
from .errors import InputError, brief
from .hooks import Hook, checked_hook
from .model import GPT2, KVCache
from .ranges import Number, check_range
from .sampling import Sampling
from .scoring import largest, log_softmax
from .tokenizer import AnyTokenizer, TextStream, encode_prompt

StopReason = Literal["max_new_tokens", "stop_id", "stop_text", "context_full"]
StopIds = Collection[int] | int | None
GREEDY = Sampling(temperature=0)


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling`, for functions that pass them on."""

    temperature: Number
    top_k: int
    top_p: Number
    min_p: Number
    repetition_penalty: Number


# ------------------------------------------------------------------------------------------------ the loop


@checked_classes
def generate_without_cache(
    model: GPT2,
    ids: ArrayLike,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    seed: int | None = None,
    hook: Hook | None = None,
) -> list[int]:
    """The new tokens, found by the definition: ask for the next one's logits, choose, append, ask again."""
    check_range("max_new_tokens", max_new_tokens)
    text, rng = checked_text("ids", ids, model.config).tolist(), new_rng(seed)
    for _ in range(max_new_tokens):
        logits = model(text, hook=hook, logits_to_keep=1)[-1]
        text.append(sampling.choose(logits, text, rng))
    return text[len(text) - max_new_tokens :]


def new_rng(seed: int | None) -> np.random.Generator:
    """A generator of random numbers (PCG64); without a seed, one that nobody can repeat."""
    if seed is not None:
        check_range("seed", seed)
    return np.random.default_rng(seed)


# -------------------------------------------------------------------------------- the same, remembering


class Continuation:
    """The tokens appended to one prompt, and why they ended.

    `ids` holds the new tokens, the one that ended the text included. It is all that a step adds to, and it
    does so last: whatever interrupts a step, the next one computes the same token again.
    """

    def __init__(
        self,
        prompt: ArrayLike,
        model: GPT2,
        sampling: Sampling,
        max_new_tokens: int,
        seed: int | None,
        stop_ids: frozenset[int],
        hook: Hook | None = None,
    ) -> None:
        checked_hook(hook)
        check_range("max_new_tokens", max_new_tokens)
        prompt_ids = checked_ids(prompt, model.config)
        if prompt_ids.ndim != 1:
            raise InputError(f"ids: found shape {prompt_ids.shape}; for several prompts use generate_batch.")
        self.prompt_ids: list[int] = prompt_ids.tolist()
        self.ids: list[int] = []
        self._max_new_tokens = max_new_tokens
        # One token more than there are positions left, because nothing has to follow the last one.
        self._room = model.config.n_positions - len(self.prompt_ids) + 1
        self._stop_ids = stop_ids
        self._model, self._hook, self._sampling, self._rng = model, hook, sampling, new_rng(seed)
        self._rng_state = self._rng.bit_generator.state  # to go back to when a choice was interrupted

    def __repr__(self) -> str:
        end = self.stop_reason or "goes on when it is iterated over"
        return f"{type(self).__name__}({len(self.ids)} new tokens: {end})"

    @property
    def stop_reason(self) -> StopReason | None:
        """Why there is no next token; None if there is one."""
        if self.ids and self.ids[-1] in self._stop_ids:
            return "stop_id"
        if len(self.ids) == self._max_new_tokens:
            return "max_new_tokens"
        return "context_full" if len(self.ids) == self._room else None

    def choose_next(self, logits: Float[np.ndarray, " vocab"]) -> int:
        """Choose a token by the logits that follow the last one."""
        self._rng.bit_generator.state = self._rng_state
        token_id = self._sampling.choose(logits, self.prompt_ids + self.ids, self._rng)
        self.ids.append(token_id)
        self._rng_state = self._rng.bit_generator.state
        return token_id


def checked_stop_ids(stop_ids: StopIds) -> frozenset[int]:
    """The ids that end a text: several, one by itself, or none."""
    return frozenset(checked_items("stop_ids", stop_ids, Integral, "token ids, or None"))


class Generation(Continuation, Iterator[int]):
    """A continuation that computes its tokens while it is iterated over; see `generate`."""

    @cached_property
    def _cache(self) -> KVCache:
        return self._model.new_cache()

    def __next__(self) -> int:
        if self.stop_reason is not None:
            raise StopIteration
        new_to_the_cache = self.ids[-1:] or self.prompt_ids
        # It may hold them already, of a step that was interrupted; they are written once more then.
        self._cache.lengths[...] = len(self.prompt_ids) + len(self.ids) - len(new_to_the_cache)
        logits = self._model(new_to_the_cache, cache=self._cache, hook=self._hook, logits_to_keep=1)
        return self.choose_next(logits[-1])


@checked_classes
def generate(
    model: GPT2,
    ids: ArrayLike,
    *,
    max_new_tokens: int,
    temperature: Number = 1.0,
    top_k: int = 0,
    top_p: Number = 1.0,
    min_p: Number = 0.0,
    repetition_penalty: Number = 1.0,
    seed: int | None = None,
    stop_ids: StopIds = None,
    hook: Hook | None = None,
) -> Generation:
    """Continue the prompt `ids`, (tokens,), by up to `max_new_tokens` tokens.

    Iterate over the result to stream the new ids, each computed when it is asked for; afterwards it holds
    `ids` and `stop_reason`. What was interrupted goes on where it was. The settings are those of `sampling`:
    temperature 0 is greedy. The same seed gives the same tokens. `stop_ids` end the text: several, one by
    itself, or None. Raises `InputError` for an impossible argument, and `ContextLengthError` for a
    prompt longer than the context, before anything is computed.
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    return Generation(ids, model, sampling, max_new_tokens, seed, checked_stop_ids(stop_ids), hook)


@checked_classes
def generate_batch(
    model: GPT2,
    prompts: Iterable[ArrayLike],
    *,
    max_new_tokens: int,
    seed: int | Sequence[int] | None = None,
    stop_ids: StopIds = None,
    hook: Hook | None = None,
    **sampling: Unpack[SamplingOptions],
) -> list[Continuation]:
    """Continue prompts of any lengths together, which costs less than one after the other.

    Each gives what `generate` gives for it alone, up to float32 rounding: one seed is every prompt's seed.
    For different continuations of the same prompt give a sequence, one seed per prompt. The rows come back
    when all are finished; to stream, use `generate`. A `hook` gets arrays of all rows; its first pass sees
    the prompts without their last tokens, padded on the right. Raises what `generate` raises.
    """
    try:
        prompts = list(prompts)
    except TypeError:
        raise InputError(f"prompts: found {type(prompts).__name__}; expected several rows of ids.") from None
    stops = checked_stop_ids(stop_ids)
    seeds = list(seed) if isinstance(seed, Sequence) else [seed] * len(prompts)
    if len(seeds) != len(prompts):
        raise InputError(f"seed: found {len(seeds)} for {len(prompts)} prompts; give one, or one per prompt.")
    rows = [
        Continuation(prompt, model, Sampling(**sampling), max_new_tokens, row_seed, stops, hook)
        for prompt, row_seed in zip(prompts, seeds, strict=True)
    ]
    cache = prefill_all_but_last(model, [row.prompt_ids for row in rows], hook)
    while any(row.stop_reason is None for row in rows):
        last = [(row.ids or row.prompt_ids)[-1:] for row in rows]
        logits = model(last, cache=cache, hook=hook, logits_to_keep=1)[:, -1]
        for index, row in enumerate(rows):
            if row.stop_reason is None:
                row.choose_next(logits[index])
            if row.stop_reason is not None:  # it is computed on with the others, as a text of one token
                cache.lengths[index] = 0
    return rows


def prefill_all_but_last(model: GPT2, prompts: list[list[int]], hook: Hook | None) -> KVCache:
    """A cache of the prompts, each without its last token, which is left to ask for what follows it.

    The shorter ones are padded on the right, where no token of theirs can see it.
    """
    cache = model.new_cache(len(prompts))
    lengths = np.array([len(prompt) - 1 for prompt in prompts])
    if lengths.any():
        padded = np.zeros((len(prompts), lengths.max()), np.int64)
        for row, prompt in zip(padded, prompts, strict=True):
            row[: len(prompt) - 1] = prompt[:-1]
        model(padded, cache=cache, hook=hook, logits_to_keep=1)
        cache.lengths[...] = lengths
    return cache


# --------------------------------------------------------------------------------------------- beam search


class Beam(NamedTuple):
    """A continuation that a beam search ended with, and its score."""

    ids: list[int]
    score: float  # log-probability / length ** length_penalty


@overload
def beam_search(
    model: GPT2, ids: ArrayLike, *, num_beams: int, max_new_tokens: int, length_penalty: Number = 1.0,
    stop_ids: StopIds = None, hook: Hook | None = None, num_return_sequences: None = None,
) -> list[int]: ...  # fmt: skip


@overload
def beam_search(
    model: GPT2, ids: ArrayLike, *, num_beams: int, max_new_tokens: int, length_penalty: Number = 1.0,
    stop_ids: StopIds = None, hook: Hook | None = None, num_return_sequences: int,
) -> list[Beam]: ...  # fmt: skip


@checked_classes
def beam_search(
    model: GPT2,
    ids: ArrayLike,
    *,
    num_beams: int,
    max_new_tokens: int,
    length_penalty: Number = 1.0,
    stop_ids: StopIds = None,
    hook: Hook | None = None,
    num_return_sequences: int | None = None,
) -> list[int] | list[Beam]:
    """The likeliest continuation, (tokens,), that the `num_beams` best beginnings of one lead to.

    Its score is the sum of its log-probabilities, divided by its length to the power of `length_penalty`.
    With `num_return_sequences`, up to `num_beams`, it returns so many `Beam`s, best first, with their scores.
    Likely is not good: an open text goes in circles (Holtzman et al. 2020). This is what `transformers`
    finds with `early_stopping=False`. Raises what `generate` raises, and `InputError` below one beam.
    """
    check_range("num_beams", num_beams)
    check_range("length_penalty", length_penalty)
    if num_return_sequences is not None:
        check_range("num_return_sequences", num_return_sequences)
        if num_return_sequences > num_beams:
            found = brief(num_return_sequences)
            raise InputError(f"num_return_sequences is {found}; it must be at most num_beams, {num_beams}.")
    stops = checked_stop_ids(stop_ids)
    prompt = Continuation(ids, model, GREEDY, max_new_tokens, None, stops, hook).prompt_ids
    longest = min(max_new_tokens, model.config.n_positions - len(prompt) + 1)
    beams = find_beams(model, prompt, num_beams, longest, length_penalty, stops, hook)
    if num_return_sequences is None:
        return beams[0].ids if beams else []
    return beams[:num_return_sequences]


def find_beams(
    model: GPT2,
    prompt: list[int],
    num_beams: int,
    longest: int,
    length_penalty: Number,
    stops: frozenset[int],
    hook: Hook | None,
) -> list[Beam]:
    """Up to `num_beams` continuations that ended, best first."""
    cache = prefill_all_but_last(model, [prompt] * num_beams, hook)
    beams = np.full((num_beams, 1), prompt[-1])
    scores = np.where(np.arange(num_beams) == 0, 0.0, -np.inf)  # at first all beams are the same: follow one
    finished: list[Beam] = []
    for length in range(1, longest + 1):
        logits = model(beams[:, -1:], cache=cache, hook=hook, logits_to_keep=1)[:, -1]
        logprobs = log_softmax(logits) + scores[:, None]
        # So many that num_beams of them go on, even if every beam could end with every stop id.
        best = largest(logprobs.ravel(), num_beams * max(2, 1 + len(stops)))
        parents, tokens = np.divmod(best, logprobs.shape[-1])
        longer, totals = np.column_stack([beams[parents], tokens]), logprobs.ravel()[best]
        values = totals / length**length_penalty
        ends = np.isin(tokens, list(stops)) | (length == longest)
        ended = np.flatnonzero(ends[:num_beams])
        finished += [Beam(longer[place, 1:].tolist(), float(values[place])) for place in ended]
        finished = sorted(finished, key=lambda beam: -beam.score)[:num_beams]
        going_on = np.flatnonzero(~ends)[:num_beams]
        scores, beams = totals[going_on], longer[going_on]
        if not len(going_on) or (len(finished) == num_beams and values[going_on[0]] <= finished[-1].score):
            break  # none goes on, or the best of them is, as it is now, no better than the worst finished one
        cache.reorder(parents[going_on])
    return finished


# ---------------------------------------------------------------------------------------------------- text


class TextGeneration(Iterator[str]):
    """A generation as pieces of text; see `generate_text`. Afterwards it holds `text` and `stop_reason`."""

    def __init__(
        self, generation: Generation, tokenizer: AnyTokenizer, stop: str | Sequence[str] | None
    ) -> None:
        self._stop = checked_items("stop", stop, str, "a text, a list of texts, or None")
        if "" in self._stop:
            raise InputError("stop: found an empty string, which is everywhere; give at least one character.")
        self.text = ""
        self.stop_reason: StopReason | None = None
        self._generation, self._stream, self._held = generation, TextStream(tokenizer), ""

    def __repr__(self) -> str:
        end = self.stop_reason or "goes on when it is iterated over"
        return f"TextGeneration({self.text!r}: {end})"

    @property
    def ids(self) -> list[int]:
        """The tokens so far: all that the model chose, also those behind a stop string."""
        return self._generation.ids

    def __next__(self) -> str:
        while self.stop_reason is None:
            piece = self._step()
            if piece:
                self.text += piece
                return piece
        raise StopIteration

    def _step(self) -> str:
        """The text that another token makes ready, or the rest if there is none."""
        token_id = next(self._generation, None)
        if token_id is None:
            self.stop_reason = self._generation.stop_reason
            return self._held + self._stream.flush()
        if self._generation.stop_reason != "stop_id":  # a token that ends the text is not part of it
            self._held += self._stream.push(token_id)
        ready, self._held, found = split_at_stop(self._held, self._stop)
        if found:
            self.stop_reason = "stop_text"
        return ready


def split_at_stop(text: str, stop: Sequence[str]) -> tuple[str, str, bool]:
    """Cut `text` into what can be shown, what may become a stop string, and whether one was found."""
    found = [start for start in map(text.find, stop) if start >= 0]
    if found:
        return text[: min(found)], "", True
    held = max((longest_beginning(text, word) for word in stop), default=0)
    ready = len(text) - held
    return text[:ready], text[ready:], False


def longest_beginning(text: str, word: str) -> int:
    """How many of the last characters of a text are the first of a word; the whole word does not count."""
    lengths = range(min(len(text), len(word) - 1), 0, -1)
    return next((length for length in lengths if text.endswith(word[:length])), 0)


@checked_classes
def generate_text(
    model: GPT2,
    tokenizer: AnyTokenizer,
    prompt: str,
    *,
    max_new_tokens: int,
    stop: str | Sequence[str] | None = None,
    seed: int | None = None,
    stop_ids: StopIds | Literal["end_of_text"] = "end_of_text",
    hook: Hook | None = None,
    **sampling: Unpack[SamplingOptions],
) -> TextGeneration:
    """Continue a prompt as `generate` does, streaming pieces of text that end with a complete character.

    An empty prompt starts from the tokenizer's `end_of_text`, which also ends the text unless `stop_ids`
    says what else does, or None. The text ends before the first of the `stop` strings, also
    one that several tokens make up: what may be its beginning is held back until that is decided.
    Afterwards the result holds `text`, `ids` and `stop_reason`. Raises what `generate` raises.
    """
    ids = encode_prompt(tokenizer, prompt)
    if isinstance(stop_ids, str) and stop_ids == "end_of_text":
        stop_ids = tokenizer.end_of_text
    generation = generate(
        model, ids, max_new_tokens=max_new_tokens, seed=seed, stop_ids=stop_ids, hook=hook, **sampling
    )
    return TextGeneration(generation, tokenizer, stop)
