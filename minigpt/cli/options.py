"""What can be typed: the parser, the types of values, and the options that commands share.

Here words become typed values: nothing behind the command line's edge sees an `argparse.Namespace`. NumPy and
rich are not imported, so that `minigpt --help` and most mistakes are answered at once.
"""

import argparse
import difflib
import itertools
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from .. import __version__
from ..errors import InputError
from ..ranges import RANGES

MOST_DIGITS = 18
SEVERAL: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that takes no abbreviations, and whose errors are one line like all others."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        self.register("type", int, integer)  # what `type=int` means, in the commands

    def error(self, message: str) -> NoReturn:
        """Raise the error for `main` to print."""
        message = message.removeprefix("argument ")
        message = re.sub("the following arguments are required: (.*)", r"missing: \1", message)
        raise InputError(f"{message} (see `{self.prog} --help`)")

    def parse(self, words: Sequence[str]) -> dict[str, Any]:
        """The values of all of the words; for one too many, say what is likely to be meant."""
        values, rest = self.parse_known_args(words)
        if rest and rest[0] in itertools.dropwhile(lambda word: word != "--", words):
            self.error(f"{rest[0]!r} is one word too many: options go before `--`, and one text behind it")
        if rest and rest[0].startswith("-"):
            known = list(self._option_string_actions)
            begun = [option for option in known if len(rest[0]) > 2 and option.startswith(rest[0])]
            similar = begun or difflib.get_close_matches(rest[0], known, n=1)
            hint = f"; is it {similar[0]}?" if similar else ""
            self.error(f"{rest[0]}: there is no such option{hint}")
        if rest:
            self.error(f"{rest[0]!r} is one word too many; put a text of several words in quotes")
        return vars(values)


# ------------------------------------------------------------------------------------------ types of values


def text(word: str) -> str:
    """A word of the command line that is text.

    Python keeps bytes that are not of the locale's encoding as surrogates, which no tokenizer knows. In an
    ASCII locale these may still be UTF-8.
    """
    try:
        word.encode()
        return word
    except UnicodeEncodeError as error:
        start = error.start
    try:
        return os.fsencode(word).decode()
    except UnicodeError:
        message = f"{word!r} is not text: character {start} is no valid UTF-8"
        raise argparse.ArgumentTypeError(message) from None


def some_text(word: str) -> str:
    """Text that is not empty."""
    if not word:
        raise argparse.ArgumentTypeError("found an empty text; give at least one character")
    return text(word)


def file_name(word: str) -> str:
    """What can name a file."""
    if not word or "\0" in word:
        raise argparse.ArgumentTypeError(f"found {word!r}; give the name of a file")
    return word


def number(name: str, kind: type[int] | type[float] = float) -> Callable[[str], int | float]:
    """What reads a number of the range that `RANGES` has under this name."""

    def read(word: str) -> int | float:
        is_valid, allowed = RANGES[name]
        with suppress(ValueError):  # it is no number of this kind
            value = kind(word)
            if is_valid(value):
                return value
        raise argparse.ArgumentTypeError(f"found {word[:40]!r}; it must be {allowed}")

    return read


def integer(word: str) -> int:
    """What reads an integer of any range: the commands know theirs when the model is there."""
    try:
        value = int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {word[:40]!r}; it must be an integer") from None
    if abs(value) >= 10**MOST_DIGITS:  # which no range has, and no message should repeat
        raise argparse.ArgumentTypeError(f"found {word[:40]!r}; it must have {MOST_DIGITS} digits at most")
    return value


class Target(NamedTuple):
    """An array of the forward pass, or one head of it: `h.0.attn.v:3`."""

    name: str
    head: int | None

    def __str__(self) -> str:
        return self.name if self.head is None else f"{self.name}:{self.head}"


def target(word: str) -> Target:
    """What reads NAME or NAME:HEAD."""
    name, colon, head = text(word).partition(":")
    if colon and not (head.isascii() and head.isdecimal() and len(head) < 10):
        raise argparse.ArgumentTypeError(
            f"found {word[:40]!r}; the head after the colon must be a number, as in h.0.attn.v:3"
        )
    return Target(name, int(head) if colon else None)


# -------------------------------------------------------------------------------- options that commands share


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model runs, and for whom: a person or a program."""

    model: str | None = None
    offline: bool = False
    json: bool = False


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options that every command with a model understands."""
    parser.add_argument(
        "--model",
        metavar="NAME_OR_PATH",
        help="gpt2, gpt2-medium, gpt2-large, gpt2-xl, distilgpt2, tiny, a Hub repository, or a folder",
    )
    parser.add_argument("--offline", action="store_true", help="never use the network")
    add_json_option(parser)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """`--json`, also for what needs no model."""
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


@dataclass(frozen=True, kw_only=True)
class ChangeOptions:
    """How the forward pass is changed before anything is looked at."""

    ablate: list[Target] = field(default_factory=list)
    patch: list[Target] = field(default_factory=list)
    patch_from: str | None = None

    def __post_init__(self) -> None:
        if bool(self.patch) != (self.patch_from is not None):
            raise InputError("--patch and --patch-from belong together: what to take, and from which prompt.")


def add_change_options(parser: argparse.ArgumentParser) -> None:
    """`--ablate` and `--patch`."""
    group = parser.add_argument_group("changing the forward pass")
    group.add_argument(
        "--ablate", metavar="NAME[:HEAD]", type=target, **SEVERAL,
        help="set arrays, or one head of them, to zero: h.0.attn.v:3 h.2.mlp.out",
    )  # fmt: skip
    group.add_argument(
        "--patch", metavar="NAME[:HEAD]", type=target, action="append", default=[],
        help="take it from the forward pass of another prompt, given by --patch-from; may be repeated",
    )  # fmt: skip
    group.add_argument("--patch-from", type=text, metavar="PROMPT", help="a prompt of equally many tokens")


@dataclass(frozen=True, kw_only=True)
class SubjectOptions(ModelOptions):
    """A model and a prompt."""

    prompt: str


@dataclass(frozen=True, kw_only=True)
class LookOptions(SubjectOptions, ChangeOptions):
    """A model and a prompt, whose forward pass may be changed before a command looks into it."""


def add_prompt(parser: argparse.ArgumentParser, *examples: str, default: str | None = None) -> None:
    """PROMPT, which may be left out if it has a default, the model's options, and examples in the help."""
    parser.epilog = "\n".join(f"example: {example}" for example in examples)
    parser.add_argument(
        "prompt",
        metavar="PROMPT",
        nargs=None if default is None else "?",
        type=text,
        default=default,
        help='the text to look at; "-" reads standard input' + (f" ({default})" if default else ""),
    )
    add_model_options(parser)


# ------------------------------------------------------------------------------------------- the main road


@dataclass(frozen=True, kw_only=True)
class PromptOptions(LookOptions):
    """`minigpt PROMPT` and all that can be asked about it."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    top: int
    candidates: list[str]
    compare: list[str]
    compare_model: list[str]
    html: str | None
    lang: str
    max_new_tokens: int
    stop: list[str]
    seed: int | None
    text: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text and self.json:
            raise InputError("--text and --json exclude each other: the text alone, or one document.")
        if self.text and not self.max_new_tokens:
            raise InputError("--text prints what the model writes; say how much of it, as with -n 40.")

    @property
    def sampling(self) -> dict[str, Any]:
        """The settings of `sampling.Sampling`, by name."""
        names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        return {name: getattr(self, name) for name in names}


def add_prompt_options(parser: argparse.ArgumentParser) -> None:
    """The arguments of the main road."""
    parser.add_argument(
        "prompt", metavar="PROMPT", type=text, help='a text; "-" reads it from standard input'
    )
    parser.add_argument("--version", action="version", version=f"minigpt {__version__}")
    add_model_options(parser)
    add_sampling_options(parser.add_argument_group("the distribution of the next token"))
    add_view_options(parser.add_argument_group("what to look at"))
    add_change_options(parser)
    add_generation_options(parser.add_argument_group("generation"))


def add_sampling_options(group: argparse._ArgumentGroup) -> None:
    """What shapes the distribution; names and meanings are those of `sampling`."""
    group.add_argument(
        "--temperature", metavar="T", type=number("temperature"), default=1.0,
        help="below 1 sharpens it, above 1 flattens it, 0 always takes the likeliest (1)",
    )  # fmt: skip
    group.add_argument(
        "--top-k", metavar="K", type=number("top_k", int), default=0,
        help="leave only the K likeliest (0: all)",
    )  # fmt: skip
    group.add_argument(
        "--top-p", metavar="P", type=number("top_p"), default=1.0,
        help="leave only the likeliest that have P together (1: all)",
    )  # fmt: skip
    group.add_argument(
        "--min-p", metavar="P", type=number("min_p"), default=0.0,
        help="leave only those at least P times as likely as the likeliest (0: all)",
    )  # fmt: skip
    group.add_argument(
        "--repetition-penalty", metavar="R", type=number("repetition_penalty"), default=1.0,
        help="above 1, tokens that occurred already become less likely to be written (1: off)",
    )  # fmt: skip


def add_view_options(group: argparse._ArgumentGroup) -> None:
    """What the story shows besides."""
    group.add_argument(
        "--top", metavar="N", type=number("top", int), default=10,
        help="rows in the table of next tokens (10)",
    )  # fmt: skip
    group.add_argument(
        "--candidates", metavar="TEXT", type=some_text, **SEVERAL,
        help='the logits of these continuations: " you" " it"',
    )  # fmt: skip
    group.add_argument(
        "--compare", metavar="PROMPT", type=text, **SEVERAL,
        help="the same tokens after other prompts, side by side",
    )  # fmt: skip
    group.add_argument(
        "--compare-model", metavar="NAME_OR_PATH", **SEVERAL,
        help="the same tokens after the same prompt, as other models see them",
    )  # fmt: skip
    group.add_argument("--html", metavar="FILE", type=file_name, help="write a page to look at and play with")
    group.add_argument("--lang", choices=["en", "ko"], default="en", help="the language of that page (en)")


def add_generation_options(group: argparse._ArgumentGroup) -> None:
    """What the model writes after the story."""
    group.add_argument(
        "-n", "--max-new-tokens", metavar="N", type=number("max_new_tokens", int), default=0,
        help="go on writing, for at most N tokens (0)",
    )  # fmt: skip
    group.add_argument(
        "--stop", metavar="TEXT", type=some_text, action="append", default=[],
        help="end before this text; may be repeated",
    )  # fmt: skip
    group.add_argument("--seed", metavar="S", type=number("seed", int), help="draw the same tokens again")
    group.add_argument("--text", action="store_true", help="print the text alone, without the story")
