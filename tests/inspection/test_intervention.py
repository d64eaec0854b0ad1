"""Interventions change what they name, nothing else, and nothing after the call."""

from typing import Any

import numpy as np
import pytest

from minigpt.errors import HookError, InputError
from minigpt.inspection import ablate, chain, intervene, patch, trace
from minigpt.inspection.intervention import PER_HEAD, hook_names
from tests.synthetic import random_gpt2

IDS, OTHER = [3, 1, 4, 1, 5], [9, 2, 6, 5, 3]
MODEL = random_gpt2()


def plain(name: str, array: np.ndarray) -> np.ndarray:
    return array


REFERENCE = MODEL(IDS, hook=plain)


def test_the_names_are_those_the_model_uses() -> None:
    names = []

    def note(name: str, array: np.ndarray) -> np.ndarray:
        names.append(name)
        return array

    MODEL(IDS, hook=note)
    assert hook_names(MODEL) == names


@pytest.mark.parametrize("name", hook_names(MODEL))
def test_patching_with_oneself_changes_nothing(name: str) -> None:
    logits = MODEL(IDS, hook=patch(MODEL, name, trace(MODEL, IDS)))
    np.testing.assert_array_equal(logits, REFERENCE)


def test_patching_the_whole_stream_gives_the_other_prompts_logits() -> None:
    source = trace(MODEL, OTHER)
    logits = MODEL(IDS, hook=patch(MODEL, "h.1.resid_post", source))
    np.testing.assert_array_equal(logits, MODEL(OTHER, hook=plain))


def test_patching_one_position_leaves_those_before_it_alone() -> None:
    logits = MODEL(IDS, hook=patch(MODEL, "h.0.resid_pre", trace(MODEL, OTHER), position=3))
    np.testing.assert_array_equal(logits[:3], REFERENCE[:3])
    assert (logits[3:] != REFERENCE[3:]).any(axis=-1).all()


def test_a_negative_position_counts_from_the_end_of_each_text() -> None:
    source = trace(MODEL, OTHER[:3])
    found = trace(MODEL, IDS, hook=patch(MODEL, "h.0.mlp.out", source, position=-1))
    np.testing.assert_array_equal(found["h.0.mlp.out"][-1], source["h.0.mlp.out"][-1])
    np.testing.assert_array_equal(found["h.0.mlp.out"][:-1], trace(MODEL, IDS)["h.0.mlp.out"][:-1])


def test_patching_one_head() -> None:
    source = trace(MODEL, OTHER)
    found = trace(MODEL, IDS, hook=patch(MODEL, "h.1.attn.mixed", source, head=2))["h.1.attn.mixed"]
    np.testing.assert_array_equal(found[2], source["h.1.attn.mixed"][2])
    rest = [0, 1, 3]
    np.testing.assert_array_equal(found[rest], trace(MODEL, IDS)["h.1.attn.mixed"][rest])


def test_without_its_values_a_head_adds_nothing() -> None:
    """What `h.0.attn.out` loses is exactly what the head sent through its rows of c_proj."""
    found = trace(MODEL, IDS)
    ablated = trace(MODEL, IDS, hook=ablate(MODEL, "h.0.attn.v", head=3))
    rows = slice(3 * MODEL.config.head_dim, 4 * MODEL.config.head_dim)
    sent = found["h.0.attn.mixed"][3] @ MODEL.parameters.h[0].attn.c_proj.weight[rows]
    lost = found["h.0.attn.out"] - ablated["h.0.attn.out"]
    np.testing.assert_allclose(lost, sent, atol=1e-5 * np.abs(sent).max())


def test_the_mean_is_taken_over_the_tokens() -> None:
    before = trace(MODEL, IDS)["h.1.mlp.out"]
    after = trace(MODEL, IDS, hook=ablate(MODEL, "h.1.mlp.out", by="mean"))["h.1.mlp.out"]
    np.testing.assert_array_equal(after, np.broadcast_to(before.mean(axis=0), before.shape))
    one = trace(MODEL, IDS, hook=ablate(MODEL, "h.1.mlp.out", by="mean", position=2))["h.1.mlp.out"]
    np.testing.assert_array_equal(one[2], before.mean(axis=0))
    np.testing.assert_array_equal(one[:2], before[:2])


def test_nothing_leaks_into_the_next_call() -> None:
    hook = chain(ablate(MODEL, "h.0.attn.v", head=1), ablate(MODEL, "wpe"))
    first = MODEL(IDS, hook=hook)
    assert (first != REFERENCE).any()
    np.testing.assert_array_equal(MODEL(IDS, hook=plain), REFERENCE)
    np.testing.assert_array_equal(MODEL(IDS, hook=hook), first)


def test_an_error_inside_leaves_nothing_behind() -> None:
    with pytest.raises(InputError):
        MODEL(IDS, hook=patch(MODEL, "wte", trace(MODEL, OTHER[:2])))
    np.testing.assert_array_equal(MODEL(IDS, hook=plain), REFERENCE)


def test_a_chain_goes_from_left_to_right() -> None:
    plus = intervene(MODEL, "wte", lambda array: array + 1)
    twice = intervene(MODEL, "wte", lambda array: array * 2)
    before = trace(MODEL, IDS)["wte"]
    np.testing.assert_array_equal(trace(MODEL, IDS, hook=chain(plus, None, twice))["wte"], (before + 1) * 2)


def test_a_batch_is_patched_row_by_row() -> None:
    both = [IDS, OTHER]
    found = trace(MODEL, both, hook=ablate(MODEL, "h.0.attn.mixed", head=0, position=-1))["h.0.attn.mixed"]
    assert not found[:, 0, -1].any()
    assert found[:, 0, :-1].any()
    assert found[:, 1].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "h.0.atn.v"}, "is no hook of this model"),
        ({"name": "h.3.attn.v"}, r"h\.2\.resid_post"),
        ({"name": "h.0.mlp.out", "head": 0}, "has no heads"),
        ({"name": "h.0.attn.v", "head": 4}, "heads 0 to 3"),
        ({"name": "h.0.attn.v", "head": -1}, "heads 0 to 3"),
        ({"name": "h.0.attn.v", "by": "median"}, "'zero' or to the 'mean'"),
    ],
)
def test_what_does_not_exist_is_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ablate(MODEL, **arguments)


def test_a_source_without_the_array_is_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"source: it holds no 'h\.0\.mlp\.out'"):
        patch(MODEL, "h.0.mlp.out", {"wte": np.zeros((5, 32), np.float32)})
    with pytest.raises(InputError, match=r"source: it holds no 'h\.2\.mlp\.out'"):
        patch(MODEL, "h.2.mlp.out", trace(random_gpt2(n_layer=1), IDS))
    with pytest.raises(InputError, match=r"head is 3; .* has heads 0 to 1"):
        patch(MODEL, "h.0.attn.v", trace(random_gpt2(n_head=2), IDS), head=3)


def test_texts_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="equally many tokens"):
        MODEL(IDS, hook=patch(MODEL, "h.0.resid_pre", trace(MODEL, OTHER[:3])))
    with pytest.raises(InputError, match="there are 5 tokens"):
        MODEL(IDS, hook=ablate(MODEL, "h.0.resid_pre", position=5))


@pytest.mark.parametrize("name", ["wte", "h.1.attn.v", "h.0.attn.scores", "h.2.resid_post", "logits"])
@pytest.mark.parametrize(
    ("position", "rows"),
    [
        (2, [2]),
        (np.int64(-1), [4]),
        (slice(1, None, 2), [1, 3]),
        ([0, -1], [0, 4]),
        ((3,), [3]),
        (range(2), [0, 1]),
        (np.array([4, 1]), [1, 4]),
    ],
)
def test_every_kind_of_position_changes_those_tokens_and_no_others(
    name: str, position: Any, rows: list[int]
) -> None:
    before, source = trace(MODEL, IDS)[name], trace(MODEL, OTHER)
    head = 1 if name.rpartition(".")[2] in PER_HEAD else None
    part = slice(None) if head is None else head
    for hook, expected in (
        (ablate(MODEL, name, head=head, position=position), np.zeros_like(before)),
        (intervene(MODEL, name, np.negative, head=head, position=position), -before),
        (patch(MODEL, name, source, head=head, position=position), source[name]),
    ):
        after, right = trace(MODEL, IDS, hook=hook)[name], before.copy()
        right[part][..., rows, :] = expected[part][..., rows, :]
        np.testing.assert_array_equal(after, right)
        assert (after[part][..., rows, :] != before[part][..., rows, :]).any()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "position",
    [5, -6, 1.5, True, "1", [0, 5], [1.5], [True, False], [], slice(3, 3), slice(7, None), slice(0, 5, 0),
     slice("a"), np.zeros((2, 2), int), np.array(1.0), np.array([True, False]), {}, frozenset()],
    ids=str,
)  # fmt: skip
def test_a_position_that_is_not_there_is_refused(position: Any) -> None:
    for hook in (
        ablate(MODEL, "h.0.attn.v", position=position),
        patch(MODEL, "h.0.attn.v", trace(MODEL, OTHER), head=1, position=position),
    ):
        with pytest.raises(InputError, match="position is"):
            MODEL(IDS, hook=hook)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("head", [1.5, "1", True, [1], np.array([1])])
def test_a_head_is_a_number(head: Any) -> None:
    with pytest.raises(InputError, match=r"head is .*; this model has heads 0 to 3"):
        ablate(MODEL, "h.0.attn.v", head=head)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("position", [None, 1, [0, 2]])
@pytest.mark.parametrize("result", [None, 0, 1.5, [[0.0] * 32] * 5, "zero"])
def test_a_change_that_returns_no_array_is_refused(result: Any, position: Any) -> None:
    with pytest.raises(HookError, match=r"wte: its change returned \w+; it must return an array"):
        MODEL(IDS, hook=intervene(MODEL, "wte", lambda _array: result, position=position))


@pytest.mark.parametrize("result", [np.zeros(()), np.zeros(32), np.zeros((5, 31)), np.zeros((5, 32), complex),
                                    np.full((5, 32), "x"), np.full((5, 32), None)])  # fmt: skip
@pytest.mark.parametrize("position", [None, 1, [0, 2]])
def test_a_change_to_something_else_is_refused(result: np.ndarray, position: Any) -> None:
    with pytest.raises(InputError, match="wte: the new values"):
        MODEL(IDS, hook=intervene(MODEL, "wte", lambda _array: result, position=position))


def test_a_change_that_works_in_place_reaches_only_its_tokens() -> None:
    def erase(array: np.ndarray) -> np.ndarray:
        array[...] = 0
        return array

    after = trace(MODEL, IDS, hook=intervene(MODEL, "wte", erase, position=1))["wte"]
    assert not after[1].any()
    np.testing.assert_array_equal(np.delete(after, 1, 0), np.delete(trace(MODEL, IDS)["wte"], 1, 0))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("donor", [5, [1.0, 2.0], [[1.0], [2.0, 3.0]], "text", None, np.zeros((5, 31))])
@pytest.mark.parametrize("position", [None, 1, [0, 2]])
def test_a_donor_that_is_no_such_array_is_refused(donor: Any, position: Any) -> None:
    with pytest.raises(InputError, match="wte: the new values"):
        MODEL(IDS, hook=patch(MODEL, "wte", {"wte": donor}, position=position))
    with pytest.raises(InputError, match=r"the new values|and no heads"):
        patch(MODEL, "h.0.attn.v", {"h.0.attn.v": donor}, head=1)


def test_lists_are_a_donor_too() -> None:
    arrays = {"wte": trace(MODEL, OTHER)["wte"].tolist()}
    expected = MODEL(IDS, hook=patch(MODEL, "wte", trace(MODEL, OTHER)))
    np.testing.assert_array_equal(MODEL(IDS, hook=patch(MODEL, "wte", arrays)), expected)


@pytest.mark.usefixtures("unchecked")
def test_a_source_that_is_an_array_is_refused() -> None:
    source: Any = np.zeros((5, 32))
    with pytest.raises(InputError, match="source: found ndarray; patch with a trace"):
        patch(MODEL, "wte", source)


@pytest.mark.usefixtures("unchecked")
def test_a_chain_names_the_hook_that_returns_nothing() -> None:
    nothing: Any = lambda _name, _array: None  # noqa: E731
    with pytest.raises(HookError, match="wte must stay an array"):
        MODEL(IDS, hook=chain(nothing, ablate(MODEL, "wte")))
    with pytest.raises(HookError, match="wte must stay an array"):
        trace(MODEL, IDS, hook=nothing)


def test_arrays_with_heads_are_known() -> None:
    found = trace(MODEL, IDS)
    with_heads = {name.rpartition(".")[2] for name, array in found.items() if array.ndim == 3}
    assert with_heads == set(PER_HEAD)
