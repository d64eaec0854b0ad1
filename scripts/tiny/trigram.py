"""The bar for weights/tiny: an interpolated modified Kneser-Ney trigram on the same tokens.

    python -m scripts.tiny.trigram --books FOLDER

A trigram guesses the next token from the two before it, by counting. Kneser-Ney is the best way known
to count (Chen & Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling"):
take a little off every count and give it to the bigram's guess, which does the same with the
unigram's, down to the uniform distribution. A neural model that cannot beat it has learned nothing
that counting would not find.
"""

import argparse
import math
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from scripts.tiny.books import END_OF_TEXT, HELD_OUT, VOCAB_SIZE, read_books


def discounts(counts: np.ndarray) -> np.ndarray:
    """What to take off an n-gram seen 0, 1, 2, and 3 or more times: (4,), Chen & Goodman's formula.

    counts: (ngrams,), how often each n-gram was seen. Where a toy corpus has no n-gram of some count
    up to 4, the formula divides by zero, and the plain discount n1 / (n1 + 2 n2) takes its place.
    """
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    plain = n1 / (n1 + 2 * n2) if n1 else 0.0
    if not (n1 and n2 and n3 and n4):
        return np.array([0.0, plain, plain, plain])
    exact = [1 - 2 * plain * n2 / n1, 2 - 3 * plain * n3 / n2, 3 - 4 * plain * n4 / n3]
    return np.array([0.0, *np.clip(exact, 0.0, [1.0, 2.0, 3.0])])


class Order:
    """The n-grams of one length, as numbers: context * vocab_size + token, sorted.

    `guess` returns two parts of a probability: `share`, what the counts say after the discount, and
    `rest`, the weight left for the next shorter order. An unseen context leaves all of it.
    """

    def __init__(self, ngrams: np.ndarray, counts: np.ndarray, vocab_size: int) -> None:
        self.discounts = discounts(counts)
        taken = self.discounts[np.minimum(counts, 3)]
        self.vocab_size = vocab_size
        self.contexts, first = np.unique(ngrams // vocab_size, return_index=True)
        totals = np.add.reduceat(counts, first)
        sizes = np.diff(np.append(first, len(ngrams)))
        self.ngrams = ngrams
        self.shares = (counts - taken) / np.repeat(totals, sizes)
        self.rests = np.add.reduceat(taken, first) / totals

    def guess(self, contexts: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """contexts (n,) and tokens (n,) -> share (n,), rest (n,)."""
        ngrams = contexts * self.vocab_size + tokens
        share = _look_up(self.ngrams, self.shares, ngrams, missing=0.0)
        rest = _look_up(self.contexts, self.rests, contexts, missing=1.0)
        return share, rest


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray, missing: float) -> np.ndarray:
    index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[index] == wanted, values[index], missing)


class Trigram:
    """Interpolated modified Kneser-Ney over a fixed vocabulary."""

    def __init__(self, books: Iterable[np.ndarray], vocab_size: int, start: int) -> None:
        """books: ids of each book without a start token; start: the token assumed before each."""
        self.vocab_size = vocab_size
        self.start = start
        codes = np.concatenate([self._codes(ids) for ids in books])
        trigrams, seen = np.unique(codes, return_counts=True)
        # A shorter n-gram counts the *different* tokens seen before it, not how often it was seen:
        # "Francisco" is frequent, but it follows little else than "San".
        bigrams, before = np.unique(trigrams % vocab_size**2, return_counts=True)
        unigrams, before_unigram = np.unique(bigrams % vocab_size, return_counts=True)
        self.orders = [
            Order(unigrams, before_unigram, vocab_size),
            Order(bigrams, before, vocab_size),
            Order(trigrams, seen, vocab_size),
        ]

    def probabilities(self, first: np.ndarray, second: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The probability of each token after the two before it; all four arrays are (n,)."""
        contexts = (np.zeros_like(second), second, first * self.vocab_size + second)
        probability = np.full(len(tokens), 1 / self.vocab_size)
        for order, context in zip(self.orders, contexts, strict=True):
            share, rest = order.guess(context, tokens)
            probability = share + rest * probability
        return probability

    def nats(self, ids: np.ndarray) -> float:
        """The negative log-likelihood of a book's ids (tokens,), summed."""
        padded = np.concatenate([[self.start, self.start], ids])
        return float(-np.log(self.probabilities(padded[:-2], padded[1:-1], padded[2:])).sum())

    def _codes(self, ids: np.ndarray) -> np.ndarray:
        padded = np.concatenate([[self.start, self.start], ids])
        codes: np.ndarray = (padded[:-2] * self.vocab_size + padded[1:-1]) * self.vocab_size + padded[2:]
        return codes


def main(arguments: list[str] | None = None) -> None:
    """Count the training books, check that probabilities sum to one, measure the held-out books."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--books", type=Path, required=True, help="folder of .txt books")
    parser.add_argument("--held-out", nargs="+", default=HELD_OUT, metavar="NAME")
    options = parser.parse_args(arguments)

    started = time.monotonic()
    training, held_out = read_books(options.books, options.held_out)
    trigram = Trigram((book.ids[1:] for book in training), VOCAB_SIZE, END_OF_TEXT)
    print(f"counted {sum(len(book.ids) for book in training):,} tokens")
    for order, name in zip(trigram.orders, ("unigrams", "bigrams", "trigrams"), strict=True):
        print(f"  {len(order.ngrams):>10,} {name}, discounts {order.discounts[1:].round(4)}")

    ids = held_out[0].ids
    for position in (10, 100, 1000):
        first, second = (np.full(VOCAB_SIZE, id_) for id_ in ids[position : position + 2])
        total = trigram.probabilities(first, second, np.arange(VOCAB_SIZE)).sum()
        print(f"  probabilities after tokens {ids[position : position + 2]} sum to {total:.9f}")

    nats = n_tokens = n_bytes = 0.0
    for book in held_out:
        book_nats = trigram.nats(book.ids[1:])
        bits_per_byte = book_nats / math.log(2) / book.n_bytes
        print(
            f"  {book.name}: {book_nats / (len(book.ids) - 1):.4f} nats/token, {bits_per_byte:.4f} bits/byte"
        )
        nats, n_tokens, n_bytes = nats + book_nats, n_tokens + len(book.ids) - 1, n_bytes + book.n_bytes
    loss = nats / n_tokens
    print(
        f"held-out: {n_tokens:,.0f} tokens, {n_bytes:,.0f} bytes, {loss:.4f} nats/token, perplexity "
        f"{math.exp(loss):.1f}, {nats / math.log(2) / n_bytes:.4f} bits/byte "
        f"({time.monotonic() - started:.0f} s)"
    )


if __name__ == "__main__":
    main()
