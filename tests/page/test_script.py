"""The page's script as text: how its modules are joined, and the words it speaks."""

import json
import re

import pytest

from minigpt.page import document
from minigpt.page.document import FOLDER, asset, order, script

WORDS = json.loads(asset("words.json"))


def test_every_module_is_joined_once_behind_what_it_imports() -> None:
    joined = order("main")
    assert len(set(joined)) == len(joined)
    assert set(joined) == {path.stem for path in (FOLDER / "script").glob("*.js")}
    for name in joined:
        imported = [needed for _names, needed in document.IMPORT.findall(asset(f"script/{name}.js"))]
        assert all(joined.index(needed) < joined.index(name) for needed in imported)


def test_nothing_of_the_module_syntax_is_left() -> None:
    assert not re.search(r"^\s*(import|export)\b", script(), re.MULTILINE)


def test_modules_that_need_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"script/a.js": 'import { b } from "./b.js";\n', "script/b.js": 'import "./a.js";\n'}
    monkeypatch.setattr(document, "asset", texts.__getitem__)
    with pytest.raises(ValueError, match="a -> b -> a"):
        order("a")


def used_words() -> set[str]:
    """The names of all sentences that the document and the script ask for."""
    page = set(re.findall(r'data-(?:words|label|hint)="([^"]+)"', asset("page.html")))
    texts = "".join(path.read_text(encoding="utf-8") for path in (FOLDER / "script").glob("*.js"))
    quoted = set(re.findall(r'"([a-z]+(?:[.-][\w.-]+)?)"', texts)) & WORDS.keys()
    begun = re.findall(r"t\(`([a-z]+\.)\$", texts)
    return page | quoted | {name for name in WORDS for start in begun if name.startswith(start)}


def test_every_sentence_is_there_and_is_used() -> None:
    assert used_words() == WORDS.keys()
    asked = re.findall(r'\bt\("([^"]+)"', "".join(asset(f"script/{name}.js") for name in order("main")))
    assert set(asked) <= WORDS.keys()


def test_both_languages_say_everything_with_the_same_values() -> None:
    for name, sentence in WORDS.items():
        assert set(sentence) == {"en", "ko"}, name
        english, korean = (
            sorted(set(re.findall(r"\{\w+\}", sentence[language]))) for language in ("en", "ko")
        )
        assert english == korean, name


def test_korean_sentences_are_korean() -> None:
    same = {name for name, sentence in WORDS.items() if sentence["ko"] == sentence["en"]}
    assert same <= {"mlp.title", "parts.attention"}  # names that Korean takes as they are
    values_alone = {"head.and", "block.of", "stream.attention", "stream.mlp", "next.said"}
    for name in WORDS.keys() - same - values_alone:
        assert re.search(r"[가-힣]", WORDS[name]["ko"]), name
