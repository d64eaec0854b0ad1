"""What the checker says about a function, in a learner's words."""

import math
import re
from typing import Any

import numpy as np
import pytest

import minigpt
from minigpt import model as model_py
from minigpt.errors import InputError
from minigpt.practice import EXERCISES, arguments, check
from minigpt.practice.whole_model import real
from tests.inspection.conftest import unchecked

__all__ = ["unchecked"]

Array = np.ndarray[Any, Any]


def softmax(scores: Array) -> Array:
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def flat(report: object) -> str:
    """The report's text without its line ends."""
    return " ".join(repr(report).split())


# ---------------------------------------------------------------------------------------- what is wrong


def test_a_wrong_shape_is_told_before_any_number_and_names_the_axis() -> None:
    report = check("softmax", lambda scores: softmax(scores)[..., :1] * 7)
    assert "the shape is (2, 1); expected is (2, 2): axis 1 (n) has 1 instead of 2." in flat(report)


def test_swapped_axes_and_lost_axes_are_recognised() -> None:
    swapped = check("split_heads", lambda x, n_head: x.reshape(*x.shape[:-1], n_head, -1))
    assert "Which axes have to be swapped?" in flat(swapped) or "The heads stay behind" in flat(swapped)
    lost = check("softmax", lambda scores: softmax(scores).sum(axis=-1))
    assert "so there is 1 axis too few" in flat(lost)


def test_the_first_wrong_entry_is_told_with_both_numbers() -> None:
    def wrong(scores: Array) -> Array:
        answer = softmax(scores)
        answer[..., -1] += 0.25
        return answer

    assert "at [0, 1] yours is 1, expected is 0.75. The shape (2, 2) is right. 2 of 4" in flat(
        check("softmax", wrong)
    )


def test_numbers_that_differ_late_are_printed_with_digits_enough() -> None:
    report = check("softmax", lambda scores: softmax(scores) * (1 + 1e-7))
    assert "yours is 0.250000025, expected is 0.25" in flat(report)


def test_only_float32_may_be_wrong() -> None:
    def loses_digits(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
        mean = x.mean(axis=-1, keepdims=True)
        square = np.square(x + 30).mean(axis=-1, keepdims=True)
        variance = np.abs(square - np.square(mean + 30))
        return (x - mean) / np.sqrt(variance + epsilon) * weight + bias

    report = check("layer_norm", loses_digits)
    assert {test.precision for test in report.tests if test.problem} == {"float32"}


def test_what_raises_is_told_with_its_line() -> None:
    def wrong(scores: Array) -> Array:
        return scores.max(axis=7)

    assert re.search(
        r"it stopped at line \d+, `return scores.max\(axis=7\)`: AxisError", flat(check("softmax", wrong))
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "it returned None. Is there a return at the end?"),
        ([1, 2], "it returned a list of 2; expected is a NumPy array of shape (2, 2)."),
        ("text", "it returned str; expected is a NumPy array of shape (2, 2)."),
        (np.array(["a"]), "it returned <U1 values; expected are float64."),
    ],
)
def test_another_kind_of_answer_is_named(answer: object, words: str) -> None:
    assert words in flat(check("softmax", lambda scores: answer))


def test_several_arrays_are_expected_as_several() -> None:
    assert "expected are 3 arrays" in flat(check("adamw_step", lambda *given: given[0]))
    scaled = check("cache_step", lambda q, k, v, keys, values: (q, keys, values))
    assert "in keys, the shape is (1, 1); expected is (2, 1): axis 0 (past + 1) has 1 instead of 2." in flat(
        scaled
    )


def test_whoever_writes_into_an_argument_is_told_which() -> None:
    def wrong(scores: Array) -> Array:
        scores -= scores.max(axis=-1, keepdims=True)
        return softmax(scores)

    report = check("softmax", wrong)
    assert not report.is_right
    assert "it changes its argument scores" in flat(report)

    def greedy(model: Any, prompt: list[int], n: int) -> list[int]:
        for _ in range(n):
            prompt.append(int(model(prompt)[-1].argmax()))
        return prompt

    assert "it changes its argument prompt" in flat(check("greedy", greedy))


def test_a_function_of_other_arguments_is_told_the_signature() -> None:
    assert "expected is `def softmax(scores):`" in flat(check("softmax", lambda scores, axis: scores))


def test_an_empty_function_is_one_problem_and_not_twenty() -> None:
    def empty(scores: Array) -> Array:
        raise NotImplementedError

    report = check("softmax", empty)
    assert len(report.tests) == 1
    assert "it is still empty" in flat(report)


# ---------------------------------------------------------------------------------------- the diagnosis


def test_two_mistakes_at_once_are_both_named() -> None:
    def attention_head(q: Array, k: Array, v: Array) -> Array:
        return softmax(q @ k.T) @ v

    report = check("attention_head", attention_head)
    assert "Two mistakes at once:" in report.diagnosis
    assert "The scores are not divided by the root of head_dim." in report.diagnosis
    assert "Every token sees every token" in report.diagnosis


def test_a_function_that_stops_only_in_a_batch_is_judged_by_the_tests_that_ran() -> None:
    def two_axes(x: Array, n_head: int) -> Array:
        tokens, n_embd = x.shape
        return x.reshape(tokens, n_head, n_embd // n_head).swapaxes(0, 1)

    def reshaped(x: Array, n_head: int) -> Array:
        tokens, n_embd = x.shape
        return x.reshape(n_head, tokens, n_embd // n_head)

    words = "`...` means any number of axes in front. Index from the end"
    right_but_for_axes = check("split_heads", two_axes).diagnosis
    assert words in right_but_for_axes
    assert "mistake gives" not in right_but_for_axes
    diagnosis = check("split_heads", reshaped).diagnosis
    assert diagnosis.startswith("The tests that ran give what this mistake gives: ")
    assert words in diagnosis


def test_what_stops_everywhere_is_not_blamed_on_its_axes() -> None:
    assert check("split_heads", lambda x, n_head: x.nothing).diagnosis == ""


def test_len_of_ids_and_one_more_mistake_are_both_named() -> None:
    def gpt2(ids: Any, wte: Array, wpe: Array, blocks: Any, ln_f: Any) -> Array:
        x = wte[ids] + wpe[: len(ids)]
        for block in blocks:
            x = block(x)
        return x @ wte.T

    diagnosis = check("gpt2", gpt2).diagnosis
    assert "Positions are counted by len(ids)." in diagnosis
    assert "The final layer norm is left out." in diagnosis


def test_what_comes_close_to_a_mistake_resembles_it() -> None:
    def gelu(x: Array) -> Array:  # the error function, by a formula that is good to five digits
        z = np.abs(x) / math.sqrt(2)
        t = 1 / (1 + 0.47047 * z)
        erf = 1 - (0.3480242 * t - 0.0958798 * t**2 + 0.7478556 * t**3) * np.exp(-(z**2))
        return 0.5 * x * (1 + np.sign(x) * erf)

    report = check("gelu_new", gelu)
    assert not report.is_right
    assert "It resembles" not in report.diagnosis or "error function" in report.diagnosis


def test_a_near_miss_of_a_mistake_is_not_called_that_mistake() -> None:
    def nearly(scores: Array) -> Array:
        return softmax(scores * 0.6932)  # log 2 is 0.6931...

    diagnosis = check("softmax", nearly).diagnosis
    assert diagnosis.startswith(
        "It resembles a known mistake, though it is not quite that: The powers are those of 2"
    )


def test_an_answer_that_is_just_wrong_gets_no_diagnosis() -> None:
    assert check("softmax", np.cos).diagnosis == ""


# ------------------------------------------------------------------------------------ when it is right


def test_the_whole_model_runs_with_the_learners_function_and_is_left_as_it_was() -> None:
    shapes = []

    def mine(scores: Array) -> Array:
        shapes.append(scores.shape)
        return softmax(scores)

    before = model_py.softmax
    report = check("softmax", mine)
    assert report.is_right
    assert shapes.count((6, 2, 2)) == 6  # heads, tokens, keys of "I love": once in each of six blocks
    assert model_py.softmax is before
    assert 'after "I love" comes " you" 44.4%' in flat(report)
    assert "yours took" in report.story


def test_a_function_that_fails_in_the_whole_model_is_not_right() -> None:
    def mine(scores: Array) -> Array:
        if scores.shape == (6, 2, 2):
            raise ValueError("not these")
        return softmax(scores)

    report = check("softmax", mine)
    assert not report.is_right
    assert report.tests[-1].case == "the whole model"
    assert "ValueError: not these." in flat(report)
    assert model_py.softmax is not mine


def test_real_arrays_are_among_the_cases() -> None:
    seen = []

    def mine(x: Array) -> Array:
        seen.append(x.copy())
        return EXERCISES["gelu_new"].solution(x)

    assert check("gelu_new", mine).is_right
    assert any(x.shape == real("h.2.mlp.pre").shape and (x == real("h.2.mlp.pre")).all() for x in seen)


def test_float32_that_becomes_float64_is_a_remark_and_no_mistake() -> None:
    def gelu_new(x: Array) -> Array:
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    report = check("gelu_new", gelu_new)
    assert report.is_right
    assert "math.sqrt(2)" in report.remarks[0]
    assert "np.zeros without a dtype" in report.remarks[0]


def test_what_is_printed_is_shown_once_and_cut(capsys: pytest.CaptureFixture[str]) -> None:
    def talks(scores: Array) -> Array:
        print("shape", scores.shape, "x" * 10_000)
        return softmax(scores)

    report = check("softmax", talks)
    assert report.is_right
    assert "It printed (the example, float64): shape (2, 2) xxx" in flat(report)
    assert len(repr(report)) < 3000
    assert capsys.readouterr().out == ""


# --------------------------------------------------------------------------------------- from a notebook


def test_the_report_prints_itself() -> None:
    report = check("softmax", lambda scores: softmax(scores) * 2)
    assert max(map(len, repr(report).splitlines())) <= 88
    assert max(map(len, report.text(50).splitlines())) <= 50
    page = report._repr_html_()
    assert "softmax is not right yet" in page
    assert page.count("<tr>") == 10


def test_check_is_found_from_the_package() -> None:
    assert minigpt.practice.check is check


def test_the_arguments_of_a_case_are_those_of_the_report() -> None:
    report = check("softmax", lambda scores: scores)
    assert 'minigpt.practice.arguments("softmax", 1)' in flat(report)
    (scores,) = arguments("softmax", 1)
    np.testing.assert_allclose(softmax(scores), [[0.25, 0.75], [0.5, 0.5]])
    with pytest.raises(InputError, match="case is 99; softmax has the cases 1 to 10"):
        arguments("softmax", 99)


def test_what_is_no_exercise_and_no_function_is_refused(unchecked: None) -> None:
    with pytest.raises(InputError, match="no exercise 'sofmax'; is it softmax"):
        check("sofmax", softmax)
    with pytest.raises(InputError, match="function: found int; expected a function: `def softmax"):
        check("softmax", 3)  # type: ignore[arg-type]
