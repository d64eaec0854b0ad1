"""The command line: from words to what they ask for. Every failure becomes one line and an exit status.

Nothing here imports NumPy or rich at the top, so that `--help` and most mistakes answer at once.
"""

import argparse
import errno
import importlib
import io
import itertools
import os
import pkgutil
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from .. import __version__
from ..errors import InputError, MiniGPTError, discard, notice, print_error
from .options import add_model_arguments, open_model, print_json, read_standard_input, text

if TYPE_CHECKING:
    from ..checkpoints.find import Source
    from ..model import GPT2
    from ..tokenizer import Tokenizer

DESCRIPTION = """\
Show how GPT-2 finds the next word: tokens, embeddings, blocks, logits, softmax.

  minigpt "I love"                             the story of one forward pass
  minigpt "I love" -n 40 --temperature 0.7     and what the model goes on to write
  minigpt "I love" --compare "I hate"          the same tokens after another prompt
  minigpt "I love" --html love.html            a page to look at and play with
"""
EXIT_ERROR, EXIT_ARGUMENTS, EXIT_INTERRUPTED = 1, 2, 130


def main(words: Sequence[str] | None = None) -> int:
    """The program `minigpt`. Returns 0, 2 for a mistake in the arguments, 130 for Ctrl-C, 1 for the rest."""
    if sys.stdout is None:  # closed by the shell (`>&-`)
        sys.stdout = io.StringIO()
    if sys.stderr is None:  # `print(file=None)` would go to standard output
        sys.stderr = io.StringIO()
    with noted_interrupts() as interrupts:
        try:
            status = run(sys.argv[1:] if words is None else words)
            sys.stdout.flush()  # here, where a failure can still be told
            return status
        except KeyboardInterrupt:
            print_error("")  # the shell's prompt starts on a line of its own
            return EXIT_INTERRUPTED
        except Exception as error:
            return EXIT_INTERRUPTED if interrupts else exit_status(error)


def exit_status(error: Exception) -> int:
    """Say in one line what went wrong; return the exit status."""
    match error:
        case MiniGPTError():
            notice(str(error))
            return EXIT_ARGUMENTS if isinstance(error, InputError) else EXIT_ERROR
        case MemoryError():
            notice("there is not enough memory for this; a smaller --model or a shorter text needs less.")
        case OSError():
            if output_closed(error):
                return 0  # its reader has seen enough, as in `| head`
            notice(f"{error.filename or 'output'}: {error.strerror or error}")
        case ModuleNotFoundError() if not str(error.name).startswith("minigpt"):
            notice(f"the package {error.name} is not installed; in a clone, run: pip install -e .")
        case _ if sys.flags.dev_mode:
            raise error
        case _:
            kind = type(error).__name__
            notice(f"a bug in minigpt: {kind}: {error} (`python -X dev -m minigpt` shows where)")
    return EXIT_ERROR


@contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """A list that grows with each Ctrl-C: NumPy, while it is being imported, turns one into an error.

    Who ignores Ctrl-C, as jobs in the background do, or handles it otherwise, goes on doing so; and only the
    main thread may ask for it.
    """
    noted: list[int] = []

    def interrupt(number: int, _frame: object) -> NoReturn:
        noted.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield noted
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def output_closed(error: OSError) -> bool:
    """Whether standard output has been closed at the other end; what is left for it goes nowhere.

    Standard error is not asked: `errors.notice` lets no failure of it through.
    """
    try:
        sys.stdout.flush()
    except OSError:
        discard(sys.stdout)
    is_closed = isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL)
    return error.filename is None and is_closed


def run(words: Sequence[str]) -> int:
    """Do what the words ask for; return the exit status."""
    if words and words[0] in command_modules():
        module = load_command(words[0])
        parser = Parser(prog=f"minigpt {words[0]}", description=module.HELP)
        module.add_arguments(parser)
        return module.run(parser.parse(words[1:])) or 0
    return show_prompt(prompt_parser().parse(words))


def show_prompt(args: argparse.Namespace) -> int:
    """The main road: write the page of a prompt, tell its story or print its document."""
    if args.prompt == "-":
        args.prompt = read_standard_input()
    source, model, tokenizer = open_model(args)
    if args.json:
        from .document import document

        found = document(source, model, tokenizer, args)
    page = save_page(source, model, tokenizer, args) if args.html else None
    if args.json:
        print_json(found)
    else:
        from .story import tell

        tell(source, model, tokenizer, args)
    if page:
        notice(f"wrote {page}; open it in a browser.")
    return 0


def save_page(source: "Source", model: "GPT2", tokenizer: "Tokenizer", args: argparse.Namespace) -> Path:
    """Write the page; return where it is."""
    from ..page.build import write_page

    names = ("temperature", "top_k", "top_p", "min_p", "top", "candidates")
    options = {name: getattr(args, name) for name in names}
    return write_page(
        args.html, model, tokenizer, args.prompt, source=source, comparisons=args.compare, **options
    )


# ----------------------------------------------------------------------------------------------- commands


def command_modules() -> dict[str, str]:
    """The commands there are, and their modules in `minigpt/commands`: `break` is a word of Python's."""
    found = pkgutil.iter_modules([str(Path(__file__).parent / "commands")])
    return {module.name.rstrip("_"): module.name for module in found if module.name[0] != "_"}


def load_command(name: str) -> ModuleType:
    """The module of a command."""
    return importlib.import_module(f".commands.{command_modules()[name]}", __package__)


# ---------------------------------------------------------------------------------------------- arguments


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

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse all of the words, or say what is likely to be meant by one too many."""
        args, rest = self.parse_known_args(words)
        if rest and rest[0] in itertools.dropwhile(lambda word: word != "--", words):
            self.error(f"{rest[0]!r} is one word too many: options go before `--`, and one text behind it")
        if rest and rest[0].startswith("-"):
            import difflib

            known = list(self._option_string_actions)
            begun = [option for option in known if len(rest[0]) > 2 and option.startswith(rest[0])]
            similar = begun or difflib.get_close_matches(rest[0], known, n=1)
            hint = f"; is it {similar[0]}?" if similar else ""
            self.error(f"{rest[0]}: there is no such option{hint}")
        if rest:
            self.error(f"{rest[0]!r} is one word too many; put a text of several words in quotes")
        return args


class PromptParser(Parser):
    """The parser of the main road; its help names the commands, too."""

    def format_help(self) -> str:
        """What argparse says, and one line for each command."""
        commands = (f"  {name:<12} {load_command(name).HELP}\n" for name in command_modules())
        title = "commands (`minigpt COMMAND --help` explains one; a prompt of that word goes after `--`)"
        return f"{super().format_help()}\n{title}:\n{''.join(commands)}"


def prompt_parser() -> Parser:
    """The arguments of the main road."""
    parser = PromptParser(
        prog="minigpt",
        usage="minigpt PROMPT [options]   or   minigpt COMMAND ...",
        description=DESCRIPTION,
    )
    parser.add_argument(
        "prompt", metavar="PROMPT", type=text, help='a text; "-" reads it from standard input'
    )
    parser.add_argument("--version", action="version", version=f"minigpt {__version__}")
    add_model_arguments(parser)
    add_sampling_arguments(parser.add_argument_group("the distribution of the next token"))
    add_view_arguments(parser.add_argument_group("what to look at"))
    add_generation_arguments(parser.add_argument_group("generation"))
    return parser


def add_sampling_arguments(group: argparse._ArgumentGroup) -> None:
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


def add_view_arguments(group: argparse._ArgumentGroup) -> None:
    """What the story shows besides."""
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    group.add_argument(
        "--top", metavar="N", type=number("top", int), default=10,
        help="rows in the table of next tokens (10)",
    )  # fmt: skip
    group.add_argument(
        "--candidates", metavar="TEXT", type=some_text, **several,
        help='the logits of these continuations: " you" " it"',
    )  # fmt: skip
    group.add_argument(
        "--compare", metavar="PROMPT", type=text, **several,
        help="the same tokens after other prompts, side by side",
    )  # fmt: skip
    group.add_argument("--html", metavar="FILE", type=file_name, help="write a page to look at and play with")


def add_generation_arguments(group: argparse._ArgumentGroup) -> None:
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
    """What reads a number and knows its range, which is the one in `sampling`."""

    def read(word: str) -> int | float:
        from ..sampling import RANGES

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
        return int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {word[:40]!r}; it must be an integer") from None
