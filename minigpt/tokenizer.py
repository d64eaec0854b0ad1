"""Text to token ids and back: GPT-2's byte-level byte pair encoding (BPE).

    "I love"  ─ split ─  "I"  " love"  ─ bytes ─  [49]  [20 6c 6f 76 65]  ─ merge ─  40  1842

1. *Split.* A pattern cuts the text into words, numbers, punctuation and white space. A space goes with
   the word after it, so that a word is one token wherever it stands in a sentence, and spaces cost
   nothing; " love" (1842) and "love" (23205) are different tokens. No merge reaches across a cut.
2. *Bytes.* Each piece becomes its UTF-8 bytes. Every byte is a token, so there is no unknown text: a
   rare word or an emoji only takes more tokens, some of which hold just a part of a character.
3. *Merge.* `data/vocab.bpe` lists 50,000 pairs in the order in which training found them, the most
   frequent first. Of all neighbours in the piece, those whose pair comes first in the list become one
   token, again and again, until no two neighbours are a pair.

A token's id is its place in the vocabulary: 256 bytes, 50,000 merges, and last `<|endoftext|>` (50256),
which no text produces; in training it stood between documents.

The splitting and merging are done by tiktoken, with nothing but the list that ships here.

References: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; Radford
et al. 2019, section 2.2; `src/encoder.py` of openai/gpt-2.
"""

import codecs
import contextlib
import functools
import operator
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, SupportsIndex

from .errors import InputError

if TYPE_CHECKING:
    import tiktoken

N_VOCAB = 50257
END_OF_TEXT = 50256

# The pattern of `src/encoder.py`,
#     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
# as tiktoken writes it to be faster: `++` never gives back what it has matched. `\s+(?!\S)` leaves the
# last of several spaces to the word after it.
SPLIT_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


@functools.cache
def vocabulary() -> Mapping[str, bytes]:
    """The bytes of every token, in the order of the ids, under the name that GPT-2's files give it.

    In those files a space or a line break separates, so a token that contains one needs another way to
    write it. Bytes that print stand for themselves; the other 68 borrow the characters from U+0100 on.
    The space becomes Ġ and the newline Ċ, which is why " love" is often shown as "Ġlove".
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    names = [*map(chr, printable), *(chr(0x100 + n) for n in range(len(others)))]
    tokens = {name: bytes([byte]) for name, byte in zip(names, printable + others, strict=True)}

    merges = (Path(__file__).parent / "data" / "vocab.bpe").read_text(encoding="utf-8")
    for merge in merges.splitlines()[1:]:  # the first line is a version number
        left, right = merge.split(" ")
        tokens[left + right] = tokens[left] + tokens[right]

    tokens["<|endoftext|>"] = b"<|endoftext|>"
    return MappingProxyType(tokens)


@functools.cache
def _encoding() -> "tiktoken.Encoding":
    import tiktoken

    ranks = {token: rank for rank, token in enumerate(_token_bytes()[:END_OF_TEXT])}
    special = {"<|endoftext|>": END_OF_TEXT}
    return tiktoken.Encoding(
        "gpt2", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens=special, explicit_n_vocab=N_VOCAB
    )


@functools.cache
def _token_bytes() -> tuple[bytes, ...]:
    return tuple(vocabulary().values())


class Tokenizer:
    """GPT-2's tokenizer: `encode` and `decode`. It keeps no state, so threads may share it."""

    n_vocab = N_VOCAB
    end_of_text = END_OF_TEXT

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """The token ids of a text; `decode` returns exactly this text.

        "<|endoftext|>" in it is text like any other, unless `allow_special` makes it the token 50256:
        a text that somebody else wrote should not be able to end itself.

        Raises `InputError` for anything but text, and for lone surrogates, which are no characters.
        """
        _check_text(text)
        special = {"<|endoftext|>"} if allow_special else set()
        try:
            return _encoding().encode(text, allowed_special=special, disallowed_special=())
        except ValueError:  # the backtracking of `\s+(?!\S)` has used up the stack of tiktoken's regex engine
            raise InputError(
                "text: about a million white space characters in a row are more than the tokenizer can "
                "split; shorten the run."
            ) from None

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of these tokens; bytes that are not UTF-8, as of half a character, become U+FFFD.

        Raises `InputError` for anything that is not an id, like every method that takes one.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[SupportsIndex]) -> bytes:
        """The bytes of these tokens; nothing is lost, whatever the ids."""
        if not isinstance(ids, Iterable):
            raise InputError(f"ids: found {type(ids).__name__}; expected a sequence of token ids.")
        return b"".join(map(self.token_bytes, ids))

    def token_bytes(self, token_id: SupportsIndex) -> bytes:
        """The bytes of one token; a space before a word is a part of it."""
        return _token_bytes()[_checked_id(token_id)]

    def token_text(self, token_id: SupportsIndex) -> str:
        """One token for showing to people; U+FFFD stands for bytes that are a part of a character only."""
        return self.decode([token_id])

    def stream(self) -> "TextStream":
        """A decoder for ids that arrive one by one."""
        return TextStream(self)


class TextStream:
    """Turns ids into text while they arrive, and holds back a character until its last byte is there.

    Decoding token by token would show an emoji, which takes two to four tokens, as so many U+FFFD. All
    pieces together are what `Tokenizer.decode` makes of the same ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: SupportsIndex) -> str:
        """The characters that this token completes; may be none."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def flush(self) -> str:
        """What has stayed incomplete, as U+FFFD; the stream starts afresh."""
        return self._decoder.decode(b"", final=True)


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        hint = "; decode the bytes first: data.decode('utf-8')" if isinstance(text, bytes) else ""
        raise InputError(f"text: found {type(text).__name__}, expected str{hint}.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # tiktoken would replace it, and the text would not come back
        raise InputError(
            f"text: position {error.start} holds U+{ord(text[error.start]):04X}, a surrogate, which is half "
            "a character; to join halves that belong together and replace the rest: "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
        ) from None


def _checked_id(token_id: object) -> int:
    index = None
    if type(token_id).__name__ != "bool":  # Python's, or NumPy's, which its older versions take for an index
        with contextlib.suppress(TypeError):
            index = operator.index(token_id)  # type: ignore[arg-type]  # that is what is being checked
    if index is None:
        raise InputError(f"ids: found {type(token_id).__name__} {token_id}; token ids are integers.")
    if not 0 <= index < N_VOCAB:  # Python would take a negative index from the end
        raise InputError(f"ids: {index} is not a token id; GPT-2's are 0 to {N_VOCAB - 1}.")
    return index
