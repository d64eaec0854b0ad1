"""Damage checkpoints in every way we could think of, and see that minigpt survives each one.

    python scripts/fuzz_checkpoints.py --cases 100000 --seed 1      # a table of what was tried and survived
    python scripts/fuzz_checkpoints.py --seed 1 --case 4711         # one case again, with its files kept

A case is a small valid checkpoint with one to three seeded mutations (`scripts/fuzz_mutations.py`). It
survives if minigpt either

- refuses it with a `MiniGPTError`, in one line that names the file, tensor or key that was damaged, or
- loads it, and the parameters and logits are those that a second, plain reader finds in the same files
  (`read_plainly`, `plain_logits`: nothing of minigpt in them); with `--transformers`, also those of
  `GPT2LMHeadModel.from_pretrained`. Logits that overflow float32 must be told by `minigpt.probabilities`.

A case fails if anything else is raised (NumPy's warnings included), if it takes over 5 seconds, if it needs
more memory than the files' size + 200 MB, if a file outside of the checkpoint's folder is opened, or if
what the mutations left valid is refused. Each case depends on the seed and its number only.
"""

import argparse
import functools
import json
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import minigpt
from minigpt.checkpoints.load import load_model
from minigpt.model import GPT2, named_parameters
from scripts.fuzz_mutations import LONGEST_NAME, Case, make_case, unique_keys

SECONDS, MEMORY = 5.0, 200 << 20
SHORTEST_NAME = 5  # characters of a name that needs no quotes to be recognised
DEFAULTS: dict[str, Any] = {
    "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None,
    "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False, "tie_word_embeddings": True,
}  # fmt: skip
ALIASES = {
    "hidden_size": "n_embd", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer",
    "max_position_embeddings": "n_positions",
}  # fmt: skip


# ------------------------------------------------------------- a second reader, which has nothing of minigpt


def read_plainly(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The settings and the parameters of a valid checkpoint. Fails (`AssertionError`) if it is not valid."""
    content = json.loads((folder / "config.json").read_text("utf-8"), object_pairs_hook=unique_keys)
    config = DEFAULTS | {ALIASES.get(key, key): value for key, value in content.items()}
    assert content.get("model_type", "gpt2") == "gpt2"
    files = {"model.safetensors": set[str]()}
    if not (folder / "model.safetensors").exists():
        index = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))
        files = {
            shard: {name for name, where in index["weight_map"].items() if where == shard}
            for shard in index["weight_map"].values()
        }
    tensors: dict[str, np.ndarray] = {}
    for file, promised in files.items():
        assert Path(file).name == file
        assert (folder / file).resolve().parent == folder.resolve()
        found = read_file_plainly((folder / file).read_bytes())
        assert promised <= set(found)
        assert not set(found) & set(tensors)
        tensors |= found
    return config, {name.removeprefix("transformer."): array for name, array in tensors.items()}


def read_file_plainly(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of one safetensors file as float32: every byte of the data belongs to exactly one."""
    start = 8 + int.from_bytes(content[:8], "little")
    assert start <= len(content)
    header = json.loads(content[8:start].decode("utf-8"), object_pairs_hook=unique_keys)
    header.pop("__metadata__", None)
    tensors, ends = {}, [0]
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        assert first == ends[-1] <= last
        ends.append(last)
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            tensors[name] = np.empty(0, np.float32)  # a buffer of older files: never read, of any type
            continue
        stored = np.frombuffer(
            content[start + first : start + last], {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[entry["dtype"]]
        )
        wide = stored.astype(np.uint32) << 16 if entry["dtype"] == "BF16" else stored
        array = wide.view(np.float32) if entry["dtype"] == "BF16" else stored.astype(np.float32)
        tensors[name] = array.reshape(entry["shape"])
    assert start + ends[-1] == len(content)
    return tensors


def activation(name: str, x: np.ndarray) -> Any:
    """The activation of that name, from its definition."""
    from math import erf

    if name in ("gelu_new", "gelu_pytorch_tanh"):
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    if name == "gelu":
        return x / 2 * (1 + np.vectorize(erf, otypes=[np.float64])(x / np.sqrt(2)))
    if name == "relu":
        return np.where(x > 0, x, 0)
    assert name == "silu"
    return np.where(x > -700, x / (1 + np.exp(-np.maximum(x, -700))), 0)


def plain_logits(ids: list[int], config: dict[str, Any], tensors: dict[str, np.ndarray]) -> Any:
    """GPT-2 in float64, in as few words as possible: one head, one query at a time."""
    t = {name: array.astype(np.float64) for name, array in tensors.items()}

    def norm(x: np.ndarray, name: str) -> Any:
        deviation = x - x.mean(-1, keepdims=True)
        scale = np.sqrt((deviation**2).mean(-1, keepdims=True) + config["layer_norm_epsilon"])
        return deviation / scale * t[f"{name}.weight"] + t[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> Any:
        return x @ t[f"{name}.weight"] + t[f"{name}.bias"]

    wte = t["wte.weight"] if "wte.weight" in t else t["lm_head.weight"]
    x = wte[ids] + t["wpe.weight"][: len(ids)]
    size = config["n_embd"] // config["n_head"]
    for layer in range(config["n_layer"]):
        h = f"h.{layer}"
        q, k, v = np.split(linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn"), 3, axis=-1)
        mixed = np.zeros_like(q)
        for head in range(config["n_head"]):
            part = slice(head * size, (head + 1) * size)
            for at in range(len(ids)):
                scores = k[: at + 1, part] @ q[at, part]
                scores = scores / np.sqrt(size) if config["scale_attn_weights"] else scores
                scores = scores / (layer + 1) if config["scale_attn_by_inverse_layer_idx"] else scores
                weights = np.exp(scores - scores.max())
                mixed[at, part] = weights / weights.sum() @ v[: at + 1, part]
        x = x + linear(mixed, f"{h}.attn.c_proj")
        hidden = activation(config["activation_function"], linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc"))
        x = x + linear(hidden, f"{h}.mlp.c_proj")
    return norm(x, "ln_f") @ t.get("lm_head.weight", wte).T


# ------------------------------------------------------------------------------------- does a case survive


@functools.cache  # a hook cannot be taken away again
def watch() -> "Watch":
    """The one watch of this process."""
    return Watch()


class Watch:
    """Notes the files that are opened outside of a folder; Python calls it at every `open`."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        data = Path(minigpt.__file__).parent
        self.own = (os.fspath(data), os.path.realpath(data), "/proc/self/")
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """What Python calls at every event of any kind."""
        if event != "open" or self.folder is None or not isinstance(args[0], str | bytes | os.PathLike):
            return
        path = os.path.realpath(os.fsdecode(args[0]))
        if not path.startswith((self.folder, *self.own)):
            self.seen.append(path)

    @contextmanager
    def on(self, folder: Path) -> Iterator[list[str]]:
        """What is opened outside of `folder` in the meantime."""
        self.seen, self.folder = [], os.path.realpath(folder)
        try:
            yield self.seen
        finally:
            self.folder = None


def expire(*_: object) -> None:
    """What a signal calls when the time is up."""
    raise TimeoutError(f"not done after {SECONDS} s")


@contextmanager
def limits(size: int) -> Iterator[None]:
    """Time and memory as promised: beyond them `TimeoutError` and `MemoryError` (where the system can)."""
    if os.name == "nt":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux; elsewhere the limit would not be kept anyway
        now = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + size + MEMORY, before[1]))
    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)


Outcome = tuple[str, str]  # "refused", "equal", "overflow" or "FAILED", and the words for it


class Failure(Exception):
    """A case that minigpt does not survive."""


def try_case(case: Case, folder: Path, with_transformers: bool = False) -> Outcome:
    """Write a case into `folder`, load it, and judge."""
    case.write(folder)
    try:
        loaded = load_watched(case, folder)
        if isinstance(loaded, minigpt.MiniGPTError):
            return "refused", judge_refusal(str(loaded), case, folder)
        model, ids, logits = loaded
        kind, words = judge_model(model, ids, logits, case, folder)
        if with_transformers and kind == "equal":
            words = judge_by_transformers(model, ids, folder)
        return kind, words
    except Failure as failure:
        return "FAILED", str(failure)


def load_watched(case: Case, folder: Path) -> Any:
    """What minigpt makes of a folder: its `MiniGPTError`, or the model with some ids and their logits."""
    started = time.perf_counter()
    try:
        with limits(case.size), watch().on(folder) as outside, warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                model = minigpt.load(folder)[0] if case.with_tokenizer else load_model(folder)
                ids = [n % model.config.vocab_size for n in range(min(3, model.config.n_positions))]
                result: Any = (model, ids, model(ids))
            except minigpt.MiniGPTError as refusal:
                result = refusal
    except KeyboardInterrupt:
        raise
    except BaseException as crash:
        raise Failure(f"{type(crash).__name__}: {crash}") from crash
    if outside:
        raise Failure(f"opened {outside}")
    if (seconds := time.perf_counter() - started) > SECONDS:
        raise Failure(f"took {seconds:.1f} s")
    return result


def judge_refusal(message: str, case: Case, folder: Path) -> str:
    """Whether a message names the culprit in one printable line, and something was wrong indeed."""
    if case.valid:
        raise Failure(f"refused what is valid: {message}")
    if not message.isprintable() or len(message) > 600 + len(str(folder)):
        raise Failure(f"not one readable line: {message!r}")
    told = message.replace(str(folder), "FOLDER")  # whose random name could hold a culprit's by chance
    if told == message or not any(names(told, culprit) for culprit in case.culprits):
        raise Failure(f"names none of {sorted(case.culprits)}: {message}")
    return told


def names(message: str, culprit: str) -> bool:
    """Whether a message has the name of a culprit: whole, and in quotes if it could be a word of any text."""
    if len(culprit) < SHORTEST_NAME:
        return f"'{culprit}'" in message
    end = "" if len(culprit) == LONGEST_NAME else r"(?!\w|\.\w)"  # a longer one has been cut
    return re.search(rf"(?<![\w.]){re.escape(culprit)}{end}", message) is not None


def judge_model(model: GPT2, ids: list[int], logits: np.ndarray, case: Case, folder: Path) -> Outcome:
    """Whether a model is what is in the files."""
    if case.valid is False:
        raise Failure("loaded what is not valid")
    try:
        config, tensors = read_plainly(folder)
    except (AssertionError, ValueError, KeyError, TypeError, OSError) as error:
        raise Failure(f"loaded what the plain reader does not ({type(error).__name__}: {error})") from None
    tensors.setdefault("wte.weight", tensors.get("lm_head.weight", np.empty(0)))
    named = named_parameters(model)
    for name, array in named.items():
        if array.flags.writeable or not np.array_equal(array, tensors[name]):
            raise Failure(f"{name} is not what the file holds")
    largest = max(float(np.abs(array).max(initial=0)) for array in named.values())
    if not np.isfinite(logits).all():
        return "overflow", judge_overflow(logits, largest)
    with np.errstate(all="ignore"):
        expected, exact = plain_logits(ids, config, tensors), in_float64(model)(ids)
    check_close("in float64 the logits", exact, expected, 1e-7)
    if largest < 1000:  # beyond, float32 may round everything away
        check_close("the logits", logits, expected, 1e-3)
    return "equal", ""


def check_close(what: str, found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Raise `Failure` if numbers differ by more than a part of the largest."""
    if not np.isfinite(expected).all():
        return
    scale = max(1.0, float(np.abs(expected).max()))
    if not (difference := float(np.abs(found - expected).max())) <= tolerance * scale:
        raise Failure(f"{what} differ by {difference:.2e} at {scale:.2e}")


def judge_overflow(logits: np.ndarray, largest: float) -> str:
    """Whether logits that are not finite have a reason, and are told to whoever wants probabilities."""
    if largest < 1e9:
        raise Failure("logits that are not finite, without large weights")
    try:
        minigpt.probabilities(logits)
    except minigpt.NumericsError as error:
        return str(error)
    if not np.isfinite(logits.max(axis=-1)).all():
        raise Failure("nobody says that logits overflow")
    return "some are -inf"


def in_float64(model: GPT2) -> GPT2:
    """The same model with its parameters in float64: what is left is the formula, without rounding."""
    return model.astype(np.float64)


def judge_by_transformers(model: GPT2, ids: list[int], folder: Path) -> str:
    """Whether `transformers` gives the same logits for these files."""
    import torch
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    load: Any = GPT2LMHeadModel.from_pretrained
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference, info = load(folder, dtype=torch.float32, output_loading_info=True)
    except Exception as error:  # it is stricter with settings that change nothing
        return f"transformers refuses it: {type(error).__name__}: {error}"
    if info["missing_keys"] or info["mismatched_keys"]:
        raise Failure(f"transformers misses tensors: {info}")
    with torch.no_grad():
        expected = reference.double().eval()(torch.tensor([ids])).logits[0].numpy()
    with np.errstate(all="ignore"):
        check_close("beside transformers the logits", in_float64(model)(ids), expected, 1e-6)
    return "transformers agrees"


# ---------------------------------------------------------------------------------------------------- runs


@dataclass(frozen=True)
class Result:
    """How one case ended."""

    case: int
    family: str
    kind: str
    words: str


def run_cases(seed: int, cases: list[int], with_transformers: bool = False) -> list[Result]:
    """The results of some cases of a seed."""
    results = []
    with tempfile.TemporaryDirectory(prefix="fuzz") as home:
        folder = Path(home).resolve() / "checkpoint"
        warm_up(folder)
        for number in cases:
            case = make_case(seed, number)
            for _ in range(3):  # again, if it takes too long: a busy machine can make anything slow
                kind, words = try_case(case, folder, with_transformers)
                if not words.startswith(("TimeoutError", "took")):
                    break
            results.append(Result(number, case.family, kind, words))
    return results


def warm_up(folder: Path) -> None:
    """Import and allocate what any use of minigpt needs, so that it is not counted in a case."""
    for number in range(3):
        make_case(0, number, intact_only=True).write(folder)
        load_model(folder)([0, 1])
    minigpt.Tokenizer().encode("I love")


def report(results: list[Result], seed: int) -> str:
    """The table of a run: a row for each family of mutations, then the failures."""
    kinds = ["refused", "equal", "overflow", "FAILED"]
    counts = Counter((result.family, result.kind) for result in results)
    families = sorted({result.family for result in results})
    lines = ["| damage | cases | refused by name | valid, same logits | overflow told | failed |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for family in families:
        numbers = [counts[family, kind] for kind in kinds]
        lines.append(f"| {family} | " + " | ".join(f"{n:,}" for n in [sum(numbers), *numbers]) + " |")
    totals = [sum(counts[family, kind] for family in families) for kind in kinds]
    lines.append("| **all** | " + " | ".join(f"{n:,}" for n in [sum(totals), *totals]) + " |")
    said = Counter(": ".join(result.words.split(": ")[:2]) for result in results if result.kind == "equal")
    lines += [f"{words}: {n:,}" for words, n in said.items() if words]
    for result in results:
        if result.kind == "FAILED":
            lines.append(f"FAILED case {result.case} ({result.family}): {result.words[:500]}")
            lines.append(f"  python scripts/fuzz_checkpoints.py --seed {seed} --case {result.case}")
    return "\n".join(lines)


def show_case(seed: int, number: int, with_transformers: bool) -> int:
    """Run one case, keep its files, and say everything about it."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{seed}-{number}-")).resolve() / "checkpoint"
    warm_up(folder)
    case = make_case(seed, number)
    kind, words = try_case(case, folder, with_transformers)
    print(f"case {number} of seed {seed} in {folder}", *case.steps, f"{kind}: {words}", sep="\n  ")
    return kind == "FAILED"


def main() -> int:
    """Run cases and print the table; the exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--cases", type=int, default=1000, help="how many cases (1000)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other cases (0)")
    parser.add_argument("--case", type=int, help="run this one case, and keep its files")
    parser.add_argument("--processes", type=int, default=1, help="processes side by side (1)")
    parser.add_argument("--transformers", action="store_true", help="compare with transformers as well")
    args = parser.parse_args()
    if args.case is not None:
        return show_case(args.seed, args.case, args.transformers)
    started = time.perf_counter()
    chunks = [list(range(start, min(start + 500, args.cases))) for start in range(0, args.cases, 500)]
    results: list[Result] = []
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        runs = [pool.submit(run_cases, args.seed, chunk, args.transformers) for chunk in chunks]
        for done, run in enumerate(runs, 1):
            results += run.result()
            if done % 20 == 0:
                print(f"{len(results):,} cases, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    print(f"seed {args.seed}, {len(results):,} cases, {time.perf_counter() - started:.0f} s\n")
    print(report(results, args.seed))
    return int(any(result.kind == "FAILED" for result in results))


if __name__ == "__main__":
    sys.exit(main())
