"""Deterministic strings of the kind that breaks tokenizers."""

import random
import unicodedata

# Every library of today gives the characters of Unicode 3.2 (2002) the same class. Emoji are listed below.
BLOCKS = [(0, 0x10000), (0x10300, 0x10450), (0x1D000, 0x1D800), (0x20000, 0x20080), (0xE0000, 0xE0080)]
OLD = [
    chr(code)
    for start, end in BLOCKS
    for code in range(start, end)
    if unicodedata.ucd_3_2_0.category(chr(code)) not in ("Cn", "Cs")
]
CLASSES = {
    name: [char for char in OLD if unicodedata.category(char).startswith(name)]
    for name in ("L", "Lm", "M", "N", "Nd", "Nl", "P", "S", "Z", "C", "Cc", "Cf")
}
WHITE_SPACE = [*"\t\n\v\f\r \x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"]
NEARLY_SPACE = [*"\x1c\x1d\x1e\x1f\u180e\u200b\u200c\u200d\u2060\ufeff\xad\0\x1b\x7f"]
SNIPPETS = [
    *(
        "'s",
        "'t",
        "'re",
        "'ve",
        "'m",
        "'ll",
        "'d",
        "'S",
        "'LL",
        "'\u017f",
        "\N{RIGHT SINGLE QUOTATION MARK}s",
        "''",
        "'",
    ),
    *("can't", "I'll've", "don't", "O'Neil's", "x'sd", "'tis", "rock'n'roll", "s'", " 're", "1's", "?'d''d"),
    *("\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f3f3\ufe0f\u200d\U0001f308"),
    *("\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "1\ufe0f\u20e3", "\u2764\ufe0f", "\U0001f917"),
    *("é", "e\u0301", "ﬁ", "ß", "İ", "i\u0307", "a\u0300\u0316\u0334\u0489", "한국어", "\u1112\u1161\u11ab"),
    *(
        "生活的真谛是",
        "日本語テキスト",
        "ｱｲｳ",
        "नमस्ते",
        "ไทยไม่เว้นวรรค",
        "שָׁלוֹם",
        "السلام عليكم",
        "\u202eabc\u202c",
    ),
    *("١٢٣", "१२३", "½", "Ⅷ", "①", "𝟘𝟙", "²", "1,234.56", "0x1F", "1e-5", "2022", "00000000000000000"),
    *("<|endoftext|", "|endoftext|>", "<|endof", "Ġlove", "Ċ", "\ufffd", "\uffff", "\U0010ffff", "\ue000"),
    *(
        "hello",
        " world",
        "SolidGoldMagikarp",
        "http://a.b/c?d=e&f",
        "def f(x):\n\treturn x",
        "--",
        "...",
        "=====",
    ),
]


def nasty_strings(count: int, seed: int = 0) -> list[str]:
    """`count` strings without surrogates: all sorts of characters, runs of them, and spaces in between."""
    rng = random.Random(seed)
    alphabets = [*CLASSES.values(), WHITE_SPACE, WHITE_SPACE, NEARLY_SPACE, OLD, [*map(chr, range(128))]]

    def part() -> str:
        kind = rng.random()
        if kind < 0.35:
            return rng.choice(SNIPPETS)
        if kind < 0.65:
            return "".join(rng.choices(rng.choice(alphabets), k=rng.randint(1, 6)))
        if kind < 0.8:
            return rng.choice([*WHITE_SPACE, " ", "\n", " ", "\n"]) * rng.randint(1, 9)
        if kind < 0.9:
            return rng.choice(rng.choice(alphabets)) * rng.randint(2, 40)
        return " "

    return ["".join(part() for _ in range(rng.randint(1, 12))) for _ in range(count)]
