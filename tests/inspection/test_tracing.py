"""The trace lists every intermediate with its shape and line, and computes what is asked for."""

import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt import model as model_module
from minigpt.errors import InputError, MiniGPTError
from minigpt.inspection import MISTAKES, ablate, trace
from minigpt.inspection import tracing as tracing_module
from minigpt.inspection.intervention import hook_names
from minigpt.inspection.notebook import html_table
from tests.synthetic import random_gpt2

IDS = [3, 1, 4, 1, 5]
MODEL = random_gpt2()


def test_it_holds_what_the_model_computed() -> None:
    seen = {}

    def record(name: str, array: np.ndarray) -> np.ndarray:
        seen[name] = array
        return array

    logits = MODEL(IDS, hook=record)
    found = trace(MODEL, IDS)
    assert list(found) == list(seen) == hook_names(MODEL)
    for name, array in seen.items():
        np.testing.assert_array_equal(found[name], array)
    np.testing.assert_array_equal(found.logits, logits)


def test_every_line_is_the_one_that_calls_the_hook() -> None:
    for name, made in trace(MODEL, IDS).intermediates.items():
        assert Path(made.path) == Path(inspect.getfile(model_module))
        assert "hook(" in made.code
        last = name.rpartition(".")[2]
        assert f'"{last}"' in made.code or ("layer_norm" in made.function and ("ln_" in name))
        assert made.where == f"model.py:{made.line}"


@pytest.mark.parametrize(
    ("name", "function"),
    [("wte", "embed"), ("h.1.attn.weights", "attention_weights"), ("h.0.ln_2", "layer_norm"),
     ("h.2.mlp.act", "mlp"), ("h.0.resid_mid", "block"), ("logits", "GPT2.__call__")],
)  # fmt: skip
def test_the_function_that_made_it(name: str, function: str) -> None:
    assert trace(MODEL, IDS).intermediates[name].function == function


def test_another_block_is_traced_to_its_own_file() -> None:
    wrong, hook = MISTAKES["post-norm"].apply(MODEL)
    made = trace(wrong, IDS, hook=hook).intermediates["h.0.resid_mid"]
    assert (Path(made.path).name, made.function) == ("gallery.py", "post_norm")


def test_patterns_select() -> None:
    found = trace(MODEL, IDS, names="h.*.attn.weights")
    assert list(found.select("h.*.attn.weights")) == [f"h.{i}.attn.weights" for i in range(3)]
    assert found.stack("h.*.attn.weights").shape == (3, 4, 5, 5)
    assert list(found.select("h.1.ln_*")) == ["h.1.ln_1.scale", "h.1.ln_1", "h.1.ln_2.scale", "h.1.ln_2"]


def test_what_was_not_kept_is_computed_when_asked_for() -> None:
    calls = []

    def count(name: str, array: np.ndarray) -> np.ndarray:
        calls.append(name)
        return array

    found = trace(MODEL, IDS, names=["wte"], hook=count)
    assert len(found) == len(hook_names(MODEL))
    assert calls.count("logits") == 1
    np.testing.assert_array_equal(found["h.2.resid_post"], trace(MODEL, IDS)["h.2.resid_post"])
    assert calls.count("logits") == 2
    assert found["h.2.resid_post"] is not None
    assert calls.count("logits") == 2  # it is kept now


def test_large_arrays_wait_until_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_module, "LARGE", 5 * 32 * 4)
    found = trace(MODEL, IDS)
    assert "h.0.mlp.act" in found
    assert "logits" in found
    assert "59 intermediates" in repr(found)
    assert "59 of them kept" not in repr(found)
    np.testing.assert_array_equal(found["logits"], MODEL(IDS, hook=lambda _, array: array))


def test_the_trace_shows_what_the_model_went_on_with() -> None:
    found = trace(MODEL, IDS, hook=ablate(MODEL, "h.0.attn.v", head=2))
    assert not found["h.0.attn.v"][2].any()
    assert found["h.0.attn.v"][1].any()
    assert not found["h.0.attn.mixed"][2].any()


def test_the_table_has_a_row_per_name_with_shape_and_line() -> None:
    lines = repr(trace(MODEL, IDS)).splitlines()
    row = next(line for line in lines if line.startswith("h.*.attn.weights"))
    assert "(4, 5, 5)" in row
    assert "model.py:" in row
    assert "softmax(masked_scores)" in row
    assert len(lines) == 1 + 2 + 18 + 3
    assert max(map(len, lines)) <= 120


def test_batches_are_traced_too() -> None:
    assert trace(MODEL, [IDS, IDS])["h.0.attn.weights"].shape == (2, 4, 5, 5)


def test_changing_the_ids_afterwards_changes_nothing() -> None:
    ids = np.array(IDS)
    found = trace(MODEL, ids, names="wte")
    ids[:] = 0
    np.testing.assert_array_equal(found["logits"], trace(MODEL, IDS)["logits"])


@pytest.mark.parametrize("name", ["h.3.attn.weights", "h.0.attn.wieghts", "nothing*"])
def test_an_unknown_name_is_refused(name: str) -> None:
    found = trace(MODEL, IDS)
    assert name not in found
    assert found.get(name) is None
    with pytest.raises(InputError, match="nothing is called") as caught:
        found[name]
    assert isinstance(caught.value, KeyError)
    assert str(caught.value).startswith("trace: ")
    with pytest.raises(MiniGPTError):
        trace(MODEL, IDS, names=name)


def test_a_pattern_in_the_place_of_a_name_is_told_where_it_belongs() -> None:
    found = trace(MODEL, IDS)
    with pytest.raises(InputError, match=r"is a pattern.*\.stack\('h\.\*\.attn\.q'\)") as caught:
        found["h.*.attn.q"]
    assert isinstance(caught.value, KeyError)  # so that `get` works, as with every mapping
    assert found.get("h.*.attn.q") is None


def test_arrays_of_different_shapes_do_not_stack() -> None:
    with pytest.raises(InputError, match="different shapes"):
        trace(MODEL, IDS).stack("h.0.*")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("names", [[None], 5, ["wte", 1.5]])
def test_patterns_are_text(names: Any) -> None:
    with pytest.raises(InputError, match=r"names: found .*; expected patterns such as"):
        trace(MODEL, IDS, names=names)


def test_the_arrays_are_read_only_and_those_of_a_hook_stay_as_they_are() -> None:
    """What is written into a trace would be what its next reader takes for the model's."""
    mine = np.ones((len(IDS), MODEL.config.n_embd), np.float32)
    found = trace(MODEL, IDS, names="wte", hook=lambda name, array: mine if name == "wte" else array)
    for name in ("wte", "h.0.attn.q", "logits"):
        with pytest.raises(ValueError, match="read-only"):
            found[name][...] = 0
    assert mine.flags.writeable


def test_what_is_known_about_an_array_can_be_stored() -> None:
    made = trace(MODEL, IDS).intermediates["wte"]
    assert pickle.loads(pickle.dumps(made)) == made


def test_a_trace_that_goes_on_from_a_cache() -> None:
    whole, cache = trace(MODEL, IDS, names="*"), MODEL.new_cache()
    MODEL(IDS[:2], cache=cache)
    rest = trace(MODEL, IDS[2:], cache=cache)
    np.testing.assert_allclose(rest["logits"], whole["logits"][2:], rtol=0, atol=1e-4)
    assert rest["h.0.attn.weights"].shape[-2:] == (len(IDS) - 2, len(IDS))
    assert cache.lengths == len(IDS)
    some = trace(MODEL, IDS[:1], names="logits", cache=MODEL.new_cache())
    np.testing.assert_array_equal(some["wte"], MODEL.parameters.wte[IDS[:1]])


def test_a_notebook_shows_tables_in_which_names_are_text() -> None:
    shown = trace(MODEL, IDS)._repr_html_()
    assert shown.count("<tr>") == 24
    assert "model.py:" in shown
    assert html_table(["<b>"], [["<script>"]]).count("&lt;") == 2
