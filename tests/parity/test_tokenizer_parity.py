"""The same ids as `tokenizers` and `transformers`, on texts made to bring out differences."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt.checkpoints.tokenizer_files import read_tokenizer, tokenizer_files
from minigpt.tokenizer import GPT2_PATTERN, AddedToken, Tokenizer
from tests.korean import KOREAN
from tests.nasty_text import OLD, nasty_strings

transformers = pytest.importorskip("transformers", reason="compares with the tokenizer of transformers")
tokenizers = pytest.importorskip("tokenizers", reason="compares with the library tokenizers")

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "minigpt").glob("*.py")))
# How newer models split: endings of either case, letters with one sign before them, at most three digits.
NEWER_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

tokenizer = Tokenizer()


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8", newline="")
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """transformers' GPT-2 tokenizer on the older files of a checkpoint, made from the shipped vocabulary."""
    files = tokenizer_files(tokenizer)
    folder = tmp_path_factory.mktemp("gpt2-tokenizer")
    write(folder, {name: files[name] for name in ("vocab.json", "merges.txt")})
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


# ------------------------------------------------------------------------------------ other vocabularies


def learn(texts: list[str], vocab_size: int, split: Any = None, special: str = "<|endoftext|>") -> Any:
    """What the library tokenizers learns."""
    pre, found = tokenizers.pre_tokenizers, tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = pre.ByteLevel(add_prefix_space=False, use_regex=split is None)
    found.pre_tokenizer = pre.Sequence([split, byte_level]) if split else byte_level
    found.decoder = tokenizers.decoders.ByteLevel()
    alphabet = pre.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=[special], show_progress=False
    )
    found.train_from_iterator(texts, trainer)
    return found


def english() -> str:
    """Learnt by us, in the files that we write."""
    return tokenizer_files(Tokenizer.train([ENGLISH], 700))["tokenizer.json"]


def korean() -> str:
    """Learnt by tokenizers; then every id is another, two tokens are added, and one of them is special."""
    found = learn([KOREAN], 900)
    content = json.loads(found.to_str())
    ids = list(range(len(content["model"]["vocab"])))
    random.Random(0).shuffle(ids)
    content["model"]["vocab"] = {name: ids[token_id] for name, token_id in content["model"]["vocab"].items()}
    content["added_tokens"][0]["id"] = content["model"]["vocab"]["<|endoftext|>"]
    found = tokenizers.Tokenizer.from_str(json.dumps(content))
    found.add_tokens(["사랑", tokenizers.AddedToken("<빈칸>", lstrip=True, rstrip=True)])
    found.add_special_tokens(["[PAD]"])
    return str(found.to_str())


def code() -> str:
    """Learnt by tokenizers, with a newer split, and pieces that are tokens taken as they are."""
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(NEWER_PATTERN), "isolated")
    content = json.loads(learn([CODE], 1500, split, special="</s>").to_str())
    content["model"]["ignore_merges"] = True
    content["model"]["vocab"]["Ġdefenestration"] = len(content["model"]["vocab"])  # no merge makes it
    return json.dumps(content)


def gaps() -> str:
    """Pieces are the vowels' runs and what lies between them."""
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex("[aeiou]+"), "isolated")
    return str(learn([ENGLISH], 400, split).to_str())


def odd_merges() -> str:
    """Merges in an order that no training finds: some are never reached, but tiktoken would."""
    content = json.loads(learn([ENGLISH], 500).to_str())
    random.Random(1).shuffle(content["model"]["merges"])
    content["model"]["merges"].sort(key=lambda pair: len("".join(pair)))  # none stands before its parts
    return json.dumps(content)


@pytest.mark.parametrize("make", [english, korean, code, gaps, odd_merges])
def test_ten_thousand_nasty_texts_in_another_vocabulary(make: Callable[[], str], tmp_path: Path) -> None:
    folder = write(tmp_path, {"tokenizer.json": make()})
    theirs, ours = (
        tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")),
        read_tokenizer(folder, 5000),
    )
    texts = [
        *nasty_strings(10_000, seed=7),
        KOREAN,
        ENGLISH,
        "defenestration and defenestration",
        "  <빈칸> 나",
    ]
    texts += ["".join(random.Random(seed).choices("aeiout nr", k=2000)).replace(" ", "") for seed in range(5)]
    for special in (False, True):
        theirs.encode_special_tokens = not special
        for text, expected in zip(texts, theirs.encode_batch(texts), strict=True):
            assert ours.encode(text, allow_special=special) == expected.ids, ascii(text)
    assert ours.n_vocab == 1 + max(theirs.get_vocab().values())
    assert {ours.token_text(ours.encode("I")[0])} == {"I"}


@pytest.mark.parametrize(
    "made",
    [
        Tokenizer(),
        Tokenizer.train([ENGLISH], 600),
        Tokenizer.train([KOREAN], 400),
        Tokenizer.train([], 256),
        Tokenizer(
            [(b"a", b"b")],
            pattern=NEWER_PATTERN,
            added_tokens=[AddedToken("<s>", 256), AddedToken("foo", 257, special=False, normalized=True)],
            ids={bytes([byte]): 255 - byte for byte in range(256)} | {b"ab": 258},
            end_of_text=256,
        ),
    ],
    ids=repr,
)
def test_what_we_write_is_read_alike_by_transformers_and_by_us(made: Tokenizer, tmp_path: Path) -> None:
    folder = write(tmp_path, tokenizer_files(made) | {"config.json": '{"model_type": "gpt2"}'})
    theirs = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    again = read_tokenizer(folder, made.n_vocab)
    texts = nasty_strings(1000, seed=8)
    for text, expected in zip(texts, theirs(texts, split_special_tokens=True).input_ids, strict=True):
        assert made.encode(text) == again.encode(text) == expected, ascii(text)
    assert theirs.eos_token_id == made.end_of_text == again.end_of_text
    assert len(theirs) == made.n_vocab == again.n_vocab
    everything = list(range(made.n_vocab))
    assert [again.token_bytes(i) for i in everything] == [made.token_bytes(i) for i in everything]


def test_vocab_and_merges_alone_are_read_alike_where_the_split_is_gpt2s(tmp_path: Path) -> None:
    made = Tokenizer.train([KOREAN], 450)
    files = tokenizer_files(made)
    folder = write(tmp_path, {name: files[name] for name in ("vocab.json", "merges.txt")})
    theirs, ours = transformers.GPT2Tokenizer.from_pretrained(folder), read_tokenizer(folder, 450)
    texts = nasty_strings(1000, seed=9)
    for text, expected in zip(texts, theirs(texts, split_special_tokens=True).input_ids, strict=True):
        assert ours.encode(text) == expected, ascii(text)
    assert ours.end_of_text == theirs.eos_token_id == 449
    assert made.pattern == GPT2_PATTERN


def test_the_tokenizer_files_that_transformers_writes_of_gpt2s_are_read_as_gpt2s(tmp_path: Path) -> None:
    pairs = [tuple(line.split(" ")) for line in tokenizer_files(tokenizer)["merges.txt"].split("\n")[1:-1]]
    vocab = json.loads(tokenizer_files(tokenizer)["vocab.json"])
    transformers.GPT2Tokenizer(vocab=vocab, merges=pairs).save_pretrained(tmp_path)
    ours = read_tokenizer(tmp_path, 50257)
    assert (ours.merges, ours.end_of_text, ours.n_vocab) == (tokenizer.merges, 50256, 50257)
    extended = transformers.GPT2Tokenizer(vocab=vocab, merges=pairs, pad_token="[PAD]")
    extended.save_pretrained(tmp_path)
    ours = read_tokenizer(tmp_path, 50258)
    assert (
        ours.encode("I love[PAD]", allow_special=True)
        == [40, 1842, 50257]
        == extended("I love[PAD]").input_ids
    )
    assert ours.token_text(50257) == "[PAD]"
