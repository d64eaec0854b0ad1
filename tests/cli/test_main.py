"""The command line: what each road prints, what each mistake says, and how the program ends."""

import dataclasses
import inspect
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

import minigpt
from minigpt.cli import main as cli
from minigpt.cli import passes
from minigpt.cli.main import main
from minigpt.model import GPT2
from minigpt.tokenizer import Tokenizer
from scripts.benchmark.checkpoint import random_tensors, write_checkpoint
from tests.cli.conftest import Run

PROGRAM = (sys.executable, "-m", "minigpt")


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    scores = logits.astype(np.float64) / temperature
    e = np.exp(scores - scores.max())
    return e / e.sum()


# ------------------------------------------------------------------------------------------------- --json


def test_the_document_has_the_keys_that_were_asked_for_and_no_others(document: Run, folder: Path) -> None:
    found = document("I love")
    assert list(found) == ["model", "prompt", "tokens", "temperature", "next_tokens"]
    assert found["model"] == {
        "name": str(folder),
        "source": f"local folder {folder}",
        "n_parameters": 50257 * 16 + 40 * 16 + 3 * (12 * 16 * 16 + 13 * 16) + 2 * 16,
        "n_layer": 3,
        "n_head": 2,
        "n_embd": 16,
        "n_positions": 40,
        "vocab_size": 50257,
    }
    assert found["prompt"] == "I love"
    assert found["tokens"] == [
        {"position": 0, "id": 40, "text": "I"},
        {"position": 1, "id": 1842, "text": " love"},
    ]
    assert found["temperature"] == 1.0
    asked = document("I love", "--candidates", " you", "--compare", "I hate", "-n", "2")
    assert set(asked) - set(found) == {"candidates", "comparisons", "generated"}


@pytest.mark.parametrize("temperature", ["1", "0.7", "3", "1e-8", "1e8"])
def test_next_tokens(document: Run, model: GPT2, temperature: str) -> None:
    logits = model([40, 1842])[-1]
    p = softmax(logits, float(temperature))
    rows = document("I love", "--temperature", temperature, "--top", "5")["next_tokens"]
    order = np.argsort(-logits, kind="stable")[:5]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["id"] for row in rows] == order.tolist()
    for row in rows:
        assert list(row) == ["rank", "id", "text", "logit", "probability"]
        assert row["text"] == Tokenizer().token_text(row["id"])
        assert row["logit"] == pytest.approx(float(logits[row["id"]]), rel=1e-5)
        assert row["probability"] == pytest.approx(p[row["id"]], rel=1e-3)


def test_temperature_0_gives_everything_to_the_argmax(document: Run) -> None:
    rows = document("I love", "--temperature", "0", "--top", "3")["next_tokens"]
    assert [row["probability"] for row in rows] == [1.0, 0.0, 0.0]


def test_cuts_do_not_touch_the_probabilities(document: Run) -> None:
    cut = document("I love", "--top-k", "2", "--top-p", "0.5", "--min-p", "0.1")
    assert cut["next_tokens"] == document("I love")["next_tokens"]


def test_candidates(document: Run, model: GPT2) -> None:
    logits = model([40, 1842, 345, 523])  # I love you so
    one, several = document("I love", "--candidates", " you", " you so much", "--temperature", "2")[
        "candidates"
    ]
    assert list(one) == ["text", "ids", "logit", "probability", "rank", "logprob"]
    assert (one["text"], one["ids"]) == (" you", [345])
    assert (several["text"], several["ids"]) == (" you so much", [345, 523, 881])
    for row in (one, several):  # logit, probability and rank are the first token's
        assert row["logit"] == pytest.approx(float(logits[1, 345]), rel=1e-5)
        assert row["probability"] == pytest.approx(softmax(logits[1], 2)[345], rel=1e-4)
        assert row["rank"] == 1 + np.count_nonzero(logits[1] > logits[1, 345])
    steps = [math.log(softmax(logits[t], 1)[i]) for t, i in ((1, 345), (2, 523), (3, 881))]
    assert one["logprob"] == pytest.approx(steps[0], rel=1e-5)
    assert several["logprob"] == pytest.approx(sum(steps), rel=1e-5)


def test_comparisons_are_the_same_documents(document: Run) -> None:
    options = ("--candidates", " you", " it", "--temperature", "0.5", "--top", "3")
    found = document("I love", *options, "--compare", "I hate", "")
    for comparison, prompt in zip(found["comparisons"], ["I hate", ""], strict=True):
        alone = document(prompt, *options)
        del alone["model"]
        assert comparison == alone
    assert found["candidates"][0]["logit"] != found["comparisons"][0]["candidates"][0]["logit"]


def test_generated(document: Run, model: GPT2) -> None:
    found = document("I love", "-n", "6", "--seed", "3", "--top-k", "50", "--temperature", "0.8")["generated"]
    expected = minigpt.generate(model, [40, 1842], max_new_tokens=6, seed=3, top_k=50, temperature=0.8)
    assert found["ids"] == list(expected)
    assert found["text"] == Tokenizer().decode(found["ids"])
    assert found["stop_reason"] == "max_new_tokens"


def test_generation_ends_at_a_stop_text_and_at_the_end_of_the_context(document: Run) -> None:
    whole = document("I love", "-n", "100", "--temperature", "0")["generated"]
    assert whole["stop_reason"] == "context_full"
    middle = whole["text"][len(whole["text"]) // 2 :][:3]
    cut = document("I love", "-n", "100", "--temperature", "0", "--stop", "never", "--stop", middle)[
        "generated"
    ]
    assert cut["stop_reason"] == "stop_text"
    assert cut["text"] == whole["text"][: whole["text"].index(middle)]


def test_an_empty_prompt_starts_from_end_of_text(document: Run) -> None:
    found = document("")
    assert found["prompt"] == ""
    assert found["tokens"] == [{"position": 0, "id": 50256, "text": "<|endoftext|>"}]


@pytest.mark.parametrize("prompt", ["<|endoftext|>", "   ", "\x00\x1b[31m", "日本語 👩‍🚀", "[red]", "a\nb"])
def test_a_prompt_is_text_and_nothing_else(document: Run, prompt: str) -> None:
    found = document(prompt)
    assert found["prompt"] == prompt
    assert [token["id"] for token in found["tokens"]] == Tokenizer().encode(prompt)
    assert 50256 not in Tokenizer().encode(prompt)


# ------------------------------------------------------------------------------------------ standard input


def pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))


@pytest.mark.parametrize(
    ("data", "prompt"),
    [
        (b"I love", "I love"),
        (b"I love\n", "I love"),  # as echo ends it
        (b"I love\r\n", "I love"),
        (b"I love\n\n", "I love\n"),
        ("é😀".encode(), "é😀"),  # UTF-8, whatever the locale
        (b"", ""),
        (b"score", "score"),
    ],
)
def test_standard_input(document: Run, monkeypatch: pytest.MonkeyPatch, data: bytes, prompt: str) -> None:
    pipe(monkeypatch, data)
    assert document("-")["prompt"] == prompt


def test_standard_input_that_is_not_text(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"I \xff")
    assert "standard input: byte 2 is 0xff, and not UTF-8" in run("-", status=2).err
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input" in run("-", status=2).err


def test_a_very_long_standard_input_is_refused_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"a" * 20_000_000)  # encoding it would take minutes
    message = run("-", status=2).err
    assert "at least 156,250 tokens" in message
    assert "context of 40" in message


# ---------------------------------------------------------------------------------------------- mistakes

MISTAKES = [
    ([], ["missing: PROMPT", "--help"]),
    (["I", "love"], ["'love'", "quotes"]),
    (["x", "--temprature", "1"], ["--temprature", "--temperature"]),
    (["x", "--temp", "1"], ["--temp:", "no such option; is it --temperature?"]),  # no abbreviations
    (["x", "--temperature", "nan"], ["--temperature", "'nan'", "finite"]),
    (["x", "--temperature", "inf"], ["--temperature", "'inf'", "finite"]),
    (["x", "--temperature", "-1"], ["--temperature", "'-1'", "0 (greedy) or above"]),
    (["x", "--temperature", "0,5"], ["--temperature", "'0,5'", "a finite number"]),
    (["x", "--temperature"], ["--temperature", "expected one argument", "--help"]),
    (["x", "--top-k", "-1"], ["--top-k", "'-1'", "0 (off) or"]),
    (["x", "--top-k", "1.5"], ["--top-k", "'1.5'", "an integer"]),
    (["x", "--top-p", "0"], ["--top-p", "'0'", "above 0"]),
    (["x", "--top-p", "1.01"], ["--top-p", "'1.01'", "at most 1"]),
    (["x", "--min-p", "-0.1"], ["--min-p", "'-0.1'", "from 0 (off) to 1"]),
    (["x", "--min-p", "2"], ["--min-p", "'2'", "from 0 (off) to 1"]),
    (["x", "--top", "0"], ["--top", "'0'", "1 or above"]),
    (["x", "--top", "ten"], ["--top", "'ten'", "1 or above"]),
    (["x", "-n", "-1"], ["-n", "'-1'", "0 or above"]),
    (["x", "-n", "9" * 5000], ["-n", "'9999", "0 or above"]),
    (["x", "--seed", "-1"], ["--seed", "'-1'", "0 or above"]),
    (["x", "--candidates", ""], ["--candidates", "empty", "at least one character"]),
    (["x", "--stop", ""], ["--stop", "empty", "at least one character"]),
    (["\udcff"], ["PROMPT", "\\udcff", "no valid UTF-8"]),
    (["x", "--compare", "\udcff"], ["--compare", "\\udcff", "no valid UTF-8"]),
    (["word " * 60], ["prompt", "61 tokens", "context of 40", "shorten"]),
    ([" word" * 41], ["prompt", "41 tokens", "context of 40", "shorten"]),  # one too many
    (["x", "--compare", "word " * 60], ["61 tokens", "context of 40", "shorten"]),
    (["x", "--compare", " word" * 41], ["41 tokens", "context of 40", "shorten"]),
    (["x " * 39, "--candidates", " a b c d e"], ["44 tokens", "context of 40", "shorten"]),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[" ".join(words)[:30] for words, _ in MISTAKES])
def test_a_mistake_in_the_arguments(run: Run, words: list[str], said: list[str]) -> None:
    result = run(*words, "--json", status=2)
    assert result.out == ""
    assert result.err.startswith("minigpt: ")
    assert result.err.count("\n") == 1
    for part in said:
        assert part in result.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nonsense", "model 'nonsense': not known; give one of gpt2"),
        ("no/such/folder", "no such file or folder"),
        ("~nobody-of-this-name/x", "no such file or folder"),
    ],
)
@pytest.mark.parametrize("command", [[], ["attention"], ["break", "all"]], ids=" ".join)
def test_a_model_that_is_not_there_is_a_mistake_in_the_arguments(
    command: list[str], name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "I love", "--model", name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_a_prompt_that_fills_the_context_is_taken(document: Run) -> None:
    """The one token more is in the table above."""
    found = document(" word" * 40, "-n", "5")
    assert len(found["tokens"]) == 40
    assert found["generated"]["stop_reason"] == "context_full"


def test_behind_two_dashes_there_is_one_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--", "-hello", "--model", "tiny"]) == 2
    message = capsys.readouterr().err
    assert "'--model' is one word too many: options go before `--`" in message
    assert "is it" not in message


@pytest.mark.parametrize("name", ["nonsense", "a/b/c", ""])
def test_download_takes_no_name_that_means_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["download", name]) == 2
    assert f"{name!r}: expected one of gpt2" in capsys.readouterr().err
    assert main(["download", "gpt2"]) == 1
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err


def test_seeds_of_any_size(document: Run) -> None:
    for seed in (0, 2**32, 2**64, 10**300):
        words = ("x", "-n", "3", "--seed", str(seed))
        assert document(*words)["generated"] == document(*words)["generated"]


NUMBERS = {
    "--temperature": "a finite number",
    "--top-p": "above 0 and at most 1",
    "--min-p": "from 0",
    "--repetition-penalty": "from 0.001",
}
INTEGERS = {
    "--top-k": "an integer: 0 (off) or",
    "--top": "an integer, 1 or above",
    "-n": "an integer, 0 or above",
    "--seed": "an integer, 0 or above",
}
OF_COMMANDS = [
    ("attention", "--layer"), ("attention", "--head"), ("attention", "--position"), ("lens", "--position"),
    ("lens", "--top"), ("attribution", "--position"), ("score", "--stride"), ("score", "--top"),
    ("break", "-n"), ("live", "--port"), ("prefer", "--steps"), ("prefer", "--batch-size"),
    ("prefer", "--accumulation"), ("prefer", "--seed"), ("prefer", "--threads"), ("prefer", "--explain"),
    ("train", "--vocab-size"), ("train", "--n-layer"), ("train", "--n-head"), ("train", "--n-embd"),
    ("train", "--n-positions"), ("train", "--steps"), ("train", "--batch-size"), ("train", "--seed"),
    ("train", "--threads"), ("gradients", "--top"), ("practice", "--hint"),
]  # fmt: skip
NUMBERS_OF_COMMANDS = [
    ("prefer", "--beta"), ("prefer", "--learning-rate"), ("train", "--minutes"), ("train", "--learning-rate"),
    ("train", "--weight-decay"),
]  # fmt: skip


@pytest.mark.parametrize("option", [*NUMBERS, *INTEGERS])
@pytest.mark.parametrize("value", ["abc", "", "1.5", "0x1", "１０e", "1e999"])
def test_a_number_that_is_none_is_told_with_what_is_expected(run: Run, option: str, value: str) -> None:
    if value == "1.5" and option in ("--temperature", "--repetition-penalty"):
        return  # which it may be
    message = run("x", option, value, status=2).err
    assert f"found {value!r}; it must be {(NUMBERS | INTEGERS)[option]}" in message
    assert option in message.split(":")[1]
    assert "(see `minigpt --help`)" in message
    assert "invalid" not in message


@pytest.mark.parametrize(("command", "option"), OF_COMMANDS, ids=map(" ".join, OF_COMMANDS))
@pytest.mark.parametrize("value", ["abc", "1.5"])
def test_the_commands_say_it_likewise(run: Run, command: str, option: str, value: str) -> None:
    message = run(command, "erf-gelu", f"{option}={value}", status=2).err
    assert f"found {value!r}; it must be an integer" in message
    assert message.endswith(f"(see `minigpt {command} --help`)\n")
    assert option in message


@pytest.mark.parametrize(("command", "option"), NUMBERS_OF_COMMANDS, ids=map(" ".join, NUMBERS_OF_COMMANDS))
def test_and_so_they_do_for_numbers_that_are_not_whole(run: Run, command: str, option: str) -> None:
    message = run(command, "erf-gelu", f"{option}=abc", status=2).err
    assert f"{option}: found 'abc'; it must be " in message
    assert message.endswith(f"(see `minigpt {command} --help`)\n")


def test_every_numeric_option_has_a_test() -> None:
    parsers = {"": cli.prompt_parser()}
    for name in cli.COMMANDS:
        parsers[name] = cli.command_parser(name, cli.load_command(name))
    found = {
        (name, action.option_strings[0])
        for name, parser in parsers.items()
        for action in parser._actions
        if action.type is int or "number" in getattr(action.type, "__qualname__", "")
    }
    of_commands = {*OF_COMMANDS, *NUMBERS_OF_COMMANDS}
    assert found == {("", option) for option in [*NUMBERS, *INTEGERS]} | of_commands


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (minigpt.InputError("ids: too\nmany."), 2, "minigpt: ids: too many.\n"),
        (minigpt.CheckpointError("file: \x1b[31m broken."), 1, "minigpt: file: \\x1b[31m broken.\n"),
        (FileNotFoundError(2, "No such file", "a/b"), 1, "minigpt: a/b: No such file\n"),
        (OSError(5, "Input/output error"), 1, "minigpt: output: Input/output error\n"),
        (MemoryError(), 1, "minigpt: there is not enough memory"),
        (
            ModuleNotFoundError(name="rich"),
            1,
            "minigpt: the package rich is not installed; in a clone, run: pip",
        ),
        (KeyboardInterrupt(), 130, "\n"),
        (
            TypeError("oops"),
            1,
            "minigpt: a bug in minigpt: TypeError: oops (`python -X dev -m minigpt` shows where)",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_failure_is_one_line_and_an_exit_status(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, said: str
) -> None:
    monkeypatch.setattr(passes, "open_model", failing(error))
    result = run("I love", status=status)
    assert result.out == ""
    assert result.err.startswith(said)
    assert result.err.count("\n") == 1


def test_a_failure_of_an_output_in_memory_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(passes, "open_model", failing(OSError(5, "Input/output error")))
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # which has no file descriptor
    assert main(["I love"]) == 1
    assert capsys.readouterr().err == "minigpt: output: Input/output error\n"


def test_a_broken_pipe_that_has_a_name_is_not_the_output(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    error = BrokenPipeError(32, "Broken pipe", "a/pipe")
    monkeypatch.setattr(passes, "open_model", failing(error))
    assert run("I love", status=1).err == "minigpt: a/pipe: Broken pipe\n"


def test_a_model_that_cannot_be_had(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["I love", "--model", "no/such", "--offline"]) == 1
    assert "nor whole in the Hub's cache" in capsys.readouterr().err


def test_a_model_with_broken_weights(tmp_path: Path, model: GPT2, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = random_tensors(model.config)
    tensors["ln_f.weight"][...] = 3e38
    folder = write_checkpoint(tmp_path, model.config, tensors)
    for words in (["--json"], []):
        assert main(["I love", "--model", str(folder), *words]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("minigpt: ")
        assert "weights are broken" in captured.err


# ---------------------------------------------------------------------------------------------- commands


def test_the_word_help_asks_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["help"], ["help", "lens"]):
        shown = []
        for asked in (words, [*words[1:], "--help"]):
            with pytest.raises(SystemExit) as stop:
                main(asked)
            assert stop.value.code == 0
            shown.append(capsys.readouterr().out)
        assert shown[0] == shown[1] != ""


def test_help_names_every_option_and_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    options = (
        "--model --offline --json --temperature --top-k --top-p --min-p --top --candidates --compare --html"
    )
    for option in (options + " --max-new-tokens --stop --seed --version").split():
        assert option in text
    for name in cli.COMMANDS:
        assert re.search(rf"^  {name} +\w", text, re.MULTILINE)


def test_commands_are_the_modules_that_there_are() -> None:
    folder = Path(cli.__file__).parent / "commands"
    files = {path.stem for path in folder.glob("*.py") if not path.name.startswith("_")}
    assert {name.rstrip("_") for name in files} == set(cli.COMMANDS)
    for name, line in cli.COMMANDS.items():
        assert line
        assert "\n" not in line
        module = cli.load_command(name)
        assert module.__name__.rpartition(".")[2].rstrip("_") == name
        assert dataclasses.is_dataclass(module.Options)


def test_a_first_word_that_names_a_command_is_that_command(
    run: Run, document: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: Any = ModuleType("play")
    called.Options, called.run = dict, lambda options: 7
    called.add_options = lambda parser: parser.add_argument("--model")
    monkeypatch.setattr(cli, "COMMANDS", {"play": "something"})
    monkeypatch.setattr(cli, "load_command", lambda name: called)
    run("play", status=7)
    assert document("play it")["prompt"] == "play it"


def test_a_prompt_that_is_the_name_of_a_command_goes_after_two_dashes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(folder), "--json", "--", "score"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "score"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"minigpt {minigpt.__version__}\n"


# ------------------------------------------------------------------------------------------------ the story


def test_the_story_in_order(run: Run) -> None:
    out = run("I love").out
    parts = [
        "3 blocks", "1   Text becomes tokens", "I   ␣love", "40  1842",
        "2   Embedding: tokens become vectors", "length",
        "3   The vectors pass through 3 blocks", "␣love attends to", "4   Logit lens", "5   Logits",
        "not probabilities", "6   Softmax", "T=1", "T=0.5", "T=2", "The likeliest next token is",
    ]  # fmt: skip
    places = [out.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places)


def test_the_story_names_the_lines_that_did_the_work(run: Run) -> None:
    """Every file:line in it lies in the function of that name."""
    named = re.findall(
        r"([\w.]+)  (minigpt/[\w/]+\.py):(\d+)", run("I love", "--compare", "I hate", "-n", "1").out
    )
    functions = {"embed", "block", "unembed", "GPT2.__call__", "probabilities"}
    assert {name for name, _, _ in named} > functions
    for name, file, line in named:
        module = __import__(file.removesuffix(".py").replace("/", "."), fromlist=["_"])
        function: Any = module
        for part in name.split("."):
            function = getattr(function, part)
        lines, first = inspect.getsourcelines(inspect.unwrap(function))
        assert first <= int(line) < first + len(lines)


def test_the_numbers_of_the_story_are_the_models(run: Run, model: GPT2) -> None:
    out = run("I love", "--top", "3").out
    wte, wpe, logits = model.parameters.wte[1842], model.parameters.wpe[1], model([40, 1842])[-1]
    assert re.search(rf"␣love +{wte[0]:.3f}", out)
    for vector in (wte, wpe, wte + wpe):
        assert f"length {np.linalg.norm(vector.astype(np.float64)):.2f}" in out
    assert f"{logits.min():.2f}" in out
    p = softmax(logits, 1)
    for token_id in np.argsort(-logits)[:3]:
        assert f"{logits[token_id]:.2f}" in out
        assert f"{100 * p[token_id]:.1f}%" in out


@pytest.mark.parametrize("columns", [20, 34, 50, 80, 120, 300])
@pytest.mark.parametrize(
    "prompt",
    ["I love", "", "tokens " * 30, "─" * 100, "\x1b[31m\x07 日本語 😀 \u202e"],
    ids=["short", "empty", "many tokens", "long token", "nasty"],
)
def test_the_story_fits_every_width_without_steering_the_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, prompt: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    words = ("--candidates", " you", "\x1b]0;title\x07", "--compare", "I hate", "\x1b[2J", "--top-k", "3")
    out = run(prompt, *words).out
    assert max(map(cell_len, out.splitlines())) <= columns
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out)
    assert "%" in out


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_story_is_one_screen(run: Run, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert len(run("I love").out.splitlines()) <= 50


def test_an_empty_prompt_says_where_it_starts(run: Run) -> None:
    assert "The prompt is empty: the model starts from <|endoftext|>" in run("").out


def test_markup_in_a_prompt_is_text(run: Run) -> None:
    assert "[red]boo[/red]" in run("[red]boo[/red]").out


def test_temperature_in_the_story(run: Run) -> None:
    out = run("I love", "--temperature", "0.4", "--top", "1").out
    assert "The temperature T is 0.4" in out
    assert all(f"T={t}" in out for t in ("0.2", "0.4", "0.8"))
    out = run("I love", "--temperature", "0", "--top", "1").out
    assert re.search(r"1 .* 100.0%", out)
    assert "T=0.5" in out


def test_cuts_in_the_story(run: Run) -> None:
    out = run("I love", "--top-k", "2", "--top", "3").out
    header = next(line for line in out.splitlines() if "rank" in line)
    assert "kept" in header
    assert "--top-k" in out
    rows = [line.split() for line in out.splitlines() if re.match(r"^ +[123]  ", line)]
    shares = [row[-3] for row in rows]  # the column before T=0.5 and T=2
    assert shares[2] == "cut"
    assert sum(float(share.rstrip("%")) for share in shares[:2]) == pytest.approx(100, abs=0.2)


def test_candidates_in_the_story(run: Run, document: Run) -> None:
    words = ("I love", "--candidates", " you", " you so")
    out = run(*words).out
    for row in document(*words)["candidates"]:
        label = row["text"].replace(" ", "␣")
        assert re.search(rf"{label} +{row['logit']:.2f} .* {row['rank']:,} +{row['logprob']:.3f}", out)
    assert "of all its tokens" in out


def test_a_candidate_without_its_space_is_pointed_out(run: Run) -> None:
    hint = '"you" goes on with the last word; the next word is " you", with its space.'
    assert hint in run("I love", "--candidates", "you", " it").out
    assert "goes on with" not in run("I love", "--candidates", " you").out
    assert "goes on with" not in run("I love ", "--candidates", "you").out


def test_the_story_alone_says_what_is_next(run: Run) -> None:
    assert "Next: -n 40" in run("I love").out
    assert "Next: -n 40" not in run("I love", "-n", "1").out


def test_the_comparison_stands_side_by_side(run: Run, document: Run) -> None:
    words = ("I love", "--candidates", " you", " it", "--compare", "I hate")
    out, found = run(*words).out, document(*words)
    header = next(line for line in out.splitlines() if "I love" in line and "I hate" in line)
    assert header.index("I love") < header.index("I hate")
    for one, other in zip(found["candidates"], found["comparisons"][0]["candidates"], strict=True):
        label = one["text"].replace(" ", "␣")
        assert re.search(
            rf"{label} +{one['logit']:.2f} .* {other['logit']:.2f} .* {other['rank']:,}$", out, re.M
        )


def test_the_comparison_without_candidates_shows_what_is_likely_anywhere(run: Run, document: Run) -> None:
    words = ("I love", "--compare", "I hate", "--top", "4")
    table = run(*words).out.partition("The same tokens")[2]
    found = document(*words)
    rows = [*found["next_tokens"], *found["comparisons"][0]["next_tokens"]]
    for row in rows:
        assert f"{row['logit']:.2f}" in table


# ------------------------------------------------------------------------------------------------ generation


def test_the_stream_is_the_generated_text(run: Run, document: Run) -> None:
    words = ("I love", "-n", "20", "--seed", "1")
    story = run(*words).out.partition("The model goes on")[2]
    text = document(*words)["generated"]["text"]
    shown = "".join(c if c.isprintable() or c == "\n" else "" for c in text)
    assert shown.split("\n")[0][:20] in story
    assert "(20 tokens: as many as were asked for)" in story


def test_every_compared_context_is_continued(run: Run) -> None:
    out = run("I love", "-n", "2", "--compare", "I hate", "--temperature", "0").out
    assert out.count("The model goes on") == 2


def test_pieces_are_written_as_they_come(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    class Stream(io.StringIO):
        def flush(self) -> None:
            written.append(self.getvalue())

    monkeypatch.setattr(sys, "stdout", Stream())
    main(["I love", "-n", "12", "--seed", "1", "--model", str(folder)])
    tails = [text.partition("generate_text")[2] for text in written]
    assert len(set(tails)) > 8


# ------------------------------------------------------------------------------------------------ --html


def test_html(run: Run, document: Run, tmp_path: Path) -> None:
    page = tmp_path / "love.html"
    result = run("I love", "--html", str(page), "--json")
    assert "<html" in page.read_text(encoding="utf-8")
    assert str(page) in result.err
    assert json.loads(result.out)["prompt"] == "I love"


def test_the_page_is_there_before_the_story_is_told(folder: Path, tmp_path: Path) -> None:
    """The reader of the story may leave: `minigpt "I love" --html love.html | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    page = tmp_path / "love.html"
    process = start("I love", "--html", str(page), "--model", str(folder), stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert "<html" in page.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    result = run("I love", "--html", str(tmp_path / "no" / "page.html"), "--json", status=1)
    assert result.out == ""
    assert "page.html" in result.err


# ------------------------------------------------------------------------------------- the program as a whole


def start(*words: str, **kwargs: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **kwargs.pop("env", {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen([*PROGRAM, *words], env=environment, **{**pipes, **kwargs})


@pytest.mark.parametrize("words", [["--json", "--top", "50000"], ["-n", "30", "--top", "3000"]])
def test_a_reader_that_leaves_is_no_error(folder: Path, words: list[str]) -> None:
    process = start("I love", "--model", str(folder), *words)
    assert process.stdout
    process.stdout.read(10)
    process.stdout.close()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_one_line(folder: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start("I love", "--model", str(folder), "--json", stdout=full)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == b"minigpt: output: No space left on device\n"


# What a command line prints on standard output, and its exit status.
WITH_NOTICES = [
    (["attention", ""], 0, "layer"),  # says that the prompt is empty
    (["I love", "--json", "--html", "page.html"], 0, '"prompt": "I love"'),  # says where the page is
    (["I love", "--html", "page.html"], 0, "The likeliest next token is"),
    (["x", "--top", "0"], 2, ""),
    (["x", "--model", "no/such", "--offline"], 1, ""),
]


@pytest.mark.parametrize(("words", "status", "printed"), WITH_NOTICES, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("broken", ["pipe", "full"])
def test_a_standard_error_that_cannot_be_written_leaves_the_rest_alone(
    folder: Path, tmp_path: Path, words: list[str], status: int, printed: str, broken: str
) -> None:
    if broken == "full" and not Path("/dev/full").exists():
        pytest.skip("needs the device that is always full")
    reader, writer = os.pipe()
    os.close(reader)
    if broken == "full":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    model = [] if "--model" in words else ["--model", str(folder)]
    environment = {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
    process = start(*words, *model, stderr=writer, cwd=tmp_path, env=environment)
    os.close(writer)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == status
    assert printed in out.decode()
    assert bool(out) == bool(printed)


@pytest.mark.skipif(os.name == "nt", reason="closes descriptors as a POSIX shell does")
@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["I love"], 0, b""),
        (["I love", "--json"], 0, b""),
        (["I love", "--html", "page.html"], 0, b"minigpt: wrote "),
        (["x", "--top", "0"], 2, b"minigpt: --top: found '0'; it must be an integer, 1 or above"),
    ],
)
def test_closed_standard_output_leaves_the_rest_alone(
    folder: Path, tmp_path: Path, words: list[str], status: int, said: bytes
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, *words, "--model", str(folder)]
    done = subprocess.run(shell, stderr=subprocess.PIPE, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(said)
    assert done.stderr.count(b"\n") == bool(said)
    assert ("--html" in words) == (tmp_path / "page.html").exists()


def test_who_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    """A job in the background gets SIGINT ignored, and Ctrl-C is for the one in front."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with cli.noted_interrupts():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_command_line_runs_in_a_thread(folder: Path) -> None:
    with ThreadPoolExecutor() as threads:
        assert threads.submit(main, ["I love", "--model", str(folder), "--json"]).result() == 0


@pytest.mark.skipif(os.name == "nt", reason="closes descriptors as a POSIX shell does")
def test_closed_standard_error_leaves_the_output_alone(folder: Path, tmp_path: Path) -> None:
    command = 'exec "$@" 2>&-'
    words = ["I love", "--json", "--html", str(tmp_path / "page.html"), "--model", str(folder)]
    for mistake in ([], ["--nonsense"]):
        shell = ["sh", "-c", command, "sh", *PROGRAM, *words, *mistake]
        done = subprocess.run(shell, stdout=subprocess.PIPE, check=False)
        if mistake:
            assert (done.returncode, done.stdout) == (2, b"")
        else:
            assert json.loads(done.stdout)["prompt"] == "I love"


def test_an_ascii_terminal_gets_ascii(folder: Path) -> None:
    process = start("I love é", "--model", str(folder), env={"PYTHONIOENCODING": "ascii", "COLUMNS": "80"})
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    text = out.decode("ascii")
    assert "_love" in text
    assert "#" in text  # the bars
    assert "\\xe9" in text


ENCODED = [
    ["I love é", "--html", "é안.html", "-n", "3"], ["I love", "-n", "3", "--text"], ["attention", "I love"],
    ["tokens", "é안"], ["prefer", "demo", "--explain", "3"],
    ["prefer", "demo", "--steps", "1", "--threads", "1", "--watch", "é안", "--out", "prefer 안"],
]  # fmt: skip
ENCODED_ALONE = [
    ["sizes", "--markdown"], ["map", "--markdown"], ["lessons"], ["glossary"], ["practice", "softmax"],
    ["train", "é안.txt", "--out", "train 안", "--steps", "2", "--n-layer", "1", "--n-head", "1", "--n-embd",
     "8", "--vocab-size", "256", "--threads", "1", "--html", "curve 안.html"],
]  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "cp437"])
@pytest.mark.parametrize("words", ENCODED + ENCODED_ALONE, ids=" ".join)
def test_what_the_encoding_lacks_fails_no_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], encoding: str
) -> None:
    home = tmp_path / "ü안"
    home.mkdir()
    monkeypatch.chdir(home)
    (home / "é안.txt").write_text("A café, and another café — 안녕. " * 40, encoding="utf-8")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    status = main([*words, *(["--model", str(folder)] if words in ENCODED else [])])
    for stream in (out, err):
        stream.flush()
    assert status == 0, err.buffer.getvalue()  # type: ignore[attr-defined]
    assert out.buffer.getvalue()  # type: ignore[attr-defined]


def test_the_document_needs_no_terminal_and_no_hub(folder: Path) -> None:
    """What is not imported costs no time."""
    code = (
        "import sys; from minigpt.cli.main import main; "
        "main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, "I love", "--model", str(folder), "--json"],
        capture_output=True,
        check=True,
    )
    assert json.loads(process.stdout)
    imported = set(process.stderr.decode().split())
    assert "numpy" in imported
    assert not imported & {
        "rich",
        "huggingface_hub",
        "torch",
        "transformers",
        "requests",
        "httpx",
        "matplotlib",
    }


@pytest.mark.parametrize("words", [["--help"], ["x", "--temperature", "-1"], ["x", "--ablate", "h.0:x"], []])
def test_help_and_mistakes_of_the_main_road_import_no_numpy(words: list[str]) -> None:
    code = (
        "import sys, contextlib; from minigpt.cli.main import main\n"
        "with contextlib.suppress(SystemExit): main(sys.argv[1:])\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True)
    imported = set(done.stdout.decode().split("\n")[-2].split())
    assert "minigpt.cli.options" in imported
    assert not imported & {"numpy", "rich", "minigpt.model", "minigpt.tokenizer"}


def test_the_module_runs(folder: Path) -> None:
    process = start("--model", str(folder), "--offline", "--temperature", "2", "I love")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert "The temperature T is 2." in out.decode()
