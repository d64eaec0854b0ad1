"""The parts of a logit add up to it."""

from typing import Any

import numpy as np
import pytest

from minigpt.errors import InputError
from minigpt.inspection import ablate, attribute, trace
from tests.synthetic import random_gpt2

IDS = [3, 1, 4, 1, 5]
MODEL, EXACT = random_gpt2(), random_gpt2(dtype=np.float64)


@pytest.mark.parametrize("position", [0, 2, -1])
@pytest.mark.parametrize("token", [0, 42, 306])
@pytest.mark.parametrize(("model", "tolerance"), [(MODEL, 1e-5), (EXACT, 1e-12)])
def test_the_parts_add_up_to_the_logit(model: Any, tolerance: float, token: int, position: int) -> None:
    found = attribute(model, IDS, token, position=position)
    logits = trace(model, IDS)["logits"][position]
    assert found.logit == logits[token]
    assert found.total == pytest.approx(found.logit, abs=tolerance * float(np.abs(logits).max()))
    assert found.hook == 0


def test_the_parts_of_a_difference_add_up_to_it() -> None:
    found = attribute(EXACT, IDS, 7, against=11)
    one, other = attribute(EXACT, IDS, 7), attribute(EXACT, IDS, 11)
    assert found.logit == pytest.approx(one.logit - other.logit, abs=1e-12)
    assert found.total == pytest.approx(found.logit, abs=1e-12)
    assert found.parts == pytest.approx({name: one.parts[name] - other.parts[name] for name in one.parts})


def test_there_is_a_part_for_everything_that_writes_to_the_stream() -> None:
    found = attribute(MODEL, IDS)
    assert len(found.parts) == 2 + 3 * (4 + 1 + 1) + 1
    assert sum(found.parts.values()) == pytest.approx(found.total)
    assert list(found.parts)[:3] == ["wte", "wpe", "h.0.attn.head.0"]


def test_a_part_is_what_the_logit_loses_when_it_is_taken_out_and_the_scale_stays() -> None:
    """Setting a head's output to zero after everything else is fixed loses exactly its share."""
    found, passed = attribute(EXACT, IDS, 42), trace(EXACT, IDS)
    p, layer, head = EXACT.parameters, 1, 2
    rows = slice(head * EXACT.config.head_dim, (head + 1) * EXACT.config.head_dim)
    sent = passed[f"h.{layer}.attn.mixed"][head, -1] @ p.h[layer].attn.c_proj.weight[rows]
    x = passed["h.2.resid_post"][-1]
    scale = passed["ln_f.scale"][-1]

    def logit(x: np.ndarray) -> float:
        return float(((x - x.mean()) / scale * p.ln_f.weight + p.ln_f.bias) @ p.lm_head[42])

    assert found.heads[layer, head] == pytest.approx(logit(x) - logit(x - sent), abs=1e-10)


def test_without_a_token_it_is_the_likeliest() -> None:
    assert attribute(MODEL, IDS).token == MODEL(IDS)[-1].argmax()


def test_a_silenced_head_contributes_nothing() -> None:
    found = attribute(EXACT, IDS, 42, hook=ablate(EXACT, "h.1.attn.v", head=3))
    assert found.heads[1, 3] == 0
    assert found.total == pytest.approx(found.logit, abs=1e-12)
    assert abs(found.hook) < 1e-10


def test_what_a_hook_leaves_unaccounted_for_is_a_part_of_its_own() -> None:
    found = attribute(EXACT, IDS, 42, hook=ablate(EXACT, "h.1.resid_mid", by="mean"))
    assert abs(found.hook) > 1e-3
    assert found.parts["hook"] == found.hook
    assert found.total == pytest.approx(found.logit, abs=1e-12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": [IDS, IDS]}, "one text"),
        ({"ids": IDS, "token": 307}, "0 to 306"),
        ({"ids": IDS, "token": 1.5}, "token is 1.5; this model has tokens 0 to 306"),
        ({"ids": IDS, "token": True}, "token is True"),
        ({"ids": IDS, "against": -1}, "against is -1; this model has tokens 0 to 306"),
        ({"ids": IDS, "against": "x"}, "against is 'x'"),
        ({"ids": IDS, "position": 1.5}, "position is 1.5"),
        ({"ids": IDS, "position": 5}, "5 tokens"),
    ],
)
def test_what_is_impossible_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        attribute(MODEL, **arguments)
