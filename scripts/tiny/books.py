"""Plain-text books as token ids: what the training script, the trigram and the evaluation share.

A folder of books holds one UTF-8 `.txt` file per book. Some books are *held out*: the model never
sees a word of them, and every figure in `weights/tiny/README.md` is measured on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minigpt.tokenizer import Tokenizer

END_OF_TEXT = 50256
VOCAB_SIZE = 50257

# One book per genre (romance, children's, fantasy, rags-to-riches, literary, adventure), none of
# which has a second edition or translation among the training books.
HELD_OUT = (
    "033_kilmeny_of_the_orchard",
    "061_wet_magic",
    "077_the_sea_fairies",
    "240_phil_the_fiddler",
    "267_the_prisoner_of_zenda",
    "271_o_pioneers",
)


@dataclass(frozen=True)
class Book:
    """One book: its file name without `.txt`, its ids (`<|endoftext|>` first) and its size in bytes."""

    name: str
    ids: np.ndarray
    n_bytes: int


def read_books(folder: Path, held_out: Sequence[str]) -> tuple[list[Book], list[Book]]:
    """Return the training books and the held-out books of a folder, each in order of file name."""
    paths = sorted(folder.glob("*.txt"))
    missing = set(held_out) - {path.stem for path in paths}
    if missing or len(paths) <= len(held_out):
        raise SystemExit(
            f"{folder} holds {len(paths)} .txt files; needed are the held-out books "
            f"(missing: {', '.join(sorted(missing)) or 'none'}) and at least one other. "
            "Name other held-out books with --held-out."
        )
    tokenizer = Tokenizer()
    books = [_read_book(path, tokenizer) for path in paths]
    training = [book for book in books if book.name not in held_out]
    return training, [book for book in books if book.name in held_out]


def _read_book(path: Path, tokenizer: Tokenizer) -> Book:
    text = path.read_text(encoding="utf-8")
    ids = np.array([END_OF_TEXT, *tokenizer.encode(text)], dtype=np.int64)
    return Book(path.stem, ids, len(text.encode("utf-8")))
