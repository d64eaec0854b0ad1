"""The logit lens ends in the model's own output, and ranks as sorting would."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minigpt.errors import InputError
from minigpt.inspection import ablate, attribute, lens_logits, logit_lens, trace, unembed
from minigpt.inspection.intervention import hook_names
from minigpt.model import GPT2
from minigpt.sampling import probabilities
from tests.synthetic import random_gpt2

IDS = [3, 1, 4, 1, 5]
MODEL = random_gpt2()


def test_the_last_layer_is_the_output_exactly() -> None:
    found = trace(MODEL, IDS)
    np.testing.assert_array_equal(unembed(MODEL, found["h.2.resid_post"]), found["logits"])
    for position in range(len(IDS)):
        # One row alone is a matrix-vector product, which BLAS adds up in another order.
        np.testing.assert_allclose(
            lens_logits(MODEL, IDS, position=position)[-1], found["logits"][position], rtol=1e-5, atol=1e-5
        )


def test_each_depth_takes_its_own_statistics() -> None:
    p, x = MODEL.parameters, trace(MODEL, IDS)["h.0.resid_post"].astype(np.float64)
    scale = np.sqrt(x.var(axis=-1, keepdims=True) + MODEL.config.layer_norm_epsilon)
    normed = (x - x.mean(axis=-1, keepdims=True)) / scale * p.ln_f.weight + p.ln_f.bias
    expected = normed @ p.lm_head.T
    found = np.stack([lens_logits(MODEL, IDS, position=position)[1] for position in range(len(IDS))])
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_the_table_holds_the_likeliest_of_every_depth_and_position() -> None:
    lens = logit_lens(MODEL, IDS, top=3)
    assert lens.names == ("h.0.resid_pre", "h.0.resid_post", "h.1.resid_post", "h.2.resid_post")
    assert lens.ids.shape == lens.logits.shape == lens.probabilities.shape == (4, 5, 3)
    for depth, name in enumerate(lens.names):
        logits = unembed(MODEL, trace(MODEL, IDS)[name])
        order = np.argsort(-logits, axis=-1, kind="stable")[:, :3]
        np.testing.assert_array_equal(lens.ids[depth], order)
        chances = np.take_along_axis(probabilities(logits), order, -1)
        np.testing.assert_allclose(lens.probabilities[depth], chances, rtol=1e-12)


def test_a_hook_changes_what_is_read() -> None:
    hook = ablate(MODEL, "h.1.mlp.out")
    changed, plain = lens_logits(MODEL, IDS, hook=hook), lens_logits(MODEL, IDS)
    np.testing.assert_array_equal(changed[:2], plain[:2])
    assert (changed[2:] != plain[2:]).any(axis=-1).all()


@pytest.mark.parametrize("name", hook_names(MODEL))
def test_the_last_depth_is_the_output_under_every_hook(name: str) -> None:
    def hook(found: str, array: np.ndarray) -> np.ndarray:
        return array * array.dtype.type(1.5) if found == name else array

    expected = MODEL(IDS, hook=hook)
    lens = logit_lens(MODEL, IDS, top=3, positions=[0, -2], hook=hook)
    np.testing.assert_array_equal(lens.logits[-1], -np.sort(-expected[[0, -2]])[:, :3])
    for position in (0, -2):
        np.testing.assert_array_equal(
            lens_logits(MODEL, IDS, position=position, hook=hook)[-1], expected[position]
        )
    if name in ("ln_f.scale", "ln_f", "logits"):
        assert (expected != MODEL(IDS)).any()


def test_a_hook_of_the_end_leaves_the_depths_before_it() -> None:
    hook = ablate(MODEL, "logits", position=1)  # of all five tokens, though one position is asked for
    changed, plain = (lens_logits(MODEL, IDS, position=1, hook=h) for h in (hook, None))
    np.testing.assert_array_equal(changed[:-1], plain[:-1])
    assert not changed[-1].any()


def test_some_positions_are_what_all_would_show_there() -> None:
    every, some = logit_lens(MODEL, IDS, top=3), logit_lens(MODEL, IDS, top=3, positions=[3, -5])
    np.testing.assert_array_equal(some.ids, every.ids[:, [3, 0]])
    np.testing.assert_allclose(some.logits, every.logits[:, [3, 0]], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(some.probabilities, every.probabilities[:, [3, 0]], rtol=1e-4)
    assert logit_lens(MODEL, IDS, positions=[]).ids.shape == (4, 0, 1)


def test_only_what_is_asked_for_is_unembedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row costs a product with the whole vocabulary."""
    rows = []

    def counted(model: GPT2, x: np.ndarray) -> np.ndarray:
        rows.append(len(x))
        return unembed(model, x)

    monkeypatch.setattr("minigpt.inspection.lens.unembed", counted)
    lens_logits(MODEL, IDS, position=2)
    logit_lens(MODEL, IDS, positions=[0, 4])
    assert rows == [1] * 3 + [2] * 3  # the last depth is there already


@pytest.mark.usefixtures("unchecked")
def test_what_is_impossible_is_refused() -> None:
    with pytest.raises(InputError, match="one text"):
        logit_lens(MODEL, [IDS, IDS])
    tops: list[Any] = [0, 308, True, 1.5, "1"]
    for top in tops:
        with pytest.raises(InputError, match=f"top is {top}; it must be 1 to 307"):
            logit_lens(MODEL, IDS, top=top)
    for position in (5, -6):
        with pytest.raises(InputError, match=f"position is {position}; there are 5 tokens"):
            logit_lens(MODEL, IDS, positions=[position])
        with pytest.raises(InputError, match=f"position is {position}; there are 5 tokens"):
            lens_logits(MODEL, IDS, position=position)


@pytest.mark.parametrize("look", [logit_lens, lens_logits, trace, attribute])
def test_rows_of_different_lengths_are_refused(look: Callable[..., object]) -> None:
    with pytest.raises(InputError, match="different lengths"):
        look(MODEL, [[1], [1, 2]])
