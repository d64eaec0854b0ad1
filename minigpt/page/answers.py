"""What a live page may ask of the running model, and the answers: one computation at a time.

A question is a JSON object; `ask` says what it is about. Typing makes questions stale: a page numbers them,
and one that a newer has overtaken ends at the next array that the model hands to a hook.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from ..checkpoints.find import OFFICIAL, find, official_here
from ..checkpoints.load import load
from ..cli.passes import prompt_ids
from ..errors import InputError, MiniGPTError
from ..model import n_parameters
from ..scoring import largest
from ..tokenizer import text_of
from . import numbers
from .build import Speaker, about, joined, token_texts
from .numbers import Pass
from .room import MOST_TOKENS, WATCHED

MOST_CONTEXTS, MOST_DRAWN, MOST_CHARACTERS = 6, 512, 20_000
LONGEST_SECONDS, MOST_WAITING, KEPT_PASSES, KEPT_MODELS = 30.0, 16, 6, 3
SMALL = 50_000_000  # parameters
Question = dict[str, Any]


class StaleError(MiniGPTError):
    """A newer question of the same page has made this one pointless."""


class BusyError(MiniGPTError):
    """The model has too much to do already, or a question takes too long."""


class Answers:
    """The models that are loaded, what their last passes left behind, and who may compute now."""

    def __init__(self, speaker: Speaker) -> None:
        self.first = speaker
        self.speakers: OrderedDict[str, Speaker] = OrderedDict({speaker.source.name: speaker})
        self.names = unique_names([speaker.source.name, *models_here()])
        self.passes: OrderedDict[tuple[str, tuple[int, ...]], Pass] = OrderedDict()
        self.turns = threading.Condition()  # guards the next three, and wakes who waits when they change
        self.newest: OrderedDict[str, int] = OrderedDict()  # the number of each page's last question
        self.waiting: list[Question] = []
        self.is_computing = False
        self.blas = ThreadpoolController().select(user_api="blas")
        self.most_threads = max((each.num_threads for each in self.blas.lib_controllers), default=1)

    def answer(self, question: Question) -> dict[str, Any]:
        """Answer one question.

        Raises `InputError` for one that makes no sense, `StaleError` for one that a newer has overtaken, and
        `BusyError` if there is too much to do.
        """
        kinds: dict[str, Callable[[Question], dict[str, Any]]] = {
            "contexts": self.contexts,
            "block": self.block,
            "lens": self.lens,
            "parts": self.parts,
            "column": self.column,
            "row": self.row,
            "model": self.about_model,
        }
        asked = text(question, "ask", 40)
        if asked not in kinds:
            raise InputError(f"ask: found {asked!r}; expected one of {', '.join(kinds)}.")
        self.note(question)
        with self.turn(question), self.blas.limit(limits=self.threads()):
            return kinds[asked](question)

    def note(self, question: Question) -> None:
        """Remember the newest question of a page; older ones that still wait need not any longer."""
        page, number = text(question, "page", 64), whole(question, "number", 2**53)
        with self.turns:
            self.newest[page] = max(number, self.newest.pop(page, 0))
            while len(self.newest) > 64:
                self.newest.popitem(last=False)
            self.waiting = [other for other in self.waiting if not self.is_stale(other)]
            self.turns.notify_all()

    def is_stale(self, question: Question) -> bool:
        """Whether the page has asked something newer."""
        return bool(question["number"] < self.newest.get(question["page"], 0))

    def check(self, question: Question) -> None:
        """Raise `StaleError` if the page has asked something newer."""
        if self.is_stale(question):
            raise StaleError("a newer question has come.")

    def threads(self) -> int:
        """BLAS's threads: all but one, which the browser needs; a thread that waits for a core holds up all.

        Small models are computed with one: their products end before more had begun.
        """
        sizes = [n_parameters(speaker.model) for speaker in self.speakers.values()]
        return 1 if max(sizes) < SMALL else max(1, self.most_threads - 1)

    @contextmanager
    def turn(self, question: Question) -> Iterator[None]:
        """Wait until nobody else computes.

        Raises `StaleError` as soon as a newer question comes, and `BusyError` if too many wait already.
        """
        with self.turns:
            if len(self.waiting) >= MOST_WAITING:
                raise BusyError("the model has more questions than it can answer.")
            self.waiting.append(question)
            may_go = self.turns.wait_for(
                lambda: self.is_stale(question) or not self.is_computing, LONGEST_SECONDS
            )
            self.waiting = [other for other in self.waiting if other is not question]
            self.check(question)
            if not may_go:
                raise BusyError("the model is busy.")
            self.is_computing = True
        try:
            yield
        finally:
            with self.turns:
                self.is_computing = False
                self.turns.notify_all()

    # ------------------------------------------------------------------------------------------ the answers

    def contexts(self, question: Question) -> dict[str, Any]:
        """Several texts: everything that the views begin with, and the layer that is open."""
        asked = question.get("contexts")
        if not isinstance(asked, list) or not 1 <= len(asked) <= MOST_CONTEXTS:
            raise InputError(f"contexts: expected a list of 1 to {MOST_CONTEXTS}.")
        return {"contexts": [self.context(question, one) for one in asked]}

    def context(self, question: Question, asked: Question) -> dict[str, Any]:
        """One text; what is wrong with it is said in its place."""
        try:
            speaker, p, told = self.told(question, asked)
        except InputError as error:
            return {"error": str(error)}
        layer = min(whole(question, "layer", 10_000), speaker.model.config.n_layer - 1)
        return {
            "model": speaker.source.name,
            **numbers.overview(speaker.model, p, told),
            **numbers.embeddings(p),
            "blocks": [numbers.opened(speaker.model, p, layer, len(p.ids) - 1, p.first)],
        }

    def block(self, question: Question) -> dict[str, Any]:
        """One block, opened at one position."""
        speaker, p, _told = self.told(question, question.get("context"))
        layer = whole(question, "layer", speaker.model.config.n_layer - 1)
        position = whole(question, "position", len(p.ids) - 1)
        if position < p.first:
            raise InputError(f"position is {position}; the page shows those from {p.first} on.")
        return numbers.opened(speaker.model, p, layer, position, p.first)

    def lens(self, question: Question) -> dict[str, Any]:
        """What the model would say after each layer."""
        speaker, p, _told = self.told(question, question.get("context"))
        pins = question.get("pins", [])
        if not isinstance(pins, list) or len(pins) > WATCHED:
            raise InputError(f"pins: expected at most {WATCHED} ids.")
        own = [whole({"pin": pin}, "pin", p.logits.size - 1) for pin in pins]
        watched = np.unique(np.concatenate([np.array(own, np.int64), largest(p.logits, WATCHED)]))
        return numbers.lens(speaker.model, p, watched, lambda: self.check(question))

    def parts(self, question: Question) -> dict[str, Any]:
        """What each part added to a token's logit."""
        speaker, p, _told = self.told(question, question.get("context"))
        token = whole(question, "token", p.logits.size - 1)
        return {"token": token, "values": numbers.parts(speaker.model, p.ids, token)}

    def column(self, question: Question) -> dict[str, Any]:
        """The weights behind one number of a linear layer's result."""
        model = self.speaker(question).model
        layer = whole(question, "layer", model.config.n_layer - 1)
        name, index = text(question, "name", 20), whole(question, "index", 10**7)
        if name not in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
            raise InputError(f"name: {name!r} is no linear layer.")
        try:
            return numbers.column(model, f"h.{layer}.{name}", index)
        except IndexError:
            raise InputError(f"index is {index}; {name} has fewer columns.") from None

    def row(self, question: Question) -> dict[str, Any]:
        """A token's row of the LM head."""
        model = self.speaker(question).model
        return numbers.rows_of(model, [whole(question, "token", len(model.parameters.lm_head) - 1)])

    def about_model(self, question: Question) -> dict[str, Any]:
        """Another model: its name and size, and its vocabulary if that is not the first one's."""
        speaker = self.speaker(question)
        texts = token_texts(speaker)
        same = texts == token_texts(self.first)
        return {"about": about(speaker, 0, half=False), "texts": None if same else joined(texts)}

    # ----------------------------------------------------------------------------------- models and passes

    def speaker(self, question: Question) -> Speaker:
        """The model that a question names, loaded if need be; the first stays, of the others a few."""
        name = text(question, "model", 4096)
        if name not in self.names:
            raise InputError(f"model: {name[:60]!r} is not one of {', '.join(self.names)}.")
        if name not in self.speakers:
            source = find(name, offline=True)
            self.speakers[name] = Speaker(source, *load(source))
            others = [other for other in self.speakers if other not in (self.first.source.name, name)]
            for other in others[: max(0, len(self.speakers) - KEPT_MODELS)]:
                del self.speakers[other]
        return self.speakers[name]

    def told(self, question: Question, asked: Any) -> tuple[Speaker, Pass, str]:
        """The pass of a text with the tokens that were drawn behind it: remembered, or computed now."""
        if not isinstance(asked, dict):
            raise InputError("context: expected an object with text, drawn and model.")
        speaker, prompt = self.speaker(asked), text(asked, "text", MOST_CHARACTERS)
        drawn = asked.get("drawn", [])
        if not isinstance(drawn, list) or len(drawn) > MOST_DRAWN:
            raise InputError(f"drawn: expected at most {MOST_DRAWN} ids.")
        n_vocab = speaker.model.config.vocab_size
        new = [whole({"drawn": token}, "drawn", n_vocab - 1) for token in drawn]
        ids = [*prompt_ids(speaker.model, speaker.tokenizer, prompt), *new]
        shown = prompt + text_of(speaker.tokenizer, new)
        return speaker, self.passed(question, speaker, ids), shown

    def passed(self, question: Question, speaker: Speaker, ids: list[int]) -> Pass:
        """A forward pass, which ends early if it becomes stale or takes too long."""
        key = (speaker.source.name, tuple(ids))
        if key not in self.passes:
            end = time.monotonic() + LONGEST_SECONDS

            def watch(_name: str, array: np.ndarray) -> np.ndarray:
                self.check(question)
                if time.monotonic() > end:
                    raise BusyError(f"it takes more than {LONGEST_SECONDS:.0f} s; a shorter text is faster.")
                return array

            self.passes[key] = numbers.run(speaker.model, ids, MOST_TOKENS, watch=watch)
        self.passes.move_to_end(key)
        while len(self.passes) > KEPT_PASSES:
            self.passes.popitem(last=False)
        return self.passes[key]


def models_here() -> list[str]:
    """The official models that are on this machine, and `tiny`."""
    found = []
    for name in OFFICIAL:
        try:
            if official_here(name):
                found.append(name)
        except MiniGPTError:  # files of that name that are not the official ones
            continue
    return [*found, "tiny"]


def unique_names(names: Sequence[str]) -> list[str]:
    """Each name once, in the order of their first occurrence."""
    return list(dict.fromkeys(names))


def text(question: Question, name: str, longest: int) -> str:
    """A text of the question. Raises `InputError` for anything else, and for one that is too long."""
    value = question.get(name)
    if not isinstance(value, str) or len(value) > longest:
        found = f"{len(value):,} characters" if isinstance(value, str) else type(value).__name__
        raise InputError(f"{name}: found {found}; expected a text of at most {longest:,} characters.")
    return value


def whole(question: Question, name: str, largest_allowed: int) -> int:
    """A number of the question. Raises `InputError` unless it is whole, and 0 to `largest_allowed`."""
    value = question.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest_allowed:
        found = str(value)[:40]
        raise InputError(f"{name} is {found}; it must be a whole number from 0 to {largest_allowed}.")
    return value
