"""Reading pairs of answers: what is no pair is told by its line, and the set that ships is what it says."""

import json
from collections import Counter
from pathlib import Path

import pytest

from minigpt.errors import InputError
from minigpt.tokenizer import Tokenizer
from minigpt.training.pairs import DEMO, Pair, encode_pair, read_pairs, split_pairs

GOOD = b'{"prompt": "I am", "chosen": " glad", "rejected": " sad"}'
TOKENIZER = Tokenizer()


def file_of(folder: Path, *lines: bytes) -> Path:
    file = folder / "pairs.jsonl"
    file.write_bytes(b"\n".join(lines))
    return file


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"I am glad", "not valid JSON"),
        (b'{"prompt": "I am", "chosen": " glad"', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON of its kind: brackets are nested too deep"),
        (b'{"prompt": "", "prompt": "I", "chosen": "a", "rejected": "b"}', "'prompt' occurs twice; expected"),
        (b'{"prompt": "\xff", "chosen": " glad", "rejected": " sad"}', "is not UTF-8"),
        (b'["I am", " glad", " sad"]', "found a list; expected an object of three texts"),
        (b'{"prompt": "I am", "chosen": " glad"}', "'rejected' is missing; expected"),
        (b'{"prompt": "I am", "chosen": " glad", "rejected": 7}', "'rejected' is a int and no text"),
        (b'{"prompt": [{"role": "user"}], "chosen": "", "rejected": ""}', "'prompt' is a list and no text"),
        (b'{"prompt": "I am", "chosen": "", "rejected": " sad"}', "'chosen' is empty"),
        (b'{"prompt": "I am", "chosen": " sad", "rejected": " sad"}', "both answers are ' sad'; nothing is"),
        (
            b'{"prompt": "\\ud800", "chosen": " glad", "rejected": " sad"}',
            "'prompt' holds half of a character",
        ),
    ],
    ids=str,
)
def test_what_is_no_pair_is_told_in_one_line_by_its_line(tmp_path: Path, line: bytes, message: str) -> None:
    file = file_of(tmp_path, GOOD, b"", line, GOOD)
    with pytest.raises(InputError) as caught:
        read_pairs(file)
    assert f"pairs.jsonl, line 3: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_pairs_or_without_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pairs.jsonl: it is empty; a line is an object of three texts"):
        read_pairs(file_of(tmp_path, b"", b"  "))
    with pytest.raises(InputError, match=r"none.jsonl: No such file or directory; give a file of JSON lines"):
        read_pairs(tmp_path / "none.jsonl")


def test_pairs_without_an_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.training.pairs.LONGEST_TEXT", 1 << 20)
    with pytest.raises(InputError, match="/dev/zero: more than 1 MiB; give a shorter text"):
        read_pairs("/dev/zero")


def test_what_editors_put_into_a_file_does_no_harm(tmp_path: Path) -> None:
    """A byte-order mark, CRLF line ends, an empty line at the end, a key that nobody asked for."""
    other = GOOD.replace(b"{", b'{"id": 7, ')
    found = read_pairs(file_of(tmp_path, b"\xef\xbb\xbf" + GOOD + b"\r", other, b""))
    assert [(pair.prompt, pair.chosen, pair.rejected) for pair in found] == [("I am", " glad", " sad")] * 2


def test_every_fifth_pair_is_held_out() -> None:
    pairs = [Pair(str(number), "a", "b") for number in range(1, 13)]
    learnt, held_out = split_pairs(pairs)
    assert [pair.prompt for pair in held_out] == ["5", "10"]
    assert sorted(pair.prompt for pair in learnt + held_out) == sorted(pair.prompt for pair in pairs)
    with pytest.raises(InputError, match="there are 4; of every 5 one is held out"):
        split_pairs(pairs[:4])


# ---------------------------------------------------------------------------------------------------- tokens


def test_prompt_and_answer_become_tokens_separately() -> None:
    found = encode_pair(TOKENIZER, Pair("I lo", "ve you", " x"), 100)
    assert found.prompt == TOKENIZER.encode("I lo")
    assert found.chosen == TOKENIZER.encode("ve you")  # and not as a part of " love"
    assert encode_pair(TOKENIZER, Pair("", " a", " b"), 100).prompt == [50256]


def test_an_end_of_text_is_put_behind_both_answers_if_it_is_asked_for() -> None:
    plain, ended = (encode_pair(TOKENIZER, Pair("I", " a b", " c"), 100, end) for end in (False, True))
    assert ended.chosen == [*plain.chosen, 50256]
    assert ended.rejected == [*plain.rejected, 50256]


def test_a_prompt_that_is_too_long_loses_its_beginning_and_an_answer_nothing() -> None:
    pair = Pair("one two three four five six", " seven eight nine", " ten", "x.jsonl, line 4")
    found = encode_pair(TOKENIZER, pair, 5)
    assert TOKENIZER.decode(found.prompt) == " four five six"  # 3 + 3, of which the last predicts nothing
    assert found.cut == 3
    assert found.chosen == TOKENIZER.encode(" seven eight nine")
    assert encode_pair(TOKENIZER, pair, 8).cut == 0


def test_an_answer_that_is_longer_than_the_context_is_refused() -> None:
    pair = Pair("one", " two", " three four five six", "x.jsonl, line 4")
    assert encode_pair(TOKENIZER, pair, 4).prompt == TOKENIZER.encode("one")
    with pytest.raises(
        InputError, match=r"x.jsonl, line 4: the rejected answer has 4 tokens, and the model's"
    ):
        encode_pair(TOKENIZER, pair, 3)


# -------------------------------------------------------------------------------------------- the shipped set


def test_the_shipped_pairs_are_varied_and_as_the_documentation_says() -> None:
    pairs = read_pairs("demo")
    assert len(pairs) == len({pair.prompt for pair in pairs}) == 200
    assert DEMO.stat().st_size < 60_000
    assert max(Counter(" ".join(pair.prompt.split()[:3]) for pair in pairs).values()) <= 4
    for pair in pairs:
        assert pair.chosen[0] == pair.rejected[0] == " " != pair.prompt[-1]
        assert abs(len(TOKENIZER.encode(pair.chosen)) - len(TOKENIZER.encode(pair.rejected))) <= 2, pair
    for line in DEMO.read_text(encoding="utf-8").splitlines():
        assert list(json.loads(line)) == ["prompt", "chosen", "rejected"]
