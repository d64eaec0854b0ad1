"""The forward pass of `model.py` once more, arranged for speed; a test proves the two equal.

The arithmetic is the same, so read `model.py` to understand GPT-2 and this file to understand what makes
NumPy fast. `minigpt.load` returns a `FastGPT2`, which computes here what a call without a hook asks for, as
long as `model.py` is the file that this one was proven equal to. What differs, and what it is worth on a 124M
model (docs/benchmarks.md has the measurements):

- All rows are one matrix. NumPy multiplies a stack of matrices one by one, which for a batch would read
  every weight once per row; flattened to (rows, n_embd) it is read once.
- Up to four rows go through the matrix-vector kernel, which streams a weight once per row. The
  matrix-matrix kernel first copies the weight into its own layout, which only pays for more rows.
- Five to twelve rows meet a third kernel where OpenBLAS has one (AVX-512): it takes small matrices as they
  lie in memory. So a weight goes piece by piece, on all cores, which makes a batch of 8 1.4 times as fast.
- Attention goes by blocks of queries, and a block's scores end at its last query: the half that the
  causal mask would hide is never computed, and what is computed stays in the processor's cache.
- Elementwise functions write into their input or a buffer, block by block. A pass over memory that does
  not fit the cache costs more than the arithmetic.
"""

import hashlib
import inspect
import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from . import model
from .checks import checked_ids
from .errors import notice
from .hooks import Hook
from .model import GPT2, Cache, Heads, Keys
from .parallel import has_small_kernel, in_parallel
from .parameters import MLP, Config, LayerNorm, Linear, Parameters

Rows = Float[np.ndarray, "rows n_embd"]

GEMV_ROWS = 4  # up to so many rows the matrix-vector kernel is as fast, and rounds less
GEMV_FLOATS = 900_000  # numbers of a weight that stay cached from one row to the next
PIECE_ROWS = 12  # up to so many rows, pieces of a weight that need not be copied first are quicker
PIECE = 900_000  # rows x columns x depth of such a piece; BLAS copies from a million on
PIECE_DEPTH = 768  # its depth where columns lie along memory; longer ones are slow
DEPTH_RUNS, COLUMN_RUNS = 4, 8  # runs of pieces, each for one core
QUERY_BLOCK = 128  # queries per block of attention
CACHE_FLOATS = 1 << 17  # numbers per block of elementwise work: half a megabyte, half of a common L2 cache

# The sha256 of the model.py that this file was proven equal to, newlines as on Linux. Whoever changes both
# files runs the tests that compare them and then writes down the new sum, which a failing test tells.
PROVEN_EQUAL_TO = "ea31fd52b5fd4f2c9cc1ff21790a1b95bb7482e5a3cba1d67fe109c0a16b7a8a"
# What a reader may replace while the program runs, as in `minigpt.model.attention = mine`.
STANDS_IN_FOR = {
    name: vars(model)[name]
    for name in (
        "embed", "layer_norm", "linear", "split_heads", "merge_heads", "causal_mask", "softmax",
        "attention_weights", "attention", "gelu_new", "activation", "mlp", "block", "Call",
    )
}  # fmt: skip
CALL = GPT2.__call__


class FastGPT2(GPT2):
    """A GPT-2 that takes this file's way while that is the same as what `model.py` says."""

    @np.errstate(all="ignore")
    def __call__(
        self, ids: ArrayLike, *, cache: Cache = None, hook: Hook | None = None, logits_to_keep: int = 0
    ) -> Float[np.ndarray, "*batch kept vocab"]:
        """As `GPT2.__call__`, which computes it where a hook looks on or anything has been changed."""
        changed = changes(self)
        if changed:
            say_once(", ".join(changed))
        elif hook is None:
            p = self.parameters
            checked = checked_ids(ids, self.config, cache, p.wte.dtype, logits_to_keep)
            return forward(checked, p, self.config, cache, logits_to_keep)
        return super().__call__(ids, cache=cache, hook=hook, logits_to_keep=logits_to_keep)


def changes(gpt2: GPT2) -> list[str]:
    """What of the plain forward pass is no longer what this file stands in for."""
    changed = [name for name, function in STANDS_IN_FOR.items() if vars(model).get(name) is not function]
    if GPT2.__call__ is not CALL:
        changed.append("GPT2.__call__")
    if gpt2.block is not None and gpt2.block is not STANDS_IN_FOR["block"]:
        changed.append("this model's block")
    return changed if is_proven() else ["model.py", *changed]


@lru_cache(maxsize=1)
def is_proven() -> bool:
    """Whether the running model.py is the proven one: its text, and its functions as it defines them."""
    try:
        text = inspect.getsource(model)
    except OSError:  # Python was installed without sources, so that nobody can have changed them
        return True
    own = all(inspect.unwrap(function).__module__ == model.__name__ for function in STANDS_IN_FOR.values())
    return own and hashlib.sha256(text.encode()).hexdigest() == PROVEN_EQUAL_TO


@lru_cache(maxsize=8)
def say_once(changed: str) -> None:
    """One line on standard error for each set of changes."""
    notice(f"{changed} differs from what fast.py was proven equal to: the plain path of model.py runs.")


def forward(
    ids: Int[np.ndarray, "*batch tokens"], p: Parameters, config: Config, cache: Cache, logits_to_keep: int
) -> Float[np.ndarray, "*batch kept vocab"]:
    """The logits, as `GPT2.__call__` without a hook defines them; `ids` have been checked."""
    *batch, tokens = ids.shape
    lengths = np.zeros(batch, np.int64) if cache is None else cache.lengths
    x = p.wte[ids]
    x += p.wpe[lengths[..., None] + np.arange(tokens)]
    x = x.reshape(-1, config.n_embd)
    for layer, h in enumerate(p.h):
        qkv = linear(layer_norm(x, h.ln_1, config.layer_norm_epsilon), h.attn.c_attn)
        q, k, v = split_qkv(qkv, (*batch, tokens, 3, config.n_head, config.head_dim))
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        mixed = attend(q, k, v, lengths, config.attention_scale(layer))
        x += linear(mixed.reshape(-1, config.n_embd), h.attn.c_proj)
        x += mlp(layer_norm(x, h.ln_2, config.layer_norm_epsilon), h.mlp, config)
    x = x.reshape(*batch, tokens, config.n_embd)[..., -logits_to_keep:, :]
    kept = x.shape[:-1]
    x = layer_norm(x.reshape(-1, config.n_embd), p.ln_f, config.layer_norm_epsilon)
    if cache is not None:
        cache.lengths += tokens
    return times(x, p.lm_head.T).reshape(*kept, -1)


def layer_norm(x: Rows, p: LayerNorm, epsilon: float) -> Rows:
    """`model.layer_norm` on rows, with three passes less over memory."""
    n = x.shape[-1]
    normalised = x - np.add.reduce(x, axis=-1, keepdims=True) / n
    variance = np.einsum("ij,ij->i", normalised, normalised)[:, None] / n
    normalised /= np.sqrt(variance + epsilon)
    normalised *= p.weight
    normalised += p.bias
    return normalised


def times(
    x: Float[np.ndarray, "rows n_in"], weight: Float[np.ndarray, "n_in n_out"]
) -> Float[np.ndarray, "rows n_out"]:
    """x W, in the way that is quickest for so many rows."""
    if len(x) == 1 or len(x) > PIECE_ROWS:
        return x @ weight  # of one row NumPy makes a matrix-vector product by itself
    if len(x) <= GEMV_ROWS:
        return times_by_row(x, weight)
    if len(x) * weight.size <= PIECE or not has_small_kernel():
        return x @ weight
    return times_by_columns(x, weight) if weight.flags.f_contiguous else times_by_depth(x, weight)


def times_by_row(
    x: Float[np.ndarray, "rows n_in"], weight: Float[np.ndarray, "n_in n_out"]
) -> Float[np.ndarray, "rows n_out"]:
    """x W, a row at a time."""
    n_in, n_out = weight.shape
    product = np.empty((len(x), n_out), x.dtype)
    # Where columns lie along memory, take as many as the cache holds until the last row has used them.
    step = max(1, GEMV_FLOATS // n_in) if weight.flags.f_contiguous else n_out
    for start in range(0, n_out, step):
        columns = slice(start, start + step)
        for row, out in zip(x, product, strict=True):
            np.matmul(row, weight[:, columns], out=out[columns])
    return product


def times_by_depth(
    x: Float[np.ndarray, "rows n_in"], weight: Float[np.ndarray, "n_in n_out"]
) -> Float[np.ndarray, "rows n_out"]:
    """x W for a weight whose rows lie along memory: a few of them at a time, each part read in one go."""
    n_in, n_out = weight.shape
    step = max(1, PIECE // (len(x) * n_out))
    run = -(-n_in // DEPTH_RUNS)
    sums = np.empty((DEPTH_RUNS, len(x), n_out), x.dtype)

    def work(first: int) -> None:
        end, total = min(first + run, n_in), sums[first // run]
        np.matmul(x[:, first : min(first + step, end)], weight[first : min(first + step, end)], out=total)
        for start in range(first + step, end, step):
            depth = slice(start, min(start + step, end))
            total += x[:, depth] @ weight[depth]

    firsts = range(0, n_in, run)
    in_parallel(work, firsts)
    return np.add.reduce(sums[: len(firsts)])


def times_by_columns(
    x: Float[np.ndarray, "rows n_in"], weight: Float[np.ndarray, "n_in n_out"]
) -> Float[np.ndarray, "rows n_out"]:
    """x W for a weight whose columns lie along memory: a few of them at a time, and of a long one a part."""
    n_in, n_out = weight.shape
    step = max(1, PIECE // (len(x) * min(n_in, PIECE_DEPTH)))
    run = step * max(1, n_out // (step * COLUMN_RUNS))
    product = np.empty((len(x), n_out), x.dtype)

    def work(first: int) -> None:
        for start in range(first, min(first + run, n_out), step):
            columns = slice(start, start + step)
            part = product[:, columns]
            np.matmul(x[:, :PIECE_DEPTH], weight[:PIECE_DEPTH, columns], out=part)
            for deep in range(PIECE_DEPTH, n_in, PIECE_DEPTH):
                depth = slice(deep, deep + PIECE_DEPTH)
                part += x[:, depth] @ weight[depth, columns]

    in_parallel(work, range(0, n_out, run))
    return product


def linear(x: Float[np.ndarray, "rows n_in"], p: Linear) -> Float[np.ndarray, "rows n_out"]:
    """x W + b."""
    product = times(x, p.weight)
    product += p.bias
    return product


def split_qkv(qkv: Float[np.ndarray, "rows n_out"], shape: tuple[int, ...]) -> Iterator[Heads]:
    """Views of the queries, keys and values, with the heads in front of the tokens."""
    parts = qkv.reshape(shape)
    return (parts[..., part, :, :].swapaxes(-2, -3) for part in range(3))


def attend(
    q: Heads, k: Keys, v: Keys, lengths: Int[np.ndarray, "*batch"], scale: float
) -> Float[np.ndarray, "*batch tokens n_head head_dim"]:
    """Causal attention of new queries, of which row b begins at position `lengths[b]`."""
    *batch, n_head, tokens, head_dim = q.shape
    mixed = np.empty((*batch, tokens, n_head, head_dim), q.dtype)
    for row in np.ndindex(*batch):
        past, out = int(lengths[row]), mixed[row].swapaxes(0, 1)
        for start in range(0, tokens, QUERY_BLOCK):
            new = slice(start, min(start + QUERY_BLOCK, tokens))
            n_keys = past + new.stop
            step = max(1, CACHE_FLOATS // ((new.stop - start) * n_keys))  # heads that fit the cache
            for first in range(0, n_head, step):
                heads = slice(first, first + step)
                keys, values = k[row][heads, :n_keys], v[row][heads, :n_keys]
                attend_block(q[row][heads, new], keys, values, scale, out[heads, new])
    return mixed


def attend_block(q: Heads, k: Keys, v: Keys, scale: float, out: Heads) -> None:
    """Fill `out` with the attention of some queries, the last of which sees every key."""
    tokens, n_keys = q.shape[-2], k.shape[-2]
    weights = q @ k.swapaxes(-1, -2)
    weights *= scale
    if tokens > 1:  # only the keys of the block itself can lie in a query's future
        weights[..., n_keys - tokens :] += future_mask(tokens, q.dtype)
    weights -= np.maximum.reduce(weights, axis=-1, keepdims=True)
    np.exp(weights, out=weights)
    total = np.add.reduce(weights, axis=-1, keepdims=True)
    np.divide(weights @ v, total, out=out)  # dividing the mean is cheaper than dividing the weights


@lru_cache(maxsize=4)
def future_mask(tokens: int, dtype: np.dtype) -> Float[np.ndarray, "tokens tokens"]:
    """-inf above the diagonal, 0 on it and below."""
    mask = np.triu(np.full((tokens, tokens), -np.inf, dtype), 1)
    mask.setflags(write=False)
    return mask


def mlp(x: Rows, p: MLP, config: Config) -> Rows:
    """`model.mlp` on rows."""
    hidden = linear(x, p.c_fc)
    function = model.activation(config.activation_function)
    if function is model.gelu_new:
        gelu_new_in_place(hidden)
    else:
        hidden = function(hidden)
    return linear(hidden, p.c_proj)


def gelu_new_in_place(x: Rows) -> None:
    """`model.gelu_new`, the same operations in the same order, block by block."""
    flat = x.reshape(-1)
    buffer = np.empty(min(flat.size, CACHE_FLOATS), x.dtype)
    for start in range(0, flat.size, CACHE_FLOATS):
        block = flat[start : start + CACHE_FLOATS]
        inner = buffer[: block.size]
        np.multiply(block, block, out=inner)
        inner *= block
        inner *= 0.044715
        inner += block
        inner *= math.sqrt(2.0 / math.pi)
        np.tanh(inner, out=inner)
        inner += 1.0
        block *= 0.5
        block *= inner
