"""The autoregressive loop: streams, batches, text, and the four ways to end."""

import itertools
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from minigpt.errors import ContextLengthError, InputError
from minigpt.generation import beam_search, generate, generate_batch, generate_text, generate_without_cache
from minigpt.inspection import ablate
from minigpt.model import GPT2
from minigpt.sampling import Sampling
from minigpt.scoring import continuation_logprob
from minigpt.tokenizer import Tokenizer
from tests.synthetic import random_gpt2

END_OF_TEXT = 50256
CONTEXT = 48
TOKENIZER = Tokenizer()
# A penalty keeps random models from repeating one token for ever.
LIVELY = {"temperature": 0.9, "top_k": 100, "top_p": 0.95, "min_p": 0.001, "repetition_penalty": 1.3}
GREEDY = {"temperature": 0, "repetition_penalty": 1.3}
PROMPTS = [[1, 2, 3], [7], list(range(20, 40)), [7, 7]]


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_gpt2(tie_word_embeddings=False)


def scripted(ids: Iterable[int]) -> GPT2:
    """A model that says these tokens one after the other, whatever it is asked."""
    script = iter(ids)

    class Scripted(GPT2):
        def __call__(self, ids: Any, *, cache: Any = None, **options: Any) -> np.ndarray:
            cache.lengths += len(ids)
            logits = np.zeros((1, self.config.vocab_size), np.float32)
            logits[0, next(script)] = 1
            return logits

    small = random_gpt2(vocab_size=50257, n_embd=4, n_head=1, n_layer=1)
    return Scripted(small.config, small.parameters)


def recording(model: GPT2) -> tuple[GPT2, list[np.ndarray]]:
    """The same model, and a list that the logits of each call are added to."""
    calls: list[np.ndarray] = []

    class Recording(GPT2):
        def __call__(self, *args: Any, **options: Any) -> np.ndarray:
            calls.append(super().__call__(*args, **options))
            return calls[-1]

    return Recording(model.config, model.parameters), calls


def naive(model: GPT2, prompt: list[int], n: int) -> list[int]:
    """Greedy choice by the definition: the whole sequence again for every token."""
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(model(ids)[-1].argmax()))
    return ids[len(prompt) :]


# -------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("options", [GREEDY, LIVELY, {"temperature": 0.0}])
def test_what_is_remembered_changes_no_token(model: GPT2, prompt: list[int], options: dict[str, Any]) -> None:
    """The loop that anyone can see, and the one with a cache."""
    plain = generate_without_cache(model, prompt, 20, Sampling(**options), seed=5)
    assert list(generate(model, prompt, max_new_tokens=20, seed=5, **options)) == plain


def test_the_plain_loop_is_greedy_unless_it_is_told_otherwise(model: GPT2) -> None:
    assert generate_without_cache(model, [1, 2, 3], 6) == naive(model, [1, 2, 3], 6)
    assert generate_without_cache(model, [1, 2, 3], 0) == []


# ------------------------------------------------------------------------------------------------ hooks


def test_every_way_to_generate_takes_a_hook(model: GPT2) -> None:
    direction = np.random.default_rng(0).normal(size=32).astype(np.float32) * 20

    def steer(name: str, array: np.ndarray) -> np.ndarray:
        return array + direction if name == "h.2.resid_post" else array

    options = {"max_new_tokens": 9, "temperature": 0}
    expected = generate_without_cache(model, [1, 2, 3], 9, hook=steer)
    assert expected != generate_without_cache(model, [1, 2, 3], 9)
    assert list(generate(model, [1, 2, 3], hook=steer, **options)) == expected
    rows = generate_batch(model, [[1, 2, 3], [7]], hook=steer, **options)
    assert [row.ids for row in rows] == [expected, generate_without_cache(model, [7], 9, hook=steer)]
    assert beam_search(model, [1, 2, 3], num_beams=1, max_new_tokens=9, hook=steer) == expected


def test_a_text_takes_a_hook() -> None:
    model = random_gpt2(vocab_size=50257, n_embd=8, n_head=1, n_layer=1)
    silent = ablate(model, "h.0.mlp.out")
    pieces = generate_text(model, TOKENIZER, "I love", max_new_tokens=6, temperature=0, hook=silent)
    list(pieces)
    assert pieces.ids == generate_without_cache(model, [40, 1842], 6, hook=silent)


def test_a_hook_sees_the_prompt_and_then_token_by_token(model: GPT2) -> None:
    seen = []

    def look(name: str, array: np.ndarray) -> np.ndarray:
        seen.extend([len(array)] if name == "wte" else [])
        return array

    list(generate(model, [1, 2, 3], max_new_tokens=4, hook=look))
    assert seen == [3, 1, 1, 1]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_generation_appends_the_likeliest_token(model: GPT2, prompt: list[int]) -> None:
    generation = generate(model, prompt, max_new_tokens=12, temperature=0)
    assert list(generation) == generation.ids == naive(model, prompt, 12)


def test_tokens_are_computed_when_they_are_asked_for(model: GPT2) -> None:
    recorder, calls = recording(model)
    generation = generate(recorder, [1, 2, 3], max_new_tokens=5, **GREEDY)
    assert len(calls) == 0
    first = next(generation)
    assert len(calls) == 1
    assert generation.ids == [first]
    assert generation.stop_reason is None
    assert [first, *generation] == generation.ids
    assert len(calls) == 5  # one per token: none is computed that nobody asked for
    assert all(logits.shape == (1, 307) for logits in calls)


def test_the_prompt_may_be_any_sequence_and_stays_as_it_is(model: GPT2) -> None:
    prompt, array = [1, 2, 3], np.array([1, 2, 3])
    ids = list(generate(model, prompt, max_new_tokens=5, **GREEDY))
    assert ids == list(generate(model, array, max_new_tokens=5, **GREEDY))
    assert prompt == array.tolist() == [1, 2, 3]


def test_the_same_seed_gives_the_same_tokens(model: GPT2) -> None:
    def sample(seed: int | None) -> list[int]:
        return list(generate(model, [1, 2, 3], max_new_tokens=30, seed=seed, **LIVELY))

    assert sample(0) == sample(0) != sample(1)
    assert sample(10**30) == sample(10**30)
    assert sample(None) != sample(None)


def test_generations_side_by_side_do_not_influence_each_other(model: GPT2) -> None:
    def sample(seed: int) -> list[int]:
        return list(generate(model, [1, 2, 3], max_new_tokens=20, seed=seed, **LIVELY))

    alone = [sample(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(sample, range(8))) == alone

    turns = [generate(model, [1, 2, 3], max_new_tokens=20, seed=seed, **LIVELY) for seed in range(3)]
    for _ in range(20):
        for generation in turns:
            next(generation)
    assert [generation.ids for generation in turns] == alone[:3]


# ------------------------------------------------------------------------------------------ the end


def test_it_ends_after_max_new_tokens(model: GPT2) -> None:
    generation = generate(model, [1, 2, 3], max_new_tokens=4, **GREEDY)
    assert len(list(generation)) == 4
    assert generation.stop_reason == "max_new_tokens"
    assert list(generation) == []


def test_no_new_tokens_cost_no_forward_pass(model: GPT2) -> None:
    recorder, calls = recording(model)
    generation = generate(recorder, [1, 2, 3], max_new_tokens=0)
    assert list(generation) == generation.ids == calls == []
    assert generation.stop_reason == "max_new_tokens"


def test_it_ends_with_a_stop_id_which_is_the_last_of_the_ids() -> None:
    generation = generate(
        scripted([5, 6, END_OF_TEXT, 7]), [1], max_new_tokens=9, temperature=0, stop_ids=50256
    )
    assert list(generation) == [5, 6, END_OF_TEXT]
    assert generation.stop_reason == "stop_id"

    generation = generate(scripted([5, 6, 7]), [1], max_new_tokens=9, temperature=0, stop_ids=[6, 99])
    assert list(generation) == [5, 6]

    generation = generate(scripted([5, END_OF_TEXT, 7]), [1], max_new_tokens=3, temperature=0, stop_ids=())
    assert list(generation) == [5, END_OF_TEXT, 7]


@pytest.mark.parametrize("n_prompt", [1, CONTEXT - 1, CONTEXT])
def test_it_ends_when_the_context_is_full(model: GPT2, n_prompt: int) -> None:
    generation = generate(model, [3] * n_prompt, max_new_tokens=100, **GREEDY)
    assert len(list(generation)) == CONTEXT - n_prompt + 1  # nothing has to follow the last one
    assert generation.stop_reason == "context_full"


def test_a_prompt_longer_than_the_context_is_an_error_before_anything_runs(model: GPT2) -> None:
    with pytest.raises(ContextLengthError, match=r"49 tokens.* 48"):
        generate(model, [3] * 49, max_new_tokens=1)
    with pytest.raises(ContextLengthError, match=r"49 tokens.* 48"):
        generate_batch(model, [[1], [3] * 49], max_new_tokens=1)


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([], {}, "no tokens"),
        ([1, -1], {}, "-1 is not a token id"),
        ([307], {}, "307 is not a token id"),
        ([1.5], {}, "token ids are integers"),
        ([[1, 2], [3, 4]], {}, "use generate_batch"),
        ([1], {"temperature": -1}, "temperature is -1"),
        ([1], {"temperature": float("nan")}, "temperature is nan"),
        ([1], {"top_p": 0}, "top_p is 0"),
        ([1], {"max_new_tokens": -1}, "max_new_tokens is -1"),
        ([1], {"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_arguments_are_refused_at_once(
    model: GPT2, prompt: list[Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        generate(model, prompt, **({"max_new_tokens": 1} | options))
    assert "\n" not in str(error.value)


# --------------------------------------------------------------------------- cached against uncached


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize("n_prompt", [1, 5, CONTEXT])
def test_a_generation_sees_the_logits_of_the_whole_sequence(
    model: GPT2, n_prompt: int, dtype: Any, tolerance: float
) -> None:
    recorder, calls = recording(model.astype(dtype))
    prompt = np.random.default_rng(0).integers(0, 307, n_prompt).tolist()
    generation = generate(recorder, prompt, max_new_tokens=100, seed=0, **LIVELY)
    ids = prompt + list(generation)
    assert len(ids) == CONTEXT + 1
    expected = GPT2.__call__(recorder, ids[:-1])[n_prompt - 1 :]
    assert relative_difference(np.concatenate(calls), expected) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-13)])
def test_a_batch_sees_the_logits_of_each_whole_sequence(model: GPT2, dtype: Any, tolerance: float) -> None:
    recorder, calls = recording(model.astype(dtype))
    prompts = [[3] * CONTEXT, [1], *PROMPTS]
    rows = generate_batch(recorder, prompts, max_new_tokens=100, seed=0, **LIVELY)
    for index, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        expected = GPT2.__call__(recorder, (prompt + row.ids)[:-1])[len(prompt) - 1 :]
        found = np.array([logits[index, -1] for logits in calls[1 : 1 + len(row.ids)]])
        assert relative_difference(found, expected) < tolerance


@pytest.mark.parametrize("hook", [None, lambda name, array: array], ids=["fast", "plain"])
@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("piece", [1, 5, 47])
def test_a_context_that_comes_in_pieces_gives_the_same_logits(
    model: GPT2, piece: int, batch: int | None, hook: Any
) -> None:
    shape = (CONTEXT,) if batch is None else (batch, CONTEXT)
    ids = np.random.default_rng(0).integers(0, 307, shape)
    cache = model.new_cache(batch)
    pieces = [ids[..., start : start + piece] for start in range(0, CONTEXT, piece)]
    found = np.concatenate([model(part, cache=cache, hook=hook) for part in pieces], axis=-2)
    assert relative_difference(found, model(ids, hook=hook)) < 2e-6


def test_an_interrupted_generation_goes_on_where_it_was(model: GPT2) -> None:
    calls = itertools.count()

    class Interrupted(GPT2):
        def __call__(self, *args: Any, **options: Any) -> np.ndarray:
            def interrupt(name: str, array: np.ndarray) -> np.ndarray:
                if name == "h.1.attn.scores":  # half of the keys and values are in the cache by then
                    raise KeyboardInterrupt
                return array

            hook = interrupt if next(calls) in (0, 3) else None
            return super().__call__(*args, **{**options, "hook": hook})

    generation = generate(Interrupted(model.config, model.parameters), [1, 2], max_new_tokens=9, **GREEDY)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            list(generation)
    assert generation.stop_reason is None
    list(generation)
    assert generation.ids == list(generate(model, [1, 2], max_new_tokens=9, **GREEDY))


def interrupt_every_choice_once(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """From now on each choice of a token fails, before or after it, and succeeds when it is tried again."""
    choose, fails = Sampling.choose, itertools.cycle([True, False])

    def interrupted(*arguments: Any) -> int:
        if (is_to_fail := next(fails)) and place == "before":
            raise KeyboardInterrupt
        token_id = choose(*arguments)
        if is_to_fail:
            raise KeyboardInterrupt
        return token_id

    monkeypatch.setattr(Sampling, "choose", interrupted)


@pytest.mark.parametrize("options", [GREEDY, LIVELY])
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("prompt", [[1, 2], [7], [3] * (CONTEXT - 4)])
def test_a_generation_whose_choices_are_interrupted_goes_on_where_it_was(
    model: GPT2, prompt: list[int], place: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = generate(model, prompt, max_new_tokens=9, seed=3, **options)
    list(expected)
    interrupt_every_choice_once(monkeypatch, place)
    generation = generate(model, prompt, max_new_tokens=9, seed=3, **options)
    for _ in expected.ids:
        with pytest.raises(KeyboardInterrupt):
            next(generation)
        next(generation)
    assert list(generation) == []
    assert (generation.ids, generation.stop_reason) == (expected.ids, expected.stop_reason)


def test_an_interrupted_text_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_gpt2(vocab_size=50257, n_embd=8, n_head=1, n_layer=1)
    options = {"max_new_tokens": 12, "seed": 3} | LIVELY
    expected = "".join(generate_text(model, TOKENIZER, "I love", **options))
    interrupt_every_choice_once(monkeypatch, "after")
    generation = generate_text(model, TOKENIZER, "I love", **options)
    for _ in range(12):
        with pytest.raises(KeyboardInterrupt):
            list(generation)
    list(generation)
    assert (generation.text, generation.stop_reason) == (expected, "max_new_tokens")


# ---------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("options", [GREEDY, LIVELY, {"temperature": 0}])
@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[::-1], [[5]], [[5], [6]]])
def test_each_row_of_a_batch_equals_its_own_run(
    model: GPT2, prompts: list[list[int]], options: dict[str, Any]
) -> None:
    rows = generate_batch(model, prompts, max_new_tokens=12, seed=4, **options)
    for row, prompt in zip(rows, prompts, strict=True):
        alone = generate(model, prompt, max_new_tokens=12, seed=4, **options)
        assert row.ids == list(alone)
        assert row.stop_reason == alone.stop_reason == "max_new_tokens"


def test_rows_of_a_batch_end_each_in_its_own_way(model: GPT2) -> None:
    prompts = [[1, 2, 3], [3] * CONTEXT, [7], [3] * (CONTEXT - 3)]
    options = LIVELY | {"max_new_tokens": 20, "seed": 1, "stop_ids": ()}
    ids = [list(generate(model, prompt, **options)) for prompt in prompts]
    options["stop_ids"] = {*ids[2]} - {*ids[0], *ids[1], *ids[3]}
    rows = generate_batch(model, prompts, **options)
    for row, prompt in zip(rows, prompts, strict=True):
        alone = generate(model, prompt, **options)
        assert (list(alone), alone.stop_reason) == (row.ids, row.stop_reason)
    assert {row.stop_reason for row in rows} == {"max_new_tokens", "context_full", "stop_id"}


def test_a_batch_takes_a_seed_per_row_for_different_continuations_of_one_prompt(model: GPT2) -> None:
    rows = generate_batch(model, [[1, 2, 3]] * 3, max_new_tokens=12, seed=[0, 1, 0], **LIVELY)
    assert rows[0].ids == rows[2].ids != rows[1].ids
    with pytest.raises(InputError, match="seed: found 2 for 3 prompts"):
        generate_batch(model, [[1]] * 3, max_new_tokens=1, seed=[0, 1])


# The suite checks annotations, which would say it first; a user's program does not.
UNANNOTATED = """
import numpy as np
from minigpt.generation import beam_search, generate, generate_batch, generate_text, generate_without_cache
from minigpt.inspection import logit_lens
from minigpt.errors import MiniGPTError
from minigpt.sampling import min_p, probabilities, repetition_penalty, temperature, top_k, top_p
from minigpt.scoring import candidates, continuation_logprob, continuation_logprobs, log_odds
from minigpt.scoring import perplexity, rank
import datetime
from minigpt.tokenizer import Tokenizer
from tests.synthetic import random_gpt2
model, tokenizer = random_gpt2(), Tokenizer()
wordy = random_gpt2(vocab_size=50257, n_embd=8, n_head=1, n_layer=1)
def masked(name, array):
    return np.ma.masked_array(array)
for wrong in (
    lambda: model([1, 2], logits_to_keep=1.0),
    lambda: model([1, 2], logits_to_keep=np.uint8(1)),  # its negative is 255
    lambda: generate(model, [1], max_new_tokens=2.5),
    lambda: generate(model, [1], max_new_tokens=2, top_k=2.5),
    lambda: generate(model, [1], max_new_tokens=2, temperature="hot"),
    lambda: generate(model, [1], max_new_tokens=2, seed=1.5),
    lambda: generate_batch(model, [[1], [2]], max_new_tokens=2, seed=np.array([1, 2])),
    lambda: beam_search(model, [1], num_beams=1.5, max_new_tokens=2),
    lambda: perplexity(model, [1, 2, 3], stride=1.5),
    lambda: model([1, 2], logits_to_keep=1.5),
    lambda: logit_lens(model, [1, 2], top=1.5),
    lambda: logit_lens(model, [1, 2], positions=[0.5]),
    lambda: generate(model, [1], max_new_tokens=2, stop_ids="a"),
    lambda: generate(model, [1], max_new_tokens=2, stop_ids=0.5),
    lambda: generate_batch(model, [[1]], max_new_tokens=2, stop_ids=[1, "a"]),
    lambda: generate_batch(model, None, max_new_tokens=2),
    lambda: beam_search(model, [1], num_beams=2, max_new_tokens=2, stop_ids=[[1]]),
    lambda: generate_text(wordy, tokenizer, "a", max_new_tokens=2, stop=3),
    lambda: generate_text(wordy, tokenizer, "a", max_new_tokens=2, stop=["a", 3]),
    lambda: continuation_logprob(model, [[1, 2], [3, 4]], [5]),
    lambda: continuation_logprob(model, [1], [[2, 3]]),
    lambda: continuation_logprob(model, [1], None),
    lambda: log_odds(model, [1], 2),
    lambda: model([1, 2], cache=3),
    lambda: model([1, 2], hook=3),
    lambda: model.new_cache(2.0),
    lambda: generate(model, [1], max_new_tokens=2, hook=3),
    lambda: generate_batch(model, [[1]], max_new_tokens=2, hook=3),
    lambda: beam_search(model, [1], num_beams=2, max_new_tokens=2, hook=3),
    lambda: perplexity(model, [1, 2], hook=3),
    lambda: model([1, 2], hook=masked),
    lambda: model([datetime.date(2020, 1, 1)]),
    lambda: model(np.array(["2020-01-01"], "datetime64[D]")),
    lambda: model(np.array(3)),
    lambda: model([10**5000]),
    lambda: model.new_cache(10**5000),
    lambda: model.new_cache().rewind(-(10**5000)),
    lambda: logit_lens(model, [1, 2], top=10**5000),
    lambda: logit_lens(model, [1, 2], positions=[10**5000]),
    lambda: tokenizer.decode([10**5000]),
    lambda: generate_batch(model, np.array(3), max_new_tokens=2),
    lambda: generate_without_cache(model, datetime.date(2020, 1, 1), 2),
    lambda: generate_without_cache(model, [1], -1),
    lambda: beam_search(model, [1], num_beams=10**5000, max_new_tokens=2),
    lambda: perplexity(model, [1, 2, 3], stride=10**5000),
    lambda: continuation_logprobs(model, [1], 3),
    lambda: candidates(wordy, tokenizer, [1], np.ones(50257, np.float32), 3),
    lambda: rank(np.ones(5, np.float32), 10**5000),
    lambda: probabilities([1.0, 2.0], 10**5000),
    lambda: temperature(np.ones(3, np.float32), 1e39),
    lambda: temperature(np.ones(3, np.float32), 1e-50),
    lambda: top_k(np.array(3.0), 2),
    lambda: top_p([1.0, 2.0], 0.5),
    lambda: min_p([1.0, 2.0], 0.5),
    lambda: repetition_penalty(np.ones(3), [5], 1.2),
    lambda: repetition_penalty(np.ones(3), datetime.date(2020, 1, 1), 1.2),
):
    try:
        wrong()
    except MiniGPTError as error:
        print(error)
"""


def test_arguments_of_another_type_are_refused_in_words() -> None:
    done = subprocess.run([sys.executable, "-c", UNANNOTATED], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == UNANNOTATED.count("lambda")
    for line in (
        "logits_to_keep is 1.0; it must be an integer",
        "logits_to_keep is 1; it must be an integer",
        "seed is [1 2]; it must be an integer",
        "stop_ids: found str; expected token ids, or None.",
        "stop_ids: found list; expected token ids",
        "prompts: found NoneType; expected several rows of ids",
        "stop: found int; expected a text, a list of texts, or None.",
        "prompt: found shape (2, 2); expected one text",
        "continuation: found shape (1, 2); expected one text",
        "cache: found int; make one with the model's new_cache.",
        "hook: found int; expected a function",
        "batch is 2.0; it must be an integer",
        "it returned MaskedArray",
        "length is -1.00e+5000; it must be an integer",
        "top is 1.00e+5000; it must be 1 to 307",
        "temperature is 1e+39, beyond what float32 holds",
        "continuations: found int",
        "candidates: found int",
        "token_id is 1.00e+5000; these logits are of ids 0 to 4.",
        "previous_ids: expected ids from 0 to 2",
    ):
        assert line in done.stdout


def test_stop_ids_may_be_one_several_or_none(model: GPT2) -> None:
    def ids(stop_ids: Any) -> list[int]:
        return list(generate(model, [1, 2, 3], max_new_tokens=9, stop_ids=stop_ids, **GREEDY))

    all_of_them = ids(None)
    assert all_of_them == ids(()) == ids([])
    stop = all_of_them[4]
    until_then = all_of_them[: all_of_them.index(stop) + 1]
    assert ids(stop) == ids([stop]) == ids({stop}) == ids([306, stop]) == until_then != all_of_them
    (row,) = generate_batch(model, [[1, 2, 3]], max_new_tokens=9, stop_ids=stop, **GREEDY)
    assert row.ids == until_then


def test_the_prompts_of_a_batch_may_come_from_a_generator(model: GPT2) -> None:
    expected = [row.ids for row in generate_batch(model, PROMPTS, max_new_tokens=5, **GREEDY)]
    rows = generate_batch(model, (prompt for prompt in PROMPTS), max_new_tokens=5, **GREEDY)
    assert [row.ids for row in rows] == expected


def test_a_batch_may_be_empty_or_ask_for_nothing(model: GPT2) -> None:
    assert generate_batch(model, [], max_new_tokens=5) == []
    assert [row.ids for row in generate_batch(model, PROMPTS, max_new_tokens=0)] == [[]] * 4


# ------------------------------------------------------------------------------------- beam search


def test_beam_search_with_room_for_all_finds_the_likeliest_continuation() -> None:
    model = random_gpt2(vocab_size=5, tie_word_embeddings=False)
    continuations = list(itertools.product(range(5), repeat=3))
    likeliest = max(continuations, key=lambda ids: continuation_logprob(model, [1, 2], list(ids)))
    found = beam_search(model, [1, 2], num_beams=25, max_new_tokens=3, stop_ids=())
    assert found == list(likeliest)


@pytest.mark.parametrize("stop_ids", [[0, 1, 2], [4], [1, 2, 3, 4], range(5)])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_beam_search_with_room_for_all_finds_the_best_text_whatever_ends_it(
    stop_ids: Sequence[int], length_penalty: float, seed: int
) -> None:
    model = random_gpt2(seed, vocab_size=5, tie_word_embeddings=False)
    texts = [list(ids) for n in (1, 2, 3) for ids in itertools.product(range(5), repeat=n)]
    texts = [ids for ids in texts if not {*ids[:-1]} & {*stop_ids} and (len(ids) == 3 or ids[-1] in stop_ids)]
    best = max(texts, key=lambda ids: continuation_logprob(model, [1, 2], ids) / len(ids) ** length_penalty)
    options = {"length_penalty": length_penalty, "stop_ids": stop_ids}
    assert beam_search(model, [1, 2], num_beams=25, max_new_tokens=3, **options) == best


def test_so_many_candidates_that_all_beams_go_on_beside_any_number_of_stop_ids() -> None:
    """Of two beams, one goes on with the likeliest token and one with the least likely: three others end."""
    logits = np.log(np.float32([0.1, 0.15, 0.2, 0.25, 0.3]))  # the last goes on, then three stop ids
    batches: list[int] = []

    class Steady(GPT2):
        def __call__(self, ids: Any, **options: Any) -> np.ndarray:
            batches.append(len(ids))
            return np.broadcast_to(logits, (len(ids), 1, 5))

    small = random_gpt2(vocab_size=5)
    steady = Steady(small.config, small.parameters)
    assert beam_search(steady, [1], num_beams=2, max_new_tokens=4, stop_ids=[1, 2, 3]) == [4, 4, 4, 4]
    assert batches == [2] * 4


def test_beam_search_finds_what_greedy_choice_misses(model: GPT2) -> None:
    prompts = [[a, b] for a in range(3) for b in range(3)]
    better = 0
    for prompt in prompts:
        options = {"max_new_tokens": 4, "stop_ids": ()}
        greedy = list(generate(model, prompt, temperature=0, **options))
        assert beam_search(model, prompt, num_beams=1, **options) == greedy
        beam = beam_search(model, prompt, num_beams=8, **options)
        better += continuation_logprob(model, prompt, beam) > continuation_logprob(model, prompt, greedy)
    assert better > 0


def test_beam_search_returns_its_beams_with_their_scores(model: GPT2) -> None:
    options = {"num_beams": 6, "max_new_tokens": 4, "stop_ids": (), "length_penalty": 0.5}
    beams = beam_search(model, [1, 2], num_return_sequences=6, **options)
    assert beams[0].ids == beam_search(model, [1, 2], **options)
    assert len({tuple(beam.ids) for beam in beams}) == 6
    assert [beam.score for beam in beams] == sorted((beam.score for beam in beams), reverse=True)
    for beam in beams:
        logprob = continuation_logprob(model, [1, 2], beam.ids)
        assert beam.score == pytest.approx(logprob / len(beam.ids) ** 0.5, rel=1e-5)
    assert beam_search(model, [1, 2], num_return_sequences=2, **options) == beams[:2]
    with pytest.raises(InputError, match="num_return_sequences is 7; it must be at most num_beams, 6"):
        beam_search(model, [1, 2], num_return_sequences=7, **options)


def test_beam_search_ends_with_the_context(model: GPT2) -> None:
    assert len(beam_search(model, [3] * (CONTEXT - 2), num_beams=3, max_new_tokens=9)) == 3
    assert beam_search(model, [3], num_beams=3, max_new_tokens=0) == []


def test_impossible_beam_searches_are_refused(model: GPT2) -> None:
    with pytest.raises(InputError, match="num_beams is 0"):
        beam_search(model, [1], num_beams=0, max_new_tokens=1)
    for penalty in (1000, -1000.0, 10**400, float("nan")):
        with pytest.raises(InputError, match=r"length_penalty is .*; it must be from -10 to 10"):
            beam_search(model, [1], num_beams=2, max_new_tokens=1, length_penalty=penalty)
    with pytest.raises(ContextLengthError, match=r"49 tokens.* 48"):
        beam_search(model, [1] * 49, num_beams=1, max_new_tokens=1)


# ------------------------------------------------------------------------------------------- text


def text_of(text: str, **options: Any) -> tuple[list[str], Any]:
    """The pieces that come out when a model says `text`, and the exhausted generation."""
    ids = TOKENIZER.encode(text, allow_special=True)
    options = {"max_new_tokens": len(ids), "temperature": 0} | options
    generation = generate_text(scripted(ids), TOKENIZER, "I love", **options)
    return list(generation), generation


def test_the_pieces_are_the_text_as_it_comes() -> None:
    pieces, generation = text_of(" you and me")
    assert pieces == [" you", " and", " me"]
    assert generation.text == " you and me"
    assert generation.ids == TOKENIZER.encode(" you and me")
    assert generation.stop_reason == "max_new_tokens"


@pytest.mark.parametrize("text", ["👩‍👩‍👧 and 🦄!", "漢字かな混じり文", "ψυχή"])
def test_pieces_hold_complete_characters_only(text: str) -> None:
    pieces, _ = text_of(text)
    assert "".join(pieces) == text
    assert "" not in pieces
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_character_that_is_never_completed_shows_as_a_replacement_at_the_end() -> None:
    pieces, _ = text_of(" 🦄", max_new_tokens=2)
    assert "".join(pieces) == " \ufffd"


def test_the_token_that_ends_the_text_is_not_part_of_it() -> None:
    pieces, generation = text_of(" you<|endoftext|> and")
    assert pieces == [" you"]
    assert generation.stop_reason == "stop_id"
    assert generation.ids == [*TOKENIZER.encode(" you"), END_OF_TEXT]


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("One.\n\nTwo", ["\n\n"], "One."),
        ("One two three", [" two"], "One"),
        ("One two three", ["e tw"], "On"),  # straddles tokens
        ("One two three", ["wo thre"], "One t"),
        ("One two three", ["hre", "two"], "One "),  # the first to occur, not the first in the list
        ("One two three", [" three", " two th"], "One"),
        ("ababac and", ["abac"], "ab"),  # the beginning of a stop string inside another
        ("One 🦄 two", ["🦄"], "One "),
        ("One two three", ["One"], ""),
    ],
)
def test_a_stop_string_ends_the_text_before_it(text: str, stop: list[str], expected: str) -> None:
    pieces, generation = text_of(text, stop=stop)
    assert "".join(pieces) == generation.text == expected
    assert generation.stop_reason == "stop_text"


def test_text_that_may_become_a_stop_string_is_held_back_until_that_is_decided() -> None:
    pieces, generation = text_of(" one two three four", stop=[" two four", " three four five"])
    assert pieces == [" one", " two", " three four"]
    assert generation.stop_reason == "max_new_tokens"


def test_no_token_is_computed_after_the_stop_string() -> None:
    _, generation = text_of(" one two three", stop=" two")
    assert generation.ids == TOKENIZER.encode(" one two")


def test_a_very_long_stop_string_takes_no_time() -> None:
    text = "one two " * 10
    stop = (text + "x") * 1500  # of which the text is a beginning
    pieces, _ = text_of(text, stop=[stop, "y" * 125_000])
    assert "".join(pieces) == text


def test_one_stop_string_may_be_given_as_such() -> None:
    assert text_of("One two", stop="wo")[1].text == "One t"
    assert text_of("One two", stop=None)[1].text == "One two"


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(InputError, match="stop: found an empty string"):
        text_of("One", stop=["x", ""])


def test_a_stop_string_in_the_prompt_does_not_count() -> None:
    assert text_of(" you", stop="love")[1].text == " you"


def test_an_empty_prompt_starts_from_end_of_text() -> None:
    model = random_gpt2(vocab_size=50257)
    pieces = generate_text(model, TOKENIZER, "", max_new_tokens=5, seed=0)
    ids = generate(model, [END_OF_TEXT], max_new_tokens=5, seed=0)
    assert "".join(pieces) == TOKENIZER.decode(list(ids))
    assert pieces.ids == ids.ids
