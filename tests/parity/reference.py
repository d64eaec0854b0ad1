"""What `transformers` on torch computes, tensor by tensor, under the names of minigpt's hooks.

Nothing here is a second implementation: the tensors are read out of the real `GPT2LMHeadModel` while it
runs. Two things torch never materialises are recomputed from its own tensors: the divisor of a layer norm
and, since attention is one function there, the scores before the softmax.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity tests compare with torch, which is not installed")
transformers = pytest.importorskip("transformers", reason="the parity tests compare with transformers")

from transformers.models.gpt2 import modeling_gpt2  # noqa: E402

from minigpt.hooks import Hook  # noqa: E402
from minigpt.model import GPT2  # noqa: E402

Tensors = dict[str, np.ndarray]

# Largest difference of a tensor, relative to its largest value. Measured: 1.4e-14 and 5.7e-6 at most, on one
# processor; another adds up in another order.
FLOAT64_TOLERANCE = 1e-9
FLOAT32_TOLERANCE = 2e-5


def load_reference(folder: Path, dtype: str = "float32") -> Any:
    """The checkpoint as `GPT2LMHeadModel` with eager attention, the plain formula."""
    torch_dtype = getattr(torch, dtype)
    model = transformers.GPT2LMHeadModel.from_pretrained(
        folder, attn_implementation="eager", dtype=torch_dtype
    )
    return model.eval()


def reference_logits(model: Any, ids: np.ndarray) -> np.ndarray:
    """`outputs.logits` for ids of shape (tokens,) or (batch, tokens)."""
    with torch.no_grad():
        logits = model(torch.tensor(np.atleast_2d(ids)), use_cache=False).logits
    return logits.numpy().reshape(*ids.shape, -1)


def reference_tensors(model: Any, ids: np.ndarray) -> Tensors:
    """Every intermediate tensor of one forward pass on ids of shape (tokens,), without the batch axis."""
    tensors: dict[str, Any] = {}
    with _recording(model, tensors):
        tensors["logits"] = model(torch.tensor(ids[None]), use_cache=False).logits
    return {name: tensor[0].detach().numpy() for name, tensor in tensors.items()}


@contextmanager
def _recording(model: Any, tensors: dict[str, Any]) -> Iterator[None]:
    """Keep what the modules of `model` read and give, and the insides of its attention, in `tensors`."""
    handles = _watch_modules(model.transformer, tensors)
    eager = modeling_gpt2.eager_attention_forward

    def recording_eager(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
        attn = f"h.{module.layer_idx}.attn"
        scores = torch.matmul(query, key.transpose(-1, -2)) * kwargs["scaling"]
        mixed, weights = eager(module, query, key, value, mask, **kwargs)
        tensors.update({f"{attn}.q": query, f"{attn}.k": key, f"{attn}.v": value, f"{attn}.scores": scores})
        tensors[f"{attn}.masked_scores"] = scores if mask is None else scores + mask
        tensors[f"{attn}.weights"], tensors[f"{attn}.mixed"] = weights, mixed.transpose(1, 2)
        return mixed, weights

    modeling_gpt2.eager_attention_forward = recording_eager
    try:
        with torch.no_grad():
            yield
    finally:
        modeling_gpt2.eager_attention_forward = eager
        for handle in handles:
            handle.remove()


def _watch_modules(body: Any, tensors: dict[str, Any]) -> list[Any]:
    """Hook the modules of a `GPT2Model`; the handles take the hooks away again."""

    def watch(module: Any, output_name: str, input_name: str | None = None) -> Any:
        def hook(_module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            tensors[output_name] = output[0] if isinstance(output, tuple) else output
            if input_name is not None:
                tensors[input_name] = inputs[0]

        return module.register_forward_hook(hook)

    def watch_scale(module: Any, name: str) -> Any:
        def hook(_module: Any, inputs: tuple[Any, ...], _output: Any) -> None:
            variance = inputs[0].var(dim=-1, keepdim=True, correction=0)
            tensors[f"{name}.scale"] = torch.sqrt(variance + module.eps)

        return module.register_forward_hook(hook)

    handles = [watch(body.wte, "wte"), watch(body.wpe, "wpe")]
    handles += [watch(body.ln_f, "ln_f"), watch_scale(body.ln_f, "ln_f")]
    for layer, block in enumerate(body.h):
        h = f"h.{layer}"
        handles += [
            watch(block, f"{h}.resid_post", f"{h}.resid_pre"),
            watch(block.ln_1, f"{h}.ln_1"),
            watch_scale(block.ln_1, f"{h}.ln_1"),
            watch(block.attn, f"{h}.attn.out"),
            watch(block.ln_2, f"{h}.ln_2", f"{h}.resid_mid"),
            watch_scale(block.ln_2, f"{h}.ln_2"),
            watch(block.mlp.c_fc, f"{h}.mlp.pre"),
            watch(block.mlp.act, f"{h}.mlp.act"),
            watch(block.mlp, f"{h}.mlp.out"),
        ]
    return handles


@dataclass(frozen=True)
class Difference:
    """How far one tensor is from the reference: the largest difference over the largest value."""

    name: str
    relative: float

    def __str__(self) -> str:
        return f"{self.name}: {self.relative:.2e}"


def differences(
    model: GPT2, ids: np.ndarray, reference: Tensors, hook: Hook | None = None
) -> list[Difference]:
    """Run `model` on ids and compare every tensor it reports, in the order of the computation.

    A `hook` may change tensors before they are compared. A tensor that the reference lacks, that is
    missing here, or has another shape counts as infinitely far.
    """
    found: list[Difference] = []

    def compare(name: str, array: np.ndarray) -> np.ndarray:
        array = array if hook is None else hook(name, array)
        found.append(Difference(name, relative_difference(array, reference.get(name))))
        return array

    model(ids, hook=compare)
    missing = reference.keys() - {difference.name for difference in found}
    return found + [Difference(name, np.inf) for name in sorted(missing)]


def relative_difference(array: np.ndarray, expected: np.ndarray | None) -> float:
    """Largest difference over the largest expected value, of what causality lets be seen.

    Masked scores are -inf here and the most negative number in torch: both make a weight of exactly 0, so
    where the reference is that low, any value as low is equal.
    """
    if expected is None or array.shape != expected.shape:
        return float("inf")
    masked = expected < -1e30
    if masked.any():
        if not (array[masked] < -1e30).all():
            return float("inf")
        array, expected = array[~masked], expected[~masked]
    largest = np.abs(expected).max()
    return float(np.abs(array - expected).max() / largest) if largest else float(np.abs(array).max())


def beyond(found: list[Difference], tolerance: float) -> str:
    """The tensors that differ by more than the tolerance, as a readable list."""
    return "\n".join(str(difference) for difference in found if not difference.relative <= tolerance)
