"""Log-probabilities, tables of next tokens, perplexity, and preferences."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt import scoring
from minigpt.errors import ContextLengthError, InputError, NumericsError
from minigpt.generation import generate
from minigpt.inspection import ablate
from minigpt.model import GPT2
from minigpt.sampling import probabilities
from minigpt.scoring import (
    candidates,
    continuation_logprob,
    continuation_logprobs,
    largest,
    log_odds,
    log_odds_of,
    log_odds_ratio,
    log_softmax,
    next_tokens,
    perplexity,
    rank,
    score_windows,
    token_logprobs,
    windows,
)
from minigpt.tokenizer import Tokenizer
from tests.synthetic import random_gpt2

TOKENIZER = Tokenizer()
CONTEXT = 48
TEXT = np.random.default_rng(0).integers(0, 307, 3 * CONTEXT + 5)


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_gpt2(tie_word_embeddings=False)


def test_the_largest_of_equal_ones_go_by_id() -> None:
    logits = np.array([1.0, 3.0, 3.0, 2.0, 3.0], np.float32)
    assert largest(logits, 1).tolist() == [1]
    assert largest(logits, 2).tolist() == [1, 2]
    assert largest(logits, 5).tolist() == largest(logits, 9).tolist() == [1, 2, 4, 3, 0]


@pytest.fixture(scope="module")
def wordy() -> GPT2:
    """A model that knows the whole vocabulary."""
    return random_gpt2(vocab_size=50257, n_embd=8, n_layer=1, n_head=1, tie_word_embeddings=False)


# ---------------------------------------------------------------------------------- log-probabilities


def test_log_softmax_is_the_logarithm_of_the_probabilities() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 50)).astype(np.float32) * 5 - 60
    found = log_softmax(logits)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.log(probabilities(logits)), rtol=1e-12)


def test_log_softmax_keeps_what_a_probability_would_round_to_0() -> None:
    np.testing.assert_array_equal(log_softmax(np.float32([0, -2000])), [0, -2000])


def test_log_softmax_refuses_logits_that_are_not_numbers() -> None:
    with pytest.raises(NumericsError, match="the largest is nan"):
        log_softmax(np.float32([0, np.nan]))


def test_a_continuation_s_logprob_is_the_sum_of_its_tokens(model: GPT2) -> None:
    prompt, continuation = [1, 2, 3], [4, 5, 6, 7]
    logprobs = log_softmax(model(prompt + continuation))
    expected = [logprobs[2 + step, token] for step, token in enumerate(continuation)]
    (found,) = continuation_logprobs(model, prompt, [continuation])
    np.testing.assert_allclose(found.logprobs, expected, rtol=1e-5)
    assert continuation_logprob(model, prompt, continuation) == pytest.approx(sum(expected), rel=1e-5)
    chained = continuation_logprob(model, prompt, [4, 5]) + continuation_logprob(
        model, [*prompt, 4, 5], [6, 7]
    )
    assert chained == pytest.approx(sum(expected), rel=1e-5)


def test_the_logprobs_of_all_next_tokens_are_a_distribution() -> None:
    model = random_gpt2(vocab_size=20)
    total = sum(math.exp(continuation_logprob(model, [1, 2], [token])) for token in range(20))
    assert total == pytest.approx(1, abs=1e-5)


def test_an_empty_continuation_is_certain(model: GPT2) -> None:
    assert continuation_logprob(model, [1], []) == 0
    assert continuation_logprob(model, [1] * CONTEXT, []) == 0


def test_several_continuations_of_one_prompt_are_what_each_is_alone(model: GPT2) -> None:
    texts = [[4, 5, 6], [], [7], [4, 5, 9, 10, 11], [4, 5, 6]]
    found = continuation_logprobs(model, [1, 2, 3], texts)
    for scored, ids in zip(found, texts, strict=True):
        (alone,) = continuation_logprobs(model, [1, 2, 3], [ids])
        assert scored.ids.tolist() == ids
        np.testing.assert_allclose(scored.logprobs, alone.logprobs, rtol=1e-5)
        assert scored.logprob == pytest.approx(continuation_logprob(model, [1, 2, 3], ids), rel=1e-5)


def test_a_continuation_tells_which_of_its_tokens_are_the_likeliest(model: GPT2) -> None:
    greedy = list(generate(model, [1, 2, 3], max_new_tokens=5, temperature=0))
    other = [*greedy[:3], (greedy[3] + 1) % 307, greedy[4]]
    best, mixed = continuation_logprobs(model, [1, 2, 3], [greedy, other])
    assert best.is_greedy.all()
    assert best.is_greedy.tolist() == [True] * 5
    assert mixed.is_greedy.tolist()[:4] == [True, True, True, False]


def test_every_score_takes_a_hook(model: GPT2) -> None:
    silent = ablate(model, "h.1.mlp.out")
    ids = TEXT[:9].tolist()
    rows = model(ids[:-1], hook=silent).astype(np.float64)
    logprobs = rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))
    expected = logprobs[np.arange(8), ids[1:]]
    np.testing.assert_allclose(token_logprobs(model, ids, hook=silent), expected, rtol=1e-4)
    assert perplexity(model, ids, hook=silent) == pytest.approx(math.exp(-expected.mean()), rel=1e-4)
    (scored,) = continuation_logprobs(model, ids[:4], [ids[4:]], hook=silent)
    np.testing.assert_allclose(scored.logprobs, expected[3:], rtol=1e-4)
    assert continuation_logprob(model, ids[:4], ids[4:], hook=silent) == pytest.approx(
        expected[3:].sum(), rel=1e-4
    )


def test_a_model_of_one_position_has_nothing_to_score_with() -> None:
    with pytest.raises(InputError, match="n_positions is 1"):
        perplexity(random_gpt2(n_positions=1), [1, 2, 3])


def test_a_continuation_may_fill_the_context_and_one_token_more(model: GPT2) -> None:
    assert len(continuation_logprobs(model, [1], [[2] * CONTEXT])[0].logprobs) == CONTEXT
    with pytest.raises(ContextLengthError, match=r"49 tokens.* 48"):
        continuation_logprobs(model, [1], [[3], [2] * (CONTEXT + 1)])
    with pytest.raises(ContextLengthError, match=r"49 tokens.* 48"):
        continuation_logprobs(model, [1] * (CONTEXT + 1), [[]])


@pytest.mark.parametrize(
    ("prompt", "continuation", "message"),
    [
        ([], [1], "prompt: no tokens"),
        ([307], [1], "prompt: 307 is not"),
        ([1], [307], "continuation: 307 is not"),
        ([1], [2, -1], "continuation: -1 is not"),
        ([307], [], "prompt: 307 is not"),
    ],
)
def test_impossible_continuations_are_refused(
    model: GPT2, prompt: list[int], continuation: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        continuation_logprobs(model, prompt, [continuation])


# ------------------------------------------------------------------------------------- next tokens


def test_next_tokens_are_the_largest_logits_in_order(wordy: GPT2) -> None:
    logits = wordy([40, 1842])[-1]
    rows = next_tokens(logits, TOKENIZER, 5, temperature=0.5)
    assert [row.rank for row in rows] == [1, 2, 3, 4, 5]
    assert [row.id for row in rows] == np.argsort(-logits)[:5].tolist()
    for row in rows:
        assert row.text == TOKENIZER.token_text(row.id)
        assert row.logit == logits[row.id]
        assert row.probability == probabilities(logits, 0.5)[row.id]


def test_of_equal_logits_the_lower_id_ranks_higher() -> None:
    logits = np.float32([1, 3, 2, 3, 2, 2])
    assert [row.id for row in next_tokens(logits, TOKENIZER, 4)] == [1, 3, 2, 4]
    assert [rank(logits, token) for token in range(6)] == [6, 1, 3, 2, 4, 5]


def test_at_temperature_0_the_first_row_has_it_all() -> None:
    rows = next_tokens(np.float32([1, 3, 2]), TOKENIZER, 3, temperature=0)
    assert [row.probability for row in rows] == [1, 0, 0]


def test_more_rows_than_tokens_are_all_tokens() -> None:
    assert len(next_tokens(np.float32([1, 3, 2]), TOKENIZER, 10)) == 3
    with pytest.raises(InputError, match="top is 0"):
        next_tokens(np.float32([1, 3, 2]), TOKENIZER, 0)


def test_a_candidate_of_one_token_is_its_row_of_the_table(wordy: GPT2) -> None:
    logits = wordy([40, 1842])[-1]
    for row in next_tokens(logits, TOKENIZER, 30, temperature=0.5):
        if TOKENIZER.encode(row.text) != [row.id]:
            continue
        (found,) = candidates(wordy, TOKENIZER, [40, 1842], logits, [row.text], temperature=0.5)
        assert found.ids == [row.id]
        assert (found.logit, found.probability, found.rank) == (row.logit, row.probability, row.rank)
        assert found.logprob == pytest.approx(math.log(probabilities(logits)[row.id]))


def test_a_candidate_of_several_tokens_has_its_first_one_s_place_and_its_own_logprob(wordy: GPT2) -> None:
    prompt, text = [40, 1842], " you very much"
    logits = wordy(prompt)[-1]
    first, whole = candidates(wordy, TOKENIZER, prompt, logits, [" you", text])
    assert whole.text == text
    assert whole.ids == TOKENIZER.encode(text)
    assert (whole.logit, whole.probability, whole.rank) == (first.logit, first.probability, first.rank)
    assert whole.logprob == pytest.approx(continuation_logprob(wordy, prompt, whole.ids), rel=1e-5)
    assert whole.logprob < first.logprob


def test_a_prompt_that_fills_the_context_has_candidates(wordy: GPT2) -> None:
    prompt = [40] * CONTEXT
    logits = wordy(prompt)[-1]
    (found,) = candidates(wordy, TOKENIZER, prompt, logits, [" you"])
    assert found.logprob == pytest.approx(log_softmax(logits)[found.ids[0]])


def test_an_empty_candidate_is_refused(wordy: GPT2) -> None:
    with pytest.raises(InputError, match="candidates: found an empty text"):
        candidates(wordy, TOKENIZER, [40], wordy([40])[-1], [" you", ""])


# -------------------------------------------------------------------------------- texts of any length


@given(st.integers(2, 300), st.integers(1, 60), st.data())
def test_windows_score_every_token_once_with_as_much_before_it_as_promised(
    n_tokens: int, context: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context))
    scored: list[int] = []
    for begin, first, end in windows(n_tokens, context, stride):
        assert begin < first < end <= begin + context
        assert begin == 0 or first - begin >= context - stride
        scored += range(first, end)
    unscored = {0} if stride < context else set(range(0, n_tokens, stride))
    assert scored == [position for position in range(n_tokens) if position not in unscored]


@pytest.mark.parametrize("n_tokens", [2, 17, CONTEXT])
def test_a_text_that_fits_into_the_context_is_one_window(model: GPT2, n_tokens: int) -> None:
    text = TEXT[:n_tokens]
    found = token_logprobs(model, text)
    expected = continuation_logprobs(model, text[:1].tolist(), [text[1:].tolist()])[0].logprobs
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert perplexity(model, text) == pytest.approx(math.exp(-expected.mean()), rel=1e-6)


@pytest.mark.parametrize("stride", [None, 5, CONTEXT - 1])
def test_a_long_text_has_a_score_for_every_token_but_the_first(model: GPT2, stride: int | None) -> None:
    scored = list(score_windows(model, TEXT, stride))
    assert [window.start for window in scored] == [
        1 + sum(len(earlier.logprobs) for earlier in scored[:n]) for n in range(len(scored))
    ]
    assert sum(len(window.logprobs) for window in scored) == len(TEXT) - 1


def test_with_stride_1_every_token_sees_as_much_as_fits_before_it(model: GPT2) -> None:
    logprobs = token_logprobs(model, TEXT, 1)
    for position in (1, CONTEXT, len(TEXT) - 1):
        before = TEXT[max(0, position - CONTEXT + 1) : position].tolist()
        expected = continuation_logprob(model, before, [int(TEXT[position])])
        assert logprobs[position - 1] == pytest.approx(expected, rel=1e-5)


def test_the_likeliest_token_is_what_the_model_would_have_said(model: GPT2) -> None:
    (window,) = score_windows(model, TEXT[:20])
    np.testing.assert_array_equal(window.likeliest, model(TEXT[:20])[:-1].argmax(axis=-1))


def test_a_model_without_preferences_wavers_between_all_tokens() -> None:
    model = random_gpt2(tie_word_embeddings=False)
    without = replace(model.parameters, lm_head=np.zeros_like(model.parameters.lm_head))
    uniform = replace(model, parameters=without)
    assert perplexity(uniform, TEXT) == pytest.approx(307)


def test_blocks_of_rows_make_no_difference(model: GPT2, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = token_logprobs(model, TEXT)
    monkeypatch.setattr(scoring, "ROWS_AT_A_TIME", 5)
    np.testing.assert_array_equal(token_logprobs(model, TEXT), expected)


@pytest.mark.parametrize(
    ("ids", "stride", "message"),
    [
        ([], None, "at least two tokens"),
        ([1], None, "at least two tokens"),
        ([[1, 2]], None, "one text"),
        ([[1], [2, 3]], None, "ids: the rows have different lengths"),
        ([1, 307], None, "307 is not a token id"),
        ([1, 2], 0, "stride is 0; it must be an integer, 1 to 48"),
        ([1, 2], CONTEXT + 1, "stride is 49; it must be an integer, 1 to 48"),
    ],
)
def test_texts_that_cannot_be_scored_are_refused(
    model: GPT2, ids: list[int], stride: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        perplexity(model, ids, stride)


# ---------------------------------------------------------------------------------------- preferences


@pytest.mark.parametrize("probability", [1e-300, 1e-9, 0.3, 0.5, 0.51, 1 - 1e-9])
def test_log_odds_are_exact_from_0_to_1(probability: float) -> None:
    expected = math.log(probability) - math.log1p(-probability)
    assert log_odds_of(math.log(probability)) == pytest.approx(expected, rel=1e-7)


def test_log_odds_of_certainty_are_as_large_as_a_number_can_say() -> None:
    assert log_odds_of(0.0) == log_odds_of(-5e-324) == pytest.approx(708.4, abs=0.1)
    assert log_odds_of(-1e6) == -1e6


def test_the_log_odds_ratio_of_two_certain_answers_is_a_number_without_a_warning() -> None:
    sure = random_gpt2()
    wte = sure.parameters.wte * np.float32(1e4)  # one logit is far above all others
    certain = replace(sure, parameters=replace(sure.parameters, wte=wte, lm_head=wte))
    chosen = [int(certain([1, 2])[-1].argmax())]
    assert continuation_logprobs(certain, [1, 2], [chosen])[0].logprobs.tolist() == [0.0]
    assert log_odds_ratio(certain, [1, 2], chosen, chosen) == 0.0


def test_log_odds_take_the_mean_over_the_tokens(model: GPT2) -> None:
    mean = continuation_logprobs(model, [1, 2], [[3, 4, 5]])[0].logprobs.mean()
    assert log_odds(model, [1, 2], [3, 4, 5]) == pytest.approx(mean - math.log(1 - math.exp(mean)))


def test_the_log_odds_ratio_of_equals_is_0_and_changes_sign_when_they_trade_places(model: GPT2) -> None:
    assert log_odds_ratio(model, [1, 2], [3, 4], [3, 4]) == 0
    ratio = log_odds_ratio(model, [1, 2], [3, 4], [5])
    assert ratio == -log_odds_ratio(model, [1, 2], [5], [3, 4]) != 0


def test_preferences_need_tokens(model: GPT2) -> None:
    with pytest.raises(InputError, match="continuation: no tokens"):
        log_odds(model, [1], [])
    with pytest.raises(InputError, match="prompt: no tokens"):
        log_odds(model, [], [1])
