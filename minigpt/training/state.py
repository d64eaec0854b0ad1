"""What a run keeps on disk: a checkpoint like any other, and beside it a state from which the run goes on.

The state is one file, written under another name and then renamed, so that there is always a whole one: a
full disk or a lost process costs what was learnt since, and nothing that was saved before.
"""

import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from ..checkpoints.reading import is_folder, parse_json, present
from ..checkpoints.tensors import TensorFile
from ..errors import CheckpointError, InputError
from ..files import checked_path, follow_own_link
from .settings import Plan

if sys.platform != "win32":
    import fcntl

STATE = "training.safetensors"


@dataclass(frozen=True)
class State:
    """Everything that the steps to come depend on, as arrays and as JSON."""

    arrays: Mapping[str, np.ndarray]
    facts: dict[str, Any]


def check_folder(folder: Path) -> None:
    """Raise `InputError` unless the folder is new or empty, `MiniGPTError` for somebody else's link."""
    follow_own_link(folder)
    if present(folder / STATE):
        raise InputError(
            f"{folder}: holds a run of its own; go on with it by --resume, or choose a new folder."
        )
    if present(folder) and not is_folder(folder):
        raise InputError(f"{folder}: is a file; choose a folder for the model.")
    try:
        if present(folder) and any(folder.iterdir()):
            raise InputError(f"{folder}: holds something else; choose a new folder, or an empty one.")
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read: {error.strerror}; choose another folder.") from None


@contextmanager
def run_folder(out: str | Path | None) -> Iterator[Path | None]:
    """The new folder of a run, made before anything is computed; a run that fails leaves none behind."""
    if out is None:
        yield None
        return
    folder = checked_path("out", out)
    check_folder(folder)
    was_there = present(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be made: {error.strerror}; choose another folder.") from None
    with claimed(folder):
        check_folder(folder)  # once more: whoever had claimed it before may have filled it
        try:
            yield folder
        except BaseException:
            if not was_there:
                with suppress(OSError):  # something has been saved in it
                    folder.rmdir()
            raise


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder. Raises `InputError` if one has it."""
    try:
        lock = locked(folder)
    except (BlockingIOError, FileExistsError):
        raise InputError(
            f"{folder}: another run is writing into it; wait for its end, or choose another folder."
        ) from None
    except OSError:  # there is no such folder, or no lock in this file system, as in some of networks
        lock = None
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def locked(folder: Path) -> int:
    """A lock on a folder, to be closed; a process that ends, in whatever way, lets go of it."""
    if sys.platform == "win32":  # where no folder can be opened, but a file can vanish with its last user
        return os.open(f"{folder.absolute()}.lock", os.O_CREAT | os.O_EXCL | os.O_TEMPORARY)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def save_state(folder: Path, state: State) -> None:
    """Write a state over the one before, whole or not at all. Raises `CheckpointError` if it cannot be."""
    partial = folder / f".minigpt-{secrets.token_hex(8)}.tmp"
    try:
        save_file(dict(state.arrays), partial, {"minigpt": json.dumps(state.facts, default=np.generic.item)})
        if (folder / STATE).is_file():
            shutil.copymode(folder / STATE, partial)
        partial.replace(folder / STATE)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{folder}: its state cannot be written: {reason}. What was saved before is still there."
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def check_state(state: State) -> None:
    """Raise `ValueError`, `KeyError` or `TypeError` for what no run has saved."""
    facts = state.facts
    plan, done, corpus, text = Plan(**facts["plan"]), facts["steps_done"], facts["corpus"], facts["text"]
    check_arrays(state.arrays, done)
    if type(done) is not int or not 0 <= done <= plan.steps:
        raise ValueError("steps_done")
    if not isinstance(facts["config"], dict) or not isinstance(text, str):
        raise TypeError("config, text")
    if corpus is not None:
        paths, held_out, share = (corpus[name] for name in ("paths", "held_out", "share"))
        if len(corpus) != 3 or not all(isinstance(path, str) for path in [*paths, *held_out]) or share <= 0:
            raise ValueError("corpus")


def check_arrays(arrays: Mapping[str, np.ndarray], steps_done: int) -> None:
    """Raise `ValueError` or `KeyError` for other arrays than those of a run after so many steps."""
    n, tests = arrays["parameters"].size, len(arrays["held_out"])
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    expected = dict.fromkeys(("parameters", "first_moments", "second_moments"), (single, (n,)))
    expected_history = {"losses": (double, (steps_done,)), "held_out": (double, (tests, 2))}
    if {name: (array.dtype, array.shape) for name, array in arrays.items()} != expected | expected_history:
        raise ValueError("arrays")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("numbers")


def facts_of(text: bytes, file: Path) -> dict[str, Any]:
    """What a state says beside its arrays. Raises `ValueError` for what is no JSON, or nested without end."""
    try:
        facts: dict[str, Any] = parse_json(text, file)
    except CheckpointError as error:
        raise ValueError(*error.args) from None
    return facts


def load_state(folder: Path, check: Callable[[State], object] = check_state) -> State:
    """The state in a folder. Raises `InputError` if there is none, and `CheckpointError` if it is broken.

    check raises `ValueError`, `KeyError` or `TypeError` for what the caller's kind of run has not saved.
    """
    file = folder / STATE
    if not present(file):
        raise InputError(f"{folder}: there is no {STATE} to go on from; start a run without --resume.")
    try:
        with closing(TensorFile(file)) as stored:
            arrays = {name: tensor.read_as_stored() for name, tensor in stored.tensors.items()}
            facts = stored.metadata["minigpt"].encode()
            stored.check_unchanged(by_name=False)
        state = State(arrays, facts_of(facts, file))
        check(state)
        return state
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{file}: is broken, or no state that minigpt saved; start a new run."
        ) from None
