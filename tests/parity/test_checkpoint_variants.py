"""Every kind of checkpoint that `GPT2LMHeadModel` can save and load gives the same tensors here.

The models are tiny and random. Files are written by transformers itself where it writes such files, so
that nothing about them is assumed.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity tests compare with torch, which is not installed")
transformers = pytest.importorskip("transformers", reason="the parity tests compare with transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from minigpt.checkpoints.load import load_model  # noqa: E402
from tests.parity.reference import (  # noqa: E402
    FLOAT32_TOLERANCE,
    FLOAT64_TOLERANCE,
    beyond,
    differences,
    load_reference,
    reference_logits,
    reference_tensors,
)

SMALL = {
    "vocab_size": 101, "n_positions": 24, "n_embd": 24, "n_layer": 3, "n_head": 4,
    "bos_token_id": 100, "eos_token_id": 100,
}  # fmt: skip
IDS = np.array([5, 99, 0, 17, 17, 63, 2, 88])


def make_model(kind: str = "GPT2LMHeadModel", **config: Any) -> Any:
    """A model with weights large enough that a wrong scale or activation shows."""
    torch.manual_seed(0)
    model = getattr(transformers, kind)(transformers.GPT2Config(**(SMALL | config)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not (name.endswith("lm_head.weight") and model.config.tie_word_embeddings):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def assert_same_tensors(folder: Path) -> None:
    """Every tensor that transformers computes from the same files: in float64, which shows the formula
    apart from rounding, in float32, and the logits once more as users get them, without a hook."""
    model = load_model(folder)
    for dtype, tolerance in (("float64", FLOAT64_TOLERANCE), ("float32", FLOAT32_TOLERANCE)):
        expected = reference_tensors(load_reference(folder, dtype), IDS)
        assert not beyond(differences(model.astype(dtype), IDS, expected), tolerance)
    assert_same_logits(folder)


def assert_same_logits(folder: Path) -> None:
    """The logits as users get them, without a hook."""
    expected = reference_logits(load_reference(folder), IDS)
    tolerance = FLOAT32_TOLERANCE * np.abs(expected).max()
    np.testing.assert_allclose(load_model(folder)(IDS), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"tie_word_embeddings": False},
        {"n_inner": 17},
        {"layer_norm_epsilon": 0.5},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
        {"activation_function": "gelu"},
        {"activation_function": "gelu_new"},
        {"activation_function": "gelu_pytorch_tanh"},
        {"activation_function": "relu"},
        {"activation_function": "silu"},
        {"n_head": 1},
        {"n_layer": 1},
    ],
    ids=str,
)
def test_configs(tmp_path: Path, config: dict[str, Any]) -> None:
    make_model(**config).save_pretrained(tmp_path)
    assert_same_tensors(tmp_path)


def test_attention_that_is_reordered_and_upcast(tmp_path: Path) -> None:
    """It changes nothing in float32, and in float64 `transformers` itself refuses it."""
    make_model(reorder_and_upcast_attn=True).save_pretrained(tmp_path)
    assert_same_logits(tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_types(tmp_path: Path, dtype: str) -> None:
    make_model().to(getattr(torch, dtype)).save_pretrained(tmp_path)
    assert_same_tensors(tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shards(tmp_path: Path, dtype: str) -> None:
    model = make_model().to(getattr(torch, dtype))
    model.save_pretrained(tmp_path, max_shard_size="20KB" if dtype == "float32" else "10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_same_tensors(tmp_path)


def test_names_without_prefix(tmp_path: Path) -> None:
    make_model("GPT2Model").save_pretrained(tmp_path)
    assert not any(name.startswith("transformer.") for name in load_file(tmp_path / "model.safetensors"))
    assert_same_tensors(tmp_path)


def rewrite(folder: Path, **changes: Any) -> None:
    """Put tensors into the file, or take them out with None."""
    tensors = load_file(folder / "model.safetensors") | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def test_the_masks_of_older_files(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    mask = torch.tril(torch.ones(24, 24)).view(1, 1, 24, 24)
    masks = {f"transformer.h.{layer}.attn.bias": mask.clone() for layer in range(3)}
    rewrite(tmp_path, **masks, **{"transformer.h.0.attn.masked_bias": torch.tensor(-1e4)})
    assert_same_tensors(tmp_path)


@pytest.mark.parametrize("what", ["equal", "different", "only the head"])
def test_a_head_in_the_file_of_a_tied_model(tmp_path: Path, what: str) -> None:
    make_model().save_pretrained(tmp_path)
    wte = load_file(tmp_path / "model.safetensors")["transformer.wte.weight"]
    if what == "equal":
        rewrite(tmp_path, **{"lm_head.weight": wte.clone()})
    elif what == "different":
        rewrite(tmp_path, **{"lm_head.weight": torch.randn_like(wte)})
    else:
        rewrite(tmp_path, **{"lm_head.weight": wte.clone(), "transformer.wte.weight": None})
    assert_same_tensors(tmp_path)


@pytest.mark.parametrize("kinds", [("ln_1.bias", "ln_2.bias", "ln_f.bias"), (".bias",)], ids=["norms", "all"])
@pytest.mark.parametrize("kind", ["GPT2LMHeadModel", "GPT2Model"])
def test_a_model_that_was_trained_without_biases(tmp_path: Path, kinds: tuple[str, ...], kind: str) -> None:
    make_model(kind).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    rewrite(tmp_path, **dict.fromkeys((name for name in tensors if name.endswith(kinds)), None))
    assert_same_tensors(tmp_path)


def test_a_model_with_a_second_head(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_model("GPT2DoubleHeadsModel", num_labels=1).save_pretrained(tmp_path)
    assert_same_tensors(tmp_path)
    assert "multiple_choice_head.summary" in capfd.readouterr().err


def test_a_head_that_trl_puts_beside_the_model(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    wte = load_file(tmp_path / "model.safetensors")["transformer.wte.weight"]
    head = {"v_head.summary.weight": torch.ones(1, 24), "v_head.summary.bias": torch.zeros(1)}
    rewrite(tmp_path, **head, **{"lm_head.weight": wte.clone()})
    assert_same_tensors(tmp_path)


def test_aliases_and_absent_values(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    config = {"model_type": "gpt2", "vocab_size": 101, "max_position_embeddings": 24, "hidden_size": 24}
    config |= {"num_hidden_layers": 3, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert_same_tensors(tmp_path)
