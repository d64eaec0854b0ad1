"""One forward pass as a page to play with: a single HTML file that opens from disk and loads nothing.

The file holds what the model computed, from tokens to logits, as JSON with the numbers in base64; the script
in it draws that and computes softmax over the whole vocabulary as the sliders move. Everything comes from
one forward pass per context, seen through the model's hooks (`numbers.py`).

The charts are SVG written by that script rather than by Observable Plot and d3: no code is vendored, the text
that a screen reader finds in them is the page's own, and the file stays small.
"""

import html
import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from .. import __version__
from ..checkpoints.find import Source, find
from ..checkpoints.load import load
from ..checks import check_fields, checked_classes, checked_items, checked_text
from ..cli.passes import model_document, prompt_ids
from ..cli.terminal import harmless, visible_token
from ..errors import InputError, MiniGPTError, brief
from ..files import checked_path, follow_own_link, write_whole
from ..hooks import Hook
from ..model import GPT2
from ..ranges import LARGEST_SIZE, Number, check_range
from ..sampling import Sampling
from ..scoring import largest
from ..tokenizer import AnyTokenizer
from ..training.pushes import Pushes
from . import numbers
from .document import render
from .numbers import Pass
from .pushes import most_pushed, push_section, push_sources
from .room import LARGEST_FILE, ROWS_OF_HEAD, WATCHED, Room, room_for
from .sources import functions

COLOURS = 6  # for followed words; from the seventh on the colours repeat with other lines and marks
MOST_ROWS = 40  # of the first table; a button on the page doubles them
LANGUAGES = ("en", "ko")
GLOSSARY = Path(__file__).resolve().parents[1] / "data" / "glossary.json"


@dataclass(frozen=True)
class Speaker:
    """A model with its tokenizer, and where it is from."""

    source: Source
    model: GPT2
    tokenizer: AnyTokenizer

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Asked:
    """One context: a text, who goes on from it, and how."""

    text: str
    ids: list[int]
    speaker: int  # its number in the page's list
    hook: Hook | None  # what changes the forward pass, if anything does


@dataclass(frozen=True)
class Told(Asked):
    """And what the forward pass left behind."""

    passed: Pass


@checked_classes
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
    models: Sequence[tuple[Source, GPT2, AnyTokenizer]] = (),
    hooks: Sequence[Hook | None] = (),
    changes: Sequence[str] = (),
    new_tokens: Sequence[int] = (),
    language: str = "en",
    pushes: Pushes | None = None,
) -> Path:
    """Write the page for a prompt, and other contexts or models to compare it with; return where it is.

    The sliders start at the settings given; `candidates` are followed from the start, by their first token.
    `hooks` change the passes of prompt, comparisons and models in this order, `changes` says so in words. The
    page steps through `new_tokens`, which the model wrote, unless a hook changed it. `pushes` are those of a
    pair, and the prompt is their context. The file appears whole or not at all. Raises `InputError` for what
    is out of range, `MiniGPTError` if it cannot be written.
    """
    settings = checked_settings(temperature, top_k, top_p, min_p, language)
    check_range("top", top)
    comparisons = checked_items("comparisons", comparisons, str, "texts")
    candidates = checked_items("candidates", candidates, str, "texts")
    hooks = checked_items("hooks", hooks, Callable | None, "hooks, or None")  # type: ignore[arg-type]
    changes = checked_items("changes", changes, str, "texts")
    new_tokens = checked_text("new_tokens", new_tokens, model.config).tolist()
    destination = page_path(checked_path("path", path))
    try:
        speakers = [Speaker(source, model, tokenizer), *(Speaker(*three) for three in models)]
    except TypeError:
        raise InputError("models: expected a source, a model and its tokenizer for each.") from None
    if len(hooks) > len(comparisons) + len(speakers):
        raise InputError(f"hooks: found {len(hooks)}; give one for each text and model at most.")
    asked = ask_all(speakers, [prompt, *comparisons], hooks, None if pushes is None else pushes.context_ids)
    data = page_data(speakers, asked, candidates, settings, top, language, pushes)
    data["changes"] = [harmless(change) for change in changes]
    if not any(hooks):
        data["steps"] = numbers.steps(model, asked[0].ids, new_tokens, temperature)
    write_file(destination, render(data, prompt))
    return destination


def write_file(path: Path, document: str) -> None:
    """Write the document whole, or raise `MiniGPTError` and leave what was there."""
    try:
        write_whole(path, document)
    except OSError as error:
        raise MiniGPTError(f"{path}: cannot be written: {error.strerror or error}.") from None


def checked_settings(
    temperature: Number, top_k: int, top_p: Number, min_p: Number, language: str
) -> dict[str, Number]:
    """The settings as the script names them. Raises `InputError` if one is out of range."""
    Sampling(temperature, top_k, top_p, min_p)
    if language not in LANGUAGES:
        raise InputError(f"language is {brief(language, repr)}; the page speaks {' and '.join(LANGUAGES)}.")
    return {"temperature": temperature, "topK": min(top_k, LARGEST_SIZE), "topP": top_p, "minP": min_p}


class Page:
    """What a notebook shows as a page in a frame of its own, cut off from the notebook around it."""

    def __init__(self, document: str, height: int) -> None:
        self.document, self.height = document, height

    def _repr_html_(self) -> str:
        return (
            f'<iframe sandbox="allow-scripts" width="100%" height="{self.height}" '
            f'srcdoc="{html.escape(self.document)}" title="minigpt"></iframe>'
        )


@checked_classes
def show(prompt: str, model: str | None = None, *, height: int = 900, language: str = "en") -> Page:
    """The page of a prompt for a notebook cell; `model` is a name or path as `minigpt.load` takes it."""
    settings = checked_settings(1.0, 0, 1.0, 0.0, language)
    check_range("height", height)
    source = find(model)
    speakers = [Speaker(source, *load(source))]
    data = page_data(speakers, ask_all(speakers, [prompt]), (), settings, 10, language)
    return Page(render(data, prompt), height)


# ------------------------------------------------------------------------------------- everything in the page


def page_data(
    speakers: Sequence[Speaker],
    asked: Sequence[Asked],
    candidates: Sequence[str],
    settings: dict[str, Number],
    top: int,
    language: str,
    pushes: Pushes | None = None,
) -> dict[str, Any]:
    """A written page: the first model's contexts, then the prompt as each other model sees it."""
    texts = [token_texts(speaker) for speaker in speakers]
    shared = frame(speakers, texts, settings, language)
    if pushes is not None:
        shared["pushes"] = push_section(pushes)
        shared["functions"]["pushes"] = push_sources(pushes)
    told, room = tell_all(speakers, asked, LARGEST_FILE - len(render(shared, "").encode()))
    pins, notes = followed(speakers[0].tokenizer, candidates, [t.passed for t in told if t.speaker == 0])
    if pushes is not None:
        pins = most_pushed(pushes)
    own = [in_other_words(pins, texts[0], other) for other in texts]
    watched = [watched_tokens(told, n, own[n]) for n in range(len(speakers))]
    contexts = [context(speakers, t, watched[t.speaker], own[t.speaker], room) for t in told]
    return {
        **shared,
        "rows": min(top, MOST_ROWS),
        "pins": pins,
        "notes": notes,
        "live": None,
        "steps": [],
        "changes": [],
        "rowsOfHead": [head_rows(s.model, told, n, own[n]) for n, s in enumerate(speakers)],
        "embeddings": [share_embeddings(told, contexts, n) for n in range(len(speakers))],
        "contexts": contexts,
    }


def frame(
    speakers: Sequence[Speaker],
    texts: Sequence[list[str]],
    settings: dict[str, Number],
    language: str,
) -> dict[str, Any]:
    """What does not depend on any text: models, vocabularies, code, words."""
    vocabularies, at = numbered(texts)
    return {
        "version": __version__,
        "language": language,
        "settings": settings,
        "models": [about(speaker, n) for speaker, n in zip(speakers, at, strict=True)],
        "vocabularies": [joined(each) for each in vocabularies],
        "functions": functions(speakers[0].tokenizer),
        "lines": numbers.lines(speakers[0].model),
        "words": json.loads((Path(__file__).parent / "words.json").read_text(encoding="utf-8")),
        "glossary": json.loads(GLOSSARY.read_text(encoding="utf-8")),
    }


def about(speaker: Speaker, vocabulary: int, half: bool = True) -> dict[str, Any]:
    """A model: its name and size, and the few of its parameters that every view needs."""
    source, config = speaker.source, speaker.model.config
    harmless_source = replace(source, name=harmless(source.name), origin=harmless(source.origin))
    rows = speaker.model.parameters.wte
    return {
        **model_document(harmless_source, speaker.model),
        "vocabulary": vocabulary,
        "activation": config.activation_function,
        "epsilon": config.layer_norm_epsilon,
        "scales": [config.attention_scale(layer) for layer in range(config.n_layer)],
        "norms": numbers.normalisers(speaker.model, half),
        "half": half,
        "unseen": numbers.flags(numbers.same_rows(rows), len(rows)),
    }


def ask_all(
    speakers: Sequence[Speaker],
    texts: Sequence[str],
    hooks: Sequence[Hook | None] = (),
    first_ids: list[int] | None = None,
) -> list[Asked]:
    """What is to be computed: every text by the first model, the first text by every other.

    `first_ids` are the tokens of the first text where these are known: those of a pair are two texts' tokens.
    """
    asked = [*((text, 0) for text in texts), *((texts[0], n) for n in range(1, len(speakers)))]
    ids = [prompt_ids(speakers[n].model, speakers[n].tokenizer, text) for text, n in asked]
    ids[0] = ids[0] if first_ids is None else first_ids
    changed = [*hooks, *[None] * (len(asked) - len(hooks))]
    return [Asked(text, tokens, n, hook) for (text, n), tokens, hook in zip(asked, ids, changed, strict=True)]


def tell_all(speakers: Sequence[Speaker], asked: Sequence[Asked], spare: int) -> tuple[list[Told], Room]:
    """The forward passes, and how much of them goes into `spare` bytes."""
    models = [speakers[each.speaker].model for each in asked]
    room = room_for([model.config for model in models], max(len(each.ids) for each in asked), spare)
    told = [
        Told(a.text, a.ids, a.speaker, a.hook, numbers.run(model, a.ids, room.shown, a.hook))
        for a, model in zip(asked, models, strict=True)
    ]
    return told, room


def context(
    speakers: Sequence[Speaker],
    told: Told,
    watched: Int[np.ndarray, " watched"],
    pins: Sequence[int],
    room: Room,
) -> dict[str, Any]:
    """One context's numbers, from tokens to what each part contributed."""
    model, p = speakers[told.speaker].model, told.passed
    last, first = len(p.ids) - 1, len(p.ids) - min(p.size, room.opened)
    explained = unique([*pins, *largest(p.logits, 3).tolist()])
    return {
        "model": told.speaker,
        **numbers.overview(model, p, told.text),
        "blocks": [numbers.opened(model, p, i, last, first, True) for i in room.layers(model.config.n_layer)],
        "lens": numbers.lens(model, p, watched),
        "parts": {token: numbers.parts(model, p.ids, token, told.hook) for token in explained},
    }


# ------------------------------------------------------------------------------- tokens to watch and follow


def share_embeddings(told: Sequence[Told], contexts: Sequence[dict[str, Any]], speaker: int) -> str:
    """The rows of wte and wpe behind all contexts of a model; each context gets the numbers of its own."""
    own = [n for n, t in enumerate(told) if t.speaker == speaker]
    rows, places = numbers.shared_embeddings([told[n].passed for n in own])
    for n, place in zip(own, places, strict=True):
        contexts[n].update(place)
    return rows


def watched_tokens(told: Sequence[Told], speaker: int, pins: Sequence[int]) -> Int[np.ndarray, " watched"]:
    """The tokens whose way through the layers is kept for all contexts of one model."""
    likely = (largest(t.passed.logits, WATCHED) for t in told if t.speaker == speaker)
    return np.unique(np.concatenate([np.array(pins, np.int64), *likely]))


def head_rows(model: GPT2, told: Sequence[Told], speaker: int, pins: Sequence[int]) -> dict[str, Any]:
    """The rows of the LM head behind the likeliest tokens' logits, and the followed ones'."""
    likely = (largest(t.passed.logits, ROWS_OF_HEAD).tolist() for t in told if t.speaker == speaker)
    return numbers.rows_of(model, unique([*pins, *itertools.chain(*likely)]))


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


# ------------------------------------------------------------------------------------------- vocabularies


def token_texts(speaker: Speaker) -> list[str]:
    """Every id as the terminal shows it too: spaces drawn, what cannot be drawn escaped."""
    ids = range(speaker.model.config.vocab_size)
    return [visible_token(speaker.tokenizer, token_id).replace(" ", "␣") for token_id in ids]


def joined(texts: Sequence[str]) -> str:
    """A vocabulary as one text: no token has a space in it that is not drawn as ␣."""
    return " ".join(texts)


def numbered(texts: Sequence[list[str]]) -> tuple[list[list[str]], list[int]]:
    """The vocabularies of several models, each once, and the number of each model's."""
    vocabularies: list[list[str]] = []
    for each in texts:
        if each not in vocabularies:
            vocabularies.append(each)
    return vocabularies, [vocabularies.index(each) for each in texts]


def in_other_words(ids: Sequence[int], vocabulary: Sequence[str], other: Sequence[str]) -> list[int]:
    """The ids that these tokens have in another vocabulary; what it lacks is left out."""
    if vocabulary == other:
        return list(ids)
    texts = [vocabulary[i] for i in ids]
    return [other.index(text) for text in texts if text in other]


def page_path(path: Path) -> Path:
    """Where the file will be. Raises `MiniGPTError` if no regular file can be there."""
    try:
        destination = follow_own_link(path)  # what a link points to is replaced, not the link
        if destination.exists() and not destination.is_file():
            kind = "a folder" if destination.is_dir() else "not a regular file"
            raise MiniGPTError(f"{path}: is {kind}; give the name of an HTML file to write.")
        if not destination.parent.is_dir():
            raise MiniGPTError(f"{path}: there is no folder {destination.parent}; create it first.")
    except OSError as error:  # of a name that is too long, or a folder that is forbidden
        raise MiniGPTError(f"{path}: cannot be written: {error.strerror}.") from None
    return destination
