"""What a GPT of characters has learnt after as many steps: minigpt's trainer beside nanoGPT's model in torch.

    python -m scripts.benchmark.learning shakespeare.txt

The recipe is the one that nanoGPT's README gives for a CPU (4 blocks, 4 heads, 128 wide, context 64, batch
12, no dropout, 2,000 steps), with a published held-out loss of 1.88 on the small Shakespeare. Both see the
same batches at the same learning rates, in float32 on as many threads, one after the other.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from minigpt import GPT2, Tokenizer
from minigpt.parameters import Config
from minigpt.training import Run, TrainingSettings, train
from minigpt.training.data import Corpus, Tokens, random_windows, split_tails, tokenize
from minigpt.training.evaluation import windows_of
from minigpt.training.optimizer import learning_rate
from minigpt.training.settings import Plan
from scripts.benchmark.torch_step import NanoGPT, adamw, stepper

CONFIG = Config(vocab_size=256, n_positions=64, n_embd=128, n_layer=4, n_head=4)
BETA1, EPSILON = 0.9, 1e-8


def settings(steps: int, threads: int) -> TrainingSettings:
    """nanoGPT's recipe for a CPU."""
    return TrainingSettings(
        steps=steps,
        window=64,
        batch_size=12,
        learning_rate=1e-3,
        warmup=min(100, steps // 2),
        weight_decay=0.1,
        beta2=0.99,
        threads=threads,
    )


def minigpt_run(corpus: Corpus, tokenizer: Tokenizer, steps: int, threads: int) -> tuple[Run, float]:
    """minigpt's run, and its seconds."""
    start = time.monotonic()
    run = train(GPT2.random(CONFIG), tokenizer, corpus, None, settings(steps, threads))
    return run, time.monotonic() - start


def torch_run(tokens: Tokens, plan: Plan) -> tuple[float, float]:
    """The held-out loss after nanoGPT's steps in torch, and their seconds."""
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    model, start = NanoGPT(CONFIG), time.monotonic()
    optimizer = adamw(model, plan.learning_rate, (BETA1, plan.beta2), EPSILON, plan.weight_decay)
    for step in range(plan.steps):
        batch = random_windows(tokens.training, plan.batch_size, plan.window, (plan.seed, step, 0))
        rate = learning_rate(step, plan.steps, plan.warmup, plan.learning_rate)
        for group in optimizer.param_groups:
            group["lr"] = rate
        ids, targets = map(torch.from_numpy, batch)
        stepper(model, optimizer, ids, targets, plan.clip)()
    return torch_loss(model, tokens.held_out, plan.window), time.monotonic() - start


@torch.inference_mode()
def torch_loss(model: NanoGPT, ids: np.ndarray, window: int) -> float:
    """The mean loss over held-out text, in the windows that minigpt reads."""
    total, count = 0.0, 0
    for part in windows_of(ids, window):
        inputs, targets = (torch.from_numpy(array.astype(np.int64)) for array in part)
        logits = model(inputs).flatten(0, 1)
        total += float(functional.cross_entropy(logits, targets.flatten(), reduction="sum"))
        count += targets.numel()
    return total / count


def main(arguments: list[str] | None = None) -> None:
    """Train both, and print what they know."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("text", type=Path, help="a UTF-8 text, whose last tenth is held out")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    corpus = split_tails([options.text.read_text(encoding="utf-8")])
    tokenizer = Tokenizer.train([], 256)
    run, seconds = minigpt_run(corpus, tokenizer, options.steps, options.threads)
    tokens = tokenize(corpus, tokenizer, run.plan.window)
    torch_held_out, torch_seconds = torch_run(tokens, run.plan)
    print(f"ln 256 = {math.log(256):.3f}; after {options.steps:,} steps, in nats per character:")
    for name, loss, took in (
        ("minigpt", run.held_out_loss, seconds),
        ("torch", torch_held_out, torch_seconds),
    ):
        print(f"{name:8} held out {loss:.3f}   {took:.0f} seconds, tests included")


if __name__ == "__main__":
    main()
