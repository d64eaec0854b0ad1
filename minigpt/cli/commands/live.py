"""`minigpt live`: the page, with the model running behind it."""

import argparse
import webbrowser
from dataclasses import dataclass

from ...errors import InputError, notice
from ...page.build import LANGUAGES, Speaker, checked_settings
from ...page.live import serve
from ..options import SubjectOptions, add_prompt
from ..passes import open_model
from ..text_files import read_prompt

PORTS = 2**16


@dataclass(frozen=True, kw_only=True)
class Options(SubjectOptions):
    """How the page is opened."""

    no_browser: bool
    lang: str
    port: int

    def __post_init__(self) -> None:
        if self.json:
            raise InputError("--json: a live page is no document; `minigpt PROMPT --json` prints one.")
        if not 0 <= self.port < PORTS:
            raise InputError(f"--port is {self.port}; it must be 0 (any that is free) to {PORTS - 1}.")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The prompt to begin with, and how the page is opened."""
    add_prompt(parser, 'minigpt live "I love" --lang ko', default="I love")
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open nothing")
    parser.add_argument("--lang", choices=LANGUAGES, default="en", help="the language of the page (en)")
    parser.add_argument(
        "--port", type=int, metavar="N", default=0, help="the port on 127.0.0.1 (any that is free)"
    )


def run(options: Options) -> None:
    """Serve the page until Ctrl-C."""
    prompt, checkpoint = read_prompt(options.prompt), open_model(options)
    speaker = Speaker(checkpoint.source, checkpoint.model, checkpoint.tokenizer)
    settings = checked_settings(1.0, 0, 1.0, 0.0, options.lang)

    def ready(address: str) -> None:
        print(address, flush=True)
        notice("the page is served to this machine alone; Ctrl-C ends it.")
        if not options.no_browser:
            webbrowser.open(address)

    serve(speaker, prompt, settings=settings, language=options.lang, port=options.port, ready=ready)
