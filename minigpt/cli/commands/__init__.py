"""The commands: one module each, found by being here. `minigpt score` is `minigpt/cli/commands/score.py`.

A module has `HELP` (one line), `add_arguments(parser)` and `run(args)`, which returns the exit status
or None for 0. A name that Python reserves has an underscore at its end: `break_.py` is `minigpt break`.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError, notice

if TYPE_CHECKING:
    import minigpt.checkpoints.find
    import minigpt.model
    import minigpt.tokenizer


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every command with a model understands."""
    parser.add_argument(
        "--model",
        metavar="NAME_OR_PATH",
        help="gpt2, gpt2-medium, gpt2-large, gpt2-xl, distilgpt2, tiny, a Hub repository, or a folder",
    )
    parser.add_argument("--offline", action="store_true", help="never use the network")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def open_model(
    args: argparse.Namespace,
) -> tuple["minigpt.checkpoints.find.Source", "minigpt.model.GPT2", "minigpt.tokenizer.Tokenizer"]:
    """Find and load what `--model` and `--offline` ask for; a fall-back is announced on standard error."""
    from ...checkpoints.find import find
    from ...checkpoints.load import load

    source = find(args.model, offline=args.offline, notify=notice)
    model, tokenizer = load(source)
    return source, model, tokenizer


def text(word: str) -> str:
    """A word of the command line that is text, as the `type` of an argument.

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


def read_text(file: str) -> tuple[str, str]:
    """What to call a text file, of which `-` is standard input, and the text exactly as it is."""
    name = "standard input" if file == "-" else file
    if file == "-" and sys.stdin is None:
        raise InputError(f"{name}: it is closed; - needs a text there.")
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return name, content.decode("utf-8")
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}; give a text file, or - for standard input.") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise InputError(
            f"{name}: byte {error.start:,} is 0x{byte:02x}, and not UTF-8; save the text as UTF-8."
        ) from None


def read_standard_input() -> str:
    """The prompt on standard input; the newline with which `echo` and editors end it is left off."""
    return read_text("-")[1].removesuffix("\n").removesuffix("\r")


def print_json(document: object) -> None:
    """Print one JSON document; a number that JSON does not have is an error and not `NaN`."""
    print(json.dumps(document, allow_nan=False))
