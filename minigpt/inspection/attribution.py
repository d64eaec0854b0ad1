"""One logit as a sum: what the embedding, every head and every MLP contributed to it.

The residual stream at the end is a sum: the embedding, plus what each head and each MLP added. The LM head
is linear. Only the final layer norm stands between, and it divides by a number, its scale; with that number
taken as given, the logit is the sum of each part's own share:

    logit = Σ (part - mean(part)) / scale * ln_f.weight · head  +  ln_f.bias · head

where `head` is the token's row of `lm_head`. The shares say what was added, not what would happen without
it: for that, ablate.

References: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"; direct logit
attribution in TransformerLens.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..checks import checked_classes, checked_position
from ..errors import InputError
from ..hooks import Hook
from ..model import GPT2
from ..parameters import Block
from .intervention import check_index
from .notebook import html_table
from .tracing import Trace, trace

KEPT = ("wte", "wpe", "h.*.attn.mixed", "h.*.mlp.out", "ln_f.scale", "logits")


@dataclass(frozen=True)
class Attribution:
    """A logit and its parts. Every head's own share includes its value bias, every MLP's its biases.

    The bias of `attn.c_proj` belongs to no head and is counted apart, as are the bias of the final layer
    norm and, if the pass was changed by a hook, what of the logit is in no part: of a change to the residual
    stream itself, for instance. Where the change went through the parts this is rounding.
    """

    token: int  # whose logit
    against: int | None  # minus whose logit, if any
    position: int  # the token that the logit follows, counted from 0
    logit: float  # as the model computed it
    embedding: Float[np.ndarray, " 2"]  # token, position
    heads: Float[np.ndarray, "n_layer n_head"]
    attention_bias: Float[np.ndarray, " n_layer"]
    mlps: Float[np.ndarray, " n_layer"]
    final_bias: float  # ln_f.bias · head
    hook: float  # 0 without a hook

    @property
    def parts(self) -> dict[str, float]:
        """All shares by name, in the order of the forward pass."""
        parts = {"wte": float(self.embedding[0]), "wpe": float(self.embedding[1])}
        for layer, heads in enumerate(self.heads):
            parts |= {f"h.{layer}.attn.head.{head}": float(share) for head, share in enumerate(heads)}
            parts[f"h.{layer}.attn.c_proj.bias"] = float(self.attention_bias[layer])
            parts[f"h.{layer}.mlp"] = float(self.mlps[layer])
        parts["ln_f.bias"] = self.final_bias
        return parts | ({"hook": self.hook} if self.hook else {})

    @property
    def total(self) -> float:
        """The sum of the parts: the logit, but for rounding."""
        return sum(self.parts.values())

    def __repr__(self) -> str:
        what = f"token {self.token}" + ("" if self.against is None else f" minus token {self.against}")
        largest = sorted(self.parts.items(), key=lambda part: -abs(part[1]))[:5]
        shares = ", ".join(f"{name} {share:+.2f}" for name, share in largest)
        return f"Attribution({what} after position {self.position}: {self.logit:.3f}; {shares}, ...)"

    def _repr_html_(self) -> str:
        """The parts, the largest first."""
        parts = sorted(self.parts.items(), key=lambda part: -abs(part[1]))
        return html_table(["part", "share"], [(name, f"{share:+.4f}") for name, share in parts])


@checked_classes
@np.errstate(all="ignore")  # as in the model itself
def attribute(
    model: GPT2,
    ids: ArrayLike,
    token: int | None = None,
    *,
    against: int | None = None,
    position: int = -1,
    hook: Hook | None = None,
) -> Attribution:
    """Take the logit that `token` gets after `position` apart; without a token, the likeliest one's.

    With `against`, the difference of two logits: what speaks for one token and not for the other. Raises
    `InputError` for a batch, and for a token or position that does not exist.
    """
    passed = trace(model, ids, names=KEPT, hook=hook)
    position = _checked(model, passed, position, {"token": token, "against": against})
    logits = passed["logits"][position]
    token = int(logits.argmax()) if token is None else token
    p = model.parameters
    head = p.lm_head[token].astype(np.float64)
    if against is not None:
        head = head - p.lm_head[against]
    # What one unit of each direction of the residual stream adds to the logit. Subtracting the mean of
    # this vector does the same as subtracting the mean of everything that it is multiplied with.
    direction = p.ln_f.weight * head / passed["ln_f.scale"][position]
    direction = direction - direction.mean()
    embedding = np.stack([passed["wte"][position], passed["wpe"][position]]) @ direction
    mixed = passed.stack("h.*.attn.mixed")[:, :, position]
    heads = np.stack([_heads(*pair, direction) for pair in zip(mixed, p.h, strict=True)])
    attention_bias = np.stack([h.attn.c_proj.bias for h in p.h]) @ direction
    mlps = passed.stack("h.*.mlp.out")[:, position] @ direction
    final_bias = float(p.ln_f.bias @ head)
    logit = float(logits[token]) - (0.0 if against is None else float(logits[against]))
    total = sum(float(part.sum()) for part in (embedding, heads, attention_bias, mlps)) + final_bias
    changed = 0.0 if hook is None else logit - total
    return Attribution(
        token, against, position, logit, embedding, heads, attention_bias, mlps, final_bias, changed
    )


def _heads(
    mixed: Float[np.ndarray, "n_head head_dim"], h: Block, direction: Float[np.ndarray, " n_embd"]
) -> Float[np.ndarray, " n_head"]:
    """Each head's way to the logit: through its own rows of c_proj."""
    reads = (h.attn.c_proj.weight @ direction).reshape(mixed.shape)
    return (mixed * reads).sum(axis=-1)


def _checked(model: GPT2, passed: Trace, position: int, tokens: dict[str, int | None]) -> int:
    """The position counted from 0, if it and the tokens exist."""
    if passed.ids.ndim != 1:
        raise InputError(f"ids: found shape {passed.ids.shape}; give the ids of one text, (tokens,).")
    for name, token in tokens.items():
        if token is not None:
            check_index(name, token, model.config.vocab_size, "token")
    return checked_position(position, passed.ids.size)
