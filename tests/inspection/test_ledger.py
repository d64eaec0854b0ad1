"""The ledger finds what differs, and says equal only of what is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minigpt.checkpoints.load import find, load_model
from minigpt.errors import CheckpointError
from minigpt.inspection import MISTAKES, trace
from minigpt.inspection.ledger import (
    N_SAMPLES,
    Reference,
    check_file,
    compare,
    environment,
    largest_difference,
    load_reference,
    places,
    sample,
)
from minigpt.model import GPT2
from tests.synthetic import random_gpt2

IDS = [3, 1, 4, 1, 5]
MODEL = random_gpt2()


def reference_of(model: GPT2) -> Reference:
    """What `scripts/tiny/reference.py` would write, with minigpt in float64 in the place of torch."""
    exact = trace(model.astype(np.float64), IDS, names="*")
    return Reference(
        prompt="3 1 4 1 5",
        ids=IDS,
        sha256="0" * 64,
        versions={"torch": "none"},
        shapes={name: array.shape for name, array in exact.items()},
        largest={name: float(np.abs(array[np.isfinite(array)]).max()) for name, array in exact.items()},
        torch_differences=dict.fromkeys(exact, 1e-7),
        samples={name: sample(array) for name, array in exact.items()},
        last_logits=exact["logits"][-1].astype(np.float32),
    )


REFERENCE = reference_of(MODEL)


def test_the_same_model_is_equal_everywhere() -> None:
    rows = compare(MODEL, REFERENCE)
    assert [row.name for row in rows[:-1]] == list(trace(MODEL, IDS))
    assert all(row.passed for row in rows)
    assert all(row.float64 == 0 for row in rows[:-1])
    assert 0 < max(row.float32 for row in rows) < 1e-4
    assert rows[-1].shape == (307,)


@pytest.mark.parametrize("name", [name for name, mistake in MISTAKES.items() if mistake.changes != "hook"])
def test_a_mistake_is_different(name: str) -> None:
    """Of mistakes as small as the other GELU too: where float32 cannot tell, float64 does."""
    wrong, _hook = MISTAKES[name].apply(MODEL)
    rows = compare(wrong, REFERENCE)
    assert not all(row.passed for row in rows)
    assert next(row for row in rows if row.name == "logits").passed is False


def test_other_shapes_are_infinitely_far() -> None:
    rows = compare(random_gpt2(n_head=2), REFERENCE)
    found = {row.name: row for row in rows}
    assert found["h.0.attn.q"].float32 == float("inf")
    assert not found["h.0.attn.q"].passed
    assert found["wte"].passed


def test_nan_is_different() -> None:
    assert not replace(compare(MODEL, REFERENCE)[0], float32=float("nan")).passed
    assert not replace(compare(MODEL, REFERENCE)[0], float64=float("nan")).passed


def test_differences() -> None:
    inf = np.inf
    assert largest_difference(np.array([1.0, -inf]), np.array([1.5, -inf])) == 0.5
    assert largest_difference(np.array([1.0, 0.0]), np.array([1.0, -inf])) == inf
    assert largest_difference(np.array([1.0]), np.array([1.0, 2.0])) == inf
    assert np.isnan(largest_difference(np.array([np.nan]), np.array([1.0])))


@pytest.mark.parametrize("shape", [(2, 1), (2, 192), (6, 2, 2), (2, 50257), (128,)])
def test_samples_are_taken_at_different_places(shape: tuple[int, ...]) -> None:
    found = places(shape)
    assert len(set(found.tolist())) == len(found) == min(N_SAMPLES, int(np.prod(shape)))
    assert found.min() == 0
    assert found.max() < np.prod(shape)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "reference.json"
    file.write_text('{"facts": [{"id": "é"}], "tensors": []}', encoding="utf-8")
    REFERENCE.save(file)
    assert json.loads(file.read_text(encoding="utf-8"))["facts"] == [{"id": "é"}]  # what else is there stays
    monkeypatch.setattr("minigpt.inspection.ledger.resources.files", lambda _package: tmp_path)
    loaded = load_reference()
    for name in ("prompt", "ids", "sha256", "versions", "shapes", "largest", "torch_differences"):
        assert getattr(loaded, name) == getattr(REFERENCE, name)
    np.testing.assert_array_equal(loaded.last_logits, REFERENCE.last_logits)
    for name, values in REFERENCE.samples.items():
        np.testing.assert_array_equal(loaded.samples[name], values)


def test_a_reference_that_is_missing_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.inspection.ledger.resources.files", lambda _package: tmp_path)
    with pytest.raises(CheckpointError, match=r"reference\.json: it is missing.*install"):
        load_reference()


def test_another_model_file_is_refused(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="sha256"):
        check_file(REFERENCE, checkpoint)


def test_the_bundled_model_equals_torch() -> None:
    """The frozen logits and intermediates of "I love", made by torch, without torch."""
    reference, source = load_reference(), find("tiny", offline=True)
    check_file(reference, source.path)
    assert (reference.prompt, reference.ids) == ("I love", [40, 1842])
    rows = compare(load_model(source.path), reference)
    assert not [row for row in rows if not row.passed]


def test_a_report_names_the_machine_and_nobody() -> None:
    found = environment()
    assert found["numpy"] == np.__version__
    assert str(Path.home()) not in str(found)
