"""The losses of preferences and their gradients are those of TRL, in float64 through torch's autograd."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import minigpt
from minigpt.model import GPT2
from minigpt.parallel import Threads
from minigpt.training.pairs import Pair, PairIds, answer_logprobs
from minigpt.training.prefer import PreferenceSettings
from minigpt.training.preferences import OBJECTIVES, PreferenceLoss, metrics, preference_batch, totals_of
from minigpt.training.step import batch_gradients
from tests.parity.reference import load_reference, reference_logits, torch
from tests.synthetic import random_gpt2, save_checkpoint

F = torch.nn.functional
BOUND = 1e-12  # of a tensor's largest gradient
SIZE: dict[str, Any] = {"vocab_size": 53, "n_positions": 19, "n_embd": 24, "n_layer": 3, "n_head": 4}
TEXT = Pair("", "a", "b")
# Lengths differ in every way, ids repeat, one answer begins like its rival, and 0 is a token and the padding.
PAIRS = [
    PairIds(TEXT, [3, 9, 9, 0], [7, 7, 1], [7, 8]),
    PairIds(TEXT, [50], [2], [11, 0, 12, 2, 3]),
    PairIds(TEXT, [4, 3, 2, 1, 0, 6, 7], [0, 5, 5, 5], [5]),
]


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_gpt2(seed=1, dtype=np.float64, **SIZE)


@pytest.fixture(scope="module")
def before() -> GPT2:
    """Another model, as the one before training."""
    return random_gpt2(seed=2, dtype=np.float64, **SIZE)


@pytest.fixture(scope="module")
def torch_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folders = [tmp_path_factory.mktemp(f"seed{seed}") for seed in (1, 2)]
    saved = [save_checkpoint(folder, seed=seed, **SIZE) for seed, folder in enumerate(folders, start=1)]
    return load_reference(Path(saved[0]), "float64"), load_reference(Path(saved[1]), "float64")


def found_gradients(
    model: GPT2, before: GPT2, loss: str, beta: float, answer_only: bool = False, n_threads: int = 1
) -> tuple[float, dict[str, np.ndarray], PreferenceLoss]:
    gradients: dict[str, np.ndarray] = {}
    with Threads(n_threads) as threads:
        batches = [
            preference_batch(
                OBJECTIVES[loss], beta, part, answer_logprobs(before, part, threads),
                totals_of(PAIRS, answer_only), answer_only,
            )
            for part in threads.split(PAIRS)
        ]  # fmt: skip
        value = batch_gradients(model, batches, threads, gradients)
    assert isinstance(batches[0].loss, PreferenceLoss)
    return value, gradients, batches[0].loss


def padded(key: str) -> tuple[Any, Any, Any]:
    """Ids, attention mask and labels as TRL's collator makes them: -100 where no answer is."""
    texts = [(pair.prompt, getattr(pair, key)) for pair in PAIRS]
    longest = max(len(prompt) + len(answer) for prompt, answer in texts)
    ids, mask, labels = torch.zeros(3, 3, longest, dtype=torch.long)
    labels -= 100
    for row, (prompt, answer) in enumerate(texts):
        length = len(prompt) + len(answer)
        ids[row, :length] = torch.tensor(prompt + answer)
        mask[row, :length] = 1
        labels[row, len(prompt) : length] = torch.tensor(answer)
    return ids, mask, labels


def per_token(model: Any, key: str) -> tuple[Any, Any, Any]:
    """The log-probability of every next token, where it is one of the answer, and where one of the text."""
    ids, mask, labels = padded(key)
    logits = model(ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    logprobs = F.log_softmax(logits, -1).gather(-1, ids[:, 1:, None])[..., 0]
    return logprobs, (labels[:, 1:] != -100).double(), mask[:, 1:].double()


def expected_loss(model: Any, before: Any, loss: str, beta: float, answer_only: bool) -> Any:
    """The formulas of TRL 1.16.0: `concatenated_forward` and `odds_ratio_loss` of ORPO, and those of DPO."""
    (chosen, in_chosen, is_text), (rejected, in_rejected, _) = (
        per_token(model, key) for key in ("chosen", "rejected")
    )
    covered = in_chosen if answer_only else is_text
    nll = -(chosen * covered).sum() / covered.sum()
    if loss == "sft":
        return nll
    if loss == "orpo":
        a, b = (
            (chosen * in_chosen).sum(1) / in_chosen.sum(1),
            (rejected * in_rejected).sum(1) / in_rejected.sum(1),
        )
        log_odds = (a - b) - (torch.log1p(-torch.exp(a)) - torch.log1p(-torch.exp(b)))
        return nll - (beta * F.logsigmoid(log_odds)).mean()
    with torch.no_grad():
        old = [
            (per_token(before, key)[0] * m).sum(1)
            for key, m in (("chosen", in_chosen), ("rejected", in_rejected))
        ]
    delta = ((chosen * in_chosen).sum(1) - old[0]) - ((rejected * in_rejected).sum(1) - old[1])
    return -F.logsigmoid(beta * delta).mean()


def check_gradients(model: Any, loss: Any, found: dict[str, np.ndarray]) -> None:
    model.zero_grad()
    loss.backward()
    expected = {name: p.grad.numpy() for name, p in model.transformer.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert np.abs(found[name] - gradient).max() <= BOUND * np.abs(gradient).max(), name


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("answer_only", [False, True])
@pytest.mark.parametrize(
    ("loss", "beta"), [("orpo", 0.1), ("orpo", 3.0), ("dpo", 0.1), ("dpo", 2.0), ("sft", 1.0)]
)
def test_loss_and_gradient_are_those_of_trls_formulas(
    model: GPT2,
    before: GPT2,
    torch_models: tuple[Any, Any],
    loss: str,
    beta: float,
    answer_only: bool,
    n_threads: int,
) -> None:
    value, found, _ = found_gradients(model, before, loss, beta, answer_only, n_threads)
    expected = expected_loss(*torch_models, loss, beta, answer_only)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    check_gradients(torch_models[0], expected, found)


@pytest.fixture
def orpo_trainer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """TRL's class, which casts to float32 in between; here its `float` is a double."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    with contextlib.suppress(ImportError):
        from trl.experimental.orpo import ORPOTrainer

        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
        yield ORPOTrainer
        return
    pytest.skip("TRL is not installed")


def test_loss_gradient_and_metrics_are_those_of_trl_itself(
    model: GPT2, torch_models: tuple[Any, Any], orpo_trainer: Any
) -> None:
    batch = {
        f"{key}_{name}": tensor
        for key in ("chosen", "rejected")
        for name, tensor in zip(("input_ids", "attention_mask", "labels"), padded(key), strict=True)
    }
    accelerator = SimpleNamespace(device="cpu", gather_for_metrics=lambda tensor: tensor)
    trainer = SimpleNamespace(
        beta=0.7, is_encoder_decoder=False, aux_loss_enabled=False, padding_value=0, accelerator=accelerator
    )
    for name in ("concatenated_inputs", "get_batch_logps"):  # static
        setattr(trainer, name, getattr(orpo_trainer, name))
    for name in ("concatenated_forward", "odds_ratio_loss"):
        setattr(trainer, name, getattr(orpo_trainer, name).__get__(trainer))
    expected, logged = orpo_trainer.get_batch_loss_metrics(trainer, torch_models[0], batch)
    value, found, loss = found_gradients(model, model, "orpo", 0.7)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    check_gradients(torch_models[0], expected, found)
    ours = {"nll_loss": loss.nll} | metrics(OBJECTIVES["orpo"], 0.7, loss.pairs)
    assert {
        name: number for name, number in logged.items() if not name.startswith("logits/")
    } == pytest.approx(ours)


def test_transformers_loads_what_a_run_has_saved_and_computes_the_same_logits(tmp_path: Path) -> None:
    start, tokenizer = minigpt.load("tiny")
    settings = PreferenceSettings(steps=2)
    run = minigpt.prefer(start, tokenizer, minigpt.read_pairs("demo"), tmp_path / "kind", settings)
    ids = np.array(tokenizer.encode("The girl was very"))
    logits = reference_logits(load_reference(tmp_path / "kind"), ids)
    assert np.abs(run.model(ids) - logits).max() < 2e-5 * np.abs(logits).max()
    assert np.abs(start(ids) - logits).max() > 1e-2 * np.abs(logits).max()
