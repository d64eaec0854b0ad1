"""Who looks at whom: attention weights, for reading here and for the viewers that others have written.

    weights = attention_weights(model, ids)                  # (n_layer, n_head, queries, keys)
    head_view(**for_bertviz(model, tokenizer, ids))          # from bertviz import head_view
    attention_heads(**for_circuitsvis(model, tokenizer, ids, layer=5))   # from circuitsvis.attention

A row of weights says how much of its mean a token takes from each token before it, and from itself. It sums
to one; a head that finds nothing of interest puts it on the first token.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..checks import checked_classes, checked_text
from ..errors import InputError
from ..hooks import Hook
from ..model import GPT2
from ..tokenizer import AnyTokenizer, token_text
from .intervention import check_index
from .tracing import trace


@checked_classes
def attention_weights(
    model: GPT2, ids: ArrayLike, *, hook: Hook | None = None
) -> Float[np.ndarray, "n_layer *batch n_head tokens tokens"]:
    """The attention weights of every layer and head, `[layer, head, query, key]` for one text."""
    return trace(model, ids, names="h.*.attn.weights", hook=hook).stack("h.*.attn.weights")


@checked_classes
def for_bertviz(model: GPT2, tokenizer: AnyTokenizer, ids: list[int]) -> dict[str, Any]:
    """The arguments of BertViz' `head_view` and `model_view`: a torch tensor (1, n_head, T, T) per layer.

    Raises `InputError` where torch is not installed.
    """
    try:
        import torch  # noqa: PLC0415  BertViz needs it, minigpt does not
    except ModuleNotFoundError:
        raise InputError("torch is missing, and BertViz takes its tensors; run: pip install torch") from None
    ids = checked_text("ids", ids, model.config).tolist()
    weights = attention_weights(model, ids)
    return {
        "attention": [torch.from_numpy(layer[None]) for layer in weights],
        "tokens": texts(tokenizer, ids),
    }


@checked_classes
def for_circuitsvis(model: GPT2, tokenizer: AnyTokenizer, ids: list[int], layer: int) -> dict[str, Any]:
    """The arguments of CircuitsVis' `attention_heads` for one layer: an array (n_head, T, T)."""
    check_index("layer", layer, model.config.n_layer)
    ids = checked_text("ids", ids, model.config).tolist()
    return {"attention": attention_weights(model, ids)[layer], "tokens": texts(tokenizer, ids)}


def texts(tokenizer: AnyTokenizer, ids: list[int]) -> list[str]:
    """The text of each token."""
    return [token_text(tokenizer, token_id) for token_id in ids]
