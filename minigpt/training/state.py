"""What a run keeps on disk: a checkpoint like any other, and beside it a state from which the run goes on.

The state is one file, written under another name and then renamed, so that there is always a whole one: a
full disk or a lost process costs what was learnt since, and nothing that was saved before.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..errors import CheckpointError, InputError

STATE = "training.safetensors"


@dataclass(frozen=True)
class State:
    """Everything that the steps to come depend on, as arrays and as JSON."""

    arrays: Mapping[str, np.ndarray]
    facts: dict[str, Any]


def check_folder(folder: Path) -> None:
    """Raise `InputError` unless the folder is new or empty."""
    if (folder / STATE).exists():
        raise InputError(
            f"{folder}: holds a run of its own; go on with it by --resume, or choose a new folder."
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; choose a folder for the model.")
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: holds something else; choose a new folder, or an empty one.")


def save_state(folder: Path, state: State) -> None:
    """Write a state over the one before, whole or not at all. Raises `CheckpointError` if it cannot be."""
    partial = folder / f".minigpt-{secrets.token_hex(8)}.tmp"
    try:
        save_file(dict(state.arrays), partial, {"minigpt": json.dumps(state.facts)})
        partial.replace(folder / STATE)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{folder}: its state cannot be written: {reason}. What was saved before is still there."
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def load_state(folder: Path) -> State:
    """The state in a folder. Raises `InputError` if there is none, and `CheckpointError` if it is broken."""
    file = folder / STATE
    if not file.exists():
        raise InputError(f"{folder}: there is no {STATE} to go on from; start a run without --resume.")
    try:
        with safe_open(file, "numpy") as stored:
            facts = json.loads(stored.metadata()["minigpt"])
            names = stored.keys()
            return State({name: stored.get_tensor(name) for name in names}, facts)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{file}: is broken, or no state that minigpt saved; start a new run."
        ) from None
