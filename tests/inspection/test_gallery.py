"""Every mistake changes the logits, makes what it says, and leaves the right model right."""

from dataclasses import replace

import numpy as np
import pytest

from minigpt.inspection import MISTAKES, Mistake, chain, trace
from minigpt.model import gelu_new
from tests.synthetic import random_gpt2

IDS = [3, 1, 4, 1, 5, 9]
MODEL = random_gpt2(dtype=np.float64)


def plain(name: str, array: np.ndarray) -> np.ndarray:
    return array


REFERENCE = MODEL(IDS, hook=plain)
every_mistake = pytest.mark.parametrize("mistake", MISTAKES.values(), ids=list(MISTAKES))


def wrong_trace(name: str) -> dict[str, np.ndarray]:
    wrong, hook = MISTAKES[name].apply(MODEL)
    return dict(trace(wrong, IDS, hook=hook))


@every_mistake
def test_it_changes_the_logits_and_not_the_model(mistake: Mistake) -> None:
    wrong, hook = mistake.apply(MODEL)
    logits = wrong(IDS, hook=hook)
    assert np.abs(logits - REFERENCE).max() > 1e-5
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(MODEL(IDS, hook=plain), REFERENCE)


@every_mistake
def test_it_changes_what_it_says(mistake: Mistake) -> None:
    wrong, hook = mistake.apply(MODEL)
    changed = {
        "config": wrong.config != MODEL.config,
        "parameters": wrong.parameters is not MODEL.parameters,
        "hook": hook is not None,
        "block": wrong.block is not MODEL.block,
    }
    if mistake.name == "untied-head":  # the config has to say so too
        assert changed.pop("config")
        assert not wrong.config.tie_word_embeddings
    assert [name for name, is_changed in changed.items() if is_changed] == [mistake.changes]


@every_mistake
def test_every_intermediate_is_still_there(mistake: Mistake) -> None:
    wrong, hook = mistake.apply(MODEL)
    found, right = trace(wrong, IDS, hook=hook), trace(MODEL, IDS)
    assert set(found) == set(right)
    for name in right:
        assert found[name].shape == right[name].shape
        assert found[name].dtype == np.float64


@every_mistake
def test_it_explains_itself(mistake: Mistake) -> None:
    for text in (mistake.does, mistake.because):
        assert text.endswith(".")
        assert len(text) < 300


def test_erf_gelu() -> None:
    wrong = wrong_trace("erf-gelu")
    difference = np.abs(wrong["h.0.mlp.act"] - gelu_new(wrong["h.0.mlp.pre"]))
    assert 0 < difference.max() < 0.0005


def test_no_scale() -> None:
    right = trace(MODEL, IDS)["h.0.attn.scores"]
    np.testing.assert_allclose(wrong_trace("no-scale")["h.0.attn.scores"], right * MODEL.config.head_dim**0.5)


def test_scale_by_n_embd() -> None:
    found, config = wrong_trace("scale-by-n-embd"), MODEL.config
    products = found["h.0.attn.q"] @ found["h.0.attn.k"].swapaxes(-1, -2)
    np.testing.assert_allclose(found["h.0.attn.scores"], products / config.n_embd**0.5)


def test_no_mask_lets_the_first_token_see_the_last() -> None:
    assert (wrong_trace("no-mask")["h.0.attn.weights"] > 0).all()


def test_mask_after_softmax_loses_weight() -> None:
    weights = wrong_trace("mask-after-softmax")["h.0.attn.weights"]
    assert not weights[..., np.triu(np.ones((6, 6), bool), 1)].any()
    assert (weights.sum(axis=-1)[:, :-1] < 0.999).all()
    np.testing.assert_allclose(weights.sum(axis=-1)[:, -1], 1)


def test_post_norm_ends_every_block_normalised() -> None:
    p, x = MODEL.parameters.h[0].ln_2, wrong_trace("post-norm")["h.0.resid_post"]
    normed = (x - p.bias) / p.weight
    np.testing.assert_allclose(normed.mean(axis=-1), 0, atol=1e-9)
    np.testing.assert_allclose(normed.std(axis=-1), 1, rtol=1e-3)


def test_no_residual_passes_on_the_answers_alone() -> None:
    found = wrong_trace("no-residual")
    np.testing.assert_array_equal(found["h.1.resid_mid"], found["h.1.attn.out"])
    np.testing.assert_array_equal(found["h.1.resid_post"], found["h.1.mlp.out"])


def test_positions() -> None:
    assert not wrong_trace("no-position")["wpe"].any()
    np.testing.assert_array_equal(wrong_trace("positions-from-one")["wpe"], MODEL.parameters.wpe[1:7])


def test_untied_head_and_transposed_weights() -> None:
    wrong, _ = MISTAKES["untied-head"].apply(MODEL)
    assert wrong.parameters.lm_head.shape == MODEL.parameters.wte.shape
    assert np.abs(wrong.parameters.lm_head - MODEL.parameters.wte).max() > 0.01
    wrong, _ = MISTAKES["transposed-weights"].apply(MODEL)
    for h, right in zip(wrong.parameters.h, MODEL.parameters.h, strict=True):
        np.testing.assert_array_equal(h.attn.c_proj.weight, right.attn.c_proj.weight.T)
        assert h.attn.c_attn is right.attn.c_attn


def test_heads_without_transpose_mix_tokens() -> None:
    q, n_head = wrong_trace("heads-without-transpose")["h.0.attn.q"], MODEL.config.n_head
    right = trace(MODEL, IDS)["h.0.attn.q"]
    np.testing.assert_array_equal(q.reshape(6, -1), right.swapaxes(0, 1).reshape(6, -1))
    assert q.shape[0] == n_head


def test_layer_norm_scales() -> None:
    x, epsilon = trace(MODEL, IDS)["h.0.resid_pre"], MODEL.config.layer_norm_epsilon
    outside = wrong_trace("epsilon-outside-root")["h.0.ln_1.scale"]
    np.testing.assert_allclose(outside, x.std(axis=-1, keepdims=True) + epsilon, rtol=1e-9)
    unbiased = wrong_trace("unbiased-variance")["h.0.ln_1.scale"]
    np.testing.assert_allclose(unbiased, np.sqrt(x.var(axis=-1, ddof=1, keepdims=True) + epsilon), rtol=1e-9)


def test_mistakes_can_be_combined() -> None:
    wrong, first = MISTAKES["scale-by-n-embd"].apply(MODEL)
    wrong, second = MISTAKES["epsilon-outside-root"].apply(replace(wrong))
    logits = wrong(IDS, hook=chain(first, second))
    assert (logits != wrong(IDS, hook=first)).any()
