"""The lessons have their form, name what there is, and say the same in both languages."""

import hashlib
import re
import shlex
import shutil
from pathlib import Path

import pytest

from minigpt.cli.commands import lessons
from minigpt.cli.main import COMMANDS, command_parser, load_command, main, read_prompt_options
from minigpt.glossary import Term, glossary
from minigpt.practice import EXERCISES
from scripts.docs.update import BLOCK, ROOT, blocks

FOLDER = ROOT / "docs" / "lessons"
ENGLISH = sorted((FOLDER / "en").glob("*.md"))
KOREAN = sorted((FOLDER / "ko").glob("*.md"))
MADE_FROM = re.compile(r"<!-- translated from (en/[\w.-]+), sha256 (\w{12}) -->\n")
# Other Korean words for a term, which the lessons do not use: one word for one thing.
RIVALS = {
    "로짓": ["로지트", "로짓트"],
    "소프트맥스": ["소프트 맥스"],
    "임베딩": ["임배딩", "매립"],
    "어텐션": ["어텐숀", "주의 집중", "주의 메커니즘"],
    "잔차 스트림": ["잔여 스트림", "잔차 흐름", "레지듀얼"],
    "레이어 정규화": ["층 정규화", "레이어 노름", "계층 정규화"],
    "역전파": ["오차 전파", "백프로파게이션"],
    "오즈": ["승산", "공산비"],
    "어휘": ["어휘집", "보캐뷸러리"],
    "쿼리": ["질의"],
    "기울기": ["그래디언트", "그라디언트", "경사도"],
    "혼란도": ["퍼플렉시티", "혼잡도"],
    "인과 마스크": ["인과적 마스크"],
    "온도": ["템퍼러처"],
}

by_name = pytest.mark.parametrize(
    "page", [*ENGLISH, *KOREAN], ids=lambda page: f"{page.parent.name}/{page.stem}"
)
of_korean = pytest.mark.parametrize("page", KOREAN, ids=lambda page: page.stem)


def prose(page: Path) -> str:
    """A lesson without its code, what that prints, inline code, addresses and comments."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    text = re.sub(r"```.*?```|<!--.*?-->|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", text)


def original(page: Path) -> Path:
    return FOLDER / "en" / page.name


def fingerprint(page: Path) -> str:
    """Of all that a translator reads; what the code prints may change by itself."""
    text = BLOCK.sub(lambda match: match["head"] or match[0], page.read_text(encoding="utf-8"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# ------------------------------------------------------------------------------------------------- the form


@by_name
def test_a_lesson_begins_with_its_question_and_ends_with_the_next_lesson(page: Path) -> None:
    lesson = lessons.read_lesson(page)
    text = page.read_text(encoding="utf-8")
    assert f"# {lesson.number} · {lesson.title}\n\n> {lesson.question.split()[0]}" in text
    assert "?" in lesson.question
    following = sorted(page.parent.glob(f"{lesson.number + 1:02}-*.md"))
    for file in following:
        assert f"]({file.name})" in text.splitlines()[-1]


@by_name
def test_a_lesson_asks_for_a_prediction_and_names_an_exercise(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.search(r"\*\*(Predict before you run\.|실행하기 전에 예측해 보세요\.)\*\*", text)
    assert re.search(r"^## (What learners ask|배우는 분들이 묻는 것)$", text, re.MULTILINE)
    assert set(re.findall(r"minigpt practice (?!check)(\w+)", text)) & EXERCISES.keys()


@by_name
def test_every_command_that_a_lesson_names_is_one(page: Path) -> None:
    for command in re.findall(r"`minigpt ([^`]+)`", re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))):
        words = shlex.split(command)
        if words[0] == "practice":
            assert words[-1] in EXERCISES or words[1:2] == ["check"] or words == ["practice"], command
        elif words[0] not in COMMANDS:
            read_prompt_options(words)
        elif len(words) > 1:
            module = load_command(words[0])
            module.Options(**command_parser(words[0], module).parse(words[1:]))


# --------------------------------------------------------------------------------------------- two languages


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.stem)
def test_every_lesson_is_there_in_korean(page: Path) -> None:
    assert (FOLDER / "ko" / page.name).exists()


@of_korean
def test_a_translation_is_of_the_english_text_of_today(page: Path) -> None:
    made_from = MADE_FROM.search(page.read_text(encoding="utf-8"))
    assert made_from, "a translation says what it was made from: <!-- translated from en/…, sha256 … -->"
    assert made_from[1] == f"en/{page.name}"
    assert made_from[2] == fingerprint(original(page)), (
        f"ko/{page.name} is behind en/{page.name}; when it says the same again, "
        f"its first comment is: sha256 {fingerprint(original(page))}"
    )


def test_only_prose_and_code_put_a_translation_behind(tmp_path: Path) -> None:
    page, text = tmp_path / "page.md", "A b.\n```python\nx\n```\n<!-- prints -->\n1\n<!-- end -->\n"
    marks = []
    for old, new in (("", ""), ("1", "2"), ("A b", "A c"), ("x", "y")):
        page.write_text(text.replace(old, new) if old else text, encoding="utf-8")
        marks.append(fingerprint(page))
    assert marks[0] == marks[1]
    assert len(set(marks)) == 3


@of_korean
def test_a_translation_has_the_same_code_and_output_byte_for_byte(page: Path) -> None:
    pairs = [BLOCK.findall(file.read_text(encoding="utf-8")) for file in (page, original(page))]
    assert pairs[0] == pairs[1]


def test_what_a_translation_shows_is_copied_from_the_original(tmp_path: Path) -> None:
    for language, shown in (("en", "1"), ("ko", "")):
        page = tmp_path / "lessons" / language / "01-a.md"
        page.parent.mkdir(parents=True)
        page.write_text(f"```python\nx\n```\n<!-- prints -->\n{shown}\n<!-- end -->\n", encoding="utf-8")
    assert [block.new for block in blocks(page)] == ["1\n"]


@of_korean
def test_a_translation_has_the_same_headings_inline_code_and_links(page: Path) -> None:
    texts = [BLOCK.sub("", file.read_text(encoding="utf-8")) for file in (page, original(page))]
    for pattern in (r"^#+ ", r"(?<!`)`[^`\n]+`(?!`)", r"\]\(([^)]*)\)"):
        found = [sorted(re.findall(pattern, text, re.MULTILINE)) for text in texts]
        assert found[0] == found[1]


@of_korean
def test_a_translation_has_as_many_questions_and_predictions(page: Path) -> None:
    texts = [file.read_text(encoding="utf-8") for file in (page, original(page))]
    questions = [re.findall(r"^\*\*[^*]+[.?]\*\*", text, re.MULTILINE) for text in texts]
    assert len(questions[0]) == len(questions[1])


@of_korean
def test_a_translation_uses_the_glossarys_terms(page: Path) -> None:
    english, korean = prose(original(page)), prose(page)
    missing = [
        f"{term.term}: {term.ko}" for term in glossary() if speaks_of(english, term) and term.ko not in korean
    ]
    rivals = [word for words in RIVALS.values() for word in words if word in korean]
    assert not missing
    assert not rivals


def speaks_of(text: str, term: Term) -> bool:
    return re.search(rf"\b{re.escape(term.term)}s?\b", text, re.IGNORECASE) is not None


def test_the_rivals_are_of_terms_that_the_glossary_has() -> None:
    assert RIVALS.keys() <= {term.ko for term in glossary()}


@of_korean
def test_a_translation_is_polite_korean_throughout(page: Path) -> None:
    sentences = re.findall(r"[가-힣]+(?=[.?!](?:\s|$))", prose(page))
    plain = [word for word in sentences if not re.search(r"(니다|니까|요|시오)$", word)]
    assert not plain
    assert len(sentences) > 30


# ---------------------------------------------------------------------------------------------- the command


def test_the_command_lists_the_lessons_of_both_languages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["lessons"]) == 0
    out = re.sub(r"\s+", " ", capsys.readouterr().out)
    for language in ("en", "ko"):
        assert str(FOLDER / language) in out
        for lesson in lessons.read_lessons(FOLDER / language):
            assert lesson.title in out


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_no_line_of_the_command_is_wider_than_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(FOLDER / "en", tmp_path / "docs" / "lessons" / "en")
    monkeypatch.setattr(lessons, "ROOT", tmp_path)
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["lessons"]) == 0
    assert (
        max(len(line) for line in capsys.readouterr().out.splitlines() if str(tmp_path) not in line)
        <= columns
    )


def test_without_the_lessons_the_command_says_where_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lessons, "ROOT", tmp_path)
    assert main(["lessons"]) == 0
    out = capsys.readouterr().out
    assert "docs/lessons/en is not in this installation: see the repository." in out
    assert "docs/lessons/ko is not in this installation: see the repository." in out


def test_a_lesson_becomes_a_notebook() -> None:
    jupytext = pytest.importorskip("jupytext")
    for page in ENGLISH:
        notebook = jupytext.read(page)
        code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        assert code == re.findall(r"^```python\n(.*?)\n```$", page.read_text(encoding="utf-8"), re.M | re.S)
