"""The first rung of the ladder computes what the next one does."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigpt
from minigpt import activations, simple
from minigpt.model import named_parameters
from tests.synthetic import plain, random_gpt2

IDS = [5, 17, 3, 40, 5, 300, 0]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"n_head": 1},
        {"n_inner": 50},
        {"tie_word_embeddings": False},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"layer_norm_epsilon": 0.1},
    ],
    ids=str,
)
def test_simple_py_and_model_py_are_the_same_formula(config: dict[str, Any]) -> None:
    model = plain(random_gpt2(**config)).astype(np.float64)
    found = simple.gpt2(IDS, named_parameters(model), model.config)
    np.testing.assert_allclose(found, model(IDS), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["gelu", "relu", "silu"])
def test_another_activation_is_one_function_replaced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_gpt2(activation_function=name).astype(np.float64)
    monkeypatch.setattr(simple, "gelu", getattr(activations, name))
    found = simple.gpt2(IDS, named_parameters(model), model.config)
    np.testing.assert_allclose(found, model(IDS), rtol=0, atol=1e-11)


def test_in_float32_too() -> None:
    model = random_gpt2()
    found = simple.gpt2(IDS, named_parameters(model), model.config)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain(model)(IDS), rtol=0, atol=1e-4)


def test_greedy_is_greedy() -> None:
    model = random_gpt2().astype(np.float64)
    found = simple.generate(IDS, named_parameters(model), model.config, 8)
    assert found == [*IDS, *minigpt.generate(model, IDS, max_new_tokens=8, temperature=0)]


def test_it_is_short() -> None:
    tree = ast.parse(Path(simple.__file__).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    statements = sum(len(ast.unparse(function.body[1:]).splitlines()) + 1 for function in functions)
    assert statements <= 50
