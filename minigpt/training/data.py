"""From files of text to batches: read, keep a part for testing, turn into ids, cut windows at random."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from ..checkpoints.reading import is_folder
from ..checks import checked_items
from ..errors import InputError
from ..files import LONGEST_TEXT, read_file
from ..ranges import check_range
from ..tokenizer import Tokenizer

SHORT_TEXT = 100_000  # bytes: less than this a model of a million parameters soon knows by heart


@dataclass(frozen=True)
class Corpus:
    """Texts to learn from, and texts that are held out to test what was learnt."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]
    source: dict[str, Any] | None = None  # what `read_corpus` was asked for, so that it can be asked again

    def __post_init__(self) -> None:
        for name in ("training", "held_out"):
            texts = checked_items(name, getattr(self, name), str, "texts")
            object.__setattr__(self, name, tuple(texts))  # a text by itself would be so many of one letter

    @property
    def training_bytes(self) -> int:
        """The length of what is learnt from, in UTF-8."""
        return sum(len(text.encode()) for text in self.training)


def read_corpus(
    paths: Sequence[str | Path], held_out: Sequence[str | Path] = (), share: float = 0.1
) -> Corpus:
    """The texts of files, and of the `.txt` files in folders.

    Held out are the files of `held_out`, or without them the last `share` of every text.
    Raises `InputError` for what is missing, empty, or not UTF-8.
    """
    check_range("share", share)
    paths = checked_items("paths", paths, str | Path, "paths of files or folders")
    held_out = checked_items("held_out", held_out, str | Path, "paths of files or folders")
    source = {"paths": absolute(paths), "held_out": absolute(held_out), "share": float(share)}
    texts = read_texts(paths)
    corpus = Corpus(texts, read_texts(held_out)) if held_out else split_tails(texts, share)
    return replace(corpus, source=source)


def absolute(paths: Sequence[str | Path]) -> list[str]:
    """Paths that mean the same from every folder."""
    return [str(Path(path).absolute()) for path in paths]


def read_texts(paths: Sequence[str | Path]) -> tuple[str, ...]:
    """The texts of files and folders, in their order."""
    return tuple(read_text(file) for path in paths for file in text_files(Path(path)))


def split_tails(texts: Iterable[str], share: float = 0.1) -> Corpus:
    """The last `share` of every text is held out: a text's end is as good as its middle, and never learnt."""
    check_range("share", share)
    texts = checked_items("texts", texts, str, "texts")
    cuts = [(text, math.floor(len(text) * (1.0 - share))) for text in texts]
    return Corpus(tuple(text[:cut] for text, cut in cuts), tuple(text[cut:] for text, cut in cuts))


def text_files(path: Path) -> list[Path]:
    """The file itself, or the `.txt` files of a folder and the folders in it, in the order of their names."""
    if not is_folder(path):
        return [path]
    if found := sorted(file for file in path.rglob("*.txt") if file.is_file()):  # a pipe would wait
        return found
    raise InputError(
        f"{path}: no file in this folder is called *.txt; give files, or a folder of text files."
    )


def read_text(file: Path) -> str:
    """A file's text, without a byte-order mark and with plain line ends: these are about the file."""
    try:
        text = read_file(file, LONGEST_TEXT).decode("utf-8")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; give a text file, or a folder of .txt files.") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise InputError(
            f"{file}: byte {error.start:,} is 0x{byte:02x}, and not UTF-8; save the text as UTF-8."
        ) from None
    if not text.strip():
        raise InputError(f"{file}: there is no text in it; leave it out.")
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


@dataclass(frozen=True)
class Tokens:
    """A corpus as ids."""

    training: Int[np.ndarray, " n_training"]
    held_out: Int[np.ndarray, " n_held_out"]
    held_out_bytes: int  # of all held-out tokens but the first, which nothing predicts

    @property
    def fingerprint(self) -> str:
        """Tells whether two runs learn from the same tokens."""
        return hashlib.sha256(self.training.tobytes() + b"|" + self.held_out.tobytes()).hexdigest()


def tokenize(corpus: Corpus, tokenizer: Tokenizer, window: int) -> Tokens:
    """The ids of a corpus, with <|endoftext|> between texts where the vocabulary has it.

    Raises `InputError` for too little text.
    """
    training, held_out = (joined_ids(texts, tokenizer) for texts in (corpus.training, corpus.held_out))
    if len(training) <= window:
        raise InputError(
            f"text: it has {len(training)} tokens to learn from; a window of {window} needs at "
            f"least {window + 1}. Give more text, or a model of a shorter context."
        )
    if len(held_out) < 2:
        raise InputError("text: the part that is held out has no two tokens; give more text.")
    n_bytes = sum(len(tokenizer.token_bytes(int(token_id))) for token_id in held_out[1:])
    return Tokens(training, held_out, n_bytes)


def joined_ids(texts: Sequence[str], tokenizer: Tokenizer) -> Int[np.ndarray, " n"]:
    """Text after text, as ids."""
    between = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    parts = [np.array([*tokenizer.encode(text), *between], np.int32) for text in texts]
    joined = np.concatenate(parts) if parts else np.empty(0, np.int32)
    return joined[: len(joined) - len(between)]


def random_windows(
    ids: Int[np.ndarray, " n"], count: int, length: int, seed: tuple[int, ...]
) -> tuple[Int[np.ndarray, "count length"], Int[np.ndarray, "count length"]]:
    """Ids and the ids that follow them, from places drawn anew for each seed, which is that of a step."""
    starts = np.random.default_rng(seed).integers(len(ids) - length, size=count)
    windows = ids[starts[:, None] + np.arange(length + 1)].astype(np.int64)
    return windows[:, :-1], windows[:, 1:]


def bigram_bits_per_byte(training: Sequence[str], held_out: Sequence[str]) -> float:
    """What counting pairs of bytes gives: a model that sees one byte of context, to compare with.

    A pair that never occurred counts as one that occurred once, or a new pair would cost infinitely much.
    """
    counts = np.ones((256, 256))
    for text in training:
        codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
        counts += np.bincount(codes[:-1] * 256 + codes[1:], minlength=65536).reshape(256, 256)
    bits = np.log2(counts.sum(axis=1, keepdims=True)) - np.log2(counts)
    pairs = [np.frombuffer(text.encode(), np.uint8) for text in held_out]
    return float(np.concatenate([bits[codes[:-1], codes[1:]] for codes in pairs]).mean())
