"""What `minigpt.save` writes, transformers loads as it loads its own: the same logits, the same ids."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity tests compare with torch, which is not installed")
transformers = pytest.importorskip("transformers", reason="the parity tests compare with transformers")

import minigpt  # noqa: E402
from minigpt.checkpoints.find import find  # noqa: E402
from minigpt.checkpoints.load import load  # noqa: E402
from minigpt.tokenizer import Tokenizer  # noqa: E402
from tests.parity.reference import FLOAT32_TOLERANCE  # noqa: E402
from tests.synthetic import random_gpt2  # noqa: E402

KOREAN = ["나는 너를 사랑해", "너는 나를 사랑해", "우리는 사랑해, 사랑해"]
TEXTS = ["she sells 나는 너를 사랑해", "\n\n  <|endoftext|>tabs\tand  spaces ", "naïve 🙂 it's 2024!", " "]


def tokenizer_of(vocabulary: str) -> Tokenizer:
    return Tokenizer() if vocabulary == "gpt2" else Tokenizer.train(KOREAN, vocab_size=264)


@pytest.mark.parametrize("vocabulary", ["gpt2", "korean"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_transformers_loads_what_was_saved(tmp_path: Path, vocabulary: str, tied: bool, dtype: str) -> None:
    tokenizer = tokenizer_of(vocabulary)
    model = random_gpt2(vocab_size=tokenizer.n_vocab + 3, n_embd=16, n_layer=2, tie_word_embeddings=tied)
    minigpt.save(tmp_path, model, tokenizer, dtype)
    reference, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(reference) is transformers.GPT2LMHeadModel
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert reference.dtype == getattr(torch, dtype)
    saved, theirs = load(tmp_path)[0], transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        ids = tokenizer.encode(text, allow_special=True)
        assert theirs(text)["input_ids"] == ids
        assert_same_logits(saved(ids), reference, ids)
    assert theirs.eos_token_id == reference.config.eos_token_id == tokenizer.end_of_text
    assert reference.generation_config.eos_token_id == tokenizer.end_of_text


def assert_same_logits(logits: np.ndarray, reference: Any, ids: list[int]) -> None:
    with torch.no_grad():
        expected = reference.float()(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=FLOAT32_TOLERANCE * np.abs(expected).max())


def test_a_shipped_model_survives_the_way_there_and_back(tmp_path: Path) -> None:
    """minigpt saves, transformers loads and saves, minigpt loads."""
    model, tokenizer = load(find("tiny"))
    minigpt.save(tmp_path / "ours", model, tokenizer)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    reference.save_pretrained(tmp_path / "theirs")
    transformers.AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    back, spoken = load(tmp_path / "theirs")
    assert back.config == model.config
    expected = minigpt.named_parameters(model)
    for name, array in minigpt.named_parameters(back).items():
        assert np.array_equal(array, expected[name]), name
    assert [spoken.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
