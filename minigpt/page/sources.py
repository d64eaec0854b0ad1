"""The code behind each view of the page, as it is where the page is made."""

import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from .. import model as model_code
from ..inspection.attribution import attribute
from ..inspection.lens import unembed
from ..inspection.tracing import definition, file_name
from ..model import GPT2
from ..sampling import Sampling, draw, probabilities
from ..tokenizer import AnyTokenizer


def functions(tokenizer: AnyTokenizer) -> dict[str, list[dict[str, str]]]:
    """The code behind each view."""
    code: dict[str, list[Callable[..., Any]]] = {
        "tokens": [type(tokenizer).encode],
        "embeddings": [model_code.embed],
        "block": [model_code.block],
        "norm": [model_code.layer_norm],
        "attention": [model_code.attention],
        "mlp": [model_code.mlp, model_code.gelu_new],
        "logits": [GPT2.__call__],
        "softmax": [model_code.softmax, probabilities],
        "next": [Sampling.choose, draw],
        "lens": [unembed, model_code.layer_norm],
        "parts": [attribute],
    }
    return {view: [located(function) for function in used] for view, used in code.items()}


def located(function: Callable[..., Any]) -> dict[str, str]:
    """Name, file:line and text of a function; the text is empty if Python was installed without sources."""
    original = inspect.unwrap(function)
    lines, line = definition(original)
    file = file_name(original.__code__.co_filename)
    source = textwrap.dedent("".join(lines)).rstrip()
    return {"name": f"{original.__qualname__}()", "where": f"{file}:{line}", "source": source}
