"""Which tokenizers load, and that whatever would change ids is refused by its name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigpt
from minigpt.checkpoints.tokenizer_files import TOKENIZER_FILES, read_tokenizer, tokenizer_files
from minigpt.cli.main import main
from minigpt.errors import CheckpointError
from minigpt.tokenizer import AddedToken, Tokenizer
from tests.korean import KOREAN
from tests.nasty_text import nasty_strings
from tests.synthetic import save_checkpoint

TRAINED = Tokenizer.train([KOREAN], 400)
GPT2 = Tokenizer()
Change = Callable[[dict[str, Any]], None]


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8", newline="")
    return folder


def tokenizer_json(change: Change = lambda content: None, of: Tokenizer = TRAINED) -> dict[str, str]:
    content = json.loads(tokenizer_files(of)["tokenizer.json"])
    change(content)
    return {"tokenizer.json": json.dumps(content)}


# ----------------------------------------------------------------------------------------------- what loads


@pytest.mark.parametrize("names", [["tokenizer.json"], ["vocab.json", "merges.txt"]])
@pytest.mark.parametrize("made", [GPT2, TRAINED, Tokenizer.train([], 256)], ids=repr)
def test_what_was_written_is_read_again(made: Tokenizer, names: list[str], tmp_path: Path) -> None:
    files = tokenizer_files(made)
    again = read_tokenizer(write(tmp_path, {name: files[name] for name in names}), made.n_vocab)
    assert (again.n_vocab, again.end_of_text, again.merges) == (made.n_vocab, made.end_of_text, made.merges)
    for text in nasty_strings(200, seed=5):
        assert again.encode(text) == made.encode(text)


def test_a_model_and_the_tokenizer_it_was_trained_with_load_together(tmp_path: Path) -> None:
    folder = write(save_checkpoint(tmp_path / "model", vocab_size=400), tokenizer_files(TRAINED))
    model, tokenizer = minigpt.load(folder)
    ids = tokenizer.encode("나는 너를 사랑해")
    assert ids == TRAINED.encode("나는 너를 사랑해")
    assert len(ids) < len(GPT2.encode("나는 너를 사랑해"))
    assert model(ids).shape == (len(ids), 400)


def test_files_of_older_versions_are_read(tmp_path: Path) -> None:
    def old(content: dict[str, Any]) -> None:
        content["model"]["merges"] = [merge.split(" ") for merge in content["model"]["merges"]]
        del content["model"]["ignore_merges"], content["model"]["byte_fallback"]
        content["post_processor"] = None

    assert read_tokenizer(write(tmp_path, tokenizer_json(old)), 400).merges == TRAINED.merges
    merges = tokenizer_files(TRAINED)["merges.txt"].replace("\n", "\r\n").removeprefix("#version: 0.2\r\n")
    (tmp_path / "tokenizer.json").unlink()
    write(tmp_path, {"vocab.json": tokenizer_files(TRAINED)["vocab.json"], "merges.txt": merges})
    assert read_tokenizer(tmp_path, 400).merges == TRAINED.merges


def test_without_tokenizer_files_the_size_decides(tmp_path: Path) -> None:
    for vocab_size in (50257, 50304):
        assert read_tokenizer(tmp_path, vocab_size).encode("I love") == [40, 1842]
    with pytest.raises(CheckpointError, match=r"vocab_size is 307, GPT-2's is 50257.*minigpt\.load_model"):
        read_tokenizer(tmp_path, 307)
    assert minigpt.load_model(save_checkpoint(tmp_path / "model")).config.vocab_size == 307


def test_ids_behind_the_vocabulary_are_shown_by_their_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_checkpoint(tmp_path / "padded", vocab_size=50304, n_embd=8, n_head=1, n_layer=1)
    assert main(["I love", "--model", str(folder), "--top", "50304", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["next_tokens"]
    texts = {row["id"]: row["text"] for row in rows}
    assert len(texts) == 50304
    assert [texts[token_id] for token_id in (50256, 50257, 50303)] == [
        "<|endoftext|>",
        "<id 50257>",
        "<id 50303>",
    ]
    assert (
        main(["I love", "--model", str(folder), "--top", "2", "-n", "30", "--html", str(tmp_path / "p")]) == 0
    )
    page = (tmp_path / "p").read_text(encoding="utf-8")
    assert page.count("id␣50303>") == 1


@pytest.mark.parametrize("vocab_size", [50257, 50258, 50304])
def test_a_pad_token_behind_gpt2s_changes_no_text(vocab_size: int, tmp_path: Path) -> None:
    padded = Tokenizer(
        GPT2.merges,
        ids=GPT2.ids,
        added_tokens=[*GPT2.added_tokens, AddedToken("[PAD]", 50257)],
        end_of_text=50256,
    )
    tokenizer = read_tokenizer(write(tmp_path, tokenizer_files(padded)), vocab_size)
    for text in [*nasty_strings(200, seed=6), "[PAD]"]:
        assert tokenizer.encode(text) == GPT2.encode(text)
    assert tokenizer.encode("[PAD]", allow_special=True) == [50257]
    assert tokenizer.end_of_text == 50256


def test_added_tokens_are_found_in_every_text_unless_they_are_special(tmp_path: Path) -> None:
    files = {name: tokenizer_files(TRAINED)[name] for name in ("vocab.json", "merges.txt")}
    files["added_tokens.json"] = json.dumps({"사랑": 400, "<pad>": 401})
    files["special_tokens_map.json"] = json.dumps({"pad_token": {"content": "<pad>"}, "eos_token": "<pad>"})
    tokenizer = read_tokenizer(write(tmp_path, files), 402)
    assert tokenizer.encode("사랑<pad>") == [400, *TRAINED.encode("<pad>")]
    assert tokenizer.encode("사랑<pad>", allow_special=True) == [400, 401]
    assert tokenizer.end_of_text == 401


@pytest.mark.parametrize(
    ("settings", "config", "expected"),
    [
        ({"eos_token": "<|endoftext|>"}, {"eos_token_id": 7}, 399),
        ({"eos_token": {"content": "<|endoftext|>"}}, {}, 399),
        ({}, {"eos_token_id": 7}, 7),
        ({}, {"eos_token_id": 50256}, 399),  # GPT-2's, as many a config says without meaning it
        ({}, {"eos_token_id": [1, 2]}, 399),
        ({}, {}, 399),
    ],
)
def test_the_end_of_text_is_what_the_tokenizer_says_or_else_the_config(
    settings: dict[str, Any], config: dict[str, Any], expected: int, tmp_path: Path
) -> None:
    files = tokenizer_json() | {
        "tokenizer_config.json": json.dumps(settings),
        "config.json": json.dumps(config),
    }
    assert read_tokenizer(write(tmp_path, files), 400).end_of_text == expected


# --------------------------------------------------------------------------------------------- what does not


def setting(*path: Any, to: Any) -> Change:
    """What sets one value in a document."""

    def change(content: dict[str, Any]) -> None:
        *parents, last = path
        for key in parents:
            content = content[key]
        content[last] = to

    return change


def pre_tokenizer(*steps: dict[str, Any]) -> Change:
    return setting("pre_tokenizer", to={"type": "Sequence", "pretokenizers": list(steps)})


def split(pattern: Any = {"Regex": "a"}, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:  # noqa: B006
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
}
ADDED = {"id": 400, "content": "foo", "special": False}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (setting("model", "type", to="WordPiece"), "its model is 'WordPiece'"),
        (setting("model", "type", to="Unigram"), "its model is 'Unigram'"),
        (setting("model", "dropout", to=0.1), "its model has dropout 0.1"),
        (setting("model", "byte_fallback", to=True), "byte_fallback"),
        (setting("model", "end_of_word_suffix", to="</w>"), "end_of_word_suffix '</w>'"),
        (setting("normalizer", to={"type": "NFC"}), "its normalizer 'NFC' changes the text"),
        (
            setting("normalizer", to={"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}),
            "its normalizer 'Lowercase'",
        ),
        (setting("pre_tokenizer", to=None), "its pre_tokenizer is nothing and not ByteLevel"),
        (setting("pre_tokenizer", to={"type": "Metaspace"}), "'Metaspace' and not ByteLevel.*of characters"),
        (pre_tokenizer(BYTES, {"type": "Whitespace"}), "'Whitespace' and not ByteLevel"),
        (setting("pre_tokenizer", "add_prefix_space", to=True), "add_prefix_space, which puts a space"),
        (pre_tokenizer({"type": "Digits"}, BYTES), "'Digits' . 'ByteLevel'; one Split"),
        (pre_tokenizer(split(), split(), BYTES), "'Split' . 'Split' . 'ByteLevel'"),
        (pre_tokenizer(split(), BYTES | {"use_regex": True}), "'Split' . 'ByteLevel'"),
        (pre_tokenizer(split(behavior="Contiguous"), BYTES), "'Contiguous', not inverted"),
        (pre_tokenizer(split(invert=True), BYTES), "'Isolated', inverted"),
        (pre_tokenizer(split({"Regex": r"\w+"}), BYTES), r"has '\\\\w'"),
        (pre_tokenizer(split({"Regex": "[a&&b]"}), BYTES), "has '&&'"),
        (pre_tokenizer(split({"Regex": "("}), BYTES), "cannot be read"),
        (pre_tokenizer(split({"Regex": "a*"}), BYTES), "matches no text at all"),
        (setting("post_processor", to=TEMPLATE), "its post_processor adds '<s>' to every text"),
        (
            setting("post_processor", to={"type": "Sequence", "processors": [TEMPLATE]}),
            "its post_processor adds '<s>'",
        ),
        (setting("post_processor", to={"type": "RobertaProcessing"}), "its post_processor is 'RobertaProc"),
        (setting("added_tokens", to=[ADDED | {"single_word": True}]), "'foo' is single_word"),
        (setting("added_tokens", to=[ADDED | {"id": 401}]), "'foo' has the id 401, but .* would give it 400"),
        (setting("model", "vocab", "Ġ", to=1), "two of its tokens have the same id"),
        (setting("model", "vocab", "Ġ", to=True), "'Ġ' has the id True"),
        (setting("model", "vocab", "Ġ", to=1 << 40), "'Ġ' has the id 1099511627776"),
        (lambda content: content["model"]["vocab"].pop("Ġ"), "1 of the 256 bytes have no token"),
        (lambda content: content["model"]["merges"].insert(0, "qq q"), "'qq' has no id"),
        (lambda content: content["model"]["merges"].reverse(), "stands before that of its part"),
        (lambda content: content["model"].clear(), "not a tokenizer as Hugging Face writes it"),
        (lambda content: content.clear(), "not a tokenizer as Hugging Face writes it"),
        (setting("model", "merges", 0, to="한 글"), "not a tokenizer as Hugging Face writes it"),
        (setting("pre_tokenizer", to=7), "not a tokenizer as Hugging Face writes it"),
    ],
)  # fmt: skip
def test_what_would_change_ids_is_refused_by_its_name(change: Change, problem: str, tmp_path: Path) -> None:
    write(tmp_path, tokenizer_json(change))
    with pytest.raises(CheckpointError, match=problem) as caught:
        read_tokenizer(tmp_path, 1000)
    assert str(caught.value).startswith(str(tmp_path / "tokenizer.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"add_bos_token": True}, "add_bos_token is True, which changes the ids"),
        ({"add_eos_token": True}, "add_eos_token is True"),
        ({"add_prefix_space": True}, "add_prefix_space is True"),
        ({"do_lower_case": True}, "do_lower_case is True"),
        ({"tokenizer_class": "BertTokenizerFast"}, "tokenizer_class is 'BertTokenizerFast'"),
        ({"tokenizer_class": "T5Tokenizer"}, "tokenizer_class is 'T5Tokenizer'"),
    ],
)
@pytest.mark.parametrize("beside", ["tokenizer.json", "vocab.json and merges.txt", "nothing"])
def test_settings_that_would_change_ids_are_refused_by_name(
    settings: dict[str, Any], problem: str, beside: str, tmp_path: Path
) -> None:
    files = {name: text for name, text in tokenizer_files(TRAINED).items() if name in beside}
    write(tmp_path, files | {"tokenizer_config.json": json.dumps(settings)})
    with pytest.raises(CheckpointError, match=rf"tokenizer_config\.json: {problem}.*load_model"):
        read_tokenizer(tmp_path, 60_000)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("vocab.txt", "WordPiece"),
        ("spiece.model", "SentencePiece"),
        ("tokenizer.model", "SentencePiece"),
        ("sentencepiece.bpe.model", "SentencePiece"),
        ("tiktoken.model", "another model's"),
    ],
)
def test_files_of_other_kinds_of_tokenizers_are_refused_by_name(name: str, kind: str, tmp_path: Path) -> None:
    write(tmp_path, {name: ""})
    with pytest.raises(CheckpointError, match=f"{name}: the tokenizer is {kind}.*byte-level BPE.*load_model"):
        read_tokenizer(tmp_path, 50257)
    assert name in TOKENIZER_FILES  # so that the Hub is asked for it


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"vocab.json": None}, r"merges\.txt: is missing; vocab\.json and merges\.txt go together"),
        ({"merges.txt": None}, r"vocab\.json: is missing"),
        ({"merges.txt": "t h\nth e</w>\n", "vocab.json": "{}"}, r"merges\.txt: '</w>'.*BPE of characters"),
        ({"merges.txt": "a b c\n", "vocab.json": "{}"}, r"merges\.txt: not a tokenizer"),
        ({"merges.txt": None, "vocab.json": "[]"}, r"vocab\.json: found \[\]; expected an object"),
        ({"merges.txt": None, "vocab.json": '{"a": 0}'}, r"vocab\.json: 255 of the 256 bytes have no token"),
        ({"merges.txt": None, "vocab.json": "no"}, r"vocab\.json: not valid JSON"),
    ],
)
def test_vocab_and_merges_that_are_no_byte_level_bpe_are_refused(
    files: dict[str, str | None], problem: str, tmp_path: Path
) -> None:
    good = tokenizer_files(TRAINED)
    write(tmp_path, {name: good[name] if text is None else text for name, text in files.items()})
    with pytest.raises(CheckpointError, match=problem):
        read_tokenizer(tmp_path, 400)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    write(tmp_path, tokenizer_files(TRAINED))
    with pytest.raises(
        CheckpointError, match="another vocabulary: it has the id 398, and the model has 398 ids"
    ):
        read_tokenizer(tmp_path, 398)
    assert read_tokenizer(tmp_path, 399).end_of_text == 399  # no text makes it


# -------------------------------------------------------------------------------------------- the whole road


def test_everything_works_with_another_vocabulary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(save_checkpoint(tmp_path / "model", vocab_size=400), tokenizer_files(TRAINED))
    (tmp_path / "text.txt").write_text(KOREAN, encoding="utf-8")
    model, tokenizer = minigpt.load(folder)
    for words in (
        ["나는", "--candidates", " 너를", "--compare", "너는", "-n", "5", "--stop", "요", "--seed", "0"],
        ["나는", "--html", str(tmp_path / "page.html"), "--json"],
        ["", "-n", "1", "--seed", "0"],
        ["score", str(tmp_path / "text.txt")],
        ["attention", "나는 너를"],
        ["lens", "나는 너를", "--json"],
        ["attribution", "나는", "--token", "다"],
        ["break", "erf-gelu", "나는 너를"],
    ):
        assert main([*words, "--model", str(folder)]) == 0
    assert "400 pieces of text" in capsys.readouterr().out
    assert "나" in (tmp_path / "page.html").read_text(encoding="utf-8")
    generation = minigpt.generate_text(model, tokenizer, "나는", max_new_tokens=20, seed=3)
    assert "".join(generation) == generation.text
    assert np.isfinite(minigpt.perplexity(model, tokenizer.encode(KOREAN)))


def test_bytes_alone_have_no_end_and_no_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tokenizer_files(Tokenizer.train([], 256))
    folder = write(save_checkpoint(tmp_path / "model", vocab_size=256), files)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None}), encoding="utf-8")
    assert main(["I love", "-n", "3", "--seed", "0", "--model", str(folder)]) == 0
    assert main(["", "--model", str(folder)]) == 2
    assert "prompt: it is empty, and this tokenizer has no token" in capsys.readouterr().err
