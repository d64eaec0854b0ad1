"""What must hold whatever happens: bad input on every road, many users at once, no network where none is
wanted, extreme numbers, and a tree that cannot run code out of files.

Broken files have tests of their own (test_load.py, test_fuzz.py), broken networks, too (test_hub.py).
"""

import ast
import contextlib
import hashlib
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigpt
from minigpt.checkpoints.find import OFFICIAL
from minigpt.cli.commands import lessons
from minigpt.cli.main import main
from minigpt.generation import generate_batch
from minigpt.model import GPT2
from minigpt.tokenizer import Tokenizer
from scripts.benchmark.checkpoint import random_tensors, write_checkpoint
from scripts.fuzz import command_line as fuzz_command_line
from tests.hub_stub import HubStub, Redirect, Stall, Status
from tests.synthetic import parameters_of, random_gpt2, save_checkpoint

ROOT = Path(__file__).resolve().parent.parent
CONFIG = {"vocab_size": 50257, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 40}
IDS = [40, 1842, 345]
NOT_PRINTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202e]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("model"), **CONFIG)


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_gpt2(**CONFIG)


@pytest.fixture(scope="module")
def too_large(tmp_path_factory: pytest.TempPathFactory, model: GPT2) -> Path:
    """A model whose weights are finite, and whose logits are not."""
    tensors = random_tensors(model.config)
    tensors["ln_f.weight"][...] = 3e38
    return write_checkpoint(tmp_path_factory.mktemp("too-large"), model.config, tensors)


# ----------------------------------------------------------------------- input -> exit status -> message

# Of the command line; the main road's mistakes are in test_main.py. {f} is a folder with a few texts.
COMMAND_LINES = [
    (["attention", ""], 0, ["prompt is empty", "<|endoftext|>"]),
    (["lens", "   "], 0, []),
    (["lens", "<|endoftext|>"], 0, []),
    (["attribution", "\x00\x1b[31m"], 0, []),
    (["attention", "\udcff"], 2, ["PROMPT", "'\\udcff'", "UTF-8", "--help"]),
    (["attention", "word " * 60], 2, ["61 tokens", "context of 40", "shorten"]),
    (["lens", " word" * 41], 2, ["41 tokens", "context of 40", "shorten"]),  # one too many
    (["attention", "I love", "--layer", "3"], 2, ["--layer is 3", "0 to 2"]),
    (["attention", "I love", "--layer", "-1"], 2, ["--layer is -1", "0 to 2"]),
    (["attention", "I love", "--head", "0"], 2, ["--head needs --layer"]),
    (["attention", "I love", "--position", "2"], 2, ["--position is 2", "2 tokens"]),
    (
        ["attention", "I love", "--ablate", "h.9.attn.v"],
        2,
        ["h.9.attn.v", "no hook", "like 'wte', 'h.0.attn.v'"],
    ),
    (["attention", "I love", "--ablate", "h.0.attn.v:x"], 2, ["h.0.attn.v:x", "must be a number", "as in"]),
    (["attention", "I love", "--ablate", "h.0.ln_1.scale"], 2, ["h.0.ln_1.scale set to zero", "not finite"]),
    (["attention", "I love", "--patch", "wte"], 2, ["--patch and --patch-from belong together"]),
    (["lens", "I love", "--top", "0"], 2, ["top is 0", "1 to 50257"]),
    (
        ["attribution", "I love", "--token", ""],
        2,
        ["--token", "0 tokens", "not one", "with the space in front"],
    ),
    (
        ["attribution", "I love", "--token", " several words"],
        2,
        ["--token", "2 tokens (␣several + ␣words)", "not one"],
    ),
    (["break", "nothing", "I love"], 2, ["no mistake called 'nothing'", "`minigpt break list` shows them"]),
    (["break", "erf-gelu", "I love", "-n", "-1"], 2, ["-n", "found '-1'", "0 or above"]),
    (["score", "{f}/none.txt"], 2, ["none.txt: No such file", "give a text file, or -"]),
    (["score", "{f}/bad.txt"], 2, ["bad.txt", "byte 2", "0xff", "save the text as UTF-8"]),
    (["score", "{f}/empty.txt"], 2, ["empty.txt: it is empty", "takes a text"]),
    (["score", "{f}/text.txt", "--stride", "0"], 2, ["stride is 0", "1 to 40"]),
    (["score", "{f}"], 2, ["directory", "give a text file, or -"]),
    (["download", "../gpt2"], 2, ["'../gpt2'", "expected one of gpt2", "owner/name"]),
    (["download", "gpt2", "--unknown"], 2, ["--unknown", "no such option", "`minigpt download --help`"]),
    (["download", "gpt2", "--out", "a\0b"], 2, ["--out", "found", "the name of a file"]),
    (["map", "too", "much"], 2, ["'too'", "too many", "in quotes"]),
]


@pytest.mark.parametrize(
    ("words", "status", "said"), COMMAND_LINES, ids=[" ".join(words)[:40] for words, _, _ in COMMAND_LINES]
)
def test_every_command_explains_bad_input(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    said: list[str],
) -> None:
    (tmp_path / "text.txt").write_text("I love you.", encoding="utf-8")
    (tmp_path / "bad.txt").write_bytes(b"I \xff")
    (tmp_path / "empty.txt").touch()
    words = [word.replace("{f}", str(tmp_path)) for word in words]
    model = [] if words[0] in ("download", "map") else ["--model", str(folder)]
    found = main([*words, *model])
    captured = capsys.readouterr()
    assert found == status, captured.err
    assert captured.err.count("\n") == (status != 0 or bool(said))
    assert not NOT_PRINTED.search(captured.out + captured.err)
    if status:
        assert captured.out == ""
        assert captured.err.startswith("minigpt: ")
    for part in said:
        assert part in captured.err


MODEL = random_gpt2(vocab_size=50257, n_embd=8, n_layer=1, n_head=1, n_positions=8)
TOKENIZER = Tokenizer()
# Of the Python functions: what is called, and what the error says.
CALLS: list[tuple[str, Callable[[], Any], list[str]]] = [
    ("id too large", lambda: MODEL([50257]), ["ids", "50257", "0 to 50256"]),
    ("negative id", lambda: MODEL([-1]), ["ids", "-1", "0 to 50256"]),
    ("float ids", lambda: MODEL([1.0]), ["ids", "float64", "integers"]),
    ("no ids", lambda: MODEL([]), ["ids", "no tokens", "end_of_text"]),
    ("text for ids", lambda: MODEL("I love"), ["ids", "str", "encode"]),
    ("one number for ids", lambda: MODEL(np.array(5)), ["ids", "a row"]),
    ("ragged ids", lambda: MODEL([[1], [1, 2]]), ["ids", "lengths", "pad"]),
    ("huge id", lambda: MODEL([2**70]), ["ids", "integers"]),
    ("one over", lambda: MODEL([1] * 9), ["9 tokens", "context of 8", "shorten"]),
    ("nan", lambda: minigpt.probabilities(np.zeros(3), float("nan")), ["temperature is nan", "finite"]),
    ("cold", lambda: minigpt.probabilities(np.zeros(3), -1), ["temperature is -1", "0 (greedy)"]),
    ("nan logits", lambda: minigpt.probabilities([0.0, np.nan]), ["logits", "nan", "weights"]),
    ("top-p", lambda: minigpt.generate(MODEL, [1], max_new_tokens=1, top_p=0), ["top_p is 0", "above 0"]),
    ("seed", lambda: minigpt.generate(MODEL, [1], max_new_tokens=1, seed=-1), ["seed is -1", "0 or above"]),
    ("count", lambda: minigpt.generate(MODEL, [1], max_new_tokens=-1), ["max_new_tokens is -1"]),
    ("empty", lambda: minigpt.generate(MODEL, [], max_new_tokens=1), ["ids", "no tokens"]),
    ("no logits", lambda: minigpt.probabilities([]), ["logits", "shape (0,)", "numbers"]),
    ("text for logits", lambda: minigpt.probabilities("a"), ["logits", "str", "numbers"]),
    ("hot", lambda: minigpt.probabilities([1.0], 10**400), ["temperature is 1.00e+400", "finite"]),
    (
        "penalty",
        lambda: minigpt.generate(MODEL, [1], max_new_tokens=1, repetition_penalty=1e39),
        ["repetition_penalty is 1e+39", "0.001 to 1000"],
    ),
    (
        "length",
        lambda: minigpt.beam_search(MODEL, [1], num_beams=2, max_new_tokens=1, length_penalty=1000),
        ["length_penalty is 1000", "-10 to 10"],
    ),
    ("ragged text", lambda: minigpt.perplexity(MODEL, [[1], [1, 2]]), ["ids", "lengths", "one row"]),
    ("full", lambda: minigpt.continuation_logprob(MODEL, [1] * 9, []), ["9 tokens", "context of 8"]),
    ("batch", lambda: MODEL.new_cache(-1), ["batch is -1", "0 to 1,000,000"]),
    ("complex", lambda: MODEL([1], hook=lambda name, array: array * 1j), ["wte", "real", "complex64"]),
    ("half", lambda: TOKENIZER.encode("\ud800"), ["text", "U+D800", "surrogate"]),
    ("no id", lambda: TOKENIZER.decode([50257]), ["ids", "50257"]),
    ("no model", lambda: minigpt.load("gpt3"), ["'gpt3'", "gpt2", "folder"]),
    ("no folder", lambda: minigpt.load_model("./nowhere"), ["nowhere", "no such file"]),
]


@pytest.mark.parametrize(("call", "said"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS])
def test_every_function_explains_bad_input(call: Callable[[], Any], said: list[str]) -> None:
    with pytest.raises(minigpt.MiniGPTError) as caught:
        call()
    assert str(caught.value).isprintable()
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_command_lines(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is typed: an answer, or one line that explains, and never a bug."""
    monkeypatch.setattr(fuzz_command_line, "SECONDS", math.inf)  # the long run measures time, a test does not
    results = fuzz_command_line.run_cases(seed, list(range(60)))
    assert not [result for result in results if result.problem]
    assert {result.status for result in results} == {0, 1, 2}


@pytest.mark.parametrize(
    ("ended", "problem"),
    [
        ((0, "{}", "", True), ""),
        ((2, "", "minigpt: x is wrong.\n", False), ""),
        ((3, "", "", False), "ended with 3"),
        (("KeyError()", "", "", False), "ended with KeyError"),
        ((1, "", "minigpt: a bug in minigpt: KeyError\n", False), "minigpt: a bug"),
        ((1, "", "", False), "status 1, but it said"),
        ((2, "", "minigpt: x\nminigpt: y\n", False), "status 2, but it said"),
        ((0, "", "RuntimeWarning\n", False), "status 0, but it said"),
        ((0, "\x1b[31m", "", False), "steers the terminal"),
        ((0, '{"logit": NaN}', "", True), "no JSON"),
    ],
)
def test_what_the_fuzzer_of_command_lines_notices(ended: tuple[Any, ...], problem: str) -> None:
    assert fuzz_command_line.judge(*ended).startswith(problem)
    assert bool(fuzz_command_line.judge(*ended)) == bool(problem)


def test_a_hundred_megabytes_on_standard_input(folder: Path, tmp_path: Path) -> None:
    with (tmp_path / "long.txt").open("wb") as file:
        file.write(b"word " * 20_000_000)
    for command in ([], ["lens"]):
        with (tmp_path / "long.txt").open("rb") as file:
            done = minigpt_process(*command, "-", "--model", str(folder), stdin=file)
        assert (done.returncode, done.stdout) == (2, "")
        assert "standard input: more than 32 MiB; give a shorter text" in done.stderr
    with (tmp_path / "long.txt").open("ab") as file:
        file.write(b"\xff")  # `score` takes a text of any length: of this one it reads all, and then says no
    with (tmp_path / "long.txt").open("rb") as file:
        done = minigpt_process("score", "-", "--model", str(folder), stdin=file)
    assert (done.returncode, done.stdout) == (2, "")
    assert "standard input: byte 100,000,000 is 0xff, and not UTF-8; save the text as UTF-8" in done.stderr


# --------------------------------------------------------------------------------------------- terminals


def minigpt_process(
    *words: str, env: dict[str, str] | None = None, **kwargs: Any
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(env or {})}
    command = [sys.executable, "-m", "minigpt", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "timeout": 60}
    return subprocess.run(command, env=environment, check=False, **{**pipes, **kwargs})


@pytest.mark.parametrize("module", ["numpy", "typing", "json", "rich", "argparse", "safetensors", "random"])
def test_a_module_in_the_working_folder_is_not_run(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text("raise SystemExit('somebody else runs')")
    done = minigpt_process("tokens", "I love", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1842" in done.stdout


def test_an_import_leaves_the_path_alone(tmp_path: Path) -> None:
    code = "import sys; before = [*sys.path]; import minigpt; assert sys.path == before and minigpt.Config()"
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )


def test_a_package_in_the_working_folder_is_the_one_that_runs(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "minigpt", tmp_path / "minigpt", ignore=shutil.ignore_patterns("__pycache__"))
    init = tmp_path / "minigpt" / "__init__.py"
    init.write_text(
        init.read_text(encoding="utf-8").replace('__version__ = "', '__version__ = "here '), encoding="utf-8"
    )
    assert "here" in minigpt_process("--version", cwd=tmp_path).stdout


ASCII = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "TERM": "dumb", "COLUMNS": "20"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has code pages instead of locales; see test_terminal.py")
@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ("PROMPT --model FOLDER", lambda found: [str(token["id"]) for token in found["tokens"]]),
        ("attention PROMPT --model FOLDER", lambda found: [
            f":{min(99, round(100 * max(head[-1])))}" for layer in found["weights"] for head in layer
        ]),
        ("lens PROMPT --model FOLDER", lambda found: [
            f"{100 * depth['positions'][-1][0]['probability']:.0f}" for depth in found["depths"]
        ]),
        ("attribution PROMPT --model FOLDER", lambda found: [
            f"{found['sum']:.6f}", *(f"{found['parts'][f'h.{layer}.mlp']:+.2f}" for layer in range(3))
        ]),
        ("break no-mask PROMPT -n 1 --model FOLDER", lambda found: [
            f"{row['logit']:.2f}"
            for side in ("right", "wrong") for row in found["mistakes"][0][side]["next_tokens"]
        ]),
        ("map", lambda found: [stage["where"] for stage in found]),
        ("verify --model tiny", lambda found: [
            f"{row[name]:.1e}" for row in found["tensors"] for name in ("float32", "float32_tolerance")
        ]),
        ("score FILE --top 2 --model FOLDER", lambda found: [
            *(f"{found[name]:,.2f}" for name in ("perplexity", "bits_per_token", "bits_per_byte")),
            *(str(row["position"]) for row in found["most_surprising"]),
        ]),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)  # fmt: skip
def test_an_ascii_locale_of_20_columns(
    folder: Path, tmp_path: Path, words: str, numbers: Callable[[Any], list[str]]
) -> None:
    """UTF-8 in the arguments is understood, what is printed is ASCII, and no number is left out."""
    file = tmp_path / "text.txt"
    file.write_text("It was the best of times, it was the worst of times.", encoding="utf-8")
    for prompt in ("I love é日", "I love"):
        typed = {"PROMPT": prompt, "FILE": str(file), "FOLDER": str(folder)}
        command = [typed.get(word, word) for word in words.split()]
        done, document = (minigpt_process(*command, *json_, env=ASCII) for json_ in ([], ["--json"]))
        assert (done.returncode, done.stderr) == (0, "")
        assert (done.stdout + document.stdout).isascii()
        assert "\x1b" not in done.stdout
        if words.startswith("PROMPT"):
            assert json.loads(document.stdout)["prompt"] == prompt
        if "PROMPT" not in words:
            break
    assert max(map(len, done.stdout.splitlines())) <= 20  # é has to be spelled out: \xe9
    for number in numbers(json.loads(document.stdout)):
        assert any(number in word for word in done.stdout.split()), number


STEERING_FOLDER = [
    "PROMPT --model HERE/model", "PROMPT --model HERE/model --json", "PROMPT --model HERE/none",
    "PROMPT --model HERE/model --compare-model HERE/model", "PROMPT --model HERE/weights.bin",
    "PROMPT --model HERE/model --html HERE/page.html", "PROMPT --model HERE/model --html HERE/no/page.html",
    "tokens PROMPT --model HERE/model", "score HERE/text.txt --model HERE/model", "score HERE/none",
    "sizes HERE/model", "sizes HERE/none", "verify --model HERE/model", "lessons",
    "practice check HERE/text.txt", "practice check HERE/none.py", "practice HERE",
    "download owner/name --out HERE", "download HERE", "prefer HERE/none --model HERE/model",
    "prefer demo --model HERE/model --steps 1 --threads 1 --out HERE/kind",
    "prefer demo --model HERE/model --explain 1 --html HERE/pair.html",
    "train HERE/text.txt --out HERE/run --steps 1 --n-layer 1 --n-embd 8 --n-head 1 --vocab-size 256 "
    "--threads 1 --html HERE/curve.html",
    "train --out HERE/run --resume", "train --out HERE/model --resume",
    "train HERE/none --out HERE/new --steps 1",
]  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_the_name_of_a_folder_steers_no_terminal(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "a\x1b[31mb\nc\u202e"
    shutil.copytree(folder, here / "model")
    (here / "text.txt").write_text("I love you so much. " * 40, encoding="utf-8")
    (here / "weights.bin").touch()
    (here / "docs").symlink_to(ROOT / "docs")
    monkeypatch.setattr(lessons, "ROOT", here)
    for line in STEERING_FOLDER:
        words = [{"PROMPT": "I love"}.get(word, word.replace("HERE", str(here))) for word in line.split()]
        assert main(words) in (0, 1, 2)
        out, err = capsys.readouterr()
        assert not NOT_PRINTED.search(out + err), line
        assert out + err
        assert "bug" not in err, err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file names that are not text")
def test_a_page_whose_name_is_not_text(folder: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/p\xe9.html"
    try:
        Path(os.fsdecode(name)).touch()
    except OSError:
        pytest.skip("this file system has no names that are not UTF-8")
    words = ["I love", "--html", os.fsdecode(name), "--model", str(folder), "--json"]
    for env in (ASCII, {}):
        done = minigpt_process(*words, env=env)
        assert done.returncode == 0, done.stderr
        assert done.stderr.endswith(".html; open it in a browser.\n")


@pytest.mark.skipif(os.name == "nt", reason="shells of POSIX")
@pytest.mark.parametrize("closed", ["<&-", "2>&-", ">&- 2>&-"])
def test_closed_streams(folder: Path, closed: str) -> None:
    for words, status in (("'I love'", 0), ("'I love' --json", 0), ("x --top 0", 2)):
        shell = f"exec '{sys.executable}' -m minigpt {words} --model '{folder}' {closed}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            ["sh", "-c", shell],
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


# Waits at the first event of Python's audit that matches, or goes on there at once, and tells of it.
STAGED = """
import os, re, sys, time
stage, pause, told = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
reached = []
def note(event, args):
    if not reached and re.fullmatch(stage, f"{event} {args[0] if args else None}"):
        reached.append(event)
        os.write(told, b"x")
        time.sleep(pause)
sys.addaudithook(note)
sys.argv[1:] = sys.argv[4:]
from minigpt.__main__ import main
sys.exit(main())
"""
HERE = 60.0  # seconds: it is interrupted where it stands
STORY = ["I love", "--top", "3", "-n", "3", "--html", "page.html"]
STAGES = [
    ("import minigpt.cli.main", HERE, STORY),
    ("import minigpt.cli.options", HERE, STORY),
    ("open .*commands.*attention.*", HERE, ["attention", "I love"]),
    ("import numpy", HERE, STORY),
    ("import numpy._core._multiarray_umath", HERE, STORY),
    ("import numpy.linalg", HERE, STORY),
    ("import tiktoken", HERE, STORY),
    ("open .*config.json", HERE, STORY),
    ("open .*model.safetensors", HERE, STORY),
    ("import minigpt.page.build", HERE, STORY),
    (r"open .*\.minigpt-\w+\.tmp", HERE, STORY),  # the page, before its first byte
    (r"os.rename .*\.minigpt-\w+\.tmp", HERE, STORY),  # and after its last
    ("import rich.console", HERE, ["I love"]),
    ("open .*cli.*story.*", 0.0, ["I love", "--compare", *["I hate"] * 5000]),  # computes for long
    ("import minigpt.generation", 0.0, ["I love", "-n", "38", "--json", "--compare", *["I hate"] * 3000]),
    ("open .*text.txt", HERE, ["score", "text.txt"]),
    ("import minigpt.scoring", 0.0, ["score", "text.txt"]),
    ("open .*data.reference.json", HERE, ["verify", "--offline"]),
    ("open .*tiny.model.safetensors", HERE, ["verify", "--offline"]),
]


@contextlib.contextmanager
def heeded_interrupts() -> Iterator[None]:
    """Children inherit that SIGINT is ignored, as it is where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize(("stage", "pause", "words"), STAGES, ids=[stage for stage, _, _ in STAGES])
def test_ctrl_c_at_every_stage(
    folder: Path, tmp_path: Path, stage: str, pause: float, words: list[str]
) -> None:
    """While it imports, loads, computes, writes the page, scores: 130, and nothing but the end of a line."""
    (tmp_path / "text.txt").write_text("I love you. " * 100_000, encoding="utf-8")
    model = [] if words[0] == "verify" else ["--model", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    reached, told = os.pipe()
    with heeded_interrupts():
        process = subprocess.Popen(
            [sys.executable, "-c", STAGED, stage, str(pause), str(told), *words, *model],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[told],
        )  # fmt: skip
    os.close(told)
    there = os.read(reached, 1)  # nothing, if it ended without coming there
    os.close(reached)
    if there:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert there, err
    assert process.returncode == 130, err
    assert out == b""
    assert err == (b"" if stage in ("import minigpt.cli.main", "import minigpt.cli.options") else b"\n")
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]  # no page, and no half of one


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["I love", "--top", "50000"], b"Softmax makes them probabilities"),  # the table fills the pipe
        (["I love", "-n", "38", "--compare", *["I hate"] * 400], b"The model goes on, token after token"),
    ],
    ids=["printing the story", "generating"],
)
def test_ctrl_c_while_it_prints(folder: Path, words: list[str], line: bytes) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with heeded_interrupts():
        process = subprocess.Popen(
            [sys.executable, "-m", "minigpt", *words, "--model", str(folder)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert process.stdout
    assert any(line in printed for printed in process.stdout)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == b"\n"


# --------------------------------------------------------------------------------------------- many at once


def fingerprint(model: GPT2, seed: int) -> str:
    """What many calls of one user give, to the last bit."""
    digest = hashlib.sha256()
    digest.update(model(IDS).tobytes())
    digest.update(model([IDS, [seed, 7, 8]]).tobytes())
    digest.update(repr(minigpt.generate(model, IDS, max_new_tokens=12, seed=seed).ids).encode())
    for generation in generate_batch(model, [IDS, [5]], max_new_tokens=6, seed=[seed, seed]):
        digest.update(repr(generation.ids).encode())
    digest.update(minigpt.inspection.trace(model, IDS)["h.1.attn.weights"].tobytes())
    return digest.hexdigest()


def test_sixteen_threads_share_a_model(model: GPT2) -> None:
    alone = [fingerprint(model, seed) for seed in range(16)]
    start = threading.Barrier(16)

    def user(seed: int) -> list[str]:
        start.wait()
        return [fingerprint(model, seed) for _ in range(3)]

    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(user, range(16)))
    assert together == [[one] * 3 for one in alone]


def test_four_processes_share_a_folder(folder: Path) -> None:
    words = ["I love", "--model", str(folder), "--json", "-n", "10", "--seed", "1", "--candidates", " you"]
    alone = minigpt_process(*words).stdout
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda _: minigpt_process(*words).stdout, range(4)))
    assert alone
    assert together == [alone] * 4


# ------------------------------------------------------------------------------------------------ networks

# Tells of everything that a program does with sockets, before it does it.
WATCHED = """
import sys
def note(event, args):
    if event.startswith(("socket.", "urllib.")):
        where = args[1] if event == "socket.connect" else args[0] if event == "socket.getaddrinfo" else ""
        print("EVENT", event, where, file=sys.stderr, flush=True)
sys.addaudithook(note)
from minigpt.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


NO_OFFICIAL_WEIGHTS = "from minigpt.checkpoints import find; find.official_here = lambda name: None\n"


def watched(
    *words: str, cwd: Path, program: str = WATCHED, **env: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a command line; gives what it ended with, and its network events."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
    }
    environment = {
        **clean,
        "PYTHONPATH": str(ROOT),
        "HF_HOME": str(cwd / "hf"),
        "OMP_NUM_THREADS": "1",
        **env,
    }
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip
    return done, [line for line in done.stderr.splitlines() if line.startswith("EVENT")]


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["I love", "--offline"], {}),
        (["I love"], {"HF_HUB_OFFLINE": "1"}),
        (["I love"], {"TRANSFORMERS_OFFLINE": "1"}),
        (["I love", "--offline", "--model", "gpt2-xl"], {}),
        (["I love", "--offline", "--model", "owner/name"], {}),
        (["score", "text.txt", "--offline"], {}),
        (["verify", "--offline"], {}),
        (["I love", "--model", "FOLDER", "--html", "page.html", "-n", "3"], {}),  # a folder needs no network
        (["lens", "I love", "--model", "FOLDER"], {}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_offline_opens_no_socket(folder: Path, tmp_path: Path, words: list[str], env: dict[str, str]) -> None:
    (tmp_path / "text.txt").write_text("I love you.", encoding="utf-8")
    done, events = watched(*[word.replace("FOLDER", str(folder)) for word in words], cwd=tmp_path, **env)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert not events


def test_the_watch_sees_what_is_online(tmp_path: Path) -> None:
    """Without it the test above would prove nothing."""
    _, events = watched("I love", "--model", "gpt2-xl", cwd=tmp_path, HF_ENDPOINT="http://127.0.0.1:1")
    assert any("socket.connect ('127.0.0.1', 1)" in event for event in events)


@pytest.fixture
def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def stub(files: dict[str, bytes]) -> Iterator[HubStub]:
    with HubStub() as hub:
        hub.add("owner/name", files)
        yield hub


def test_only_the_hub_and_where_it_directs_to_is_contacted(stub: HubStub, tmp_path: Path) -> None:
    telling = {"HF_ENDPOINT": stub.endpoint, "AI_AGENT": "somebody"}  # which the client would tell of
    done, events = watched("download", "owner/name", cwd=tmp_path, **telling)
    assert done.returncode == 0, done.stderr
    asked = {request.path.partition("?")[0] for request in stub.requests}
    assert all(path.startswith("/api/models/owner/name/") or "/resolve/" in path for path in asked), asked
    assert not any("agent" in request.headers["user-agent"] for request in stub.requests)
    connected = {event for event in events if "socket.connect" in event}
    assert connected
    assert all(f", {stub.port}" in event for event in connected)
    resolved = {event.split()[-1] for event in events if "getaddrinfo" in event}
    assert resolved <= {"127.0.0.1", "localhost"}
    done, events = watched("I love", "--model", "owner/name", cwd=tmp_path, HF_ENDPOINT=stub.endpoint)
    assert done.returncode == 0, done.stderr
    assert not events  # what is here is used without a look at the network


@pytest.mark.parametrize("here", [False, True], ids=["the Hub has none", "the Hub has another"])
def test_the_default_asks_the_hub_and_nobody_else(
    stub: HubStub, files: dict[str, bytes], tmp_path: Path, here: bool
) -> None:
    """What `I love` alone does where there is no gpt2: the probe, and the download if it is answered."""
    official = OFFICIAL["gpt2"]
    if here:
        stub.add(official.repository, files, official.revision)
    done, events = watched(
        "I love", cwd=tmp_path, HF_ENDPOINT=stub.endpoint, program=NO_OFFICIAL_WEIGHTS + WATCHED
    )
    assert done.returncode == here, done.stderr
    assert ("using `tiny`" in done.stderr) != here
    connected = [event for event in events if "socket.connect" in event]
    assert connected
    assert all(f", {stub.port}" in event for event in connected)
    resolved = {event.split()[-1] for event in events if "getaddrinfo" in event}
    assert resolved <= {"127.0.0.1", "localhost"}
    assert stub.asked("model.safetensors", "HEAD")
    assert bool(stub.asked("/storage/")) == here


def test_a_hub_that_cannot_be_resolved(tmp_path: Path) -> None:
    done, _ = watched("I love", "--model", "gpt2-xl", cwd=tmp_path, HF_ENDPOINT="http://hub.invalid")
    assert done.returncode == 1
    assert "gpt2-xl" in done.stderr
    assert "http://hub.invalid failed" in done.stderr
    assert "--model tiny" in done.stderr


def test_a_redirect_to_another_scheme_reads_no_file(stub: HubStub, tmp_path: Path) -> None:
    stub.faults["config.json"] = [Redirect("file:///etc/passwd")] * 50
    done, _ = watched("download", "owner/name", cwd=tmp_path, HF_ENDPOINT=stub.endpoint)
    assert done.returncode == 1
    assert "owner/name" in done.stderr
    assert "root:" not in done.stdout + done.stderr


@pytest.mark.parametrize("proxied", ["ALL_PROXY", "HTTP_PROXY"])
def test_the_decision_and_the_download_go_through_the_same_proxy(
    stub: HubStub, files: dict[str, bytes], tmp_path: Path, proxied: str
) -> None:
    """The endpoint is not reachable without it; what comes is not the official gpt2, and so refused."""
    official = OFFICIAL["gpt2"]
    stub.add(official.repository, files, official.revision)
    env = {"HF_ENDPOINT": "http://hub.invalid", proxied: stub.endpoint}
    done, _ = watched("I love", cwd=tmp_path, program=NO_OFFICIAL_WEIGHTS + WATCHED, **env)
    assert done.returncode == 1, done.stderr
    assert f"expected {official.weights_sha256}" in done.stderr
    stub.faults["HEAD model.safetensors"] = [Status(407)] * 10
    done, _ = watched("I love", cwd=tmp_path, program=NO_OFFICIAL_WEIGHTS + WATCHED, **env)
    assert done.returncode == 0, done.stderr
    assert "the proxy asks for a password" in done.stderr


@pytest.mark.parametrize("error", [-1000, 1000])
def test_a_length_that_is_not_the_promised_one(
    stub: HubStub, files: dict[str, bytes], tmp_path: Path, error: int
) -> None:
    stub.sizes["model.safetensors"] = len(files["model.safetensors"]) + error
    done, _ = watched("download", "owner/name", cwd=tmp_path, HF_ENDPOINT=stub.endpoint)
    assert done.returncode == 1
    assert "owner/name" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "hf").rglob("snapshots/*/model.safetensors"))
    stub.sizes.clear()
    done, _ = watched("download", "owner/name", cwd=tmp_path, HF_ENDPOINT=stub.endpoint)
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / "model.safetensors").read_bytes() == files["model.safetensors"]


def start_download(stub: HubStub, cwd: Path, *options: str) -> subprocess.Popen[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {**clean, "PYTHONPATH": str(ROOT), "HF_HOME": str(cwd / "hf"), "HF_ENDPOINT": stub.endpoint}
    environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "1"  # seconds in which nothing comes
    command = [sys.executable, "-m", "minigpt", "download", "owner/name", *options]
    with heeded_interrupts() if os.name != "nt" else contextlib.nullcontext():
        return subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_half_way_through_a_download(stub: HubStub, files: dict[str, bytes], tmp_path: Path) -> None:
    stub.faults["GET model.safetensors"] = [Stall(after=100_000)]
    process = start_download(stub, tmp_path)
    assert stub.stalled.wait(30)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert not list((tmp_path / "hf").rglob("snapshots/*/model.safetensors"))
    again = start_download(stub, tmp_path)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    found = Path(out.decode().strip()) / "model.safetensors"
    assert found.read_bytes() == files["model.safetensors"]


def test_two_processes_download_each_file_once(
    stub: HubStub, files: dict[str, bytes], tmp_path: Path
) -> None:
    both = [start_download(stub, tmp_path) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert (Path(out.decode().strip()) / "model.safetensors").read_bytes() == files["model.safetensors"]
    stored = [request for request in stub.asked("model.safetensors") if "/storage/" in request.path]
    assert len(stored) == 1


def test_two_processes_download_into_one_folder(
    stub: HubStub, files: dict[str, bytes], tmp_path: Path
) -> None:
    """The second begins while the first has half of the weights, and both end well."""
    stub.faults["GET model.safetensors"] = [Stall(after=100_000)]
    out = tmp_path / "out"
    first = start_download(stub, tmp_path, "--out", str(out))
    assert stub.stalled.wait(30)
    assert all(path.name.startswith(".download-") for path in out.iterdir())
    second = start_download(stub, tmp_path, "--out", str(out))
    for process in (second, first):
        said, err = process.communicate(timeout=60)
        assert (process.returncode, said.decode().strip()) == (0, str(out)), err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files


# Where a disk of one's own is promised, its absence is a failure.
DISK_PROMISED = bool(os.environ.get("MINIGPT_NEEDS_MOUNT"))


def as_root(*command: str) -> str:
    """Run a command as root; returns why that cannot be."""
    if not hasattr(os, "geteuid"):
        return "there is no root"
    sudo = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    try:
        done = subprocess.run([*sudo, *command], capture_output=True, encoding="utf-8", check=False)
    except OSError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of half a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    if problem := as_root("mount", "-t", "tmpfs", "-o", "size=512k,mode=777", "tmpfs", str(place)):
        (pytest.fail if DISK_PROMISED else pytest.skip)(
            f"a small disk needs the right to mount one: {problem}"
        )
    yield place
    assert not as_root("umount", str(place))


def test_a_disk_that_is_full(stub: HubStub, small_disk: Path, tmp_path: Path) -> None:
    """Told before the download begins, where the Hub says how large a file is."""
    env = {"HF_ENDPOINT": stub.endpoint, "HF_HOME": str(small_disk)}
    done, _ = watched("download", "owner/name", cwd=tmp_path, **env)
    assert done.returncode == 1
    assert "bytes are needed" in done.stderr
    assert "HF_HOME" in done.stderr
    assert not stub.asked("/storage/")
    assert not list(small_disk.rglob("*.safetensors"))


def test_a_copy_that_does_not_fit(folder: Path, stub: HubStub, small_disk: Path, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": stub.endpoint}
    done, _ = watched("download", "owner/name", "--out", str(small_disk / "copy"), cwd=tmp_path, **env)
    assert done.returncode == 1
    assert "bytes are needed" in done.stderr
    assert "--out" in done.stderr
    assert not list((small_disk / "copy").iterdir())


def test_a_disk_that_cannot_be_written(stub: HubStub, small_disk: Path, tmp_path: Path) -> None:
    assert not as_root("mount", "-o", "remount,ro", str(small_disk))
    env = {"HF_ENDPOINT": stub.endpoint, "HF_HOME": str(small_disk)}
    done, _ = watched("download", "owner/name", cwd=tmp_path, **env)
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    assert "HF_HOME" in done.stderr


# ------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-8, 1.0, 1e8, 1e308])
@pytest.mark.parametrize("logits", [
    [0.0, 0.0], [3e38, -3e38], [-3e38, -3e38], [1e308, -1e308], [-1e308, -1e308, -np.inf], [1e-45, 0.0],
])  # fmt: skip
def test_extreme_logits_have_probabilities(logits: list[float], temperature: float) -> None:
    p = minigpt.probabilities(logits, temperature)
    assert np.isfinite(p).all()
    assert p.sum() == pytest.approx(1.0)
    assert p.argmax() == np.argmax(logits)


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-20, 1e10, 1e18, 1e19, 1e30, 1e36])
def test_weights_near_the_limit_of_float32(model: GPT2, scale: float) -> None:
    """Either probabilities that sum to one, or an error that speaks of the weights; never a warning."""
    tensors = {name: array * np.float32(scale) for name, array in random_tensors(model.config).items()}
    extreme = GPT2(model.config, parameters_of(tensors, model.config))
    for logits in (extreme(IDS), extreme([IDS, IDS])[0], extreme(IDS, hook=lambda name, array: array)):
        try:
            p = minigpt.probabilities(logits, 0.7)
        except minigpt.MiniGPTError as error:
            told = str(error)
            assert "too large" in told
            assert not np.isfinite(logits).all()
        else:
            np.testing.assert_allclose(p.sum(axis=-1), 1.0)
    with contextlib.suppress(minigpt.MiniGPTError):
        assert len(list(minigpt.generate(extreme, IDS, max_new_tokens=3, seed=1))) == 3


@pytest.mark.parametrize("words", [
    ["I love"], ["I love", "--json"], ["I love", "-n", "3"], ["attention", "I love"], ["attention",
    "I love", "--json"],
    ["lens", "I love"], ["lens", "I love", "--json"], ["attribution", "I love"], ["attribution", "I love",
    "--json"],
    ["break", "erf-gelu", "I love"], ["score", "-"],
], ids=" ".join)  # fmt: skip
def test_every_command_says_that_weights_are_too_large(
    too_large: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"I love you")))
    status = main([*words, "--model", str(too_large)])
    captured = capsys.readouterr()
    if words[0] == "attention":  # its weights are computed before the last layer norm, and are fine
        assert (status, captured.err) == (0, "")
        assert "I" in captured.out
        if "--json" in words:
            weights = np.array(json.loads(captured.out, parse_constant=pytest.fail)["weights"])
            np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-5)
        return
    assert status == 1
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "too large" in captured.err
    assert "bug" not in captured.err


# ----------------------------------------------------------------------------------------------- the tree

# These run the project's own code, or the file that a learner wrote and asks to be checked.
RUN_OWN_CODE = {
    ROOT / "scripts" / "docs" / "update.py",
    ROOT / "minigpt" / "practice" / "exercise.py",
    ROOT / "minigpt" / "practice" / "process.py",
}
SOURCES = sorted(
    path
    for folder in ("minigpt", "scripts")
    for path in (ROOT / folder).rglob("*.py")
    if path not in RUN_OWN_CODE
)
RUNS_CODE = {"eval", "exec", "compile", "__import__"}
READS_CODE = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "subprocess",
    "ctypes",
    "runpy",
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_code_out_of_data(path: Path) -> None:
    """Neither the package nor the scripts, which may start other programs."""
    forbidden = READS_CODE if path.is_relative_to(ROOT / "minigpt") else READS_CODE - {"subprocess"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            assert not (isinstance(called, ast.Name) and called.id in RUNS_CODE), ast.unparse(node)
            assert ast.unparse(called) not in {"os.system", "os.popen"}
            trusted = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert trusted.get("trust_remote_code", "False") == "False"
            assert trusted.get("allow_pickle", "False") == "False"
            assert trusted.get("shell", "False") == "False"
            if ast.unparse(called) == "torch.load":  # a pickle, of which only numbers may be read
                assert trusted.get("weights_only") == "True"
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {module.split(".")[0] for module in modules} & forbidden


def test_the_oldest_dependencies_are_those_of_the_project() -> None:
    """tests/oldest.txt pins what pyproject.toml allows at least; a later patch release counts."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["plot"]
    pinned = dict(
        re.findall(r"^([\w-]+)==([\d.]+)", (ROOT / "tests" / "oldest.txt").read_text("utf-8"), re.M)
    )
    for dependency in wanted:
        name, _, lowest = dependency.partition(">=")
        assert lowest, f"{dependency} has no lower bound"
        assert f"{pinned[name]}.".startswith(f"{lowest}."), name
