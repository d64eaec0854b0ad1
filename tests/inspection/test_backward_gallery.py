"""Every mistake of learning is one, is what it says, and is caught."""

from dataclasses import fields, replace

import numpy as np
import pytest

from minigpt.inspection.backward_gallery import (
    TRAINING_MISTAKES,
    Example,
    Recipe,
    TrainingMistake,
    practise,
    step_gradients,
)
from minigpt.parameters import arrays_by_name, transform
from minigpt.tape import gradients
from tests.synthetic import random_gpt2

MODEL = random_gpt2(dtype=np.float64, n_layer=2)
every_mistake = pytest.mark.parametrize("mistake", TRAINING_MISTAKES.values(), ids=list(TRAINING_MISTAKES))
of_backward = pytest.mark.parametrize(
    "mistake", [mistake for mistake in TRAINING_MISTAKES.values() if mistake.changes == "find"]
)


def texts(seed: int, vocab_size: int = 307) -> list[Example]:
    """A short text and a long one, each of which ends with the end of text; tokens repeat."""
    rng = np.random.default_rng(seed)
    ids = [np.append(rng.integers(0, 12, length), vocab_size - 1) for length in (5, 23)]
    return [(text[:-1], text[1:]) for text in ids]


@every_mistake
def test_it_changes_what_it_says_and_nothing_else(mistake: TrainingMistake) -> None:
    right = Recipe()
    changed = [
        part.name
        for part in fields(Recipe)
        if getattr(mistake.recipe, part.name) is not getattr(right, part.name)
    ]
    assert changed == [mistake.changes]


@every_mistake
def test_a_comparison_with_the_right_way_finds_it(mistake: TrainingMistake) -> None:
    """What every proof of this kind comes to: an array that differs by far more than rounding."""
    if mistake.changes == "optimizer":
        steps = [texts(seed) for seed in range(3)]
        right, wrong = (practise(MODEL, steps, recipe) for recipe in (Recipe(), mistake.recipe))
        assert right[0] == wrong[0]
        assert abs(right[1] - wrong[1]) > 1e-6
        return
    right_loss, right_gradients = step_gradients(MODEL, texts(0), Recipe())
    _, found = step_gradients(MODEL, texts(0), mistake.recipe)
    assert {name: g.shape for name, g in found.items()} == {n: g.shape for n, g in right_gradients.items()}
    assert all(np.isfinite(gradient).all() for gradient in found.values())
    difference = max(
        np.abs(found[name] - right_gradients[name]).max() / np.abs(right_gradients[name]).max()
        for name in found
        if not name.endswith("c_attn.bias")
    )
    assert difference > 1e-3, right_loss


@of_backward
def test_a_finite_difference_finds_a_wrong_way_back(mistake: TrainingMistake) -> None:
    ids, targets = texts(0)[1]
    weights = np.full(ids.shape, 1 / ids.size)
    rng = np.random.default_rng(1)
    direction = {
        name: rng.normal(size=array.shape) for name, array in arrays_by_name(MODEL.parameters).items()
    }

    def loss(step: float) -> float:
        def move(name: str, array: np.ndarray) -> np.ndarray:
            return array + step * direction[name]

        return gradients(replace(MODEL, parameters=transform(MODEL.parameters, move)), ids, targets, weights)[
            0
        ]

    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    right, wrong = (
        sum(float((found[name] * direction[name]).sum()) for name in found)
        for found in (recipe.find(MODEL, ids, targets, weights)[1] for recipe in (Recipe(), mistake.recipe))
    )
    assert right == pytest.approx(slope, rel=1e-5)
    assert abs(wrong - slope) > 1e-3 * abs(slope)


def test_the_right_recipe_is_a_step_over_all_targets() -> None:
    loss, found = step_gradients(MODEL, texts(0), Recipe())
    n_targets = 5 + 23
    parts = [gradients(MODEL, ids, targets, np.full(ids.shape, 1 / n_targets)) for ids, targets in texts(0)]
    assert loss == pytest.approx(sum(part[0] for part in parts))
    np.testing.assert_allclose(found["ln_f.bias"], sum(part[1]["ln_f.bias"] for part in parts))
