"""GPT-2, from token ids to logits, in the order in which the data flows.

    ids ─ embedding ─ block 0 ─ block 1 ─ … ─ final layer norm ─ LM head ─ logits

Each token becomes a vector, which is carried through the blocks as the *residual stream* (`x` below):
every attention and every MLP reads a normalised copy of it and adds its answer back. Attention is the
only part that moves information between tokens; everything else treats each token by itself. At the end
the LM head compares the vector with every token of the vocabulary, and these scores are the logits.

Parameters keep the names of the official checkpoint (`wte`, `h[3].attn.c_attn.weight`, `ln_f`). Shapes
stand in the signatures, and the test suite checks them; `*batch` is any number of dimensions, or none.
Sources: Radford et al. 2019, section 2.3; openai/gpt-2, model.py; transformers, modeling_gpt2.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Union

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from .activations import OTHER_ACTIVATIONS
from .checks import batch_shape, check_config, checked_ids
from .hooks import Hook, checked_hook, within

Ids = Int[np.ndarray, "*batch tokens"]
Residual = Float[np.ndarray, "*batch tokens n_embd"]
Hidden = Float[np.ndarray, "*batch tokens mlp_width"]
Heads = Float[np.ndarray, "*batch n_head tokens head_dim"]
Keys = Float[np.ndarray, "*batch n_head n_keys head_dim"]  # or values: of all tokens so far
Visible = Bool[np.ndarray, "*#batch 1 tokens n_keys"]
Cache = Union["KVCache", None]


@dataclass(frozen=True)
class Config:
    """The numbers that define a GPT-2, with the names and defaults of `transformers.GPT2Config`."""

    vocab_size: int = 50257  # tokens the model knows: 256 bytes + 50,000 merges + <|endoftext|>
    n_positions: int = 1024  # longest context, in tokens
    n_embd: int = 768  # length of a token's vector: the width of the residual stream
    n_layer: int = 12  # blocks
    n_head: int = 12  # attention heads per block
    n_inner: int | None = None  # width inside the MLP; None is 4 * n_embd
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True  # the LM head is the token embedding itself

    def __post_init__(self) -> None:
        check_config(self, ACTIVATIONS)

    @property
    def head_dim(self) -> int:
        """Length of one head's query, key and value vectors."""
        return self.n_embd // self.n_head

    @property
    def mlp_width(self) -> int:
        """Number of hidden units in each MLP."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    def attention_scale(self, layer: int) -> float:
        """The factor on query-key products; without it their spread would grow with `head_dim`."""
        scale = self.head_dim**-0.5 if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale


@dataclass(frozen=True, eq=False)
class LayerNorm:
    weight: Float[np.ndarray, " n_embd"]
    bias: Float[np.ndarray, " n_embd"]


@dataclass(frozen=True, eq=False)
class Linear:
    weight: Float[np.ndarray, "n_in n_out"]  # (in, out) as TensorFlow had it; torch's own is (out, in)
    bias: Float[np.ndarray, " n_out"]


@dataclass(frozen=True, eq=False)
class Attention:
    c_attn: Linear  # n_embd -> 3 * n_embd: queries, keys and values side by side
    c_proj: Linear  # n_embd -> n_embd: the heads' answers, back into the residual stream


@dataclass(frozen=True, eq=False)
class MLP:
    c_fc: Linear  # n_embd -> mlp_width
    c_proj: Linear  # mlp_width -> n_embd


@dataclass(frozen=True, eq=False)
class Block:
    ln_1: LayerNorm
    attn: Attention
    ln_2: LayerNorm
    mlp: MLP


@dataclass(frozen=True, eq=False)
class Parameters:
    """Everything that training found. The arrays share one dtype, and the arithmetic follows it."""

    wte: Float[np.ndarray, "vocab n_embd"]  # word token embedding: one row per token
    wpe: Float[np.ndarray, "n_positions n_embd"]  # word position embedding: one row per position
    h: tuple[Block, ...]  # the hidden layers
    ln_f: LayerNorm  # the final layer norm
    lm_head: Float[np.ndarray, "vocab n_embd"]  # `wte` itself, if the config ties them


class KVCache:
    """Keys and values of the tokens seen so far: the one object that a call to the model changes."""

    def __init__(self, config: Config, batch: tuple[int, ...], dtype: np.dtype) -> None:
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


def embed(ids: Ids, positions: Int[np.ndarray, "*#batch tokens"], p: Parameters, hook: Hook) -> Residual:
    """What a token is, plus where it stands: one row of each table."""
    return hook("wte", p.wte[ids]) + hook("wpe", p.wpe[positions])


def layer_norm(x: Residual, p: LayerNorm, epsilon: float, hook: Hook, name: str) -> Residual:
    """Bring each token's vector to mean 0 and variance 1, then apply the learnt gain and offset."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)  # over n_embd, not n_embd - 1
    scale = hook(f"{name}.scale", np.sqrt(variance + epsilon))  # epsilon stands under the root
    return hook(name, centred / scale * p.weight + p.bias)


def linear(x: Float[np.ndarray, "*batch n_in"], p: Linear) -> Float[np.ndarray, "*batch n_out"]:
    """x W + b."""
    return x @ p.weight + p.bias


def split_heads(x: Residual, n_head: int) -> Heads:
    """Cut each token's vector into one piece per head."""
    return x.reshape(*x.shape[:-1], n_head, -1).swapaxes(-2, -3)


def merge_heads(mixed: Heads) -> Residual:
    """Put the heads' pieces side by side again."""
    return mixed.swapaxes(-2, -3).reshape(*mixed.shape[:-3], mixed.shape[-2], -1)


def softmax(scores: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
    """Scores to probabilities. Taking off the largest changes nothing, but exp cannot overflow then."""
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def attention(
    x: Residual, p: Attention, config: Config, layer: int, visible: Visible, cache: Cache, hook: Hook
) -> Residual:
    """Each token asks (q) what stands before it (k), and takes a weighted mean of what is there (v)."""
    q, k, v = (split_heads(part, config.n_head) for part in np.split(linear(x, p.c_attn), 3, axis=-1))
    q, k, v = hook("q", q), hook("k", k), hook("v", v)
    if cache is not None:
        k, v = cache.extend(layer, k, v)
    scores = hook("scores", q @ k.swapaxes(-1, -2) * config.attention_scale(layer))
    masked_scores = hook("masked_scores", np.where(visible, scores, -np.inf))
    weights = hook("weights", softmax(masked_scores))  # exp(-inf) is 0: what is masked has no weight
    mixed = hook("mixed", weights @ v)
    return hook("out", linear(merge_heads(mixed), p.c_proj))


def gelu_new(x: Hidden) -> Hidden:
    """GPT-2's activation: the tanh formula for GELU (Hendrycks & Gimpel 2016), not the exact erf."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))))


ACTIVATIONS = {"gelu_new": gelu_new, "gelu_pytorch_tanh": gelu_new, **OTHER_ACTIVATIONS}


def mlp(x: Residual, p: MLP, config: Config, hook: Hook) -> Residual:
    """Work on each token by itself: widen, bend, narrow."""
    pre = hook("pre", linear(x, p.c_fc))
    act = hook("act", ACTIVATIONS[config.activation_function](pre))
    return hook("out", linear(act, p.c_proj))


def block(
    x: Residual, p: Block, config: Config, layer: int, visible: Visible, cache: Cache, hook: Hook
) -> Residual:
    """Attention, then MLP. Layer norm stands *before* each, and each adds its answer to x itself."""
    x = hook("resid_pre", x)
    ln_1 = layer_norm(x, p.ln_1, config.layer_norm_epsilon, hook, "ln_1")
    x = hook("resid_mid", x + attention(ln_1, p.attn, config, layer, visible, cache, within("attn", hook)))
    ln_2 = layer_norm(x, p.ln_2, config.layer_norm_epsilon, hook, "ln_2")
    return hook("resid_post", x + mlp(ln_2, p.mlp, config, within("mlp", hook)))


@dataclass(frozen=True, eq=False)
class GPT2:
    """A config and its parameters. Calling it maps ids to logits and changes nothing but the cache."""

    config: Config
    parameters: Parameters = field(repr=False)
    block: Callable[..., np.ndarray] = field(default=block, repr=False)  # try another: see what changes

    @np.errstate(all="ignore")  # of weights near the float32 limit, of a scale set to 0: sampling refuses
    def __call__(
        self, ids: ArrayLike, *, cache: Cache = None, hook: Hook | None = None, logits_to_keep: int = 0
    ) -> Float[np.ndarray, "*batch kept vocab"]:
        """The logits that follow each token: `logits[..., t, :]` scores every candidate for token t + 1.

        `ids` is (tokens,) or (batch, tokens); with a `cache` they continue the tokens in it.
        `logits_to_keep` > 0 computes only the last so many rows. Raises `InputError` for impossible ids.
        """
        p, config = self.parameters, self.config
        ids = checked_ids(ids, config, cache, p.wte.dtype, logits_to_keep)
        if hook is None and self.block is block:
            from .fast import forward  # the same, arranged for speed

            return forward(ids, p, config, cache, logits_to_keep)
        hook = checked_hook(hook)
        positions = (cache.lengths[..., None] if cache else 0) + np.arange(ids.shape[-1])
        # Causality: a query at position t sees the keys at positions 0 to t, and nothing that comes later.
        visible = np.arange(positions.max() + 1) <= positions[..., None, :, None]
        x = embed(ids, positions, p, hook)
        for layer, h in enumerate(p.h):
            x = self.block(x, h, config, layer, visible, cache, within(f"h.{layer}", hook))
        x = layer_norm(x, p.ln_f, config.layer_norm_epsilon, hook, "ln_f")[..., -logits_to_keep:, :]
        # A token's logit is the dot product of the last vector with that token's own row of wte.
        logits = hook("logits", x @ p.lm_head.T)
        if cache is not None:
            cache.lengths += ids.shape[-1]
        return logits

    def new_cache(self, batch: int | None = None) -> KVCache:
        """An empty cache for one sequence, or for a batch of them."""
        return KVCache(self.config, batch_shape(batch), self.parameters.wte.dtype)
