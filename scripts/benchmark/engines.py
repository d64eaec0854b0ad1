"""The programs that the benchmark compares: each answers the same requests in a process of its own.

    python -m scripts.benchmark.engines ENGINE FOLDER

reads one JSON request a line, such as {"task": "decode", "context": 10, "tokens": 64}, and answers with the
seconds it took. A process that runs nothing else is what a user has; one engine's threads, caches and
allocator cannot help or harm another's.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.checkpoints.load import load_model
from minigpt.scoring import checked_stride, token_logprobs, windows


def timed(function: Callable[[], Any]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def some_ids(tokens: int, batch: int | None = None) -> np.ndarray:
    """The same ids for every engine."""
    shape = (tokens,) if batch is None else (batch, tokens)
    return np.random.default_rng(0).integers(0, 50257, shape)


class Minigpt:
    """minigpt, as a user calls it."""

    def __init__(self, folder: Path) -> None:
        self.model = load_model(folder)

    def forward(self, tokens: int, last_only: bool) -> float:
        """One call without a cache: all logits, or those of the last token."""
        return timed(lambda: self.model(some_ids(tokens), logits_to_keep=int(last_only)))

    def decode(self, context: int, tokens: int, batch: int | None = None) -> float:
        """Greedy steps after a prompt of `context` tokens, which is not timed."""
        cache = self.model.new_cache(batch)
        logits = self.model(some_ids(context, batch), cache=cache, logits_to_keep=1)

        def steps() -> None:
            newest = logits
            for _ in range(tokens):
                newest = self.model(newest.argmax(axis=-1), cache=cache)

        return timed(steps)

    def score(self, tokens: int) -> float:
        """The log-probability of every token of a text, in overlapping windows."""
        return timed(lambda: token_logprobs(self.model, some_ids(tokens)))


class Naive:
    """What most NumPy versions do: the plain formulas, on the whole text again for every token."""

    def __init__(self, folder: Path) -> None:
        self.model = load_model(folder)

    def decode(self, context: int, tokens: int) -> float:
        """Greedy steps, each a forward pass over everything so far."""
        ids = some_ids(context).tolist()

        def steps() -> None:
            for _ in range(tokens):
                logits = self.model(ids, hook=lambda _name, array: array)  # with a hook the plain path runs
                ids.append(int(logits[-1].argmax()))

        return timed(steps)


class MatrixVector:
    """The limit of decoding in NumPy: nothing but the products of one vector with every weight."""

    def __init__(self, folder: Path) -> None:
        self.parameters = load_model(folder).parameters

    def decode(self, context: int, tokens: int) -> float:  # noqa: ARG002
        """The products of `tokens` steps; they do not depend on the context."""
        p = self.parameters.h[0].mlp
        x, hidden = (np.ones((1, len(linear.weight)), np.float32) for linear in (p.c_fc, p.c_proj))

        def step() -> None:
            for h in self.parameters.h:
                _ = x @ h.attn.c_attn.weight, x @ h.attn.c_proj.weight
                _ = x @ h.mlp.c_fc.weight, hidden @ h.mlp.c_proj.weight
            _ = x @ self.parameters.lm_head.T

        def steps() -> None:
            for _ in range(tokens):
                step()

        return timed(steps)


class Machine:
    """What the machine can do at most."""

    def __init__(self, _folder: Path) -> None:
        self.numbers = np.ones(100_000_000, np.float32)
        self.square = np.ones((2048, 2048), np.float32)

    def bandwidth(self) -> float:
        """Seconds to read 400 MB once, with BLAS and all its threads."""
        rows = self.numbers.reshape(-1, 1000)
        return timed(lambda: rows @ rows[0])

    def multiply(self) -> float:
        """Seconds of one 2048 x 2048 matrix product, 17.2 GFLOP."""
        return timed(lambda: self.square @ self.square)


class TransformersLoop:
    """`transformers` on torch, called step by step with its cache: the bare loop, without `generate`."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import GPT2LMHeadModel

        torch.set_grad_enabled(False)
        self.torch = torch
        self.model = GPT2LMHeadModel.from_pretrained(folder).eval()

    def ids(self, tokens: int, batch: int | None = None) -> Any:
        """As a tensor with a batch axis."""
        return self.torch.tensor(np.atleast_2d(some_ids(tokens, batch)))

    def forward(self, tokens: int, last_only: bool) -> float:
        """One call without a cache."""
        ids = self.ids(tokens)
        return timed(lambda: self.model(ids, use_cache=False, logits_to_keep=int(last_only)))

    def decode(self, context: int, tokens: int, batch: int | None = None) -> float:
        """Greedy steps after a prompt, which is not timed."""
        output = self.model(self.ids(context, batch), use_cache=True, logits_to_keep=1)

        def steps() -> None:
            newest = output
            for _ in range(tokens):
                ids = newest.logits[:, -1:].argmax(dim=-1)
                newest = self.model(ids, past_key_values=newest.past_key_values, use_cache=True)

        return timed(steps)

    def score(self, tokens: int) -> float:
        """The same windows as minigpt's, and only the logits that are needed."""
        ids, context = self.ids(tokens), self.model.config.n_positions

        def score() -> None:
            for begin, first, end in windows(tokens, context, checked_stride(None, context)):
                kept, scored = end - first, ids[0, first:end, None]
                logits = self.model(ids[:, begin : end - 1], use_cache=False, logits_to_keep=kept).logits
                logits[0].log_softmax(dim=-1).gather(-1, scored)

        return timed(score)


class TransformersGenerate(TransformersLoop):
    """`transformers` on torch, through its `generate`."""

    def decode(self, context: int, tokens: int, batch: int | None = None) -> float:
        """Greedy generation, the (short) prompt included."""
        ids = self.ids(context, batch)
        arguments = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
        mask = self.torch.ones_like(ids)
        return timed(lambda: self.model.generate(ids, attention_mask=mask, pad_token_id=50256, **arguments))


class CTranslate2:
    """CTranslate2, a C++ engine; the checkpoint was converted by its own converter."""

    compute_type = "float32"

    def __init__(self, folder: Path) -> None:
        import ctranslate2

        from minigpt.checkpoints.tokenizer_files import vocab_of
        from minigpt.tokenizer import Tokenizer

        self.names = list(vocab_of(Tokenizer()))
        self.generator = ctranslate2.Generator(
            str(folder / f"ctranslate2-{self.compute_type}"), compute_type=self.compute_type
        )

    def forward(self, tokens: int, last_only: bool) -> float:  # noqa: ARG002
        """One call; it always computes all logits."""
        prompt = [self.names[i] for i in some_ids(tokens)]
        return timed(lambda: np.array(self.generator.forward_batch([prompt])))

    def decode(self, context: int, tokens: int, batch: int | None = None) -> float:
        """Greedy generation, the prompt included."""
        prompts = [[self.names[i] for i in row] for row in np.atleast_2d(some_ids(context, batch))]
        arguments = {"max_length": tokens, "min_length": tokens, "include_prompt_in_result": False}
        return timed(lambda: self.generator.generate_batch(prompts, sampling_topk=1, **arguments))


class CTranslate2Int8(CTranslate2):
    """The same with weights rounded to 8 bits: other numbers, for comparison only."""

    compute_type = "int8"


ENGINES: dict[str, Callable[[Path], Any]] = {
    "minigpt": Minigpt,
    "transformers loop": TransformersLoop,
    "transformers generate": TransformersGenerate,
    "CTranslate2 float32": CTranslate2,
    "CTranslate2 int8": CTranslate2Int8,
    "naive NumPy": Naive,
    "matrix-vector products": MatrixVector,
    "machine": Machine,
}


def main() -> None:
    """Answer requests until the input ends."""
    engine = ENGINES[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        task = getattr(engine, request.pop("task"), None)
        print(json.dumps(None if task is None else task(**request)), flush=True)


if __name__ == "__main__":
    main()
