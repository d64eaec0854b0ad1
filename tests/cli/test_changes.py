"""`--ablate` and `--patch` on the main road and on `score`."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.cli.main import main
from minigpt.inspection import ablate, patch, trace
from minigpt.model import GPT2
from minigpt.scoring import continuation_logprob, perplexity, token_logprobs
from minigpt.tokenizer import Tokenizer
from tests.cli.conftest import Run

ABLATE = ("--ablate", "h.0.attn.v:1", "h.1.mlp.out")
PATCH = ("--patch", "h.1.mlp.out", "--patch-from", "I hate")
LOVE, HATE = [40, 1842], [40, 5465]


def ablated(model: GPT2, name: str, array: np.ndarray) -> np.ndarray:
    hooks = ablate(model, "h.0.attn.v", head=1), ablate(model, "h.1.mlp.out")
    for hook in hooks:
        array = hook(name, array)
    return array


def greedy(model: GPT2, ids: list[int], n: int, hook: Any) -> list[int]:
    """The likeliest token again and again, reading everything again, by a hook for so many tokens."""
    for _ in range(n):
        ids = [*ids, int(model(ids, hook=hook)[-1].argmax())]
    return ids[-n:]


def test_an_ablation_reaches_logits_candidates_and_every_token_that_is_written(
    document: Run, model: GPT2
) -> None:
    def hook(name: str, array: np.ndarray) -> np.ndarray:
        return ablated(model, name, array)

    found = document(
        "I love", *ABLATE, "--candidates", " you so", "-n", "8", "--temperature", "0"
    )  # fmt: skip
    logits = model(LOVE, hook=hook)[-1]
    assert found["next_tokens"][0]["logit"] == pytest.approx(float(logits.max()), rel=1e-5)
    assert found["changes"] == ["h.0.attn.v:1 set to zero", "h.1.mlp.out set to zero"]
    expected = continuation_logprob(model, LOVE, Tokenizer().encode(" you so"), hook=hook)
    assert found["candidates"][0]["logprob"] == pytest.approx(expected, rel=1e-5)
    assert found["generated"]["ids"] == greedy(model, LOVE, 8, hook)
    plain = document("I love", "-n", "8", "--temperature", "0")
    assert found["generated"]["ids"] != plain["generated"]["ids"]


def test_a_patch_is_of_the_prompt_and_what_is_written_behind_it_sees_it(document: Run, model: GPT2) -> None:
    found = document("I love", *PATCH, "-n", "8", "--temperature", "0", "--candidates", " you so")
    donor = trace(model, HATE)
    logits = model(LOVE, hook=patch(model, "h.1.mlp.out", donor))[-1]
    assert found["next_tokens"][0]["logit"] == pytest.approx(float(logits.max()), rel=1e-5)
    at_prompt = patch(model, "h.1.mlp.out", donor, position=[0, 1])  # in a pass over the whole text
    assert found["generated"]["ids"] == greedy(model, LOVE, 8, at_prompt)
    expected = continuation_logprob(model, LOVE, Tokenizer().encode(" you so"))
    logprobs = [
        math.log(np.exp(row - row.max())[i] / np.exp(row - row.max()).sum())
        for row, i in zip(model([*LOVE, 345], hook=at_prompt)[1:].astype(np.float64), [345, 523], strict=True)
    ]
    assert found["candidates"][0]["logprob"] == pytest.approx(sum(logprobs), rel=1e-5)
    assert found["candidates"][0]["logprob"] != pytest.approx(expected, rel=1e-5)


def test_a_patch_of_a_prompt_of_one_token_is_of_that_token_alone(document: Run, model: GPT2) -> None:
    words = ("--patch", "h.1.resid_post", "--patch-from", "You", "-n", "6", "--temperature", "0")
    found = document("I", *words)["generated"]["ids"]
    hook = patch(model, "h.1.resid_post", trace(model, Tokenizer().encode("You")), position=[0])
    assert found == greedy(model, [40], 6, hook)


def test_the_story_tells_what_is_changed(run: Run, document: Run) -> None:
    out = run("I love", *ABLATE, *PATCH).out
    for change in ("h.0.attn.v:1 set to zero", 'h.1.mlp.out taken from "I hate"'):
        assert f"changed: {change}" in out
    row = document("I love", *ABLATE, *PATCH)["next_tokens"][0]
    assert f"{row['logit']:.2f}" in out


def test_every_context_is_changed_alike(document: Run) -> None:
    found = document("I love", *ABLATE, "--compare", "I hate")["comparisons"][0]
    assert found == {key: value for key, value in document("I hate", *ABLATE).items() if key != "model"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--patch", "h.0.mlp.out"), "--patch and --patch-from belong together"),
        (("--patch-from", "I hate"), "--patch and --patch-from belong together"),
        ((*PATCH, "--compare", "I love you"), "--patch-from: its number of tokens is 2, and that"),
        (("--ablate", "h.9.mlp.out"), "'h.9.mlp.out' is no hook of this model"),
        (("--ablate", "h.0.attn.v:2"), "head is 2; this model has heads 0 to 1"),
        (("--ablate", "h.0.ln_1.scale"), "h.0.ln_1.scale set to zero: what follows from it is not finite"),
    ],
)
def test_changes_that_cannot_be(run: Run, words: tuple[str, ...], said: str) -> None:
    for rest in ((), ("--json",)):
        result = run("I love", *words, *rest, status=2)
        assert said in result.err
        assert (result.out, result.err.count("\n")) == ("", 1)


# --------------------------------------------------------------------------------------------------- score


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("I love you so much that I wrote this", encoding="utf-8")
    return path


def scored(document: Run, *words: str) -> Any:
    return document("score", *words)


def test_an_ablated_model_scores_a_text(document: Run, model: GPT2, text: Path) -> None:
    ids = Tokenizer().encode(text.read_text())
    found = scored(document, str(text), *ABLATE)
    expected = perplexity(model, ids, hook=lambda name, array: ablated(model, name, array))
    assert found["perplexity"] == pytest.approx(expected, rel=1e-5)
    assert found["changes"] == ["h.0.attn.v:1 set to zero", "h.1.mlp.out set to zero"]
    assert "changes" not in scored(document, str(text))


def test_a_patch_of_a_text_of_one_window(document: Run, model: GPT2, text: Path) -> None:
    ids = Tokenizer().encode(text.read_text())
    other = "You hate me so much that you wrote this"[: len(text.read_text())]
    other_ids = Tokenizer().encode(other)
    assert len(other_ids) == len(ids)
    found = scored(document, str(text), "--patch", "h.1.mlp.out", "--patch-from", other)
    donor = trace(model, other_ids[:-1])  # the last token predicts nothing here
    hook = patch(model, "h.1.mlp.out", donor)
    assert found["perplexity"] == pytest.approx(perplexity(model, ids, hook=hook), rel=1e-5)
    assert found["perplexity"] != pytest.approx(float(np.exp(-token_logprobs(model, ids).mean())), rel=1e-3)


def test_a_patch_of_a_text_of_several_windows_is_refused(
    folder: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text.write_text("I love you. " * 20, encoding="utf-8")
    assert main(["score", str(text), *PATCH, "--model", str(folder)]) == 2
    captured = capsys.readouterr()
    assert "--patch: this text is read in" in captured.err
    assert "at most 40 tokens" in captured.err
    assert main(["score", str(text), *ABLATE, "--model", str(folder)]) == 0
