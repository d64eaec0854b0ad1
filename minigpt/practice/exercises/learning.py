"""How a model learns: the loss, its way back through the layers, the step, and a preference."""

import math

import numpy as np
from jaxtyping import Float, Int

from ... import backward
from ... import tape as tape_py
from ...backward import Tape, linear_backward
from ...model import Call, merge_heads, split_heads
from ...parameters import Attention, LayerNorm
from ...scoring import continuation_logprobs
from ..arrays import draw_shares
from ..exercise import Arguments, Cases, Exercise, Function, Mistake
from ..whole_model import PROMPT, SENTENCE, in_learning, learn, lesson, real, tiny
from .text import softmax

Array = Float[np.ndarray, "..."]
Scalar = Float[np.ndarray, ""] | np.floating | float
Ids = Int[np.ndarray, "*batch tokens"]

# ------------------------------------------------------------------------------------------ cross_entropy


def cross_entropy(logits: Array, targets: Ids) -> Scalar:
    """The loss: how surprised the model is by the tokens that really come.

    logits   (..., tokens, vocab) the scores of what follows each token
    targets  (..., tokens) the ids that do follow; they stand in the same places, nothing needs to be shifted
    returns  a number: the mean over all tokens of -log(probability of the target)

    log is the natural one. The logits may be as large as 1000, where exp alone overflows.

    On paper: the targets have the probabilities 1/4 and 1, so the loss is (ln 4 + 0) / 2 = ln 2.

    >>> logits = np.array([[np.log(3.0), 0.0], [0.0, -1000.0]])
    >>> print(round(float(cross_entropy(logits, np.array([1, 0]))), 4))
    0.6931
    """
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    found = np.take_along_axis(logprobs, targets[..., None], axis=-1)
    return -found.mean()


def cross_entropy_cases(rng: np.random.Generator) -> Cases:
    def drawn(*shape: int) -> Arguments:
        return 2 * rng.standard_normal(shape), rng.integers(shape[-1], size=shape[:-1])

    return {
        "the example": (np.array([[np.log(3.0), 0.0], [0.0, -1000.0]]), np.array([1, 0])),
        "a single token of 5": drawn(1, 5),
        "4 tokens of 3": drawn(4, 3),
        "3 tokens of 3": drawn(3, 3),
        "a batch, (2, 3, 7)": drawn(2, 3, 7),
        "logits around 1000": (1000 + rng.standard_normal((3, 4)), rng.integers(4, size=3)),
        "targets that are all but impossible": (np.array([[0.0, 1000.0], [0.0, 800.0]]), np.array([0, 0])),
    }


def sentence() -> tuple[np.ndarray, np.ndarray]:
    """The real logits of a sentence and the tokens that follow."""
    ids = np.array(tiny()[1].encode(SENTENCE))
    return real("logits")[:-1], ids[1:]


def loss_in_words(mine: Function) -> str:
    """The loss of the model that ships, as the learner computes it."""
    loss = float(mine(*sentence()))
    return (
        f'By your loss the whole model has {loss:.4f} nats per token on "{SENTENCE}": '
        f"it is as unsure as among {math.exp(loss):.0f} equally likely tokens."
    )


CROSS_ENTROPY = Exercise(
    cross_entropy,
    cases=cross_entropy_cases,
    real=sentence,
    hints=(
        "log of softmax is simpler than softmax: the logit minus the log of the sum of all exp.",
        "Take each row's largest off first: nothing overflows then, and nothing changes.",
        "np.take_along_axis(logprobs, targets[..., None], axis=-1) picks one number per row.",
    ),
    mistakes=(
        Mistake(
            "The sum is returned instead of the mean.",
            {"found.mean()": "found.sum()"},
            "A mean does not depend on how long the text is.",
        ),
        Mistake(
            "The sign is wrong.",
            {"-found": "found"},
            "A probability is below 1, its log below 0, the loss above.",
        ),
        Mistake(
            "The largest logit is not taken off, and exp overflows: inf.",
            {" - logits.max(axis=-1, keepdims=True)": ""},
        ),
        Mistake(
            "The log is taken of a softmax that has rounded to 0: the loss is inf.",
            {"shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))": "np.log(softmax(logits))"},
            "The log of a share is the logit minus the log of the sum; write it so, and nothing is lost.",
        ),
        Mistake(
            "The log has the base 2.",
            {"-found.mean()": "-found.mean() / math.log(2)"},
            "That is bits; the loss is in nats.",
        ),
        Mistake(
            "The mean is taken of the probabilities, and the log of that.",
            {"-found.mean()": "-np.log(np.exp(found).mean())"},
            "Each token is surprising by itself: first the log, then the mean.",
        ),
        Mistake(
            "The mean of the probabilities is taken, without log.", {"-found.mean()": "-np.exp(found).mean()"}
        ),
        Mistake(
            "The logits themselves are taken for log-probabilities.",
            {"shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))": "logits"},
        ),
        Mistake(
            "The sum of exp runs along the tokens.",
            {"sum(axis=-1": "sum(axis=-2"},
            "The choices are the last axis.",
        ),
        Mistake(
            "The mean of all log-probabilities is taken, not just those of the targets.",
            {"found.mean()": "logprobs.mean()"},
        ),
        Mistake(
            "The sum is divided by the number of texts, not of tokens.",
            {"found.mean()": "found.sum() / len(found)"},
            "Every token counts the same: divide by all of them.",
        ),
        Mistake(
            "The sum is divided by the size of the vocabulary.",
            {"found.mean()": "found.sum() / logits.shape[-1]"},
        ),
        Mistake(
            "exp of the loss is returned.",
            {"-found.mean()": "np.exp(-found.mean())"},
            "That is the perplexity.",
        ),
    ),
    use=loss_in_words,
)

# ------------------------------------------------------------------------------------------ embed_backward


def embed_backward(dx: Array, ids: Ids, vocab: int) -> Array:
    """The way back through a table: each token's gradient is added to the row that it was read from.

    dx       (..., tokens, n_embd) the gradient of the vectors wte[ids]
    ids      (..., tokens) the rows that were read; the same id may occur many times
    vocab    how many rows the table has
    returns  (vocab, n_embd) the gradient of the table; 0 where nobody read

    On paper: row 2 was read twice, so it gets both gradients.

    >>> embed_backward(np.array([[1.0, 2.0], [10.0, 20.0]]), np.array([2, 2]), 3)
    array([[ 0.,  0.],
           [ 0.,  0.],
           [11., 22.]])
    """
    table = np.zeros((vocab, dx.shape[-1]), dx.dtype)
    np.add.at(table, ids, dx)
    return table


def embed_backward_cases(rng: np.random.Generator) -> Cases:
    return {
        "the example": (np.array([[1.0, 2.0], [10.0, 20.0]]), np.array([2, 2]), 3),
        "3 different tokens": (rng.standard_normal((3, 4)), np.array([5, 0, 3]), 6),
        "7 tokens, some of them again": (rng.standard_normal((7, 3)), np.array([1, 4, 1, 0, 4, 1, 2]), 6),
        "a batch, (2, 3)": (rng.standard_normal((2, 3, 5)), np.array([[0, 2, 0], [2, 2, 3]]), 4),
    }


def real_embed_backward() -> Arguments:
    ids = np.array(tiny()[1].encode(SENTENCE))
    return real("wte"), ids, int(ids.max()) + 1


def add_rows(mine: Function) -> dict[str, Function]:
    """What tape.py adds the gradients of a table with."""

    def scatter_add(table: Array, ids: Ids, dx: Array) -> None:
        table += mine(dx, ids, len(table))

    return {"scatter_add": scatter_add}


EMBED_BACKWARD = Exercise(
    embed_backward,
    cases=embed_backward_cases,
    real=real_embed_backward,
    hints=(
        "What was looked up on the way forward is added on the way back.",
        "table[ids] += dx reads all rows, adds, and writes: of an id that occurs twice the second "
        "write wins.",
        "np.add.at(table, ids, dx) adds one after the other. A loop over the tokens does it as well.",
    ),
    mistakes=(
        Mistake(
            "W[ids] += dx keeps one gradient of each id and loses the others.",
            {"np.add.at(table, ids, dx)": "table[ids] += dx"},
            "It reads the rows once, adds, and writes them; of an id that occurs twice the second "
            "write wins. np.add.at adds all.",
        ),
        Mistake(
            "An id that occurs several times gets the mean of its gradients.",
            {
                "np.add.at(table, ids, dx)": "np.add.at(table, ids, dx)\n    table /= "
                "np.maximum(np.bincount(ids.reshape(-1), "
                "minlength=vocab), 1)[:, None]"
            },
            "Every occurrence pushes the row by itself: they add up.",
        ),
        Mistake("The gradients have the wrong sign.", {"(table, ids, dx)": "(table, ids, -dx)"}),
        Mistake(
            "An id that occurs several times keeps the first gradient.",
            {
                "np.add.at(table, ids, dx)": "for i, d in list(zip(ids.reshape(-1), dx.reshape(-1, "
                "dx.shape[-1]), strict=True))[::-1]:\n        table[i] ="
                " d"
            },
        ),
        Mistake(
            "All gradients are added to every row that was read.",
            {"np.add.at(table, ids, dx)": "table[ids] = dx.reshape(-1, dx.shape[-1]).sum(axis=0)"},
        ),
    ),
    use=in_learning(tape_py, add_rows),
)

# ----------------------------------------------------------------------------------------- softmax_backward


def softmax_backward(d_weights: Array, weights: Array) -> Array:
    """The way back through softmax: from the gradient of the shares to that of the scores.

    d_weights  (..., n) by how much the loss would grow if a share grew a little
    weights    (..., n) the shares: softmax of the scores, 0 where one was masked
    returns    (..., n) the gradient of the scores

    Raising one score raises its share and lowers all others: the derivative of share i by score j is
    w_i (1 - w_j) where they are the same, and -w_i w_j where not.

    On paper: the mean of d_weights in these shares is 4/4 + 0 = 1; a score gains by how much its share pays
    more than that.

    >>> softmax_backward(np.array([4.0, 0.0]), np.array([0.25, 0.75]))
    array([ 0.75, -0.75])
    """
    mean = (d_weights * weights).sum(axis=-1, keepdims=True)
    return weights * (d_weights - mean)


def softmax_backward_cases(rng: np.random.Generator) -> Cases:
    masked = np.where(np.tril(np.ones((4, 4), bool)), rng.exponential(size=(4, 4)), 0)
    masked /= masked.sum(axis=-1, keepdims=True)
    return {
        "the example": (np.array([4.0, 0.0]), np.array([0.25, 0.75])),
        "a row of 5": (rng.standard_normal(5), draw_shares(rng, 5)),
        "a single share": (rng.standard_normal((2, 1)), np.ones((2, 1))),
        "3 rows of 4": (rng.standard_normal((3, 4)), draw_shares(rng, 3, 4)),
        "masked shares": (rng.standard_normal((4, 4)), masked),
        "a batch, (2, 3, 5)": (rng.standard_normal((2, 3, 5)), draw_shares(rng, 2, 3, 5)),
    }


def real_softmax_backward() -> Arguments:
    weights = real("h.2.attn.weights")
    return np.random.default_rng(0).standard_normal(weights.shape, np.float32), weights


SOFTMAX_BACKWARD = Exercise(
    softmax_backward,
    cases=softmax_backward_cases,
    real=real_softmax_backward,
    hints=(
        "Sum over i of d_weights_i times the derivative of w_i by score j: write it out, and w_j "
        "comes out of the sum.",
        "What is left inside is d_weights_j minus the mean of d_weights, taken in the shares.",
    ),
    mistakes=(
        Mistake(
            "Each share is treated by itself, w (1 - w), as if it were a logistic function.",
            {"weights * (d_weights - mean)": "weights * (1 - weights) * d_weights"},
            "That is where i and j are the same; all other shares move, too.",
        ),
        Mistake(
            "The mean is not taken off.",
            {"(d_weights - mean)": "d_weights"},
            "When one share grows the others shrink: the gradients of a row of scores sum to 0.",
        ),
        Mistake(
            "The plain mean is taken off.",
            {"(d_weights * weights).sum(axis=-1, keepdims=True)": "d_weights.mean(axis=-1, keepdims=True)"},
            "It is the mean in the shares: the sum of d_weights times weights.",
        ),
        Mistake(
            "The sum of all is taken off.",
            {"(d_weights * weights)": "d_weights"},
            "It is weighted by the shares.",
        ),
        Mistake(
            "The sum runs over the whole array.",
            {"sum(axis=-1, keepdims=True)": "sum()"},
            "Each row is a softmax of its own.",
        ),
        Mistake(
            "The sum runs along the first axis.",
            {"sum(axis=-1": "sum(axis=0"},
            "Each row is a softmax of its own.",
        ),
        Mistake("The factor in front is left out.", {"weights * (d": "(d"}),
        Mistake("The sign is wrong.", {"(d_weights - mean)": "(mean - d_weights)"}),
        Mistake("The mean is added.", {"d_weights - mean": "d_weights + mean"}),
        Mistake(
            "The mean is not multiplied by the share.",
            {"weights * (d_weights - mean)": "weights * d_weights - mean"},
        ),
    ),
    use=in_learning(backward, lambda mine: {"softmax_backward": lambda d, weights, _pull: mine(d, weights)}),
)

# --------------------------------------------------------------------------------------- layer_norm_backward


def layer_norm_backward(dy: Array, x: Array, weight: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """The way back through layer norm: to the vectors, to the gain and to the offset.

    dy        (..., n_embd) the gradient of what layer norm returned
    x         (..., n_embd) the vectors that it was given
    weight    (n_embd,) the gain
    epsilon   the number added to the variance
    returns   three arrays:
    dx        (..., n_embd) the gradient of x
    d_weight  (n_embd,) that of the gain
    d_bias    (n_embd,) that of the offset

    Forward it was n = (x - mean) / s with s = sqrt(variance + epsilon), and y = n * weight + bias. Mean and s
    depend on x, too: whatever would only shift or stretch the vector comes to nothing.

    On paper: [1, 3, 1, 3] becomes n = [-1, 1, -1, 1], with s = 1. Of dy = [4, 0, 0, 0] the mean 1 goes, and n
    times the mean of dy * n, which is -1: [4, 0, 0, 0] - 1 + [-1, 1, -1, 1].

    >>> x, dy = np.array([[1.0, 3, 1, 3]]), np.array([[4.0, 0, 0, 0]])
    >>> layer_norm_backward(dy, x, np.ones(4), 0.0)
    (array([[ 2.,  0., -2.,  0.]]), array([-4.,  0.,  0.,  0.]), array([4., 0., 0., 0.]))
    """
    scale = np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)
    n = (x - x.mean(axis=-1, keepdims=True)) / scale
    dn = dy * weight
    shift = dn.mean(axis=-1, keepdims=True)
    stretch = (dn * n).mean(axis=-1, keepdims=True)
    tokens = tuple(range(x.ndim - 1))
    return (dn - shift - n * stretch) / scale, (dy * n).sum(axis=tokens), dy.sum(axis=tokens)


def layer_norm_backward_cases(rng: np.random.Generator) -> Cases:
    def drawn(*shape: int, spread: float = 1.0, epsilon: float = 1e-5) -> Arguments:
        dy, x = rng.standard_normal(shape), 1 + spread * rng.standard_normal(shape)
        return dy, x, 1 + rng.standard_normal(shape[-1]) / 3, epsilon

    return {
        "the example": (np.array([[4.0, 0, 0, 0]]), np.array([[1.0, 3, 1, 3]]), np.ones(4), 0.0),
        "3 tokens of 5 numbers": drawn(3, 5),
        "4 tokens of 4 numbers": drawn(4, 4, spread=3.0),
        "a single vector of 6": drawn(6),
        "a batch, (2, 3, 5)": drawn(2, 3, 5, spread=2.0),
        "small numbers, where epsilon counts": drawn(2, 7, spread=0.03, epsilon=1e-3),
    }


def real_layer_norm_backward() -> Arguments:
    model, _ = tiny()
    x = real("h.2.resid_pre")
    dy = np.random.default_rng(0).standard_normal(x.shape, np.float32)
    return dy, x, model.parameters.h[2].ln_1.weight, model.config.layer_norm_epsilon


def through_layer_norm(mine: Function) -> dict[str, Function]:
    """The way back of backward.py, where the gradients of parameters come in the parameters' class."""
    epsilon = tiny()[0].config.layer_norm_epsilon

    def layer_norm_backward(
        dy: Array, x: Array, _scale: Array, p: LayerNorm, *_: object
    ) -> tuple[Array, LayerNorm]:
        dx, d_weight, d_bias = mine(dy, x, p.weight, epsilon)
        return dx, LayerNorm(d_weight, d_bias)

    return {"layer_norm_backward": layer_norm_backward}


LAYER_NORM_BACKWARD = Exercise(
    layer_norm_backward,
    cases=layer_norm_backward_cases,
    real=real_layer_norm_backward,
    hints=(
        "The offset was added to every token, so its gradient is the sum of dy over all tokens; that "
        "of the gain the "
        "sum of dy * n.",
        "Call dn = dy * weight the gradient of n. If mean and s did not depend on x, dx would be dn / s.",
        "They do: take off the mean of dn, and n times the mean of dn * n, and then divide by s. Both"
        " means run along "
        "the last axis.",
    ),
    mistakes=(
        Mistake(
            "dx lacks what comes through the mean.",
            {"dn - shift - n": "dn - n"},
            "Raising one number of x raises the mean, which lowers all others: take the mean of dn off.",
        ),
        Mistake(
            "dx lacks what comes through the variance.",
            {" - n * stretch": ""},
            "Raising one number of x stretches the vector: take n times the mean of dn * n off.",
        ),
        Mistake(
            "Mean and variance are treated as if they did not depend on x.",
            {"dn - shift - n * stretch": "dn"},
            "They do: take off the mean of dn, and n times the mean of dn * n.",
        ),
        Mistake(
            "dx is not divided by s.", {"(dn - shift - n * stretch) / scale": "(dn - shift - n * stretch)"}
        ),
        Mistake(
            "dx is divided by the variance instead of its root.",
            {"n * stretch) / scale": "n * stretch) / scale**2"},
        ),
        Mistake("The gain is forgotten on the way to dx.", {"dn = dy * weight": "dn = dy"}),
        Mistake(
            "The gradient of the gain is multiplied by the gain.",
            {"(dy * n).sum": "(dn * n).sum"},
            "y = n * weight + bias: the gain's own gradient is dy * n.",
        ),
        Mistake("The gradient of the gain is taken from x instead of n.", {"(dy * n).sum": "(dy * x).sum"}),
        Mistake(
            "The gradients of gain and offset are means over the tokens.",
            {"(dy * n).sum": "(dy * n).mean", "dy.sum": "dy.mean"},
            "What was copied to every token is summed on the way back.",
        ),
        Mistake(
            "The variance is divided by n_embd - 1.",
            {"axis=-1, keepdims=True) + epsilon": "axis=-1, ddof=1, keepdims=True) + epsilon"},
            gallery="unbiased-variance",
        ),
        Mistake("epsilon is left out.", {" + epsilon": ""}),
        Mistake(
            "The sums over dn run along the tokens.",
            {"dn.mean(axis=-1": "dn.mean(axis=0", "(dn * n).mean(axis=-1": "(dn * n).mean(axis=0"},
            "Each token was normalised along its own numbers.",
        ),
        Mistake("The gradient of the offset is that of the gain.", {"dy.sum(": "(dy * n).sum("}),
    ),
    use=in_learning(backward, through_layer_norm),
)

# ---------------------------------------------------------------------------------------- attention_backward


def attention_backward(
    d_mixed: Array, q: Array, k: Array, v: Array, weights: Array
) -> tuple[Array, Array, Array]:
    """The way back through a head of attention: to its queries, keys and values.

    d_mixed  (..., tokens, head_dim) the gradient of weights @ v
    q        (..., tokens, head_dim) queries
    k        (..., tokens, head_dim) keys
    v        (..., tokens, head_dim) values
    weights  (..., tokens, tokens) softmax of the masked scores, q @ k.T / sqrt(head_dim)
    returns  three arrays:
    dq       (..., tokens, head_dim) the gradient of the queries
    dk       (..., tokens, head_dim) of the keys
    dv       (..., tokens, head_dim) of the values

    A product c = a @ b sends dc @ b.T back to a, and a.T @ dc to b. What is masked has the weight 0, and
    needs no mask on the way back.

    On paper: head_dim is 1. The second token mixes both values half and half: d_mixed = 4 sends 2 to each.
    The weights get 4 * 1 and 4 * 3; softmax makes -2 and 2 of these.

    >>> d_mixed, q, k, v = np.array([[[0.0], [4]], [[1], [2]], [[0], [5]], [[1], [3]]])
    >>> attention_backward(d_mixed, q, k, v, np.array([[1.0, 0], [0.5, 0.5]]))
    (array([[ 0.],
           [10.]]), array([[-4.],
           [ 4.]]), array([[2.],
           [2.]]))
    """
    scale = 1 / math.sqrt(q.shape[-1])
    d_weights = d_mixed @ v.swapaxes(-1, -2)
    mean = (d_weights * weights).sum(axis=-1, keepdims=True)
    d_scores = weights * (d_weights - mean)
    dq = d_scores @ k * scale
    dk = d_scores.swapaxes(-1, -2) @ q * scale
    dv = weights.swapaxes(-1, -2) @ d_mixed
    return dq, dk, dv


def attention_backward_cases(rng: np.random.Generator) -> Cases:
    def drawn(*shape: int) -> Arguments:
        d_mixed, q, k, v = rng.standard_normal((4, *shape))
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(shape[-1])
        return d_mixed, q, k, v, softmax(np.where(np.tril(np.ones(scores.shape, bool)), scores, -np.inf))

    example = [[0.0], [4]], [[1.0], [2]], [[0.0], [5]], [[1.0], [3]], [[1.0, 0], [0.5, 0.5]]
    return {
        "the example": tuple(np.array(each) for each in example),
        "3 tokens, head_dim 5": drawn(3, 5),
        "4 tokens, head_dim 4": drawn(4, 4),
        "2 heads of 5 tokens, head_dim 3": drawn(2, 5, 3),
        "a batch, (2, 3, 4, 2)": drawn(2, 3, 4, 2),
    }


def real_attention_backward() -> Arguments:
    q, k, v, weights = (real(f"h.2.attn.{name}") for name in ("q", "k", "v", "weights"))
    return np.random.default_rng(0).standard_normal(q.shape, np.float32), q, k, v, weights


def through_attention(mine: Function) -> dict[str, Function]:
    """The way back through c_proj, the learner's heads, and c_attn."""

    def attention_backward(
        d_out: Array, x: Array, tape: Tape, p: Attention, _layer: int, call: Call
    ) -> tuple[Array, Attention]:
        d_merged, c_proj = linear_backward(d_out, merge_heads(tape["mixed"]), p.c_proj)
        d_mixed = split_heads(d_merged, call.config.n_head)
        gradients = mine(d_mixed, *(tape[name] for name in ("q", "k", "v", "weights")))
        dx, c_attn = linear_backward(
            np.concatenate([merge_heads(d) for d in gradients], axis=-1), x, p.c_attn
        )
        return dx, Attention(c_attn, c_proj)

    return {"attention_backward": attention_backward}


SOFTMAX_MEAN = "(d_weights * weights).sum(axis=-1, keepdims=True)"
ATTENTION_BACKWARD = Exercise(
    attention_backward,
    cases=attention_backward_cases,
    real=real_attention_backward,
    hints=(
        "Forward: scores, softmax, product with v. Backward from the last: d_mixed goes to v and to "
        "the weights, "
        "those through softmax to the scores, and these to q and k.",
        "dv = weights transposed @ d_mixed: a value hears from every query that looked at it.",
        "The scale was a factor of the scores, so it is one of dq and dk, once each.",
    ),
    mistakes=(
        Mistake(
            "dq and dk lack the scale, 1 / sqrt(head_dim).",
            {"1 / math.sqrt(q.shape[-1])": "1.0"},
            "It was a factor of the scores; a factor stays one on the way back.",
        ),
        Mistake("The scale is there twice.", {"1 / math.sqrt(q.shape[-1])": "1 / q.shape[-1]"}),
        Mistake("dq lacks the scale.", {"@ k * scale": "@ k"}),
        Mistake("dk lacks the scale.", {"@ q * scale": "@ q"}),
        Mistake(
            "dv is made with the weights as they are, not transposed.",
            {"dv = weights.swapaxes(-1, -2)": "dv = weights"},
            "A value hears from every query that looked at it: from a column of weights.",
        ),
        Mistake(
            "dk is made with d_scores as they are, not transposed.",
            {"d_scores.swapaxes(-1, -2) @ q": "d_scores @ q"},
            "A key hears from every query that looked at it: from a column of scores.",
        ),
        Mistake("dq and dk are swapped.", {"return dq, dk": "return dk, dq"}),
        Mistake(
            "softmax is left out: the gradient of the weights is taken for that of the scores.",
            {"weights * (d_weights - mean)": "d_weights"},
        ),
        Mistake(
            "On the way back through softmax the mean is not taken off.",
            {"(d_weights - mean)": "d_weights"},
            "When one share grows the others shrink: the gradients of a row of scores sum to 0.",
        ),
        Mistake(
            "On the way back through softmax each weight is treated by itself, w (1 - w).",
            {"weights * (d_weights - mean)": "weights * (1 - weights) * d_weights"},
        ),
        Mistake(
            "On the way back through softmax the plain mean is taken off.",
            {SOFTMAX_MEAN: "d_weights.mean(axis=-1, keepdims=True)"},
            "It is the mean in the shares.",
        ),
        Mistake(
            "The mean runs along the queries.",
            {"sum(axis=-1": "sum(axis=-2"},
            "Each row of weights is a softmax of its own.",
        ),
    ),
    use=in_learning(backward, through_attention),
)

# --------------------------------------------------------------------------------------------- adamw_step


def adamw_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    decay: float,
) -> tuple[Array, Array, Array]:
    """One step of AdamW: every number moves by about the rate, against its gradient.

    p        (...) parameters
    g        (...) their gradient
    m        (...) the running mean of the gradient so far
    v        (...) the running mean of its square so far
    step     which step this is, counted from 1
    rate     the learning rate
    beta1    how much of m stays;  beta2  how much of v stays
    epsilon  keeps the division from being one by 0
    decay    by which share of the rate the parameters shrink
    returns  three arrays, new ones:
    p        (...) the parameters after the step
    m        (...) and the running means,
    v        (...) which go into the next step

    In this order: p shrinks by the factor 1 - rate * decay. m becomes beta1 m + (1 - beta1) g, and v the same
    with beta2 and the square of g. Both began at 0 and are too small: divided by 1 - beta**step they are not.
    Then p loses rate times m / (sqrt(v) + epsilon), with these corrected m and v.

    On paper: at the first step the corrected means are g and g * g, so p moves by the rate, whatever g is.
    Uncorrected, they are g / 4 and g * g / 4, and p moves by half the rate.

    >>> p, g, zero = np.array([1.0, 2.0]), np.array([0.5, -8.0]), np.zeros(2)
    >>> adamw_step(p, g, zero, zero, 1, 0.1, 0.75, 0.75, 0.0, 0.0)
    (array([0.9, 2.1]), array([ 0.125, -2.   ]), array([ 0.0625, 16.    ]))
    """
    p = p * (1 - rate * decay)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**step)
    v_hat = v / (1 - beta2**step)
    return p - rate * m_hat / (np.sqrt(v_hat) + epsilon), m, v


def adamw_cases(rng: np.random.Generator) -> Cases:
    def drawn(
        *shape: int, step: int, epsilon: float = 1e-3, decay: float = 0.1, rate: float = 0.2
    ) -> Arguments:
        p, g, m = rng.standard_normal((3, *shape))
        return p, g, m, rng.exponential(size=shape), step, rate, 0.8, 0.95, epsilon, decay

    p, g, zero = np.array([1.0, 2.0]), np.array([0.5, -8.0]), np.zeros(2)
    small = rng.standard_normal(4) / 1e3
    return {
        "the example": (p, g, zero, zero, 1, 0.1, 0.75, 0.75, 0.0, 0.0),
        "step 3 of 5 numbers": drawn(5, step=3),
        "step 1": drawn(4, step=1),
        "step 7 of a matrix, (3, 2)": drawn(3, 2, step=7),
        "no decay": drawn(3, step=2, decay=0.0),
        "small gradients, where epsilon counts": (
            p[:1] + small,
            small,
            small,
            small**2,
            4,
            0.1,
            0.9,
            0.95,
            1e-2,
            0.1,
        ),
        "a gradient of 0": (p, zero, zero, zero, 1, 0.1, 0.9, 0.95, 1e-8, 0.1),
    }


def one_step_of_adamw(mine: Function) -> str:
    """One step of the whole model."""
    loss, found = lesson(tiny()[0])

    def move(name: str, p: Array) -> Array:
        zero = np.zeros_like(p)
        return mine(p, found[name], zero, zero, 1, 3e-4, 0.9, 0.95, 1e-8, 0.1)[0]

    return f"One step of the whole model with yours: {learn(loss, move)}"


ADAMW_STEP = Exercise(
    adamw_step,
    cases=adamw_cases,
    real=None,
    hints=(
        "Five lines in the order of the task. Return the running means as they are; corrected ones "
        "are used once and "
        "thrown away.",
        "epsilon is added to the root, not under it, and after the correction.",
    ),
    mistakes=(
        Mistake(
            "The running means are not corrected for having begun at 0.",
            {"m / (1 - beta1**step)": "m", "v / (1 - beta2**step)": "v"},
            "At the first step they hold only a share 1 - beta of the gradient.",
        ),
        Mistake("m is not corrected for having begun at 0.", {"m / (1 - beta1**step)": "m"}),
        Mistake("v is not corrected for having begun at 0.", {"v / (1 - beta2**step)": "v"}),
        Mistake(
            "The corrected means are returned.",
            {"epsilon), m, v": "epsilon), m_hat, v_hat"},
            "The next step would correct them once more: return m and v as they are.",
        ),
        Mistake(
            "epsilon stands under the root.",
            {"np.sqrt(v_hat) + epsilon": "np.sqrt(v_hat + epsilon)"},
            "Here it is added to the root; that is the opposite of layer norm.",
        ),
        Mistake("epsilon is left out.", {" + epsilon": ""}, "A gradient that was always 0 gives 0 / 0."),
        Mistake(
            "The decay is added to the gradient.",
            {"p * (1 - rate * decay)": "p", "m = beta1": "g = g + decay * p\n    m = beta1"},
            "That is Adam with L2: the decay is divided by the root of v like a gradient. The W in "
            "AdamW says that it is not.",
        ),
        Mistake("There is no decay.", {"p * (1 - rate * decay)": "p"}),
        Mistake("The decay is not multiplied by the rate.", {"1 - rate * decay": "1 - decay"}),
        Mistake(
            "The parameters shrink after the step, by the new values.",
            {
                "p = p * (1 - rate * decay)": "pass",
                "return p": "p = p",
                "epsilon), m, v": "epsilon)\n    return p * (1 - rate * decay), m, v",
            },
        ),
        Mistake(
            "Steps are counted from 0, and the correction is one step behind.",
            {"beta1**step": "beta1 ** (step - 1)", "beta2**step": "beta2 ** (step - 1)"},
        ),
        Mistake(
            "The correction has beta times step instead of beta to the power of step.",
            {"beta1**step": "beta1 * step", "beta2**step": "beta2 * step"},
        ),
        Mistake("The root of v is not taken.", {"np.sqrt(v_hat)": "v_hat"}),
        Mistake("v is a running mean of g, not of its square.", {"g**2": "g"}),
        Mistake("The gradient itself is used instead of its running mean.", {"m_hat / (np": "g / (np"}),
        Mistake(
            "The step goes up the gradient.",
            {"return p - rate": "return p + rate"},
            "The loss falls against the gradient.",
        ),
        Mistake(
            "beta and 1 - beta are swapped.",
            {
                "beta1 * m + (1 - beta1) * g": "(1 - beta1) * m + beta1 * g",
                "beta2 * v + (1 - beta2) * g**2": "(1 - beta2) * v + beta2 * g**2",
            },
        ),
        Mistake(
            "beta1 and beta2 are swapped.",
            {"m = beta1 * m + (1 - beta1)": "beta1, beta2 = beta2, beta1\n    m = beta1 * m + (1 - beta1)"},
        ),
    ),
    use=one_step_of_adamw,
)

# ---------------------------------------------------------------------------------------------- orpo_loss


def orpo_loss(chosen: Array, rejected: Array, beta: float) -> Scalar:
    """A preference as a loss: make the chosen answer likely, and likelier than the rejected one.

    chosen    (n,) the log-probability of each token of the chosen answer
    rejected  (k,) the same of the rejected answer, which may have another length
    beta      how much the preference counts
    returns   a number: NLL + beta * log(1 + exp(-h))

    NLL is minus the mean of the chosen's log-probabilities. h is the log-odds of the chosen minus that of the
    rejected. An answer's log-odds are log(P / (1 - P)), where log P is the mean of its log-probabilities.

    On paper: P is 1/2 for the chosen, with odds 1, and 1/4 for the rejected, with odds 1/3. So h is ln 3, and
    log(1 + exp(-h)) is ln(4/3); NLL is ln 2.

    >>> chosen, rejected = np.log([0.5, 0.5]), np.log([0.25])
    >>> print(round(float(orpo_loss(chosen, rejected, 1.0)), 4), round(np.log(2) + np.log(4 / 3), 4))
    0.9808 0.9808
    """

    def log_odds(logprobs: Array) -> Scalar:
        mean = logprobs.mean()
        return mean - np.log(-np.expm1(mean))

    h = log_odds(chosen) - log_odds(rejected)
    return -chosen.mean() + beta * np.logaddexp(0, -h)


def orpo_cases(rng: np.random.Generator) -> Cases:
    def drawn(n: int, k: int, beta: float, spread: float = 1.0) -> Arguments:
        return -spread * rng.exponential(size=n), -spread * rng.exponential(size=k), beta

    return {
        "the example": (np.log([0.5, 0.5]), np.log([0.25]), 1.0),
        "3 tokens and 5": drawn(3, 5, 0.5),
        "4 tokens and 2, beta 2": drawn(4, 2, 2.0),
        "one token each": drawn(1, 1, 1.0),
        "beta 0": drawn(3, 2, 0.0),
        "a rejected answer that is far likelier": (np.full(3, -40.0), np.full(2, -0.01), 1.0),
        "unlikely answers": drawn(3, 4, 1.0, spread=20.0),
        "answers whose P is nearly 1": (np.full(3, -2e-9), np.full(2, -1.1e-9), 1.0),
        "a chosen answer that is next to impossible": (np.full(2, -700.0), np.full(3, -2e-9), 1.0),
    }


def real_orpo() -> Arguments:
    logprobs = real("logits") - np.log(np.exp(real("logits")).sum(axis=-1, keepdims=True))
    _, ids = sentence()
    return logprobs[np.arange(5), ids[:5]], logprobs[np.arange(5), ids[::-1][:5]], 0.1


def preference_in_words(mine: Function) -> str:
    """The loss of a preference that the model does not have."""
    model, tokenizer = tiny()
    answers = [tokenizer.encode(answer) for answer in (" you", " rain")]
    likely, unlikely = (
        each.logprobs for each in continuation_logprobs(model, tokenizer.encode(PROMPT), answers)
    )
    against, along = float(mine(unlikely, likely, 1.0)), float(mine(likely, unlikely, 1.0))
    return (
        f'By your loss the whole model would pay {against:.2f} for preferring "{PROMPT} rain" to '
        f'"{PROMPT} you", and {along:.2f} for the opposite, which it holds already.'
    )


ORPO_LOSS = Exercise(
    orpo_loss,
    cases=orpo_cases,
    real=real_orpo,
    hints=(
        "Means first: log P of each answer. Then log P - log(1 - P) of each, and h is their difference.",
        "1 - P is -np.expm1(log P), which loses no digits where P is near 1.",
        "log(1 + exp(-h)) is np.logaddexp(0, -h), which does not overflow.",
    ),
    mistakes=(
        Mistake(
            "Log-probabilities are summed instead of averaged in the log-odds.",
            {"mean = logprobs.mean()": "mean = logprobs.sum()"},
            "A sum would make every long answer unlikely; ORPO takes means.",
        ),
        Mistake(
            "Log-probabilities are compared, not log-odds.",
            {"return mean - np.log(-np.expm1(mean))": "return mean"},
            "log P is the first half; log(1 - P) is taken off.",
        ),
        Mistake(
            "1 - P is computed as 1 - np.exp(log P).",
            {"-np.expm1(mean)": "1 - np.exp(mean)"},
            "Where P is near 1, nearly all digits cancel; -np.expm1(log P) keeps them.",
        ),
        Mistake(
            "log(1 + exp(-h)) is computed as it is written.",
            {"np.logaddexp(0, -h)": "np.log(1 + np.exp(-h))"},
            "Where h is far below 0, exp(-h) overflows; np.logaddexp(0, -h) does not.",
        ),
        Mistake(
            "h has the wrong sign: the rejected answer is preferred.",
            {"log_odds(chosen) - log_odds(rejected)": "log_odds(rejected) - log_odds(chosen)"},
        ),
        Mistake(
            "The NLL is left out.",
            {"-chosen.mean() + beta": "beta"},
            "It is what makes the chosen answer likely at all.",
        ),
        Mistake("The NLL is summed over the tokens.", {"-chosen.mean()": "-chosen.sum()"}),
        Mistake(
            "The NLL covers both answers.",
            {"-chosen.mean()": "-chosen.mean() - rejected.mean()"},
            "Nobody wants the rejected answer to become likely.",
        ),
        Mistake("The NLL is that of the rejected answer.", {"-chosen.mean()": "-rejected.mean()"}),
        Mistake(
            "h itself is taken off, without log(1 + exp(-h)).",
            {"beta * np.logaddexp(0, -h)": "beta * -h"},
            "The log makes the push fade once the preference is learnt.",
        ),
        Mistake(
            "1 / (1 + exp(-h)) is added instead of log(1 + exp(-h)).",
            {"np.logaddexp(0, -h)": "(1 / (1 + np.exp(-h)))"},
        ),
        Mistake(
            "The sign of the second term is wrong.",
            {"+ beta * np": "- beta * np"},
            "log sigmoid(h) is below 0, and minus it above: both terms are losses.",
        ),
        Mistake(
            "beta multiplies h.",
            {"beta * np.logaddexp(0, -h)": "np.logaddexp(0, -beta * h)"},
            "That is where DPO has it; in ORPO it is the weight of the second term.",
        ),
        Mistake("beta is left out.", {"beta * np": "np"}),
        Mistake("beta multiplies both terms.", {"-chosen.mean() + beta *": "beta * -chosen.mean() + beta *"}),
        Mistake(
            "The odds are P * (1 - P).",
            {"mean - np.log": "mean + np.log"},
            "They are P / (1 - P): log(1 - P) is taken off.",
        ),
        Mistake(
            "The odds are not taken to the log.",
            {"return mean - np.log(-np.expm1(mean))": "return -np.exp(mean) / np.expm1(mean)"},
        ),
        Mistake(
            "P is averaged, not log P.", {"mean = logprobs.mean()": "mean = np.log(np.exp(logprobs).mean())"}
        ),
    ),
    use=preference_in_words,
)
