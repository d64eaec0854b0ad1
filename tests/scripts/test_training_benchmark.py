"""The benchmark of training compares two programs that do the same."""

import importlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt import GPT2, Config
from minigpt.parallel import Threads
from minigpt.parameters import arrays_by_name, transform
from minigpt.training.flat import FlatModel, flatten
from minigpt.training.losses import language_modelling
from minigpt.training.optimizer import AdamW, clip_factor, gradient_norm
from minigpt.training.step import batch_gradients

torch = pytest.importorskip("torch")
torch_step = importlib.import_module("scripts.benchmark.torch_step")  # after torch, or it would not skip

CONFIG = Config(
    vocab_size=23, n_positions=7, n_embd=12, n_layer=2, n_head=3, activation_function="gelu"
)  # nanoGPT's
RNG = np.random.default_rng(0)
IDS, TARGETS = RNG.integers(0, CONFIG.vocab_size, (2, 4, 7))
RATE, BETAS, EPSILON, DECAY = 1e-3, (0.9, 0.95), 1e-8, 0.1
NAMES = {"c_attn": "attn.c_attn", "attn_proj": "attn.c_proj", "c_fc": "mlp.c_fc", "mlp_proj": "mlp.c_proj"}


def counterparts(flat: FlatModel, nano: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The arrays that both have: a parameter's name in the checkpoint, ours, and torch's as (in, out)."""
    arrays = arrays_by_name(flat.model.parameters)
    for torch_name, parameter in nano.named_parameters():
        parts = [NAMES.get(part, part) for part in torch_name.split(".")]
        array = parameter.detach().numpy()
        transposed = any(part in NAMES for part in torch_name.split("."))
        yield ".".join(parts), arrays[".".join(parts)], array.T if transposed else array


def pair() -> tuple[FlatModel, Any]:
    """A float64 model without biases, and nanoGPT with its weights."""
    model = GPT2.random(CONFIG, seed=1)
    flat = flatten(replace(model, parameters=transform(model.parameters, perturbed)), np.float64)
    nano = torch_step.NanoGPT(CONFIG).double()
    for _, ours, theirs in counterparts(flat, nano):
        theirs[...] = ours
    return flat, nano


def perturbed(name: str, array: np.ndarray) -> np.ndarray:
    return np.zeros_like(array) if name.endswith("bias") else array + 0.1 * RNG.normal(size=array.shape)


def test_the_two_steps_begin_with_the_same_loss_and_move_the_weights_equally() -> None:
    flat, nano = pair()
    optimizer = torch_step.adamw(nano, RATE, BETAS, EPSILON, DECAY)
    # nanoGPT has no biases, so that the whole gradient is shorter there: nothing is clipped.
    step = torch_step.stepper(nano, optimizer, torch.tensor(IDS), torch.tensor(TARGETS), 1e9)
    before = {name: ours.copy() for name, ours, _ in counterparts(flat, nano)}
    gradients: dict[str, np.ndarray] = {}
    with Threads(2) as threads:
        parts = [
            language_modelling(IDS[half], TARGETS[half], IDS.size, np.dtype(float))
            for half in (slice(0, 2), slice(2, 4))
        ]
        loss = batch_gradients(flat.model, parts, threads, gradients)
        factor = clip_factor(gradient_norm(gradients, threads), 1e9)
        AdamW(flat, *BETAS, EPSILON, DECAY).step(gradients, RATE, factor, threads)
    assert loss == pytest.approx(step(), rel=1e-12)
    for name, ours, theirs in counterparts(flat, nano):
        assert np.abs(ours - before[name]).max() > RATE / 2, name
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10, err_msg=name)
    assert len(before) == 2 + 1 + 6 * CONFIG.n_layer


def test_only_tables_and_matrices_decay() -> None:
    decaying, others = torch_step.adamw(torch_step.NanoGPT(CONFIG), RATE, BETAS, EPSILON, DECAY).param_groups
    assert decaying["weight_decay"] == DECAY
    assert {p.ndim for p in decaying["params"]} == {2}
    assert others["weight_decay"] == 0
    assert {p.ndim for p in others["params"]} == {1}


def test_both_programs_learn_the_same_from_the_same_batches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learning = importlib.import_module("scripts.benchmark.learning")
    text = tmp_path / "text.txt"
    text.write_text("".join(RNG.choice(["the cat sat. ", "a dog ran. ", "so it goes. "], 300)))
    learning.main([str(text), "--steps", "60", "--threads", "1"])
    ours, theirs = (float(loss) for loss in re.findall(r"held out ([\d.]+)", capsys.readouterr().out))
    assert ours < 3.0  # 5.5 before the first step
    assert ours == pytest.approx(theirs, abs=0.15)
