"""How large a GPT-2 is, from its config alone: parameters, bytes, operations, and what training keeps.

Every figure is computed from the shapes, so that it holds for any model: 124,439,808 parameters, a file of
548 MB, a cache of 75.5 MB.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

from ..parameters import Config, parameter_shapes

FLOAT32 = 4  # bytes

# The family as it was published (Radford et al. 2019, table 2; distilgpt2: Sanh et al. 2019).
FAMILY = {
    "distilgpt2": Config(n_layer=6),
    "gpt2": Config(),
    "gpt2-medium": Config(n_layer=24, n_head=16, n_embd=1024),
    "gpt2-large": Config(n_layer=36, n_head=20, n_embd=1280),
    "gpt2-xl": Config(n_layer=48, n_head=25, n_embd=1600),
}


@dataclass(frozen=True)
class Part:
    """Some of the parameters: how many there are, and whence the number comes."""

    name: str  # as in the checkpoint
    count: int
    product: str  # of the shape, such as "50,257 × 768"
    times: int = 1  # how often the part is there: once in each block


def parts(config: Config) -> list[Part]:
    """The parameters by part, the parts of a block once for all blocks."""
    found = []
    for name, shape in parameter_shapes(replace(config, n_layer=1)).items():  # all blocks are alike
        in_block = name.startswith("h.")
        label = name.replace("h.0.", "h.*.") if in_block else name
        product = " × ".join(f"{size:,}" for size in shape)
        found.append(Part(label, prod(shape), product, config.n_layer if in_block else 1))
    return found


def n_parameters_of(config: Config) -> int:
    """How many numbers such a model learns; a head that is the embedding counts once."""
    return sum(part.count * part.times for part in parts(config))


def file_bytes(config: Config, masks: bool = False) -> int:
    """Bytes of the tensors in a float32 file, with the causal mask of each block that old files hold too."""
    mask = config.n_layer * config.n_positions**2 if masks else 0
    return FLOAT32 * (n_parameters_of(config) + mask)


def cache_bytes(config: Config, tokens: int) -> int:
    """Bytes of the keys and values of so many tokens, in float32."""
    return FLOAT32 * 2 * config.n_layer * config.n_embd * tokens


def operations(config: Config, keys: int) -> int:
    """Multiplications and additions for one token that sees so many keys, itself among them.

    A matrix costs two operations for each of its numbers. Attention compares the query with each key and
    adds up the values by their weights. What is elementwise (layer norm, softmax, GELU) is left out: it is
    under one per cent of the work on the official models.
    """
    block = 2 * config.n_embd * (4 * config.n_embd + 2 * config.mlp_width)
    attention = 2 * 2 * config.n_embd * keys
    head = 2 * config.n_embd * config.vocab_size
    return config.n_layer * (block + attention) + head


def activation_bytes(config: Config, tokens: int) -> int:
    """Bytes of the arrays that the gradients of one text of so many tokens need, in float32.

    Per token a block keeps its two inputs, both normalised copies with their scales, queries, keys, values,
    what they mixed, and the MLP's hidden units before and after the activation; and per token and head one
    weight for each key. The logits are made a few rows at a time and not kept.
    """
    block = 8 * config.n_embd + 2 * config.mlp_width + 2 + config.n_head * tokens
    return FLOAT32 * tokens * (config.n_layer * block + 2 * config.n_embd + 1)


def count_of(config: Config, prefix: str) -> int:
    """The parameters of one part, of a block those of one."""
    return sum(part.count for part in parts(config) if part.name.startswith(prefix))


FIGURES: dict[str, Callable[[Config], str]] = {
    "blocks": lambda config: f"{config.n_layer}",
    "heads per block": lambda config: f"{config.n_head}",
    "numbers per token (`n_embd`)": lambda config: f"{config.n_embd:,}",
    "token embedding": lambda config: f"{count_of(config, 'wte'):,}",
    "position embedding": lambda config: f"{count_of(config, 'wpe'):,}",
    "final layer norm": lambda config: f"{count_of(config, 'ln_f'):,}",
    "one block": lambda config: f"{count_of(config, 'h.'):,}",
    "**all parameters**": lambda config: f"**{n_parameters_of(config):,}**",
    "file, float32 (MB)": lambda config: f"{file_bytes(config) / 1e6:,.1f}",
    "the same with masks (MB)": lambda config: f"{file_bytes(config, masks=True) / 1e6:,.1f}",
    "cache per token (kB)": lambda config: f"{cache_bytes(config, 1) / 1e3:,.1f}",
    "cache in full (MB)": lambda config: f"{cache_bytes(config, 1024) / 1e6:,.1f}",
    "operations, first token (10⁹)": lambda config: f"{operations(config, 1) / 1e9:.2f}",
    "operations, token 1,024 (10⁹)": lambda config: f"{operations(config, 1024) / 1e9:.2f}",
    "kept to train 1,024 tokens (MB)": lambda config: f"{activation_bytes(config, 1024) / 1e6:,.0f}",
}

PAGE = """\
# How large is GPT-2?

Each figure is computed from the config alone; `minigpt sizes NAME` shows one model part by
part, and `minigpt/inspection/sizes.py` how it is counted. This page is made by
`python -m minigpt sizes --markdown`.

{table}
Why the file of `gpt2` has 548 MB and not 498: it also holds the causal mask of each of its 12
blocks, 1,024 × 1,024 numbers that are no parameters. An operation is one multiplication or one
addition.
"""


def family_page() -> str:
    """The official family in one table, as docs/numbers.md has it."""
    rows = {
        "": [f"`{name}`" for name in FAMILY],
        "---": ["---:"] * len(FAMILY),
        **{label: [figure(config) for config in FAMILY.values()] for label, figure in FIGURES.items()},
    }
    return PAGE.format(table="".join(f"| {label} | {' | '.join(cells)} |\n" for label, cells in rows.items()))
