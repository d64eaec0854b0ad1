"""Ten steps of training on the official weights give the losses that karpathy/llm.c publishes."""

from dataclasses import replace

import numpy as np

from minigpt.inspection.facts import official_facts
from minigpt.parallel import Threads
from minigpt.training.flat import flatten
from minigpt.training.losses import language_modelling
from minigpt.training.optimizer import AdamW
from minigpt.training.step import batch_gradients
from tests.official.conftest import loaded, official

# test_gpt2.c of karpathy/llm.c, on its debug batch of 4 x 64 tokens of Tiny Shakespeare.
LOSSES = [
    5.270007133483887, 4.059706687927246, 3.3751230239868164, 2.8007826805114746, 2.315382242202759,
    1.8490285873413086, 1.3946564197540283, 0.9991465210914612, 0.6240804195404053, 0.37651097774505615,
]  # fmt: skip


def test_the_ten_losses_of_llmc() -> None:
    official("gpt2")
    (fact,) = [fact for fact in official_facts() if fact.id == "llmc_batch_loss"]
    tokens = np.array(fact.data["tokens"])
    ids, targets = tokens[:-1].reshape(4, 64), tokens[1:].reshape(4, 64)
    flat = flatten(loaded("gpt2")[0])
    flat = replace(flat, n_matrix=flat.buffer.size)  # there everything decays
    optimizer, losses = AdamW(flat, 0.9, 0.999, 1e-8, 0.01), []
    with Threads() as threads:
        for _ in range(10):
            cuts = [slice(rows[0], rows[-1] + 1) for rows in threads.split(range(4))]
            parts = [language_modelling(ids[cut], targets[cut], 256, flat.buffer.dtype) for cut in cuts]
            found: dict[str, np.ndarray] = {}
            losses.append(batch_gradients(flat.model, parts, threads, found))
            optimizer.step(found, 1e-4, 1.0, threads)
    np.testing.assert_allclose(losses, LOSSES, atol=1e-2)
