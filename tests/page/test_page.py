"""The page as a file: what stands in it, that it is safe, and that it is written whole."""

import base64
import hashlib
import json
import os
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.checkpoints.find import Source
from minigpt.errors import ContextLengthError, InputError, MiniGPTError, NumericsError
from minigpt.inspection import ablate, trace
from minigpt.inspection.lens import logit_lens
from minigpt.model import GPT2, Config, softmax
from minigpt.page import build as page
from minigpt.page import show
from minigpt.page.document import script, style
from minigpt.page.room import FEWEST_TOKENS, MOST_TOKENS, Room, room_for
from minigpt.parameters import parameter_shapes as shapes
from minigpt.tokenizer import Tokenizer
from tests.synthetic import random_gpt2

SOURCE = Source("random", Path("nowhere"), "numbers drawn by chance")
TOKENIZER = Tokenizer()
EVIL = "</script><img src=x onerror=alert(1)><!--<script>"


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_gpt2(vocab_size=50257, n_positions=256)


def written(folder: Path, model: GPT2, prompt: str, **arguments: Any) -> str:
    path = page.write_page(folder / "page.html", model, TOKENIZER, prompt, **({"source": SOURCE} | arguments))
    return path.read_text(encoding="utf-8")


def data_of(text: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert "<" not in found
    return json.loads(found)


def floats(encoded: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(encoded), "<f4")


# -------------------------------------------------------------------------------------------- the numbers


@pytest.fixture(scope="module")
def contexts(model: GPT2, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("page")
    return data_of(written(folder, model, "I love my little dog", comparisons=["I hate"]))["contexts"]


@pytest.mark.parametrize(("which", "prompt"), [(0, "I love my little dog"), (1, "I hate")])
def test_numbers_are_those_of_the_model(
    model: GPT2, contexts: list[dict[str, Any]], which: int, prompt: str
) -> None:
    context, ids = contexts[which], TOKENIZER.encode(prompt)
    passed = trace(model, ids)
    assert (context["prompt"], context["tokens"], context["first"]) == (prompt, ids, 0)
    # One row of logits is another matrix product than all rows at once, and rounds differently.
    np.testing.assert_allclose(floats(context["logits"]), passed["logits"][-1], rtol=1e-5, atol=1e-5)
    rows = floats(context["attention"]).reshape(model.config.n_layer, model.config.n_head, -1)
    expected = passed.stack("h.*.attn.weights")
    for query in range(len(ids)):
        start = query * (query + 3) // 2
        row = rows[..., start : start + query + 2]
        np.testing.assert_array_equal(row[..., 0], 0)  # nothing stands before what is shown
        np.testing.assert_array_equal(row[..., 1:], expected[..., query, : query + 1])


def test_lens_is_that_of_the_inspection(model: GPT2, contexts: list[dict[str, Any]]) -> None:
    lens, expected = contexts[0]["lens"], logit_lens(model, TOKENIZER.encode("I love my little dog"))
    np.testing.assert_array_equal(lens["tokens"], expected.ids[..., 0])
    np.testing.assert_allclose(
        floats(lens["probabilities"]), expected.probabilities[..., 0].ravel(), rtol=1e-4
    )


def test_lens_ends_at_the_output(contexts: list[dict[str, Any]]) -> None:
    for context in contexts:
        watched = context["lens"]["watched"]
        last = floats(context["lens"]["logprobs"]).reshape(-1, len(watched))[-1]
        output = np.log(softmax(floats(context["logits"]).astype(np.float64)))
        np.testing.assert_allclose(last, output[watched], rtol=1e-4)


def test_long_context_is_summed_up_before_its_end(model: GPT2, tmp_path: Path) -> None:
    prompt = "All work and no play makes Jack a dull boy. " * 12
    (context,) = data_of(written(tmp_path, model, prompt))["contexts"]
    n_tokens = len(TOKENIZER.encode(prompt))
    size = n_tokens - context["first"]
    assert 10 <= size < n_tokens
    assert len(context["tokens"]) == n_tokens
    assert len(context["wte"]) == len(context["wpe"]) == size
    weights = trace(model, TOKENIZER.encode(prompt)).stack("h.*.attn.weights")
    packed = floats(context["attention"]).reshape(model.config.n_layer, model.config.n_head, -1)
    last = packed[..., -(size + 1) :]
    np.testing.assert_allclose(last[..., 0], weights[..., -1, :-size].sum(-1), atol=1e-6)
    np.testing.assert_array_equal(last[..., 1:], weights[..., -1, -size:])
    np.testing.assert_allclose(last.sum(-1), 1, atol=1e-6)


def test_empty_prompt_starts_from_the_token_between_documents(model: GPT2, tmp_path: Path) -> None:
    assert data_of(written(tmp_path, model, ""))["contexts"][0]["tokens"] == [50256]


def test_followed_words_are_the_candidates(model: GPT2, tmp_path: Path) -> None:
    data = data_of(written(tmp_path, model, "I love", candidates=[" you", " New York", " you"]))
    assert data["pins"] == [345, 968]
    assert data["notes"] == ["“ New York” is 2 tokens; its first is followed."]


def test_without_candidates_likely_words_are_followed(model: GPT2, tmp_path: Path) -> None:
    data = data_of(written(tmp_path, model, "I love", comparisons=["I hate"]))
    likely = [np.argsort(-floats(context["logits"]), kind="stable") for context in data["contexts"]]
    assert data["pins"] == list(dict.fromkeys([*likely[0][:3].tolist(), int(likely[1][0])]))


# ------------------------------------------------------------------------------------ the code behind a view


def test_every_view_names_its_function(model: GPT2, tmp_path: Path) -> None:
    data = data_of(written(tmp_path, model, "I love"))
    root = Path(page.__file__).parents[2]
    for view in ("embeddings", "block", "norm", "attention", "mlp", "lens", "logits", "softmax"):
        named = data["functions"][view]
        assert any(function["where"].startswith("minigpt/model.py:") for function in named), view
        for function in named:
            file, line = function["where"].split(":")
            code = (root / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
            assert code.strip().startswith(f"def {function['name'].removesuffix('()').split('.')[-1]}(")
            assert function["source"].startswith("def ")


# --------------------------------------------------------------------------------------------- safety


@pytest.fixture(scope="module")
def evil(model: GPT2, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("evil")
    source = Source(EVIL, Path("nowhere"), EVIL)
    return written(
        folder, model, EVIL, comparisons=[f"{EVIL}\x1b[31m\u202e"], candidates=[EVIL], source=source
    )


class Elements(HTMLParser):
    """Collects start tags with their attributes, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_markup_in_text_stays_text(evil: str) -> None:
    assert EVIL not in evil
    tags = Counter(tag for tag, _attributes in Elements(evil).found)
    assert (tags["script"], tags["style"], tags["img"]) == (2, 1, 0)


def test_invisible_characters_are_shown(evil: str) -> None:
    assert data_of(evil)["contexts"][1]["prompt"] == f"{EVIL}\\x1b[31m\\u202e"
    assert "\x1b" not in evil
    assert "\u202e" not in evil


def test_policy_allows_this_script_and_style_and_nothing_else(evil: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', evil)
    (style,) = re.findall(r"<style>(.*?)</style>", evil, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", evil, re.DOTALL)

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert policy == (
        f"default-src 'none'; script-src 'sha256-{digest(script)}'; style-src 'sha256-{digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_page_refers_to_nothing_outside(evil: str) -> None:
    for tag, attributes in Elements(evil).found:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "audio", "video")
        assert not {"src", "srcset", "style", "action"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import", style())
    # The name of SVG is an address that nobody fetches.
    assert re.findall(r"\w+://\S+?(?=\")", script()) == ["http://www.w3.org/2000/svg"]
    # Only a live page asks, and its own server alone; the policy of a written file lets it ask nobody.
    assert re.findall(r"\bfetch\(([^,]*),", script()) in ([], ["data.live.path"])
    assert not re.search(r"XMLHttpRequest|WebSocket|EventSource|import\(|sendBeacon", script())


def test_script_makes_no_markup_from_text() -> None:
    text = script()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert way not in text
    assert "<" not in style()
    assert not re.search(r"</|<!--|<script", text)  # would end the script element, or confuse its end


# ------------------------------------------------------------------------------------------------ colours


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2.2, from 1 to 21."""

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def scheme_colours(scheme: int) -> dict[str, str]:
    """The colours of the light scheme (0), or of the dark one (1), which changes some of them."""
    blocks = style().split(":root {")[1 : 2 + scheme]
    return {
        name: value
        for block in blocks
        for name, value in re.findall(r"--([\w-]+): (#\w{6});", block.split("}")[0])
    }


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_apart(scheme: int) -> None:
    colours = scheme_colours(scheme)
    for ground in ("paper", "well"):
        assert contrast(colours["ink"], colours[ground]) > 12
        pins = [f"pin-{n}" for n in range(page.COLOURS)]
        for text in ("soft", "accent", *pins):
            assert contrast(colours[text], colours[ground]) > 4.5, (text, ground)
        for thing in ("edge", "counter"):  # controls and parts of charts: WCAG 1.4.11
            assert contrast(colours[thing], colours[ground]) > 3, (thing, ground)
    assert contrast(colours["on-accent"], colours["accent"]) > 4.5
    assert contrast(colours["on-counter"], colours["counter"]) > 4.5


def test_controls_have_an_edge_that_can_be_seen() -> None:
    sheet = style()
    for control in (".piece", ".follows", ".finder input", ".quiet", ".dot"):
        (border,) = re.findall(rf"^{re.escape(control)} {{[^}}]*border: ([^;]*);", sheet, re.MULTILINE)
        assert border.endswith("solid var(--edge)"), control
    tracks = re.findall(r"-track {([^}]*)}", sheet)
    assert len(tracks) == 4
    assert all("var(--edge)" in track for track in tracks)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_on_every_shade_can_be_read(scheme: int) -> None:
    block = style().split(":root {")[1 + scheme].split("}")[0]
    colours = scheme_colours(scheme)
    (flip,) = map(float, re.findall(r"--flip: ([\d.]+);", block))
    accent, well = (
        np.array([int(colours[name][i : i + 2], 16) for i in (1, 3, 5)]) for name in ("accent", "well")
    )
    for shade in np.linspace(0, 1, 101):
        ground = "#" + "".join(f"{round(c):02x}" for c in shade * accent + (1 - shade) * well)
        assert contrast(colours["on-accent" if shade > flip else "on-shade"], ground) > 4.5


# ------------------------------------------------------------------------------------------------ sizes


TEN_TOKENS = [
    "I love the little grey dog of my dear neighbour",
    "You hate some huge brown cats near your old friend",
    "We saw many small red birds on their tall house",
    "She had two long white letters from his poor aunt",
    "a b c d e f g h i j",
    "One two three four five six seven eight nine ten",
]


@pytest.fixture(scope="module")
def zeros() -> GPT2:
    """The numbers are of no account here: those of the official model take as much room as zeros."""
    config = Config()
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes(config).items()}
    arrays["wte.weight"] += np.arange(config.vocab_size, dtype=np.float32)[:, None]  # each row is another
    return GPT2.from_arrays(config, arrays)


@pytest.mark.parametrize(
    ("n_contexts", "opened", "n_blocks"), [(1, 10, 12), (2, 10, 12), (3, 4, 11), (4, 4, 5), (6, 4, 1)]
)
def test_contexts_of_ten_tokens_on_the_124m_model_fit_into_four_megabytes(
    tmp_path: Path, zeros: GPT2, n_contexts: int, opened: int, n_blocks: int
) -> None:
    text = written(tmp_path, zeros, TEN_TOKENS[0], comparisons=TEN_TOKENS[1:n_contexts])
    assert 2e6 < len(text.encode()) < 4e6
    contexts = data_of(text)["contexts"]
    assert len(contexts) == n_contexts
    for context in contexts:
        assert len(context["tokens"]) == 10
        assert context["first"] == 0
        assert floats(context["logits"]).size == 50257
        assert {block["first"] for block in context["blocks"]} == {10 - opened}
        assert len(context["blocks"]) == n_blocks


@pytest.mark.parametrize("n_contexts", [1, 3])
def test_long_texts_on_the_124m_model_fit_into_four_megabytes(
    tmp_path: Path, zeros: GPT2, n_contexts: int
) -> None:
    prompts = [f"{start} {' and on' * 200}" for start in ("He went", "She ran", "We walked")[:n_contexts]]
    text = written(tmp_path, zeros, prompts[0], comparisons=prompts[1:])
    assert len(text.encode()) < 4e6
    for context in data_of(text)["contexts"]:
        assert len(context["tokens"]) > 400
        assert 10 <= len(context["tokens"]) - context["first"] <= 40


def test_rows_that_contexts_share_are_written_once(model: GPT2, tmp_path: Path) -> None:
    data = data_of(written(tmp_path, model, "I love you", comparisons=["I love her", "She can love"]))
    rows = floats(data["embeddings"][0]).reshape(-1, model.config.n_embd)
    assert len(rows) == 6 + 3  # tokens and positions
    for context in data["contexts"]:
        passed = trace(model, context["tokens"])
        np.testing.assert_array_equal(rows[context["wte"]], passed["wte"])
        np.testing.assert_array_equal(rows[context["wpe"]], passed["wpe"])


def test_many_contexts_and_large_models_have_less_room() -> None:
    small, large = Config(n_layer=2, n_embd=48), Config(n_layer=48, n_head=25, n_embd=1600)
    assert room_for([small], 5, 10**7) == Room(shown=5, opened=10, blocks=2)
    assert room_for([small], 1000, 10**7) == Room(shown=MOST_TOKENS, opened=10, blocks=2)
    alone, together = (room_for([large] * n, 1000, 3 * 10**6) for n in (1, 4))
    assert MOST_TOKENS > alone.shown >= together.shown == FEWEST_TOKENS
    assert alone.blocks > together.blocks == 1
    assert room_for([large] * 4, 1000, 0) == together  # the least there is


def test_the_first_and_the_last_block_are_opened_and_others_between_them() -> None:
    assert [Room(10, 4, n).layers(12) for n in (1, 2, 5)] == [[0], [0, 11], [0, 3, 6, 8, 11]]
    assert Room(10, 4, 12).layers(12) == list(range(12))
    assert Room(10, 4, 12).layers(3) == [0, 1, 2]  # another model with fewer


# ------------------------------------------------------------------------------------- what can go wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, "top_p is 0"),
        ({"min_p": 2.0}, "min_p is 2"),
        ({"candidates": [" you", ""]}, "candidates: one is empty"),
    ],
)
def test_impossible_arguments(model: GPT2, tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        written(tmp_path, model, "I love", **arguments)
    assert not list(tmp_path.iterdir())


def test_prompt_longer_than_the_context(model: GPT2, tmp_path: Path) -> None:
    with pytest.raises(ContextLengthError, match="256"):
        written(tmp_path, model, "word " * 300)


def test_a_text_that_cannot_fit_is_refused_before_it_is_encoded(model: GPT2, tmp_path: Path) -> None:
    with pytest.raises(ContextLengthError, match="at least 156,250 tokens"):
        written(tmp_path, model, "I love", comparisons=["a" * 20_000_000])


def test_logits_that_are_not_finite(model: GPT2, tmp_path: Path) -> None:
    ln_f = replace(model.parameters.ln_f, bias=np.full_like(model.parameters.ln_f.bias, np.nan))
    broken = replace(model, parameters=replace(model.parameters, ln_f=ln_f))
    with pytest.raises(NumericsError, match="not finite"):
        written(tmp_path, broken, "I love")


def test_lengths_are_finite_where_their_squares_are_not(model: GPT2, tmp_path: Path) -> None:
    large = replace(model, parameters=replace(model.parameters, wte=model.parameters.wte * np.float32(1e22)))
    (context,) = data_of(written(tmp_path, large, "I love"))["contexts"]
    stream = np.frombuffer(base64.b64decode(context["growth"]["stream"]), "<f4")
    assert np.isfinite(stream).all()
    assert stream.max() > 1e20


def test_folder_that_does_not_exist(model: GPT2, tmp_path: Path) -> None:
    with pytest.raises(MiniGPTError, match=r"no folder .*missing; create it"):
        page.write_page(tmp_path / "missing" / "page.html", model, TOKENIZER, "I love", source=SOURCE)


def test_folder_in_place_of_a_file(model: GPT2, tmp_path: Path) -> None:
    with pytest.raises(MiniGPTError, match="is a folder"):
        page.write_page(tmp_path, model, TOKENIZER, "I love", source=SOURCE)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_device_is_not_replaced(model: GPT2) -> None:
    with pytest.raises(MiniGPTError, match="not a regular file"):
        page.write_page("/dev/null", model, TOKENIZER, "I love", source=SOURCE)
    assert not Path("/dev/null").is_file()


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_link_stays_a_link(model: GPT2, tmp_path: Path) -> None:
    (tmp_path / "link.html").symlink_to(tmp_path / "target.html")
    path = page.write_page(tmp_path / "link.html", model, TOKENIZER, "I love", source=SOURCE)
    assert (tmp_path / "link.html").is_symlink()
    assert path.name == "target.html"
    assert path.stat().st_size > 100_000


def test_failed_write_leaves_the_old_file(
    model: GPT2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "page.html"
    target.write_text("before", encoding="utf-8")

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(MiniGPTError, match=r"page\.html: cannot be written: No space left on device\."):
        page.write_page(target, model, TOKENIZER, "I love", source=SOURCE)
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert target.read_text(encoding="utf-8") == "before"


# ------------------------------------------------------------------------- other models, changes, notebooks


def test_another_model_goes_on_from_the_same_prompt(model: GPT2, tmp_path: Path) -> None:
    other = random_gpt2(seed=1, vocab_size=50257, n_layer=2, n_head=2)
    source = Source("other", Path("nowhere"), "other numbers drawn by chance")
    data = data_of(written(tmp_path, model, "I love", models=[(source, other, TOKENIZER)]))
    assert [about["name"] for about in data["models"]] == ["random", "other"]
    assert [context["model"] for context in data["contexts"]] == [0, 1]
    assert len(data["vocabularies"]) == 1
    logits = trace(other, TOKENIZER.encode("I love")).logits[-1]
    np.testing.assert_allclose(floats(data["contexts"][1]["logits"]), logits, rtol=1e-5, atol=1e-5)
    assert len(data["contexts"][1]["blocks"]) == 2


def test_another_vocabulary_travels_with_its_model(model: GPT2, tmp_path: Path) -> None:
    words = Tokenizer.train(["I love you, I hate you, I love it"] * 20, vocab_size=270)
    other = random_gpt2(seed=1, vocab_size=words.n_vocab)
    source = Source("other", Path("nowhere"), "other numbers drawn by chance")
    data = data_of(written(tmp_path, model, "I love", candidates=[" you"], models=[(source, other, words)]))
    first, second = (text.split(" ") for text in data["vocabularies"])
    assert (len(first), len(second)) == (50257, words.n_vocab)
    assert [about["vocabulary"] for about in data["models"]] == [0, 1]
    assert data["contexts"][1]["tokens"] == words.encode("I love")
    own = second.index("␣you")
    assert own in data["rowsOfHead"][1]["ids"]
    assert own in data["contexts"][1]["lens"]["watched"]


def test_a_changed_pass_is_shown_as_changed(model: GPT2, tmp_path: Path) -> None:
    hook = ablate(model, "h.1.mlp.out")
    data = data_of(
        written(
            tmp_path, model, "I love", hooks=[hook], changes=["h.1.mlp.out set to zero"], new_tokens=[345]
        )
    )
    changed = trace(model, TOKENIZER.encode("I love"), hook=hook)
    (context,) = data["contexts"]
    np.testing.assert_allclose(floats(context["logits"]), changed.logits[-1], rtol=1e-5, atol=1e-5)
    assert data["changes"] == ["h.1.mlp.out set to zero"]
    assert data["steps"] == []  # which would be those of the model as it is
    assert floats(context["growth"]["mlp"]).reshape(3, -1)[1].max() == 0


def test_tokens_that_share_a_row_are_marked(model: GPT2, tmp_path: Path) -> None:
    wte = model.parameters.wte.copy()
    wte[500:700] = wte[500]
    alike = replace(model, parameters=replace(model.parameters, wte=wte, lm_head=wte))
    bits = base64.b64decode(data_of(written(tmp_path, alike, "I love"))["models"][0]["unseen"])
    marked = np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8)))
    assert marked.tolist() == list(range(500, 700))
    assert not np.frombuffer(
        base64.b64decode(data_of(written(tmp_path, model, "I"))["models"][0]["unseen"]), "u1"
    ).any()


def test_a_notebook_shows_the_page_in_a_frame_of_its_own() -> None:
    shown = show("I love", "tiny", height=700)._repr_html_()
    ((tag, attributes),) = Elements(shown).found
    assert (tag, attributes["sandbox"], attributes["height"]) == ("iframe", "allow-scripts", "700")
    assert data_of(attributes["srcdoc"] or "")["contexts"][0]["prompt"] == "I love"


def test_a_language_that_the_page_does_not_speak(model: GPT2, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="language is 'fr'; the page speaks en and ko"):
        written(tmp_path, model, "I love", language="fr")
    assert '<html lang="ko">' in written(tmp_path, model, "I love", language="ko")
