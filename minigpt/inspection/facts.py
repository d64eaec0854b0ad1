"""Figures that other projects published about the official weights, checked against this implementation.

They need no torch: somebody else's program computed them, on the same weights. The figures stand in
`minigpt/data/reference.json`, each with its source and tolerance.

    for fact in official_facts("gpt2"):
        print(check_fact(fact, model, tokenizer))
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import checked_classes
from ..generation import generate
from ..hooks import as_it_is
from ..model import GPT2, Call, attention, causal_mask, layer_norm, linear, named_parameters
from ..sampling import probabilities
from ..scoring import logprobs_of
from ..tokenizer import Tokenizer, encode_prompt
from .intervention import ablate
from .ledger import data_file, largest_difference
from .tracing import trace


@dataclass(frozen=True)
class Fact:
    """What somebody published: `check_fact` computes it again."""

    id: str
    model: str  # an official name
    kind: str  # a name in `CHECKS`
    title: str
    tolerance: float  # largest difference allowed; for greedy text, tokens that differ
    source: str
    data: dict[str, Any]  # what the kind needs


@dataclass(frozen=True)
class FactResult:
    """How far this machine's figure is from the published one."""

    fact: Fact
    difference: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance (NaN is not)."""
        return self.difference <= self.fact.tolerance

    def __str__(self) -> str:
        verdict = "equal" if self.passed else "DIFFERENT"
        return (
            f"{self.fact.id}: {verdict}, difference {self.difference:.2g}, tolerance {self.fact.tolerance:g} "
            f"({self.fact.source})"
        )


@checked_classes
def official_facts(model: str | None = None) -> list[Fact]:
    """The published figures, of one official model or of all."""
    common = ("id", "model", "kind", "title", "tolerance", "source")
    facts = [
        Fact(**{name: entry.pop(name) for name in common}, data=entry)  # the kind needs the rest
        for entry in data_file()["facts"]
    ]
    return [fact for fact in facts if model in (None, fact.model)]


@checked_classes
def check_fact(fact: Fact, model: GPT2, tokenizer: Tokenizer) -> FactResult:
    """Compute a published figure with the model that it was published about, and compare."""
    data = fact.data
    if "prompt" in data and "ids" in data and encode(tokenizer, data["prompt"]) != data["ids"]:
        return FactResult(fact, float("inf"))  # the tokenizer is wrong, and so everything after it
    return FactResult(fact, float(CHECKS[fact.kind](data, model, tokenizer)))


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a published text, in which <|endoftext|> means the token."""
    return tokenizer.encode(text, allow_special=True)


def worst(differences: Iterable[float]) -> float:
    """The largest of them; NaN if one is NaN, which `max` would skip."""
    return float(np.max(list(differences)))


def check_logits(data: dict[str, Any], model: GPT2, _tokenizer: Tokenizer) -> float:
    """Some logits at some positions."""
    logits = model(data["ids"])
    return worst(largest_difference(logits[at["position"], at["tokens"]], at["values"]) for at in data["at"])


def check_mean_logit(data: dict[str, Any], model: GPT2, _tokenizer: Tokenizer) -> float:
    """The mean over all positions and tokens."""
    return abs(float(model(data["ids"]).mean(dtype=np.float64)) - data["value"])


def check_likeliest_each(data: dict[str, Any], model: GPT2, _tokenizer: Tokenizer) -> float:
    """The likeliest token after each position: how many differ."""
    return float((model(data["ids"]).argmax(axis=-1) != data["expected"]).sum())


def check_top(data: dict[str, Any], model: GPT2, _tokenizer: Tokenizer) -> float:
    """The likeliest tokens in order, and their logits."""
    logits = model(data["ids"])[-1]
    best = np.argsort(-logits, kind="stable")[: len(data["tokens"])]
    return (
        largest_difference(logits[data["tokens"]], data["logits"])
        if best.tolist() == data["tokens"]
        else float("inf")
    )


def check_top_centred(data: dict[str, Any], model: GPT2, tokenizer: Tokenizer) -> float:
    """The likeliest tokens' logits less the vocabulary's mean, and their probabilities in per cent."""
    logits = model(data.get("ids") or started(tokenizer, data["prompt"]))[-1].astype(np.float64)
    tokens = [one(tokenizer, text) for text in data["tokens"]]
    centred, percent = (logits - logits.mean())[tokens], 100 * probabilities(logits)[tokens]
    pairs = (centred, data["logits"]), (percent, data["percent"])
    return worst(largest_difference(found, published) for found, published in pairs)


def check_differences(data: dict[str, Any], model: GPT2, tokenizer: Tokenizer) -> float:
    """For several prompts, the logit of one answer less that of another."""
    found = []
    for prompt, (answer, other) in zip(data["prompts"], data["answers"], strict=True):
        logits = model(started(tokenizer, prompt))[-1].astype(np.float64)
        found.append(logits[one(tokenizer, answer)] - logits[one(tokenizer, other)])
    return largest_difference(np.array(found), data["values"])


def check_loss(data: dict[str, Any], model: GPT2, _tokenizer: Tokenizer) -> float:
    """The mean negative log-probability of each token given those before it, maybe with a head ablated."""
    hook = ablate(model, **data["ablate"]) if "ablate" in data else None
    logits = model(data["ids"][:-1], hook=hook)
    return abs(-logprobs_of(logits, np.array(data["ids"][1:])).mean() - data["value"])


def check_batch_loss(data: dict[str, Any], model: GPT2, _tokenizer: Tokenizer) -> float:
    """The same over the rows of a batch, cut from one run of tokens; its rows one at a time."""
    inputs, targets = (
        np.array(data["tokens"][start:end]).reshape(data["rows"], -1) for start, end in ((0, -1), (1, None))
    )
    losses = [-logprobs_of(model(row), target) for row, target in zip(inputs, targets, strict=True)]
    return abs(float(np.mean(losses)) - data["value"])


def check_greedy(data: dict[str, Any], model: GPT2, _tokenizer: Tokenizer) -> float:
    """Greedy text: how many tokens differ; or how far their log-probabilities are, if published."""
    expected = data["expected"]
    found = list(generate(model, data["ids"], max_new_tokens=len(expected), temperature=0, stop_ids=()))
    differ = sum(a != b for a, b in zip(found, expected, strict=True))
    if differ or not {"logprobs", "logprob_above"} & data.keys():
        return float(differ)
    logits = model(data["ids"] + expected[:-1], logits_to_keep=len(expected)).astype(np.float64)
    logprobs = np.log(probabilities(logits)[range(len(expected)), expected])
    return (
        largest_difference(logprobs, data["logprobs"])
        if "logprobs" in data
        else float(logprobs[0] < data["logprob_above"])
    )


def check_weights(data: dict[str, Any], model: GPT2, _tokenizer: Tokenizer) -> float:
    """Single numbers of the parameters."""
    arrays = named_parameters(model)
    return worst(
        largest_difference(arrays[at["name"]].ravel()[at["start"] :][: len(at["values"])], at["values"])
        for at in data["at"]
    )


def check_modules(data: dict[str, Any], model: GPT2, _tokenizer: Tokenizer) -> float:
    """The parts of block 0, given bare rows of `wte`: no positions, and attention without its layer norm."""
    p, config, tokens = model.parameters.h[0], model.config, len(data["tokens"])
    x = model.parameters.wte[data["tokens"]]
    positions = np.arange(tokens)
    out = attention(x, p.attn, 0, Call(config, positions, causal_mask(positions), None, as_it_is))
    normed = layer_norm(x, p.ln_1, config.layer_norm_epsilon, as_it_is, "ln_1")
    pairs = [
        (x[0], data["wte"]),
        (linear(x, p.mlp.c_fc)[0], data["c_fc"]),
        (normed[0], data["ln_1"]),
        *((out[int(row)], values) for row, values in data["attn"].items()),
    ]
    return worst(largest_difference(found[: len(values)], values) for found, values in pairs)


def check_scores(data: dict[str, Any], model: GPT2, _tokenizer: Tokenizer) -> float:
    """Block 0's products of queries and keys, before scaling."""
    scores = trace(model, data["ids"], names="h.0.attn.scores")["h.0.attn.scores"]
    return largest_difference(scores / model.config.attention_scale(0), data["values"])


CHECKS: dict[str, Callable[[dict[str, Any], GPT2, Tokenizer], float]] = {
    "logits": check_logits,
    "mean_logit": check_mean_logit,
    "likeliest_each": check_likeliest_each,
    "top": check_top,
    "top_centred": check_top_centred,
    "differences": check_differences,
    "loss": check_loss,
    "batch_loss": check_batch_loss,
    "greedy": check_greedy,
    "weights": check_weights,
    "modules": check_modules,
    "scores": check_scores,
}


def started(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids of a prompt behind <|endoftext|>, as TransformerLens starts every text."""
    return [*encode_prompt(tokenizer, ""), *tokenizer.encode(prompt)]


def one(tokenizer: Tokenizer, text: str) -> int:
    """The id of a text that is one token."""
    (token,) = tokenizer.encode(text)
    return token
