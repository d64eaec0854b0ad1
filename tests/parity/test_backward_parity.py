"""Every gradient is what torch's autograd finds: of each function, of each parameter, of each activation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt import activations
from minigpt.backward import (
    activation_backward,
    attention_backward,
    block_backward,
    cross_entropy_backward,
    gelu_new_backward,
    head_backward,
    layer_norm_backward,
    linear_backward,
    mlp_backward,
    part,
    scatter_add,
    softmax_backward,
)
from minigpt.hooks import as_it_is
from minigpt.model import GPT2, Call, causal_mask
from minigpt.parameters import LayerNorm, Linear, arrays_by_name
from minigpt.tape import gradients, record
from tests.parity.reference import load_reference, torch
from tests.synthetic import random_gpt2, save_checkpoint

BOUND = 1e-12  # of a tensor's largest gradient
# All sizes differ from one another, so that no two axes can be mixed up unnoticed.
SIZE: dict[str, Any] = {"vocab_size": 53, "n_positions": 19, "n_embd": 24, "n_layer": 3, "n_head": 4}
VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "untied, narrow, erf": {"tie_word_embeddings": False, "n_inner": 31, "activation_function": "gelu"},
    "by layer, silu": {"scale_attn_by_inverse_layer_idx": True, "activation_function": "silu"},
    "unscaled, relu": {"scale_attn_weights": False, "activation_function": "relu"},
}
RNG = np.random.default_rng(5)
IDS, TARGETS = RNG.integers(0, 53, (2, 5, 17))
IDS[:, 3] = IDS[0, 0]  # ids that repeat, within a text and across texts
WEIGHTS = RNG.normal(size=(5, 17))
WEIGHTS[1, 4:9] = 0.0


def close(found: np.ndarray, expected: Any, name: str = "") -> None:
    expected = np.asarray(expected)
    assert found.shape == expected.shape, name
    largest = np.abs(expected).max()
    assert np.abs(found - expected).max() <= BOUND * largest, name


def leaf(array: np.ndarray) -> Any:
    return torch.tensor(array, requires_grad=True)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


# ----------------------------------------------------------------------------------- function by function


def test_linear() -> None:
    x, weight, bias, dy = normal(2, 5, 7), normal(7, 3), normal(3), normal(2, 5, 3)
    theirs = [leaf(array) for array in (x, weight, bias)]
    (theirs[0] @ theirs[1] + theirs[2]).backward(torch.tensor(dy))
    dx, d = linear_backward(dy, x, Linear(weight, bias))
    for ours, tensor in zip((dx, d.weight, d.bias), theirs, strict=True):
        close(ours, tensor.grad)


def test_layer_norm() -> None:
    x, weight, bias, dy = normal(2, 5, 7), normal(7), normal(7), normal(2, 5, 7)
    theirs = [leaf(array) for array in (x, weight, bias)]
    torch.nn.functional.layer_norm(theirs[0], (7,), *theirs[1:], eps=1e-5).backward(torch.tensor(dy))
    scale = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    dx, d = layer_norm_backward(dy, x, scale, LayerNorm(weight, bias), as_it_is, "ln")
    for ours, tensor in zip((dx, d.weight, d.bias), theirs, strict=True):
        close(ours, tensor.grad)


TORCH_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu_new": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "gelu": torch.nn.functional.gelu,
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
}


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_activations(name: str) -> None:
    x, dy = 3.0 * normal(2, 5, 7), normal(2, 5, 7)
    x[0, 0, :4] = [0.0, 40.0, -40.0, 1e-8]
    theirs = leaf(x)
    TORCH_ACTIVATIONS[name](theirs).backward(torch.tensor(dy))
    close(activation_backward(name)(dy, x), theirs.grad)


def test_gelu_new_far_from_zero_is_finite() -> None:
    x = np.array([[-1e30, -300.0, 300.0, 1e30]], np.float32)
    with np.errstate(all="ignore"):
        assert gelu_new_backward(np.ones_like(x), x)[0, 1:3].tolist() == [0.0, 1.0]


def test_softmax() -> None:
    scores, d_weights = normal(2, 3, 5, 7), normal(2, 3, 5, 7)
    theirs = leaf(scores)
    weights = torch.softmax(theirs, -1)
    weights.backward(torch.tensor(d_weights))
    ours = weights.detach().numpy()
    close(softmax_backward(d_weights, ours, (d_weights * ours).sum(-1, keepdims=True)), theirs.grad)


def test_cross_entropy_with_coefficients() -> None:
    logits, targets, weights = 3.0 * normal(11, 7), RNG.integers(0, 7, 11), normal(11)
    theirs = leaf(logits)
    losses = torch.nn.functional.cross_entropy(theirs, torch.tensor(targets), reduction="none")
    (losses * torch.tensor(weights)).sum().backward()
    logprobs, d_logits = cross_entropy_backward(logits.copy(), targets, weights)
    close(logprobs, -losses.detach())
    close(d_logits, theirs.grad)


@pytest.mark.parametrize("n_rows", [11, 300, 513])
def test_the_head_by_blocks_of_rows(n_rows: int) -> None:
    x, head = normal(1, n_rows, 7), normal(13, 7)
    targets, weights = RNG.integers(0, 13, (1, n_rows)), normal(1, n_rows)
    theirs = [leaf(x), leaf(head)]
    losses = torch.nn.functional.cross_entropy(
        (theirs[0] @ theirs[1].T)[0], torch.tensor(targets[0]), reduction="none"
    )
    (losses * torch.tensor(weights[0])).sum().backward()
    logprobs, dx, d_head = head_backward(x, head, targets, weights)
    close(logprobs[0], -losses.detach())
    close(dx, theirs[0].grad)
    close(d_head, theirs[1].grad)


def test_scatter_add() -> None:
    table, ids, dx = normal(13, 7), RNG.integers(0, 13, (3, 11)), normal(3, 11, 7)
    theirs = leaf(table)
    theirs[torch.tensor(ids)].backward(torch.tensor(dx))
    found = np.zeros_like(table)
    scatter_add(found, ids, dx)
    close(found, theirs.grad)


def torch_block(x: Any, p: dict[str, Any], config: Any, layer: int, see: Callable[[str, Any], Any]) -> Any:
    """GPT-2's block in torch, giving every intermediate tensor to `see` under our name."""

    def norm(x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdim=True)
        scale = see(f"{name}.scale", torch.sqrt(x.var(-1, keepdim=True, correction=0) + 1e-5))
        return see(name, centred / scale * p[f"{name}.weight"] + p[f"{name}.bias"])

    def linear(x: Any, name: str) -> Any:
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    def heads(x: Any) -> Any:
        return x.reshape(*x.shape[:-1], config.n_head, -1).transpose(-2, -3)

    x = see("resid_pre", x)
    parts = linear(norm(x, "ln_1"), "attn.c_attn").split(config.n_embd, -1)
    q, k, v = (see(f"attn.{name}", heads(y)) for name, y in zip("qkv", parts, strict=True))
    scores = see("attn.scores", q @ k.transpose(-1, -2) * config.attention_scale(layer))
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    masked = see("attn.masked_scores", scores.masked_fill(future, -torch.inf))
    mixed = see("attn.mixed", see("attn.weights", torch.softmax(masked, -1)) @ v)
    merged = mixed.transpose(-2, -3).reshape(x.shape)
    x = see("resid_mid", x + see("attn.out", linear(merged, "attn.c_proj")))
    pre = see("mlp.pre", linear(norm(x, "ln_2"), "mlp.c_fc"))
    act = see("mlp.act", TORCH_ACTIVATIONS[config.activation_function](pre))
    return see("resid_post", x + see("mlp.out", linear(act, "mlp.c_proj")))


def retained(tensors: dict[str, Any], prefix: str = "") -> Callable[[str, Any], Any]:
    """Keep a tensor with its gradient, under its name."""

    def see(name: str, tensor: Any) -> Any:
        tensors[prefix + name] = tensor
        if tensor.requires_grad:
            tensor.retain_grad()
        return tensor

    return see


def block_of(model: GPT2, layer: int) -> tuple[Any, dict[str, np.ndarray], dict[str, Any]]:
    """A block's tape, and its parameters as torch's leaves."""
    h = f"h.{layer}."
    names = arrays_by_name(model.parameters)
    leaves = {name.removeprefix(h): leaf(array) for name, array in names.items() if name.startswith(h)}
    tape = record(model, IDS)
    return model.parameters.h[layer], part(tape, f"h.{layer}"), leaves


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_block_and_its_halves(variant: str) -> None:
    model = random_gpt2(dtype=np.float64, **SIZE, **VARIANTS[variant])
    p, tape, leaves = block_of(model, 1)
    call = Call(model.config, np.arange(17), causal_mask(np.arange(17)), None, as_it_is)
    dy, tensors = normal(5, 17, 24), {}
    out = torch_block(leaf(tape["resid_pre"]), leaves, model.config, 1, retained(tensors))
    out.backward(torch.tensor(dy))

    dx, d = block_backward(dy, tape, p, 1, call)
    close(dx, tensors["resid_pre"].grad)
    d_mid = tensors["resid_mid"].grad.numpy()
    d_ln_1, d_attn = attention_backward(d_mid, tape["ln_1"], part(tape, "attn"), p.attn, 1, call)
    close(d_ln_1, tensors["ln_1"].grad)
    d_ln_2, d_mlp = mlp_backward(dy, tape["ln_2"], part(tape, "mlp"), p.mlp, call)
    close(d_ln_2, tensors["ln_2"].grad)
    for half, name in ((d_attn.c_attn, "attn.c_attn"), (d_mlp.c_fc, "mlp.c_fc"), (d.ln_1, "ln_1")):
        close(half.weight, leaves[f"{name}.weight"].grad, name)
        close(half.bias, leaves[f"{name}.bias"].grad, name)


# --------------------------------------------------------------------------------------- the whole model


def torch_gradients(model: GPT2, ids: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> Any:
    """The loss, and every parameter and named tensor, with gradients, of a GPT-2 written in torch."""
    p = {name: leaf(array) for name, array in arrays_by_name(model.parameters).items()}
    tensors: dict[str, Any] = {}
    see = retained(tensors)
    x = see("wte", p["wte.weight"][torch.tensor(ids)]) + see("wpe", p["wpe.weight"][: ids.shape[-1]])
    for layer in range(model.config.n_layer):
        h = f"h.{layer}."
        own = {name.removeprefix(h): tensor for name, tensor in p.items() if name.startswith(h)}
        x = torch_block(x, own, model.config, layer, retained(tensors, h))
    scale = see("ln_f.scale", torch.sqrt(x.var(-1, keepdim=True, correction=0) + 1e-5))
    x = see("ln_f", (x - x.mean(-1, keepdim=True)) / scale * p["ln_f.weight"] + p["ln_f.bias"])
    logits = see("logits", x @ p.get("lm_head.weight", p["wte.weight"]).T)
    losses = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), torch.tensor(targets).reshape(-1), reduction="none"
    )
    loss = (losses * torch.tensor(weights).reshape(-1)).sum()
    loss.backward()
    return loss.item(), p, tensors


@pytest.mark.parametrize("batched", [True, False], ids=["batch", "one text"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_and_every_activation(variant: str, batched: bool) -> None:
    model = random_gpt2(dtype=np.float64, **SIZE, **VARIANTS[variant])
    ids, targets, weights = (array if batched else array[0] for array in (IDS, TARGETS, WEIGHTS))
    expected, parameters, tensors = torch_gradients(model, ids, targets, weights)
    seen: dict[str, np.ndarray] = {}
    loss, found = gradients(model, ids, targets, weights, hook=seen.__setitem__)
    assert loss == pytest.approx(expected, rel=1e-13)
    assert found.keys() == parameters.keys()
    assert seen.keys() == tensors.keys()
    for name, array in found.items():
        if not name.endswith("c_attn.bias"):
            close(array, parameters[name].grad, name)
    for name, array in seen.items():
        close(array, tensors[name].grad, name)
    for name in (name for name in found if name.endswith("c_attn.bias")):
        # A third of it, the keys' part, is exactly 0, and in floating point noise.
        largest = np.abs(found[name.replace("bias", "weight")]).max()
        assert np.abs(found[name] - parameters[name].grad.numpy()).max() <= BOUND * largest


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_parameters_of_transformers_own_model(variant: str, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, **SIZE, **VARIANTS[variant])
    reference = load_reference(folder, "float64")
    model = random_gpt2(dtype=np.float64, **SIZE, **VARIANTS[variant])
    logits = reference(torch.tensor(IDS)).logits  # its own loss would round them to float32
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(TARGETS).flatten()).backward()
    _, found = gradients(model, IDS, TARGETS)
    theirs = {name.removeprefix("transformer."): p.grad for name, p in reference.named_parameters()}
    assert found.keys() == theirs.keys()
    for name, array in found.items():
        close(array, theirs[name], name)


def test_float32_rounds_no_more_than_torch(tmp_path: Path) -> None:
    size = {"vocab_size": 307, "n_positions": 64, "n_embd": 96, "n_layer": 4, "n_head": 6}
    folder = save_checkpoint(tmp_path, seed=3, **size)
    ids, targets = np.random.default_rng(1).integers(0, 307, (2, 8, 64))
    exact: dict[str, np.ndarray] = {}
    theirs: dict[str, np.ndarray] = {}
    for dtype, into in (("float64", exact), ("float32", theirs)):
        reference = load_reference(folder, dtype)
        logits = reference(torch.tensor(ids)).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten()).backward()
        into |= {n.removeprefix("transformer."): p.grad.numpy() for n, p in reference.named_parameters()}
    _, ours = gradients(random_gpt2(seed=3, **size), ids, targets)
    ratios = []
    for name, expected in exact.items():
        assert ours[name].dtype == np.float32
        error, error_of_torch = (
            np.sqrt(np.square(found[name] - expected).mean()) for found in (ours, theirs)
        )
        ratios.append(error / error_of_torch)
    assert np.exp(np.log(ratios).mean()) <= 1.25, dict(zip(exact, ratios, strict=True))
