"""The tokenizer against GPT-2's published files and vectors, OpenAI's algorithm written out, and tiktoken."""

import functools
import hashlib
import importlib.util
import itertools
import json
import random
import socket
import sys
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import regex
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

import minigpt.tokenizer
from minigpt.checkpoints.tokenizer_files import vocab_of
from minigpt.errors import InputError
from minigpt.tokenizer import (
    LONG,
    TextStream,
    Tokenizer,
    gpt2_merges,
    join,
    learn_merges,
    merge,
    merge_steps,
    single_bytes,
    split,
)
from tests.korean import KOREAN
from tests.nasty_text import nasty_strings

SHIPPED = Path(minigpt.tokenizer.__file__).parent / "data" / "vocab.bpe"
VECTORS = json.loads((Path(__file__).parent / "data" / "tokenizer_vectors.json").read_text(encoding="utf-8"))

tokenizer = Tokenizer()
VOCAB = vocab_of(tokenizer)
TRAINED = Tokenizer.train([KOREAN], 450)
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
    token_bytes = {token_id: tokenizer.token_bytes(token_id) for token_id in set(ids)}
    assert b"".join(map(token_bytes.__getitem__, ids)) == unit.encode() * 100_000


def test_a_long_run_is_merged_like_a_short_one() -> None:
    assert tokenizer.encode("a" * 100_000) == tokenizer.encode("aaaa") * 25_000
    assert tokenizer.encode(" " * 100_000 + "x") == [220] * 99_999 + tokenizer.encode(" x")


def test_a_million_spaces_before_a_word() -> None:
    assert tokenizer.encode(" " * 1_000_000) == [220] * 1_000_000
    assert tokenizer.encode(" " * 1_000_000 + "x") == [220] * 999_999 + tokenizer.encode(" x")


# ------------------------------------------------------------------------------- what is read, and tiktoken

# The pattern as tiktoken writes it to be faster: `++` never gives back what it has matched.
POSSESSIVE = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


@pytest.fixture(scope="module")
def whole_tiktoken() -> Callable[[str], list[int]]:
    """tiktoken doing everything, the split as well."""
    ranks = {token: rank for rank, token in enumerate(tokenizer.tokens_made)}
    return tiktoken.Encoding(
        "gpt2", pat_str=POSSESSIVE, mergeable_ranks=ranks, special_tokens={}
    ).encode_ordinary


def test_tiktoken_gives_the_same_ids_for_ten_thousand_texts(whole_tiktoken: Any) -> None:
    published = [text for group in VECTORS for text, _ in group["vectors"]]
    for text in [*nasty_strings(10_000, seed=9), *published, KOREAN]:
        assert tokenizer.encode(text) == whole_tiktoken(text), ascii(text)


def test_tiktoken_cuts_at_the_same_characters_of_unicode(whole_tiktoken: Any) -> None:
    # Its regex engine and ours bring tables of their own: only characters that are younger than Python's
    # (14.0 or later) may be of another class in one of them. Of Han, Hangul and the like, one in eight.
    chars = map(chr, range(sys.maxunicode + 1))
    known = [char for char in chars if unicodedata.category(char) not in ("Cn", "Cs", "Co")]
    known = [char for char in known if unicodedata.category(char) != "Lo" or not ord(char) % 8]
    for start in range(0, len(known), 512):
        text = "".join(f"{char}a{char} {char}1\n" for char in known[start : start + 512])
        assert tokenizer.encode(text) == whole_tiktoken(text), hex(ord(known[start]))


@pytest.mark.parametrize("made", [tokenizer, TRAINED, Tokenizer.train("", 256)], ids=repr)
def test_a_long_piece_is_merged_by_tiktoken_as_by_hand(
    made: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(0)
    words = ["가나다라", "hello", "aaaa", "\u0301", "🤗", "0123", "ing", "er", "ㅏ"]
    pieces = ["".join(rng.choices(words, k=rng.randint(150, 300))) for _ in range(20)]
    assert made._fast is not None
    assert all(len(piece.encode()) > LONG for piece in pieces)
    by_hand = [[made.ids[token] for token in merge(piece.encode(), made.ranks)] for piece in pieces]
    monkeypatch.setattr(minigpt.tokenizer, "merge", None)  # it is tiktoken that merges
    assert [made.piece_ids(piece) for piece in pieces] == by_hand


@pytest.mark.parametrize(
    "merges",
    [
        [(b"a", b"b"), (b"b", b"c"), (b"a", b"bc")],  # the last is never reached: "abc" is "ab", "c"
        [(b"ab", b"c"), (b"a", b"b")],  # the first stands before its part
        [(b"a", b"b"), (b"b", b"c"), (b"ab", b"c"), (b"a", b"bc")],  # two make the same bytes
    ],
)
def test_merges_that_tiktoken_would_apply_otherwise_are_left_to_the_loop(
    merges: list[tuple[bytes, bytes]],
) -> None:
    made = Tokenizer(merges, ids={bytes([i]): i for i in range(256)} | {b"ab": 256, b"bc": 257, b"abc": 258})
    assert made._fast is None
    text = "abcabbc" * 100
    assert made.encode(text) == [made.ids[token] for token in merge(text.encode(), made.ranks)]


@pytest.mark.parametrize(
    ("name", "mine", "expected"),
    [
        ("split", lambda text, pattern: list(text), [40, 220, 75, 78, 85, 68]),
        (
            "merge",
            lambda piece, ranks: [piece[i : i + 1] for i in range(len(piece))],
            [40, 220, 75, 78, 85, 68],
        ),
        ("join", lambda parts, pair: list(parts[1:]), None),
    ],
)
def test_what_is_changed_is_what_runs(
    name: str, mine: Any, expected: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minigpt.tokenizer, name, mine)
    ids = Tokenizer().encode("I love")
    assert ids != [40, 1842]
    assert expected in (None, ids)


def test_merging_step_by_step() -> None:
    steps = list(merge_steps(b" unbelievable", tokenizer.ranks))
    assert steps[0] == ((b"l", b"e"), [*single_bytes(b" unbelievab"), b"le"])
    assert steps[-1] == ((b" unbeliev", b"able"), [b" unbelievable"])
    assert merge(b"", tokenizer.ranks) == []
    assert list(merge_steps(b"x", tokenizer.ranks)) == []


def test_a_pair_is_joined_from_left_to_right() -> None:
    assert join([b"a", b"a", b"a"], (b"a", b"a")) == [b"aa", b"a"]
    assert join([b"x", b"a", b"b", b"a", b"b", b"a"], (b"a", b"b")) == [b"x", b"ab", b"ab", b"a"]
    assert join([], (b"a", b"b")) == []


# ------------------------------------------------------------------------------------------------- training


def learn_slowly(texts: list[str], n_merges: int) -> list[tuple[bytes, bytes]]:
    """Everything is counted anew for every merge, as the paper writes it."""
    words = [(single_bytes(piece.encode()), 1) for text in texts for piece in split(text)]
    merges: list[tuple[bytes, bytes]] = []
    while len(merges) < n_merges:
        counts: Counter[tuple[bytes, bytes]] = Counter()
        for parts, times in words:
            for pair in itertools.pairwise(parts):
                counts[pair] += times
        best = max(counts, key=lambda pair: (counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        merges.append(best)
        words = [(join(parts, best), times) for parts, times in words]
    return merges


@pytest.mark.parametrize(
    "texts",
    [
        [KOREAN],
        ["aaaaaaaaaaaaaaa aaaa aa aaaaa", "abababab bababa"],
        nasty_strings(60, seed=11),
        [],
        [""],
        ["x"],
    ],
    ids=["korean", "runs", "nasty", "none", "empty", "short"],
)
def test_learning_finds_what_counting_everything_anew_finds(texts: list[str]) -> None:
    assert learn_merges(texts, 150) == learn_slowly(texts, 150)


@given(st.lists(st.text(alphabet="ab c"), max_size=6))
def test_learning_any_text(texts: list[str]) -> None:
    assert learn_merges(texts, 20) == learn_slowly(texts, 20)


def test_the_most_frequent_pair_comes_first_and_of_equal_ones_the_greatest() -> None:
    # Sennrich et al. 2016, section 3.2, with the words' frequencies; "st" and "es" are equally frequent.
    text = "low " * 5 + "lower " * 2 + "newest " * 6 + "widest " * 3
    words = text.replace(" ", "\n")
    assert learn_merges([words], 3) == [(b"s", b"t"), (b"e", b"st"), (b"o", b"w")]


def test_the_first_merges_of_english_are_gpt2s() -> None:
    english = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert {*learn_merges([english], 20)} & {*gpt2_merges()[:10]} >= {
        (b" ", b"t"),
        (b" ", b"a"),
        (b"h", b"e"),
    }


def test_training_is_deterministic_and_takes_any_iterable() -> None:
    again = Tokenizer.train(iter([KOREAN]), 450)
    assert again.merges == TRAINED.merges == Tokenizer.train(KOREAN, 450).merges
    assert Tokenizer.train([KOREAN], 300).merges == TRAINED.merges[:43]


def test_a_trained_vocabulary_is_built_like_gpt2s() -> None:
    assert TRAINED.n_vocab == 450
    assert TRAINED.end_of_text == 449
    assert TRAINED.token_bytes(449) == b"<|endoftext|>"
    assert [TRAINED.token_bytes(i) for i in range(256)] == [tokenizer.token_bytes(i) for i in range(256)]
    assert TRAINED.encode("<|endoftext|>", allow_special=True) == [449]
    assert repr(TRAINED) == "Tokenizer(450 tokens: 256 bytes, 193 merges, <|endoftext|>)"


@given(st.text())
def test_every_text_comes_back_from_a_trained_vocabulary(text: str) -> None:
    assert TRAINED.decode(TRAINED.encode(text)) == text


def test_with_256_tokens_there_are_bytes_alone() -> None:
    bytes_alone = Tokenizer.train(["as often as it is trained, is trained, is trained"], 256)
    assert (bytes_alone.n_vocab, bytes_alone.end_of_text, bytes_alone.merges) == (256, None, ())
    assert [bytes_alone.token_bytes(i) for i in bytes_alone.encode("é!")] == [b"\xc3", b"\xa9", b"!"]
    assert Tokenizer.train([], 257).end_of_text == 256


@pytest.mark.parametrize(
    ("texts", "vocab_size", "problem"),
    [
        ([], 255, "vocab_size is 255; it must be an integer from 256"),
        ([], 300.0, r"vocab_size is 300\.0"),
        (["ab ab ab"], 512, r"vocab_size is 512, .* only 2 pairs are worth a token .* give at most 259"),
        ([b"bytes"], 256, "texts: found bytes; expected texts"),
        (["\ud83d"], 256, "text: position 0 holds"),
    ],
)
def test_training_that_cannot_be_is_refused(
    unchecked: Any, texts: Any, vocab_size: Any, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        type(unchecked).train(texts, vocab_size)


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
