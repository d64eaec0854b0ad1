"""How much of each context a written file has room for: under 4 MB, as long as that is possible.

All of a context's logits are always there. Of a long text the views show its end; of the vectors inside the
blocks there are those of fewer tokens, then those of fewer blocks, the more contexts share a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..parameters import Config
from .numbers import ON_THE_CURVE, STRONGEST, VECTORS

LARGEST_FILE = 3_970_000  # bytes
MOST_TOKENS, FEWEST_TOKENS = 40, 10  # that the views show
MOST_OPENED, FEWEST_OPENED = 10, 4  # of which the file holds q, k and v of every head
WATCHED = 100  # of the likeliest tokens of each context, the logit lens keeps the path through the layers
ROWS_OF_HEAD = 12  # of the likeliest tokens of each context the file holds the row that makes their logit
BASE64 = 4 / 3  # characters for a byte
AS_TEXT = 20  # characters of a number that is written as decimals


@dataclass(frozen=True)
class Room:
    """What the file holds of every context."""

    shown: int  # tokens at the end
    opened: int  # tokens at the end with q, k and v
    blocks: int  # that are opened

    def layers(self, n_layer: int) -> list[int]:
        """The blocks that are opened: the first, the last, and others between them at equal distances."""
        return np.unique(np.linspace(0, n_layer - 1, min(self.blocks, n_layer)).round().astype(int)).tolist()


def room_for(configs: Sequence[Config], longest: int, spare: int) -> Room:
    """The most that fits into `spare` bytes for contexts of these models, or else the least there is.

    First fewer tokens are shown and opened, then fewer blocks are opened.
    """
    most_shown, n_layer = min(longest, MOST_TOKENS), max(config.n_layer for config in configs)
    steps = MOST_TOKENS - FEWEST_TOKENS
    rooms = []
    for step in range(steps, -1, -1):
        opened = FEWEST_OPENED + (MOST_OPENED - FEWEST_OPENED) * step // steps
        rooms.append(Room(min(most_shown, FEWEST_TOKENS + step), opened, n_layer))
    rooms += [Room(rooms[-1].shown, FEWEST_OPENED, blocks) for blocks in range(n_layer - 1, 0, -1)]
    for room in rooms:
        if sum(context_bytes(config, room, len(configs)) for config in configs) <= spare:
            return room
    return rooms[-1]


def context_bytes(config: Config, room: Room, contexts: int) -> int:
    """About how many bytes of the file each of some contexts takes. They share the positions' rows."""
    width, layers, opened = config.n_embd, config.n_layer, min(room.opened, room.shown)
    attention = layers * config.n_head * room.shown * (room.shown + 2)  # scores and weights
    paths = contexts * WATCHED * (layers + 1)
    vectors = width * (room.shown + room.shown / contexts + 2 + ROWS_OF_HEAD)
    block = width * (3 * opened + len(VECTORS) + 1 + STRONGEST)
    single = attention + paths + vectors + config.vocab_size
    blocks = len(room.layers(layers)) * (2 * block * BASE64 + ON_THE_CURVE * AS_TEXT)
    return round(4 * single * BASE64 + blocks)
