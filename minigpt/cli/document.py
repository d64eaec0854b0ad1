"""What `--json` prints about a prompt: one document, with the keys that were asked for."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import notice
from ..generation import TextGeneration, generate_text
from ..page.build import write_page
from ..scoring import Candidate, candidates, next_tokens
from ..tokenizer import AnyTokenizer, token_text
from .options import PromptOptions
from .passes import Context, Reading, model_document, open_prompts, run_pass

MANY_TOKENS = 2000  # which take the page more than seconds


def run(options: PromptOptions) -> None:
    """The main road for a program: compute everything, write the page, then print the document."""
    readings = open_prompts(options)
    seed = choose_seed(options)
    first, *others = (context_document(run_pass(reading), options, seed) for reading in readings)
    result = {"model": model_document(readings[0].checkpoint.source, readings[0].checkpoint.model)} | first
    if others:
        result["comparisons"] = [
            named_document(found, reading, readings[0])
            for found, reading in zip(others, readings[1:], strict=True)
        ]
    page = save_page(readings, options, seed)
    print_json(result)
    tell_page(page)


def choose_seed(options: PromptOptions) -> int:
    """The seed that was asked for, or one that lets anybody draw the same tokens again."""
    return secrets.randbits(32) if options.seed is None else options.seed


def print_json(document: object) -> None:
    """Print one JSON document; a number that JSON does not have is an error and not `NaN`."""
    print(json.dumps(document, allow_nan=False))


def named_document(found: dict[str, Any], reading: Reading, first: Reading) -> dict[str, Any]:
    """A comparison, which names its model if that is another one."""
    checkpoint = reading.checkpoint
    if checkpoint is first.checkpoint:
        return found
    return {"model": model_document(checkpoint.source, checkpoint.model)} | found


def tokens_document(tokenizer: AnyTokenizer, ids: Sequence[int]) -> list[dict[str, Any]]:
    """The tokens of a prompt, one by one."""
    return [
        {"position": position, "id": token_id, "text": token_text(tokenizer, token_id)}
        for position, token_id in enumerate(ids)
    ]


def reading_document(reading: Reading) -> dict[str, Any]:
    """What the document of a command begins with: what ran, and the tokens of the prompt."""
    checkpoint = reading.checkpoint
    return {
        "model": model_document(checkpoint.source, checkpoint.model),
        "tokens": tokens_document(checkpoint.tokenizer, reading.ids),
    }


def context_document(context: Context, options: PromptOptions, seed: int) -> dict[str, Any]:
    """What is to be said about one prompt; keys that were not asked for are absent."""
    reading, tokenizer = context.reading, context.checkpoint.tokenizer
    result: dict[str, Any] = {
        "prompt": reading.prompt,
        "tokens": tokens_document(tokenizer, reading.ids),
        "temperature": options.temperature,
        "next_tokens": [
            asdict(row) for row in next_tokens(context.logits, tokenizer, options.top, options.temperature)
        ],
    }
    if reading.changes.words:
        result["changes"] = reading.changes.words
    if options.candidates:
        result["candidates"] = candidate_documents(context, options)
    if options.max_new_tokens:
        generation = start_generation(reading, options, seed)
        text = "".join(generation)  # this runs it: its other results are there afterwards
        result["generated"] = {
            "ids": generation.ids,
            "text": text,
            "stop_reason": generation.stop_reason,
            "seed": seed,
        }
    return result


def candidate_documents(context: Context, options: PromptOptions) -> list[dict[str, Any]]:
    """What was asked about continuations; the number of the joined text where it is another one."""
    rows = [asdict(row) for row in read_candidates(context, options)]
    return [
        {key: value for key, value in row.items() if key != "joined_logprob" or value is not None}
        for row in rows
    ]


def read_candidates(context: Context, options: PromptOptions) -> list[Candidate]:
    """The candidates of the command line, behind this prompt."""
    reading, checkpoint = context.reading, context.checkpoint
    return candidates(
        checkpoint.model,
        checkpoint.tokenizer,
        reading.ids,
        context.logits,
        options.candidates,
        options.temperature,
        hook=reading.changes.from_prefill(),
    )


def start_generation(reading: Reading, options: PromptOptions, seed: int) -> TextGeneration:
    """The continuation that the options ask for."""
    return generate_text(
        reading.checkpoint.model,
        reading.checkpoint.tokenizer,
        reading.prompt,
        max_new_tokens=options.max_new_tokens,
        stop=options.stop,
        seed=seed,
        hook=reading.changes.from_prefill(),
        **options.sampling,
    )


# --------------------------------------------------------------------------------------------------- --html


def save_page(readings: Sequence[Reading], options: PromptOptions, seed: int) -> Path | None:
    """Write the page if `--html` asks for it; return where it is."""
    if options.html is None:
        return None
    first, n_tokens = readings[0].checkpoint, sum(len(reading.ids) for reading in readings)
    if n_tokens > MANY_TOKENS:
        notice(f"--html reads {n_tokens:,} tokens in {len(readings)} contexts, which takes a while.")
    others = [reading.checkpoint for reading in readings if reading.checkpoint is not first]
    return write_page(
        options.html,
        first.model,
        first.tokenizer,
        readings[0].prompt,
        source=first.source,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        top=options.top,
        candidates=options.candidates,
        comparisons=[reading.prompt for reading in readings[1:] if reading.checkpoint is first],
        models=[(other.source, other.model, other.tokenizer) for other in others],
        hooks=[reading.changes.hook for reading in readings],
        changes=readings[0].changes.words,
        new_tokens=new_tokens(readings[0], options, seed),
        language=options.lang,
    )


def new_tokens(reading: Reading, options: PromptOptions, seed: int) -> list[int]:
    """What the model goes on to write, if that was asked for: the same that is printed."""
    if not options.max_new_tokens:
        return []
    generation = start_generation(reading, options, seed)
    for _piece in generation:
        pass
    return generation.ids


def tell_page(page: Path | None) -> None:
    """Say where the page is, behind all that is printed."""
    if page is not None:
        notice(f"wrote {page}; open it in a browser.")
