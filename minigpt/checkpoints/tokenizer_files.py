"""Tells whether the tokenizer files beside a checkpoint are GPT-2's.

Token ids mean nothing by themselves: a checkpoint trained with other tokens would be fed wrong ids and
answer fluent nonsense. What counts is the content, since `transformers` writes the same tokenizer in
several ways.
"""

import json
from collections.abc import Callable
from pathlib import Path

from ..tokenizer import vocabulary
from .reading import present, read_bytes

LONGEST = 6 << 20  # bytes; GPT-2's tokenizer.json has 1.4 MB, or 3.6 MB as transformers 5 indents it
# Files of other kinds of tokenizers: WordPiece, SentencePiece, tiktoken.
FOREIGN_FILES = ("vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "tiktoken.model")


def _same_merges(text: str) -> bool:
    """Whether a `merges.txt` is GPT-2's; the line with its version may be missing."""
    return _merges(text) == _merges(
        (Path(__file__).parents[1] / "data" / "vocab.bpe").read_text(encoding="utf-8")
    )


def _merges(text: str) -> list[str]:
    lines = text.replace("\r\n", "\n").split("\n")  # splitlines() would also cut at characters in the merges
    return [line for line in lines if line and not line.startswith("#version")]


def _same_vocab(text: str) -> bool:
    """Whether a `vocab.json` gives every token GPT-2's id."""
    return bool(json.loads(text) == _gpt2_vocab())


def _gpt2_vocab() -> dict[str, int]:
    return {name: token_id for token_id, name in enumerate(vocabulary())}


def _same_tokenizer(text: str) -> bool:
    """Whether a `tokenizer.json` of the tokenizers library gives the ids of GPT-2's."""
    tokenizer = json.loads(text)
    model, splitter = tokenizer["model"], tokenizer["pre_tokenizer"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return bool(
        model["vocab"] == _gpt2_vocab()
        and _same_merges("\n".join(merges))
        and tokenizer.get("normalizer") is None
        and (splitter["type"], splitter.get("add_prefix_space")) == ("ByteLevel", False)
        and splitter.get("use_regex", True) is True
        and all(added["content"] == "<|endoftext|>" for added in tokenizer.get("added_tokens", []))
    )


TOKENIZER_FILES: dict[str, Callable[[str], bool]] = {
    "merges.txt": _same_merges,
    "vocab.json": _same_vocab,
    "tokenizer.json": _same_tokenizer,
}


def other_tokenizer(folder: Path) -> str | None:
    """The name of a tokenizer file in a folder that is not GPT-2's; None if all are, or there is none."""
    for name, is_same in TOKENIZER_FILES.items():
        if present(folder / name):
            content = read_bytes(folder / name, LONGEST)
            try:
                same = is_same(content.decode("utf-8"))
            except (
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
                RecursionError,
            ):  # made otherwise, or broken
                same = False
            if not same:
                return name
    return next((name for name in FOREIGN_FILES if present(folder / name)), None)
