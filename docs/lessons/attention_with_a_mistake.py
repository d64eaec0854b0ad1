"""All of attention: queries, keys and values, the heads side by side, and back into the stream.

When it is written:  minigpt practice check attention.py
When you are stuck:  minigpt practice attention --hint 1
"""

import numpy as np


def attention(x, p, n_head):
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
    q, k, v = np.split(x @ p.c_attn.weight + p.c_attn.bias, 3, axis=-1)
    q, k, v = (part.reshape(*x.shape[:-1], n_head, -1).swapaxes(-2, -3) for part in (q, k, v))
    scores = q @ k.swapaxes(-1, -2)
    scores = np.where(np.tri(x.shape[-2], dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = weights / weights.sum(axis=-1, keepdims=True)
    mixed = (weights @ v).swapaxes(-2, -3).reshape(x.shape)
    return mixed @ p.c_proj.weight + p.c_proj.bias
