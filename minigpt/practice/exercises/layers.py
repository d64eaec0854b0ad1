"""From ids to the last vector: the functions of model.py, one after the other."""

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from ... import model as model_py
from ... import parameters
from ...model import Call, linear, merge_heads
from ..arrays import draw_attention, draw_linear
from ..exercise import Arguments, Cases, Exercise, Function, Mistake
from ..whole_model import in_model, real, tiny
from .text import softmax

Array = Float[np.ndarray, "..."]
Ids = Int[np.ndarray, "*batch tokens"]

# -------------------------------------------------------------------------------------------------- embed


def embed(ids: Ids, wte: Array, wpe: Array) -> Array:
    """Ids become vectors: what a token is, plus where it stands.

    ids      (..., tokens) whole numbers, the rows of wte to take
    wte      (vocab, n_embd) a vector for each token
    wpe      (n_positions, n_embd) a vector for each position; the first token stands at position 0
    returns  (..., tokens, n_embd)

    On paper: the same token twice, at the positions 0 and 1.

    >>> embed(np.array([1, 1]), np.array([[9.0, 9.0], [1.0, 2.0]]), np.array([[0.0, 10.0], [20.0, 0.0]]))
    array([[ 1., 12.],
           [21.,  2.]])
    """
    positions = np.arange(ids.shape[-1])
    return wte[ids] + wpe[positions]


def embed_cases(rng: np.random.Generator) -> Cases:
    wte, wpe = rng.standard_normal((11, 4)), rng.standard_normal((13, 4))
    example = np.array([[9.0, 9.0], [1.0, 2.0]]), np.array([[0.0, 10.0], [20.0, 0.0]])
    return {
        "the example": (np.array([1, 1]), *example),
        "5 tokens of 4 numbers": (rng.integers(11, size=5), wte, wpe),
        "a single token": (rng.integers(11, size=1), wte, wpe),
        "a batch, (2, 3)": (rng.integers(11, size=(2, 3)), wte, wpe),
        "a batch, (3, 3)": (rng.integers(11, size=(3, 3)), wte, wpe),
        "as many tokens as positions": (rng.integers(11, size=13), wte, wpe),
    }


def real_embed() -> tuple[np.ndarray, ...]:
    p = tiny()[0].parameters
    return np.array([40, 1842, 262, 5417]), p.wte[:6000], p.wpe


EMBED = Exercise(
    embed,
    cases=embed_cases,
    real=real_embed,
    hints=(
        "A table indexed with an array of ids gives their rows: wte[ids] is (..., tokens, n_embd).",
        "The positions are 0, 1, 2 ... up to the number of tokens, which is the last axis of ids: "
        "ids.shape[-1].",
    ),
    mistakes=(
        Mistake("The positions are left out.", {" + wpe[positions]": ""}, gallery="no-position"),
        Mistake(
            "Positions are counted from 1.",
            {"np.arange(ids.shape[-1])": "np.arange(1, 1 + ids.shape[-1])"},
            gallery="positions-from-one",
        ),
        Mistake(
            "The token itself is left out.",
            {"wte[ids] + wpe[positions]": "wpe[positions] + np.zeros((*ids.shape, 1))"},
        ),
        Mistake(
            "The table of positions is indexed with the ids.",
            {"wpe[positions]": "wpe[ids]"},
            "An id says what a token is; where it stands is its place in the row.",
        ),
        Mistake(
            "Every token gets the vector of position 0.",
            {"np.arange(ids.shape[-1])": "0"},
        ),
        Mistake(
            "The number of positions is taken from the first axis of ids, which in a batch counts the texts.",
            {"ids.shape[-1]": "len(ids)"},
            "The tokens are the last axis: ids.shape[-1].",
        ),
        Mistake(
            "The two vectors are multiplied.",
            {"wte[ids] + wpe": "wte[ids] * wpe"},
        ),
        Mistake(
            "The token's vector is multiplied by the root of n_embd.",
            {"wte[ids]": "wte[ids] * wte.shape[-1] ** 0.5"},
            "The transformer of 2017 did so; GPT-2 adds its vectors as they are.",
        ),
    ),
    use=in_model(lambda mine: {"embed": lambda ids, _positions, p, _hook: mine(ids, p.wte, p.wpe)}),
)

# --------------------------------------------------------------------------------------------- layer_norm


def layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """Each token's vector to mean 0 and variance 1; then a gain and an offset for each of its numbers.

    x        (..., n_embd) vectors
    weight   (n_embd,) the learnt gain
    bias     (n_embd,) the learnt offset
    epsilon  a small number, added to the variance so that its root is never 0
    returns  (..., n_embd)

    The variance is the mean of the squared distances from the mean.

    On paper: [1, 3] has mean 2 and variance 1, [5, -5] has mean 0 and variance 25. Both become -1 and 1, in
    one order or the other.

    >>> layer_norm(np.array([[1.0, 3.0], [5.0, -5.0]]), np.array([1.0, 2.0]), np.array([0.0, 10.0]), 0.0)
    array([[-1., 12.],
           [ 1.,  8.]])
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + epsilon) * weight + bias


def layer_norm_cases(rng: np.random.Generator) -> Cases:
    def with_gain(x: np.ndarray, epsilon: float) -> Arguments:
        n = x.shape[-1]
        return x, 1 + rng.standard_normal(n) / 3, rng.standard_normal(n), epsilon

    example = np.array([[1.0, 3.0], [5.0, -5.0]])
    return {
        "the example": (example, np.array([1.0, 2.0]), np.array([0.0, 10.0]), 0.0),
        "a single vector of 5": with_gain(2 + rng.standard_normal(5), 1e-5),
        "3 tokens of 7 numbers": with_gain(1 + 3 * rng.standard_normal((3, 7)), 1e-5),
        "4 tokens of 4 numbers": with_gain(1 + 3 * rng.standard_normal((4, 4)), 1e-5),
        "a batch, (2, 3, 5)": with_gain(rng.standard_normal((2, 3, 5)), 1e-5),
        "small numbers, where epsilon counts": with_gain(rng.standard_normal((2, 6)) / 50, 1e-3),
        "a token whose numbers are all equal": with_gain(np.full((1, 3), 4.0), 1e-5),
    }


def real_layer_norm() -> tuple[object, ...]:
    model, _ = tiny()
    p = model.parameters.h[2].ln_1
    return real("h.2.resid_pre"), p.weight, p.bias, model.config.layer_norm_epsilon


LAYER_NORM = Exercise(
    layer_norm,
    cases=layer_norm_cases,
    real=real_layer_norm,
    hints=(
        "Mean and variance belong to one token: axis=-1, and keepdims=True so that they can be taken off and "
        "divided by.",
        "First x minus its mean; the mean of the squares of that is the variance. Divide by sqrt(variance + "
        "epsilon).",
    ),
    mistakes=(
        Mistake(
            "The sum of squares is divided by n_embd - 1.",
            {"(centred**2).mean(axis=-1, keepdims=True)": "x.var(axis=-1, ddof=1, keepdims=True)"},
            gallery="unbiased-variance",
        ),
        Mistake(
            "epsilon is added outside of the root.",
            {"np.sqrt(variance + epsilon)": "(np.sqrt(variance) + epsilon)"},
            gallery="epsilon-outside-root",
        ),
        Mistake(
            "epsilon is left out.",
            {"variance + epsilon": "variance"},
            "A token whose numbers are all equal has variance 0, and 0 / 0 is nan.",
        ),
        Mistake(
            "Mean and variance are taken along the first axis.",
            {"x.mean(axis=-1": "x.mean(axis=0", "(centred**2).mean(axis=-1": "(centred**2).mean(axis=0"},
            "Each token is normalised by itself, along its own numbers: axis=-1. (Along the first axis it is "
            "batch norm.)",
        ),
        Mistake(
            "Mean and variance are those of the whole array.",
            {
                "x.mean(axis=-1, keepdims=True)": "x.mean()",
                "(centred**2).mean(axis=-1, keepdims=True)": "(centred**2).mean()",
            },
            "Each token is normalised by itself, along its own numbers: axis=-1.",
        ),
        Mistake(
            "The variance is that of the whole array; only the mean is each token's own.",
            {"(centred**2).mean(axis=-1, keepdims=True)": "x.var()"},
            "Each token is normalised by itself: axis=-1 and keepdims=True belong to the variance, too.",
        ),
        Mistake(
            "epsilon is always 1e-5.",
            {"variance + epsilon": "variance + 1e-5"},
            "That is GPT-2's; another model may have another. Use the one that is given.",
        ),
        Mistake(
            "The mean is not taken off.",
            {"return centred /": "return x /"},
            "The variance is that around the mean, but the vector is still not centred.",
        ),
        Mistake(
            "It divides by the root of the mean square, and takes no mean off.",
            {"x - x.mean(axis=-1, keepdims=True)": "x"},
            "That is RMSNorm, which came after GPT-2.",
        ),
        Mistake(
            "It divides by the variance instead of its root.",
            {"np.sqrt(variance + epsilon)": "(variance + epsilon)"},
            "Variance is in squared units; its root is in those of x.",
        ),
        Mistake("The gain is left out.", {" * weight": ""}),
        Mistake("The offset is left out.", {" + bias": ""}),
        Mistake(
            "The offset is added before the gain multiplies.",
            {"+ bias": "+ bias * weight"},
        ),
        Mistake(
            "1 is added to the gain.",
            {"* weight": "* (1 + weight)"},
            "Some later models keep the gain minus 1; GPT-2 keeps the gain itself.",
        ),
    ),
    use=in_model(
        lambda mine: {
            "layer_norm": lambda x, p, epsilon, _hook, _name: mine(x, p.weight, p.bias, epsilon),
        }
    ),
)

# ----------------------------------------------------------------------------------------------- gelu_new


def gelu_new(x: Array) -> Array:
    """GPT-2's activation: nearly 0 below, nearly x above, and a smooth bend between.

    x        (...) any numbers
    returns  (...) for each number by itself: x/2 times (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))

    On paper: tanh(0) is 0, and far out tanh is -1 or 1.

    >>> gelu_new(np.array([-10.0, 0.0, 10.0]))
    array([-0.,  0., 10.])
    >>> gelu_new(np.array([1.0])).round(4)
    array([0.8412])
    """
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + np.tanh(inner))


GELU_NEW = Exercise(
    gelu_new,
    cases=lambda rng: {
        "the example": (np.array([-10.0, 0.0, 10.0]),),
        "1": (np.array([1.0]),),
        "7 numbers": (2 * rng.standard_normal(7),),
        "a batch, (2, 3, 5)": (2 * rng.standard_normal((2, 3, 5)),),
        "large numbers": (30 * rng.standard_normal(6),),
    },
    real=lambda: (real("h.2.mlp.pre"),),
    hints=(
        "It is one formula: write it from the inside out.",
        "math.sqrt(2 / math.pi) is an ordinary number. np.sqrt of one is a NumPy scalar, which turns float32 "
        "arrays into float64.",
    ),
    mistakes=(
        Mistake(
            "This is the exact GELU, with the error function.",
            {"0.5 * x * (1 + np.tanh(inner))": "0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))"},
            gallery="erf-gelu",
        ),
        Mistake(
            "This is ReLU.",
            {"0.5 * x * (1 + np.tanh(inner))": "np.maximum(x, 0)"},
            "It has a corner at 0 where GELU bends.",
        ),
        Mistake(
            "This is x times the logistic function of 1.702 x.",
            {"0.5 * x * (1 + np.tanh(inner))": "x / (1 + np.exp(-1.702 * x))"},
            "That is a rougher formula for GELU (quick_gelu); GPT-2 was trained with tanh.",
        ),
        Mistake(
            "This is x times the logistic function of x (SiLU).",
            {"0.5 * x * (1 + np.tanh(inner))": "x / (1 + np.exp(-x))"},
            "Later models have it; GPT-2 was trained with tanh.",
        ),
        Mistake("x is squared where it should be cubed.", {"x**3": "x**2"}),
        Mistake("The factor 1/2 is left out.", {"0.5 * x": "x"}),
        Mistake("The 1 is left out.", {"(1 + np.tanh(inner))": "np.tanh(inner)"}),
        Mistake(
            "The factor x in front is left out.", {"0.5 * x *": "0.5 *"}, "Without it this is a soft step."
        ),
        Mistake("The root of 2/pi is left out.", {"math.sqrt(2 / math.pi) * ": ""}),
        Mistake("2/pi stands without its root.", {"math.sqrt(2 / math.pi)": "2 / math.pi"}),
        Mistake("The root is that of 2 pi.", {"2 / math.pi": "2 * math.pi"}),
        Mistake("The cubic term is left out.", {"0.044715 * x**3": "0"}),
        Mistake("The constant is 0.44715.", {"0.044715": "0.44715"}, "It is 0.044715: a zero was lost."),
        Mistake(
            "The factor 0.044715 multiplies x, too.",
            {"(x + 0.044715 * x**3)": "0.044715 * (x + x**3)"},
            "It belongs to the cube alone.",
        ),
    ),
    use=in_model(lambda mine: {"gelu_new": mine}),
)

# -------------------------------------------------------------------------------------------- causal_mask


def causal_mask(tokens: int, past: int) -> Bool[np.ndarray, "tokens keys"]:
    """Which keys each new token may see: all in the cache, those of new tokens before it, and its own.

    tokens   how many new tokens there are; each has a row
    past     how many tokens came before them, in a cache; 0 for a text that begins here
    returns  (tokens, past + tokens) True where the token of the row may see the key of the column

    On paper: two new tokens after one old. The first sees the old one and itself, the second all three.

    >>> causal_mask(2, 1)
    array([[ True,  True, False],
           [ True,  True,  True]])
    """
    keys = np.arange(past + tokens)
    positions = past + np.arange(tokens)
    return keys <= positions[:, None]


CAUSAL_MASK = Exercise(
    causal_mask,
    cases=lambda rng: {
        "the example": (2, 1),
        "3 tokens": (3, 0),
        "a single token": (1, 0),
        "a single token after 4": (1, 4),
        "3 tokens after 2": (3, 2),
        "5 tokens after 3": (5, 3),
        f"{(n := int(rng.integers(4, 9)))} tokens after {(past := int(rng.integers(9)))}": (n, past),
    },
    real=None,
    hints=(
        "Give each key and each new token its position in the whole text. When may a token see a key?",
        "If its position is not above that of the token: keys <= positions[:, None] compares all "
        "pairs at once.",
    ),
    mistakes=(
        Mistake(
            "Rows and columns are swapped: each token sees itself and what comes later.",
            {"keys <= positions[:, None]": "keys >= positions[:, None]"},
            "The row is the one that looks, the column the one that is looked at.",
        ),
        Mistake(
            "A token does not see itself.",
            {"keys <= positions": "keys < positions"},
            "Its own key counts; the first token would have nothing else to look at.",
        ),
        Mistake(
            "Every token sees everything.",
            {"keys <= positions[:, None]": "keys <= keys[-1] + positions[:, None]"},
            gallery="no-mask",
        ),
        Mistake(
            "It is True where a key is hidden.",
            {"keys <= positions": "keys > positions"},
            "Some libraries mean it so; here True is what may be seen.",
        ),
        Mistake(
            "The staircase begins in the upper left corner, as if nothing had come before.",
            {"past + np.arange(tokens)": "np.arange(tokens)"},
            "The first new token stands at position past, and sees all keys up to that.",
        ),
        Mistake(
            "Each token sees one key too many, which is the next token's.",
            {"past + np.arange(tokens)": "past + 1 + np.arange(tokens)"},
        ),
    ),
    use=in_model(
        lambda mine: {"causal_mask": lambda at: mine(at.shape[-1], int(at.min()))[None]},
    ),
)

# ------------------------------------------------------------------------------------------ attention_head


def attention_head(q: Array, k: Array, v: Array) -> Array:
    """One head of attention: each token takes a weighted mean of the values that it may see.

    q        (tokens, head_dim) what each token asks for
    k        (tokens, head_dim) what each token can be found by
    v        (tokens, head_dim) what each token gives
    returns  (tokens, head_dim)

    A score is the dot product of a query and a key, divided by the root of head_dim. A token sees itself and
    those before it; softmax makes shares of the scores that it sees, and the values are mixed in these.

    On paper: head_dim is 4, so scores are halved. The first token sees itself alone. The second's scores are
    2 ln 3 / 2 = ln 3 and 0, its shares 3/4 and 1/4.

    >>> x = 2 * np.log(3.0)
    >>> attention_head(np.array([[5.0, 0, 0, 0], [1, 0, 0, 0]]), np.array([[x, 0, 0, 0], [0.0, 0, 0, 0]]),
    ...                np.array([[4.0, 0, 0, 0], [0, 8, 0, 0]]))
    array([[4., 0., 0., 0.],
           [3., 2., 0., 0.]])
    """
    scores = q @ k.T / math.sqrt(q.shape[-1])
    visible = np.tril(np.ones(scores.shape, bool))
    weights = softmax(np.where(visible, scores, -np.inf))
    return weights @ v


def attention_head_cases(rng: np.random.Generator) -> Cases:
    def head(tokens: int, head_dim: int) -> tuple[np.ndarray, ...]:
        return tuple(rng.standard_normal((3, tokens, head_dim)) * 2)

    x = 2 * np.log(3.0)
    example = ([[5.0, 0, 0, 0], [1, 0, 0, 0]], [[x, 0, 0, 0], [0, 0, 0, 0]], [[4.0, 0, 0, 0], [0, 8, 0, 0]])
    return {
        "the example": tuple(map(np.array, example)),
        "a single token": head(1, 3),
        "3 tokens, head_dim 5": head(3, 5),
        "5 tokens, head_dim 3": head(5, 3),
        "4 tokens, head_dim 4": head(4, 4),
    }


NO_SCALE = "The scores are not divided by the root of head_dim."
NO_MASK = "Every token sees every token, also those that come later."
LATE_MASK = "The weights of later tokens are set to zero after softmax instead of before."
FIXED_SCALE = Mistake(
    "The scores are always divided by the root of 32.",
    {"math.sqrt(q.shape[-1])": "math.sqrt(32)"},
    "32 is tiny's head_dim; another model has another. Take q.shape[-1].",
)
ZERO_SCORES = Mistake(
    "Scores of later tokens are set to 0.",
    {"scores, -np.inf": "scores, 0.0"},
    "exp(0) is 1, a weight like any other; exp(-inf) is 0.",
)
NO_DIAGONAL = Mistake(
    "A token does not see itself, and the first sees nothing at all: softmax of nothing is nan.",
    {"np.tril(np.ones(scores.shape, bool))": "np.tril(np.ones(scores.shape, bool), -1)"},
)


def real_head() -> tuple[np.ndarray, ...]:
    return tuple(real(f"h.2.attn.{name}")[1] for name in "qkv")


def one_head_at_a_time(mine: Function) -> dict[str, Function]:
    """model.py's attention, with one head after the other through the learner's function."""

    def attention(x: Array, p: parameters.Attention, _layer: int, call: Call) -> Array:
        q, k, v = (
            model_py.split_heads(part, call.config.n_head)
            for part in np.split(linear(x, p.c_attn), 3, axis=-1)
        )
        return linear(merge_heads(np.stack([mine(*head) for head in zip(q, k, v, strict=True)])), p.c_proj)

    return {"attention": attention}


ATTENTION_HEAD = Exercise(
    attention_head,
    cases=attention_head_cases,
    real=real_head,
    hints=(
        "All scores at once are a product of matrices, q @ k.T: row i holds those of query i.",
        "np.where(visible, scores, -np.inf) hides what comes later. It comes before softmax, which "
        "gives -inf "
        "the share 0 and divides the rest among the others.",
        "Then mixing is one more product: weights @ v.",
    ),
    mistakes=(
        FIXED_SCALE,
        Mistake(NO_SCALE, {" / math.sqrt(q.shape[-1])": ""}, gallery="no-scale"),
        Mistake(
            "The scores are divided by head_dim instead of its root.",
            {"math.sqrt(q.shape[-1])": "q.shape[-1]"},
            "A sum of head_dim products spreads like the root of head_dim; that is what is divided out.",
        ),
        Mistake(
            "The scores are multiplied by the root of head_dim.",
            {" / math": " * math"},
            "Division keeps their spread near 1, whatever head_dim is.",
        ),
        Mistake(
            "The scores are divided by the root of the number of tokens.",
            {"q.shape[-1]": "len(q)"},
            "The sum runs over head_dim numbers: that is the last axis.",
        ),
        Mistake(NO_MASK, {"np.where(visible, scores, -np.inf)": "scores"}, gallery="no-mask"),
        Mistake(
            LATE_MASK,
            {"softmax(np.where(visible, scores, -np.inf))": "np.where(visible, softmax(scores), 0)"},
            gallery="mask-after-softmax",
        ),
        ZERO_SCORES,
        NO_DIAGONAL,
        Mistake(
            "The mask is the other way round: each token sees itself and what comes later.",
            {"np.tril": "np.triu"},
            "Row i is the query; it may see the columns 0 to i, the lower triangle.",
        ),
        Mistake(
            "softmax runs over the queries instead of the keys.",
            {"-np.inf))": "-np.inf).T).T"},
            "A token's shares of what it sees sum to 1: along each row.",
        ),
        Mistake(
            "Queries and keys are swapped.",
            {"q @ k.T": "k @ q.T"},
            "Row i belongs to the token that asks: q comes first.",
        ),
        Mistake(
            "There is no softmax: the scores themselves mix the values.",
            {"softmax(np.where(visible, scores, -np.inf))": "np.where(visible, scores, 0)"},
        ),
        Mistake(
            "The weights are transposed before they mix the values.",
            {"weights @ v": "weights.T @ v"},
        ),
        Mistake("The keys are mixed instead of the values.", {"weights @ v": "weights @ k"}),
    ),
    use=in_model(one_head_at_a_time),
)

# ------------------------------------------------------------------------------------------- split_heads


def split_heads(x: Array, n_head: int) -> Array:
    """Cut each token's vector into one piece per head, and put the heads in front of the tokens.

    x        (..., tokens, n_embd) vectors
    n_head   how many pieces; n_embd is n_head times head_dim
    returns  (..., n_head, tokens, head_dim) head 0 has the first head_dim numbers of every token

    On paper: two tokens of four numbers, two heads.

    >>> split_heads(np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]), 2)
    array([[[1., 2.],
            [5., 6.]],
    <BLANKLINE>
           [[3., 4.],
            [7., 8.]]])
    """
    pieces = x.reshape(*x.shape[:-1], n_head, -1)
    return pieces.swapaxes(-2, -3)


SPLIT_HEADS = Exercise(
    split_heads,
    cases=lambda rng: {
        "the example": (np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]), 2),
        "3 tokens of 8 numbers, 2 heads": (rng.standard_normal((3, 8)), 2),
        "5 tokens of 6 numbers, 3 heads": (rng.standard_normal((5, 6)), 3),
        "3 tokens of 9 numbers, 3 heads": (rng.standard_normal((3, 9)), 3),
        "one head": (rng.standard_normal((4, 3)), 1),
        "heads of one number": (rng.standard_normal((3, 4)), 4),
        "a batch, (2, 3, 8)": (rng.standard_normal((2, 3, 8)), 4),
        "a batch, (2, 2, 3, 6)": (rng.standard_normal((2, 2, 3, 6)), 2),
    },
    real=lambda: (real("h.2.ln_1"), tiny()[0].config.n_head),
    hints=(
        "Two steps: cut the last axis in two, which is a reshape, and then swap the tokens with the heads.",
        "(tokens, n_embd) -> (tokens, n_head, head_dim) -> (n_head, tokens, head_dim). A -1 in reshape is "
        "whatever is left.",
        "Count axes from the end, as in swapaxes(-2, -3), and any number of axes may stand in front.",
    ),
    mistakes=(
        Mistake(
            "The array is reshaped to (n_head, tokens, head_dim) in one step.",
            {
                "x.reshape(*x.shape[:-1], n_head, -1)": "x.reshape(*x.shape[:-2], n_head, x.shape[-2], -1)",
                "pieces.swapaxes(-2, -3)": "pieces",
            },
            gallery="heads-without-transpose",
        ),
        Mistake("The heads stay behind the tokens.", {"pieces.swapaxes(-2, -3)": "pieces"}),
        Mistake(
            "A head has every n_head-th number of a token.",
            {"n_head, -1)": "-1, n_head)", "pieces.swapaxes(-2, -3)": "np.moveaxis(pieces, -1, -3)"},
            "Head 0 has the first head_dim numbers in one piece, head 1 the next, and so on.",
        ),
        Mistake(
            "The last two axes are swapped: each head is (head_dim, tokens).",
            {"swapaxes(-2, -3)": "swapaxes(-2, -3).swapaxes(-1, -2)"},
        ),
        Mistake(
            "Axes are counted from the front, where a batch may stand.",
            {"swapaxes(-2, -3)": "swapaxes(0, 1)"},
            "Count from the end: swapaxes(-2, -3).",
        ),
        Mistake(
            "n_head and head_dim are taken for each other.",
            {"n_head, -1)": "-1, n_head)"},
        ),
    ),
    use=in_model(lambda mine: {"split_heads": mine}),
)

# ---------------------------------------------------------------------------------------------- attention


def attention(x: Array, p: parameters.Attention, n_head: int) -> Array:
    """All of attention: queries, keys and values, the heads side by side, and back into the stream.

    x         (..., tokens, n_embd) a vector per token
    p         p.c_attn.weight (n_embd, 3 * n_embd) and p.c_attn.bias: queries, keys and values side by side;
              p.c_proj.weight (n_embd, n_embd) and p.c_proj.bias: from the heads' answers to what is returned
    n_head    how many heads share the n_embd numbers
    returns   (..., tokens, n_embd)

    A linear map is x @ weight + bias. Each head does what one head does, with head_dim = n_embd / n_head
    numbers; their answers stand side by side again, head 0 first, before c_proj.

    On paper: every query is 0, so each token takes the plain mean of what it sees: 2, and (2 + 6) / 2 = 4.
    c_attn makes q = 0, k = x and v = 2 x of it, and c_proj adds 1.

    >>> from minigpt.parameters import Attention, Linear
    >>> p = Attention(Linear(np.array([[0.0, 1.0, 2.0]]), np.zeros(3)), Linear(np.eye(1), np.ones(1)))
    >>> attention(np.array([[1.0], [3.0]]), p, 1)
    array([[3.],
           [5.]])
    """
    qkv = x @ p.c_attn.weight + p.c_attn.bias
    q, k, v = (split_heads(part, n_head) for part in np.split(qkv, 3, axis=-1))
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    visible = np.tril(np.ones(scores.shape, bool))
    weights = softmax(np.where(visible, scores, -np.inf))
    merged = (weights @ v).swapaxes(-2, -3).reshape(x.shape)
    return merged @ p.c_proj.weight + p.c_proj.bias


def attention_cases(rng: np.random.Generator) -> Cases:
    one = parameters.Attention(
        parameters.Linear(np.array([[0.0, 1.0, 2.0]]), np.zeros(3)), parameters.Linear(np.eye(1), np.ones(1))
    )
    return {
        "the example": (np.array([[1.0], [3.0]]), one, 1),
        "a single token": (rng.standard_normal((1, 6)), draw_attention(rng, 6), 2),
        "5 tokens of 4 numbers, 1 head": (2 * rng.standard_normal((5, 4)), draw_attention(rng, 4), 1),
        "3 tokens of 8 numbers, 2 heads": (2 * rng.standard_normal((3, 8)), draw_attention(rng, 8), 2),
        "3 tokens of 9 numbers, 3 heads": (2 * rng.standard_normal((3, 9)), draw_attention(rng, 9), 3),
        "a batch, (2, 5, 6), 3 heads": (2 * rng.standard_normal((2, 5, 6)), draw_attention(rng, 6), 3),
        "a batch, (2, 2, 3, 8), 4 heads": (2 * rng.standard_normal((2, 2, 3, 8)), draw_attention(rng, 8), 4),
    }


def real_attention() -> tuple[object, ...]:
    model, _ = tiny()
    return real("h.2.ln_1"), model.parameters.h[2].attn, model.config.n_head


ATTENTION = Exercise(
    attention,
    cases=attention_cases,
    real=real_attention,
    hints=(
        "You have all parts already: one linear map, np.split into three along the last axis, "
        "split_heads for "
        "each, what a head does, and the way back.",
        "With the heads in front, one line serves them all: q @ k.swapaxes(-1, -2) transposes the "
        "last two axes "
        "of any number.",
        "The way back from (..., n_head, tokens, head_dim): swapaxes(-2, -3), then reshape(x.shape). "
        "Then c_proj.",
    ),
    mistakes=(
        Mistake(NO_SCALE, {" / math.sqrt(q.shape[-1])": ""}, gallery="no-scale"),
        Mistake(
            "The scores are divided by the root of n_embd.",
            {"math.sqrt(q.shape[-1])": "math.sqrt(x.shape[-1])"},
            gallery="scale-by-n-embd",
        ),
        Mistake(
            "The scores are divided by head_dim instead of its root.",
            {"math.sqrt(q.shape[-1])": "q.shape[-1]"},
            "A sum of head_dim products spreads like the root of head_dim; that is what is divided out.",
        ),
        Mistake(NO_MASK, {"np.where(visible, scores, -np.inf)": "scores"}, gallery="no-mask"),
        Mistake(
            LATE_MASK,
            {"softmax(np.where(visible, scores, -np.inf))": "np.where(visible, softmax(scores), 0)"},
            gallery="mask-after-softmax",
        ),
        ZERO_SCORES,
        NO_DIAGONAL,
        Mistake(
            "The mask is the other way round: each token sees itself and what comes later.",
            {"np.tril": "np.triu"},
            "Row i is the query; it may see the columns 0 to i, the lower triangle.",
        ),
        Mistake(
            "softmax runs over the queries instead of the keys.",
            {"-np.inf))": "-np.inf).swapaxes(-1, -2)).swapaxes(-1, -2)"},
            "A token's shares of what it sees sum to 1: along the last axis.",
        ),
        Mistake(
            "c_attn's answer is read as keys, queries, values.",
            {"q, k, v = (": "k, q, v = ("},
            "The order is queries, keys, values.",
        ),
        Mistake(
            "c_attn's answer is read as queries, values, keys.",
            {"q, k, v = (": "q, v, k = ("},
            "The order is queries, keys, values.",
        ),
        Mistake(
            "Queries, keys and values are cut out of each head's share, not out of the whole.",
            {
                "split_heads(part, n_head) for": "part for",
                "np.split(qkv": "np.split(split_heads(qkv, n_head)",
            },
            "Some later models store them so; here come all queries, then all keys, then all values.",
        ),
        Mistake(
            "The heads are cut by a reshape alone, so that a head has pieces of several tokens.",
            {
                "split_heads(part, n_head) for": "part.reshape(*x.shape[:-2], n_head, x.shape[-2], -1) for",
            },
            gallery="heads-without-transpose",
        ),
        Mistake(
            "The heads are merged by a reshape alone.",
            {".swapaxes(-2, -3).reshape": ".reshape"},
            "(n_head, tokens, head_dim) has to become (tokens, n_head, head_dim) first.",
        ),
        Mistake("The offset of c_attn is left out.", {" + p.c_attn.bias": ""}),
        Mistake("The offset of c_proj is left out.", {" + p.c_proj.bias": ""}),
        Mistake(
            "c_proj is left out.",
            {"merged @ p.c_proj.weight + p.c_proj.bias": "merged"},
            "It brings the heads' answers together, and back into the residual stream.",
        ),
        Mistake(
            "c_proj.weight is transposed.",
            {"p.c_proj.weight": "p.c_proj.weight.T"},
            gallery="transposed-weights",
        ),
        Mistake(
            "x is added to the answer.",
            {"return merged": "return x + merged"},
            "That is right, and the block does it: here only the answer is asked for.",
        ),
    ),
    use=in_model(lambda mine: {"attention": lambda x, p, _layer, call: mine(x, p, call.config.n_head)}),
)

# ---------------------------------------------------------------------------------------------------- mlp


def mlp(x: Array, p: parameters.MLP) -> Array:
    """Work on each token by itself: widen, bend, narrow.

    x        (..., tokens, n_embd) a vector per token
    p        p.c_fc.weight (n_embd, width) and p.c_fc.bias: to a wider vector;
             p.c_proj.weight (width, n_embd) and p.c_proj.bias: and back
    returns  (..., tokens, n_embd)

    Between the two linear maps stands gelu_new, number by number.

    On paper: 1 becomes 10 and -10; gelu_new leaves 10 and 0; c_proj makes 10 * 2 + 0 * 5 + 1 of these.

    >>> from minigpt.parameters import MLP, Linear
    >>> p = MLP(Linear(np.array([[10.0, -10.0]]), np.zeros(2)), Linear(np.array([[2.0], [5.0]]), np.ones(1)))
    >>> mlp(np.array([[1.0], [-2.0]]), p)
    array([[ 21.],
           [101.]])
    """
    pre = x @ p.c_fc.weight + p.c_fc.bias
    act = gelu_new(pre)
    return act @ p.c_proj.weight + p.c_proj.bias


def mlp_cases(rng: np.random.Generator) -> Cases:
    def tokens(*shape: int, width: int) -> tuple[np.ndarray, parameters.MLP]:
        n = shape[-1]
        p = parameters.MLP(draw_linear(rng, n, width), draw_linear(rng, width, n))
        return 2 * rng.standard_normal(shape), p

    one = parameters.MLP(
        parameters.Linear(np.array([[10.0, -10.0]]), np.zeros(2)),
        parameters.Linear(np.array([[2.0], [5.0]]), np.ones(1)),
    )
    return {
        "the example": (np.array([[1.0], [-2.0]]), one),
        "3 tokens of 5 numbers, width 7": tokens(3, 5, width=7),
        "5 tokens of 4 numbers, width 16": tokens(5, 4, width=16),
        "3 tokens of 4 numbers, width 4": tokens(3, 4, width=4),
        "a batch, (2, 3, 4)": tokens(2, 3, 4, width=9),
    }


MLP = Exercise(
    mlp,
    cases=mlp_cases,
    real=lambda: (real("h.2.ln_2"), tiny()[0].parameters.h[2].mlp),
    hints=("Three lines: a linear map, gelu_new, a linear map. You may use your own gelu_new.",),
    mistakes=(
        Mistake(
            "The activation is left out.",
            {"gelu_new(pre)": "pre"},
            "Two linear maps in a row are one linear map; the bend between them is what makes them more.",
        ),
        Mistake("The activation is ReLU.", {"gelu_new(pre)": "np.maximum(pre, 0)"}),
        Mistake(
            "The activation is the exact GELU, with the error function.",
            {"gelu_new(pre)": "0.5 * pre * (1 + np.vectorize(math.erf)(pre / math.sqrt(2)))"},
            gallery="erf-gelu",
        ),
        Mistake("The activation is the logistic function.", {"gelu_new(pre)": "1 / (1 + np.exp(-pre))"}),
        Mistake("The activation is tanh.", {"gelu_new(pre)": "np.tanh(pre)"}),
        Mistake(
            "The activation comes after c_proj.",
            {
                "gelu_new(pre)": "pre",
                "return act": "return gelu_new(act",
                "c_proj.bias": "c_proj.bias)",
            },
            "It stands between the two maps, where the vector is wide.",
        ),
        Mistake(
            "The activation comes twice, after c_fc and after c_proj.",
            {"return act": "return gelu_new(act", "c_proj.bias": "c_proj.bias)"},
        ),
        Mistake(
            "The activation comes before c_fc.", {"pre = x @": "pre = gelu_new(x) @", "gelu_new(pre)": "pre"}
        ),
        Mistake("The offset of c_fc is left out.", {" + p.c_fc.bias": ""}),
        Mistake(
            "The offset of c_fc is added after the activation.",
            {" + p.c_fc.bias": "", "gelu_new(pre)": "gelu_new(pre) + p.c_fc.bias"},
        ),
        Mistake("The offset of c_proj is left out.", {" + p.c_proj.bias": ""}),
        Mistake(
            "x is added to the answer.",
            {"return act": "return x + act"},
            "That is right, and the block does it: here only the answer is asked for.",
        ),
    ),
    use=in_model(lambda mine: {"mlp": lambda x, p, _call: mine(x, p)}),
)
