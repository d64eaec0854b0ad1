"""What the command line is about: a prompt and the logits that follow it, and the document of `--json`."""

import argparse
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ..checkpoints.find import Source
from ..errors import ContextLengthError, NumericsError
from ..generation import TextGeneration, generate_text
from ..model import GPT2, n_parameters
from ..scoring import candidates, next_tokens
from ..tokenizer import Tokenizer

LONGEST_TOKEN = 128  # bytes: no token of GPT-2's vocabulary has more


@dataclass(frozen=True)
class Context:
    """A prompt, its tokens, and the logits of the token that follows them."""

    prompt: str
    ids: list[int]
    logits: Float[np.ndarray, " vocab"]

    def __post_init__(self) -> None:
        if not np.isfinite(self.logits).all():
            raise NumericsError(
                "logits: not all of them are finite; the model's weights are broken or too large."
            )


def read_context(model: GPT2, tokenizer: Tokenizer, prompt: str) -> Context:
    """One forward pass over a prompt. Raises `ContextLengthError` for one that is too long."""
    ids = prompt_ids(model, tokenizer, prompt)
    return Context(prompt, ids, model(ids, logits_to_keep=1)[-1])


def prompt_ids(model: GPT2, tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The tokens of a prompt; for an empty one <|endoftext|>, which stood before every text in training."""
    at_least = math.ceil(len(prompt.encode()) / LONGEST_TOKEN)
    if at_least > model.config.n_positions:  # known without encoding 100 MB, which takes minutes
        raise too_long(prompt, f"at least {at_least:,}", model)
    ids = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    if len(ids) > model.config.n_positions:
        raise too_long(prompt, f"{len(ids):,}", model)
    return ids


def too_long(prompt: str, found: str, model: GPT2) -> ContextLengthError:
    """The error for a prompt that has more tokens than the model has positions."""
    return ContextLengthError(
        f"prompt {prompt[:20]!r}…: {found} tokens do not fit into this model's context of "
        f"{model.config.n_positions:,}; shorten the text, or see what `minigpt score` says of all of it."
    )


def document(source: Source, model: GPT2, tokenizer: Tokenizer, args: argparse.Namespace) -> dict[str, Any]:
    """What `--json` prints."""
    result: dict[str, Any] = {"model": model_document(source, model)}
    result |= context_document(model, tokenizer, args.prompt, args)
    if args.compare:
        result["comparisons"] = [context_document(model, tokenizer, prompt, args) for prompt in args.compare]
    return result


def model_document(source: Source, model: GPT2) -> dict[str, Any]:
    """What ran: its name, where it came from, and its size."""
    sizes = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")
    return {
        "name": source.name,
        "source": source.origin,
        "n_parameters": n_parameters(model),
        **{name: getattr(model.config, name) for name in sizes},
    }


def tokens_document(tokenizer: Tokenizer, ids: list[int]) -> list[dict[str, Any]]:
    """The tokens of a prompt, one by one."""
    return [
        {"position": position, "id": token_id, "text": tokenizer.token_text(token_id)}
        for position, token_id in enumerate(ids)
    ]


def context_document(
    model: GPT2, tokenizer: Tokenizer, prompt: str, args: argparse.Namespace
) -> dict[str, Any]:
    """What is to be said about one prompt; keys that were not asked for are absent."""
    context = read_context(model, tokenizer, prompt)
    result: dict[str, Any] = {
        "prompt": prompt,
        "tokens": tokens_document(tokenizer, context.ids),
        "temperature": args.temperature,
        "next_tokens": [
            asdict(row) for row in next_tokens(context.logits, tokenizer, args.top, args.temperature)
        ],
    }
    if args.candidates:
        rows = candidates(model, tokenizer, context.ids, context.logits, args.candidates, args.temperature)
        result["candidates"] = [asdict(row) for row in rows]
    if args.max_new_tokens:
        generation = start_generation(model, tokenizer, prompt, args)
        text = "".join(generation)  # this runs it: its other results are there afterwards
        result["generated"] = {"ids": generation.ids, "text": text, "stop_reason": generation.stop_reason}
    return result


def start_generation(
    model: GPT2, tokenizer: Tokenizer, prompt: str, args: argparse.Namespace
) -> TextGeneration:
    """The continuation that the arguments ask for."""
    return generate_text(
        model,
        tokenizer,
        prompt,
        max_new_tokens=args.max_new_tokens,
        stop=args.stop,
        seed=args.seed,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
    )
