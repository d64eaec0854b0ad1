"""GPT-2 in fifty lines: the first rung. `model.py` is the same with all that makes it useful.

One text, one head at a time, no cache: the whole text is computed again for each new token. `w` holds the
arrays under the names that the official checkpoint gives them, and `config` the numbers that go with them:

    import minigpt
    from minigpt import simple

    model, tokenizer = minigpt.load("tiny")
    w = minigpt.named_parameters(model)
    tokenizer.decode(simple.generate(tokenizer.encode("I love"), w, model.config, 10))
"""

import numpy as np
from jaxtyping import Float

from .parameters import Config

Array = Float[np.ndarray, "..."]
Arrays = dict[str, np.ndarray]


def gelu(x: Array) -> Array:
    """A soft ramp: nearly 0 for x far below 0, nearly x far above."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi).astype(x.dtype) * (x + 0.044715 * x**3)))


def softmax(x: Array) -> Array:
    """Any numbers to shares of 1."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm(x: Array, w: Arrays, name: str, epsilon: float) -> Array:
    """Each token's vector to mean 0 and variance 1, then a learnt gain and offset for each number."""
    n = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)
    return n * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: Array, w: Arrays, name: str) -> Array:
    """x W + b."""
    return x @ w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(x: Array, w: Arrays, name: str, n_head: int, scale: float) -> Array:
    """Each token takes a weighted mean of what it and the tokens before it offer, once per head."""
    q, k, v = np.split(linear(x, w, f"{name}.c_attn"), 3, axis=-1)
    future = np.triu(np.full((len(x), len(x)), -np.inf, x.dtype), 1)  # -inf where a key comes after the query
    heads = zip(*(np.split(part, n_head, axis=-1) for part in (q, k, v)), strict=True)
    mixed = [softmax(q @ k.T * scale + future) @ v for q, k, v in heads]  # q, k, v: (tokens, head_dim)
    return linear(np.concatenate(mixed, axis=-1), w, f"{name}.c_proj")


def gpt2(ids: list[int], w: Arrays, config: Config) -> Float[np.ndarray, "tokens vocab"]:
    """The logits: for each token a score of every token that could come next."""
    epsilon = config.layer_norm_epsilon  # keeps layer norm from dividing by 0
    x = w["wte.weight"][ids] + w["wpe.weight"][: len(ids)]  # what each token is, plus where it stands
    for layer in range(config.n_layer):
        h = f"h.{layer}"
        n = layer_norm(x, w, f"{h}.ln_1", epsilon)
        x = x + attention(n, w, f"{h}.attn", config.n_head, config.attention_scale(layer))  # 1/√head_dim
        n = layer_norm(x, w, f"{h}.ln_2", epsilon)
        x = x + linear(gelu(linear(n, w, f"{h}.mlp.c_fc")), w, f"{h}.mlp.c_proj")
    head = w.get("lm_head.weight", w["wte.weight"])  # a file without a head uses the token table again
    return layer_norm(x, w, "ln_f", epsilon) @ head.T


def generate(ids: list[int], w: Arrays, config: Config, n: int) -> list[int]:
    """The text and the n tokens that follow it, each of them the likeliest."""
    ids = list(ids)
    for _ in range(n):
        ids.append(int(gpt2(ids, w, config)[-1].argmax()))
    return ids
