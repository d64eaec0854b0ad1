"""What a command looks at: a model, a prompt as it reads it, and what is changed in the forward pass."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..checkpoints.find import Source, find
from ..checkpoints.load import load
from ..errors import ContextLengthError, InputError, NumericsError, notice
from ..hooks import Hook
from ..inspection.intervention import ablate, chain, patch
from ..inspection.tracing import trace
from ..model import GPT2, n_parameters
from ..tokenizer import AnyTokenizer, bytes_of, encode_prompt, text_of
from .options import ChangeOptions, ModelOptions, PromptOptions, SubjectOptions
from .terminal import harmless, visible_token
from .text_files import read_prompt

LONG_TOKEN = 128  # bytes, as the longest of GPT-2's vocabulary has
WEIGHTS_AT_FAULT = (
    "the model's numbers are not all finite; its weights are broken or too large: download or convert them "
    "again, or try another --model."
)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Checkpoint:
    """A model, its tokenizer, and where they came from."""

    source: Source
    model: GPT2
    tokenizer: AnyTokenizer

    def label(self, token_id: int) -> str:
        """A token for the eye: nothing invisible, nothing that steers the terminal."""
        return visible_token(self.tokenizer, token_id)

    def labels(self, ids: Sequence[int]) -> list[str]:
        """Tokens for the eye."""
        return [self.label(token_id) for token_id in ids]


def open_model(options: ModelOptions) -> Checkpoint:
    """Find and load what `--model` and `--offline` ask for; a fall-back is announced on standard error."""
    return open_named(options.model, options.offline)


def open_named(name: str | None, offline: bool) -> Checkpoint:
    """Find and load a model; None is the default."""
    source = find(name, offline=offline, notify=notice)
    return Checkpoint(source, *load(source))


def model_name(source: Source) -> str:
    """What to call a model in a line: a folder by its last name."""
    return harmless(Path(source.name).name or source.name)


def model_document(source: Source, model: GPT2) -> dict[str, Any]:
    """What ran: its name, where it came from, and its size."""
    sizes = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")
    return {
        "name": source.name,
        "source": source.origin,
        "n_parameters": n_parameters(model),
        **{name: getattr(model.config, name) for name in sizes},
    }


# ------------------------------------------------------------------------------------------- prompts, tokens


def prompt_ids(model: GPT2, tokenizer: AnyTokenizer, prompt: str) -> list[int]:
    """The tokens of a prompt. Raises `ContextLengthError` if the model has not so many positions."""
    size = len(prompt.encode(errors="surrogatepass"))  # which the tokenizer refuses
    if size > LONG_TOKEN * model.config.n_positions:  # 100 MB take a minute to encode, in vain
        longest = max(len(bytes_of(tokenizer, token_id)) for token_id in range(tokenizer.n_vocab))
        if (at_least := math.ceil(size / longest)) > model.config.n_positions:
            raise too_long(prompt, f"at least {at_least:,}", model)
    ids = encode_prompt(tokenizer, prompt)
    if len(ids) > model.config.n_positions:
        raise too_long(prompt, f"{len(ids):,}", model)
    return ids


def too_long(prompt: str, found: str, model: GPT2) -> ContextLengthError:
    """The error for a prompt that has more tokens than the model has positions."""
    return ContextLengthError(
        f"prompt {prompt[:20]!r}…: {found} tokens do not fit into this model's context of "
        f"{model.config.n_positions:,}; shorten the text, or see what `minigpt score` says of all of it."
    )


@dataclass(frozen=True)
class Reading:
    """A prompt as one model reads it, and what is changed on the way."""

    checkpoint: Checkpoint
    prompt: str
    ids: list[int]
    changes: "Changes"

    @property
    def text(self) -> str:
        """The prompt's text, or that of the sign from which an empty one starts."""
        return text_of(self.checkpoint.tokenizer, self.ids)

    @property
    def tokens(self) -> list[str]:
        """The prompt's tokens for the eye."""
        return self.checkpoint.labels(self.ids)


def read(checkpoint: Checkpoint, prompt: str, options: ChangeOptions) -> Reading:
    """Encode a prompt, and prepare what `--ablate` and `--patch` ask for."""
    ids = prompt_ids(checkpoint.model, checkpoint.tokenizer, prompt)
    return Reading(checkpoint, prompt, ids, plan_changes(options, checkpoint, len(ids), len(ids)))


def open_prompt(options: SubjectOptions) -> Reading:
    """The model and the prompt of a command; an empty prompt says what it starts from."""
    prompt = read_prompt(options.prompt)
    changes = options if isinstance(options, ChangeOptions) else ChangeOptions()
    reading = read(open_model(options), prompt, changes)
    if not prompt:
        notice(f"the prompt is empty: the model starts from {reading.tokens[0]}, the sign between texts.")
    return reading


def open_prompts(options: PromptOptions) -> list[Reading]:
    """What the main road looks at: the prompt, other prompts, and the prompt as other models read it."""
    prompt = read_prompt(options.prompt)
    checkpoint = open_model(options)
    others = [open_named(name, options.offline) for name in options.compare_model]
    pairs = [
        (checkpoint, prompt),
        *((checkpoint, other) for other in options.compare),
        *((other, prompt) for other in others),
    ]
    return [read(*pair, options) for pair in pairs]


@dataclass(frozen=True)
class Context:
    """A prompt that has been read, and the logits of the token that follows it."""

    reading: Reading
    logits: Float[np.ndarray, " vocab"]

    @property
    def checkpoint(self) -> Checkpoint:
        """The model that read it."""
        return self.reading.checkpoint


def run_pass(reading: Reading) -> Context:
    """One forward pass over a prompt. Raises `NumericsError` for logits that are not finite."""

    def logits(hook: Hook | None) -> Float[np.ndarray, " vocab"]:
        # A hook gets the logits of all tokens, as it would in model(ids, hook=hook).
        found = reading.checkpoint.model(reading.ids, hook=hook, logits_to_keep=hook is None)[-1]
        check_finite(found)
        return found

    return Context(reading, look(logits, reading.changes))


# -------------------------------------------------------------------------------------------------- changes


@dataclass(frozen=True)
class Changes:
    """What `--ablate` and `--patch` change in a forward pass, and what that is in words."""

    words: list[str] = field(default_factory=list)
    ablation: Hook | None = None
    patches: Hook | None = None

    @property
    def hook(self) -> Hook | None:
        """The changes of one forward pass over the prompt."""
        return chain(self.ablation, self.patches) if self.words else None

    def from_prefill(self) -> Hook | None:
        """The changes of a text that begins with the prompt and goes on from its cache.

        A patch is of the prompt's positions: it comes with the first pass, and what follows sees its keys and
        values. An ablation is of all.
        """
        return chain(self.ablation, self.patches and at_prefill(self.patches)) if self.words else None


def at_prefill(hook: Hook) -> Hook:
    """The hook in the first forward pass alone."""
    n_passes = 0

    def first_alone(name: str, array: np.ndarray) -> np.ndarray:
        nonlocal n_passes
        n_passes += name == "wte"  # with which a forward pass begins
        return hook(name, array) if n_passes == 1 else array

    return first_alone


def plan_changes(options: ChangeOptions, checkpoint: Checkpoint, n_tokens: int, n_seen: int) -> Changes:
    """The hooks that `--ablate` and `--patch` ask for, in a pass over the first `n_seen` tokens of a text."""
    model = checkpoint.model
    ablations = [ablate(model, name, head=head) for name, head in options.ablate]
    words = [f"{target} set to zero" for target in options.ablate]
    patches: list[Hook] = []
    if options.patch_from is not None:
        # Nothing is kept of the other pass: it is run again for what a patch takes.
        donor = trace(model, donor_ids(checkpoint, options.patch_from, n_tokens)[:n_seen], names=())
        patches = [patch(model, name, donor, head=head) for name, head in options.patch]
        words += [f"{target} taken from {donor_name(checkpoint, options)}" for target in options.patch]
    return Changes(words, chain(*ablations) if ablations else None, chain(*patches) if patches else None)


def donor_ids(checkpoint: Checkpoint, prompt: str, n_tokens: int) -> list[int]:
    """The ids of the prompt of `--patch-from`; an empty one is what it is for PROMPT."""
    ids = prompt_ids(checkpoint.model, checkpoint.tokenizer, prompt)
    if not prompt:
        start = checkpoint.label(ids[0])
        notice(f"--patch-from is empty: its forward pass starts from {start}, the sign between texts.")
    if len(ids) != n_tokens:
        raise InputError(
            f"--patch-from: its number of tokens is {len(ids)}, and that of the text that takes from it "
            f"{n_tokens}; give texts of equally many tokens."
        )
    return ids


def donor_name(checkpoint: Checkpoint, options: ChangeOptions) -> str:
    """What to call the prompt of `--patch-from`."""
    if options.patch_from:
        return f'"{harmless(options.patch_from)}"'
    return checkpoint.label(encode_prompt(checkpoint.tokenizer, "")[0])


# ---------------------------------------------------------------------------------- numbers that are none


def look(compute: Callable[[Hook | None], Result], changes: Changes) -> Result:
    """What `compute` returns for a forward pass with these changes.

    `compute` raises `NumericsError` for numbers that are not finite, which nobody could show. Only then, the
    pass without the changes is run and tells what is at fault: they are, or the weights.
    """
    hook = changes.hook
    for each in [hook] if hook is None else [hook, None]:
        with suppress(NumericsError):
            result = compute(each)
            if each is hook:
                return result
            raise not_finite(changes.words, "change another array")
    raise NumericsError(WEIGHTS_AT_FAULT)


def check_finite(numbers: ArrayLike) -> None:
    """Raise `NumericsError` for numbers that are not finite, of weights near the limit of float32."""
    if not np.isfinite(numbers).all():
        raise NumericsError(WEIGHTS_AT_FAULT)


def not_finite(changes: Sequence[str], instead: str) -> InputError:
    """The error for changes that leave a good model without numbers."""
    what = "it" if len(changes) == 1 else "them"
    return InputError(f"{', '.join(changes)}: what follows from {what} is not finite; {instead}.")
