"""What the main road does besides: the text alone, other models, hints, seeds."""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.checkpoints.saving import save
from minigpt.cli import document as cli_document
from minigpt.cli.main import main
from minigpt.cli.terminal import percent
from minigpt.model import GPT2
from minigpt.sampling import Sampling
from minigpt.scoring import continuation_logprob
from minigpt.tokenizer import Tokenizer
from tests.cli.conftest import CONFIG, Run
from tests.synthetic import random_gpt2, save_checkpoint

# ------------------------------------------------------------------------------------------ the text alone


def test_the_text_alone_is_what_the_document_calls_generated(run: Run, document: Run) -> None:
    words = ("I love", "-n", "20", "--seed", "4")
    assert run(*words, "--text").out == document(*words)["generated"]["text"] + "\n"
    both = run(*words, "--text", "--compare", "I hate").out
    texts = [document(prompt, *words[1:])["generated"]["text"] for prompt in ("I love", "I hate")]
    assert both == "".join(f"{text}\n" for text in texts)


def test_the_text_alone_steers_no_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["I love", "-n", "38", "--seed", "1", "--text", "--model", str(folder)]) == 0
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", out.getvalue())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--text",), "say how much of it, as with -n 40"),
        (("--text", "-n", "3", "--json"), "exclude each other"),
    ],
)
def test_the_text_alone_needs_a_length_and_no_document(run: Run, words: tuple[str, ...], said: str) -> None:
    assert said in run("I love", *words, status=2).err


def test_a_generation_without_a_seed_tells_the_one_it_had(run: Run, document: Run) -> None:
    first = document("I love", "-n", "12")["generated"]
    assert document("I love", "-n", "12", "--seed", str(first["seed"]))["generated"] == first
    assert document("I love", "-n", "12")["generated"]["seed"] != first["seed"]
    out = run("I love", "-n", "12").out
    seed = re.search(r"--seed (\d+) draws them again", out.replace("\n", " "))
    assert seed
    assert document("I love", "-n", "12", "--seed", seed[1])["generated"]["text"].split("\n")[0][:8] in out


def test_a_repetition_penalty_changes_what_is_written_and_not_the_probabilities(document: Run) -> None:
    words = ("I love", "-n", "12", "--temperature", "0")
    plain, penalised = document(*words), document(*words, "--repetition-penalty", "1.5")
    assert plain["generated"]["ids"] != penalised["generated"]["ids"]
    assert plain["next_tokens"] == penalised["next_tokens"]


def test_the_story_shows_what_the_penalty_leaves(run: Run, model: GPT2, document: Run) -> None:
    repeated = document("I love")["next_tokens"][0]["text"]
    prompt = f"I love{repeated}"
    out = run(prompt, "--repetition-penalty", "1.5", "--top", "3").out
    assert "kept" in out
    ids = Tokenizer().encode(prompt)
    scores = Sampling(repetition_penalty=1.5).process(model(ids)[-1], ids)
    p = np.exp(scores - scores.max())
    row = document(prompt, "--top", "1")["next_tokens"][0]
    assert f"{100 * p[row['id']] / p.sum():.1f}%" in out


# ------------------------------------------------------------------------------------------ other models


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model with the same vocabulary."""
    return save_checkpoint(tmp_path_factory.mktemp("another"), 7, **CONFIG)


@pytest.fixture(scope="module")
def korean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a vocabulary of its own."""
    folder = tmp_path_factory.mktemp("korean") / "model"
    tokenizer = Tokenizer.train(["나는 너를 사랑해 I love you " * 20], vocab_size=285)
    save(folder, random_gpt2(vocab_size=285, n_positions=40), tokenizer)
    return folder


def test_another_model_gets_the_same_document_with_its_name(document: Run, another: Path) -> None:
    words = ("--candidates", " you", "-n", "3", "--seed", "1")
    found = document("I love", *words, "--compare", "I hate", "--compare-model", str(another))
    prompt, model = found["comparisons"]
    assert (prompt["prompt"], model["prompt"]) == ("I hate", "I love")
    assert "model" not in prompt
    assert model["model"]["name"] == str(another)
    assert list(model)[1:] == list(found)[1:-1]
    assert model["candidates"][0]["ids"] == found["candidates"][0]["ids"]
    assert model["candidates"][0]["logit"] != found["candidates"][0]["logit"]


def test_models_stand_side_by_side_with_the_change(run: Run, document: Run, another: Path) -> None:
    words = ("I love", "--candidates", " you", " it", "--compare-model", str(another))
    out, found = run(*words).out, document(*words)
    assert another.name[:8] in out
    for one, other in zip(found["candidates"], found["comparisons"][0]["candidates"], strict=True):
        change = other["logit"] - one["logit"]
        row = next(line for line in out.splitlines() if line.strip().startswith(one["text"].replace(" ", "␣"))
                   and f"{change:+.2f}" in line)  # fmt: skip
        assert f"{one['logit']:.2f}" in row
        assert f"{other['logit']:.2f}" in row
        assert row.endswith(f"{other['rank']:,}")


def test_another_vocabulary_is_compared_by_text(run: Run, document: Run, korean: Path) -> None:
    words = ("I love", "--candidates", " you", " because", "--compare-model", str(korean))
    table = run(*words).out.partition("The same tokens")[2]
    row = next(line for line in table.splitlines() if "␣you" in line)
    other = document("I love", "--compare-model", str(korean), "--candidates", " you")["comparisons"][0]
    candidate = other["candidates"][0]
    assert len(candidate["ids"]) == 1
    assert percent(candidate["probability"]) in row.split()[-3]
    assert row.endswith(f"{candidate['rank']}")
    assert f"{candidate['logit']:.2f}" not in row  # of another scale
    absent = next(line for line in table.splitlines() if "␣because" in line)
    assert absent.split()[-2:] == ["-", "-"]
    assert "Tokens of another vocabulary are compared by their text" in table


def test_a_model_that_is_not_there_is_named(run: Run) -> None:
    assert "'nonsense'" in run("I love", "--compare-model", "nonsense", status=2).err


# -------------------------------------------------------------------------------------- words and their hints


def test_a_word_like_a_command_is_a_prompt_with_a_hint(run: Run) -> None:
    result = run("atention", "--json")
    assert json.loads(result.out)["prompt"] == "atention"
    assert result.err == (
        "minigpt: 'atention' is no command; is it `minigpt attention`? It is read as a prompt.\n"
    )
    assert run("atention", "text.txt", status=2).err.startswith(
        "minigpt: 'atention' is no command; is it `minigpt attention`? As a prompt: 'text.txt'"
    )
    assert run("love", "--json").err == ""
    assert run("attention is all", "--json").err == ""


@pytest.mark.parametrize("words", [("--layer", "3"), ("I love",)])
def test_a_word_like_a_command_with_its_options_names_the_command(run: Run, words: tuple[str, ...]) -> None:
    assert "is it `minigpt attention`?" in run("atention", *words, status=2).err


def test_nothing_typed_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert 'minigpt "I love" -n 40' in captured.err
    assert "--help" in captured.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("score", "{file}", "--stride", "99"), "--stride is 99"),
        (("lens", "I love", "--top", "99999"), "--top is 99999"),
        (("attention", "I love", "--layer", "9"), "--layer is 9"),
        (("lens", "I love", "--position=7"), "--position is 7"),
    ],
)
def test_who_typed_an_option_is_told_of_that_option(
    run: Run, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "text.txt").write_text("I love you", encoding="utf-8")
    typed = [word.format(file=tmp_path / "text.txt") for word in words]
    assert run(*typed, status=2).err.startswith(f"minigpt: {said}")


# --------------------------------------------------------------------------------------------- candidates


def test_a_candidate_behind_a_space_is_also_counted_as_one_text(run: Run, document: Run, model: GPT2) -> None:
    (found,) = document("I love ", "--candidates", "you")["candidates"]
    joined = continuation_logprob(model, [40, 1842], [345])
    assert found["joined_logprob"] == pytest.approx(joined, rel=1e-5)
    assert found["logprob"] != pytest.approx(joined, rel=1e-3)
    out = " ".join(run("I love ", "--candidates", "you").out.split())
    assert f"{joined:.3f}" in out
    assert "The prompt ends in a space" in out
    assert "joined_logprob" not in document("I love", "--candidates", " you")["candidates"][0]
    assert "ends in a space" not in run("I love", "--candidates", " you").out


# ----------------------------------------------------------------------------------------------- hard cases


def test_logits_that_are_nearly_equal_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = random_gpt2(**CONFIG)
    wte = np.ones_like(model.parameters.wte)
    wte[7] = np.nextafter(np.float32(1), np.float32(2))
    arrays = {"wte.weight": wte}
    from minigpt.model import named_parameters

    flat = GPT2.from_arrays(model.config, named_parameters(model) | arrays)
    save(tmp_path / "flat", flat, Tokenizer())
    assert main(["I love", "--model", str(tmp_path / "flat")]) == 0
    assert "height: how many" in capsys.readouterr().out


def test_a_terminal_of_no_columns_is_one_of_80(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run("I love").out
    monkeypatch.setenv("COLUMNS", "0")
    assert run("I love").out == expected


@pytest.mark.parametrize("columns", ["1", "5"])
def test_every_command_survives_a_terminal_of_few_columns(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, columns: str
) -> None:
    (tmp_path / "text.txt").write_text("I love you so much. " * 30, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", columns)
    for line in ("attention Hi --layer 1", "attention Hi --layer 1 --head 1", "lens Hi",
                 "lens Hi --position 0", "attribution Hi", "break no-mask Hi -n 1", "tokens Hi",
                 "score text.txt --top 2", "gradients Hi --target you", "prefer demo --explain 1",
                 "Hi --top 2 --compare Ho -n 2",
                 "prefer demo --steps 1 --threads 1 --watch I"):  # fmt: skip
        assert run(*line.split()).out, line
    for line in ("sizes", "glossary token", "lessons", "practice", "practice softmax --hint 1",
                 "train text.txt --out run --steps 3 --n-layer 1 --n-head 1 --n-embd 8 --vocab-size 256 "
                 "--threads 1"):  # fmt: skip
        assert main(line.split()) == 0, line


class Watched(io.StringIO):
    """A stream that somebody sees."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("many", [1, 100])
@pytest.mark.parametrize(
    ("words", "label"),
    [(["lens", "I love"], "2 tokens at every depth"), (["break", "no-mask", "I love"], "making mistakes")],
    ids=["lens", "break"],
)
def test_a_long_text_shows_that_something_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], label: str, many: int
) -> None:
    from minigpt.cli.commands import break_, lens

    monkeypatch.setattr({"lens": lens, "break": break_}[words[0]], "MANY_TOKENS", many)
    monkeypatch.setenv("TERM", "xterm")
    stream = Watched()
    monkeypatch.setattr(sys, "stderr", stream)
    run(*words)
    assert (label in stream.getvalue()) == (many == 1)


def test_a_page_of_many_contexts_is_announced(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["I love", "--json", "--html", str(tmp_path / "page.html"), "--compare", *["I hate"] * 20]
    assert "takes a while" not in run(*words).err
    monkeypatch.setattr(cli_document, "MANY_TOKENS", 41)
    assert "--html reads 42 tokens in 21 contexts, which takes a while." in run(*words).err


def test_much_json_is_announced(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from minigpt.cli.commands import attention

    whole = run("attention", "I love", "--json")
    monkeypatch.setattr(attention, "MUCH_JSON", 100)
    announced: Any = run("attention", "I love", "--json")
    assert announced.out == whole.out
    assert whole.err == ""
    assert "this prints about 0.0 GB; --layer, --head and --position choose." in announced.err
