"""From books to batches: a compact numbering of the tokens, and windows that open where prompts do."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from minigpt.tokenizer import Tokenizer
from scripts.tiny.books import VOCAB_SIZE, Book

Ids = Int[np.ndarray, " n"]


class Vocabulary:
    """A compact numbering of the tokens that occur in the books, the most frequent first.

    Some 15,000 of GPT-2's 50,257 tokens (code, other scripts, modern names) never occur in them.
    Leaving those out of the softmax saves a third of its work.
    """

    def __init__(self, books: Sequence[Book]) -> None:
        counts = sum(np.bincount(book.ids, minlength=VOCAB_SIZE) for book in books)
        by_frequency = np.argsort(-counts, kind="stable")
        self.token_ids = by_frequency[: np.count_nonzero(counts)]  # compact id -> GPT-2 id
        self._compact_ids = np.full(VOCAB_SIZE, -1)
        self._compact_ids[self.token_ids] = np.arange(len(self.token_ids))

    def __len__(self) -> int:
        return len(self.token_ids)

    def compact(self, ids: np.ndarray) -> np.ndarray:
        """GPT-2 ids -> compact ids."""
        compact: np.ndarray = self._compact_ids[ids]
        return compact


def opening_positions(ids: Ids) -> Ids:
    """Positions where a paragraph or a speech opens: the places at which a prompt would start.

    They are the word-like tokens without a leading space after a line break or a quotation mark.
    """
    tokenizer = Tokenizer()
    texts = [tokenizer.decode([token_id]) for token_id in range(VOCAB_SIZE)]
    breaks = np.array([text.endswith(("\n", '"')) for text in texts])
    words = np.array([text[:1].isupper() for text in texts])
    return np.flatnonzero(breaks[ids[:-1]] & words[ids[1:]]) + 1


class Windows:
    """Training windows as a pure function of the step, so that a resumed run sees what it would have.

    Each epoch cuts the stream of ids into consecutive windows at a new offset and shuffles them. Half
    of them then slide back to the nearest opening (see `opening_positions`): without that, position 0
    would almost always be the middle of a sentence, and the model would be lost on a bare prompt.
    """

    def __init__(self, ids: Ids, openings: Ids, batch: int, length: int, seed: int) -> None:
        self.ids, self.openings = ids, np.concatenate([[0], openings])
        self.batch, self.length, self.seed = batch, length, seed
        self.steps_per_epoch = (len(ids) - 2 * length) // (length * batch)
        if self.steps_per_epoch < 1:
            raise SystemExit(f"the books hold {len(ids)} tokens: too few for one batch")
        self._epoch = (-1, np.empty(0, dtype=np.int64))

    def at(self, step: int) -> tuple[Int[np.ndarray, "batch tokens"], Int[np.ndarray, "batch tokens"]]:
        """The inputs and the targets of a step."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.starts(epoch))
        starts = self._epoch[1][number * self.batch :][: self.batch]
        windows = self.ids[starts[:, None] + np.arange(self.length + 1)]
        return windows[:, :-1], windows[:, 1:]

    def starts(self, epoch: int) -> Ids:
        """Where the windows of an epoch begin, in the order in which they come."""
        random = np.random.default_rng((self.seed, epoch))
        count = self.steps_per_epoch * self.batch
        starts = random.integers(self.length) + self.length * np.arange(count)
        slid = self.openings[np.searchsorted(self.openings, starts, side="right") - 1]
        starts = np.where(random.random(count) < 0.5, slid, starts)
        return random.permutation(starts)
