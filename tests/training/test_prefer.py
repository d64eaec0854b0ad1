"""A run on pairs moves what it should, says what it cost, and leaves nothing half-written."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import minigpt
from minigpt.errors import CheckpointError, InputError, NumericsError
from minigpt.model import GPT2, named_parameters
from minigpt.parallel import Threads
from minigpt.scoring import perplexity
from minigpt.tokenizer import Tokenizer
from minigpt.training.before_after import changes
from minigpt.training.pairs import Pair, answer_logprobs, encode_pair, read_pairs
from minigpt.training.prefer import (
    PreferenceReporter,
    PreferenceRun,
    PreferenceSettings,
    PreferenceStep,
    PreferenceTraining,
    prefer,
)
from minigpt.training.preferences import Objective, PairLogprobs, PairLoss, sigmoid, softplus
from tests.synthetic import random_gpt2

WORDS = "she was kind and he was cruel to all of them, it was so good, so bad to us, me and you "
TOKENIZER = Tokenizer.train([WORDS * 2], vocab_size=290)
PAIRS = [
    Pair(f"{who} was to {whom} so", f" {better}", f" {worse}")
    for who in ("she", "he", "it")
    for whom in ("us", "me", "you")
    for better, worse in (("kind", "cruel"), ("good", "bad"))
]
TEXT = "all of them was kind to he and she"


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_gpt2(vocab_size=300)


def run_of(model: GPT2, out: Path | None = None, **settings: object) -> PreferenceRun:
    given = {"steps": 12, "learning_rate": 3e-3, "threads": 1} | settings
    return prefer(model, TOKENIZER, PAIRS, out, PreferenceSettings(**given), watch=["she was"], text=TEXT)


@pytest.mark.parametrize("loss", ["orpo", "dpo"])
def test_a_run_moves_chosen_and_rejected_apart_and_tells_both_sides(model: GPT2, loss: str) -> None:
    run = run_of(model, loss=loss)
    for before, after in ((run.before.trained, run.after.trained), (run.before.held_out, run.after.held_out)):
        assert after.log_odds_ratio > before.log_odds_ratio + 0.3
    assert run.before.perplexity == perplexity(model, TOKENIZER.encode(TEXT))
    assert run.after.perplexity == perplexity(run.model, TOKENIZER.encode(TEXT))
    logits = run.model(TOKENIZER.encode("she was"), logits_to_keep=1)[-1]
    np.testing.assert_array_equal(run.after.watched[0], logits)
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert run.history[-1]["log_odds_chosen"] > run.history[0]["log_odds_chosen"]
    assert repr(run).startswith(f"PreferenceRun({loss}, 12 steps; held-out pairs: log-odds ratio ")


def test_only_a_run_with_a_pair_term_looks_at_the_rejected_answers(model: GPT2) -> None:
    others = [Pair(pair.prompt, pair.chosen, " me") for pair in PAIRS]
    settings = PreferenceSettings(loss="sft", steps=3, threads=1)
    runs = [prefer(model, TOKENIZER, pairs, None, settings, text=TEXT) for pairs in (PAIRS, others)]
    # The rows of a batch are as long as its longest text, so that the last digits may differ.
    np.testing.assert_allclose(*(run.model.parameters.wte for run in runs), atol=1e-5)
    assert runs[0].history[0]["loss"] == runs[0].history[0]["nll_loss"]


def test_a_run_repeats_bit_for_bit_and_leaves_the_model_it_began_with_alone(model: GPT2) -> None:
    old = {name: array.copy() for name, array in named_parameters(model).items()}
    runs = [run_of(model, steps=3, seed=seed) for seed in (1, 1, 2)]
    first, again, other = (named_parameters(run.model) for run in runs)
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)
        np.testing.assert_array_equal(model_array := named_parameters(model)[name], old[name])
        assert not model_array.flags.writeable or model_array is not array
    assert np.abs(first["wte.weight"] - other["wte.weight"]).max() > 1e-4
    assert not runs[0].model.parameters.wte.flags.writeable


def test_accumulated_batches_are_one_larger_batch(model: GPT2) -> None:
    """Steps of 2 × 3 pairs, whose texts have other lengths, are steps of 6."""
    single = model.astype(np.float64)
    sizes = {"batch_size": 6}, {"batch_size": 3, "accumulation": 2}
    runs = [run_of(single, steps=2, **size) for size in sizes]
    assert runs[0].history[0]["loss"] == pytest.approx(runs[1].history[0]["loss"], rel=1e-5)
    assert runs[0].history[0]["grad_norm"] == pytest.approx(runs[1].history[0]["grad_norm"], rel=1e-4)


def test_every_pair_comes_once_before_any_comes_again(model: GPT2) -> None:
    training = PreferenceTraining(model, TOKENIZER, PAIRS, PreferenceSettings(steps=5, batch_size=6))
    drawn = [pair.pair for step in training.order for pair in step]
    n_learnt = len(training.pairs)
    assert len(drawn) == 30
    assert len({*map(id, drawn[:n_learnt])}) == len({*map(id, drawn[n_learnt : 2 * n_learnt])}) == n_learnt
    assert {id(pair.pair) for pair in training.held_out}.isdisjoint(map(id, drawn))


def test_the_metrics_have_trls_names(model: GPT2) -> None:
    names = {
        "loss", "nll_loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins",
        "logps/chosen", "logps/rejected", "log_odds_chosen", "log_odds_ratio", "grad_norm", "learning_rate",
    }  # fmt: skip
    assert run_of(model, steps=1).history[0].keys() == names


def test_a_loss_of_ones_own_trains(model: GPT2) -> None:
    def simpo(pair: PairLogprobs, beta: float) -> PairLoss:
        margin = beta * float(pair.chosen.mean() - pair.rejected.mean()) - 0.5
        push = beta * sigmoid(-margin)
        return PairLoss(softplus(-margin), push / pair.chosen.size, -push / pair.rejected.size)

    run = run_of(model, loss=Objective("simpo", simpo, nll=False, default_beta=2.0))
    assert run.after.held_out.log_odds_ratio > run.before.held_out.log_odds_ratio


# ---------------------------------------------------------------------------------- mistakes, interruptions


def test_a_prompt_that_is_cut_is_told(model: GPT2) -> None:
    told: list[str] = []

    class Reporter(PreferenceReporter):
        def warning(self, message: str) -> None:
            told.append(message)

    long = [Pair("a" * 99, " was", " kind", f"x.jsonl, line {n}") for n in range(1, 8)]
    settings = PreferenceSettings(steps=1, threads=1)
    prefer(model, TOKENIZER, [*PAIRS[:5], *long[5:7]], None, settings, text=TEXT, reporter=Reporter())
    (message,) = told
    assert message.startswith(
        "x.jsonl, line 6: the prompt does not fit into the context of 48 with its answer"
    )
    assert message.endswith("(and 1 others like it).")


def test_what_cannot_be_trained_leaves_no_folder(model: GPT2, tmp_path: Path) -> None:
    out = tmp_path / "run"
    empty = [*PAIRS, Pair("x", "a" * 60, "b", "x.jsonl, line 9")]
    with pytest.raises(InputError, match=r"x.jsonl, line 9: the chosen answer has \d+ tokens"):
        prefer(model, TOKENIZER, empty, out, PreferenceSettings(steps=1), text=TEXT)
    assert not out.exists()
    no_number = Objective("none", lambda pair, beta: PairLoss(beta, np.nan, np.nan), nll=False)
    with pytest.raises(NumericsError, match="the gradient of step 1 is nan"):
        run_of(model, out, loss=no_number)
    assert not out.exists()


def test_a_folder_that_holds_something_else_is_left_alone(model: GPT2, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises((InputError, CheckpointError), match="something else"):
        run_of(model, tmp_path, steps=1)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_ctrl_c_keeps_what_is_learnt(model: GPT2, tmp_path: Path) -> None:
    class Reporter(PreferenceReporter):
        def step(self, step: PreferenceStep) -> None:
            if step.step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "run"
    settings = PreferenceSettings(steps=50, threads=1)
    run = prefer(model, TOKENIZER, PAIRS, out, settings, text=TEXT, reporter=Reporter())
    assert run.steps == 2
    loaded, _ = minigpt.load(out)
    np.testing.assert_array_equal(loaded.parameters.wte, run.model.parameters.wte)


def test_a_model_that_cannot_be_saved_is_refused_before_the_first_step(
    model: GPT2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PreferenceTraining, "step", None)
    with pytest.raises(InputError, match="parameters are not those that its config asks for"):
        run_of(replace(model, config=replace(model.config, n_inner=7)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "kto"}, "loss is 'kto'"),
        ({"beta": -1.0}, "beta is -1.0; it must be a finite number"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"steps": 0}, "steps is 0; it must be an integer, 1 or above"),
        ({"batch_size": 0}, "batch_size is 0; it must be an integer from 1 to a million"),
        ({"batch_size": 10**4, "accumulation": 10**4}, "a step takes 1,000,000 pairs at most"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PreferenceSettings(**settings)


# ------------------------------------------------------------------------------------------- before and after


def test_changes_are_those_of_probabilities_and_a_shift_of_all_logits_is_none() -> None:
    before = np.array([1.0, 2.0, 3.0, 0.0], np.float32)
    assert changes(TOKENIZER, before, before + 5) == ([], [])
    risen, fallen = changes(TOKENIZER, before, np.array([4.0, 2.0, 3.0, 0.0], np.float32), count=2)
    assert [token.id for token in risen] == [0]
    assert [token.id for token in fallen] == [2, 1]
    assert risen[0].logits == (1.0, 4.0)
    assert risen[0].ranks == (3, 1)
    assert risen[0].probabilities == pytest.approx((0.0871, 0.6572), abs=1e-3)


def test_an_answers_log_probabilities_are_those_of_the_text_as_it_stands() -> None:
    model, tokenizer = minigpt.load("tiny")
    pairs = [encode_pair(tokenizer, pair, 256) for pair in read_pairs("demo")[:20]]
    with Threads(2) as threads:
        found = answer_logprobs(model, pairs, threads)
    for pair, answers in zip(pairs, found, strict=True):
        for ids, logprobs in zip(pair.answers, answers, strict=True):
            expected = minigpt.token_logprobs(model, [*pair.prompt, *ids])[-len(ids) :]
            np.testing.assert_allclose(logprobs, expected, atol=2e-4)
