"""The examples in docs/looking-inside.md run."""

import re
from pathlib import Path

import pytest

import minigpt
from minigpt.model import GPT2
from minigpt.tokenizer import Tokenizer
from tests.synthetic import random_gpt2

PAGE = Path(__file__).parents[2] / "docs" / "looking-inside.md"


@pytest.fixture
def model() -> GPT2:
    return random_gpt2(vocab_size=50257, n_embd=16, n_layer=3, n_head=4)


def test_the_examples_run(
    model: GPT2, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mpl = pytest.importorskip("matplotlib", reason="one of the examples draws with matplotlib")
    mpl.use("Agg")
    monkeypatch.setattr(minigpt, "load", lambda _name: (model, tokenizer), raising=False)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 9
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "lens.svg").stat().st_size > 0
    from matplotlib import pyplot as plt

    plt.close("all")
