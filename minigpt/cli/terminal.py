"""What a terminal can show: text made visible.

Tokens hold anything that a byte sequence can: ESC, half of a character, a right-to-left mark. No text
from a model, a file or a person goes to the terminal but through `visible` or `harmless`. `tables.py` lays it
out, with rich; nothing here needs that, nor does `--json`.
"""

import functools
import math
import sys
import unicodedata
from collections.abc import Sequence
from typing import SupportsFloat

from ..errors import STEERING, escape
from ..errors import harmless as harmless  # noqa: PLC0414 - `visible` and `harmless` go together
from ..tokenizer import AnyTokenizer, bytes_of, nameless

# What nobody can see for what it is: what steers, private and unassigned characters, and all spaces.
UNSEEN = STEERING | {"Co", "Cn", "Zs"}
LEVELS = "▁▂▃▄▅▆▇█"


@functools.lru_cache(1 << 17)  # a page shows every token, and the next page the same ones
def visible(text: str | bytes) -> str:
    """A token's text so that all of it is seen: spaces as ␣, and what cannot be drawn as an escape.

    Escapes are those of Python (`\\n`, `\\x1b`, `\\u202e`), and a backslash is doubled, so nothing is
    ambiguous. Give the token's bytes, and half a character shows as its bytes (`\\xf0\\x9f`).
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="surrogateescape")
    # A combining mark needs something before it to sit on; at the start it would sit on the table.
    start = unicodedata.category(text[0]).startswith("M") if text else False
    return "".join(escape(c) if start and i == 0 else _seen(c) for i, c in enumerate(text))


def visible_token(tokenizer: AnyTokenizer, token_id: int) -> str:
    """A token for the eye; half a character shows as its bytes, and an id without a token as `<id 50257>`."""
    token = bytes_of(tokenizer, token_id)
    return token.decode() if token == nameless(token_id) else visible(token)


def for_stdout(text: str) -> str:
    """What a program reads exactly as it is, and a terminal without what it would obey."""
    return harmless(text) if sys.stdout.isatty() else text


def _seen(character: str) -> str:
    known = {" ": "␣", "\\": "\\\\"}.get(character)
    return known or (escape(character) if unicodedata.category(character) in UNSEEN else character)


def percent(probability: SupportsFloat) -> str:
    """A probability to compare at a glance; what is not 0 does not look like it."""
    share = float(probability)
    if share == 0:
        return "0%"
    return "<0.1%" if share < 0.0005 else f"{100 * share:.1f}%"


def sparkline(values: Sequence[float | int]) -> str:
    """Numbers from 0 up as a row of small columns, the largest one full height."""
    largest = max(values, default=0.0) or 1.0
    levels = (math.ceil(len(LEVELS) * value / largest) for value in values)
    return "".join(LEVELS[min(max(level, 1), len(LEVELS)) - 1] for level in levels)
