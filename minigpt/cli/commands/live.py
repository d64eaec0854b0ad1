"""`minigpt live`: the page, with the model running behind it."""

import argparse
import webbrowser

from ...errors import InputError, notice
from . import add_model_arguments, open_model, read_standard_input, text

HELP = "the page, alive: type a prompt, and tokens, attention and logits change with it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The prompt to begin with, and how the page is opened."""
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", type=text, default="I love", help="(I love)")
    add_model_arguments(parser)
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open nothing")
    parser.add_argument("--lang", choices=["en", "ko"], default="en", help="language of the page (en)")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of 127.0.0.1 (any free one)")


def run(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    if args.json:
        raise InputError("--json: a page has no document; leave it out.")
    if not 0 <= args.port < 2**16:
        raise InputError(f"--port is {args.port}; it must be 0 (any free one) to 65535.")
    prompt = read_standard_input() if args.prompt == "-" else args.prompt
    speaker = open_model(args)
    from ...page.build import Speaker, checked_settings
    from ...page.live import serve

    def ready(address: str) -> None:
        print(address, flush=True)
        notice("serving the page on this machine alone; Ctrl-C ends it.")
        if not args.no_browser:
            webbrowser.open(address)

    settings = checked_settings(1.0, 0, 1.0, 0.0, args.lang)
    serve(Speaker(*speaker), prompt, settings=settings, language=args.lang, port=args.port, ready=ready)
