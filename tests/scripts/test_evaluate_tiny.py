"""The evaluation on held-out books: every token once, with the context it says."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the evaluation needs torch")
transformers = pytest.importorskip("transformers", reason="the evaluation needs transformers")
from scripts.tiny.evaluate import book_log_probabilities, sliding_windows  # noqa: E402

LENGTH = 16


@pytest.mark.parametrize("n_tokens", [2, 16, 17, 18, 24, 25, 100])
def test_every_target_is_scored_once_with_half_a_window_before_it(n_tokens):
    scored = []
    for start, end, first in sliding_windows(n_tokens, LENGTH):
        assert end - start <= LENGTH
        assert start == 0 or first - start > LENGTH // 2
        scored += range(first, end + 1)
    assert scored == list(range(1, n_tokens))


def test_a_book_of_one_window_equals_a_single_forward_pass():
    config = transformers.GPT2Config(n_positions=LENGTH, n_embd=8, n_layer=1, n_head=2, vocab_size=50)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    ids = np.random.default_rng(0).integers(50, size=LENGTH + 1)
    tokens = torch.from_numpy(ids)
    with torch.no_grad():
        log_probabilities = model(tokens[None, :-1]).logits[0].log_softmax(-1)
    expected = log_probabilities[torch.arange(LENGTH), tokens[1:]]
    np.testing.assert_allclose(book_log_probabilities(model, ids), expected, atol=1e-5)
