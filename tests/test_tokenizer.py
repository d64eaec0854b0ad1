"""The tokenizer against GPT-2's published files and vectors, and against OpenAI's algorithm written out."""

import functools
import hashlib
import importlib.util
import itertools
import json
import socket
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

import minigpt.tokenizer
from minigpt.checkpoints.tokenizer_files import vocab_of
from minigpt.errors import InputError
from minigpt.tokenizer import TextStream, Tokenizer, gpt2_merges
from tests.nasty_text import nasty_strings

SHIPPED = Path(minigpt.tokenizer.__file__).parent / "data" / "vocab.bpe"
VECTORS = json.loads((Path(__file__).parent / "data" / "tokenizer_vectors.json").read_text(encoding="utf-8"))

tokenizer = Tokenizer()
VOCAB = vocab_of(tokenizer)
all_ids = st.lists(st.integers(0, tokenizer.n_vocab - 1), max_size=30)


# ------------------------------------------------------------------------------------------- the vocabulary


def test_the_shipped_merges_are_the_official_file() -> None:
    # The hash that tiktoken_ext/openai_public.py of openai/tiktoken names for vocab.bpe.
    official = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
    assert hashlib.sha256(SHIPPED.read_bytes()).hexdigest() == official


def test_the_vocabulary_is_the_official_one_to_the_byte() -> None:
    # Written as JSON it has the hash that openai_public.py names for encoder.json: every id is right.
    official = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
    encoder_json = json.dumps(VOCAB)
    assert hashlib.sha256(encoder_json.encode()).hexdigest() == official


def test_tiktoken_reads_the_same_ranks_from_the_merges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    encoder_json = tmp_path / "encoder.json"
    encoder_json.write_text(json.dumps(VOCAB), encoding="utf-8")
    ranks = data_gym_to_mergeable_bpe_ranks(str(SHIPPED), str(encoder_json))
    assert [ranks[tokenizer.token_bytes(i)] for i in range(50256)] == list(range(50256))


def test_special_ids() -> None:
    assert tokenizer.n_vocab == len(VOCAB) == 50257
    assert tokenizer.end_of_text == 50256
    assert tokenizer.token_bytes(50256) == b"<|endoftext|>"


def test_neither_network_nor_cache_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the tokenizer opened a socket")

    gpt2_merges.cache_clear()
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert Tokenizer().encode("I love") == [40, 1842]
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------ text to ids


@pytest.mark.parametrize(
    ("text", "ids"),
    [vector for group in VECTORS for vector in group["vectors"]],
)
def test_published_vectors(text: str, ids: list[int]) -> None:
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == text


def test_no_text_is_no_tokens() -> None:
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_the_space_before_a_word_belongs_to_its_token() -> None:
    assert [tokenizer.token_text(i) for i in tokenizer.encode("I love  you")] == ["I", " love", " ", " you"]
    assert tokenizer.encode("love") != tokenizer.encode(" love")


def test_special_tokens_in_a_text_are_text_unless_asked_for() -> None:
    assert tokenizer.encode("<|endoftext|>") == [27, 91, 437, 1659, 5239, 91, 29]
    assert tokenizer.encode("<|endoftext|>", allow_special=True) == [50256]
    # openai/tiktoken, tests/test_encoding.py
    assert tokenizer.encode("hello <|endoftext|>", allow_special=True) == [31373, 220, 50256]
    assert tokenizer.decode([31373, 220, 50256]) == "hello <|endoftext|>"


def openai_encode(text: str) -> list[int]:
    """`src/encoder.py` of openai/gpt-2: in each piece, merge the pair of lowest rank wherever it stands."""
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    return [token_id for piece in regex.findall(pattern, text) for token_id in openai_bpe(piece.encode())]


@functools.cache
def openai_bpe(piece: bytes) -> list[int]:
    ids, name_of_byte, rank_of_pair = openai_tables()
    word = [name_of_byte[byte] for byte in piece]
    while ranks := [rank_of_pair[pair] for pair in itertools.pairwise(word) if pair in rank_of_pair]:
        position = 0
        while position < len(word) - 1:
            if rank_of_pair.get((word[position], word[position + 1])) == min(ranks):
                word[position : position + 2] = [word[position] + word[position + 1]]
            position += 1
    return [ids[name] for name in word]


@functools.cache
def openai_tables() -> tuple[dict[str, int], dict[int, str], dict[tuple[str, ...], int]]:
    name_of_byte = {
        tokenizer.token_bytes(token_id)[0]: name for name, token_id in VOCAB.items() if len(name) == 1
    }
    lines = SHIPPED.read_text(encoding="utf-8").split("\n")[1:-1]
    return VOCAB, name_of_byte, {tuple(line.split()): rank for rank, line in enumerate(lines)}


def test_openais_own_algorithm_gives_the_same_ids() -> None:
    for text in nasty_strings(2000, seed=1):
        assert tokenizer.encode(text) == openai_encode(text), ascii(text)


# tiktoken before 0.13 took up to a minute for each of these.
@pytest.mark.parametrize("unit", ["a", "\n", "^", "0", "生", "🤗", "\u0301"])
def test_100_000_characters_without_a_cut(unit: str) -> None:
    ids = tokenizer.encode(unit * 100_000)
    assert b"".join(map(tokenizer.token_bytes, ids)) == unit.encode() * 100_000


def test_a_long_run_is_merged_like_a_short_one() -> None:
    assert tokenizer.encode("a" * 100_000) == tokenizer.encode("aaaa") * 25_000
    assert tokenizer.encode(" " * 100_000 + "x") == [220] * 99_999 + tokenizer.encode(" x")


def test_a_million_spaces_before_a_word() -> None:
    assert tokenizer.encode(" " * 1_000_000) == [220] * 1_000_000
    assert tokenizer.encode(" " * 1_000_000 + "x") == [220] * 999_999 + tokenizer.encode(" x")


# --------------------------------------------------------------------------------------------- and back


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text
    ids = tokenizer.encode(text, allow_special=True)
    assert tokenizer.decode_bytes(ids) == text.encode()


def test_nasty_texts_come_back() -> None:
    for text in nasty_strings(1000, seed=2):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text())
def test_a_stream_gives_the_same_text(text: str) -> None:
    stream = TextStream(tokenizer)
    pieces = [stream.push(token_id) for token_id in tokenizer.encode(text)]
    assert "".join(pieces) == text
    assert stream.flush() == ""


@given(all_ids)
def test_a_stream_of_any_ids_gives_what_decode_gives(ids: list[int]) -> None:
    stream = TextStream(tokenizer)
    assert "".join([*map(stream.push, ids), stream.flush()]) == tokenizer.decode(ids)
    assert tokenizer.decode(ids) == tokenizer.decode_bytes(ids).decode("utf-8", errors="replace")
    assert tokenizer.decode_bytes(ids) == b"".join(map(tokenizer.token_bytes, ids))


# Ids up to 255 are single bytes: almost every sequence is broken UTF-8.
@given(st.lists(st.integers(0, 255)))
def test_a_stream_of_broken_characters_gives_what_decode_gives(ids: list[int]) -> None:
    stream = TextStream(tokenizer)
    assert "".join([*map(stream.push, ids), stream.flush()]) == tokenizer.decode(ids)


def test_a_stream_holds_back_half_a_character() -> None:
    stream = TextStream(tokenizer)
    ids = tokenizer.encode(" 🤗!")
    assert ids == [12520, 97, 245, 0]  # the space and two of the emoji's four bytes, then one byte each
    assert [stream.push(token_id) for token_id in ids] == [" ", "", "🤗", "!"]


def test_a_flushed_stream_starts_afresh() -> None:
    stream = TextStream(tokenizer)
    assert stream.push(12520) == " "
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""
    assert stream.push(40) == "I"


def test_token_text_of_half_a_character() -> None:
    assert tokenizer.token_text(12520) == " \ufffd"
    assert tokenizer.token_bytes(12520) == b" \xf0\x9f"
    assert tokenizer.token_text(97) == "\ufffd"


def test_ids_may_be_numpy_integers() -> None:
    ids = np.array([40, 1842])
    for dtype in (np.int32, np.int64, np.uint16):
        assert tokenizer.decode(ids.astype(dtype)) == "I love"
    assert tokenizer.token_bytes(ids[1]) == b" love"
    assert tokenizer.decode(iter([40, 1842])) == "I love"


def test_threads_may_share_a_tokenizer() -> None:
    texts, tokenizer = [*nasty_strings(200, seed=3), "long" * 500], Tokenizer()
    results: dict[int, list[list[int]]] = {}
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        results[number] = [tokenizer.encode(text) for text in texts]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[number] for number in range(8)] == [results[0]] * 8
    assert [tokenizer.decode(ids) for ids in results[0]] == texts


# ---------------------------------------------------------------------------------- what is refused, and how


@pytest.fixture(scope="module")
def unchecked() -> Any:
    """A tokenizer as in ordinary use, where nothing checks the annotations before the code itself does."""
    spec = importlib.util.spec_from_file_location("minigpt._unchecked_tokenizer", minigpt.tokenizer.__file__)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    yield module.Tokenizer()
    del sys.modules[module.__name__]


SURROGATES = [chr(0xD83D), chr(0xDE00), chr(0xDC80), chr(0xD83E) + chr(0xDD17)]  # the last two are a 🤗


@pytest.mark.parametrize("position", [0, 3])
@pytest.mark.parametrize("surrogate", SURROGATES, ids=ascii)
def test_surrogates_are_refused_with_their_position_and_the_way_out(position: int, surrogate: str) -> None:
    text = "abc"[:position] + surrogate + "!"
    with pytest.raises(InputError, match=rf"^text: position {position} holds U\+D[0-9A-F]{{3}}") as caught:
        tokenizer.encode(text)
    way_out = "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
    assert way_out in str(caught.value)
    repaired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert tokenizer.decode(tokenizer.encode(repaired)) == repaired
    assert repaired[position] == ("🤗" if len(surrogate) == 2 else "\ufffd")


@pytest.mark.parametrize("text", [None, 5, b"I love", ["I", "love"]])
def test_what_is_not_text_is_refused(unchecked: Any, text: Any) -> None:
    with pytest.raises(InputError, match=f"^text: found {type(text).__name__}, expected str"):
        unchecked.encode(text)


@pytest.mark.parametrize("token_id", [-1, 50257, 10**9, np.int64(-1), np.uint32(2**32 - 1)])
def test_ids_outside_the_vocabulary_are_refused(token_id: Any) -> None:
    message = f"^ids: {token_id} is not a token id; this tokenizer's are 0 to 50256.$"
    for call in (tokenizer.token_bytes, tokenizer.token_text):
        with pytest.raises(InputError, match=message):
            call(token_id)
    for decode in (tokenizer.decode, tokenizer.decode_bytes):
        with pytest.raises(InputError, match=message):
            decode([40, token_id])


@pytest.mark.parametrize(
    "token_id", [True, np.True_, 1.0, np.float32(40), "40", None, [40], np.array([40, 40])]
)
def test_ids_that_are_not_integers_are_refused(unchecked: Any, token_id: Any) -> None:
    for call in (unchecked.token_bytes, unchecked.token_text):
        with pytest.raises(InputError, match=f"^ids: found {type(token_id).__name__} "):
            call(token_id)
    with pytest.raises(InputError, match=f"^ids: found {type(token_id).__name__} "):
        unchecked.decode([40, token_id])


def test_one_id_is_not_a_sequence(unchecked: Any) -> None:
    with pytest.raises(InputError, match=r"^ids: found int; expected a sequence of token ids\.$"):
        unchecked.decode(40)
