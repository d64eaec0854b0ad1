"""Gradients proven without torch: against finite differences, and by what must be zero."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import minigpt
from minigpt import model as model_module
from minigpt.backward import linear_backward, scatter_add
from minigpt.errors import ContextLengthError, HookError, InputError, MiniGPTError
from minigpt.hooks import as_it_is
from minigpt.model import GPT2, Call, linear
from minigpt.parameters import Linear, Parameters, arrays_by_name, transform
from minigpt.scoring import log_softmax
from minigpt.tape import gradients, target_logprobs
from tests.synthetic import random_gpt2

MODEL = random_gpt2(dtype=np.float64)
RNG = np.random.default_rng(2)
IDS, TARGETS = RNG.integers(0, 307, (2, 3, 11))
IDS[0, 1:4] = IDS[0, 0]
WEIGHTS = RNG.normal(size=IDS.shape)


def loss_of(model: GPT2, hook: Any = None) -> float:
    logprobs = np.take_along_axis(log_softmax(model(IDS, hook=hook or as_it_is)), TARGETS[..., None], -1)
    return float(-(WEIGHTS * logprobs[..., 0]).sum())


def seen_gradients(model: GPT2 = MODEL) -> dict[str, np.ndarray]:
    seen: dict[str, np.ndarray] = {}
    gradients(model, IDS, TARGETS, WEIGHTS, hook=seen.__setitem__)
    return seen


def test_the_loss_is_the_weighted_sum_of_log_probabilities() -> None:
    assert gradients(MODEL, IDS, TARGETS, WEIGHTS)[0] == pytest.approx(loss_of(MODEL), rel=1e-13)


def test_without_weights_it_is_the_mean() -> None:
    loss, found = gradients(MODEL, IDS, TARGETS)
    mean, expected = gradients(MODEL, IDS, TARGETS, np.full(IDS.shape, 1 / IDS.size))
    assert loss == mean
    assert all((found[name] == expected[name]).all() for name in expected)


def test_the_names_and_shapes_are_those_of_the_parameters() -> None:
    _, found = gradients(MODEL, IDS, TARGETS)
    shapes = {name: array.shape for name, array in minigpt.named_parameters(MODEL).items()}
    assert {name: array.shape for name, array in found.items()} == shapes


# ------------------------------------------------------------------------------------- finite differences


def test_the_error_of_a_directional_derivative_falls_with_the_square_of_the_step() -> None:
    _, found = gradients(MODEL, IDS, TARGETS, WEIGHTS)
    direction = {name: RNG.normal(size=array.shape) for name, array in found.items()}
    slope = sum(float((found[name] * direction[name]).sum()) for name in found)

    def moved(step: float) -> GPT2:
        def move(name: str, array: np.ndarray) -> np.ndarray:
            return array + step * direction[name]

        return replace(MODEL, parameters=transform(MODEL.parameters, move))

    def error(step: float) -> float:
        return abs((loss_of(moved(step)) - loss_of(moved(-step))) / (2 * step) - slope) / abs(slope)

    errors = [error(step) for step in (1e-4, 1e-5)]
    assert errors[0] < 1e-4
    order = np.log10(errors[0] / errors[1])
    assert order == pytest.approx(2.0, abs=0.2), errors
    assert error(1e-6) < 1e-8  # from where rounding takes over


@pytest.mark.parametrize("name", sorted(seen_gradients()))
def test_the_gradient_of_an_activation_is_a_difference_made_by_a_hook(name: str) -> None:
    gradient = seen_gradients()[name]
    if name.endswith(".masked_scores"):  # where a key is masked, nothing can be added to -inf
        assert (gradient[..., ~np.tri(11, dtype=bool)] == 0).all()
    direction = RNG.normal(size=gradient.shape)

    def pushed(step: float) -> float:
        return loss_of(MODEL, lambda n, array: array + step * direction if n == name else array)

    difference = (pushed(1e-5) - pushed(-1e-5)) / 2e-5
    scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
    assert abs(difference - (gradient * direction).sum()) <= 1e-7 * scale


# ---------------------------------------------------------------------------------------- what is zero


def test_a_bias_of_all_keys_changes_nothing() -> None:
    _, found = gradients(MODEL, IDS, TARGETS)
    for layer in range(3):
        keys, scale = slice(32, 64), np.abs(found[f"h.{layer}.attn.c_attn.bias"]).max()
        assert np.abs(found[f"h.{layer}.attn.c_attn.bias"][keys]).max() <= 1e-14 * max(1.0, scale)
        assert np.abs(found[f"h.{layer}.attn.c_attn.bias"][:32]).max() > 1e-6


@pytest.mark.parametrize("name", ["logits", "h.0.attn.scores", "h.2.attn.scores"])
def test_the_pushes_of_a_row_add_up_to_zero(name: str) -> None:
    gradient = seen_gradients()[name]
    assert np.abs(gradient.sum(axis=-1)).max() <= 1e-14 * max(1.0, np.abs(gradient).max())


def test_layer_norm_passes_on_nothing_that_only_shifts() -> None:
    seen = seen_gradients()
    for layer, after in ((0, "resid_mid"), (1, "resid_mid"), (2, "resid_mid")):
        passed = seen[f"h.{layer}.resid_pre"] - seen[f"h.{layer}.{after}"]
        assert np.abs(passed.sum(axis=-1)).max() <= 1e-14 * 32 * np.abs(passed).max()


def test_a_token_that_never_occurs_learns_through_the_head_alone() -> None:
    never = np.setdiff1d(np.arange(307), IDS)
    untied = replace(
        MODEL,
        config=replace(MODEL.config, tie_word_embeddings=False),
        parameters=replace(MODEL.parameters, lm_head=MODEL.parameters.wte.copy()),
    )
    _, apart = gradients(untied, IDS, TARGETS)
    _, tied = gradients(MODEL, IDS, TARGETS)
    assert (apart["wte.weight"][never] == 0).all()
    np.testing.assert_allclose(tied["wte.weight"], apart["wte.weight"] + apart["lm_head.weight"], rtol=1e-12)
    for one in ("wte.weight", "lm_head.weight"):  # either alone is another answer
        assert np.abs(tied["wte.weight"] - apart[one]).max() > 1e-3


def test_a_position_that_no_token_has_learns_nothing() -> None:
    _, found = gradients(MODEL, IDS, TARGETS)
    assert (found["wpe.weight"][11:] == 0).all()
    assert (found["wpe.weight"][:11] != 0).any(axis=-1).all()


def test_every_occurrence_of_a_token_counts() -> None:
    table, ids = np.zeros((5, 2)), np.array([3, 1, 3, 3])
    scatter_add(table, ids, np.arange(8.0).reshape(4, 2))
    assert table.tolist() == [[0, 0], [2, 3], [0, 0], [0 + 4 + 6, 1 + 5 + 7], [0, 0]]


def test_a_masked_position_does_not_count() -> None:
    weights = np.where(np.arange(11) < 7, WEIGHTS, 0.0)
    _, found = gradients(MODEL, IDS, TARGETS, weights)
    other = np.where(np.arange(11) < 7, TARGETS, 0)
    _, same = gradients(MODEL, IDS, other, weights)
    assert all((found[name] == same[name]).all() for name in found)
    short = IDS[:, :7], TARGETS[:, :7], WEIGHTS[:, :7]  # and what comes later is not seen
    _, cut = gradients(MODEL, *short)
    for name in found:
        np.testing.assert_allclose(found[name], cut[name], atol=1e-12 * np.abs(cut[name]).max())


# --------------------------------------------------------------------------------------- looking and refusing


def test_looking_changes_nothing() -> None:
    _, found = gradients(MODEL, IDS, TARGETS, WEIGHTS, hook=lambda _name, gradient: gradient)
    _, expected = gradients(MODEL, IDS, TARGETS, WEIGHTS)
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-14 * np.abs(found[name]).max())


def test_every_named_activation_has_a_gradient_of_its_shape() -> None:
    forward: dict[str, tuple[int, ...]] = {}
    MODEL(IDS, hook=lambda name, array: forward.setdefault(name, array.shape) and array)
    assert {name: gradient.shape for name, gradient in seen_gradients().items()} == forward


def test_a_hook_that_changes_a_gradient_is_refused() -> None:
    with pytest.raises(HookError, match=r"h\.2\.mlp\.out.*only looks"):
        gradients(MODEL, IDS, TARGETS, hook=lambda name, g: 2 * g if name == "h.2.mlp.out" else g)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([], []), InputError, "ids: no tokens"),
        (([1, 307], [1, 2]), InputError, "ids: 307 is not a token id"),
        (([1, 2], [1, -1]), InputError, "-1 is not a token id"),
        (([1, 2], [[1, 2]]), InputError, r"targets: found shape \(1, 2\); expected that of ids, \(2,\)"),
        (([1, 2], [0.5, 1.0]), InputError, "float64 values"),
        (([1, 2], [1, 2], [1.0]), InputError, r"weights: found float64 of shape \(1,\)"),
        (([1, 2], [1, 2], [1.0, np.nan]), InputError, "weights: .*finite"),
        (([1, 2], [1, 2], ["a", "b"]), InputError, "weights: found <U1"),
        (([0] * 49, [0] * 49), ContextLengthError, "49 tokens do not fit"),
    ],
)
def test_impossible_input_is_told(arguments: Any, error: type[MiniGPTError], words: str) -> None:
    with pytest.raises(error, match=words):
        gradients(MODEL, *arguments)


def test_log_probabilities_by_blocks_are_those_of_all_logits() -> None:
    x, head = RNG.normal(size=(2, 300, 8)), RNG.normal(size=(17, 8))
    targets = RNG.integers(0, 17, (2, 300))
    expected = np.take_along_axis(log_softmax(x @ head.T), targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(target_logprobs(x, head, targets), expected, rtol=1e-12)


# ------------------------------------------------------------------------- what backward does not know


def test_a_block_without_a_way_back_is_refused() -> None:
    def mine(x: Any, p: Any, layer: int, call: Call) -> Any:
        return model_module.block(x, p, layer, call)

    with pytest.raises(InputError, match=r"this model's block .*DifferentiableBlock"):
        gradients(GPT2(MODEL.config, MODEL.parameters, mine), IDS, TARGETS)


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "mlp", "gelu_new"])
def test_a_replaced_function_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(model_module, name)

    def replacement(*arguments: Any) -> Any:
        return original(*arguments)

    monkeypatch.setattr(model_module, name, replacement)
    with pytest.raises(InputError, match=f"model: {name} differs"):
        gradients(MODEL, IDS, TARGETS)


@dataclass(frozen=True, eq=False)
class GateParameters:
    """What the block below owns."""

    gate: Linear
    up: Linear
    down: Linear


class GatedMean:
    """A block with other parameters: a running mean instead of attention, and a gated product as its MLP."""

    def __call__(self, x: np.ndarray, p: GateParameters, layer: int, call: Call) -> np.ndarray:
        x = call.hook("resid_pre", x)
        mean = call.hook("mean", self.shares(x) @ x)
        gate, up = call.hook("gate", linear(mean, p.gate)), call.hook("up", linear(mean, p.up))
        return call.hook("resid_post", x + linear(gate * up, p.down))

    def backward(
        self, dx: np.ndarray, tape: dict[str, np.ndarray], p: GateParameters, layer: int, call: Call
    ) -> tuple[np.ndarray, GateParameters]:
        mean, gate, up = tape["mean"], tape["gate"], tape["up"]
        d_product, down = linear_backward(dx, gate * up, p.down)
        d_gate = call.hook("gate", d_product * up)
        d_mean, d_gate_parameters = linear_backward(d_gate, mean, p.gate)
        d_more, d_up = linear_backward(d_product * gate, mean, p.up)
        dx = dx + self.shares(dx).swapaxes(-1, -2) @ (d_mean + d_more)
        return dx, GateParameters(d_gate_parameters, d_up, down)

    @staticmethod
    def shares(x: np.ndarray) -> np.ndarray:
        n = x.shape[-2]
        return np.tri(n) / np.arange(1, n + 1)[:, None]


def gated_model() -> GPT2:
    def own(shape: tuple[int, int]) -> Linear:
        return Linear(0.3 * RNG.normal(size=shape), RNG.normal(size=shape[1]))

    h = tuple(GateParameters(own((32, 20)), own((32, 20)), own((20, 32))) for _ in range(2))
    config = replace(MODEL.config, n_layer=2)
    p = MODEL.parameters
    return GPT2(config, Parameters(p.wte, p.wpe, h, p.ln_f, p.lm_head), GatedMean())


def test_a_block_with_a_way_back_of_its_own_learns() -> None:
    model = gated_model()
    seen: dict[str, np.ndarray] = {}
    loss, found = gradients(model, IDS, TARGETS, WEIGHTS, hook=seen.__setitem__)
    assert loss == pytest.approx(loss_of(model), rel=1e-12)
    assert found.keys() == arrays_by_name(model.parameters).keys()
    assert "h.1.gate" in seen
    direction = {name: RNG.normal(size=array.shape) for name, array in found.items()}

    def moved(step: float) -> float:
        change: Callable[[str, np.ndarray], np.ndarray] = lambda n, array: array + step * direction[n]  # noqa: E731
        return loss_of(replace(model, parameters=transform(model.parameters, change)))

    slope = sum(float((found[name] * direction[name]).sum()) for name in found)
    assert (moved(1e-6) - moved(-1e-6)) / 2e-6 == pytest.approx(slope, rel=1e-6)
