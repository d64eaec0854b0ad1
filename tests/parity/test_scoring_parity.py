"""Scores equal those of torch: the perplexity of the guide, and the preferences of TRL."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from minigpt.model import GPT2
from minigpt.scoring import log_odds_ratio, perplexity, score_windows, token_logprobs
from tests.parity.reference import load_reference, torch
from tests.synthetic import random_gpt2, save_checkpoint

F = torch.nn.functional
CONTEXT = 48
TEXT = np.random.default_rng(0).integers(0, 307, 5 * CONTEXT + 7)


@dataclass(frozen=True)
class Pair:
    """The same parameters in minigpt and in `transformers`."""

    model: GPT2
    reference: Any


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = save_checkpoint(tmp_path_factory.mktemp("checkpoint"), tie_word_embeddings=False)
    return Pair(random_gpt2(tie_word_embeddings=False), load_reference(folder))


def guide_perplexity(reference: Any, ids: np.ndarray, stride: int, subtract: int) -> float:
    """The loop of "Perplexity of fixed-length models" in the documentation of `transformers`.

    It counts one token less per window than the loss averages over (`subtract=1`), for the label shift;
    that is right in the first window only, where the first label has no prediction.
    """
    nll_sum, n_tokens, previous_end = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + CONTEXT, len(ids))
        n_targets = end - previous_end
        input_ids = torch.tensor(ids[None, begin:end])
        target_ids = input_ids.clone()
        target_ids[:, :-n_targets] = -100
        with torch.no_grad():
            loss = reference(input_ids, labels=target_ids).loss.item()
        shift = 1 if n_targets == end - begin else subtract
        nll_sum, n_tokens = nll_sum + loss * (n_targets - shift), n_tokens + n_targets - shift
        previous_end = end
        if end == len(ids):
            break
    return float(np.exp(nll_sum / n_tokens))


@pytest.mark.parametrize("stride", [5, CONTEXT // 2, CONTEXT - 1, CONTEXT])
@pytest.mark.parametrize("n_tokens", [CONTEXT, len(TEXT)])
def test_perplexity_is_that_of_the_guide(pair: Pair, n_tokens: int, stride: int) -> None:
    found = perplexity(pair.model, TEXT[:n_tokens], stride)
    assert found == pytest.approx(guide_perplexity(pair.reference, TEXT[:n_tokens], stride, 0), rel=1e-5)
    # The guide's own loop gives every window's mean the weight of one token less, but for windows that
    # score all they hold, whose first token has no prediction.
    parts = list(score_windows(pair.model, TEXT[:n_tokens], stride))
    weights = [len(part.logprobs) - (part.start > 1 and stride < CONTEXT) for part in parts]
    as_printed = np.exp(-np.average([part.logprobs.mean() for part in parts], weights=weights))
    assert as_printed == pytest.approx(guide_perplexity(pair.reference, TEXT[:n_tokens], stride, 1), rel=1e-5)


def test_half_the_context_is_the_stride_unless_another_is_given(pair: Pair) -> None:
    assert perplexity(pair.model, TEXT) == perplexity(pair.model, TEXT, CONTEXT // 2)


def reference_logprobs(reference: Any, ids: list[int]) -> Any:
    """Log-probabilities of all tokens but the first, as a float64 tensor."""
    with torch.no_grad():
        logits = reference(torch.tensor([ids])).logits[0, :-1].double()
    return F.log_softmax(logits, dim=-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def test_token_logprobs_are_those_of_torch(pair: Pair) -> None:
    expected = reference_logprobs(pair.reference, TEXT[:CONTEXT].tolist()).numpy()
    np.testing.assert_allclose(token_logprobs(pair.model, TEXT[:CONTEXT]), expected, rtol=1e-5)


@pytest.mark.parametrize("chosen", [[7], [300, 2, 2, 9, 1]])
@pytest.mark.parametrize("rejected", [[8], [5, 6, 7]])
def test_the_log_odds_ratio_is_that_of_trl(pair: Pair, chosen: list[int], rejected: list[int]) -> None:
    """What `ORPOTrainer.odds_ratio_loss` calls `log_odds`, trl 1.16.0."""
    prompt = [11, 12, 13]
    chosen_mean, rejected_mean = (
        reference_logprobs(pair.reference, prompt + answer)[-len(answer) :].mean()
        for answer in (chosen, rejected)
    )
    log_odds = (chosen_mean - rejected_mean) - (
        torch.log1p(-torch.exp(chosen_mean)) - torch.log1p(-torch.exp(rejected_mean))
    )
    assert log_odds_ratio(pair.model, prompt, chosen, rejected) == pytest.approx(log_odds.item(), rel=1e-5)
