"""What one forward pass leaves for the page: every named array at the last tokens, and what is said of it.

All numbers come through the model's hooks, from `wte` to `logits`. A written file and the live page hold the
same pieces; a file has fewer of them, and rounds the vectors inside the blocks to half precision.
"""

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ..cli.terminal import harmless
from ..hooks import Hook
from ..inspection.attribution import attribute
from ..inspection.intervention import chain
from ..inspection.lens import residual_names, unembed
from ..inspection.tracing import file_name, trace
from ..model import GPT2, softmax
from ..ranges import Number
from ..sampling import check_finite, probabilities
from ..scoring import largest

# The vectors of one position inside a block, in the order in which they come to be.
VECTORS = ("resid_pre", "ln_1", "attn.out", "resid_mid", "ln_2", "mlp.out", "resid_post")
STRONGEST, ON_THE_CURVE = 4, 64  # hidden units that are listed, and that are drawn on the activation's curve
WRITES = 3  # tokens that a hidden unit speaks for most
STEP_CHOICES = 8  # likeliest tokens that are kept of every recorded step


@dataclass(frozen=True)
class Pass:
    """What one forward pass left behind, for the last `size` tokens of its context."""

    ids: list[int]
    size: int
    arrays: dict[str, Float[np.ndarray, "..."]]  # by the hook's name; see `cropped`
    logits: Float[np.ndarray, " vocab"]

    @property
    def first(self) -> int:
        """The position of the first token that is kept."""
        return len(self.ids) - self.size


def run(model: GPT2, ids: list[int], most: int, hook: Hook | None = None, watch: Hook | None = None) -> Pass:
    """One forward pass, of which the last tokens are kept. `hook` may change it, `watch` may end it."""
    size = min(most, len(ids))
    kept: dict[str, np.ndarray] = {}

    def keep(name: str, array: np.ndarray) -> np.ndarray:
        if not name.endswith(("masked_scores", ".scale", "logits")):
            kept[name] = cropped(name, array, size)
        return array

    # A hook gets the logits of all tokens, as it would in model(ids, hook=hook).
    logits = model(ids, hook=chain(hook, watch, keep), logits_to_keep=0 if hook else 1)[-1]
    check_finite(logits)
    return Pass(ids, size, kept, logits)


def cropped(name: str, array: Float[np.ndarray, "..."], size: int) -> Float[np.ndarray, "..."]:
    """The array's last `size` tokens; of scores and weights, the half that is not masked."""
    if name.endswith(".attn.weights"):
        return packed(array, size)
    if name.endswith(".attn.scores"):
        return array[:, -size:, -size:][:, np.tri(size, dtype=bool)]
    tokens_last = name.endswith((".q", ".k", ".v", ".mixed"))
    rows = array[:, -size:] if tokens_last else array[-size:]
    return rows if rows.shape == array.shape else rows.copy()  # a view would keep a long text's array alive


def packed(
    weights: Float[np.ndarray, "n_head tokens tokens"], size: int
) -> Float[np.ndarray, "n_head packed"]:
    """The attention of the last `size` tokens, row by row, without the masked half.

    A row is what the token gives to all tokens before the last `size`, in one sum, and then to each of
    those up to itself; so every row still adds up to 1.
    """
    rows = weights[:, -size:]
    before = rows[..., :-size].sum(axis=-1, keepdims=True)
    square = np.concatenate([before, rows[..., -size:]], axis=-1)
    return square[:, np.tri(size, size + 1, 1, dtype=bool)]


# ------------------------------------------------------------------------------- numbers as the page has them


def numbers(array: Float[np.ndarray, "..."], half: bool = False) -> str:
    """The values as little-endian float32 (or float16) in base64: decimals, read as doubles, would differ."""
    with np.errstate(
        over="ignore"
    ):  # what float16 cannot hold is shown as infinite, and is said to be rounded
        little = np.ascontiguousarray(array, "<f2" if half else "<f4")
    return base64.b64encode(little.tobytes()).decode("ascii")


def flags(chosen: Int[np.ndarray, " chosen"], n: int) -> str:
    """A bit for each of `n` tokens, in base64."""
    bits = np.zeros(n, bool)
    bits[chosen] = True
    return base64.b64encode(np.packbits(bits).tobytes()).decode("ascii")


def overview(model: GPT2, p: Pass, prompt: str) -> dict[str, Any]:
    """One context's numbers that every view begins with: tokens, embeddings, attention, growth, logits."""
    layers = range(model.config.n_layer)
    return {
        "prompt": harmless(prompt),
        "tokens": p.ids,
        "first": p.first,  # position of the first token that the views show
        "attention": numbers(np.stack([p.arrays[f"h.{i}.attn.weights"] for i in layers])),
        "scores": numbers(np.stack([p.arrays[f"h.{i}.attn.scores"] for i in layers])),
        "growth": growth(model, p),
        "end": numbers(np.stack([p.arrays[f"h.{layers[-1]}.resid_post"][-1], p.arrays["ln_f"][-1]])),
        "logits": numbers(p.logits),
    }


def embeddings(p: Pass) -> dict[str, str]:
    """What each token is, and where it stands."""
    return {name: numbers(p.arrays[name]) for name in ("wte", "wpe")}


def shared_embeddings(passes: Sequence[Pass]) -> tuple[str, list[dict[str, list[int]]]]:
    """The same for several contexts of one model: each row once, and the numbers of every context's rows."""
    rows: dict[bytes, int] = {}
    places = [
        {
            name: [rows.setdefault(row.tobytes(), len(rows)) for row in p.arrays[name]]
            for name in ("wte", "wpe")
        }
        for p in passes
    ]
    return base64.b64encode(b"".join(rows)).decode("ascii"), places


def growth(model: GPT2, p: Pass) -> dict[str, str]:
    """The lengths of the stream at every depth and position, and of what each attention and MLP added."""

    def lengths(names: Iterable[str]) -> str:
        wide = (p.arrays[name].astype(np.float64) for name in names)  # in float32, squares overflow at 2e19
        return numbers(np.stack([np.linalg.norm(array, axis=-1) for array in wide]))

    layers = range(model.config.n_layer)
    return {
        "stream": lengths(residual_names(model)),
        "attention": lengths(f"h.{i}.attn.out" for i in layers),
        "mlp": lengths(f"h.{i}.mlp.out" for i in layers),
    }


def opened(model: GPT2, p: Pass, layer: int, position: int, first: int, half: bool = False) -> dict[str, Any]:
    """One block, opened: the vectors of one position, and q, k and v of all tokens from `first` on."""
    row, start = position - p.first, first - p.first
    inside = {name: p.arrays[f"h.{layer}.{name}"][row] for name in VECTORS}
    heads = {name: numbers(p.arrays[f"h.{layer}.attn.{name}"][:, start:], half) for name in "qkv"}
    mixed = p.arrays[f"h.{layer}.attn.mixed"][:, row]
    return {
        "half": half,
        "layer": layer,
        "position": position,
        "first": first,
        **heads,
        "vectors": numbers(np.stack(list(inside.values())), half),
        "mixed": numbers(mixed, half),
        "units": hidden_units(model, p, layer, row, half),
    }


def hidden_units(model: GPT2, p: Pass, layer: int, row: int, half: bool) -> dict[str, Any]:
    """The hidden units of an MLP that fire most at one position: their weights, and what they speak for."""
    pre, act = (p.arrays[f"h.{layer}.mlp.{name}"][row] for name in ("pre", "act"))
    order = np.argsort(-act, kind="stable")[: min(ON_THE_CURVE, act.size)]
    chosen = order[:STRONGEST]
    mlp = model.parameters.h[layer].mlp
    spoken = mlp.c_proj.weight[chosen] @ model.parameters.lm_head.T
    return {
        "count": act.size,
        "positive": int((act > 0).sum()),
        "ids": order.tolist(),
        "pre": numbers(pre[order]),
        "act": numbers(act[order]),
        "columns": numbers(mlp.c_fc.weight[:, chosen].T, half),
        "bias": numbers(mlp.c_fc.bias[chosen]),
        "writes": [spoken_for(logits) for logits in spoken],
        **({} if half else {"all": numbers(act)}),
    }


def spoken_for(logits: Float[np.ndarray, " vocab"]) -> list[int]:
    """The tokens that a hidden unit raises most; those of a large tie are tokens that nobody ever saw."""
    alike = np.isclose(logits, logits.max(), rtol=1e-5)
    return largest(np.where(alike & (alike.sum() > WRITES), -np.inf, logits), WRITES).tolist()


def lens(
    model: GPT2, p: Pass, watched: Int[np.ndarray, " watched"], check: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """The likeliest token at every depth and position, and the paths of many tokens at the last position.

    `check` may end it before every depth.
    """
    tokens, chances, last = [], [], []
    for name in residual_names(model):
        check()
        logits = unembed(model, p.arrays[name])
        tokens.append(logits.argmax(axis=-1))
        chances.append(softmax(logits).max(axis=-1))
        last.append(np.log(probabilities(logits[-1]) + 1e-300))
    # Every token that the table shows can be followed from there.
    watched = np.union1d(watched, np.unique(tokens))
    return {
        "tokens": np.stack(tokens).tolist(),
        "probabilities": numbers(np.stack(chances)),
        "watched": watched.tolist(),
        "logprobs": numbers(np.stack(last)[:, watched]),
    }


def parts(model: GPT2, ids: Sequence[int], token: int, hook: Hook | None = None) -> str:
    """What each part added to a token's logit: wte, wpe, heads, biases of c_proj, MLPs, bias of ln_f."""
    found = attribute(model, ids, token, hook=hook)
    sums = (found.embedding, found.heads, found.attention_bias, found.mlps, [found.final_bias + found.hook])
    return numbers(np.concatenate([np.ravel(part) for part in sums]))


def steps(model: GPT2, ids: list[int], new: Sequence[int], temperature: Number) -> list[dict[str, Any]]:
    """For each token that was generated: how likely it was, and what else was likely there."""
    fits = model.config.n_positions - len(ids) + 1
    taken = list(new)[:fits]
    if not taken:
        return []
    rows = model([*ids, *taken[:-1]], logits_to_keep=len(taken))
    found = []
    for token, row in zip(taken, rows, strict=True):
        chances, likeliest = probabilities(row, temperature), largest(row, STEP_CHOICES)
        choices = [[int(other), float(chances[other])] for other in likeliest]
        found.append({"id": token, "probability": float(chances[token]), "choices": choices})
    return found


# ----------------------------------------------------------------------------- parameters behind the numbers


def normalisers(model: GPT2, half: bool) -> str:
    """Gain and offset of every layer norm, in the order of the forward pass."""
    blocks = model.parameters.h
    norms = [*(norm for h in blocks for norm in (h.ln_1, h.ln_2)), model.parameters.ln_f]
    return numbers(np.stack([[norm.weight, norm.bias] for norm in norms]), half)


def rows_of(model: GPT2, tokens: Sequence[int]) -> dict[str, Any]:
    """The rows of the LM head of some tokens: a logit is the last vector times one of them."""
    return {"ids": list(tokens), "values": numbers(model.parameters.lm_head[list(tokens)])}


def column(model: GPT2, name: str, index: int) -> dict[str, str | float]:
    """The weights and the bias behind one number of a linear layer's result; `name` is the layer's.

    Raises `KeyError` for a name that is none, and `IndexError` for a column that is not there.
    """
    _, layer, part, linear = name.split(".")
    found = getattr(getattr(model.parameters.h[int(layer)], part), linear)
    return {"weights": numbers(found.weight[:, index]), "bias": float(found.bias[index])}


def same_rows(wte: Float[np.ndarray, "vocab n_embd"]) -> Int[np.ndarray, " tokens"]:
    """The largest set of tokens whose rows are one and the same; empty if every token has its own.

    Such tokens never occurred in training: weight decay or the push away from every text treated them alike.
    """
    _, groups, counts = np.unique(wte[:, :2], axis=0, return_inverse=True, return_counts=True)
    group = np.flatnonzero(groups.ravel() == counts.argmax())
    group = group[(wte[group] == wte[group[0]]).all(axis=-1)]
    return group if group.size > 1 else group[:0]


def lines(model: GPT2) -> dict[str, dict[str, str]]:
    """The line of code that hands each array to the hook; the blocks share theirs."""
    intermediates = trace(model, [0], names=()).intermediates
    return {
        name.replace("h.0.", "h.", 1): {
            "where": f"{file_name(found.path)}:{found.line}",
            "code": found.code,
        }
        for name, found in intermediates.items()
        if not name.startswith("h.") or name.startswith("h.0.")
    }
