"""What a terminal is shown: everything visible, nothing that steers it, in any encoding."""

import errno
import io
import os
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from minigpt.cli.streams import STAND_INS
from minigpt.cli.tables import Column, console, print_table
from minigpt.cli.terminal import LEVELS, harmless, sparkline, visible
from minigpt.errors import discard, notice


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" love", "␣love"),
        ("I", "I"),
        ("  ", "␣␣"),
        ("\n", "\\n"),
        ("\t", "\\t"),
        ("\\n", "\\\\n"),  # backslash and n, which is not a newline
        ("\x1b[31m", "\\x1b[31m"),
        ("\x00", "\\x00"),
        ("\x9b", "\\x9b"),  # ESC [ in one character, for some terminals
        ("\u202e", "\\u202e"),  # right-to-left override
        ("\u200b", "\\u200b"),  # zero-width space
        ("\u00a0", "\\xa0"),
        ("\u0301", "\\u0301"),  # a combining accent with nothing to sit on
        ("e\u0301", "e\u0301"),
        ("é", "é"),
        ("你好", "你好"),
        ("😀", "😀"),
        ("\ufffd", "\ufffd"),
        ("", ""),
        (b" \xf0\x9f\x98", "␣\\xf0\\x9f\\x98"),  # most of an emoji
        (b" love", "␣love"),
    ],
)
def test_visible(token, shown):
    assert visible(token) == shown


@given(st.text())
def test_visible_text_never_steers(text):
    for character in visible(text):
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"}


@given(st.text(), st.text())
def test_different_texts_look_different(one, other):
    assert (visible(one) == visible(other)) == (one == other) or "␣" in one + other


@given(st.text())
def test_harmless_text_never_steers(text):
    assert not set(harmless(text)) & set(map(chr, [*range(9), *range(11, 32), *range(127, 160), 0x202E]))


def test_harmless_keeps_lines_and_joined_emoji():
    assert harmless("a\n\tb 👩‍🚀") == "a\n\tb 👩‍🚀"
    assert harmless("\x1b[0m\r") == "\\x1b[0m\\r"


def test_a_notice_is_one_harmless_line_on_standard_error(capsys):
    notice("first\n  second \x1b[31m")
    assert capsys.readouterr() == ("", "minigpt: first second \\x1b[31m\n")


def test_a_notice_that_nobody_can_read_is_no_failure(monkeypatch):
    """Neither now nor when Python flushes the stream at its end."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:  # noqa: PTH123 - it is a descriptor
        monkeypatch.setattr(sys, "stderr", stream)
        notice("one")
        notice("two")
    monkeypatch.setattr(sys, "stderr", FullDisk())
    notice("in memory")
    discard(sys.stderr)


class FullDisk(io.StringIO):
    """In memory, and full."""

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252", "latin-1", "utf-8"])
def test_every_encoding_gets_readable_lines_of_the_same_width(encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    out = console(stream)
    out.print(Text("␣love⏎ █▌ ▁▄█ … 你"))
    stream.flush()
    line = raw.getvalue().decode(encoding).rstrip("\n")
    assert "love" in line
    assert "?" not in line
    drawn, _, rest = line.rpartition(" ")
    assert cell_len(drawn) == cell_len("␣love⏎ █▌ ▁▄█ …")
    assert rest in {"你", "\\u4f60"}


def test_stand_ins_are_ascii_and_one_column_wide():
    for code, stand_in in STAND_INS.items():
        assert chr(stand_in).isascii()
        assert cell_len(chr(code)) == cell_len(chr(stand_in)) == 1


@pytest.fixture
def colourful(monkeypatch):
    for name in ("NO_COLOR", "COLUMNS", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich's word for "this is a terminal"
    monkeypatch.setenv("TERM", "xterm-256color")
    return monkeypatch


def printed(text):
    stream = io.StringIO()
    console(stream).print(text)
    return stream.getvalue()


def table(columns, width=80, **options):
    stream = io.StringIO()
    out = console(stream)
    out.width = width
    print_table(out, columns, **options)
    return stream.getvalue()


def test_a_terminal_gets_colour(colourful):
    assert "\x1b[" in printed(Text("x", "bold red"))


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_plain_text_where_colour_is_not_wanted(colourful, name, value):
    colourful.setenv(name, value)
    assert printed(Text("x", "bold red")) == "x\n"


def test_without_a_terminal_the_output_is_plain(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert printed(Text("x", "bold red")) == "x\n"


def test_the_width_is_the_one_asked_for(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert console(io.StringIO()).width == 20
    monkeypatch.setenv("TERM", "dumb")
    assert console(io.StringIO()).width == 20


def test_markup_and_emoji_names_are_text():
    assert printed("[red]boo[/red] :smile: [/]") == "[red]boo[/red] :smile: [/]\n"


def test_tables_have_no_lines_and_align_numbers():
    columns = [Column("token", ["a", "bc"]), Column("logit", ["1.0", "-10.0"], right=True)]
    assert table(columns) == "token  logit\na        1.0\nbc     -10.0\n"


def test_sparklines():
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([1, 8, 4]) == "▁█▄"
    assert sparkline(list(range(1, 9))) == LEVELS


# ---------------------------------------------------------------------------------------------------- tables

NUMBERS = [
    Column("token", ["you", "it"]),
    Column("logit", ["8.42", "-6.33"], right=True),
    Column("rank", ["1", "4"]),
]


def test_what_a_table_may_drop_goes_first():
    _, logit, rank = NUMBERS
    assert table(NUMBERS, 18, drop=[rank, logit]) == "token  logit  rank\nyou     8.42  1\nit     -6.33  4\n"
    assert table(NUMBERS, 17, drop=[rank, logit]) == "token  logit\nyou     8.42\nit     -6.33\n"
    assert table(NUMBERS, 11, drop=[rank, logit]) == "token\nyou\nit\n"


def test_what_is_still_too_wide_is_stacked_with_its_headers():
    assert table(NUMBERS, 17) == "you\n  logit 8.42\n  rank 1\nit\n  logit -6.33\n  rank 4\n"
    assert table(NUMBERS[:2], 24, indent=14).split() == ["you", "logit", "8.42", "it", "logit", "-6.33"]


def test_columns_go_on_below_and_groups_stay_together():
    groups = [
        Column("token", ["you"]),
        Column("logit", ["8.42"], right=True, group="I love"),
        Column("rank", ["1"], right=True, group="I love"),
        Column("logit", ["7.22"], right=True, group="I hate"),
        Column("rank", ["2"], right=True, group="I hate"),
    ]
    love = "            I love\ntoken  logit  rank\nyou     8.42     1\n"
    hate = "            I hate\ntoken  logit  rank\nyou     7.22     2\n"
    assert table(groups, 25, narrow="continue") == f"{love}\n{hate}"
    assert len(table(groups, 31, narrow="continue").splitlines()) == 3
    assert table(groups, 12, narrow="continue").splitlines()[:3] == ["you", "  logit 8.42", "  rank 1"]


def test_text_wraps_and_loses_its_beginning_where_it_may():
    long = "a sentence of several words that goes on"
    assert table([Column("", ["one"]), Column("", [long], flexible="wrap")], 30) == (
        "one  a sentence of several\n     words that goes on\n"
    )
    cut = table([Column("", [long], flexible="end", right=True), Column("", ["1"])], 30)
    assert cut == "…of several words that goes on"[-26:].join(["…", "  1\n"])


def test_bars_take_what_is_left_to_an_eighth_of_a_column():
    columns = [Column("", ["a", "b", "c"]), Column("", [1.0, 0.5, 0.0], flexible="bar")]
    assert table(columns, 20) == f"a  {'█' * 17}\nb  {'█' * 8}▌\nc\n"
    assert table([Column("", ["a"]), Column("", [1 / 64], flexible="bar")], 11) == "a  ▏\n"


def test_a_note_stands_below_its_row():
    expected = "token\nyou\n  a word\nit\n  another\n"
    assert table([Column("token", ["you", "it"])], notes=["a word", "another"]) == expected
