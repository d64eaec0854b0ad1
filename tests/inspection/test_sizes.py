"""Quantities from the config alone are those of the real thing."""

from typing import Any

import numpy as np
import pytest

from minigpt.inspection import trace
from minigpt.inspection.sizes import (
    FAMILY,
    activation_bytes,
    cache_bytes,
    file_bytes,
    n_parameters_of,
    operations,
    parts,
)
from minigpt.model import GPT2, n_parameters
from minigpt.parameters import Config
from minigpt.ranges import LARGEST_SIZE
from tests.synthetic import SMALL, random_gpt2

# Bytes of the tensors in the official files, and the parameters in them (the Hub's model.safetensors).
PUBLISHED = {
    "distilgpt2": (352_816_128, 81_912_576),
    "gpt2": (548_090_880, 124_439_808),
    "gpt2-medium": (1_519_955_968, 354_823_168),
    "gpt2-large": (3_247_115_264, 774_030_080),
    "gpt2-xl": (6_431_771_392, 1_557_611_200),
}
CONFIGS: list[dict[str, Any]] = [{}, {"n_inner": 50}, {"tie_word_embeddings": False}, {"n_head": 8}]


@pytest.mark.parametrize("name", FAMILY)
def test_the_official_files(name: str) -> None:
    size, count = PUBLISHED[name]
    assert n_parameters_of(FAMILY[name]) == count
    assert file_bytes(FAMILY[name], masks=True) == size
    assert file_bytes(FAMILY[name]) == 4 * count


def test_gpt2_by_part() -> None:
    counts = {part.name: part.count for part in parts(Config())}
    assert counts["wte.weight"] == 38_597_376
    assert counts["wpe.weight"] == 786_432
    block = sum(part.count for part in parts(Config()) if part.name.startswith("h.*"))
    assert block == 7_087_872
    assert sum(part.count for part in parts(Config()) if part.name.startswith("ln_f")) == 1_536
    assert 38_597_376 + 786_432 + 12 * block + 1_536 == 124_439_808
    assert cache_bytes(Config(), 1024) == 75_497_472


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_any_model(config: dict[str, Any]) -> None:
    model = random_gpt2(**config)
    assert n_parameters_of(model.config) == n_parameters(model)
    cache = model.new_cache()
    assert cache_bytes(model.config, model.config.n_positions) == cache.keys.nbytes + cache.values.nbytes


KEPT = (
    "h.*.resid_pre", "h.*.resid_mid", "h.2.resid_post", "h.*.ln_1", "h.*.ln_1.scale", "h.*.ln_2",
    "h.*.ln_2.scale", "h.*.attn.q", "h.*.attn.k", "h.*.attn.v", "h.*.attn.weights", "h.*.attn.mixed",
    "h.*.mlp.pre", "h.*.mlp.act", "ln_f", "ln_f.scale",
)  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_what_training_keeps(config: dict[str, Any]) -> None:
    model = random_gpt2(**config)
    found = trace(model, np.arange(20), names=KEPT)
    names = {name for pattern in KEPT for name in found.select(pattern)}
    assert sum(found[name].nbytes for name in names) == activation_bytes(model.config, 20)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_operations_are_those_of_the_products(config: dict[str, Any]) -> None:
    """Counted from the shapes that go through them, for the last of 20 tokens."""
    model = GPT2.random(Config(**SMALL | config))
    found = trace(model, np.arange(20), names="*")
    by_hand = 2 * model.config.vocab_size * model.config.n_embd
    for layer, h in enumerate(model.parameters.h):
        matrices = (h.attn.c_attn, h.attn.c_proj, h.mlp.c_fc, h.mlp.c_proj)
        by_hand += sum(2 * matrix.weight.size for matrix in matrices)
        by_hand += 2 * 2 * found[f"h.{layer}.attn.weights"][:, -1].size * model.config.head_dim
    assert operations(model.config, keys=20) == by_hand


def test_the_sizes_of_the_largest_config_are_counted_at_once() -> None:
    largest = dict.fromkeys(("vocab_size", "n_positions", "n_embd", "n_layer", "n_inner"), LARGEST_SIZE)
    assert n_parameters_of(Config(**largest, n_head=1)) > 6 * LARGEST_SIZE**3
