"""`minigpt live` and `--html` as they are typed."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "--port is 70000; it must be 0 (any that is free) to 65535"),
        (["--json"], "--json: a live page is no document"),
        (["--lang", "fr"], "--lang: invalid choice: 'fr'"),
    ],
)
def test_live_refuses_what_it_cannot_do(run: Run, words: list[str], message: str) -> None:
    assert message in run("live", *words, status=2).err


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to a whole group of processes")
def test_ctrl_c_ends_the_live_page(folder: Path) -> None:
    words = ("live", "I love", "--no-browser", "--model", str(folder))
    process = subprocess.Popen([sys.executable, "-m", "minigpt", *words], stdout=subprocess.PIPE)
    assert process.stdout
    address = process.stdout.readline().decode().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{22}/", address)
    with urllib.request.urlopen(address, timeout=60) as answer:
        assert b"I love" in answer.read()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    process.stdout.close()


def test_what_is_written_on_the_page_is_what_is_printed(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "love.html"
    out = run("I love", "-n", "4", "--html", str(page), "--lang", "ko", "--json").out
    printed = json.loads(out)["generated"]
    text = page.read_text(encoding="utf-8")
    (data,) = re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert [step["id"] for step in json.loads(data)["steps"]] == printed["ids"]
    assert '<html lang="ko">' in text


def test_other_models_and_changes_reach_the_page(run: Run, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "love.html"
    run("I love", "--compare-model", str(folder), "--ablate", "h.0.mlp.out", "--html", str(page), "--json")
    (data,) = re.findall(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    written = json.loads(data)
    assert [context["model"] for context in written["contexts"]] == [0, 1]
    assert written["changes"] == ["h.0.mlp.out set to zero"]
