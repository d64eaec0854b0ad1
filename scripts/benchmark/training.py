"""One training step beside torch's: forward, backward, clip, AdamW, on two threads in float32.

    python -m scripts.benchmark.training                # all three sizes, interleaved
    python -m scripts.benchmark.training --rounds 3 bytes

Each engine runs in a process of its own, and they take turns. `bytes` is measured against a step of plain
torch that does what nanoGPT's train.py does (no biases, fused attention, AdamW, clip); the others against
`transformers.GPT2LMHeadModel`. Memory is the peak less what the imports take. OpenBLAS chooses its kernel by
the CPU, unless OPENBLAS_CORETYPE says which.
"""

import argparse
import importlib
import importlib.metadata
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

from minigpt.model import GPT2
from minigpt.parameters import Config
from scripts.benchmark.machine import cpu

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    "bytes": Config(vocab_size=65, n_positions=64, n_embd=128, n_layer=4, n_head=4),
    "tiny": Config(n_positions=256, n_embd=192, n_layer=6, n_head=6),
    "124M": Config(),
}
BATCHES = {"bytes": (12, 64), "tiny": (16, 256), "124M": (4, 64)}
STEPS = {"bytes": 60, "tiny": 3, "124M": 3}  # timed in one turn
THREADS = 2
RATE, BETAS, EPSILON, DECAY, CLIP = 1e-4, (0.9, 0.95), 1e-8, 0.1, 1.0


def batch(size: str) -> tuple[np.ndarray, np.ndarray]:
    """Random ids, and the random ids that should follow them."""
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, CONFIGS[size].vocab_size, (2, *BATCHES[size]))
    return ids, targets


def peak_bytes() -> int:
    """The most memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# ------------------------------------------------------------------------------------------------- engines


# Each engine imports its own libraries alone, so that no process pays for what another needs.


def minigpt_step(size: str) -> Callable[[], float]:
    """A step of minigpt's own trainer on one batch."""
    from minigpt.parallel import Threads
    from minigpt.training.flat import flatten
    from minigpt.training.losses import language_modelling
    from minigpt.training.optimizer import AdamW, clip_factor, gradient_norm
    from minigpt.training.step import batch_gradients

    ids, targets = batch(size)
    flat = flatten(GPT2.random(CONFIGS[size]))
    optimizer = AdamW(flat, *BETAS, EPSILON, DECAY)
    threads = Threads(THREADS)
    threads.__enter__()  # until the process ends
    parts = [
        language_modelling(
            ids[some[0] : some[-1] + 1], targets[some[0] : some[-1] + 1], ids.size, flat.buffer.dtype
        )
        for some in threads.split(range(len(ids)))
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

    from scripts.benchmark.torch_step import NanoGPT, adamw, stepper, transformers_model

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    ids, targets = map(torch.tensor, batch(size))
    model = NanoGPT(CONFIGS[size]) if size == "bytes" else transformers_model(CONFIGS[size])
    return stepper(model, adamw(model, RATE, BETAS, EPSILON, DECAY), ids, targets, CLIP)


ENGINES = {"minigpt": minigpt_step, "torch": torch_step}


def imports(engine: str, size: str) -> int:
    """Import what an engine needs, and say how much memory this process has had by then."""
    if engine == "minigpt":
        importlib.import_module("minigpt.training")
    else:
        importlib.import_module("scripts.benchmark.torch_step")
        importlib.import_module("torch._dynamo")  # torch's optimizers import it when they are first used
        if size != "bytes":
            importlib.import_module("transformers.models.gpt2.modeling_gpt2")
    return peak_bytes()


def answer(engine: str, size: str) -> None:
    """Take turns: for each line on standard input some steps, and a line with what they took."""
    imported = imports(engine, size)
    step = ENGINES[engine](size)
    first = step()
    for _line in sys.stdin:
        seconds = []
        for _ in range(STEPS[size]):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        found = {"seconds": seconds, "bytes": peak_bytes() - imported, "first_loss": first}
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
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"benchmark: {engine} has ended; see its message above.")
            found = json.loads(line)
            seconds[engine] += found["seconds"]
            memory[engine] = found["bytes"] / 1e6
    for process in running.values():
        process.communicate("")
    return {
        engine: {"median": statistics.median(seconds[engine]), "megabytes": memory[engine]}
        for engine in running
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help=f"of {', '.join(CONFIGS)} (all)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each engine (5)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := [size for size in args.sizes if size not in CONFIGS]:
        parser.error(f"{unknown[0]}: there is no such size; choose from {', '.join(CONFIGS)}.")
    if args.engine:
        answer(args.engine, args.sizes[0])
        return
    report: dict[str, Any] = {"machine": f"{cpu()}, {THREADS} threads; {versions()}", "steps": {}}
    print(f"{report['machine']}\n")
    print("| step | minigpt | torch | torch / minigpt | memory, minigpt | torch | minigpt / torch |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for size in args.sizes or CONFIGS:
        report["steps"][size] = compare(size, args.rounds)
        print(row(size, **report["steps"][size]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def versions() -> str:
    """Of what is compared."""
    found = [f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "torch", "transformers")]
    return ", ".join([f"Python {platform.python_version()}", *found])


def row(size: str, minigpt: dict[str, float], torch: dict[str, float]) -> str:
    """A row of the table."""
    return (
        f"| {size}, {' × '.join(map(str, BATCHES[size]))} "
        f"| {1000 * minigpt['median']:,.1f} ms | {1000 * torch['median']:,.1f} ms "
        f"| {torch['median'] / minigpt['median']:.2f} × "
        f"| {minigpt['megabytes']:,.0f} MB | {torch['megabytes']:,.0f} MB "
        f"| {minigpt['megabytes'] / torch['megabytes']:.2f} |"
    )


if __name__ == "__main__":
    main()
