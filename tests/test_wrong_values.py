"""Every argument of every public function, with values that it cannot mean: an answer, or words."""

import datetime
import inspect
import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest

import minigpt
from minigpt import Config, Pair, Tokenizer, inspection, page, practice, sampling, scoring, training
from minigpt.checkpoints.find import Source
from minigpt.model import GPT2, KVCache
from minigpt.tokenizer import AddedToken
from tests.synthetic import random_gpt2

TEXT = "".join(f"{n} sheep and {n + 1} goats went up the hill.\n" for n in range(40))
BYTES = Tokenizer.train([TEXT], 280)
MODEL = random_gpt2(vocab_size=280, n_positions=16, n_embd=8, n_layer=2, n_head=2)
CORPUS = training.split_tails([TEXT])
PAIR = Pair("0 sheep", " and", " or")
STEPS = training.TrainingSettings(steps=1, batch_size=1, threads=1)
FEW_PAIRS = minigpt.PreferenceSettings(steps=1, batch_size=1, threads=1)
LOGITS = np.zeros(5, np.float32)


class Rude:
    """What says nothing about itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def wrong_values() -> list[Any]:
    """Of every kind; made anew, because a generator is used up."""
    return [
        None, True, -1, 0, 1, 2**70, 10**5000, 1.5, math.nan, math.inf, 1j, np.float32(2), Fraction(1, 2),
        "x", "", "\0", "\ud800", "1", "x" * 5000, b"x", Path("x"), Path("a\0b"), datetime.date(2020, 1, 1),
        np.datetime64("2020"), np.array([1, 2], "timedelta64[s]"), np.matrix([[0, 1]]), np.array(0),
        np.array("x"), np.array([{}], object), np.zeros((2, 0)), np.ma.masked_array([1], [True]),
        np.zeros(2, "i4,f4"), [], [[]], [None], ["x"], [b"x"], [10**5000], [[0], [0, 1]], [1.5], [math.nan],
        [PAIR], (), {}, {"a": 1}, {1: "a"}, {1, 2}, {"x"}, slice(None), range(3), iter([1]), nested(1000),
        (n for n in "ab"), object(), Rude(), print, MODEL, BYTES, CORPUS, PAIR,
        lambda *_: None,
    ]  # fmt: skip


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def arrays(**changed: Any) -> dict[str, Any]:
    return minigpt.named_parameters(MODEL) | changed


SPEAKS = {"model": MODEL, "tokenizer": BYTES}
FACT = inspection.official_facts("gpt2")[0]
SOURCE = Source("x", Path("x"), "x")
# Functions, and what they need; their other arguments have defaults.
FUNCTIONS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (MODEL, {"ids": [1, 2]}),
    (MODEL.new_cache, {}),
    (MODEL.new_cache(2).rewind, {"length": 0}),
    (MODEL.new_cache(2).reorder, {"rows": [1, 0]}),
    (KVCache, {"config": MODEL.config, "batch": (2,), "dtype": "float32"}),
    (MODEL.astype, {"dtype": "float64"}),
    (MODEL.crop, {"n_positions": 3}),
    (GPT2.random, {"config": MODEL.config}),
    (GPT2.from_arrays, {"config": MODEL.config, "arrays": arrays()}),
    (lambda wpe: GPT2.from_arrays(MODEL.config, arrays(**{"wpe.weight": wpe})), {"wpe": []}),
    (minigpt.named_parameters, {"model": MODEL}),
    (Config, {}),
    (minigpt.load, {"name": "tiny"}),
    (minigpt.load_model, {"name": "tiny"}),
    (minigpt.save, SPEAKS | {"folder": "saved"}),
    (minigpt.probabilities, {"logits": LOGITS}),
    (sampling.temperature, {"logits": LOGITS, "value": 1.0}),
    (sampling.top_k, {"logits": LOGITS, "k": 1}),
    (sampling.top_p, {"logits": LOGITS, "p": 0.5}),
    (sampling.min_p, {"logits": LOGITS, "p": 0.5}),
    (sampling.repetition_penalty, {"logits": LOGITS, "previous_ids": [1], "penalty": 2.0}),
    (sampling.Sampling, {}),
    (minigpt.generate, {"model": MODEL, "ids": [1], "max_new_tokens": 2}),
    (minigpt.generate_batch, {"model": MODEL, "prompts": [[1], [2]], "max_new_tokens": 2}),
    (minigpt.generate_text, SPEAKS | {"prompt": "0", "max_new_tokens": 2}),
    (minigpt.beam_search, {"model": MODEL, "ids": [1], "num_beams": 2, "max_new_tokens": 2}),
    (minigpt.continuation_logprob, {"model": MODEL, "prompt": [1], "continuation": [2]}),
    (minigpt.token_logprobs, {"model": MODEL, "ids": [1, 2]}),
    (minigpt.perplexity, {"model": MODEL, "ids": [1, 2]}),
    (scoring.next_tokens, {"logits": np.zeros(MODEL.config.vocab_size, np.float32), "tokenizer": BYTES}),
    (scoring.log_odds_ratio, {"model": MODEL, "prompt": [1], "chosen": [2], "rejected": [3]}),
    (minigpt.gradients, {"model": MODEL, "ids": [1, 2], "targets": [2, 3]}),
    (Tokenizer, {"merges": [(b"a", b"b")]}),
    (lambda ids: Tokenizer([], ids=ids).encode("ab"), {"ids": {bytes([n]): n for n in range(256)}}),
    (AddedToken, {"text": "x", "id": 1}),
    (Tokenizer.train, {"texts": [TEXT], "vocab_size": 258}),
    (BYTES.encode, {"text": "0 sheep"}),
    (BYTES.decode, {"ids": [1, 2]}),
    (BYTES.decode_bytes, {"ids": [1, 2]}),
    (BYTES.token_bytes, {"token_id": 1}),
    (BYTES.token_text, {"token_id": 1}),
    (minigpt.read_corpus, {"paths": ["text.txt"]}),
    (training.split_tails, {"texts": [TEXT]}),
    (training.Corpus, {"training": [TEXT], "held_out": [TEXT]}),
    (training.TrainingSettings, {"steps": 1}),
    (minigpt.train, SPEAKS | {"corpus": CORPUS, "out": None, "settings": STEPS}),
    (minigpt.resume, {"out": "run"}),
    (minigpt.read_pairs, {"file": "demo"}),
    (minigpt.PreferenceSettings, {}),
    (minigpt.prefer, SPEAKS | {"pairs": [PAIR] * 5, "settings": FEW_PAIRS, "text": TEXT}),
    (minigpt.pushes, SPEAKS | {"pair": PAIR}),
    (
        lambda prompt, chosen, rejected: minigpt.pushes(MODEL, BYTES, Pair(prompt, chosen, rejected)),
        {"prompt": "0", "chosen": " a", "rejected": " b"},
    ),
    (minigpt.trace, {"model": MODEL, "ids": [1]}),
    (inspection.trace(MODEL, [1]).select, {"pattern": "wte"}),
    (inspection.trace(MODEL, [1]).__getitem__, {"name": "wte"}),
    (inspection.trace(MODEL, [1]).stack, {"pattern": "wte"}),
    (inspection.attention_weights, {"model": MODEL, "ids": [1]}),
    (inspection.for_circuitsvis, SPEAKS | {"ids": [1], "layer": 0}),
    (inspection.attribute, {"model": MODEL, "ids": [1]}),
    (inspection.logit_lens, {"model": MODEL, "ids": [1]}),
    (inspection.lens_logits, {"model": MODEL, "ids": [1]}),
    (inspection.unembed, {"model": MODEL, "x": np.zeros((1, 8), np.float32)}),
    (lambda hook: inspection.chain(hook, hook), {"hook": None}),
    (inspection.intervene, {"model": MODEL, "name": "h.0.attn.v", "change": np.array}),
    (inspection.ablate, {"model": MODEL, "name": "h.0.attn.v", "head": 0}),
    (inspection.patch, {"model": MODEL, "name": "wte", "source": inspection.trace(MODEL, [1])}),
    (lambda returned: MODEL([1], hook=lambda _name, _array: returned), {"returned": 1}),
    (inspection.official_facts, {}),
    (inspection.check_fact, SPEAKS | {"fact": FACT}),
    (practice.exercise, {"name": "softmax"}),
    (practice.check, {"name": "softmax", "function": print}),
    (practice.arguments, {"name": "softmax"}),
    (page.show, {"prompt": "I", "model": "tiny"}),
    (page.write_page, SPEAKS | {"path": "page.html", "prompt": "0", "source": SOURCE}),
]


@pytest.fixture(autouse=True)
def a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whose annotations nobody checks, in a folder with a text."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def with_defaults(function: Callable[..., Any], needed: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | needed


def use(function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Call it, and use what it gives: a generation computes when it is iterated over, a hook is called."""
    result = function(**arguments)
    if isinstance(result, Iterator):
        list(result)
    elif inspect.isfunction(result):
        MODEL([1], hook=result)


def id_of(value: Any) -> str:
    return "-".join(value)[:40] if isinstance(value, dict) else getattr(value, "__qualname__", "call")


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize(("function", "needed"), FUNCTIONS, ids=id_of)
def test_a_wrong_value_is_explained(function: Callable[..., Any], needed: dict[str, Any]) -> None:
    arguments = with_defaults(function, needed)
    for name in arguments:
        for value in wrong_values():
            try:
                use(function, arguments | {name: value})
            except minigpt.MiniGPTError as error:
                said = str(error)
            else:
                said = "an answer, too"
            assert re.fullmatch(r"\S.{10,}", said), (name, type(value), said)
