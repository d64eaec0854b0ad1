"""Measure minigpt beside `transformers` on torch and CTranslate2: the same weights, threads and prompts.

    pip install -e '.[scripts]'
    python -m scripts.benchmark.run --json benchmark.json
    python -m scripts.benchmark.run --before OLD_CHECKOUT --only batch

Every engine runs in a process of its own. All engines take turns on every task, round after round, so that a
noisy minute hurts all of them and all tasks, and medians are compared. What the machine can do at most is
measured in the same run: the bare matrix-vector products over the same weights, memory bandwidth, and BLAS's
peak; one table gives minigpt's figures as shares of these. OpenBLAS chooses its kernel by the CPU, and
`OPENBLAS_CORETYPE=Haswell` asks for another. Without `--checkpoint` a random one of the official size is made
(scripts/benchmark/checkpoint.py).
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from minigpt.parameters import Config
from scripts.benchmark.checkpoint import random_tensors, write_checkpoint
from scripts.benchmark.engines import ENGINES
from scripts.benchmark.machine import cpu

ROOT = Path(__file__).resolve().parents[2]
BEFORE = "minigpt before"  # the engine of `--before`

# name -> (request, tokens that the seconds are divided by)
TASKS: dict[str, tuple[dict[str, Any], int]] = {
    'forward of "I love" (2 tokens)': ({"task": "forward", "tokens": 2, "last_only": False}, 1),
    "prefill 512 tokens": ({"task": "forward", "tokens": 512, "last_only": True}, 1),
    "prefill 1,023 tokens": ({"task": "forward", "tokens": 1023, "last_only": True}, 1),
    "decode 64 tokens after 5, per token": ({"task": "decode", "context": 5, "tokens": 64}, 64),
    "decode at context 10, per token": ({"task": "decode", "context": 10, "tokens": 16}, 16),
    "decode at context 1,000, per token": ({"task": "decode", "context": 1000, "tokens": 16}, 16),
    "decode a batch of 8, per token": ({"task": "decode", "context": 8, "tokens": 16, "batch": 8}, 128),
    "score 2,048 tokens in windows of 1,024": ({"task": "score", "tokens": 2048}, 1),
}
# Tasks that say nothing about an engine: those whose time includes the prompt, or that ignore the context.
LONG_CONTEXT, BATCH = "decode at context 1,000, per token", "decode a batch of 8, per token"
SCORE = "score 2,048 tokens in windows of 1,024"
LEFT_OUT = {
    "transformers generate": [LONG_CONTEXT, SCORE],
    "CTranslate2 float32": [LONG_CONTEXT],
    "CTranslate2 int8": [LONG_CONTEXT],
    "naive NumPy": [LONG_CONTEXT, BATCH],
    "matrix-vector products": [LONG_CONTEXT, BATCH],
    "machine": list(TASKS),
}

COLD_MINIGPT = ["-m", "minigpt", "I love", "--json", "--offline", "--model"]
COLD_TRANSFORMERS = """
import json, sys, torch
from transformers import GPT2LMHeadModel, GPT2Tokenizer
tokenizer = GPT2Tokenizer.from_pretrained(sys.argv[1])
model = GPT2LMHeadModel.from_pretrained(sys.argv[1]).eval()
with torch.no_grad():
    logits = model(**tokenizer("I love", return_tensors="pt")).logits[0, -1]
top = logits.softmax(-1).topk(10)
print(json.dumps({tokenizer.decode([i]): p for i, p in zip(top.indices.tolist(), top.values.tolist())}))
"""


@contextmanager
def worker(
    engine: str, folder: Path, environment: dict[str, str], root: Path = ROOT
) -> Iterator[subprocess.Popen[str]]:
    """A running engine that has loaded its weights, of the checkout at `root`."""
    command = [sys.executable, "-m", "scripts.benchmark.engines", engine, str(folder)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment | {"PYTHONPATH": str(root)},
        cwd=root,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != '"ready"':
            raise SystemExit(f"benchmark: the engine {engine!r} did not start; see the message above.")
        yield process
    finally:
        process.kill()
        process.wait()


def ask(process: subprocess.Popen[str], request: dict[str, Any]) -> float | None:
    """The seconds of one request, or None if the engine cannot do it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit("benchmark: an engine has ended; see its message above.")
    answer: float | None = json.loads(line)
    return answer


def measure(
    workers: dict[str, subprocess.Popen[str]], tasks: list[str], rounds: int
) -> dict[str, dict[str, float]]:
    """Median seconds by task and engine: all of them in every round, after one that does not count."""
    times: dict[str, dict[str, list[float]]] = {task: {} for task in tasks}
    for turn in range(rounds + 1):
        for task in tasks:
            request, divisor = TASKS[task]
            for engine, process in workers.items():
                if task in LEFT_OUT.get(engine, ()):
                    continue
                seconds = ask(process, request)
                if turn and seconds is not None:
                    times[task].setdefault(engine, []).append(seconds / divisor)
        print(f"round {turn} of {rounds}", file=sys.stderr)
    return {
        task: {name: median(values) for name, values in engines.items()} for task, engines in times.items()
    }


def measure_machine(process: subprocess.Popen[str], rounds: int) -> dict[str, float]:
    """The best of a few: memory bandwidth in GB/s, and the peak of float32 matrix products in GFLOP/s."""
    reads = [ask(process, {"task": "bandwidth"}) or 0.0 for _ in range(rounds + 1)]
    products = [ask(process, {"task": "multiply"}) or 0.0 for _ in range(rounds + 1)]
    return {"memory GB/s": 0.4 / min(reads), "BLAS GFLOP/s": 2 * 2.048**3 / min(products)}


# Starts a process from a small one: a child's peak memory begins with what its parent held at the fork.
START_AND_WAIT = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, process.returncode, usage = os.wait4(process.pid, 0)
assert process.returncode == 0
megabyte = 1 << 20 if sys.platform == "darwin" else 1 << 10  # macOS counts bytes, Linux kilobytes
print(json.dumps([time.perf_counter() - start, usage.ru_maxrss / megabyte]))
"""


def measure_cold(folder: Path, environment: dict[str, str], rounds: int) -> dict[str, dict[str, float]]:
    """Median wall time and peak resident memory of a whole process that answers "I love" (POSIX only)."""
    commands = {
        "minigpt": [sys.executable, *COLD_MINIGPT, str(folder)],
        "transformers": [sys.executable, "-c", COLD_TRANSFORMERS, str(folder)],
    }
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            starter = [sys.executable, "-S", "-c", START_AND_WAIT, *command]
            output = subprocess.run(
                starter, stdout=subprocess.PIPE, env=environment, cwd=ROOT, check=True
            ).stdout
            runs[name].append(json.loads(output))
    return {
        name: {"seconds": median(s for s, _ in values[1:]), "peak MB": median(m for _, m in values[1:])}
        for name, values in runs.items()
    }


def megabytes(found: importlib.metadata.Distribution) -> float:
    """What a distribution takes on disk, without the small model that ships with minigpt."""
    paths = [Path(str(found.locate_file(file))) for file in found.files or ()]
    return sum(p.stat().st_size for p in paths if p.is_file() and "weights" not in p.parts) / 1e6


def installed_megabytes(distribution: str) -> dict[str, float]:
    """Megabytes of an installed distribution and everything it requires (no extras), by distribution."""
    from packaging.requirements import Requirement

    sizes: dict[str, float] = {}
    waiting = [distribution]
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in sizes:
            continue
        found = importlib.metadata.distribution(name)
        sizes[name] = megabytes(found)
        for requirement in map(Requirement, found.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return sizes


def installed_alone() -> dict[str, float]:
    """The same of minigpt, installed as a user does, in an environment with nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "Scripts" if os.name == "nt" else "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "-q", ROOT], check=True)
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        packages = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
        found = list(importlib.metadata.distributions(path=[packages.strip()]))
        sizes = {distribution.name: megabytes(distribution) for distribution in found}
    return {name: size for name, size in sizes.items() if name not in ("pip", "setuptools")}


def prepare(folder: Path | None, stack: ExitStack) -> Path:
    """A checkpoint with everything that the engines need beside it."""
    if folder is None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_checkpoint(folder, Config(), random_tensors(Config()))
    if not (folder / "merges.txt").exists():
        write_tokenizer(folder)
    for kind in ("float32", "int8"):
        if not (folder / f"ctranslate2-{kind}").exists():
            from ctranslate2.converters import TransformersConverter

            TransformersConverter(str(folder)).convert(str(folder / f"ctranslate2-{kind}"), quantization=kind)
    return folder


def write_tokenizer(folder: Path) -> None:
    """The official vocabulary in the files that other libraries read."""
    from minigpt.checkpoints.tokenizer_files import tokenizer_files
    from minigpt.tokenizer import Tokenizer

    for name, content in tokenizer_files(Tokenizer()).items():
        (folder / name).write_text(content, encoding="utf-8")


def shares(report: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """How much of the machine's best minigpt reaches: bandwidth while it decodes, BLAS's peak in a prompt."""
    config, limits = Config(), report["limits"]
    n_weights = 12 * config.n_layer * config.n_embd**2  # those of the blocks, which every token meets
    n_head = config.vocab_size * config.n_embd
    for task, times in report["tasks"].items():
        request, divisor = TASKS[task]
        seconds, tokens = times["minigpt"] * divisor, request["tokens"]
        if request["task"] == "decode":  # all weights, once for each step
            gigabytes = tokens * 4e-9 * (n_weights + n_head)
            yield f"{task}: weights read, of the bandwidth", gigabytes / seconds / limits["memory GB/s"]
        elif request["task"] == "forward" and tokens > 2:
            gigaflop = 2e-9 * (tokens * n_weights + n_head)
            yield f"{task}: products, of BLAS's peak", gigaflop / seconds / limits["BLAS GFLOP/s"]


def print_tables(report: dict[str, Any]) -> None:
    """The report as Markdown tables; times in milliseconds."""
    tasks = report["tasks"]
    engines = [name for name in (*ENGINES, BEFORE) if any(name in times for times in tasks.values())]
    print(f"{report['machine']}, {report['threads']} threads; {report['versions']}\n")
    print("| milliseconds | " + " | ".join(engines) + " |")
    print("|---" * (len(engines) + 1) + "|")
    for task, times in tasks.items():
        cells = [f"{times[engine] * 1e3:,.1f}" if engine in times else "" for engine in engines]
        print(f"| {task} | " + " | ".join(cells) + " |")
    print("\n| limit | |\n|---|---|")
    for name, value in report["limits"].items():
        print(f"| {name} | {value:,.0f} |")
    print("\n| minigpt's share of the limit | |\n|---|---|")
    for name, share in shares(report):
        print(f"| {name} | {share:.0%} |")
    if "cold" in report:
        print_cold_and_installed(report)


def print_cold_and_installed(report: dict[str, Any]) -> None:
    """The rest of a report of all tasks."""
    print("\n| cold process | seconds | peak MB |\n|---|---|---|")
    for name, values in report["cold"].items():
        print(f"| {name} | {values['seconds']:.2f} | {values['peak MB']:,.0f} |")
    print("\n| installed MB | in all | largest |\n|---|---|---|")
    for name, sizes in report["installed MB"].items():
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:4]
        words = ", ".join(f"{part} {size:,.0f}" for part, size in largest)
        print(f"| {name} | {sum(sizes.values()):,.0f} | {words} |")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", type=Path, help="folder of a 124M checkpoint (default: a random one)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of every engine on every task (7)")
    parser.add_argument("--only", metavar="WORDS", help="only the tasks with these words in their names")
    parser.add_argument("--engines", nargs="+", choices=[*ENGINES], help="only these, minigpt among them")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="an older minigpt to compare with")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="threads of every engine (all cores)"
    )
    parser.add_argument("--json", type=Path, help="write the report to this file, too")
    args = parser.parse_args()
    args.tasks = [task for task in TASKS if (args.only or "") in task]
    if not args.tasks:
        parser.error(f"--only {args.only}: no task has these words; the tasks are: {'; '.join(TASKS)}")
    args.engines = [name for name in ENGINES if name in {"minigpt", "machine", *(args.engines or ENGINES)}]
    return args


def environment_of(threads: int) -> dict[str, str]:
    """The variables under which every engine runs."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
    return os.environ | dict.fromkeys(names, str(threads)) | quiet


def main() -> None:
    """Measure everything, print the tables, and write the JSON file."""
    args = parse_arguments()
    environment = environment_of(args.threads)
    packages = ("numpy", "torch", "transformers", "ctranslate2")
    report: dict[str, Any] = {
        "machine": f"{cpu()}, Python {platform.python_version()}",
        "threads": args.threads,
        "versions": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages),
    }
    with ExitStack() as stack:
        folder = prepare(args.checkpoint, stack)
        with ExitStack() as running:
            workers = {n: running.enter_context(worker(n, folder, environment)) for n in args.engines}
            if args.before:
                old = worker("minigpt", folder, environment, args.before.resolve())
                workers[BEFORE] = running.enter_context(old)
            report["limits"] = measure_machine(workers["machine"], args.rounds)
            report["tasks"] = measure(workers, args.tasks, args.rounds)
        if not args.only:
            report["cold"] = measure_cold(folder, environment, args.rounds)
            report["installed MB"] = {
                "minigpt": installed_alone(),
                "transformers + torch": installed_megabytes("transformers") | installed_megabytes("torch"),
            }
    print_tables(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
