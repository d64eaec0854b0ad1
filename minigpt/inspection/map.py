"""One table for five vocabularies: the paper, the checkpoint, minigpt's hooks, `transformers`, `model.py`.

What a stage is called in the paper and where it lives in `transformers` is written here; which line of
`model.py` makes it is read from a forward pass, so that it stays true when the code moves.
"""

from dataclasses import dataclass, replace

from .intervention import smallest_model
from .tracing import trace


@dataclass(frozen=True)
class Stage:
    """One array of the forward pass under all its names. In block names `*` is the number of the block."""

    term: str  # as in the papers: Radford et al. 2018 and 2019, Vaswani et al. 2017
    checkpoint: tuple[str, ...]  # the parameters that are used in this step
    hook: str
    transformers: (
        str  # the module of GPT2LMHeadModel whose output this is; in parentheses: inside that module
    )
    where: str = ""  # the line of model.py


BLOCK, ATTENTION, MLP = "transformer.h.*", "transformer.h.*.attn", "transformer.h.*.mlp"


def pair(name: str) -> tuple[str, ...]:
    """A module's two parameters."""
    return (f"{name}.weight", f"{name}.bias")


STAGES = (
    Stage("token embedding, W_e", ("wte.weight",), "wte", "transformer.wte"),
    Stage("position embedding, W_p", ("wpe.weight",), "wpe", "transformer.wpe"),
    Stage("residual stream into a block, h_(l-1)", (), "h.*.resid_pre", f"({BLOCK})"),
    Stage("standard deviation of a token's vector", (), "h.*.ln_1.scale", f"({BLOCK}.ln_1)"),
    Stage("layer normalization, before attention", pair("h.*.ln_1"), "h.*.ln_1", f"{BLOCK}.ln_1"),
    Stage("queries, Q", pair("h.*.attn.c_attn"), "h.*.attn.q", f"({ATTENTION}.c_attn)"),
    Stage("keys, K", pair("h.*.attn.c_attn"), "h.*.attn.k", f"({ATTENTION}.c_attn)"),
    Stage("values, V", pair("h.*.attn.c_attn"), "h.*.attn.v", f"({ATTENTION}.c_attn)"),
    Stage("scaled dot products, QK^T / sqrt(d_k)", (), "h.*.attn.scores", f"({ATTENTION})"),
    Stage("masked attention", (), "h.*.attn.masked_scores", f"({ATTENTION})"),
    Stage("attention weights, softmax", (), "h.*.attn.weights", f"({ATTENTION})"),
    Stage("heads, head_i", (), "h.*.attn.mixed", f"({ATTENTION})"),
    Stage("multi-head attention, Concat(head_i) W^O", pair("h.*.attn.c_proj"), "h.*.attn.out", ATTENTION),
    Stage("residual stream after attention", (), "h.*.resid_mid", f"({BLOCK})"),
    Stage("standard deviation of a token's vector", (), "h.*.ln_2.scale", f"({BLOCK}.ln_2)"),
    Stage("layer normalization, before the MLP", pair("h.*.ln_2"), "h.*.ln_2", f"{BLOCK}.ln_2"),
    Stage("feed-forward, xW_1 + b_1", pair("h.*.mlp.c_fc"), "h.*.mlp.pre", f"{MLP}.c_fc"),
    Stage("activation, GELU", (), "h.*.mlp.act", f"{MLP}.act"),
    Stage("feed-forward, gelu(...)W_2 + b_2", pair("h.*.mlp.c_proj"), "h.*.mlp.out", MLP),
    Stage("residual stream out of a block, h_l", (), "h.*.resid_post", BLOCK),
    Stage("standard deviation of a token's vector", (), "ln_f.scale", "(transformer.ln_f)"),
    Stage("layer normalization after the last block", pair("ln_f"), "ln_f", "transformer.ln_f"),
    Stage("logits, h_n W_e^T", ("wte.weight",), "logits", "lm_head"),
)


def stages() -> list[Stage]:
    """The stages in the order of the forward pass, with the lines of `model.py`."""
    made = trace(smallest_model(n_layer=1), [0]).intermediates
    return [replace(stage, where=made[stage.hook.replace("*", "0")].where) for stage in STAGES]


def markdown() -> str:
    """The table as docs/map.md has it."""
    head = (
        "# One thing, five names\n\n"
        "What the paper calls it, which parameters of the checkpoint it takes, at which hook minigpt shows "
        "it, which module of `transformers` computes it (in parentheses: inside which), and on which line of "
        "`model.py` it is made, in the order of the forward pass. `*` is the number of a block.\n\n"
        "Made by `python -m minigpt map --markdown`.\n\n"
        "| term | checkpoint | hook | `transformers` | line |\n|---|---|---|---|---|\n"
    )
    return head + "".join(map(_markdown_row, stages()))


def _markdown_row(stage: Stage) -> str:
    checkpoint = "<br>".join(f"`{name}`" for name in stage.checkpoint)
    link = f"[{stage.where}](../minigpt/model.py#L{stage.where.partition(':')[2]})"
    return f"| {stage.term} | {checkpoint} | `{stage.hook}` | `{stage.transformers}` | {link} |\n"
