"""The forward pass of `model.py` once more, arranged for speed; a test proves the two equal.

The arithmetic is the same, so read `model.py` to understand GPT-2 and this file to understand what makes
NumPy fast. `minigpt.load` returns a `FastGPT2`, which computes here what a call without a hook asks for, as
long as `model.py` is the file that this one was proven equal to. What differs, and what it is worth on a 124M
model (docs/benchmarks.md has the measurements):

- All rows are one matrix. NumPy multiplies a stack of matrices one by one, which for a batch would read
  every weight once per row; flattened to (rows, n_embd) it is read once.
- Up to four rows go through the matrix-vector kernel, which streams a weight once per row. The
  matrix-matrix kernel first copies the weight into its own layout, which only pays for more rows.
- Each core takes a long text's rows in blocks through whatever treats a row by itself, products included.
  BLAS's own threads, for which every product waits, would leave all elementwise work to one core: 0.85 to
  0.98 of the time on two idle cores, a tenth to two thirds where other programs use them, too.
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
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from . import model
from .checks import checked_ids
from .errors import notice
from .hooks import Hook
from .model import GPT2, Cache, Heads, Keys
from .parallel import available_cores, has_small_kernel, in_parallel
from .parameters import MLP, Block, Config, LayerNorm, Linear, Parameters

Rows = Float[np.ndarray, "rows n_embd"]
Product = Float[np.ndarray, "rows n_out"]
Lengths = Int[np.ndarray, "*batch"]

GEMV_ROWS = 4  # up to so many rows the matrix-vector kernel is as fast, and rounds less
GEMV_FLOATS = 900_000  # numbers of a weight that stay cached from one row to the next
PIECE_ROWS = 12  # up to so many rows, pieces of a weight that need not be copied first are quicker
PIECE = 900_000  # rows x columns x depth of such a piece; BLAS copies from a million on
PIECE_DEPTH = 768  # its depth where columns lie along memory; longer ones are slow
DEPTH_RUNS, COLUMN_RUNS = 4, 8  # runs of pieces, each for one core
ROW_BLOCK = 256  # rows of a long text that one core takes through half a block of the model
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
    rows = x.reshape(-1, config.n_embd)
    blocks = row_blocks(len(rows))
    for layer, h in enumerate(p.h):
        block(rows, h, layer, config, cache, lengths, blocks)
    x = x[..., -logits_to_keep:, :]
    last = layer_norm(x.reshape(-1, config.n_embd), p.ln_f, config.layer_norm_epsilon)
    if cache is not None:
        cache.lengths += tokens
    return times(last, p.lm_head.T).reshape(*x.shape[:-1], -1)


def block(
    x: Rows, h: Block, layer: int, config: Config, cache: Cache, lengths: Lengths, blocks: list[slice]
) -> None:
    """`model.block`, which adds to `x` itself; each sequence follows as many tokens as `lengths` says.

    Each core takes some blocks of rows. They meet in between, as a query looks at keys of other rows, too.
    """
    qkv = np.empty((len(x), 3 * config.n_embd), x.dtype)

    def ask(rows: slice) -> None:
        linear(layer_norm(x[rows], h.ln_1, config.layer_norm_epsilon), h.attn.c_attn, out=qkv[rows])

    in_parallel(ask, blocks)
    tokens = len(x) // lengths.size
    q, k, v = split_qkv(qkv, (*lengths.shape, tokens, 3, config.n_head, config.head_dim))
    if cache is not None:
        k, v = cache.extend(layer, k, v)
    q, k, v = (array.reshape(-1, *array.shape[-3:]) for array in (q, k, v))

    def answer(rows: slice) -> None:
        mixed = attend(q, k, v, lengths.reshape(-1), config.attention_scale(layer), rows)
        x[rows] += linear(mixed, h.attn.c_proj)
        x[rows] += mlp(layer_norm(x[rows], h.ln_2, config.layer_norm_epsilon), h.mlp, config)

    in_parallel(answer, blocks[::-1])  # the last has the most keys to look at


def row_blocks(n_rows: int) -> list[slice]:
    """The rows in blocks of nearly equal length, if every core gets one; else they stay together.

    BLAS then shares each product out to its own threads, while the elementwise half has one core.
    """
    n_blocks = -(-n_rows // ROW_BLOCK)
    if n_blocks < available_cores():
        return [slice(0, n_rows)]
    ends = [n_rows * n // n_blocks for n in range(n_blocks + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


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
    x: Float[np.ndarray, "rows n_in"], weight: Float[np.ndarray, "n_in n_out"], out: Product | None = None
) -> Product:
    """x W, in the way that is quickest for so many rows."""
    if len(x) == 1 or len(x) > PIECE_ROWS:
        return np.matmul(x, weight, out=out)  # of one row NumPy makes a matrix-vector product by itself
    out = np.empty((len(x), weight.shape[1]), x.dtype) if out is None else out
    if len(x) <= GEMV_ROWS:
        times_by_row(x, weight, out)
    elif len(x) * weight.size <= PIECE or not has_small_kernel():
        np.matmul(x, weight, out=out)
    elif weight.flags.f_contiguous:
        times_by_columns(x, weight, out)
    else:
        times_by_depth(x, weight, out)
    return out


def times_by_row(
    x: Float[np.ndarray, "rows n_in"], weight: Float[np.ndarray, "n_in n_out"], out: Product
) -> None:
    """x W, a row at a time."""
    n_in, n_out = weight.shape
    # Where columns lie along memory, take as many as the cache holds until the last row has used them.
    step = max(1, GEMV_FLOATS // n_in) if weight.flags.f_contiguous else n_out
    for start in range(0, n_out, step):
        columns = slice(start, start + step)
        for row, product in zip(x, out, strict=True):
            np.matmul(row, weight[:, columns], out=product[columns])


def times_by_depth(
    x: Float[np.ndarray, "rows n_in"], weight: Float[np.ndarray, "n_in n_out"], out: Product
) -> None:
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
    np.add.reduce(sums[: len(firsts)], out=out)


def times_by_columns(
    x: Float[np.ndarray, "rows n_in"], weight: Float[np.ndarray, "n_in n_out"], out: Product
) -> None:
    """x W for a weight whose columns lie along memory: a few of them at a time, and of a long one a part."""
    n_in, n_out = weight.shape
    step = max(1, PIECE // (len(x) * min(n_in, PIECE_DEPTH)))
    run = step * max(1, n_out // (step * COLUMN_RUNS))

    def work(first: int) -> None:
        for start in range(first, min(first + run, n_out), step):
            columns = slice(start, start + step)
            part = out[:, columns]
            np.matmul(x[:, :PIECE_DEPTH], weight[:PIECE_DEPTH, columns], out=part)
            for deep in range(PIECE_DEPTH, n_in, PIECE_DEPTH):
                depth = slice(deep, deep + PIECE_DEPTH)
                part += x[:, depth] @ weight[depth, columns]

    in_parallel(work, range(0, n_out, run))


def linear(x: Float[np.ndarray, "rows n_in"], p: Linear, out: Product | None = None) -> Product:
    """x W + b."""
    product = times(x, p.weight, out)
    product += p.bias
    return product


def split_qkv(qkv: Float[np.ndarray, "rows n_out"], shape: tuple[int, ...]) -> Iterator[Heads]:
    """Views of the queries, keys and values, with the heads in front of the tokens."""
    parts = qkv.reshape(shape)
    return (parts[..., part, :, :].swapaxes(-2, -3) for part in range(3))


def attend(
    q: Heads, k: Keys, v: Keys, past: Int[np.ndarray, " batch"], scale: float, rows: slice
) -> Float[np.ndarray, "rows n_embd"]:
    """Causal attention of some of the batch's new queries; its row b follows `past[b]`."""
    n_head, tokens, head_dim = q.shape[1:]
    mixed = np.empty((rows.stop - rows.start, n_head, head_dim), q.dtype)
    start = rows.start
    while start < rows.stop:
        b, first = divmod(start, tokens)
        new = slice(first, min(first + QUERY_BLOCK, tokens, first + rows.stop - start))
        n_keys = int(past[b]) + new.stop
        out = mixed[start - rows.start :][: new.stop - first].swapaxes(0, 1)
        step = max(1, CACHE_FLOATS // ((new.stop - first) * n_keys))  # heads that fit the cache
        for head in range(0, n_head, step):
            some = slice(head, head + step)
            attend_block(q[b, some, new], k[b, some, :n_keys], v[b, some, :n_keys], scale, out[some])
        start += new.stop - first
    return mixed.reshape(len(mixed), -1)


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
