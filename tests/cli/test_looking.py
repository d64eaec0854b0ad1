"""The commands that look inside, as they are typed."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.cli.commands import verify
from minigpt.cli.main import main
from minigpt.cli.tables import console
from minigpt.inspection import (
    MISTAKES,
    Fact,
    FactResult,
    Mistake,
    ablate,
    attention_weights,
    attribute,
    logit_lens,
    patch,
    trace,
)
from minigpt.inspection.ledger import Reference, Row
from minigpt.model import GPT2
from minigpt.tokenizer import Tokenizer
from scripts.benchmark.checkpoint import random_tensors, write_checkpoint
from tests.inspection.conftest import FULL_VOCABULARY
from tests.synthetic import random_gpt2, save_checkpoint

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


@pytest.mark.parametrize("words", [(), ("--head", "1")])
def test_a_long_text_shows_the_first_and_the_last_tokens(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    """A map of 240 tokens in 80 columns: token 0, where idle heads look, and as many of the last as fit."""
    long: dict[str, Any] = {**FULL_VOCABULARY, "n_positions": 256}
    folder = save_checkpoint(tmp_path, **long)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["attention", "a" + " b" * 239, "--layer", "1", *words, "--model", str(folder)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[-1] == "Shown: token 0 and tokens 166 to 239; a wider terminal shows more."
    assert max(map(len, lines)) <= 80
    weights = attention_weights(random_gpt2(**long), [64] + [275] * 239)[1]
    for head in [1] if words else [0, 1]:
        row = weights[head, 239, [0, *range(166, 240)]]
        digits = "".join(".123456789#"[round(float(weight) * 10)] for weight in row)
        assert f"␣b  {digits}" in lines


def test_lens_json_is_the_lens(typed: Any, speaking: GPT2) -> None:
    document = json.loads(typed("lens", "I love", "--top", "2", "--json")[1])
    lens = logit_lens(speaking, IDS, top=2)
    assert [depth["name"] for depth in document["depths"]] == list(lens.names)
    found = [[[t["id"] for t in p] for p in depth["positions"]] for depth in document["depths"]]
    assert found == lens.ids.tolist()
    chosen = json.loads(typed("lens", "I love", "--top", "2", "--position", "-2", "--json")[1])
    assert chosen["positions"] == [0]
    for depth, both in zip(chosen["depths"], document["depths"], strict=True):
        (one,), (other, _) = depth["positions"], both["positions"]
        assert [token["id"] for token in one] == [token["id"] for token in other]
        logits = [[token["logit"] for token in tokens] for tokens in (one, other)]
        assert logits[0] == pytest.approx(logits[1], rel=1e-5)


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


def test_an_empty_donor_starts_from_end_of_text(typed: Any, speaking: GPT2) -> None:
    words = ("--patch", "h.0.mlp.out", "--patch-from", "")
    _, out, err = typed("lens", "I", *words, "--json")
    hook = patch(speaking, "h.0.mlp.out", trace(speaking, [50256]))
    found = json.loads(out)
    expected = logit_lens(speaking, [40], hook=hook)
    assert found["depths"][-1]["positions"][0][0]["logit"] == pytest.approx(expected.logits[-1, 0, 0])
    assert found["changes"] == ["h.0.mlp.out taken from <|endoftext|>"]
    assert err.startswith(
        "minigpt: --patch-from is empty: its forward pass starts from <|endoftext|>, the sign"
    )
    status, _, err = typed("lens", "I love", *words)
    assert status == 2
    assert err.splitlines()[-1] == (
        "minigpt: --patch-from: its number of tokens is 1, and that of the text that takes from it 2; give "
        "texts of equally many tokens."
    )


LOOKING = ["attention", "lens", "attribution"]


@pytest.fixture(scope="module")
def without_numbers(tmp_path_factory: pytest.TempPathFactory, speaking: GPT2) -> str:
    """A model whose weights are finite, and whose numbers are not from its first layer norm on."""
    tensors = random_tensors(speaking.config)
    tensors["h.0.ln_1.weight"][...] = 3e38
    return str(write_checkpoint(tmp_path_factory.mktemp("broken"), speaking.config, tensors))


@pytest.mark.parametrize("name", ["h.0.ln_1.scale", "h.1.ln_2.scale"])
@pytest.mark.parametrize("command", LOOKING)
def test_a_change_that_leaves_no_numbers_is_blamed(typed: Any, command: str, name: str) -> None:
    if (command, name) == ("attention", "h.1.ln_2.scale"):
        return  # which comes after all attention
    status, out, err = typed(command, "I love", "--ablate", name)
    assert (status, out) == (2, "")
    assert err == (
        f"minigpt: {name} set to zero: what follows from it is not finite; change another array.\n"
    )


@pytest.mark.parametrize("words", [(), ("--ablate", "h.1.mlp.out"), ("--ablate", "h.1.ln_1.scale")])
@pytest.mark.parametrize("command", LOOKING)
def test_weights_that_leave_no_numbers_are_blamed_whatever_is_changed(
    capsys: pytest.CaptureFixture[str], without_numbers: str, command: str, words: tuple[str, ...]
) -> None:
    assert main([command, "I love", *words, "--model", without_numbers]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "minigpt: the model's numbers are not all finite; its weights are broken or too large: download or "
        "convert them again, or try another --model.\n"
    )


@pytest.mark.parametrize("command", LOOKING)
def test_the_pass_without_changes_is_run_only_to_find_what_is_at_fault(
    typed: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []

    def counted(model: GPT2, *arguments: Any, **options: Any) -> Any:
        passes.append(options.get("hook"))
        return call(model, *arguments, **options)

    call = GPT2.__call__
    monkeypatch.setattr(GPT2, "__call__", counted)
    assert typed(command, "I love", "--ablate", "h.0.mlp.out")[0] == 0
    n_passes = len(passes)
    passes.clear()
    assert typed(command, "I love")[0] == 0
    assert n_passes == len(passes) + 1  # the smallest model's, which knows the names


def test_what_is_changed_after_the_parts_has_a_row_of_its_own(typed: Any, speaking: GPT2) -> None:
    """And what is changed in them has none: what is left there is rounding."""
    _, out, _ = typed("attribution", "I love", "--ablate", "h.0.attn.v:1")
    assert "the change" not in out
    _, out, _ = typed("attribution", "I love", "--ablate", "h.0.attn.out")
    change = attribute(speaking, IDS, hook=ablate(speaking, "h.0.attn.out")).hook
    row = next(line for line in out.splitlines() if line.startswith("the change"))
    assert row.rstrip().endswith(f"{change:+.2f} that is in no part")
    assert "NOT EQUAL" not in out


@pytest.mark.parametrize("command", LOOKING)
def test_the_help_has_an_intervention(command: str, capsys: pytest.CaptureFixture[str], typed: Any) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    examples = [
        line.partition("minigpt ")[2] for line in capsys.readouterr().out.splitlines() if "example: " in line
    ]
    changed = [line for line in examples if "--ablate" in line or "--patch-from" in line]
    assert changed
    for line in changed:
        status, out, _ = typed(*shlex.split(line.replace(":3", ":1")))  # it has two heads
        assert status == 0
        assert "changed: " in out


@pytest.mark.parametrize("columns", [20, 30, 40, 60, 80, 120])
def test_no_number_is_left_out_in_a_narrow_terminal(
    typed: Any, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    def shown(*words: str) -> str:
        out: str = typed(*words)[1]
        assert max(map(len, out.splitlines())) <= columns
        assert "…" not in out
        return out

    monkeypatch.setenv("COLUMNS", str(columns))
    parts = json.loads(typed("attribution", "I love", "--json")[1])
    out = shown("attribution", "I love")
    heads = sum(share for name, share in parts["parts"].items() if name.startswith("h.0.attn.head"))
    for number in (heads, parts["parts"]["h.0.mlp"], parts["parts"]["h.0.attn.c_proj.bias"]):
        assert f"{number:+.2f}" in out
    assert f"{parts['sum']:.2f}" in out
    assert f"{parts['sum']:.6f}" in out
    depths = json.loads(typed("lens", "I love", "--json")[1])["depths"]
    out = shown("lens", "I love", "--position", "1")
    for depth in depths:
        for token in depth["positions"][1]:
            assert f"{100 * token['probability']:.0f}%" in out
    mistake = json.loads(typed("break", "no-mask", "I love", "--json", "-n", "0")[1])["mistakes"][0]
    out = shown("break", "no-mask", "I love", "-n", "0")
    for token in (*mistake["right"]["next_tokens"], *mistake["wrong"]["next_tokens"]):
        assert f"{token['logit']:.2f}" in out
        assert f"{100 * token['probability']:.1f}" in out


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_the_map_and_the_ledger_show_every_line_and_number(
    typed: Any, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = typed("map", model=False)[1]
    for stage in json.loads(typed("map", "--json", model=False)[1]):
        assert stage["where"] in out.split()
        assert stage["hook"] in "".join(out.split())  # which may be wrapped
    if columns == 80:
        lines = out.splitlines()
        starts = {line.index("model.py:") for line in lines if "model.py:" in line}
        head = next(line for line in lines if "the paper's term" in line)
        assert starts == {head.index("line")}
        terms = {line.index(line.split("  ")[-1].strip()) for line in lines if "model.py:" in line}
        assert terms == {head.index("the paper's term")}


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_the_ledger_shows_every_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    row = Row("h.10.attn.weights", (12, 2, 2), 1.5e-7, 2.5e-6, 3.5e-7, 4.5e-16, 1e-12)
    reference = Reference("I love", IDS, "", {"torch": "2"}, {}, {}, {}, {}, np.zeros(1))
    verify.show_rows(console(), reference, [row])
    fact = Fact("x", "gpt2-medium", "logits", "the logits of a published example", 0.005, "", {})
    verify.show_facts(console(), [FactResult(fact, 0.0015)])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    for shown in ("h.10.attn.weights", "12x2x2", "1.5e-07", "2.5e-06", "3.5e-07", "4.5e-16", "equal"):
        assert shown in out
    for shown in ("gpt2-medium", "1.5e-03", "0.005", "equal"):
        assert shown in out[out.index("Figures") :]
    assert "…" not in out


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
        (("lens", "I love", "--top", "0"), "--top is 0"),
        (("lens", "I love", "--ablate", "h.0.attn.v:x"), "must be a number"),
        (("lens", "I love", "--ablate", "h.0.attn.v:" + "9" * 5000), "999'; the head after the colon"),
        (("lens", "I love", "--ablate", "h.0.attn.v:999999999"), "head is 999999999; this model has heads 0"),
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
