"""GPT-2, from token ids to logits, in the order in which the data flows.

    ids ─ embedding ─ block 0 ─ block 1 ─ … ─ final layer norm ─ LM head ─ logits

Each token becomes a vector, which is carried through the blocks as the *residual stream* (`x` below):
every attention and every MLP reads a normalised copy of it and adds its answer back. Attention is the
only part that moves information between tokens; everything else treats each token by itself. At the end
the LM head compares the vector with every token of the vocabulary, and these scores are the logits.

Parameters keep the names of the official checkpoint (`wte`, `h[3].attn.c_attn.weight`, `ln_f`); what each
is stands in `parameters.py`. Shapes stand in the signatures, and the test suite checks them: `*batch` is
any number of dimensions, or none, and `#` marks a dimension that may be 1, to be repeated for all.
What you change here is what runs: the shipped code has a faster twin in `fast.py`, which steps aside.
Sources: Radford et al. 2019, section 2.3; openai/gpt-2, model.py; transformers, modeling_gpt2.py.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Union

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike, DTypeLike

from . import activations, checks
from .hooks import Hook, checked_hook, within
from .parameters import (
    MLP,
    Attention,
    Block,
    Config,
    LayerNorm,
    Linear,
    Parameters,
    arrays_by_name,
    build,
    copies,
    initial_values,
    read_only,
    transform,
)

Ids = Int[np.ndarray, "*batch tokens"]
Positions = Int[np.ndarray, "*#batch tokens"]
Residual = Float[np.ndarray, "*batch tokens n_embd"]  # the residual stream
Vectors = Float[np.ndarray, "*batch tokens n_embd"]  # other vectors of that length, one per token
Hidden = Float[np.ndarray, "*batch tokens mlp_width"]
Heads = Float[np.ndarray, "*batch n_head tokens head_dim"]
Keys = Float[np.ndarray, "*batch n_head n_keys head_dim"]  # or values: of all tokens so far
Visible = Bool[np.ndarray, "*#batch 1 tokens n_keys"]
Weights = Float[np.ndarray, "*batch n_head tokens n_keys"]
Cache = Union["KVCache", None]


@dataclass(frozen=True, eq=False)
class Call:
    """One forward pass: what all of its blocks share."""

    config: Config
    positions: Positions
    visible: Visible
    cache: Cache
    hook: Hook

    def within(self, part: str) -> "Call":
        """The same for one part of the model, whose arrays the hook sees under that part's name."""
        return replace(self, hook=within(part, self.hook))


def embed(ids: Ids, positions: Positions, p: Parameters, hook: Hook) -> Residual:
    """What a token is, plus where it stands: one row of each table."""
    return hook("wte", p.wte[ids]) + hook("wpe", p.wpe[positions])


def layer_norm(x: Vectors, p: LayerNorm, epsilon: float, hook: Hook, name: str) -> Vectors:
    """Bring each token's vector to mean 0 and variance 1, then apply the learnt gain and offset."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)  # over n_embd, not n_embd - 1
    scale = hook(f"{name}.scale", np.sqrt(variance + epsilon))  # epsilon stands under the root
    return hook(name, centred / scale * p.weight + p.bias)


def linear(x: Float[np.ndarray, "*batch n_in"], p: Linear) -> Float[np.ndarray, "*batch n_out"]:
    """x W + b."""
    return x @ p.weight + p.bias


def split_heads(x: Vectors, n_head: int) -> Heads:
    """Cut each token's vector into one piece per head."""
    return x.reshape(*x.shape[:-1], n_head, -1).swapaxes(-2, -3)


def merge_heads(mixed: Heads) -> Vectors:
    """Put the heads' pieces side by side again."""
    return mixed.swapaxes(-2, -3).reshape(*mixed.shape[:-3], mixed.shape[-2], -1)


def causal_mask(positions: Positions) -> Visible:
    """Which keys a query may see: a token at position t those at 0 to t, and nothing that comes later."""
    return np.arange(positions.max() + 1) <= positions[..., None, :, None]


def softmax(scores: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
    """Scores to probabilities. Taking off the largest changes nothing, but exp cannot overflow then."""
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def attention_weights(q: Heads, k: Keys, scale: float, visible: Visible, hook: Hook) -> Weights:
    """How much each token takes from each: query · key, times the scale 1/√head_dim, as shares of 1."""
    scores = hook("scores", q @ k.swapaxes(-1, -2) * scale)
    masked_scores = hook("masked_scores", np.where(visible, scores, -np.inf))
    return hook("weights", softmax(masked_scores))  # exp(-inf) is 0: what is masked has no weight


def attention(x: Vectors, p: Attention, layer: int, call: Call) -> Vectors:
    """Each token asks (q) those up to itself (k), and takes a weighted mean of what they offer (v)."""
    config, hook = call.config, call.hook
    q, k, v = (split_heads(part, config.n_head) for part in np.split(linear(x, p.c_attn), 3, axis=-1))
    q, k, v = hook("q", q), hook("k", k), hook("v", v)
    if call.cache is not None:
        k, v = call.cache.extend(layer, k, v)
    weights = attention_weights(q, k, config.attention_scale(layer), call.visible, hook)
    mixed = hook("mixed", weights @ v)
    return hook("out", linear(merge_heads(mixed), p.c_proj))


def gelu_new(x: Hidden) -> Hidden:
    """GPT-2's activation: the tanh formula for GELU (Hendrycks & Gimpel 2016), within 0.0005 of the exact."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))))


def activation(name: str) -> Callable[[Hidden], Hidden]:
    """The function that a config names; all but GPT-2's own stand in `activations.py`."""
    return gelu_new if name in ("gelu_new", "gelu_pytorch_tanh") else getattr(activations, name)


def mlp(x: Vectors, p: MLP, call: Call) -> Vectors:
    """Work on each token by itself: widen, bend, narrow."""
    pre = call.hook("pre", linear(x, p.c_fc))
    act = call.hook("act", activation(call.config.activation_function)(pre))
    return call.hook("out", linear(act, p.c_proj))


def block(x: Residual, p: Block, layer: int, call: Call) -> Residual:
    """Attention, then MLP. Layer norm stands *before* each, and each adds its answer to x itself."""
    hook, epsilon = call.hook, call.config.layer_norm_epsilon
    x = hook("resid_pre", x)
    ln_1 = layer_norm(x, p.ln_1, epsilon, hook, "ln_1")
    x = hook("resid_mid", x + attention(ln_1, p.attn, layer, call.within("attn")))
    ln_2 = layer_norm(x, p.ln_2, epsilon, hook, "ln_2")
    return hook("resid_post", x + mlp(ln_2, p.mlp, call.within("mlp")))


@dataclass(frozen=True, eq=False, repr=False)
class GPT2:
    """A config and its parameters. Calling it maps ids to logits and changes nothing but the cache."""

    config: Config
    parameters: Parameters
    block: Callable[..., Any] | None = None  # runs instead of the one above

    def __repr__(self) -> str:
        c = self.config
        layers = f"{c.n_layer} blocks of {c.n_embd} numbers, {c.n_head} heads"
        return f"GPT2({n_parameters(self):,} parameters: {layers}, {c.n_positions:,} positions)"

    @np.errstate(all="ignore")  # what overflows shows in the logits, and sampling refuses it
    def __call__(
        self, ids: ArrayLike, *, cache: Cache = None, hook: Hook | None = None, logits_to_keep: int = 0
    ) -> Float[np.ndarray, "*batch kept vocab"]:
        """The logits that follow each token: `logits[..., t, :]` scores every candidate for token t + 1.

        `ids` is (tokens,) or (batch, tokens); with a `cache` they continue the tokens in it.
        `logits_to_keep` > 0 computes only the last so many rows. Raises `InputError` for impossible ids.
        """
        p, config, hook = self.parameters, self.config, checked_hook(hook)
        ids = checks.checked_ids(ids, config, cache, p.wte.dtype, logits_to_keep)
        positions = (cache.lengths[..., None] if cache else 0) + np.arange(ids.shape[-1])
        call = Call(config, positions, causal_mask(positions), cache, hook)
        x = embed(ids, positions, p, hook)
        for layer, h in enumerate(p.h):
            x = (self.block or block)(x, h, layer, call.within(f"h.{layer}"))
        x = layer_norm(x, p.ln_f, config.layer_norm_epsilon, hook, "ln_f")
        # A token's logit is the dot product of the last vector with that token's own row of the head, which
        # in GPT-2 is `wte`. With `logits_to_keep` 0 all rows stay, because x[-0:] is the whole of x.
        logits = hook("logits", x[..., -logits_to_keep:, :] @ p.lm_head.T)
        if cache is not None:
            cache.lengths += ids.shape[-1]
        return logits

    def new_cache(self, batch: int | None = None) -> "KVCache":
        """An empty cache for one sequence, or for a batch of them."""
        return KVCache(self.config, checks.batch_shape(batch), self.parameters.wte.dtype)

    @classmethod
    def random(cls, config: Config, seed: int = 0) -> "GPT2":
        """A model that has learnt nothing: GPT-2's own initialisation, in float32."""
        return cls(config, build(config, initial_values(config, seed)))

    @classmethod
    def from_arrays(cls, config: Config, arrays: Mapping[str, ArrayLike]) -> "GPT2":
        """A model of copies of these arrays, by checkpoint name: what `named_parameters` gives, or a state
        dict. Raises `CheckpointError` for an array that is missing, superfluous or of another shape.
        """
        return cls(config, build(config, copies(config, arrays)))

    def astype(self, dtype: DTypeLike) -> "GPT2":
        """The same model in float32 or float64, which tells the formula apart from its rounding."""
        wanted = checks.checked_dtype(dtype)
        cast = transform(self.parameters, lambda _name, array: read_only(array.astype(wanted)))
        return replace(self, parameters=cast)

    def crop(self, n_positions: int) -> "GPT2":
        """The same model with a shorter context: its first positions, and the computation is the same."""
        config = replace(self.config, n_positions=checks.checked_n_positions(n_positions, self.config))
        wpe = self.parameters.wpe[:n_positions]
        return replace(self, config=config, parameters=replace(self.parameters, wpe=wpe))


class KVCache:
    """Keys and values of the tokens seen so far: the one object that a call to the model changes.

    They stay valid because attention is causal: a token that comes later changes nothing before it. For
    each token it holds 2 * n_layer * n_embd numbers, on the 124M model 73,728 bytes.
    """

    def __init__(self, config: Config, batch: tuple[int, ...], dtype: DTypeLike) -> None:
        checks.check_cache(config, batch)
        dtype = checks.checked_dtype(dtype)
        shape = (config.n_layer, *batch, config.n_head, config.n_positions, config.head_dim)
        # Zeros, because a masked key has weight 0, and 0 times an uninitialised NaN would be NaN.
        self.keys, self.values = np.zeros(shape, dtype), np.zeros(shape, dtype)
        # The tokens of each row; after a call on right-padded prompts, set the true numbers.
        self.lengths: Int[np.ndarray, "*batch"] = np.zeros(batch, np.int64)

    def extend(self, layer: int, k: Heads, v: Heads) -> tuple[Keys, Keys]:
        """Write the keys and values of new tokens behind the old; return those of all."""
        keys, values = self.keys[layer], self.values[layer]
        for row in np.ndindex(self.lengths.shape):
            new = slice(self.lengths[row], self.lengths[row] + k.shape[-2])
            keys[row][:, new], values[row][:, new] = k[row], v[row]
        n_keys = self.lengths.max() + k.shape[-2]
        return keys[..., :n_keys, :], values[..., :n_keys, :]

    def rewind(self, length: int) -> None:
        """Forget every token from position `length` on; the next call writes over them."""
        self.lengths[...] = np.minimum(self.lengths, checks.checked_length(length))

    def reorder(self, rows: ArrayLike) -> None:
        """Put copies of these rows of a batch in place of all rows: beam search follows its best beams."""
        rows = checks.checked_rows(rows, self.lengths.shape)
        for array in (self.keys, self.values):
            seen = array[..., : self.lengths.max(), :]
            seen[...] = seen[:, rows]
        self.lengths[...] = self.lengths[rows]


@checks.checked_classes
def named_parameters(model: GPT2) -> dict[str, np.ndarray]:
    """Every parameter by its checkpoint name, C-contiguous as writers expect; a tied head is listed once."""
    arrays = arrays_by_name(model.parameters)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def n_parameters(model: GPT2) -> int:
    """How many numbers the model has learnt; a head that is the embedding counts once."""
    return sum(array.size for array in arrays_by_name(model.parameters).values())
