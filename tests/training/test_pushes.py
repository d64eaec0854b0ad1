"""The pushes of one pair are the gradient that training with it would use."""

import numpy as np
import pytest

from minigpt.errors import InputError
from minigpt.model import GPT2
from minigpt.tape import gradients
from minigpt.tokenizer import Tokenizer
from minigpt.training.pairs import Pair, encode_pair, rows_of
from minigpt.training.pushes import pushes
from tests.synthetic import random_gpt2

WORDS = "she was kind and he was cruel to all of them, it was so good, so bad to us, me and you "
TOKENIZER = Tokenizer.train([WORDS * 2], vocab_size=290)
PAIR = Pair("she was", " kind to all", " kind of cruel")


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_gpt2(vocab_size=300, dtype=np.float64)


@pytest.mark.parametrize("loss", ["orpo", "dpo", "sft"])
def test_the_pushes_on_logits_are_minus_the_gradient_that_backward_finds(model: GPT2, loss: str) -> None:
    found = pushes(model, TOKENIZER, PAIR, loss, 0.7)
    ids = encode_pair(TOKENIZER, PAIR, 48)
    rows = rows_of([(ids.prompt, answer) for answer in ids.answers])
    weights = np.zeros(rows.ids.shape)
    for row, tokens in enumerate((found.chosen, found.rejected)):
        for token in tokens:
            weights[row, token.position - 1] = token.total
    seen: dict[str, np.ndarray] = {}
    gradients(model, rows.ids, rows.targets, weights, hook=seen.setdefault)
    position = len(TOKENIZER.encode(found.context)) - 1
    expected = -seen["logits"][:, position].sum(axis=0)
    for move in (*found.rise, *found.fall):
        assert move.push == pytest.approx(expected[move.id], rel=1e-9)
    if found.fall:
        assert min(move.push for move in found.fall) == pytest.approx(expected.min(), rel=1e-9)
    assert max(move.push for move in found.rise) == pytest.approx(expected.max(), rel=1e-9)


def test_each_of_the_two_terms_pushes_where_it_should(model: GPT2) -> None:
    found = pushes(model, TOKENIZER, PAIR, "orpo", 2.0)
    n = len(found.chosen)
    assert [token.nll for token in found.chosen] == pytest.approx([1 / n] * n)
    assert all((token.preference > 0) == token.is_answer for token in found.chosen)
    assert all((token.preference < 0) == token.is_answer for token in found.rejected)
    assert not any(token.nll for token in found.rejected)
    assert found.context == "she was kind"  # the answers have this in common
    dpo, sft = pushes(model, TOKENIZER, PAIR, "dpo"), pushes(model, TOKENIZER, PAIR, "sft")
    assert not any(token.nll for token in dpo.chosen)
    assert not any(token.preference for token in sft.chosen)
    assert not any(token.total for token in sft.rejected)


def test_dpo_before_its_first_step_moves_two_logits_and_no_other(model: GPT2) -> None:
    """Both answers push with the same force: what one takes from all other logits, the other gives back."""
    found = pushes(model, TOKENIZER, Pair("she", " was", " kind"), "dpo", 0.1)
    assert [move.push for move in found.rise[:1]] == pytest.approx([0.05])
    assert [move.push for move in found.fall[:1]] == pytest.approx([-0.05])
    assert all(abs(move.push) < 1e-15 for move in (*found.rise[1:], *found.fall[1:]))


def test_an_answer_that_is_the_beginning_of_the_other_parts_where_it_ends(model: GPT2) -> None:
    found = pushes(model, TOKENIZER, Pair("she", " was", " was kind"), "orpo")
    assert found.context == "she was"
    assert found.fall[0].push < 0


def test_text_and_tables_show_every_token_and_nothing_that_a_browser_would_obey(model: GPT2) -> None:
    found = pushes(model, TOKENIZER, Pair("she <b>", " was", " kind"), "orpo")
    tables = found._repr_html_()
    assert "<b>" not in tables
    assert "&lt;" in tables
    for token in (*found.chosen, *found.rejected):
        assert repr(token.text) in str(found)
        assert f"{token.logprob:.3f}" in tables


def test_a_negative_weight_is_refused(model: GPT2) -> None:
    with pytest.raises(InputError, match="beta is -1"):
        pushes(model, TOKENIZER, PAIR, "orpo", -1.0)
