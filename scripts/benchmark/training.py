"""One training step beside torch's: forward, backward, clip, AdamW, on two threads in float32.

    python -m scripts.benchmark.training                # all three sizes, interleaved
    python -m scripts.benchmark.training --rounds 3 bytes

Each engine runs in a process of its own, and they take turns. `bytes` is measured against a step of plain
torch that does what nanoGPT's train.py does (no biases, fused attention, AdamW, clip); the others against
`transformers.GPT2LMHeadModel`. Memory is the peak less what the imports take.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SIZES: dict[str, dict[str, Any]] = {
    "bytes": {"vocab_size": 65, "n_positions": 64, "n_embd": 128, "n_layer": 4, "n_head": 4},
    "tiny": {"vocab_size": 50257, "n_positions": 256, "n_embd": 192, "n_layer": 6, "n_head": 6},
    "124M": {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12},
}
BATCHES = {"bytes": (12, 64), "tiny": (16, 256), "124M": (4, 64)}
STEPS = {"bytes": 60, "tiny": 3, "124M": 3}  # timed in one turn
THREADS = 2
RATE, BETA1, BETA2, EPSILON, DECAY, CLIP = 1e-4, 0.9, 0.95, 1e-8, 0.1, 1.0


def batch(size: str) -> tuple[np.ndarray, np.ndarray]:
    """Random ids, and the random ids that should follow them."""
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, SIZES[size]["vocab_size"], (2, *BATCHES[size]))
    return ids, targets


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ------------------------------------------------------------------------------------------------- engines


def minigpt_step(size: str) -> Callable[[], float]:
    """A step of minigpt's own trainer on one batch."""
    import minigpt
    from minigpt.parallel import Threads
    from minigpt.training.flat import flatten
    from minigpt.training.losses import language_modelling
    from minigpt.training.optimizer import AdamW, clip_factor, gradient_norm
    from minigpt.training.step import batch_gradients

    ids, targets = batch(size)
    flat = flatten(minigpt.GPT2.random(minigpt.Config(**SIZES[size])))
    optimizer = AdamW(flat, BETA1, BETA2, EPSILON, DECAY)
    threads = Threads(THREADS)
    threads.__enter__()
    cut = len(ids) // 2
    parts = [
        language_modelling(ids[some], targets[some], ids.size, flat.buffer.dtype)
        for some in (slice(0, cut), slice(cut, None))
    ]

    def step() -> float:
        gradients: dict[str, np.ndarray] = {}
        loss = batch_gradients(flat.model, parts, threads, gradients)
        norm = gradient_norm(gradients, threads)
        optimizer.step(gradients, RATE, clip_factor(norm, CLIP), threads)
        return loss

    return step


def torch_step(size: str) -> Callable[[], float]:
    """The same step in torch."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    ids, targets = map(torch.tensor, batch(size))
    model: Any = nano_gpt(size) if size == "bytes" else transformers_model(size)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, (BETA1, BETA2), EPSILON, DECAY)

    def step() -> float:
        logits = model(ids) if size == "bytes" else model(ids).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.item())

    return step


def transformers_model(size: str) -> Any:
    """`GPT2LMHeadModel` without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(**SIZES[size], resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0))


def nano_gpt(size: str) -> Any:
    """A GPT of plain torch as nanoGPT trains it on characters: no biases, and torch's fused attention."""
    import torch
    from torch import nn
    from torch.nn import functional

    s = SIZES[size]
    n_embd, n_head = s["n_embd"], s["n_head"]

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln_1, self.ln_2 = (nn.LayerNorm(n_embd, bias=False) for _ in range(2))
            self.attn, self.proj = (
                nn.Linear(n_embd, 3 * n_embd, bias=False),
                nn.Linear(n_embd, n_embd, bias=False),
            )
            self.fc, self.out = (
                nn.Linear(n_embd, 4 * n_embd, bias=False),
                nn.Linear(4 * n_embd, n_embd, bias=False),
            )

        def forward(self, x: Any) -> Any:
            rows, tokens, _ = x.shape
            parts = self.attn(self.ln_1(x)).split(n_embd, 2)
            q, k, v = (part.view(rows, tokens, n_head, -1).transpose(1, 2) for part in parts)
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(mixed.transpose(1, 2).reshape(rows, tokens, n_embd))
            return x + self.out(functional.gelu(self.fc(self.ln_2(x))))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.wpe = nn.Embedding(s["vocab_size"], n_embd), nn.Embedding(s["n_positions"], n_embd)
            self.h, self.ln_f = (
                nn.ModuleList(Block() for _ in range(s["n_layer"])),
                nn.LayerNorm(n_embd, bias=False),
            )
            for parameter in self.parameters():
                if parameter.ndim == 2:
                    nn.init.normal_(parameter, std=0.02)

        def forward(self, ids: Any) -> Any:
            x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
            for block in self.h:
                x = block(x)
            return self.ln_f(x) @ self.wte.weight.T

    return Model()


ENGINES = {"minigpt": minigpt_step, "torch": torch_step}


def answer(engine: str, size: str) -> None:
    """Take turns: for each line on standard input some steps, and a line with what they took."""
    if engine == "torch":
        import torch  # noqa: F401
        import transformers  # noqa: F401
    else:
        import minigpt.training.loop  # noqa: F401
    imports = peak_bytes()
    step = ENGINES[engine](size)
    first = step()
    for _line in sys.stdin:
        seconds = []
        for _ in range(STEPS[size]):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        found = {"seconds": seconds, "bytes": peak_bytes() - imports, "first_loss": first}
        print(json.dumps(found), flush=True)


# ------------------------------------------------------------------------------------------------- the table


def compare(size: str, rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of a step and megabytes of each engine, which take turns."""
    threads = {f"{name}_NUM_THREADS": str(THREADS) for name in ("OPENBLAS", "OMP", "MKL")}
    running = {
        engine: subprocess.Popen(
            [sys.executable, "-m", "scripts.benchmark.training", "--engine", engine, size],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | threads,
            text=True,
        )
        for engine in ENGINES
    }
    seconds: dict[str, list[float]] = {engine: [] for engine in running}
    memory = dict.fromkeys(running, 0.0)
    for _ in range(rounds):
        for engine, process in running.items():
            assert process.stdin is not None
            assert process.stdout is not None
            print("go", file=process.stdin, flush=True)
            found = json.loads(process.stdout.readline())
            seconds[engine] += found["seconds"]
            memory[engine] = found["bytes"] / 1e6
    for process in running.values():
        process.communicate("")
    return {
        engine: {"median": statistics.median(seconds[engine]), "megabytes": memory[engine]}
        for engine in running
    }


def cpu() -> str:
    """The CPU's name, and the kernel that NumPy's BLAS runs on it."""
    from threadpoolctl import threadpool_info

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    kernels = {str(pool.get("architecture")) for pool in threadpool_info()}
    name = ", ".join(names) or platform.processor()
    return f"{name}, {os.cpu_count()} cores, BLAS kernel {', '.join(kernels)}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("sizes", nargs="*", choices=[*SIZES, []], default=list(SIZES), help="which steps")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each engine (5)")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        answer(args.engine, args.sizes[0])
        return
    print(f"{cpu()}, {THREADS} threads\n")
    print("| step | minigpt | torch | torch / minigpt | memory, minigpt | torch | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for size in args.sizes:
        found = compare(size, args.rounds)
        ours, theirs = found["minigpt"], found["torch"]
        print(
            f"| {size}, {' × '.join(map(str, BATCHES[size]))} "
            f"| {1000 * ours['median']:,.1f} ms | {1000 * theirs['median']:,.1f} ms "
            f"| {theirs['median'] / ours['median']:.2f} × "
            f"| {ours['megabytes']:,.0f} MB | {theirs['megabytes']:,.0f} MB "
            f"| {ours['megabytes'] / theirs['megabytes']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
