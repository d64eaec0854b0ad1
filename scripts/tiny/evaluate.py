"""Measure a small model on whole books it has never seen, with transformers as the judge.

    python -m scripts.tiny.evaluate --model weights/tiny --books FOLDER

Every token is scored once, by the softmax over all 50,257 tokens in float32, with at least half a
window of context before it (less only at the start of a book): the window slides by half its length.
The figures compare with those of scripts/tiny/trigram.py, on the same books and the same tokens.
"""

import argparse
import math
from pathlib import Path

import numpy as np

from scripts.tiny.books import HELD_OUT, read_books

try:
    import torch
    from transformers import GPT2LMHeadModel
except ImportError as error:
    raise SystemExit(f"python -m scripts.tiny.evaluate needs torch and transformers: {error}") from None


def sliding_windows(n_tokens: int, length: int) -> list[tuple[int, int, int]]:
    """(start, end, first scored) of each window, so that each target 1 … n_tokens - 1 is scored once.

    A window reads ids[start:end] and scores the targets ids[first:end + 1].
    """
    windows = [(0, min(length, n_tokens - 1), 1)]
    while (end := windows[-1][1]) < n_tokens - 1:
        next_end = min(end + length // 2, n_tokens - 1)
        windows.append((max(0, next_end - length), next_end, end + 1))
    return windows


@torch.inference_mode()
def book_log_probabilities(model: GPT2LMHeadModel, ids: np.ndarray) -> np.ndarray:
    """The log-probability of each id after the first: (tokens - 1,), in nats."""
    tokens = torch.from_numpy(ids)
    pieces = []
    for start, end, first in sliding_windows(len(ids), model.config.n_positions):
        scored = end + 1 - first
        logits = model(tokens[None, start:end], logits_to_keep=scored).logits[0]
        targets = tokens[first : end + 1]
        pieces.append(-torch.nn.functional.cross_entropy(logits, targets, reduction="none"))
    return torch.cat(pieces).numpy()


def main(arguments: list[str] | None = None) -> None:
    """Print the figures of each held-out book and of all of them together."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True, help="folder of the exported model")
    parser.add_argument("--books", type=Path, required=True, help="folder of .txt books")
    parser.add_argument("--held-out", nargs="+", default=HELD_OUT, metavar="NAME")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)

    torch.set_num_threads(options.threads)
    model = GPT2LMHeadModel.from_pretrained(options.model, dtype=torch.float32)
    _, held_out = read_books(options.books, options.held_out)
    nats, n_tokens, n_bytes = 0.0, 0, 0
    for book in held_out:
        book_nats = -float(book_log_probabilities(model, book.ids).sum(dtype=np.float64))
        report(book.name, book_nats, len(book.ids) - 1, book.n_bytes)
        nats, n_tokens, n_bytes = nats + book_nats, n_tokens + len(book.ids) - 1, n_bytes + book.n_bytes
    report("held-out", nats, n_tokens, n_bytes)


def report(name: str, nats: float, n_tokens: int, n_bytes: int) -> None:
    """Print one line: the loss per token, its perplexity, and bits per byte of text."""
    loss = nats / n_tokens
    print(
        f"{name}: {n_tokens:,} tokens, {n_bytes:,} bytes, {loss:.4f} nats/token, "
        f"perplexity {math.exp(loss):.1f}, {nats / math.log(2) / n_bytes:.4f} bits/byte",
        flush=True,
    )


if __name__ == "__main__":
    main()
