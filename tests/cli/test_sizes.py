"""`minigpt sizes` and `minigpt glossary`."""

import json
from pathlib import Path

import pytest

from minigpt.cli.main import main
from minigpt.inspection.sizes import family_page
from tests.synthetic import save_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def test_gpt2_part_by_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sizes"]) == 0
    out = capsys.readouterr().out
    for figure in ("124,439,808", "12 blocks × 7,087,872", "38,597,376", "497.8 MB", "548.1 MB", "75.5 MB"):
        assert figure in out


def test_a_folder_by_its_config_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_checkpoint(tmp_path / "small")
    assert main(["sizes", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"]["n_embd"] == 32
    assert found["n_parameters"] == sum(part["count"] * part["times"] for part in found["parts"])
    assert found["file_bytes"] == 4 * found["n_parameters"]


def test_the_page_in_docs_is_up_to_date() -> None:
    """Made by: python -m minigpt sizes --markdown."""
    assert (ROOT / "docs" / "numbers.md").read_text(encoding="utf-8") == family_page()


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["sizes"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= columns


@pytest.mark.parametrize("word", ["logit", "로짓", "LOGIT"])
def test_a_word_in_either_language(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["glossary", word]) == 0
    out = capsys.readouterr().out
    assert "logit · 로짓" in out
    assert ">>> model(ids)[-1]" in out


def test_all_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["glossary", "--json"]) == 0
    assert {"softmax", "attention", "odds ratio"} < {
        entry["term"] for entry in json.loads(capsys.readouterr().out)
    }


def test_an_unknown_word_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["glossary", "logitt"]) == 2
    assert "there is no 'logitt'; is it logit?" in capsys.readouterr().err
