"""The same ids as the tokenizer of `transformers`, on texts made to bring out differences."""

import json
from pathlib import Path
from typing import Any

import pytest

import minigpt.tokenizer
from minigpt.tokenizer import Tokenizer, vocabulary
from tests.nasty_text import OLD, nasty_strings

transformers = pytest.importorskip("transformers", reason="compares with the tokenizer of transformers")

tokenizer = Tokenizer()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """transformers' GPT-2 tokenizer on the files of a checkpoint, made from the shipped vocabulary."""
    folder = tmp_path_factory.mktemp("gpt2-tokenizer")
    vocab = {name: token_id for token_id, name in enumerate(vocabulary())}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    merges = Path(minigpt.tokenizer.__file__).parent / "data" / "vocab.bpe"
    (folder / "merges.txt").write_bytes(merges.read_bytes())
    return transformers.GPT2Tokenizer.from_pretrained(folder, local_files_only=True)


def compare(reference: Any, texts: list[str], allow_special: bool = False) -> None:
    all_expected = reference(texts, split_special_tokens=not allow_special).input_ids
    for text, expected in zip(texts, all_expected, strict=True):
        assert tokenizer.encode(text, allow_special=allow_special) == expected, ascii(text)


def test_nasty_texts(reference: Any) -> None:
    texts = nasty_strings(12_000)
    assert len(set(texts)) > 11_000
    compare(reference, texts)


def test_every_old_character_between_letters_digits_signs_and_spaces(reference: Any) -> None:
    frame = "a{0}a 1{0}1 !{0}! {0} {0}{0}\n{0}"
    framed = [frame.format(char) for char in OLD]
    compare(reference, [" ".join(framed[start : start + 16]) for start in range(0, len(framed), 16)])


def test_special_tokens(reference: Any) -> None:
    texts = [
        f"{before}<|endoftext|>{after}"
        for before in ("", "a", " ", "a ", "\n\n", "<")
        for after in ("", " b", "\n", ">")
    ]
    compare(reference, [*texts, "<|endoftext|>" * 3], allow_special=True)
    compare(reference, texts)


def test_decoding(reference: Any) -> None:
    for text in nasty_strings(1_000, seed=4):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids[1:-1]) == reference.decode(ids[1:-1], clean_up_tokenization_spaces=False)
