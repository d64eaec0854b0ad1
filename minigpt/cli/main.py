"""The program `minigpt`: from words to what they ask for. A failure becomes one line and an exit status.

A command is a module in `commands/`, imported when it runs, and so is the main road. Nothing here imports
NumPy or rich, so that `--help` answers at once.
"""

import difflib
import errno
import importlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import NoReturn

from ..errors import InputError, MiniGPTError, brief, discard, notice, print_error
from .options import Parser, PromptOptions, add_prompt_options
from .streams import accept_any_character

# `minigpt score` is commands/score.py; a name that Python reserves has an underscore there: break_.py.
COMMANDS = {
    "tokens": "the tokens of a text, and each merge that made them",
    "attention": "who looks at whom: attention weights, per layer and head",
    "lens": "the logit lens: what each layer would predict if it were the last",
    "attribution": "one logit as a sum: embedding + each head + each MLP + biases",
    "break": "make one classic mistake and see what it does to logits and text",
    "score": "perplexity of a text, and its most surprising tokens",
    "gradients": "the push on every logit towards a target, and how far it reaches",
    "train": "a GPT that learns from a text of your own",
    "prefer": "train on pairs of answers (ORPO, DPO), and see which logits that moves",
    "practice": "exercises: write a part of GPT-2 yourself, and be told which mistake is in it",
    "lessons": "one path from a word to a preference: what each lesson asks, and where it is",
    "glossary": "the field's words: a sentence and a line of code for each, in English and Korean",
    "sizes": "parameters by part, bytes of file and cache, operations per token",
    "map": "one table of names: paper, checkpoint, hook, transformers, line of model.py",
    "live": "the page, alive: type a prompt, and tokens, attention and logits change with it",
    "verify": "compare this machine's numbers with torch's, tensor by tensor, and with published ones",
    "download": "fetch a model from the Hugging Face Hub, for later or for a machine without a network",
}
DESCRIPTION = """\
Show how GPT-2 finds the next word: tokens, embeddings, blocks, logits, softmax.

  minigpt "I love"                             the story of one forward pass
  minigpt "I love" -n 40 --temperature 0.7     and what the model goes on to write
  minigpt "I love" --compare "I hate"          the same tokens after another prompt
  minigpt "I love" --html love.html            a page to look at and play with
  minigpt live                                 the same page, with the model answering as you type
"""
EXIT_ERROR, EXIT_ARGUMENTS, EXIT_INTERRUPTED = 1, 2, 130


def main(words: Sequence[str] | None = None) -> int:
    """The program. Returns 0, 2 for a mistake in the arguments, 130 for Ctrl-C, 1 for the rest."""
    if sys.stdout is None:  # closed by the shell (`>&-`)
        sys.stdout = io.StringIO()
    if sys.stderr is None:  # `print(file=None)` would go to standard output
        sys.stderr = io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        accept_any_character(stream)
    words = sys.argv[1:] if words is None else words
    with noted_interrupts() as interrupts:
        try:
            status = run(words)
            sys.stdout.flush()  # here, where a failure can still be told
            return status
        except KeyboardInterrupt:
            print_error("")  # the shell's prompt starts on a line of its own
            return EXIT_INTERRUPTED
        except Exception as error:
            return EXIT_INTERRUPTED if interrupts else exit_status(error, words)


def run(words: Sequence[str]) -> int:
    """Do what the words ask for; return the exit status."""
    if not words:
        print_error(f"{DESCRIPTION}\n`minigpt --help` names all options and commands.")
        return EXIT_ARGUMENTS
    if words[0] == "help":
        words = [*words[1:2], "--help"]
    if words[0] in COMMANDS:
        command = load_command(words[0])
        options = command.Options(**command_parser(words[0], command).parse(words[1:]))
        return command.run(options) or 0
    options = read_prompt_options(words)
    road = importlib.import_module(".document" if options.json else ".story", __package__)
    road.run(options)
    return 0


# ------------------------------------------------------------------------------------------------- commands


def load_command(name: str) -> ModuleType:
    """The module of a command: it has `Options`, `add_options(parser)` and `run(options)`.

    `run` returns the exit status, or None for 0.
    """
    module = f"{name}_" if name == "break" else name
    return importlib.import_module(f".commands.{module}", __package__)


def command_parser(name: str, command: ModuleType) -> Parser:
    """What reads the words behind a command's name."""
    parser = Parser(prog=f"minigpt {name}", description=COMMANDS[name])
    command.add_options(parser)
    return parser


class PromptParser(Parser):
    """The parser of the main road; its help names the commands, too."""

    def format_help(self) -> str:
        """What argparse says, and one line for each command."""
        commands = "".join(f"  {name:<12} {line}\n" for name, line in COMMANDS.items())
        title = "commands (`minigpt COMMAND --help` explains one; a prompt of that word goes after `--`)"
        return f"{super().format_help()}\n{title}:\n{commands}"


def prompt_parser() -> Parser:
    """What reads the words of the main road."""
    usage = "minigpt PROMPT [options]   or   minigpt COMMAND ..."
    parser = PromptParser(prog="minigpt", usage=usage, description=DESCRIPTION)
    add_prompt_options(parser)
    return parser


def read_prompt_options(words: Sequence[str]) -> PromptOptions:
    """The options of the main road. A first word that is nearly a command's name is a prompt, with a hint."""
    similar = difflib.get_close_matches(words[0], COMMANDS, n=1, cutoff=0.8)
    hint = f"{brief(words[0])!r} is no command; is it `minigpt {similar[0]}`?" if similar else ""
    try:
        options = PromptOptions(**prompt_parser().parse(words))
    except InputError as error:
        raise InputError(f"{hint} As a prompt: {error}" if hint else str(error)) from None
    if hint:
        notice(f"{hint} It is read as a prompt.")
    return options


# ------------------------------------------------------------------------------------------------- failures


def exit_status(error: Exception, words: Sequence[str]) -> int:
    """Say in one line what went wrong; return the exit status."""
    match error:
        case MiniGPTError():
            notice(name_option(str(error), words))
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


def name_option(message: str, words: Sequence[str]) -> str:
    """Python's message begins with the name of an argument; who typed an option is told of that."""
    name = re.split(r"\W", message, maxsplit=1)[0]
    option = f"--{name.replace('_', '-')}"
    typed = any(word.partition("=")[0] == option for word in words)
    return option + message[len(name) :] if typed else message


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
