"""How well a model knows a text that it has not learnt from."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from ..model import GPT2
from ..parallel import Threads
from ..tape import target_logprobs

# Ids, and what follows each. Windows differ in their shapes, which an underscore allows.
Window = tuple[Int[np.ndarray, "_rows _tokens"], Int[np.ndarray, "_rows _tokens"]]
TOKENS = 4096  # that run through the model together


def windows_of(ids: Int[np.ndarray, " n"], length: int) -> list[Window]:
    """All ids in windows, some rows at a time: every id but the first is once a target."""
    full = (len(ids) - 1) // length
    inputs, targets = (ids[shift : shift + full * length].reshape(full, length) for shift in (0, 1))
    step = max(1, TOKENS // length)
    windows = [(inputs[row : row + step], targets[row : row + step]) for row in range(0, full, step)]
    rest = ids[full * length :]
    return windows + ([(rest[None, :-1], rest[None, 1:])] if len(rest) > 1 else [])


def mean_loss(model: GPT2, windows: Sequence[Window], threads: Threads) -> float:
    """The mean of −log p of every target, in nats."""

    def total(window: Window) -> float:
        last: dict[str, np.ndarray] = {}
        ids, targets = (part.astype(np.int64) for part in window)
        # The vectors alone: their logits would be larger than all the rest, and come by blocks.
        model(
            ids,
            hook=lambda name, array: last.setdefault(name, array) if name == "ln_f" else array,
            logits_to_keep=1,
        )
        logprobs = target_logprobs(last["ln_f"], model.parameters.lm_head, targets)
        return -float(logprobs.sum(dtype=np.float64))

    with np.errstate(all="ignore"):
        return sum(threads.map(total, windows)) / sum(targets.size for _, targets in windows)


def bits_per_byte(loss: float, n_tokens: int, n_bytes: int) -> float:
    """Nats for each token as bits for each byte of text: what models with other tokens can be compared by."""
    return loss / math.log(2.0) * n_tokens / n_bytes
