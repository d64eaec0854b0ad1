"""The fuzzer of checkpoints: a few hundred cases of it, and that it would notice each thing it looks for."""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from minigpt.checkpoints.load import load_model
from minigpt.errors import CheckpointError
from minigpt.model import GPT2
from scripts import fuzz_checkpoints as fuzz
from scripts.fuzz_mutations import MUTATIONS, TOKENIZER, Case, intact, make_case

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the cases hold symbolic links and pipes")
CASES = 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path.resolve() / "checkpoint"


def test_every_case_survives() -> None:
    results = fuzz.run_cases(seed=1, cases=list(range(CASES)))
    failed = [f"case {result.case}: {result.words}" for result in results if result.kind == "FAILED"]
    assert not failed
    assert {result.family for result in results} == set(MUTATIONS)
    kinds = [result.kind for result in results]
    assert kinds.count("equal") > CASES // 10  # not everything is refused
    assert kinds.count("refused") > CASES // 2
    assert "overflow" in kinds


def test_transformers_gives_the_same_logits() -> None:
    pytest.importorskip("torch", reason="the reference needs torch and transformers")
    pytest.importorskip("transformers")
    results = fuzz.run_cases(seed=1, cases=list(range(25)), with_transformers=True)
    assert not [result for result in results if result.kind == "FAILED"]
    assert any(result.words == "transformers agrees" for result in results)


@pytest.mark.parametrize("variant", range(TOKENIZER + 1))
def test_what_the_cases_start_from_is_valid(folder: Path, variant: int) -> None:
    assert fuzz.try_case(Case(dict(intact(variant))), folder) == ("equal", "")


def test_a_case_is_the_same_each_time() -> None:
    one, other = (make_case(3, 4) for _ in range(2))
    assert (one.files, one.steps) == (other.files, other.steps)
    assert one.files != make_case(4, 4).files


# ------------------------------------------------------------- what a broken loader would do, and is it seen


def spoilt(model: GPT2) -> GPT2:
    p = model.parameters
    return replace(model, parameters=replace(p, wpe=p.wpe + np.float32(1e-6)))


def opens_what_stands_outside(folder: Path) -> None:
    (folder / ".." / "config.json").read_bytes()


def hangs(folder: Path) -> None:
    time.sleep(30)


def takes_memory(folder: Path) -> None:
    np.empty(1 << 30, np.uint8)


def warns(folder: Path) -> None:
    warnings.warn("overflow", RuntimeWarning, stacklevel=1)


def crashes(folder: Path) -> None:
    raise KeyError("wte.weight")


def refuses(folder: Path) -> None:
    raise CheckpointError(f"{folder}: no.")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (opens_what_stands_outside, "opened"),
        (hangs, "TimeoutError"),
        pytest.param(
            takes_memory,
            "MemoryError",
            marks=pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's limits"),
        ),
        (warns, "RuntimeWarning: overflow"),
        (crashes, "KeyError: 'wte.weight'"),
        (refuses, "refused what is valid"),
    ],
)
def test_a_loader_that_misbehaves_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[[Path], None], words: str
) -> None:
    def load(path: Path) -> GPT2:
        broken(path)
        return load_model(path)

    monkeypatch.setattr(fuzz, "load_model", load)
    monkeypatch.setattr(fuzz, "SECONDS", 0.5)
    kind, found = fuzz.try_case(Case(dict(intact(0))), folder)
    assert kind == "FAILED"
    assert found.startswith(words)


def test_a_model_that_is_not_what_the_file_holds_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "load_model", lambda path: spoilt(load_model(path)))
    assert fuzz.try_case(Case(dict(intact(0))), folder)[1] == "wpe.weight is not what the file holds"

    def other_heads(path: Path) -> GPT2:
        model = load_model(path)
        return replace(model, config=replace(model.config, n_head=1))

    monkeypatch.setattr(fuzz, "load_model", other_heads)
    assert "logits differ" in fuzz.try_case(Case(dict(intact(0))), folder)[1]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("{folder}: something is wrong.", "names none of"),
        ("{folder}: cannot be loaded; expected a checkpoint, found something else.", "names none of"),
        ("{folder}: the next.config.json2 is wrong.", "names none of"),
        ("config.json: is wrong.", "names none of"),
        ("{folder}/config.json: is\nwrong.", "not one readable line"),
        ("{folder}/config.json: is \x1b[31mwrong.", "not one readable line"),
        ("{folder}/config.json: " + "x" * 1000, "not one readable line"),
    ],
)
def test_a_message_that_does_not_help_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, message: str, words: str
) -> None:
    def load(path: Path) -> Any:
        raise CheckpointError(message.format(folder=path))

    monkeypatch.setattr(fuzz, "load_model", load)
    case = replace(Case(dict(intact(0))), valid=False, culprits={"config.json"})
    assert fuzz.try_case(case, folder)[1].startswith(words)


@pytest.mark.parametrize("number", range(40))
def test_no_damage_is_named_by_a_message_that_says_nothing(number: int) -> None:
    """Whatever is damaged, words of any message do not count as its name, nor does the folder's own name."""
    case = make_case(5, number)
    folder = Path("/nowhere/model.safetensors-x-0-config.json")
    said = f"{folder}: cannot be loaded; expected a checkpoint, found something else (h.0, 0 to 9, x is 3)."
    with pytest.raises(fuzz.Failure, match="names none of"):
        fuzz.judge_refusal(said, replace(case, valid=False), folder)


def test_what_fits_no_config_is_looked_for_in_a_file_that_is_named(folder: Path) -> None:
    """Found by the fuzzer: that there are no blocks was said of the folder only."""
    for change, words in (({}, "no tensors"), ({"h.0.attn.bias": np.zeros((1, 1))}, "no blocks")):
        case = replace(Case(dict(intact(0))), valid=False, culprits={"model.safetensors"})
        case.files["model.safetensors"] = save(change)
        kind, said = fuzz.try_case(case, folder)
        assert kind == "refused", said
        assert said.startswith("FOLDER/model.safetensors: ")
        assert words in said


@pytest.mark.parametrize(
    ("message", "culprit", "named"),
    [
        ("'x' is no dtype.", "x", True),
        ("expected something else.", "x", False),
        ("'' is no dtype.", "", True),
        ("It's wrong.", "", False),
        ("FOLDER/config.json: n_head is 0.", "config.json", True),
        ("FOLDER/config.json: n_head is 0.", "n_head", True),
        ("FOLDER/config.json: n_heads is 0.", "n_head", False),
        ("FOLDER/model.safetensors.index.json: no.", "model.safetensors", False),
        ("FOLDER/model.safetensors.", "model.safetensors", True),
        ("xwte.weight is missing.", "wte.weight", False),
        (f"'{'n' * 79}… has no place.", "n" * 60, True),
    ],
)
def test_a_name_is_a_whole_one(message: str, culprit: str, named: bool) -> None:
    assert fuzz.names(message, culprit) == named


def test_a_broken_checkpoint_that_is_loaded_is_noticed(folder: Path) -> None:
    case = replace(Case(dict(intact(0))), valid=False)
    assert fuzz.try_case(case, folder) == ("FAILED", "loaded what is not valid")


def test_the_report_says_how_to_see_a_failure_again() -> None:
    results = [fuzz.Result(7, "offsets", "FAILED", "KeyError"), fuzz.Result(8, "offsets", "equal", "")]
    text = fuzz.report(results, seed=5)
    assert "| offsets | 2 | 0 | 1 | 0 | 1 |" in text
    assert "python scripts/fuzz_checkpoints.py --seed 5 --case 7" in text
