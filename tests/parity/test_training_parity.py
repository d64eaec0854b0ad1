"""The optimizer, the clipping and a whole training step are torch's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.model import GPT2
from minigpt.parallel import Threads
from minigpt.parameters import Config, arrays_by_name
from minigpt.tape import gradients
from minigpt.tokenizer import Tokenizer
from minigpt.training.data import split_tails
from minigpt.training.flat import flatten
from minigpt.training.loop import train
from minigpt.training.losses import language_modelling
from minigpt.training.optimizer import AdamW, clip_factor, gradient_norm
from minigpt.training.settings import TrainingSettings
from minigpt.training.step import batch_gradients
from tests.parity.reference import load_reference, reference_logits, torch, transformers
from tests.synthetic import random_gpt2, save_checkpoint

SIZE: dict[str, Any] = {"vocab_size": 53, "n_positions": 19, "n_embd": 24, "n_layer": 2, "n_head": 4}


def torch_adamw(parameters: dict[str, Any], rate: float, decay: float) -> Any:
    """Decay for tables and matrices alone, as nanoGPT groups them."""
    groups = [
        {"params": [p for p in parameters.values() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters.values() if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), eps=1e-8)


@pytest.mark.parametrize("longest", [1.0, 1e9], ids=["clipped", "not clipped"])
def test_twenty_steps_of_adamw(longest: float) -> None:
    model = random_gpt2(dtype=np.float64, **SIZE)
    flat = flatten(model, np.float64)
    optimizer = AdamW(flat, 0.9, 0.95, 1e-8, 0.1)
    theirs = {n: torch.tensor(a, requires_grad=True) for n, a in arrays_by_name(model.parameters).items()}
    reference = torch_adamw(theirs, 1e-2, 0.1)
    rng, norms = np.random.default_rng(0), []
    with Threads(2) as threads:
        for step in range(20):
            gradients = {name: rng.normal(size=p.shape) * 0.1 * step for name, p in theirs.items()}
            rate = 1e-2 / (step + 1)
            norm = gradient_norm(gradients, threads)
            optimizer.step(gradients, rate, clip_factor(norm, longest), threads)
            for name, tensor in theirs.items():
                tensor.grad = torch.tensor(gradients[name])
            expected = torch.nn.utils.clip_grad_norm_(theirs.values(), longest).item()
            assert norm == pytest.approx(expected, rel=1e-13)
            norms.append(norm)
            for group in reference.param_groups:
                group["lr"] = rate
            reference.step()
    assert min(norms) < 1.0 < max(norms)  # so that the clipping is active, and is not
    for name, array in arrays_by_name(flat.model.parameters).items():
        expected_array = theirs[name].detach().numpy()
        assert np.abs(array - expected_array).max() <= 1e-12 * np.abs(expected_array).max(), name


def test_twenty_steps_of_training_are_those_of_transformers_and_torch(tmp_path: Path) -> None:
    reference = load_reference(save_checkpoint(tmp_path, **SIZE), "float64")
    parameters = {n.removeprefix("transformer."): p for n, p in reference.named_parameters()}
    theirs = torch_adamw(parameters, 1e-3, 0.1)
    flat = flatten(random_gpt2(dtype=np.float64, **SIZE), np.float64)
    ours = AdamW(flat, 0.9, 0.95, 1e-8, 0.1)
    rng = np.random.default_rng(0)
    with Threads(2) as threads:
        for _ in range(20):
            ids, targets = rng.integers(0, 53, (2, 4, 19))
            parts = [
                language_modelling(ids[rows], targets[rows], 4 * 19, flat.buffer.dtype)
                for rows in (slice(0, 1), slice(1, 4))
            ]
            found: dict[str, np.ndarray] = {}
            loss = batch_gradients(flat.model, parts, threads, found)
            ours.step(found, 1e-3, clip_factor(gradient_norm(found, threads), 1.0), threads)
            logits = reference(torch.tensor(ids)).logits
            expected = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), torch.tensor(targets).flatten()
            )
            expected.backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
            theirs.step()
            theirs.zero_grad()
            assert loss == pytest.approx(expected.item(), rel=1e-11)


def test_what_was_trained_here_is_loaded_by_transformers(tmp_path: Path) -> None:
    text = "".join(f"{n} sheep and {n + 1} goats went up the hill.\n" for n in range(100))
    tokenizer = Tokenizer.train([text], 280)
    model = GPT2.random(Config(vocab_size=280, n_positions=16, n_embd=24, n_layer=2, n_head=4))
    settings = TrainingSettings(steps=20, batch_size=4, learning_rate=1e-2)
    run = train(model, tokenizer, split_tails([text]), tmp_path / "run", settings)
    reference = load_reference(tmp_path / "run")
    ids = np.array(tokenizer.encode("12 sheep and 13 goats"))
    logits = reference_logits(reference, ids)
    np.testing.assert_allclose(run.model(ids), logits, atol=2e-5 * np.abs(logits).max())
    with torch.no_grad():
        theirs = reference(torch.tensor(ids[None]), labels=torch.tensor(ids[None])).loss.item()
    assert gradients(run.model, ids[:-1], ids[1:])[0] == pytest.approx(theirs, rel=1e-5)
    theirs_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "run")
    assert theirs_tokenizer("12 sheep and 13 goats").input_ids == ids.tolist()
