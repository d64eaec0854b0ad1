"""A run learns, stops, goes on as if it had not stopped, and never loses what it has saved."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import minigpt
from minigpt.checkpoints.tensors import StoredTensor
from minigpt.errors import CheckpointError, InputError, NumericsError
from minigpt.model import GPT2, Call
from minigpt.parallel import Threads
from minigpt.parameters import Config, arrays_by_name
from minigpt.tokenizer import Tokenizer
from minigpt.training import loop
from minigpt.training.data import Corpus, random_windows, read_corpus, split_tails, tokenize
from minigpt.training.flat import flatten
from minigpt.training.loop import Progress, Reporter, Run, Training, resume, train
from minigpt.training.losses import language_modelling
from minigpt.training.optimizer import AdamW
from minigpt.training.settings import TrainingSettings
from minigpt.training.state import STATE, State, save_state
from minigpt.training.step import batch_gradients

ROOT = Path(__file__).resolve().parents[2]
TEXT = "".join(f"{n} sheep and {n + 1} goats went up the hill.\n" for n in range(120))
BYTES = Tokenizer.train([TEXT], 256)
MODEL = GPT2.random(Config(vocab_size=256, n_positions=16, n_embd=24, n_layer=2, n_head=2), seed=1)
CORPUS = split_tails([TEXT])


class Notes(Reporter):
    """Everything that a run tells."""

    def __init__(self, after: Callable[[int], None] = lambda step: None) -> None:
        self.after = after
        self.steps: list[Progress] = []
        self.tests: list[int] = []
        self.samples: list[str] = []
        self.warnings: list[str] = []

    def step(self, progress: Progress) -> None:
        self.steps.append(progress)
        self.after(progress.step)

    def held_out(self, step: int, loss: float, bits_per_byte: float) -> None:
        self.tests.append(step)

    def sample(self, step: int, text: str) -> None:
        self.samples.append(text)

    def warning(self, message: str) -> None:
        self.warnings.append(message)


def learn(
    out: Path | None = None, notes: Reporter | None = None, model: GPT2 = MODEL, **settings: Any
) -> Run:
    options = {"steps": 12, "batch_size": 4, "threads": 2} | settings
    return train(model, BYTES, CORPUS, out, TrainingSettings(**options), notes)


def same_parameters(one: GPT2, other: GPT2) -> bool:
    others = arrays_by_name(other.parameters)
    return all((array == others[name]).all() for name, array in arrays_by_name(one.parameters).items())


def interrupt_after(step: int) -> Callable[[int], None]:
    return lambda done: os.kill(os.getpid(), signal.SIGINT) if done == step else None


# -------------------------------------------------------------------------------------------- learning


def test_one_batch_is_learnt_by_heart() -> None:
    flat = flatten(GPT2.random(Config(vocab_size=61, n_positions=12, n_embd=48, n_layer=2, n_head=4)))
    optimizer = AdamW(flat, 0.9, 0.95, 1e-8, 0.0)
    ids, targets = np.random.default_rng(0).integers(0, 61, (2, 3, 12))
    with Threads(2) as threads:
        for _ in range(200):
            found: dict[str, np.ndarray] = {}
            batch = language_modelling(ids, targets, ids.size, flat.buffer.dtype)
            loss = batch_gradients(flat.model, [batch], threads, found)
            optimizer.step(found, 3e-3, 1.0, threads)
    assert loss < 0.01


def test_a_run_learns_and_says_so() -> None:
    notes = Notes()
    run = learn(None, notes, steps=40, learning_rate=1e-2)
    assert run.finished
    assert len(notes.steps) == len(run.history.losses) == 40
    assert run.history.losses[0] == pytest.approx(np.log(256), rel=0.05)
    assert np.mean(run.history.losses[-5:]) < 3.5
    assert notes.tests[0] == 0
    assert notes.tests[-1] == 40
    assert len(notes.samples) == 5
    assert run.history.held_out[-1] == (40, run.held_out_loss)
    assert run.bits_per_byte == pytest.approx(run.held_out_loss / np.log(2))  # a token is a byte here
    assert notes.steps[-1].seconds_left == 0
    assert repr(run).startswith("Run(40 of 40 steps; held-out text: ")
    assert "<svg" in run._repr_html_()


def test_the_model_that_was_given_is_not_changed() -> None:
    before = {name: array.copy() for name, array in arrays_by_name(MODEL.parameters).items()}
    run = learn()
    assert not same_parameters(run.model, MODEL)
    assert all((array == before[name]).all() for name, array in arrays_by_name(MODEL.parameters).items())
    with pytest.raises(ValueError, match="read-only"):
        run.model.parameters.wte[0, 0] = 1.0


def test_the_same_seed_repeats_a_run_bit_for_bit_and_another_does_not() -> None:
    one, two, other = learn(seed=3), learn(seed=3), learn(seed=4)
    assert one.history == two.history
    assert same_parameters(one.model, two.model)
    assert one.history.losses != other.history.losses


def test_accumulation_is_a_larger_batch() -> None:
    tokens = tokenize(CORPUS, BYTES, 16)
    plan = TrainingSettings(steps=5, batch_size=4, accumulation=3, threads=2).plan(MODEL, 5)
    with Threads(2) as threads:
        training = Training(MODEL, tokens, plan)
        parts = [part for parts in training.batches(threads) for part in parts]
        weights = [part.loss.weights for part in parts]  # type: ignore[attr-defined]
        assert sum(w.sum() for w in weights) == pytest.approx(1.0)
        assert len({w.flat[0] for w in weights}) == 1
        training.step(threads)
    assert training.optimizer.steps == 1


def test_a_float64_model_is_trained_in_float32() -> None:
    assert learn(model=MODEL.astype(np.float64)).model.parameters.wte.dtype == np.float32


# ----------------------------------------------------------------------------------- two at the same time

# A run that waits after its first step, until somebody writes to it.
WAITING = """
import sys
import minigpt
from minigpt.training.prefer import PreferenceReporter
from tests.training import test_loop as t

class Waiting(t.Reporter, PreferenceReporter):
    def step(self, progress):
        print("step", flush=True)
        sys.stdin.readline()

kind, out = sys.argv[1:]
settings = t.TrainingSettings(steps=2, batch_size=1, threads=1)
if kind == "train":
    t.train(t.MODEL, t.BYTES, t.CORPUS, out, settings, Waiting())
elif kind == "resume":
    t.resume(out, t.CORPUS, Waiting())
else:
    pairs = [minigpt.Pair("a", "b", "c")] * 5
    settings = minigpt.PreferenceSettings(steps=2, batch_size=1, threads=1)
    minigpt.prefer(t.MODEL, t.BYTES, pairs, out, settings, text=t.TEXT, reporter=Waiting())
"""


@pytest.mark.parametrize("kind", ["train", "resume", "prefer"])
def test_a_folder_is_one_run_s_alone(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "model"
    if kind == "resume":
        learn(folder, Notes(interrupt_after(1)), threads=1)

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING, kind, str(folder)], cwd=ROOT, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "step\n"
        return process

    dead = start()
    dead.kill()  # which leaves nothing behind that would block
    dead.communicate()
    first = start()
    with pytest.raises(InputError, match="model: another run is writing into it; wait for its end"):
        resume(folder) if kind == "resume" else learn(folder)
    second = subprocess.run(
        [sys.executable, "-c", WAITING, kind, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "another run is writing into it" in second.stderr
    _, err = first.communicate("\n\n\n" * 20)
    assert (first.returncode, err) == (0, "")
    assert minigpt.load(folder)[0].config == MODEL.config
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


# -------------------------------------------------------------------------------- stopping and going on


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = learn(tmp_path / "whole")
    stopped = learn(tmp_path / "stopped", Notes(interrupt_after(5)))
    assert (stopped.steps, stopped.finished) == (5, False)
    again = resume(tmp_path / "stopped", CORPUS, Notes(interrupt_after(8)))
    assert again.steps == 8
    end = resume(tmp_path / "stopped", CORPUS)
    assert end.finished
    assert end.history.losses == whole.history.losses
    assert end.held_out_loss == whole.held_out_loss
    assert same_parameters(end.model, whole.model)
    names = [STATE, "model.safetensors", "config.json", "tokenizer.json"]
    for name in names[1:]:
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_ctrl_c_means_again_what_it_meant_before(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    learn(None, Notes(interrupt_after(2)))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_does_not_wait() -> None:
    def twice(step: int) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        learn(None, Notes(twice))


def test_a_run_goes_on_from_its_own_files(tmp_path: Path) -> None:
    file = tmp_path / "sheep.txt"
    file.write_text(TEXT, encoding="utf-8")
    train(
        MODEL,
        BYTES,
        read_corpus([file]),
        tmp_path / "run",
        TrainingSettings(steps=4, batch_size=2, threads=1),
    )
    assert resume(tmp_path / "run").finished
    file.write_text(TEXT + "And a dog.", encoding="utf-8")
    with pytest.raises(InputError, match="not the one that the run began with"):
        resume(tmp_path / "run")
    file.unlink()
    with pytest.raises(InputError, match=r"sheep\.txt: No such file"):
        resume(tmp_path / "run")


def test_what_is_saved_is_a_checkpoint_like_any_other(tmp_path: Path) -> None:
    run = learn(tmp_path / "run")
    model, tokenizer = minigpt.load(tmp_path / "run")
    assert tokenizer.encode("sheep") == BYTES.encode("sheep")
    np.testing.assert_allclose(model([1, 2, 3]), run.model([1, 2, 3]), rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------------- folders and the disk


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "novel.txt").write_text("mine")
    with pytest.raises(InputError, match="other: holds something else"):
        learn(tmp_path / "other")
    with pytest.raises(InputError, match=r"novel\.txt: is a file"):
        learn(tmp_path / "other" / "novel.txt")
    with pytest.raises(InputError, match=r"there is no training\.safetensors to go on from"):
        resume(tmp_path / "other")
    learn(tmp_path / "run", steps=1)
    with pytest.raises(InputError, match="holds a run of its own; go on with it by --resume"):
        learn(tmp_path / "run")
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["novel.txt"]


def test_a_full_disk_on_the_way_costs_nothing_that_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    saved: list[int] = []
    writes = loop.save_state

    def full_after_three(folder: Path, state: Any) -> None:
        if len(saved) >= 3:
            raise CheckpointError("the disk is full")
        saved.append(state.facts["steps_done"])
        writes(folder, state)

    monkeypatch.setattr(loop, "save_state", full_after_three)
    notes = Notes()
    with pytest.raises(CheckpointError, match="full"):  # of the last, which nobody must believe to be saved
        learn(tmp_path / "run", notes)
    assert saved == [1, 2, 3]
    assert notes.warnings == ["the disk is full"] * 9
    monkeypatch.undo()
    assert same_parameters(resume(tmp_path / "run", CORPUS).model, learn().model)


def test_a_state_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minigpt.training import state

    learn(tmp_path / "run")
    before = (tmp_path / "run" / STATE).read_bytes()

    def broken(_tensors: Any, file: Path, _metadata: Any) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "save_file", broken)
    with pytest.raises(CheckpointError, match=r"No space left on device\. What was saved before"):
        resume(tmp_path / "run", CORPUS)
    assert (tmp_path / "run" / STATE).read_bytes() == before
    assert not list((tmp_path / "run").glob(".minigpt-*"))


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_broken_state_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{STATE}: (not a safetensors file|holds no tensors)"):
        resume(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="has no such modes")
def test_a_state_keeps_its_mode_and_follows_no_planted_link(tmp_path: Path) -> None:
    state, mine = tmp_path / STATE, tmp_path / "mine.txt"
    save_state(tmp_path, State({"parameters": np.ones(3)}, {}))
    state.chmod(0o640)
    save_state(tmp_path, State({"parameters": np.ones(3)}, {}))
    assert stat.S_IMODE(state.stat().st_mode) == 0o640
    state.unlink()
    mine.write_text("mine", encoding="utf-8")
    state.symlink_to(mine)
    save_state(tmp_path, State({"parameters": np.ones(3)}, {}))
    assert not state.is_symlink()
    assert mine.read_text(encoding="utf-8") == "mine"


def test_a_state_that_is_written_to_while_it_is_read_is_refused(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not mapped into memory, where a file that is cut would end the program."""
    folder = Path(shutil.copytree(saved, tmp_path / "run"))
    read = StoredTensor.read_as_stored

    def cut_first(tensor: StoredTensor) -> np.ndarray:
        os.truncate(folder / STATE, 1000)
        return read(tensor)

    monkeypatch.setattr(StoredTensor, "read_as_stored", cut_first)
    with pytest.raises(CheckpointError, match=rf"{STATE}: (the file ends within|was changed while)"):
        resume(folder)


Facts = dict[str, Any]
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose text is in a file."""
    home = tmp_path_factory.mktemp("saved")
    (home / "text.txt").write_text(TEXT, encoding="utf-8")
    corpus = read_corpus([home / "text.txt"])
    train(MODEL, BYTES, corpus, home / "run", TrainingSettings(steps=2, batch_size=1, threads=1))
    return home / "run"


def rewrite_state(folder: Path, facts: Facts, arrays: Arrays) -> None:
    """The run's state, with other facts and arrays; None is left out."""
    with safe_open(folder / STATE, "numpy") as stored:
        all_facts = json.loads(stored.metadata()["minigpt"]) | facts
        all_arrays = {name: stored.get_tensor(name) for name in stored.keys()} | arrays  # noqa: SIM118
    kept = {name: array for name, array in all_arrays.items() if array is not None}
    save_file(kept, folder / STATE, {"minigpt": json.dumps(all_facts)})


PLAN = {"steps": 2, "window": 16, "batch_size": 1, "accumulation": 1, "learning_rate": 0.01, "warmup": 0,
        "weight_decay": 0.1, "beta2": 0.95, "clip": 1.0, "seed": 0, "threads": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "arrays"),
    [
        *[({"plan": plan}, {}) for plan in (None, [], {}, {**PLAN, "more": 1}, {**PLAN, "threads": 10**12})],
        *[({"plan": {**PLAN, name: wrong}}, {}) for name in PLAN for wrong in (None, "x", -1, float("nan"))],
        *[({"steps_done": wrong}, {}) for wrong in (None, "2", -1, 1, 3, True)],
        *[({"corpus": wrong}, {}) for wrong in (5, [], {}, {"paths": [5], "held_out": [], "share": 0.1})],
        ({"config": None}, {}),
        *[({}, {name: None}) for name in ("parameters", "second_moments", "losses", "held_out")],
        *[({}, {name: np.ones(1, np.float32)}) for name in ("parameters", "first_moments", "losses")],
        ({}, {"losses": np.array([1.0, np.nan])}),
        ({}, {"held_out": np.ones((2, 3))}),
        ({}, {"more": np.ones(1)}),
    ],
)
def test_a_state_that_no_run_has_saved_is_told(
    facts: Facts, arrays: Arrays, saved: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "run"))
    rewrite_state(folder, facts, arrays)
    with pytest.raises(CheckpointError, match="is broken, or no state that minigpt saved"):
        resume(folder)


def test_facts_without_end_are_told(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "run"))
    save_file({"parameters": np.ones(1)}, folder / STATE, {"minigpt": "[" * 100_000})
    with pytest.raises(CheckpointError, match="is broken, or no state that minigpt saved"):
        resume(folder)


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_a_state_that_is_no_file_of_the_folder_is_refused(kind: str, saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "run"))
    (folder / STATE).unlink()
    if kind == "pipe":
        os.mkfifo(folder / STATE)
    elif kind == "link":
        (folder / STATE).symlink_to(saved / STATE)
    else:
        (folder / STATE).mkdir()
    with pytest.raises(CheckpointError, match=r"not a regular file|leads out of its folder"):
        resume(folder)


def test_a_state_of_another_model_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "run"))
    other = GPT2.random(replace(MODEL.config, n_head=3))  # with as many numbers
    minigpt.save(tmp_path / "other", other, BYTES)
    shutil.copy(tmp_path / "other" / "config.json", folder)
    with pytest.raises(CheckpointError, match="is of another model than the one beside it"):
        resume(folder)


def test_a_run_whose_text_is_gone_is_told_which(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "run"))
    paths = [str(tmp_path / "gone.txt")]
    rewrite_state(folder, {"corpus": {"paths": paths, "held_out": [], "share": 0.1}}, {})
    with pytest.raises(InputError, match=r"gone\.txt: No such file"):
        resume(folder)
    rewrite_state(folder, {"corpus": None}, {})
    with pytest.raises(InputError, match="its texts were given in memory; give them again"):
        resume(folder)


# ------------------------------------------------------------------------------------------ refusing


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "steps, minutes: a run needs one of the two"),
        ({"steps": 1, "minutes": 1.0}, "steps, minutes: a run needs one of the two"),
        ({"steps": 0}, "steps is 0; it must be an integer, 1 or above"),
        ({"steps": 1, "threads": 10**12}, "threads is 1000000000000; it must be an integer from 1 to 1024"),
        ({"steps": 1, "batch_size": 10**12}, "batch_size is 1000000000000; it must be an integer from 1 to"),
        ({"steps": 1, "batch_size": -1}, "batch_size is -1; it must be an integer from 1 to a million"),
        ({"steps": 1, "learning_rate": -1.0}, "learning_rate is -1.0; it must be above 0 and at most 10"),
        ({"minutes": float("nan")}, "minutes is nan"),
        ({"steps": 1, "seed": -1}, "seed is -1; it must be an integer, 0 or above"),
    ],
)
def test_impossible_settings_are_told(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        TrainingSettings(**settings)


def test_a_learning_rate_that_breaks_the_numbers_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "gradient_norm", lambda *_: float("nan"))
    with pytest.raises(NumericsError, match=r"gradient of step 1 is nan.*smaller learning rate"):
        learn()


def test_weights_that_leave_no_numbers_are_told_and_leave_no_folder(tmp_path: Path) -> None:
    wild = replace(
        MODEL, parameters=replace(MODEL.parameters, wpe=np.full_like(MODEL.parameters.wpe, np.inf))
    )
    notes = Notes()
    with pytest.raises(NumericsError, match="step 0 the held-out loss is nan; its weights are broken"):
        learn(tmp_path / "run", notes, wild)
    assert not (tmp_path / "run").exists()
    assert not notes.tests


def test_a_run_that_ends_without_numbers_is_no_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    losses = iter([1.0])  # before the first step
    monkeypatch.setattr(loop, "mean_loss", lambda *_: next(losses, float("inf")))
    with pytest.raises(NumericsError, match=r"after step \d+ the held-out loss is inf; try a smaller"):
        learn(tmp_path / "run")
    assert not (tmp_path / "run" / STATE).exists()


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(InputError, match="it has 50,257 tokens, the model knows 256"):
        train(MODEL, Tokenizer(), CORPUS, None, TrainingSettings(steps=1))


@dataclass(frozen=True)
class Scale:
    """What the block below owns."""

    weight: np.ndarray


class ScaleBlock:
    """A block that multiplies each number by a weight of its own."""

    def __call__(self, x: np.ndarray, p: Scale, layer: int, call: Call) -> np.ndarray:
        return call.hook("resid_post", call.hook("resid_pre", x) * p.weight)

    def backward(self, dx: np.ndarray, tape: Any, p: Scale, layer: int, call: Call) -> tuple[np.ndarray, Any]:
        return dx * p.weight, Scale((dx * tape["resid_pre"]).reshape(-1, dx.shape[-1]).sum(axis=0))


def test_a_model_with_a_block_of_its_own_is_trained_in_memory_and_refused_before_it_would_be_kept(
    tmp_path: Path,
) -> None:
    h = (Scale(np.ones(24, np.float32)),) * 2
    own, notes = GPT2(MODEL.config, replace(MODEL.parameters, h=h), ScaleBlock()), Notes()
    assert learn(model=own, steps=40, learning_rate=1e-2).held_out_loss < 4.0
    with pytest.raises(InputError, match="model: it has a block of its own"):
        learn(tmp_path / "run", notes, own)
    assert notes.steps == []
    assert not (tmp_path / "run").exists()


def test_a_text_that_is_too_short_is_refused() -> None:
    with pytest.raises(InputError, match="it has 9 tokens to learn from; a window of 16 needs at least 17"):
        train(MODEL, BYTES, Corpus(("too short",), ("none",)), None, TrainingSettings(steps=1))


# -------------------------------------------------------------------------------------------- minutes


def test_minutes_are_measured_once_and_become_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "PROBE_SECONDS", 0.05)
    timed = learn(steps=None, minutes=0.02)
    assert timed.plan.steps >= 1
    assert timed.finished
    fixed = learn(steps=timed.plan.steps)
    assert timed.history.losses == fixed.history.losses
    assert timed.plan == fixed.plan


def test_the_windows_of_a_step_depend_on_its_seed_alone() -> None:
    ids = np.arange(100, dtype=np.int32)
    inputs, targets = random_windows(ids, 7, 5, (1, 2, 3))
    again, _ = random_windows(ids, 7, 5, (1, 2, 3))
    assert (inputs == again).all()
    assert (targets == inputs + 1).all()
    assert (inputs != random_windows(ids, 7, 5, (1, 3, 3))[0]).any()
    ends = [random_windows(ids, 1000, 5, (seed,)) for seed in range(3)]
    assert min(window.min() for window, _ in ends) == 0  # every place can be drawn, the first and the last
    assert max(window.max() for _, window in ends) == 99
