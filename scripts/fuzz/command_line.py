"""Type words that do not belong together after `minigpt`, and see that it survives.

    python -m scripts.fuzz.command_line --cases 5000 --seed 1
    python -m scripts.fuzz.command_line --seed 1 --case 4711         # one command line again

Commands, options and values come from lists of the usual, the odd and the impossible; the models are a small
random one, one whose weights are too large for float32, and folders that hold none. A command line survives
if it ends with status 0, or with 1 or 2 and one line that explains, in less than 5 seconds (for each 10,000
lines that it prints: `--top 50257` is a table of the vocabulary); if nothing that steers a terminal is
printed; and if what `--json` prints is JSON, without NaN. NumPy's warnings are errors.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from minigpt.cli.main import main as minigpt
from minigpt.parameters import Config
from scripts.benchmark.checkpoint import random_tensors, write_checkpoint

SECONDS = 5.0
STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202e]")
TEXTS = [
    "", "I love", "   ", " ", "\n", "\0", "\x1b[31m\x07", "<|endoftext|>", "\udcff", "a" * 3000,
    "日本語 👩‍🚀", "-", "--", "[red]", "e\u0301", "\u202e", "%s {0}", "word " * 40, "x " * 39, "x " * 38,
    "score",
]  # fmt: skip
NUMBERS = [
    "0", "1", "-1", "2", "3", "1.5", "nan", "inf", "-inf", "1e400", "1e-8", "1e8", "1e-320", "0x1", "", "x",
    "٣", "²", "1_0", "+1", " 1", "9" * 12, "9" * 5000, "-0", "-0.0", "1e-400", "True",
]  # fmt: skip
ARRAYS = [
    "h.0.attn.v", "h.0.attn.v:1", "h.0.attn.v:9", "h.0.attn.v:-1", "h.9.attn.v", "h.0.mlp.out", "wte",
    "logits",
    "ln_f", "h.1.attn.weights", "h.1.attn.weights:0", "x", "", ":", "h.0.attn.v:x", "h.0.ln_1.scale",
    "h.0.attn.masked_scores", "h.0.resid_pre:0", "\x1b[31m",
]  # fmt: skip
MISTAKES = ["list", "all", "erf-gelu", "no-mask", "post-norm", "x", "", "\x1b"]
FILES = ["text.txt", "not-utf-8.txt", "empty.txt", "nul.txt", "one.txt", "none.txt", "", "-"]
OPTIONS = {
    "": ["--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty", "--top", "-n", "--seed"],
    "score": ["--stride", "--top"], "attention": ["--layer", "--head", "--position"],
    "lens": ["--position", "--top"], "attribution": ["--position"], "break": ["-n"], "map": [], "tokens": [],
    "gradients": ["--top"], "sizes": [], "glossary": [], "lessons": [], "practice": ["--hint"],
    "train": ["--vocab-size", "--n-layer", "--n-head", "--n-embd", "--n-positions", "--batch-size",
              "--learning-rate", "--weight-decay", "--seed", "--threads"],
    "prefer": ["--beta", "--batch-size", "--accumulation", "--learning-rate", "--seed", "--threads",
               "--explain"],
}  # fmt: skip
WITHOUT_MODEL = ("map", "sizes", "glossary", "lessons", "practice", "train")
NOTICES = (
    "prompt is empty", "--patch-from is empty", "wrote", "--special", "left out", "is no command",
    "the text is short", "there is no <|endoftext|>", "held-out text", "   ",  # of training
)  # fmt: skip
PAIRS = {
    "pairs": '{"prompt": "I", "chosen": " love", "rejected": " hate"}\n' * 6,
    "types": '{"prompt": 1, "chosen": [], "rejected": null}\n',
    "alike": '{"prompt": "I", "chosen": " love", "rejected": " love"}\n',
    "half": '{"prompt": "I"}\n[]\n\x00',
}


@dataclass(frozen=True)
class Result:
    """How one command line ended; `problem` is empty if it survived."""

    case: int
    words: list[str]
    status: object
    problem: str


def prepare(home: Path) -> dict[str, Path]:
    """The models and the texts that command lines name."""
    config = Config(n_positions=40, n_embd=16, n_layer=3, n_head=2)
    tensors = random_tensors(config)
    good = write_checkpoint(home / "good", config, tensors)
    tensors["ln_f.weight"][...] = 3e38
    too_large = write_checkpoint(home / "too-large", config, tensors)
    contents = {"text": b"I love you so much. " * 30, "not-utf-8": b"I \xff", "empty": b"", "one": b"I"}
    for name, content in (contents | {"nul": b"\0\x1b[31m" * 20}).items():
        (home / f"{name}.txt").write_bytes(content)
    for name, text in PAIRS.items():
        (home / f"{name}.jsonl").write_text(text)
    return {"good": good, "too large": too_large, "none": home}


def command_line(rng: random.Random, home: Path, models: dict[str, Path]) -> list[str]:
    """A command, its arguments and some options."""
    command = rng.choice(["", "", *OPTIONS])
    words = [command] if command else []
    if command == "score":
        words.append(rng.choice([name if name in ("", "-") else str(home / name) for name in FILES]))
    elif command == "break":
        words += [rng.choice(MISTAKES), rng.choice(TEXTS)]
    elif command == "train":
        words += [str(home / rng.choice(FILES)), "--out", str(home / rng.choice(["run", "none", "text.txt"]))]
        words += ["--steps", "1", *rng.choice([[], ["--resume"], ["--from", str(models["good"])]])]
    elif command == "prefer":
        words += [str(home / f"{rng.choice([*PAIRS, 'none'])}.jsonl"), "--steps", "1"]
    elif command == "practice":
        words += rng.choice([[], ["softmax"], ["check", str(home / rng.choice(FILES))], [rng.choice(TEXTS)]])
    elif command not in ("map", "lessons"):
        words.append(rng.choice(TEXTS))
    if command == "gradients":
        words += ["--target", rng.choice(TEXTS)]
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        words += option(command, rng, home)
    if command not in WITHOUT_MODEL:
        words += ["--offline", "--model", str(models[rng.choice(["good"] * 4 + list(models))])]
    return words + (["--json"] if rng.random() < 0.5 else [])


def option(command: str, rng: random.Random, home: Path) -> list[str]:
    """An option of the command with a value, often an impossible one."""
    if OPTIONS[command] and rng.random() < 0.6:
        return [rng.choice(OPTIONS[command]), rng.choice(NUMBERS)]
    if not command:
        page = rng.choice([str(home / "page.html"), str(home), str(home / "none" / "page.html"), "", "\0"])
        one = ["--stop", rng.choice(TEXTS)]
        several = [rng.choice(["--candidates", "--compare"]), rng.choice(TEXTS), rng.choice(TEXTS)]
        model = ["--compare-model", str(home / rng.choice(["good", "too-large", "none"]))]
        other = rng.choice([["--html", page], model])
        if rng.random() < 0.7:
            return rng.choice([one, several, several, other])
    if command == "score" and rng.random() < 0.5:
        return ["--special"]
    if command in ("", "score", "attention", "lens", "attribution"):
        patch = ["--patch", rng.choice(ARRAYS), "--patch-from", rng.choice(TEXTS)]
        token = [rng.choice(["--token", "--against"]), rng.choice(TEXTS)]
        changes = [["--ablate", rng.choice(ARRAYS)], patch, patch[:2]]
        return rng.choice(changes if command in ("", "score") else [*changes, token])
    return ["--unknown"] if rng.random() < 0.1 else []


def try_words(words: list[str], stdin: bytes) -> tuple[object, str]:
    """Run a command line; gives its status, and what is wrong with how it ended."""
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    started = time.perf_counter()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("error")
            status: object = minigpt(words)
    except BaseException as crash:
        status = repr(crash)
    finally:
        sys.stdin = before
    seconds = time.perf_counter() - started
    problem = judge(status, out.getvalue(), err.getvalue(), "--json" in words)
    allowed = SECONDS * max(1.0, out.getvalue().count("\n") / 10_000)
    return status, problem or (f"took {seconds:.1f} s" if seconds > allowed else "")


def judge(status: object, out: str, err: str, as_json: bool) -> str:
    """What is wrong with a status and what was printed, or nothing."""
    notes = sum(not any(words in line for words in NOTICES) for line in err.splitlines())
    if status not in (0, 1, 2):
        return f"ended with {status}: {err}"
    if "a bug in minigpt" in err:
        return err
    if notes != bool(status) or (status and not err.startswith("minigpt: ")):
        return f"status {status}, but it said {err!r}"
    if STEERS.search(out + err):
        return f"steers the terminal: {STEERS.findall(out + err)}"
    if status == 0 and as_json:
        try:
            json.loads(out, parse_constant=lambda name: json.loads(f"no JSON: {name}"))
        except ValueError as error:
            return f"no JSON: {error}"
    return ""


def run_cases(seed: int, cases: list[int]) -> list[Result]:
    """The results of some command lines of a seed."""
    os.environ["COLUMNS"] = "80"
    results = []
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder, contextlib.chdir(folder):
        home = Path(folder)  # `practice` writes into the working folder
        models = prepare(home)
        for case in cases:
            rng = random.Random(f"{seed} {case}")
            words = command_line(rng, home, models)
            status, problem = try_words(words, rng.choice([b"I love\n", b"", b"\xff"]))
            results.append(Result(case, words, status, problem))
    return results


def main() -> int:
    """Run command lines and print how they ended; the exit status is 1 if one did not survive."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--cases", type=int, default=500, help="how many command lines (500)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other command lines (0)")
    parser.add_argument("--case", type=int, help="run this one, and show it")
    args = parser.parse_args()
    cases = list(range(args.cases)) if args.case is None else [args.case]
    results = run_cases(args.seed, cases)
    counts = Counter((result.words[0] if result.words[0] in OPTIONS else "PROMPT") for result in results)
    print(f"seed {args.seed}, {len(results):,} command lines, {len(set(counts))} commands: {dict(counts)}")
    print("exit status:", dict(sorted(Counter(str(result.status) for result in results).items())))
    failed = [result for result in results if result.problem]
    print("failed:", len(failed))
    for result in failed if args.case is None else results:
        print(f"case {result.case}: {result.words}\n  {result.status}: {result.problem}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
