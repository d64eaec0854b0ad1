"""One forward pass as a page to play with: a single HTML file that opens from disk and loads nothing.

The file holds what the model computed, from tokens to logits, as JSON with the numbers in base64; the script
in it (`page.js`) draws that and computes softmax over the whole vocabulary as the sliders move.
Everything comes from one forward pass per context, seen through the model's hooks.

The charts are SVG written by that script rather than by Observable Plot and d3: no code is vendored, the text
that a screen reader finds in them is the page's own, and the file stays small (1.25 MB for the model `tiny`,
ten tokens and a comparison of ten; nine tenths of it are the vocabulary and the logits).

A prompt or a token may look like markup. Inside the file every `<` of the data is written as an escape,
the script makes text nodes of it and never HTML, and a Content-Security-Policy lets nothing run but this
script, by its hash.
"""

import base64
import hashlib
import html
import inspect
import itertools
import json
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from .. import __version__
from ..checkpoints.find import Source
from ..cli.passes import model_document, prompt_ids
from ..cli.terminal import harmless, visible, visible_token
from ..errors import InputError, MiniGPTError
from ..files import follow_own_link, write_whole
from ..inspection.lens import residual_names, unembed
from ..inspection.tracing import definition, file_name
from ..model import GPT2, attention, embed, layer_norm, softmax
from ..ranges import Number
from ..sampling import Sampling, check_finite, probabilities
from ..scoring import largest, never_seen, never_seen_note
from ..tokenizer import AnyTokenizer

FOLDER = Path(__file__).resolve().parent
# How much of a long context the views of single tokens show. Attention grows with the square of it: the
# budget, over all contexts, keeps its part of the file near a megabyte; what does not fit is summed up.
MOST_TOKENS, FEWEST_TOKENS, ATTENTION_BUDGET = 40, 10, 250_000
WATCHED = 100  # of the likeliest tokens of each context, the logit lens keeps the path through the layers
COLOURS = 6  # for followed words; from the seventh on the colours repeat with other lines and marks
MOST_ROWS = 40  # of the first table; a button on the page doubles them


@dataclass(frozen=True)
class Pass:
    """What one forward pass left behind, for the last `size` tokens of its context."""

    ids: list[int]
    size: int
    wte: Float[np.ndarray, "size n_embd"]
    wpe: Float[np.ndarray, "size n_embd"]
    attention: list[Float[np.ndarray, "n_head packed"]]  # one per layer; see `packed`
    residual: list[Float[np.ndarray, "size n_embd"]]  # before block 0, and after every block
    logits: Float[np.ndarray, " vocab"]


def write_page(
    path: str | os.PathLike[str],
    model: GPT2,
    tokenizer: AnyTokenizer,
    prompt: str,
    *,
    source: Source,
    temperature: Number = 1.0,
    top_k: int = 0,
    top_p: Number = 1.0,
    min_p: Number = 0.0,
    top: int = 10,
    comparisons: Sequence[str] = (),
    candidates: Sequence[str] = (),
) -> Path:
    """Write the page for a prompt, and other contexts to compare it with; return where it is.

    The sliders start at the sampling settings given; `candidates` are followed from the start, by their
    first token. The file appears whole or not at all. Raises `InputError` for settings out of range and
    for text that the model cannot take, and `MiniGPTError` if the file cannot be written.
    """
    Sampling(temperature, top_k, top_p, min_p)  # raises if one is out of range
    settings = {"temperature": temperature, "topK": top_k, "topP": top_p, "minP": min_p}
    destination = checked_path(Path(path))
    data = {
        "version": __version__,
        "model": model_document(
            replace(source, name=harmless(source.name), origin=harmless(source.origin)), model
        ),
        "settings": settings,
        "rows": min(top, MOST_ROWS),
        "functions": functions(tokenizer),
        "vocabulary": token_texts(tokenizer, model.config.vocab_size),
        **everything_computed(model, tokenizer, [prompt, *comparisons], candidates),
    }
    try:
        write_whole(destination, render(data, prompt))
    except OSError as error:
        raise MiniGPTError(f"{destination}: cannot be written: {error.strerror or error}.") from None
    return destination


def everything_computed(
    model: GPT2, tokenizer: AnyTokenizer, texts: Sequence[str], candidates: Sequence[str]
) -> dict[str, Any]:
    """What the model makes of each text, and the tokens that the page follows through all of them."""
    contexts = [prompt_ids(model, tokenizer, text) for text in texts]
    size = shown_tokens(model, contexts)
    passes = [run(model, ids, size) for ids in contexts]
    pins, notes = followed(tokenizer, candidates, passes)
    unseen = [(len(never_seen(model, ids)), len(ids)) for ids in contexts]
    notes += [never_seen_note(*counts) for counts in unseen if counts[0]]
    watched = np.unique(np.concatenate([pins, *(largest(p.logits, WATCHED) for p in passes)]))
    shown = [context(text, model, p, watched) for text, p in zip(texts, passes, strict=True)]
    return {"pins": pins, "notes": notes, "contexts": shown}


# -------------------------------------------------------------------------------- from the model to numbers


def shown_tokens(model: GPT2, contexts: Iterable[Sequence[int]]) -> int:
    """How many tokens at the end of each context the file has room for."""
    lengths = [len(ids) for ids in contexts]
    config = model.config

    def cost(size: int) -> int:
        return len(lengths) * config.n_layer * config.n_head * size * (size + 3) // 2

    size = min(max(lengths), MOST_TOKENS)
    while size > FEWEST_TOKENS and cost(size) > ATTENTION_BUDGET:
        size -= 1
    return size


def run(model: GPT2, ids: list[int], most: int) -> Pass:
    """One forward pass, of which the last tokens are kept."""
    size = min(most, len(ids))
    kept: dict[str, np.ndarray] = {}
    wanted = {"wte", "wpe", *residual_names(model)}

    def keep(name: str, array: np.ndarray) -> np.ndarray:
        if name in wanted:
            kept[name] = array[-size:]
        elif name.endswith(".attn.weights"):
            kept[name] = packed(array, size)
        return array

    logits = model(ids, hook=keep, logits_to_keep=1)[0]
    check_finite(logits)
    weights = [kept[f"h.{layer}.attn.weights"] for layer in range(model.config.n_layer)]
    residual = [kept[name] for name in residual_names(model)]
    return Pass(ids, size, kept["wte"], kept["wpe"], weights, residual, logits)


def packed(
    weights: Float[np.ndarray, "n_head tokens tokens"], size: int
) -> Float[np.ndarray, "n_head packed"]:
    """The attention of the last `size` tokens, row by row, without the masked half.

    A row is what the token gives to all tokens before the last `size`, in one sum, and then to each of
    those up to itself; so every row still adds up to 1.
    """
    rows = weights[:, -size:]
    before = rows[..., :-size].sum(axis=-1, keepdims=True)
    square = np.concatenate([before, rows[..., -size:]], axis=-1)
    return square[:, np.tri(size, size + 1, 1, dtype=bool)]


def followed(
    tokenizer: AnyTokenizer, candidates: Sequence[str], passes: Sequence[Pass]
) -> tuple[list[int], list[str]]:
    """The tokens that the page follows from the start, and what is to be said about them.

    They are the candidates, of which a long one is followed by its first token, or else likely tokens of
    every context.
    """
    if not candidates:
        likely = [largest(p.logits, 1 if n else 3).tolist() for n, p in enumerate(passes)]
        return unique(itertools.chain(*likely))[:COLOURS], []
    if "" in candidates:
        raise InputError("candidates: one is empty; each is a text that could come next, such as ' you'.")
    encoded = {text: tokenizer.encode(text) for text in candidates}
    notes = [
        f"“{harmless(text)}” is {len(ids)} tokens; its first is followed."
        for text, ids in encoded.items()
        if len(ids) > 1
    ]
    return unique(ids[0] for ids in encoded.values()), notes


def unique(ids: Iterable[int]) -> list[int]:
    """Each id once, in the order of their first occurrence."""
    return list(dict.fromkeys(ids))


# --------------------------------------------------------------------------------- from numbers to the data


def token_texts(tokenizer: AnyTokenizer, vocab_size: int) -> list[str]:
    """Every id as the terminal shows it too: spaces drawn, what cannot be drawn escaped."""
    return [visible_token(tokenizer, token_id) for token_id in range(vocab_size)]


def context(text: str, model: GPT2, p: Pass, watched: Int[np.ndarray, " watched"]) -> dict[str, Any]:
    """One context's numbers, from tokens to logits."""
    return {
        "prompt": harmless(text),
        "tokens": p.ids,
        "first": len(p.ids) - p.size,  # position of the first token that the views show
        "wte": numbers(p.wte),
        "wpe": numbers(p.wpe),
        "attention": numbers(np.stack(p.attention)),
        "lens": lens(model, p, watched),
        "logits": numbers(p.logits),
    }


def lens(model: GPT2, p: Pass, watched: Int[np.ndarray, " watched"]) -> dict[str, Any]:
    """The likeliest token at every depth and position, and the paths of many tokens at the last position."""
    tokens, chances, last = [], [], []
    for x in p.residual:
        logits = unembed(model, x)
        tokens.append(logits.argmax(axis=-1))
        chances.append(softmax(logits).max(axis=-1))
        last.append(np.log(probabilities(logits[-1]) + 1e-300))
    # Every token that the table shows can be followed from there.
    watched = np.union1d(watched, np.unique(tokens))
    return {
        "tokens": np.stack(tokens).tolist(),
        "probabilities": numbers(np.stack(chances)),
        "watched": watched.tolist(),
        "logprobs": numbers(np.stack(last)[:, watched]),
    }


def numbers(array: Float[np.ndarray, "..."]) -> str:
    """The values as little-endian float32 in base64: decimals, read as doubles, would be other numbers."""
    little: Float32[np.ndarray, "..."] = np.ascontiguousarray(array, "<f4")
    return base64.b64encode(little.tobytes()).decode("ascii")


def functions(tokenizer: AnyTokenizer) -> dict[str, list[dict[str, str]]]:
    """The code behind each view."""
    code: dict[str, list[Callable[..., Any]]] = {
        "tokens": [type(tokenizer).encode],
        "embeddings": [embed],
        "attention": [attention],
        "lens": [unembed, layer_norm],
        "logits": [GPT2.__call__],
        "softmax": [softmax, probabilities],
    }
    return {view: [located(function) for function in used] for view, used in code.items()}


def located(function: Callable[..., Any]) -> dict[str, str]:
    """Name, file:line and text of a function; the text is empty if Python was installed without sources."""
    original = inspect.unwrap(function)
    lines, line = definition(original)
    file = file_name(original.__code__.co_filename)
    source = textwrap.dedent("".join(lines)).rstrip()
    return {"name": f"{original.__qualname__}()", "where": f"{file}:{line}", "source": source}


# ------------------------------------------------------------------------------------- from data to the file


def render(data: dict[str, Any], prompt: str) -> str:
    """The HTML document."""
    template, style, script = (asset(name) for name in ("page.html", "page.css", "page.js"))
    document = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    parts = {
        # What could end or confuse a script element (`</script>`, `<!--`, `<script`) begins with `<`.
        "data": document.replace("<", "\\u003c"),
        "title": html.escape(f"{visible(prompt[-60:]).replace('␣', ' ') or 'an empty prompt'} · minigpt"),
        "policy": policy(style, script),
        "version": __version__,
        "style": style,
        "script": script,
    }
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: parts[match[1]], template)


def asset(name: str) -> str:
    """A file of the page, with the line ends that an HTML parser makes of any, for which the hashes are."""
    return (FOLDER / name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """A Content-Security-Policy that loads nothing and runs nothing but this very script and style."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def checked_path(path: Path) -> Path:
    """Where the file will be. Raises `MiniGPTError` if no regular file can be there."""
    destination = follow_own_link(path)  # what a link points to is replaced, not the link
    if destination.exists() and not destination.is_file():
        kind = "a folder" if destination.is_dir() else "not a regular file"
        raise MiniGPTError(f"{path}: is {kind}; give the name of an HTML file to write.")
    if not destination.parent.is_dir():
        raise MiniGPTError(f"{path}: there is no folder {destination.parent}; create it first.")
    return destination
