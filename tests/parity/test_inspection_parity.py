"""What is seen inside is what `transformers` on torch has inside: hidden states, attentions, lens, facts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.checkpoints.load import load_model
from minigpt.inspection import (
    Fact,
    ablate,
    attention_weights,
    attribute,
    check_fact,
    lens_logits,
    patch,
    trace,
)
from minigpt.inspection.facts import CHECKS
from minigpt.inspection.map import STAGES
from minigpt.model import GPT2, named_parameters
from minigpt.tokenizer import Tokenizer
from tests.parity.reference import load_reference, reference_logits, torch
from tests.synthetic import save_checkpoint

IDS = [40, 1842, 262, 995, 13, 40]
OTHER = [40, 5465, 262, 995, 13, 314]
SIZE: dict[str, Any] = {"vocab_size": 50257, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}
TOKENIZER = Tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("inspected"), **SIZE)


@pytest.fixture(scope="module")
def model(folder: Path) -> GPT2:
    return load_model(folder).astype(np.float64)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Iterator[Any]:
    with torch.no_grad():
        yield load_reference(folder, "float64")


def close(found: np.ndarray, expected: Any) -> None:
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max(), rtol=0)


def test_hidden_states_and_attentions(model: GPT2, reference: Any) -> None:
    outputs = reference(torch.tensor([IDS]), output_hidden_states=True, output_attentions=True)
    found = trace(model, IDS)
    hidden = [found["h.0.resid_pre"], *found.select("h.*.resid_post").values()]
    hidden[-1] = found["ln_f"]  # transformers gives the last one behind the final layer norm
    for ours, theirs in zip(hidden, outputs.hidden_states, strict=True):
        close(ours, theirs[0])
    close(attention_weights(model, IDS), torch.cat(outputs.attentions))


def test_the_lens_is_ln_f_and_lm_head_of_the_hidden_states(model: GPT2, reference: Any) -> None:
    states = reference(torch.tensor([IDS]), output_hidden_states=True).hidden_states
    expected = [reference.lm_head(reference.transformer.ln_f(state))[0] for state in states[:-1]]
    expected.append(reference.lm_head(states[-1])[0])
    for position in (0, 3, -1):
        close(lens_logits(model, IDS, position=position), torch.stack(expected)[:, position])


def without_head(reference: Any, layer: int, head: int) -> Any:
    """A handle: until it is removed, this head's values are zero in torch."""
    size = SIZE["n_embd"] // SIZE["n_head"]
    start = 2 * SIZE["n_embd"] + head * size

    def silence(_module: Any, _inputs: Any, output: Any) -> Any:
        output = output.clone()
        output[..., start : start + size] = 0
        return output

    return reference.transformer.h[layer].attn.c_attn.register_forward_hook(silence)


def test_an_ablated_head(model: GPT2, reference: Any) -> None:
    handle = without_head(reference, layer=1, head=2)
    expected = reference_logits(reference, np.array(IDS))
    handle.remove()
    close(model(IDS, hook=ablate(model, "h.1.attn.v", head=2)), expected)


def test_a_patched_mlp(model: GPT2, reference: Any) -> None:
    taken: list[Any] = []
    mlp = reference.transformer.h[1].mlp
    handle = mlp.register_forward_hook(lambda _module, _inputs, output: taken.append(output))
    reference_logits(reference, np.array(OTHER))
    handle.remove()
    handle = mlp.register_forward_hook(lambda _module, _inputs, output: taken[0])
    expected = reference_logits(reference, np.array(IDS))
    handle.remove()
    close(model(IDS, hook=patch(model, "h.1.mlp.out", trace(model, OTHER))), expected)


def test_a_share_is_the_gradient_times_what_was_added(model: GPT2, reference: Any) -> None:
    """With the scale held fixed the logit is linear in each part, so autograd knows the share too."""
    outputs: list[Any] = []
    modules = [*(block.mlp for block in reference.transformer.h), reference.transformer.ln_f]
    handles = [
        module.register_forward_hook(lambda _m, inputs, out: outputs.append((inputs[0], out)))
        for module in modules
    ]
    logits = reference_logits(reference, np.array(IDS))
    for handle in handles:
        handle.remove()
    ln_f, head = reference.transformer.ln_f, reference.lm_head.weight[345]
    with torch.enable_grad():
        x = outputs[-1][0][0, -1].clone().requires_grad_()
        scale = torch.sqrt(x.detach().var(correction=0) + ln_f.eps)
        logit = ((x - x.mean()) / scale * ln_f.weight + ln_f.bias) @ head
        (gradient,) = torch.autograd.grad(logit, x)
    assert logit.item() == pytest.approx(logits[-1, 345])
    shares = [(output[0, -1] @ gradient).item() for _inputs, output in outputs[:-1]]
    assert attribute(model, IDS, 345).mlps == pytest.approx(shares, rel=1e-9)


def test_every_module_of_the_map_exists(model: GPT2, reference: Any) -> None:
    for stage in STAGES:
        reference.get_submodule(stage.transformers.strip("()").replace("*", "0"))
    theirs = {name for name in reference.state_dict() if not name.endswith(".attn.bias")}
    assert {f"transformer.{name}" for name in named_parameters(model)} | {"lm_head.weight"} == theirs


# ------------------------------------------------------- the checks of published facts, on facts of torch's


def logits_at(reference: Any) -> dict[str, Any]:
    values = reference_logits(reference, np.array(IDS))[2, [0, 9]].tolist()
    return {"ids": IDS, "at": [{"position": 2, "tokens": [0, 9], "values": values}]}


def mean_logit(reference: Any) -> dict[str, Any]:
    return {"ids": IDS, "value": float(reference_logits(reference, np.array(IDS)).mean())}


def likeliest_each(reference: Any) -> dict[str, Any]:
    return {"ids": IDS, "expected": reference_logits(reference, np.array(IDS)).argmax(-1).tolist()}


def top(reference: Any) -> dict[str, Any]:
    logits = reference_logits(reference, np.array(IDS))[-1]
    best = np.argsort(-logits)[:5].tolist()
    return {"ids": IDS, "tokens": best, "logits": logits[best].tolist()}


def top_centred(reference: Any) -> dict[str, Any]:
    logits = torch.tensor(reference_logits(reference, np.array(IDS))[-1])
    texts = [" you", " it", " them", " me"]
    ids = [TOKENIZER.encode(text)[0] for text in texts]
    centred, percent = (logits - logits.mean())[ids], 100 * torch.softmax(logits, -1)[ids]
    return {"ids": IDS, "tokens": texts, "logits": centred.tolist(), "percent": percent.tolist()}


def differences(reference: Any) -> dict[str, Any]:
    logits = reference_logits(reference, np.array([50256, 40, 1842]))[-1]
    value = float(logits[5335] - logits[1757])
    return {"prompts": ["I love"], "answers": [[" Mary", " John"]], "values": [value]}


def loss(reference: Any) -> dict[str, Any]:
    handle = without_head(reference, layer=0, head=1)
    logits = torch.tensor(reference_logits(reference, np.array(IDS)))
    handle.remove()
    value = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(IDS[1:])).item()
    return {"ids": IDS, "value": value, "ablate": {"name": "h.0.attn.v", "head": 1}}


def batch_loss(reference: Any) -> dict[str, Any]:
    tokens = [*IDS, 7]
    inputs, targets = np.array(tokens[:-1]).reshape(2, 3), torch.tensor(tokens[1:])
    logits = torch.tensor(reference_logits(reference, inputs)).flatten(0, 1)
    return {"tokens": tokens, "rows": 2, "value": torch.nn.functional.cross_entropy(logits, targets).item()}


def greedy(reference: Any) -> dict[str, Any]:
    ids = reference.generate(torch.tensor([IDS]), max_new_tokens=4, do_sample=False, pad_token_id=50256)
    new = ids[0, len(IDS) :].tolist()
    logprobs = torch.log_softmax(reference(ids).logits[0, len(IDS) - 1 : -1], -1)[range(4), new]
    return {"ids": IDS, "expected": new, "logprobs": logprobs.tolist()}


def weights(reference: Any) -> dict[str, Any]:
    values = reference.transformer.h[1].attn.c_attn.weight.flatten()[50:60].tolist()
    return {"at": [{"name": "h.1.attn.c_attn.weight", "start": 50, "values": values}]}


def modules(reference: Any) -> dict[str, Any]:
    block, x = reference.transformer.h[0], reference.transformer.wte(torch.tensor(IDS[:3]))
    mask = torch.full((1, 1, 3, 3), torch.finfo(x.dtype).min, dtype=x.dtype).triu(1)
    attn = block.attn(x[None], attention_mask=mask)[0][0]
    parts = {"wte": x[0], "c_fc": block.mlp.c_fc(x)[0], "ln_1": block.ln_1(x)[0]}
    values = {name: part[:10].tolist() for name, part in parts.items()}
    return values | {"tokens": IDS[:3], "attn": {"0": attn[0, :5].tolist(), "2": attn[2, :5].tolist()}}


def scores(reference: Any) -> dict[str, Any]:
    body = reference.transformer
    x = body.wte(torch.tensor(IDS)) + body.wpe(torch.arange(len(IDS)))
    q, k, _v = body.h[0].attn.c_attn(body.h[0].ln_1(x)).reshape(len(IDS), 3, 4, 8).permute(1, 2, 0, 3)
    return {"ids": IDS, "values": (q @ k.transpose(-1, -2)).tolist()}


FACTS_OF_TORCHS = {
    "logits": logits_at, "mean_logit": mean_logit, "likeliest_each": likeliest_each, "top": top,
    "top_centred": top_centred, "differences": differences, "loss": loss, "batch_loss": batch_loss,
    "greedy": greedy, "weights": weights, "modules": modules, "scores": scores,
}  # fmt: skip


@pytest.mark.parametrize("kind", CHECKS)
def test_a_fact_of_torchs_passes(kind: str, model: GPT2, reference: Any) -> None:
    fact = Fact(kind, "random", kind, kind, 1e-9, "torch", FACTS_OF_TORCHS[kind](reference))
    result = check_fact(fact, model, TOKENIZER)
    assert result.passed, result


def test_a_log_probability_that_is_too_low_fails(model: GPT2, reference: Any) -> None:
    data = greedy(reference)
    floor = data.pop("logprobs")[0]
    for offset, passed in ((-0.1, True), (0.1, False)):
        fact = Fact("x", "random", "greedy", "x", 0.0, "torch", data | {"logprob_above": floor + offset})
        assert check_fact(fact, model, TOKENIZER).passed is passed
