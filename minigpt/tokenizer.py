"""Text to token ids and back: byte-level byte pair encoding (BPE), as GPT-2 does it and others after it.

    "I love"  ─ split ─  "I"  " love"  ─ bytes ─  [49]  [20 6c 6f 76 65]  ─ merge ─  40  1842

1. *Split.* A pattern cuts the text into words, numbers, punctuation and white space. A space goes with
   the word after it, so that a word is one token wherever it stands in a sentence, and spaces cost
   nothing; " love" (1842) and "love" (23205) are different tokens. No merge reaches across a cut.
2. *Bytes.* Each piece becomes its UTF-8 bytes. Every byte is a token, so there is no unknown text: a
   rare word or an emoji only takes more tokens, some of which hold just a part of a character.
3. *Merge.* A list holds pairs in the order in which training found them, the most frequent first. Of all
   neighbours in the piece, those whose pair comes first in the list become one token, again and again,
   until no two neighbours are a pair.

GPT-2's list is `data/vocab.bpe`, 50,000 pairs. A token's id is its place in the vocabulary: 256 bytes, 50,000
merges, and last `<|endoftext|>` (50256), which no text produces; in training it stood between documents.
`Tokenizer.train` finds such a list for other texts.

References: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", and its
`learn_bpe.py`; Radford et al. 2019, section 2.2; `src/encoder.py` of openai/gpt-2.
"""

import codecs
import contextlib
import functools
import itertools
import operator
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, SupportsIndex, runtime_checkable

import regex
import tiktoken

from .checks import check_class, check_fields, checked_classes, checked_items
from .errors import InputError, brief
from .ranges import check_range

Pair = tuple[bytes, bytes]


@runtime_checkable
class AnyTokenizer(Protocol):
    """All that generation, scoring, the story and the page ask of a tokenizer; yours may be any."""

    @property
    def n_vocab(self) -> int:
        """How many ids there are, counted from 0."""

    @property
    def end_of_text(self) -> int | None:
        """The id that stands between texts and from which an empty prompt starts; None if there is none."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids."""

    def token_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes of one id; a token may hold a part of a character."""


# ------------------------------------------------------------------------------------------------ 1. split

# The pattern of `src/encoder.py`: a few English endings, then letters, digits, and anything else that is no
# white space, each with one space before it if there is one. `\s+(?!\S)` leaves the last of several spaces
# to the word after it. `\p{L}` is any letter of any script, which Python's own `re` does not know.
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def split(text: str, pattern: str = GPT2_PATTERN) -> list[str]:
    """Cut a text into the pieces that are merged each by itself; together they are the text."""
    return [match[0] for match in regex.finditer(pattern, text)]


# ------------------------------------------------------------------------------------------------ 2. bytes


@functools.cache
def byte_names() -> Mapping[int, str]:
    """The character that stands for each byte in the files of a vocabulary, in the order of the ids.

    In those files a space or a line break separates, so a token that contains one needs another way to
    write it. Bytes that print stand for themselves; the other 68 borrow the characters from U+0100 on.
    The space becomes Ġ and the newline Ċ, which is why " love" is often shown as "Ġlove".
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    names = {byte: chr(byte) for byte in printable}
    return MappingProxyType(names | {byte: chr(0x100 + n) for n, byte in enumerate(others)})


def token_name(token: bytes) -> str:
    """How the files of a vocabulary write a token."""
    return token.decode("latin-1").translate(byte_names())


def named_token(name: str) -> bytes:
    """The inverse of `token_name`. Raises `KeyError` for a character that stands for no byte."""
    return bytes(map(_bytes_by_name().__getitem__, name))


@functools.cache
def _bytes_by_name() -> Mapping[str, int]:
    return {name: byte for byte, name in byte_names().items()}


# ------------------------------------------------------------------------------------------------ 3. merge


def merge(piece: bytes, ranks: Mapping[Pair, int]) -> list[bytes]:
    """The tokens of a piece, by the rank of every pair that may be merged."""
    parts = single_bytes(piece)
    for _, parts in merge_steps(piece, ranks):  # noqa: B007 - the last of them are the result
        pass
    return parts


def merge_steps(piece: bytes, ranks: Mapping[Pair, int]) -> Iterator[tuple[Pair, list[bytes]]]:
    """Each merge in order: the pair that ranks first among all neighbours, and the parts it leaves."""
    parts = single_bytes(piece)
    while pairs := [pair for pair in itertools.pairwise(parts) if pair in ranks]:
        first = min(pairs, key=ranks.__getitem__)
        parts = join(parts, first)
        yield first, parts


def single_bytes(piece: bytes) -> list[bytes]:
    """The parts with which merging begins."""
    return [piece[place : place + 1] for place in range(len(piece))]


def join(parts: Sequence[bytes], pair: Pair) -> list[bytes]:
    """Make one part of the pair wherever it stands, from left to right: in "aaa", the first two."""
    left, right = pair
    joined: list[bytes] = []
    for part in parts:
        if part == right and joined and joined[-1] == left:
            joined[-1] = left + right
        else:
            joined.append(part)
    return joined


# ------------------------------------------------------------------------------ where the merges come from


@functools.cache
def gpt2_merges() -> tuple[Pair, ...]:
    """GPT-2's 50,000 pairs, the first to be merged first."""
    file = Path(__file__).parent / "data" / "vocab.bpe"
    lines = file.read_text(encoding="utf-8").splitlines()[1:]  # the first line is a version number
    return tuple(named_pair(line) for line in lines)


def named_pair(line: str) -> Pair:
    """A line of such a file. Raises `ValueError` or `KeyError` if it is none."""
    left, right = line.split(" ")
    return named_token(left), named_token(right)


def learn_merges(texts: Iterable[str], n_merges: int, pattern: str = GPT2_PATTERN) -> list[Pair]:
    """The pairs that training finds in texts: the most frequent pair is merged everywhere, again and again.

    Of pairs that are equally frequent the greatest is taken, comparing bytes, as Sennrich's `learn_bpe.py`
    does; and as there it ends when no pair occurs twice, so there may be fewer than asked for. What a merge
    changes is counted anew in the words that hold the pair, and nowhere else.
    """
    frequencies = Counter(piece for text in texts for piece in split(text, pattern))
    words = [single_bytes(piece.encode()) for piece in frequencies]
    counts: Counter[Pair] = Counter()
    places: dict[Pair, set[int]] = defaultdict(set)  # the words that hold, or once held, a pair

    def count(index: int, times: int) -> None:
        for pair in itertools.pairwise(words[index]):
            counts[pair] += times
            places[pair].add(index)

    how_often = list(frequencies.values())
    for index, times in enumerate(how_often):
        count(index, times)
    merges: list[Pair] = []
    while len(merges) < n_merges and (most := max(counts.values(), default=0)) > 1:
        best = max(pair for pair, times in counts.items() if times == most)
        merges.append(best)
        for index in places.pop(best):
            count(index, -how_often[index])
            words[index] = join(words[index], best)
            count(index, how_often[index])
        del counts[best]
    return merges


# ------------------------------------------------------------------------------------------- the tokenizer

END_OF_TEXT_NAME = "<|endoftext|>"
LONG = 256  # bytes; merging one by one takes time that grows with the square of the length
LARGEST_ID = 1 << 24
REMEMBERED = 1 << 16  # pieces whose ids are kept: a text repeats its words
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


@dataclass(frozen=True)
class AddedToken:
    """A text that is one token wherever it stands, before anything is split; added after training."""

    text: str
    id: int
    special: bool = True  # it is looked for only if `encode` is told to
    lstrip: bool = False  # it takes the white space before it along
    rstrip: bool = False  # and that behind it
    normalized: bool = False  # it is looked for after the others, as `tokenizers` does

    def __post_init__(self) -> None:
        check_fields(self)
        _checked_id(self.id, LARGEST_ID)


class Tokenizer:
    """A byte-level BPE tokenizer: GPT-2's, one that was trained, or one with any other ids.

    Without arguments it is GPT-2's. With a list of merges, the first to be merged first, ids are as in GPT-2:
    the bytes, the merges, `<|endoftext|>`; `ids` gives others, and may hold tokens that no merge makes. What
    it remembers are the ids of pieces that it has met; threads may share it.
    """

    @checked_classes
    def __init__(
        self,
        merges: Sequence[Pair] | None = None,
        *,
        ids: Mapping[bytes, int] | None = None,
        added_tokens: Sequence[AddedToken] | None = None,
        end_of_text: int | None = None,
        pattern: str = GPT2_PATTERN,
        whole_pieces: bool = False,
    ) -> None:
        self.merges = gpt2_merges() if merges is None else _checked_merges(merges)
        if ids is None:
            made = [*map(bytes, zip(byte_names())), *(left + right for left, right in self.merges)]
            ids = {token: token_id for token_id, token in enumerate(made)}
            if added_tokens is None:
                added_tokens, end_of_text = [AddedToken(END_OF_TEXT_NAME, len(made))], len(made)
        self.ids, self.pattern, self.end_of_text = _checked_vocabulary(ids), pattern, end_of_text
        self.added_tokens = tuple(
            checked_items("added_tokens", added_tokens, AddedToken, "AddedToken objects")
        )
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self.whole_pieces = whole_pieces  # a piece that is a token is taken as it is, merges or not
        self._tokens = self._by_id()
        if end_of_text is not None:
            _checked_id(end_of_text, self.n_vocab)
        _check_pattern(pattern)
        self._remembered: dict[str, list[int]] = {}

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """A tokenizer with the `vocab_size` tokens that serve these texts best; the same texts give the same.

        256 of them are the bytes, the last is `<|endoftext|>`, and the others are learnt: see `learn_merges`.
        With 256 there is nothing but bytes, so `end_of_text` is None, and an empty prompt has no start. Give
        every document as a text of its own: no token reaches across. Raises `InputError` if the texts have
        too few pairs that occur twice.
        """
        texts = checked_items("texts", texts, str, "texts")
        for text in texts:
            _check_text(text)
        check_range("vocab_size", vocab_size)
        if vocab_size == 256:
            return cls([], added_tokens=[])
        merges = learn_merges(texts, vocab_size - 257)
        if len(merges) < vocab_size - 257:
            raise InputError(
                f"vocab_size is {vocab_size}, but in these texts only {len(merges)} pairs are worth a token "
                f"(they occur twice or more); give at most {len(merges) + 257}, or more text."
            )
        return cls(merges)

    @property
    def n_vocab(self) -> int:
        """How many ids there are, counted from 0."""
        return len(self._tokens)

    def __repr__(self) -> str:
        """Its size, and what that is made of."""
        added = ", ".join(token.text for token in self.added_tokens[:3])
        more = f" and {len(self.added_tokens) - 3} more" if len(self.added_tokens) > 3 else ""
        parts = f"256 bytes, {len(self.merges):,} merges{', ' if added else ''}{added}{more}"
        return f"Tokenizer({self.n_vocab:,} tokens: {parts})"

    # ---------------------------------------------------------------------------------------- text to ids

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """The token ids of a text; `decode` returns exactly this text.

        "<|endoftext|>" in it is text like any other, unless `allow_special` makes it the token of that name,
        and all special tokens with it: a text that somebody else wrote should not be able to end itself.

        Raises `InputError` for anything but text, and for lone surrogates, which are no characters.
        """
        _check_text(text)
        check_class("allow_special", allow_special, (bool,))
        ids: list[int] = []
        for stretch in self.stretches(text, allow_special):
            if isinstance(stretch, int):
                ids.append(stretch)
            else:
                for piece in split(stretch, self.pattern):
                    ids += self.piece_ids(piece)
        return ids

    def piece_ids(self, piece: str) -> list[int]:
        """The ids of a piece that `split` cut out; the tokens are `merge`'s."""
        known = self._remembered.get(piece)
        if known is not None:
            return known
        data = piece.encode()
        if self.whole_pieces and data in self.ids:
            tokens = [data]
        elif len(data) > LONG and self._fast is not None:
            tokens = [self.tokens_made[rank] for rank in self._fast.encode_ordinary(piece)]
        else:
            tokens = merge(data, self.ranks)
        try:
            ids = [self.ids[token] for token in tokens]
        except KeyError as error:
            raise InputError(f"ids: this tokenizer has none for {error}, which its merges make.") from None
        if len(self._remembered) >= REMEMBERED:
            self._remembered.clear()
        if len(data) <= LONG:
            self._remembered[piece] = ids
        return ids

    def stretches(self, text: str, allow_special: bool = False) -> list[str | int]:
        """The text cut at its added tokens, each of which is its id."""
        stretches: list[str | int] = [text]
        for normalized in (False, True):
            tokens = {
                token.text: token
                for token in self.added_tokens
                if token.normalized is normalized and (allow_special or not token.special)
            }
            if tokens:
                cut = (_cut_at(s, tokens) if isinstance(s, str) else [s] for s in stretches)
                stretches = list(itertools.chain.from_iterable(cut))
        return stretches

    # ----------------------------------------------------------------------------------- long pieces, fast

    @functools.cached_property
    def tokens_made(self) -> list[bytes]:
        """All tokens that merging makes of a text: the bytes, and the merges in their order."""
        return [*map(bytes, zip(byte_names())), *(left + right for left, right in self.merges)]

    @functools.cached_property
    def _fast(self) -> tiktoken.Encoding | None:
        """tiktoken, which merges a long piece in less time; None for merges that it could apply otherwise.

        It looks up the bytes that two neighbours have together, and `merge` the pair itself. That is the same
        if every token is made of tokens before it, and merging its bytes leads to it: then at its turn its
        bytes stand as its own pair wherever no earlier merge has crossed their ends, and as no other.
        """
        places = {token: place for place, token in enumerate(self.tokens_made)}
        if len(places) < len(self.tokens_made):
            return None  # two pairs make the same bytes
        for place, (left, right) in enumerate(self.merges, start=256):
            in_order = max(places.get(left, place), places.get(right, place)) < place
            if not in_order or merge(left + right, self.ranks) != [left + right]:
                return None
        return tiktoken.Encoding("pieces", pat_str="(?s).+", mergeable_ranks=places, special_tokens={})

    # ---------------------------------------------------------------------------------------- ids to text

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of these tokens; bytes that are not UTF-8, as of half a character, become U+FFFD.

        Raises `InputError` for anything that is not an id, like every method that takes one.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[SupportsIndex]) -> bytes:
        """The bytes of these tokens; nothing is lost, whatever the ids."""
        try:
            return b"".join(map(self.token_bytes, iter(ids)))
        except TypeError:
            raise InputError(f"ids: found {type(ids).__name__}; expected a sequence of token ids.") from None

    def token_bytes(self, token_id: SupportsIndex) -> bytes:
        """The bytes of one token; a space before a word is a part of it."""
        return self._tokens[_checked_id(token_id, self.n_vocab)]

    def token_text(self, token_id: SupportsIndex) -> str:
        """One token for showing to people; U+FFFD stands for bytes that are a part of a character only."""
        return self.decode([token_id])

    def _by_id(self) -> list[bytes]:
        added = {token.id: token.text.encode() for token in self.added_tokens}
        tokens = {token_id: token for token, token_id in self.ids.items()} | added
        return [tokens.get(token_id) or nameless(token_id) for token_id in range(max(tokens) + 1)]


def _cut_at(text: str, tokens: Mapping[str, AddedToken]) -> Iterator[str | int]:
    """The text between these tokens, and their ids; of two that begin at the same place the longer counts."""
    end = 0
    words = map(regex.escape, sorted(tokens, key=len, reverse=True))
    for match in regex.finditer("|".join(words), text):
        if match.start() < end:
            continue  # it begins in the white space that the one before took along
        token, before = tokens[match[0]], text[end : match.start()]
        yield before.rstrip(WHITE_SPACE) if token.lstrip else before
        yield token.id
        behind = text[match.end() :] if token.rstrip else ""
        end = match.end() + len(behind) - len(behind.lstrip(WHITE_SPACE))
    yield text[end:]


# ------------------------------------------------------------------------------- for any tokenizer, and ids


def nameless(token_id: int) -> bytes:
    """What is shown for an id that no token has: a model may have more rows than its tokenizer has tokens."""
    return b"<id %d>" % token_id


def bytes_of(tokenizer: AnyTokenizer, token_id: int) -> bytes:
    """The bytes of an id of the model, be there a token for it or not."""
    return tokenizer.token_bytes(token_id) if token_id < tokenizer.n_vocab else nameless(token_id)


def token_text(tokenizer: AnyTokenizer, token_id: int) -> str:
    """One id for showing to people; U+FFFD stands for bytes that are a part of a character only."""
    return bytes_of(tokenizer, token_id).decode("utf-8", errors="replace")


def encode_prompt(tokenizer: AnyTokenizer, text: str) -> list[int]:
    """The ids of a prompt; an empty one starts from `end_of_text`, which stood before every text in training.

    Raises `InputError` for an empty prompt if the tokenizer has no such id.
    """
    if ids := tokenizer.encode(text):
        return ids
    if tokenizer.end_of_text is None:
        raise InputError(
            "prompt: it is empty, and this tokenizer has no token that stands between texts, to start from; "
            "give at least one character."
        )
    return [tokenizer.end_of_text]


def text_of(tokenizer: AnyTokenizer, ids: Iterable[int]) -> str:
    """The text of the model's ids, be there tokens for all of them or not."""
    return b"".join(bytes_of(tokenizer, token_id) for token_id in ids).decode("utf-8", errors="replace")


class TextStream:
    """Turns ids into text while they arrive, and holds back a character until its last byte is there.

    Decoding token by token would show an emoji, which takes two to four tokens, as so many U+FFFD. All
    pieces together are what `text_of` makes of the same ids.
    """

    def __init__(self, tokenizer: AnyTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The characters that this token completes; may be none."""
        return self._decoder.decode(bytes_of(self._tokenizer, token_id))

    def flush(self) -> str:
        """What has stayed incomplete, as U+FFFD; the stream starts afresh."""
        return self._decoder.decode(b"", final=True)


# ----------------------------------------------------------------------------------------- what is refused


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        hint = "; decode the bytes first: data.decode('utf-8')" if isinstance(text, bytes) else ""
        raise InputError(f"text: found {type(text).__name__}, expected str{hint}.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"text: position {error.start} holds U+{ord(text[error.start]):04X}, a surrogate, which is half "
            "a character; to join halves that belong together and replace the rest: "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
        ) from None


def _checked_merges(merges: Sequence[Pair]) -> tuple[Pair, ...]:
    pairs: tuple[Pair, ...] | None
    try:
        pairs = tuple((left, right) for left, right in merges)
    except (TypeError, ValueError):  # no sequence, or no pairs
        pairs = None
    if pairs is None or not set(map(type, itertools.chain.from_iterable(pairs))) <= {bytes}:
        raise InputError(
            f"merges: found {type(merges).__name__}; expected pairs of bytes, as learn_merges gives."
        )
    return pairs


def _checked_vocabulary(ids: Mapping[bytes, int]) -> Mapping[bytes, int]:
    kinds = {*map(type, ids), *map(type, ids.values())} if isinstance(ids, Mapping) else None
    if kinds != {bytes, int} or not 0 <= min(ids.values()) <= max(ids.values()) < LARGEST_ID:
        raise InputError(f"ids: expected an id, 0 to {LARGEST_ID - 1}, for the bytes of each token.")
    return ids


def _check_pattern(pattern: str) -> None:
    try:
        regex.compile(pattern)
    except (regex.error, RecursionError) as error:
        raise InputError(
            f"pattern: {brief(pattern, repr)} is no regular expression: {brief(error)}."
        ) from None


def _checked_id(token_id: object, n_vocab: int) -> int:
    index = None
    if type(token_id).__name__ != "bool":  # Python's, or NumPy's, which its older versions take for an index
        with contextlib.suppress(TypeError):
            index = operator.index(token_id)  # type: ignore[arg-type]  # that is what is being checked
    if index is None:
        raise InputError(f"ids: found {type(token_id).__name__} {brief(token_id)}; token ids are integers.")
    if not 0 <= index < n_vocab:  # Python would take a negative index from the end
        raise InputError(f"ids: {brief(index)} is not a token id; this tokenizer's are 0 to {n_vocab - 1}.")
    return index
