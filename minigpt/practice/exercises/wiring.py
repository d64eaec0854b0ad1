"""How the parts are put together: the block, the model, the loop that writes, the cache that remembers."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from ... import model as model_py
from ... import parameters
from ...hooks import as_it_is
from ...model import Call, linear, merge_heads
from ..arrays import draw_attention, draw_layer_norm, draw_linear
from ..exercise import Cases, Exercise, Function, Mistake
from ..whole_model import PROMPT, in_model, real, tiny, words_after
from .layers import FIXED_SCALE, NO_SCALE, attention, layer_norm, mlp
from .text import softmax

Array = Float[np.ndarray, "..."]
Ids = Int[np.ndarray, "*batch tokens"]
Part = Callable[[np.ndarray], np.ndarray]

# -------------------------------------------------------------------------------------------------- block


def block(x: Array, ln_1: Part, attn: Part, ln_2: Part, mlp: Part) -> Array:
    """One block of the residual stream: attention, then MLP, each of which adds its answer.

    x        (..., tokens, n_embd) the residual stream
    ln_1     a function: the first layer norm of a vector per token
    attn     a function: attention's answer
    ln_2     a function: the second layer norm
    mlp      a function: the MLP's answer
    returns  (..., tokens, n_embd) the stream with both answers added

    All four take and return (..., tokens, n_embd). Attention and MLP each read a normalised copy of the
    stream; the stream itself is never normalised. The MLP sees what attention has added.

    On paper: ln_1 adds 1, attn doubles, ln_2 adds 2 and mlp multiplies by 10. A stream of 3 becomes
    3 + 2 * 4 = 11, and then 11 + 10 * 13 = 141.

    >>> block(np.array([[3.0], [0.0]]), lambda x: x + 1, lambda x: 2 * x, lambda x: x + 2, lambda x: 10 * x)
    array([[141.],
           [ 42.]])
    """
    x = x + attn(ln_1(x))
    return x + mlp(ln_2(x))


def plus(x: Array, n: Array) -> Array:
    return x + n


def times(x: Array, n: Array) -> Array:
    return n * x


def bind_norm(p: parameters.LayerNorm) -> Part:
    return partial(layer_norm, weight=p.weight, bias=p.bias, epsilon=1e-5)


def bind_block(p: parameters.Block, n_head: int) -> tuple[Part, Part, Part, Part]:
    """The four parts of a block as functions of x alone."""
    attn = partial(attention, p=p.attn, n_head=n_head)
    return bind_norm(p.ln_1), attn, bind_norm(p.ln_2), partial(mlp, p=p.mlp)


def draw_block(rng: np.random.Generator, n_embd: int) -> parameters.Block:
    return parameters.Block(
        draw_layer_norm(rng, n_embd),
        draw_attention(rng, n_embd),
        draw_layer_norm(rng, n_embd),
        parameters.MLP(draw_linear(rng, n_embd, 2 * n_embd), draw_linear(rng, 2 * n_embd, n_embd)),
    )


def block_cases(rng: np.random.Generator) -> Cases:
    example = (
        partial(plus, n=np.array(1.0)),
        partial(times, n=np.array(2.0)),
        partial(plus, n=np.array(2.0)),
        partial(times, n=np.array(10.0)),
    )
    return {
        "the example": (np.array([[3.0], [0.0]]), *example),
        "a single token": (rng.standard_normal((1, 4)), *bind_block(draw_block(rng, 4), 2)),
        "3 tokens of 6 numbers": (2 * rng.standard_normal((3, 6)), *bind_block(draw_block(rng, 6), 2)),
        "a batch, (2, 5, 3)": (2 * rng.standard_normal((2, 5, 3)), *bind_block(draw_block(rng, 3), 1)),
    }


def real_block() -> tuple[object, ...]:
    model, _ = tiny()
    return real("h.2.resid_pre"), *bind_block(model.parameters.h[2], model.config.n_head)


def block_of_model(mine: Function) -> dict[str, Function]:
    """model.py's parts, put together by the learner."""

    def block(x: Array, p: parameters.Block, layer: int, call: Call) -> Array:
        def norm(p: parameters.LayerNorm) -> Part:
            epsilon = call.config.layer_norm_epsilon
            return lambda x: model_py.layer_norm(x, p, epsilon, as_it_is, "ln")

        return mine(
            x,
            norm(p.ln_1),
            lambda x: model_py.attention(x, p.attn, layer, call),
            norm(p.ln_2),
            lambda x: model_py.mlp(x, p.mlp, call),
        )

    return {"block": block}


BLOCK = Exercise(
    block,
    cases=block_cases,
    real=real_block,
    hints=(
        "Two lines, one for attention and one for the MLP; both read x, and both end in an addition to x.",
        "x = x + attn(ln_1(x)), and the same again with the others.",
    ),
    mistakes=(
        Mistake(
            "Each layer norm comes after the addition.",
            {"x + attn(ln_1(x))": "ln_1(x + attn(x))", "return x + mlp(ln_2(x))": "return ln_2(x + mlp(x))"},
            gallery="post-norm",
        ),
        Mistake(
            "The answers replace the stream instead of being added.",
            {"x + attn": "attn", "return x + mlp": "return mlp"},
            gallery="no-residual",
        ),
        Mistake("Attention's answer replaces the stream.", {"x + attn": "attn"}, gallery="no-residual"),
        Mistake(
            "The MLP's answer replaces the stream.", {"return x + mlp": "return mlp"}, gallery="no-residual"
        ),
        Mistake(
            "The answers are added to the normalised copy.",
            {
                "x = x + attn(ln_1(x))": "n = ln_1(x)\n    x = n + attn(n)",
                "return x + mlp(ln_2(x))": "n = ln_2(x)\n    return n + mlp(n)",
            },
            "They are added to the stream itself, which runs through all blocks untouched.",
        ),
        Mistake(
            "Attention and MLP read the same stream, side by side.",
            {"x = x + attn(ln_1(x))": "y = attn(ln_1(x))", "return x +": "return x + y +"},
            "Some later models do so; in GPT-2 the MLP sees what attention has added.",
        ),
        Mistake(
            "The first layer norm serves twice.",
            {"ln_2": "ln_1"},
            "Each has a gain and an offset of its own.",
        ),
        Mistake("The two layer norms are swapped.", {"ln_1": "ln_2", "mlp(ln_2": "mlp(ln_1"}),
        Mistake(
            "The MLP comes before attention.",
            {"attn(ln_1(x))": "mlp(ln_2(x))", "return x + mlp(ln_2(x))": "return x + attn(ln_1(x))"},
        ),
        Mistake("There is no layer norm.", {"ln_1(x)": "x", "ln_2(x)": "x"}),
        Mistake("The MLP reads the stream without a layer norm.", {"ln_2(x)": "x"}),
        Mistake("Attention reads the stream without a layer norm.", {"ln_1(x)": "x"}),
        Mistake("The MLP is left out.", {"return x + mlp(ln_2(x))": "return x"}),
    ),
    use=in_model(block_of_model),
)

# --------------------------------------------------------------------------------------------------- gpt2


def gpt2(ids: ArrayLike, wte: Array, wpe: Array, blocks: Sequence[Part], ln_f: Part) -> Array:
    """The whole model: from ids to a score of every token that could come next.

    ids      (..., tokens) whole numbers; an array or a list
    wte      (vocab, n_embd) a vector for each token
    wpe      (n_positions, n_embd) a vector for each position
    blocks   functions, the first first: each takes and returns (..., tokens, n_embd)
    ln_f     a function: the final layer norm, of the same shape
    returns  (..., tokens, vocab) the logits that follow each token

    The head has no weights of its own: a token's logit is the dot product of the last vector with the row of
    that token in wte.

    On paper: token 1 at position 0 is 1 + 2 = 3, at position 1 it is 1 + 4 = 5. A block doubles, ln_f adds 1:
    7 and 11. The logits of the three tokens are -1, 1 and 10 times that.

    >>> wte, wpe = np.array([[-1.0], [1], [10]]), np.array([[2.0], [4]])
    >>> gpt2([1, 1], wte, wpe, [lambda x: 2 * x], lambda x: x + 1)
    array([[ -7.,   7.,  70.],
           [-11.,  11., 110.]])
    """
    ids = np.asarray(ids)
    x = wte[ids] + wpe[: ids.shape[-1]]
    for block in blocks:
        x = block(x)
    x = ln_f(x)
    return x @ wte.T


def bound_block(x: Array, p: parameters.Block, n_head: int) -> Array:
    return block(x, *bind_block(p, n_head))


def gpt2_cases(rng: np.random.Generator) -> Cases:
    def parts(n_embd: int, n_layer: int) -> tuple[object, ...]:
        wte, wpe = rng.standard_normal((7, n_embd)), rng.standard_normal((9, n_embd)) / 2
        blocks = [partial(bound_block, p=draw_block(rng, n_embd), n_head=1) for _ in range(n_layer)]
        return wte, wpe, blocks, bind_norm(draw_layer_norm(rng, n_embd))

    tables = np.array([[-1.0], [1.0], [10.0]]), np.array([[2.0], [4.0]])
    double = [partial(times, n=np.array(2.0))]
    return {
        "the example": ([1, 1], *tables, double, partial(plus, n=np.array(1.0))),
        "a single token, 1 block": (rng.integers(7, size=1), *parts(4, 1)),
        "5 tokens, 2 blocks": (rng.integers(7, size=5), *parts(3, 2)),
        "no blocks": (rng.integers(7, size=4), *parts(3, 0)),
        "a batch, (2, 3), 3 blocks": (rng.integers(7, size=(2, 3)), *parts(4, 3)),
    }


def real_gpt2() -> tuple[object, ...]:
    model, _ = tiny()
    p, n_head = model.parameters, model.config.n_head
    blocks = [partial(bound_block, p=each, n_head=n_head) for each in p.h]
    return np.array([40, 1842, 262, 5417]), p.wte[:6000], p.wpe, blocks, bind_norm(p.ln_f)


def learners_model(mine: Function) -> str:
    """The parts of the model that ships, in the learner's function."""
    model, tokenizer = tiny()
    _, _, wpe, blocks, ln_f = real_gpt2()
    logits = mine(tokenizer.encode(PROMPT), model.parameters.wte, wpe, blocks, ln_f)
    return f"Your whole model with the arrays of ours: {words_after(logits[-1])}"


GPT2 = Exercise(
    gpt2,
    cases=gpt2_cases,
    real=real_gpt2,
    hints=(
        "In the order in which the data flows: embed, every block, the final layer norm, the head.",
        "All dot products with all rows of wte at once are x @ wte.T.",
        "ids may be a list: np.asarray(ids) has a shape.",
    ),
    mistakes=(
        Mistake(
            "Positions are counted by len(ids).",
            {"ids.shape[-1]": "len(ids)"},
            "In a batch len counts the texts; the tokens are the last axis: ids.shape[-1].",
        ),
        Mistake("The positions are left out.", {" + wpe[: ids.shape[-1]]": ""}, gallery="no-position"),
        Mistake(
            "Positions are counted from 1.",
            {"wpe[: ids.shape[-1]]": "wpe[1 : 1 + ids.shape[-1]]"},
            gallery="positions-from-one",
        ),
        Mistake(
            "The final layer norm is left out.",
            {"x = ln_f(x)": "pass"},
            "The blocks keep adding to the stream; the head was trained on its normalised copy.",
        ),
        Mistake(
            "The final layer norm comes before the blocks.",
            {
                "for block in blocks": "x = ln_f(x)\n    for block in blocks",
                "    x = ln_f(x)\n    return": "    return",
            },
        ),
        Mistake(
            "The final layer norm comes after every block.",
            {"x = block(x)": "x = ln_f(block(x))", "    x = ln_f(x)\n    return": "    return"},
        ),
        Mistake("The blocks run from the last to the first.", {"in blocks": "in blocks[::-1]"}),
        Mistake(
            "Each block reads the embedding instead of what the one before it returned.",
            {"for block in blocks": "embedded = x\n    for block in blocks", "block(x)": "block(embedded)"},
        ),
        Mistake(
            "Each block's answer is added once more.",
            {"block(x)": "x + block(x)"},
            "The additions stand inside the block; it returns the whole stream.",
        ),
        Mistake("The last block is left out.", {"in blocks": "in blocks[:-1]"}),
        Mistake(
            "Only the last token's logits are returned.",
            {"return x @": "return x[..., -1, :] @"},
            "Every token's are asked for: training needs all of them.",
        ),
        Mistake(
            "Probabilities are returned.",
            {"return x @ wte.T": "return softmax(x @ wte.T)"},
            "Logits are the raw scores; softmax comes after them.",
        ),
        Mistake(
            "The head reads a stream from which the positions were taken off again.",
            {"x = ln_f(x)": "x = ln_f(x - wpe[: ids.shape[-1]])"},
        ),
    ),
    use=learners_model,
)

# -------------------------------------------------------------------------------------------------- greedy


def greedy(model: Callable[[list[int]], np.ndarray], prompt: list[int], n: int) -> list[int]:
    """The loop that writes: append the likeliest token, ask again.

    model    a function: of a list of ids it returns (tokens, vocab), the logits that follow each of them
    prompt   the ids to begin with, a list
    n        how many tokens to append
    returns  (tokens,) a new list: the prompt and the n ids after it

    The token after the last has its logits in the last row. The prompt itself stays as it is.

    On paper: a model for which each token is followed by the next number.

    >>> greedy(lambda ids: np.eye(10)[np.array(ids) + 1], [3, 4], 3)
    [3, 4, 5, 6, 7]
    """
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(model(ids)[-1].argmax()))
    return ids


def successor(ids: ArrayLike, eye: Array) -> Array:
    return eye[np.array(ids) + 1]


def greedy_cases(rng: np.random.Generator) -> Cases:
    def small() -> Callable[[list[int]], np.ndarray]:
        wte, wpe = rng.standard_normal((13, 6)), rng.standard_normal((20, 6))
        blocks = [partial(bound_block, p=draw_block(rng, 6), n_head=2)]
        return partial(gpt2, wte=wte, wpe=wpe, blocks=blocks, ln_f=bind_norm(draw_layer_norm(rng, 6)))

    return {
        "the example": (partial(successor, eye=np.eye(10)), [3, 4], 3),
        "no more": (small(), [2, 7], 0),
        "one more": (small(), [2, 7, 1, 8], 1),
        "7 more tokens": (small(), [3, 1, 4], 7),
        "9 more after a single one": (small(), [5], 9),
    }


def writes(mine: Function) -> str:
    """The learner's loop, with the model that ships."""
    model, tokenizer = tiny()
    ids = mine(model, tokenizer.encode(PROMPT), 8)
    return f"The whole model in your loop writes: {tokenizer.decode(ids)!r}."


GREEDY = Exercise(
    greedy,
    cases=greedy_cases,
    real=None,
    hints=(
        "Begin with a copy, list(prompt), or the caller's own list grows.",
        "model(ids)[-1] are the logits of what comes next; argmax() is the id of the largest.",
    ),
    mistakes=(
        Mistake(
            "The logits are read from the first row.",
            {"[-1]": "[0]"},
            "Row t scores what follows token t; what follows the text stands in the last row.",
        ),
        Mistake(
            "The largest logit is looked for in all rows together, so that its place is no id.",
            {"(ids)[-1].argmax()": "(ids).argmax()"},
        ),
        Mistake(
            "The model is asked about the last token alone.",
            {"model(ids)": "model(ids[-1:])"},
            "Without a cache it knows nothing of what is not given to it: give it all ids.",
        ),
        Mistake(
            "The model is asked about the prompt again and again.",
            {"model(ids)": "model(prompt)"},
            "The new token is a part of the text: it goes in with the next question.",
        ),
        Mistake("Only the new ids are returned.", {"return ids": "return ids[len(prompt):]"}),
        Mistake("There is one token too many.", {"range(n)": "range(n + 1)"}),
        Mistake("There is one token too few.", {"range(n)": "range(n - 1)"}),
        Mistake("It appends until there are n tokens in all.", {"range(n)": "range(n - len(prompt))"}),
        Mistake("The unlikeliest token is appended.", {"argmax": "argmin"}),
        Mistake("New tokens are put in front.", {"ids.append(": "ids.insert(0, "}),
    ),
    use=writes,
)

# ----------------------------------------------------------------------------------------------- cache_step


def cache_step(q: Array, k: Array, v: Array, keys: Array, values: Array) -> tuple[Array, Array, Array]:
    """One new token with a cache: it asks the keys and values of all before it, which nobody computes again.

    q        (..., 1, head_dim) the new token's query
    k        (..., 1, head_dim) its key
    v        (..., 1, head_dim) its value
    keys     (..., past, head_dim) the keys of the tokens before it; past may be 0
    values   (..., past, head_dim) their values
    returns  three arrays:
    mixed    (..., 1, head_dim) attention's answer for the new token
    keys     (..., past + 1, head_dim) the keys with the new one at the end
    values   (..., past + 1, head_dim) the values with the new one at the end

    It is the last row of attention over past + 1 tokens: the new token sees all of them, itself included.

    On paper: head_dim is 1. The old token's score is ln 3, the new one's 0, so the shares are 3/4 and 1/4.

    >>> keys, values = np.log([[3.0]]), np.array([[4.0]])
    >>> q, k, v = np.array([[1.0]]), np.array([[0.0]]), np.array([[8.0]])
    >>> mixed, keys, values = cache_step(q, k, v, keys, values)
    >>> mixed
    array([[5.]])
    """
    all_keys = np.concatenate([keys, k], axis=-2)
    all_values = np.concatenate([values, v], axis=-2)
    scores = q @ all_keys.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    return softmax(scores) @ all_values, all_keys, all_values


def cache_cases(rng: np.random.Generator) -> Cases:
    def step(*shape: int, past: int) -> tuple[np.ndarray, ...]:
        *batch, head_dim = shape
        new = [2 * rng.standard_normal((*batch, 1, head_dim)) for _ in range(3)]
        return *new, *(2 * rng.standard_normal((*batch, past, head_dim)) for _ in range(2))

    example = [[1.0]], [[0.0]], [[8.0]], np.log([[3.0]]), [[4.0]]
    return {
        "the example": tuple(map(np.array, example)),
        "the first token": step(3, past=0),
        "after 4 tokens": step(3, past=4),
        "2 heads, after 3 tokens": step(2, 5, past=3),
        "a batch, (2, 3, 4), after 5 tokens": step(2, 3, 4, past=5),
    }


def real_cache() -> tuple[np.ndarray, ...]:
    q, k, v = (real(f"h.2.attn.{name}") for name in "qkv")
    return q[:, -1:], k[:, -1:], v[:, -1:], k[:, :-1], v[:, :-1]


def token_by_token(mine: Function) -> dict[str, Function]:
    """Attention that lets one token after the other in, each with the learner's cache of those before it."""

    def attention(x: Array, p: parameters.Attention, _layer: int, call: Call) -> Array:
        parts = np.split(linear(x, p.c_attn), 3, axis=-1)
        q, k, v = (model_py.split_heads(part, call.config.n_head) for part in parts)
        keys, values, answers = k[:, :0], v[:, :0], []
        for token in range(len(x)):
            at = slice(token, token + 1)
            mixed, keys, values = mine(q[:, at], k[:, at], v[:, at], keys, values)
            answers.append(mixed)
        return linear(merge_heads(np.concatenate(answers, axis=-2)), p.c_proj)

    return {"attention": attention}


CACHE_STEP = Exercise(
    cache_step,
    cases=cache_cases,
    real=real_cache,
    hints=(
        "First the new key and value join the others: np.concatenate along the axis of the tokens, axis=-2.",
        "No mask is needed: whatever is in the cache came before.",
    ),
    mistakes=(
        Mistake(
            "The new key and value are put in front.",
            {"[keys, k]": "[k, keys]", "[values, v]": "[v, values]"},
            "The cache keeps the order of the text: the newest comes last.",
        ),
        Mistake(
            "The new token does not see itself.",
            {"q @ all_keys": "q @ keys", "softmax(scores) @ all_values": "softmax(scores) @ values"},
            "Its own key and value count, and are all there is for the first token.",
        ),
        Mistake(
            "The cache is returned without the new key and value.",
            {"@ all_values, all_keys, all_values": "@ all_values, keys, values"},
            "The next token would not know that this one was there.",
        ),
        Mistake(
            "Only the new key and value are returned.",
            {"@ all_values, all_keys, all_values": "@ all_values, k, v"},
        ),
        Mistake(NO_SCALE, {" / math.sqrt(q.shape[-1])": ""}, gallery="no-scale"),
        FIXED_SCALE,
        Mistake(
            "np.concatenate joins along the first axis.",
            {"[keys, k], axis=-2": "[keys, k]", "[values, v], axis=-2": "[values, v]"},
            "Without an axis it takes the first, which with several heads is theirs; tokens are axis=-2.",
        ),
        Mistake(
            "The mask of a text that begins here lets the new token see the first key alone.",
            {"softmax(scores)": "softmax(np.where(np.arange(scores.shape[-1]) < 1, scores, -np.inf))"},
            "It stands behind all others and sees them all; a single token needs no mask.",
        ),
        Mistake(
            "The keys are mixed instead of the values.",
            {"softmax(scores) @ all_values": "softmax(scores) @ all_keys"},
        ),
        Mistake(
            "Keys and values are returned in the wrong order.",
            {"@ all_values, all_keys, all_values": "@ all_values, all_values, all_keys"},
        ),
        Mistake("The new key joins the values, too.", {"[values, v]": "[values, k]"}),
        Mistake("There is no softmax.", {"softmax(scores)": "scores"}),
    ),
    use=in_model(token_by_token),
)
