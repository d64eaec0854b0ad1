"""The commands that look inside, as they are typed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.cli import main
from minigpt.commands import verify
from minigpt.inspection import (
    MISTAKES,
    Mistake,
    ablate,
    attention_weights,
    attribute,
    logit_lens,
    patch,
    trace,
)
from minigpt.model import GPT2
from minigpt.tokenizer import Tokenizer
from scripts.make_checkpoint import random_tensors, write_checkpoint

IDS = [40, 1842]


@pytest.fixture
def typed(checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command on the small model; returns status, standard output and standard error."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: str, model: bool = True) -> tuple[int, str, str]:
        status = main([*words, *(["--model", str(checkpoint)] if model else [])])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.mark.parametrize("name", ["attention", "lens", "attribution", "break", "map", "verify"])
def test_help_is_short_and_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    text = capsys.readouterr().out
    assert f"example: minigpt {name}" in text
    assert len(text.splitlines()) < 40


COMMANDS = [
    ("attention", "I love"),
    ("attention", "I love", "--layer", "1"),
    ("attention", "I love", "--layer", "1", "--head", "0"),
    ("attention", "I love " * 20, "--layer", "0", "--head", "1"),
    ("attention", "I love " * 20),
    ("lens", "I love"),
    ("lens", "I love it, and the next one", "--position", "2"),
    ("attribution", "I love"),
    ("attribution", "I love", "--token", " you", "--against", " it"),
    ("break", "erf-gelu", "I love", "-n", "3"),
    ("break", "all", "I love", "-n", "2"),
    ("break", "list"),
    ("map",),
]


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words)[:40] for words in COMMANDS])
def test_output_is_plain_and_fits_80_columns(typed: Any, words: tuple[str, ...]) -> None:
    status, out, err = typed(*words, model=words not in [("map",)])
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_attention_json_holds_the_weights(typed: Any, speaking: GPT2) -> None:
    document = json.loads(typed("attention", "I love", "--layer", "1", "--json")[1])
    weights = attention_weights(speaking, IDS)
    assert (document["layers"], document["heads"], document["positions"]) == ([1], [0, 1], [0, 1])
    np.testing.assert_allclose(document["weights"], weights[[1]], rtol=1e-6)
    document = json.loads(typed("attention", "I love", "--layer", "1", "--position", "-2", "--json")[1])
    assert document["positions"] == [0]
    np.testing.assert_allclose(document["weights"], weights[[1], :, :1], rtol=1e-6)


@pytest.mark.parametrize("words", [("attention",), ("lens",), ("attribution",), ("break", "no-mask")])
def test_every_document_begins_like_that_of_the_prompt(typed: Any, words: tuple[str, ...]) -> None:
    found, expected = (json.loads(typed(*start, "I love", "--json")[1]) for start in (words, ()))
    assert {name: found[name] for name in ("model", "tokens")} == {
        "model": expected["model"],
        "tokens": expected["tokens"],
    }


def test_attention_shows_the_weights(typed: Any, speaking: GPT2) -> None:
    weights = attention_weights(speaking, IDS)
    _, out, _ = typed("attention", "I love", "--layer", "1", "--head", "0")
    assert out.splitlines()[-1].split() == ["␣love", *(f"{100 * w:.0f}" for w in weights[1, 0, 1])]
    _, out, _ = typed("attention", "I love")
    key = int(weights[0, 1, 1].argmax())
    assert f"{key}:{min(99, round(100 * weights[0, 1, 1, key]))}" in out


def test_a_long_text_shows_the_first_and_the_last_tokens(typed: Any) -> None:
    _, out, _ = typed("attention", "word " * 47, "--layer", "0", "--head", "0")
    assert "Shown: token 0 and tokens" not in out
    columns = [len(line) for line in out.splitlines()]
    assert max(columns) <= 80


def test_lens_json_is_the_lens(typed: Any, speaking: GPT2) -> None:
    document = json.loads(typed("lens", "I love", "--top", "2", "--json")[1])
    lens = logit_lens(speaking, IDS, top=2)
    assert [depth["name"] for depth in document["depths"]] == list(lens.names)
    found = [[[t["id"] for t in p] for p in depth["positions"]] for depth in document["depths"]]
    assert found == lens.ids.tolist()
    chosen = json.loads(typed("lens", "I love", "--top", "2", "--position", "-2", "--json")[1])
    assert chosen["positions"] == [0]
    for depth, both in zip(chosen["depths"], document["depths"], strict=True):
        assert depth["positions"] == both["positions"][:1]


def test_attribution_json_adds_up(typed: Any, speaking: GPT2) -> None:
    words = ("attribution", "I love", "--token", " you", "--against", " it", "--json")
    document = json.loads(typed(*words)[1])
    expected = attribute(speaking, IDS, 345, against=340)
    assert document["logit"] == pytest.approx(expected.logit)
    assert sum(document["parts"].values()) == pytest.approx(document["sum"])
    assert document["sum"] == pytest.approx(document["logit"], rel=1e-4)


def test_attribution_prints_the_sum(typed: Any, speaking: GPT2) -> None:
    found = attribute(speaking, IDS)
    _, out, _ = typed("attribution", "I love")
    assert f"{found.logit:.6f}" in " ".join(out.split())
    assert "NOT EQUAL" not in out


def test_interventions(typed: Any, speaking: GPT2) -> None:
    document = json.loads(typed("lens", "I love", "--ablate", "h.0.attn.v:1", "--json")[1])
    lens = logit_lens(speaking, IDS, hook=ablate(speaking, "h.0.attn.v", head=1))
    assert document["depths"][-1]["positions"][-1][0]["logit"] == pytest.approx(lens.logits[-1, -1, 0])
    assert document["changes"] == ["h.0.attn.v:1 set to zero"]
    words = ("--patch", "h.0.mlp.out", "--patch-from", "I hate")
    document = json.loads(typed("attention", "I love", *words, "--json")[1])
    hook = patch(speaking, "h.0.mlp.out", trace(speaking, [40, 5465]))
    np.testing.assert_allclose(document["weights"], attention_weights(speaking, IDS, hook=hook), rtol=1e-6)
    _, out, _ = typed("attribution", "I love", *words)
    assert 'changed: h.0.mlp.out taken from "I hate"' in out


def test_an_empty_prompt_starts_from_end_of_text(typed: Any) -> None:
    _, out, err = typed("attention", "", "--json")
    assert json.loads(out)["tokens"] == [{"position": 0, "id": 50256, "text": "<|endoftext|>"}]
    assert "the prompt is empty" in err


def test_control_characters_never_reach_the_terminal(typed: Any) -> None:
    for command in ("attention", "lens", "attribution"):
        _, out, _ = typed(command, "a\x1b[31m\u202eb\n")
        assert not set(out) & set("\x1b\u202e")
    _, out, _ = typed("break", "no-mask", "a\x1b[31m", "-n", "1")
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("attention", "I love", "--head", "1"), "--head needs --layer"),
        (("attention", "I love", "--layer", "2"), "--layer is 2; this model has layers 0 to 1"),
        (("attention", "I love", "--position", "2"), "there are 2 tokens"),
        (("attention", "I love", "--position", "1", "--layer", "0"), "exclude each other"),
        (("lens", "I love", "--position", "-3"), "there are 2 tokens"),
        (("lens", "I love", "--top", "0"), "top is 0"),
        (("lens", "I love", "--ablate", "h.0.attn.v:x"), "must be a number"),
        (("lens", "I love", "--ablate", "h.0.attn.w"), "is no hook of this model"),
        (("lens", "I love", "--patch", "wte"), "belong together"),
        (("lens", "I love", "--patch", "wte", "--patch-from", "I"), "equally many tokens"),
        (("attribution", "I love", "--token", "notatoken"), "not one"),
        (("attribution", "I love", "--token", ""), "not one"),
        (("break", "no-psition", "I love"), "Did you mean no-position?"),
        (("break", "no-mask", "I love", "-n", "-1"), "--max-new-tokens"),
        (("verify",), "no published figures"),
    ],
)
def test_mistakes_in_the_arguments_are_one_line(typed: Any, words: tuple[str, ...], message: str) -> None:
    status, out, err = typed(*words)
    assert status == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_break_reports_every_mistake(typed: Any, speaking: GPT2) -> None:
    document = json.loads(typed("break", "all", "I love", "-n", "2", "--json")[1])
    assert [mistake["name"] for mistake in document["mistakes"]] == list(MISTAKES)
    for found in document["mistakes"]:
        wrong, hook = MISTAKES[found["name"]].apply(speaking)
        logits = wrong(IDS, hook=hook)
        assert found["largest_change"] == pytest.approx(float(np.abs(logits - speaking(IDS)).max()), abs=1e-4)
        likeliest = int(speaking(IDS)[-1].argmax())
        assert found["rank_of_likeliest"] == 1 + (logits[-1] > logits[-1, likeliest]).sum()
        assert found["wrong"]["next_tokens"][0]["id"] == logits[-1].argmax()


@pytest.mark.parametrize("words", [("break", "erf-gelu"), ("break", "all")])
def test_break_says_that_weights_are_broken(
    tmp_path: Path, speaking: GPT2, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = random_tensors(speaking.config)
    tensors["ln_f.weight"][...] = 3e38
    folder = write_checkpoint(tmp_path, speaking.config, tensors)
    assert main([*words, "I love", "--json", "--model", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "not all finite" in err


def test_break_says_that_a_mistake_left_no_numbers(
    typed: Any, monkeypatch: pytest.MonkeyPatch, speaking: GPT2
) -> None:
    lost = Mistake("lost", "", "", "hook", lambda model: (model, lambda name, array: array * np.nan))
    monkeypatch.setitem(MISTAKES, "lost", lost)
    status, out, err = typed("break", "lost", "I love", "--json")
    assert (status, out) == (2, "")
    assert "lost: what follows from it is not finite" in err


def test_break_explains(typed: Any) -> None:
    _, out, _ = typed("break", "transposed-weights", "I love", "-n", "2")
    text = " ".join(out.split())
    assert MISTAKES["transposed-weights"].does in text
    assert MISTAKES["transposed-weights"].because in text


def test_verify_tells_of_weights_that_are_not_the_official_ones(
    typed: Any, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not here is left out; what is here and is not what its name says is a failure."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(verify, "check_reference", lambda: (None, []))
    status, out, _ = typed("verify", "--json", model=False)
    document = json.loads(out)
    assert (status, document["facts"], document["passed"]) == (0, [], True)
    assert "gpt2" in document["skipped"]
    shutil.copytree(checkpoint, tmp_path / "weights" / "gpt2")
    status, out, err = typed("verify", model=False)
    assert (status, out) == (1, "")
    assert "not the official gpt2" in err


def test_map_in_three_forms(typed: Any) -> None:
    stages = json.loads(typed("map", "--json", model=False)[1])
    assert len(stages) == 23
    assert "| `h.*.attn.weights` |" in typed("map", "--markdown", model=False)[1]
    assert "h.*.attn.weights" in typed("map", model=False)[1]


def test_verify_compares_the_bundled_model(typed: Any, tokenizer: Tokenizer) -> None:
    status, out, _ = typed("verify", "--model", "tiny", "--json", model=False)
    document = json.loads(out)
    assert document["passed"]
    assert status == 0
    assert {"name", "shape", "float32", "float64", "passed"} <= document["tensors"][0].keys()
    assert document["reference"]["prompt"] == "I love"
    assert document["environment"]["numpy"] == np.__version__
    status, out, _ = typed("verify", "--model", "tiny", model=False)
    assert out.rstrip().endswith("Everything agrees.")
    assert max(map(len, out.splitlines())) <= 80
