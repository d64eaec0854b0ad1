"""The activations that a config may name besides GPT-2's own `gelu_new`, which stands in `model.py`.

Each maps an array of any shape to a new array of the same shape and dtype; beside it stands what takes the
gradient back to its input. The names are those of `transformers.activations.ACT2FN`.
"""

import math

import numpy as np
from jaxtyping import Float

# What a config may name; `gelu_pytorch_tanh` is another name for `gelu_new`.
ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh", "gelu", "relu", "silu")
Array = Float[np.ndarray, "..."]

# NumPy has no error function. The standard library's, called once per element in float64, is exact and
# fast enough for the few checkpoints that use it.
_erf = np.frompyfunc(math.erf, 1, 1)


def gelu(x: Array) -> Array:
    """Exact GELU, x times the normal distribution function (Hendrycks & Gimpel 2016, section 2)."""
    return 0.5 * x * (1.0 + np.asarray(_erf(x / math.sqrt(2.0)), x.dtype))


def gelu_backward(dy: Array, x: Array) -> Array:
    """The normal distribution function, plus x times its density."""
    density = np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return dy * (0.5 * (1.0 + np.asarray(_erf(x / math.sqrt(2.0)), x.dtype)) + x * density)


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0.0)


def relu_backward(dy: Array, x: Array) -> Array:
    """What was cut off learns nothing."""
    return np.where(x > 0.0, dy, 0.0)


def silu(x: Array) -> Array:
    """x times its logistic sigmoid; the sigmoid through logaddexp, which cannot overflow."""
    return x * np.exp(-np.logaddexp(0.0, -x))


def silu_backward(dy: Array, x: Array) -> Array:
    """The product rule on x s, and the sigmoid's own derivative s (1 − s)."""
    s = np.exp(-np.logaddexp(0.0, -x))
    return dy * s * (1.0 + x * (1.0 - s))
