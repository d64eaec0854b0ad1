"""`minigpt glossary`: the field's words, each in one sentence and one line of code."""

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console

from ...errors import InputError
from ...glossary import Term, glossary
from ..document import print_json
from ..options import add_json_option, text
from ..tables import Column, console, print_items, print_table


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which word is explained, and how it is printed."""

    word: str | None
    json: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """The word, which may be left out."""
    parser.epilog = 'example: minigpt glossary logit\nexample: minigpt glossary "residual stream"'
    parser.add_argument(
        "word", metavar="WORD", nargs="?", type=text, help="a term, in English or Korean; without it: all"
    )
    add_json_option(parser)


def run(options: Options) -> None:
    """Print one term, or a line for each."""
    terms = glossary() if options.word is None else find(options.word)
    if options.json:
        print_json([asdict(term) for term in terms])
    elif options.word is None:
        columns = [
            Column("term", [term.term for term in terms], style="bold"),
            Column("한국어", [term.ko for term in terms]),
            Column("", [term.sentence for term in terms], flexible="wrap"),
        ]
        print_table(console(), columns)
    else:
        out = console()
        for term in terms:
            explain(out, term)


def find(word: str) -> Sequence[Term]:
    """The terms of this name, or those whose name contains it. Raises `InputError` if there is none."""
    wanted = word.casefold().strip()
    names = {name.casefold(): term for term in glossary() for name in (term.term, term.ko)}
    if wanted in names:
        return [names[wanted]]
    found = list({term.term: term for name, term in names.items() if wanted and wanted in name}.values())
    if not found:
        similar = difflib.get_close_matches(wanted, list(names), n=1)
        hint = f"; is it {names[similar[0]].term}?" if similar else "; `minigpt glossary` lists all terms."
        raise InputError(f"glossary: there is no {word[:40]!r}{hint}")
    return found


def explain(out: Console, term: Term) -> None:
    """One term: its sentence in both languages, and its line of code."""
    out.print(f"{term.term} · {term.ko}", style="bold")
    print_items(out, [term.sentence], 2)
    print_items(out, [term.sentence_ko], 2)
    print_items(out, [f">>> {term.code}"], 2, "cyan")
    out.print()
