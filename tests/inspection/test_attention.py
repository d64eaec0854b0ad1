"""Attention weights, and the exact structures that other viewers take."""

import sys
from typing import Any

import numpy as np
import pytest

from minigpt.errors import InputError
from minigpt.inspection import ablate, attention_weights, for_bertviz, for_circuitsvis
from minigpt.model import GPT2
from minigpt.tokenizer import Tokenizer

IDS = [40, 1842, 345, 13]


def test_rows_sum_to_one_and_look_only_back(speaking: GPT2) -> None:
    weights = attention_weights(speaking, IDS)
    assert weights.shape == (2, 2, 4, 4)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)
    assert not weights[..., np.triu(np.ones((4, 4), bool), 1)].any()


def test_a_hook_changes_them(speaking: GPT2) -> None:
    weights = attention_weights(speaking, IDS, hook=ablate(speaking, "h.1.attn.q", head=0))
    np.testing.assert_allclose(weights[1, 0, 3], 0.25, rtol=1e-6)  # a query of zeros likes all keys alike


def test_bertviz_gets_a_tensor_per_layer(speaking: GPT2, tokenizer: Tokenizer) -> None:
    """`bertviz.util.format_attention` wants a list of torch tensors (1, n_head, T, T), and stacks them."""
    torch = pytest.importorskip("torch", reason="BertViz takes torch tensors, and torch is not installed")
    arguments = for_bertviz(speaking, tokenizer, IDS)
    assert set(arguments) == {"attention", "tokens"}
    assert arguments["tokens"] == ["I", " love", " you", "."]
    assert [tuple(layer.shape) for layer in arguments["attention"]] == [(1, 2, 4, 4)] * 2
    stacked = torch.stack([layer.squeeze(0) for layer in arguments["attention"]])
    np.testing.assert_array_equal(stacked.numpy(), attention_weights(speaking, IDS))


def test_bertviz_without_torch(speaking: GPT2, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="torch is missing"):
        for_bertviz(speaking, tokenizer, IDS)


@pytest.mark.usefixtures("unchecked")
def test_circuitsvis_gets_one_layer(speaking: GPT2, tokenizer: Tokenizer) -> None:
    arguments = for_circuitsvis(speaking, tokenizer, IDS, layer=1)
    assert set(arguments) == {"attention", "tokens"}
    assert arguments["tokens"] == ["I", " love", " you", "."]
    np.testing.assert_array_equal(arguments["attention"], attention_weights(speaking, IDS)[1])
    impossible: list[Any] = [2, -1, 1.5, True, "1"]
    for layer in impossible:
        with pytest.raises(InputError, match=f"layer is {layer!r}; this model has layers 0 to 1"):
            for_circuitsvis(speaking, tokenizer, IDS, layer=layer)
