"""`minigpt tokens`: the pieces of a text, each merge that made its tokens, and broken characters."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from ...errors import InputError
from ...scoring import never_seen, never_seen_note
from ...tokenizer import LONG, Tokenizer, merge_steps, split
from ..document import print_json
from ..options import ModelOptions, add_model_options, text
from ..passes import open_model
from ..tables import WIDEST, Column, console, print_table
from ..terminal import harmless, visible, visible_token
from ..text_files import read_prompt

MOST_PIECES = 20  # whose merges are shown; --json has those of all


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """A text, and whose tokens."""

    text: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """The text; without a model the tokens are GPT-2's."""
    parser.epilog = 'example: minigpt tokens " unbelievable"'
    parser.add_argument("text", metavar="TEXT", type=text, help='a text; "-" reads it from standard input')
    add_model_options(parser)


def run(options: Options) -> None:
    """Cut the text, merge its pieces, and show it."""
    content = read_prompt(options.text)
    if not content:
        raise InputError("TEXT: it is empty, which is no tokens; give at least one character.")
    tokenizer: Any = Tokenizer()  # every official model has it, and `tiny`
    unseen = None
    if options.model is not None:
        checkpoint = open_model(options)
        tokenizer = checkpoint.tokenizer
        unseen = never_seen(checkpoint.model, tokenizer.encode(content))
    found = take_apart(tokenizer, content, unseen)
    if options.json:
        print_json({key: value for key, value in asdict(found).items() if value is not None})
    else:
        show(console(), found)


# --------------------------------------------------------------------------------------------- what there is


@dataclass(frozen=True)
class Token:
    """A token in its place."""

    position: int
    id: int
    text: str  # as it is shown: what is no whole character, as its bytes
    bytes: str  # in hexadecimal


@dataclass(frozen=True)
class Merge:
    """A pair that became one token, and what the piece consisted of afterwards."""

    rank: int  # the place of the pair in the list that training wrote, from 0
    left: str
    right: str
    parts: list[str]


@dataclass(frozen=True)
class Piece:
    """What the split cut out, and how its bytes were merged."""

    text: str
    tokens: list[int]
    merges: list[Merge] | None  # None for a piece that is too long to tell


@dataclass(frozen=True)
class Character:
    """A character that no token holds whole."""

    text: str
    bytes: str
    positions: list[int]  # of the tokens that have its parts


@dataclass(frozen=True)
class Anatomy:
    """A text in characters, bytes, pieces and tokens."""

    text: str
    characters: int
    bytes: int
    tokens: list[Token]
    pieces: list[Piece]
    broken: list[Character]
    never_seen: list[int] | None  # positions of tokens that the model never saw; None without a model


def take_apart(tokenizer: Tokenizer, content: str, unseen: list[int] | None) -> Anatomy:
    """Everything there is to say about a text."""
    ids = tokenizer.encode(content)
    tokens = [
        Token(
            position, token_id, visible_token(tokenizer, token_id), tokenizer.token_bytes(token_id).hex(" ")
        )
        for position, token_id in enumerate(ids)
    ]
    return Anatomy(
        content, len(content), len(content.encode()), tokens, list(pieces(tokenizer, content)),
        list(broken_characters(tokenizer, content, ids)), unseen,
    )  # fmt: skip


def pieces(tokenizer: Tokenizer, content: str) -> Iterator[Piece]:
    """The pieces in order, with the merges of each."""
    for stretch in tokenizer.stretches(content):
        if isinstance(stretch, int):
            yield Piece(visible_token(tokenizer, stretch), [stretch], [])
            continue
        for piece in split(stretch, tokenizer.pattern):
            data = piece.encode()
            merges = None
            if len(data) <= LONG:
                merges = [
                    Merge(
                        tokenizer.ranks[left, right], visible(left), visible(right), list(map(visible, parts))
                    )
                    for (left, right), parts in merge_steps(data, tokenizer.ranks)
                ]
            yield Piece(visible(piece), tokenizer.piece_ids(piece), merges)


def broken_characters(tokenizer: Tokenizer, content: str, ids: list[int]) -> Iterator[Character]:
    """The characters whose bytes are in several tokens, with the positions of these."""
    if tokenizer.decode_bytes(ids) != content.encode():  # an added token has taken spaces along
        return
    owners = [position for position, i in enumerate(ids) for _ in tokenizer.token_bytes(i)]
    start = 0
    for character in content:
        data = character.encode()
        positions = sorted(set(owners[start : start + len(data)]))
        if len(positions) > 1:
            yield Character(visible(character), data.hex(" "), positions)
        start += len(data)


# -------------------------------------------------------------------------------------------- the terminal


def show(out: Console, found: Anatomy) -> None:
    """The tokens, the merges piece by piece, and the characters in parts."""
    out.width = min(out.width, WIDEST)
    counts = (
        counted(found.characters, "character"),
        counted(found.bytes, "byte"),
        counted(len(found.tokens), "token"),
    )
    quoted = harmless(found.text if len(found.text) <= 40 else f"{found.text[:39]}…")
    out.print(f'"{quoted}": {", ".join(counts)}\n')
    columns = [
        Column("position", [str(token.position) for token in found.tokens], right=True),
        Column("token", [token.text for token in found.tokens], style="bold"),
        Column("id", [str(token.id) for token in found.tokens], right=True),
        Column("bytes", [token.bytes for token in found.tokens], flexible="wrap"),
    ]
    print_table(out, columns)
    show_merges(out, found.pieces)
    show_broken(out, found)
    if found.never_seen:
        out.print(f"\n{never_seen_note(len(found.never_seen), len(found.tokens))}")


def show_merges(out: Console, all_pieces: Sequence[Piece]) -> None:
    """How the bytes of each piece became tokens; a piece that comes again is shown once."""
    different = list({piece.text: piece for piece in all_pieces if piece.merges != []}.values())
    if not different:
        return
    out.print(
        "\nEvery piece begins as bytes. Of all neighbours, those of the lowest rank become one, until no "
        "pair is left: the rank is the place in the list of merges that training wrote, from 0."
    )
    for piece in different[:MOST_PIECES]:
        out.print(f"\n{piece.text}")
        if piece.merges is None:
            out.print("  too long to show how it was merged")
            continue
        columns = [
            Column("rank", [str(merge.rank) for merge in piece.merges], right=True),
            Column("merge", [f"{merge.left} + {merge.right}" for merge in piece.merges]),
            Column("what is there then", [" ".join(m.parts) for m in piece.merges], flexible="wrap"),
        ]
        print_table(out, columns)
    if len(different) > MOST_PIECES:
        out.print(f"\n… and {len(different) - MOST_PIECES:,} other pieces; --json has them all.")


def show_broken(out: Console, found: Anatomy) -> None:
    """The characters that no token holds whole."""
    if not found.broken:
        return
    n = len(found.broken)
    are = "is one character that no token holds" if n == 1 else f"are {n:,} characters that no token holds"
    out.print(f"\nThere {are} whole, because training saw too few of them to merge their bytes:\n")
    different = list({character.text: character for character in found.broken}.values())
    owners = ["  ".join(found.tokens[position].text for position in each.positions) for each in different]
    columns = [
        Column("character", [each.text for each in different]),
        Column("bytes", [each.bytes for each in different]),
        Column("in the tokens", owners, flexible="wrap"),
    ]
    print_table(out, columns)


def counted(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
