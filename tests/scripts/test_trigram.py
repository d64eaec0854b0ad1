"""The Kneser-Ney trigram against numbers worked out by hand."""

import numpy as np
import pytest

from scripts.tiny.trigram import Trigram, discounts


@pytest.fixture
def trigram() -> Trigram:
    """The text 1 2 1 2 1 2 3 over the vocabulary {0, 1, 2, 3}, where 0 is the start token."""
    return Trigram([np.array([1, 2, 1, 2, 1, 2, 3])], vocab_size=4, start=0)


def probability(trigram: Trigram, first: int, second: int, token: int) -> float:
    return float(trigram.probabilities(*(np.array([id_]) for id_ in (first, second, token)))[0])


def test_discounts_follow_chen_and_goodman():
    counts = np.repeat([1, 2, 3, 4, 9], [8, 4, 2, 1, 3])  # n1..n4 = 8, 4, 2, 1; Y = 8 / (8 + 2 * 4)
    np.testing.assert_allclose(discounts(counts), [0, 0.5, 1.25, 2.0])


def test_unigrams_count_the_different_tokens_before_them(trigram):
    # 1 follows 0 and 2; 2 follows 1; 3 follows 2. n1 = 2, n2 = 1: the discount is 2 / 4.
    rest = 3 * 0.5 / 4
    unseen_pair = (3, 0)  # never seen: everything is left to the unigrams
    assert probability(trigram, *unseen_pair, 1) != pytest.approx((2 - 0.5) / 4 + rest / 4)
    assert probability(trigram, 3, 3, 1) == pytest.approx((2 - 0.5) / 4 + rest / 4)
    assert probability(trigram, 3, 3, 0) == pytest.approx(rest / 4)


def test_trigrams_match_a_hand_calculation(trigram):
    # After 1 2: 1 twice, 3 once; n1 = 3, n2 = 2: the discount is 3 / 7.
    # After 2:   1 and 3 once each; n1 = 3, n2 = 1: the discount is 3 / 5.
    unigram = {1: 0.46875, 3: 0.21875}
    bigram = {token: (1 - 0.6) / 2 + 0.6 * unigram[token] for token in (1, 3)}
    expected = {1: (2 - 3 / 7) / 3 + 2 / 7 * bigram[1], 3: (1 - 3 / 7) / 3 + 2 / 7 * bigram[3]}
    assert probability(trigram, 1, 2, 1) == pytest.approx(expected[1])
    assert probability(trigram, 1, 2, 3) == pytest.approx(expected[3])


@pytest.mark.parametrize("context", [(0, 0), (0, 1), (1, 2), (2, 1), (3, 3), (3, 0)])
def test_probabilities_sum_to_one(trigram, context):
    assert sum(probability(trigram, *context, token) for token in range(4)) == pytest.approx(1)


def test_a_book_costs_the_sum_of_its_tokens(trigram):
    padded = [0, 0, 1, 2, 3]
    expected = -sum(np.log(probability(trigram, *padded[k : k + 3])) for k in range(3))
    assert trigram.nats(np.array(padded[2:])) == pytest.approx(expected)


def test_books_do_not_run_into_each_other():
    books = [np.array([1, 2]), np.array([3, 1])]
    trigrams = Trigram(books, vocab_size=4, start=0).orders[-1].ngrams
    assert (1 * 4 + 2) * 4 + 3 not in trigrams
