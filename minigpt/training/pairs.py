"""Pairs of answers: from lines of JSON to rows of ids, and what a model makes of them.

A line is `{"prompt": "The girl was very", "chosen": " kind", "rejected": " cruel"}`. Prompt and answer become
tokens separately, so an answer that begins a word begins with its space.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ..checkpoints.reading import parse_json
from ..checks import check_class, checked_classes, checked_items
from ..errors import CheckpointError, InputError
from ..files import LONGEST_TEXT, read_file
from ..model import GPT2
from ..parallel import Threads
from ..tape import target_logprobs
from ..tokenizer import AnyTokenizer, encode_prompt

KEYS = ("prompt", "chosen", "rejected")
EXAMPLE = 'an object of three texts: {"prompt": "…", "chosen": "…", "rejected": "…"}'
DEMO = Path(__file__).parent.parent / "data" / "preferences.jsonl"
ONE_IN = 5  # pairs are held out
ROWS = 16  # answers that run through the model together
Logprobs = Float[np.ndarray, "_"]  # of an answer's tokens


@dataclass(frozen=True)
class Pair:
    """A prompt, the better answer to it and the worse one."""

    prompt: str
    chosen: str
    rejected: str
    place: str = "a pair"  # what an error calls it: its file and line


# -------------------------------------------------------------------------------------------------- reading


@checked_classes
def read_pairs(file: str | Path) -> list[Pair]:
    """The pairs of a file of JSON lines; `demo` is the set that comes with minigpt.

    Raises `InputError`, with the number of the line, for what is no pair.
    """
    path = DEMO if file == "demo" else Path(file)
    try:
        lines = read_file(path, LONGEST_TEXT).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; give a file of JSON lines, or `demo`.") from None
    pairs = [read_pair(line, f"{file}, line {n}") for n, line in enumerate(lines, start=1) if line.strip()]
    if not pairs:
        raise InputError(f"{file}: it is empty; a line is {EXAMPLE}.")
    return pairs


def read_pair(line: bytes, place: str) -> Pair:
    """The pair of one line; `place` is what an error calls it."""
    try:
        value = parse_json(line, place)
    except CheckpointError as error:
        raise InputError(f"{str(error).removesuffix('.')}; expected {EXAMPLE}.") from None
    if not isinstance(value, dict):
        raise InputError(f"{place}: found a {type(value).__name__}; expected {EXAMPLE}.")
    for key in KEYS:
        if not isinstance(value.get(key), str):
            found = f"is a {type(value[key]).__name__} and no text" if key in value else "is missing"
            raise InputError(f"{place}: {key!r} {found}; expected {EXAMPLE}.")
    pair = Pair(value["prompt"], value["chosen"], value["rejected"], place)
    check_pair(pair)
    return pair


def check_pair(pair: Pair) -> None:
    """Raise `InputError` for a pair that nothing can be learnt from."""
    check_class("pair", pair, (Pair,))
    place = pair.place
    for key in KEYS:
        check_class(f"{place}: {key!r}", getattr(pair, key), (str,))
    for key in ("chosen", "rejected"):
        if not getattr(pair, key):
            raise InputError(f"{place}: {key!r} is empty; an answer has at least one character.")
    if pair.chosen == pair.rejected:
        raise InputError(
            f"{place}: both answers are {pair.chosen[:20]!r}; nothing is preferred. Leave it out."
        )
    for key in KEYS:
        try:
            getattr(pair, key).encode()
        except UnicodeEncodeError:
            raise InputError(f"{place}: {key!r} holds half of a character (a lone surrogate).") from None


def split_pairs(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Those to learn from, and every fifth, which is held out to see whether more was learnt than these."""
    pairs = checked_items("pairs", pairs, Pair, "minigpt.Pair objects, as read_pairs gives them")
    if len(pairs) < ONE_IN:
        raise InputError(
            f"pairs: there are {len(pairs)}; of every {ONE_IN} one is held out, so give {ONE_IN} or more."
        )
    return [p for i, p in enumerate(pairs, 1) if i % ONE_IN], pairs[ONE_IN - 1 :: ONE_IN]


# --------------------------------------------------------------------------------------------------- tokens


@dataclass(frozen=True)
class PairIds:
    """A pair as ids. The prompt has one at least, because an answer's first token must follow something."""

    pair: Pair
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    cut: int = 0  # tokens that were taken off the beginning of the prompt

    @property
    def answers(self) -> tuple[list[int], list[int]]:
        """Chosen and rejected."""
        return self.chosen, self.rejected


def encode_pair(tokenizer: AnyTokenizer, pair: Pair, n_positions: int, end_of_text: bool = False) -> PairIds:
    """A pair as ids; `end_of_text` puts that token behind both answers.

    What does not fit into the context is cut from the prompt, at its beginning: the same for both answers.
    Raises `InputError` for an answer that is too long by itself.
    """
    check_pair(pair)
    prompt = encode_prompt(tokenizer, pair.prompt)
    end = [tokenizer.end_of_text] if end_of_text and tokenizer.end_of_text is not None else []
    chosen, rejected = (tokenizer.encode(text) + end for text in (pair.chosen, pair.rejected))
    # The last token of an answer predicts nothing that is asked for, so it may stand behind the context.
    room = n_positions + 1 - max(len(chosen), len(rejected))
    if room < 1:
        longer = "chosen" if len(chosen) >= len(rejected) else "rejected"
        raise InputError(
            f"{pair.place}: the {longer} answer has {max(len(chosen), len(rejected)):,} tokens, and the "
            f"model's context {n_positions:,}; shorten it."
        )
    return PairIds(pair, prompt[-room:], chosen, rejected, max(0, len(prompt) - room))


@dataclass(frozen=True)
class Rows:
    """Texts of a prompt and an answer as rows of equal length, padded on the right."""

    ids: Int[np.ndarray, "rows tokens"]
    targets: Int[np.ndarray, "rows tokens"]
    is_text: Bool[np.ndarray, "rows tokens"]  # where the target is a token of the text and no padding
    is_answer: Bool[np.ndarray, "rows tokens"]  # where it is one of the answer


def rows_of(texts: Sequence[tuple[list[int], list[int]]], pad: int = 0) -> Rows:
    """Rows of prompts and answers. Any id serves as padding: masks go by position, and none looks ahead."""
    lengths = [len(prompt) + len(answer) - 1 for prompt, answer in texts]
    ids = np.full((len(texts), max(lengths) + 1), pad)
    is_text, is_answer = np.zeros((2, len(texts), max(lengths)), bool)
    for row, ((prompt, answer), length) in enumerate(zip(texts, lengths, strict=True)):
        ids[row, : length + 1] = prompt + answer
        is_text[row, :length] = True
        is_answer[row, len(prompt) - 1 : length] = True  # the last token of the prompt predicts the first
    return Rows(ids[:, :-1], ids[:, 1:], is_text, is_answer)


def answer_logprobs(
    model: GPT2, pairs: Sequence[PairIds], threads: Threads
) -> list[tuple[Logprobs, Logprobs]]:
    """The log-probability of each token of both answers of every pair."""
    texts = [(pair.prompt, answer) for pair in pairs for answer in pair.answers]
    parts = [texts[start : start + ROWS] for start in range(0, len(texts), ROWS)]
    found = [row for part in threads.map(lambda part: logprobs_of_rows(model, part), parts) for row in part]
    return list(zip(found[::2], found[1::2], strict=True))


def logprobs_of_rows(model: GPT2, texts: Sequence[tuple[list[int], list[int]]]) -> list[Logprobs]:
    """The log-probabilities of the answers' tokens, text by text; only their logits are computed."""
    rows = rows_of(texts)
    where = rows.is_answer
    x = last_vectors(model, rows.ids)[where]
    flat = target_logprobs(x, model.parameters.lm_head, rows.targets[where])
    return np.split(flat, np.cumsum([len(answer) for _, answer in texts])[:-1])


def last_vectors(model: GPT2, ids: Int[np.ndarray, "rows tokens"]) -> Float[np.ndarray, "rows tokens n_embd"]:
    """What the head makes the logits from; all of these themselves would be by far the largest array."""
    seen: dict[str, Any] = {}
    model(
        ids,
        hook=lambda name, array: seen.setdefault(name, array) if name == "ln_f" else array,
        logits_to_keep=1,
    )
    return seen["ln_f"]


def encode_pairs(
    tokenizer: AnyTokenizer, pairs: Iterable[Pair], n_positions: int, end_of_text: bool = False
) -> list[PairIds]:
    """Pairs as ids; see `encode_pair`."""
    return [encode_pair(tokenizer, pair, n_positions, end_of_text) for pair in pairs]
