"""Numbers in Chromium: what is decoded, sorted and drawn is NumPy's, and each leads to where it came from."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.checkpoints.find import Source
from minigpt.inspection import Trace, trace
from minigpt.model import GPT2
from minigpt.page.build import write_page
from minigpt.page.document import as_function
from minigpt.page.numbers import numbers
from minigpt.sampling import Sampling
from minigpt.tokenizer import Tokenizer
from tests.page.browser import DESKTOP, PHONE, Seen
from tests.synthetic import random_gpt2

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")

PROMPT = "I love my little grey dog"
SOURCE = Source("random", Path("nowhere"), "numbers drawn by chance")
HALF = {"rel": 2e-3, "abs": 4e-3}  # what a sum of numbers of float16's three digits keeps


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_gpt2(vocab_size=50257, n_positions=64, n_layer=3)


@pytest.fixture(scope="module")
def passed(model: GPT2) -> Trace:
    return trace(model, Tokenizer().encode(PROMPT))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, model: GPT2) -> Path:
    path, tokenizer = tmp_path_factory.mktemp("following") / "page.html", Tokenizer()
    new = tokenizer.encode(" is the best of all")
    return write_page(path, model, tokenizer, PROMPT, source=SOURCE, comparisons=["I hate"], new_tokens=new)


@pytest.fixture
def show(context: Callable[..., Any], file: Path) -> Iterator[Callable[..., Seen]]:
    pages = []

    def opened(viewport: dict[str, int] = DESKTOP, **options: Any) -> Seen:
        pages.append(context(viewport=viewport, **options).new_page())
        seen = Seen(pages[-1]).watch()
        seen.page.goto(file.as_uri())
        return seen

    yield opened
    for page in pages:
        page.close()


@pytest.fixture
def seen(show: Callable[..., Seen]) -> Seen:
    return show()


# ----------------------------------------------------------------------------------------- the arithmetic


def arithmetic(expression: str) -> str:
    """An expression of the functions of arithmetic.js."""
    body = as_function("arithmetic")
    return f"(() => {{ const modules = {{}}; {body} const a = modules.arithmetic; return {expression}; }})()"


def test_half_precision_is_numpy_s(seen: Seen) -> None:
    words = np.arange(2**16, dtype="<u2").view("<f2")
    encoded = numbers(np.where(np.isfinite(words), words, 0).astype("<f4"), half=True)
    found = seen.numbers(arithmetic(f"a.halves('{encoded}')"))
    np.testing.assert_array_equal(found, np.where(np.isfinite(words), words, 0).astype(np.float64))


def test_order_is_numpy_s(seen: Seen) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 5, 3000).astype("<f4")
    logits[::7] = logits[3]  # ties go by id
    logits[:3] = [0.0, -0.0, 0.0]
    found = seen.numbers(arithmetic(f"a.ranking(a.floats('{numbers(logits)}'))"))
    np.testing.assert_array_equal(found, np.argsort(-logits.astype(np.float64), kind="stable"))


def test_a_draw_is_that_of_sampling(seen: Seen) -> None:
    seen.page.evaluate("minigpt.set({ temperature: 0.8, topK: 40, topP: 0.9 })")
    seen.page.wait_for_timeout(50)
    logits = seen.numbers("minigpt.contexts[0].logits")
    sampling = Sampling(0.8, 40, 0.9)
    scores = sampling.process(logits, [])
    order = np.argsort(-logits, kind="stable")
    ends = np.cumsum(np.exp(scores[order])) / np.exp(scores).sum()
    for dice in (0.0, 0.1, 0.5, 0.77, 0.999999):
        place = int(np.searchsorted(ends, dice, side="right"))
        found = seen.page.evaluate(f"minigpt.draw({dice})")
        assert (found["id"], found["place"]) == (int(order[place]), place)
        assert found["end"] == pytest.approx(ends[place], abs=1e-9)
        assert found["start"] <= dice < found["end"]


def test_the_same_seed_draws_the_same_tokens(seen: Seen) -> None:
    def drawn(seed: str) -> list[str]:
        seen.page.get_by_label("Seed").fill(seed)
        words = []
        for _ in range(4):
            seen.page.locator("#draw").click()
            words.append(seen.page.locator("#draw-words").text_content())
        return words

    first = drawn("7")
    assert drawn("8") != first
    assert drawn("7") == first
    assert len(set(first)) > 1


# -------------------------------------------------------------------------- where a number came from: a file

LAYER, HEAD, LAST = 1, 2, 5


def test_scores_and_weights_are_the_trace_s(seen: Seen, passed: Trace) -> None:
    for query, key in ((LAST, 2), (3, 3), (4, 0)):
        place = {"layer": LAYER, "head": HEAD, "query": query, "key": key, "opened": LAST}
        score = seen.origin(kind="score", **place)
        assert score["value"] == np.float64(passed["h.1.attn.scores"][HEAD, query, key])
        assert score["computed"] == pytest.approx(score["value"], **HALF)
        weight = seen.origin(kind="weight", **place)
        assert weight["value"] == np.float64(passed["h.1.attn.weights"][HEAD, query, key])
        assert weight["computed"] == pytest.approx(weight["value"], rel=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_vectors_inside_a_block_are_the_trace_s(seen: Seen, passed: Trace, layer: int) -> None:
    place = {"layer": layer, "position": LAST, "index": 7}
    for name in ("ln_1", "ln_2"):
        found = seen.origin(kind="norm", norm=name, **place)
        assert found["value"] == pytest.approx(passed[f"h.{layer}.{name}"][LAST, 7], rel=1e-3, abs=1e-6)
        assert found["computed"] == pytest.approx(found["value"], **HALF)
    for name in ("resid_mid", "resid_post"):
        found = seen.origin(kind="add", name=name, **place)
        assert found["value"] == pytest.approx(passed[f"h.{layer}.{name}"][LAST, 7], rel=1e-3, abs=1e-6)
        assert found["computed"] == pytest.approx(found["value"], **HALF)
    mixed = seen.origin(kind="mixed", head=HEAD, opened=LAST, **(place | {"index": 3}))
    assert mixed["value"] == pytest.approx(passed[f"h.{layer}.attn.mixed"][HEAD, LAST, 3], rel=1e-3, abs=1e-6)
    assert mixed["computed"] == pytest.approx(mixed["value"], **HALF)


def test_the_strongest_hidden_units_are_the_trace_s(seen: Seen, passed: Trace) -> None:
    act = passed["h.1.mlp.act"][LAST]
    for unit in np.argsort(-act)[:4].tolist():
        pre = seen.origin(kind="linear", name="mlp.pre", layer=1, position=LAST, index=unit, opened=LAST)
        assert pre["value"] == np.float64(passed["h.1.mlp.pre"][LAST, unit])
        assert pre["computed"] == pytest.approx(pre["value"], **HALF)
        found = seen.origin(kind="act", layer=1, position=LAST, unit=unit)
        assert found["value"] == np.float64(act[unit])
        assert found["computed"] == pytest.approx(found["value"], rel=1e-5)


def test_logits_and_probabilities_are_sums_of_what_is_shown(seen: Seen, passed: Trace) -> None:
    norm = seen.origin(kind="norm", norm="ln_f", position=LAST, index=5)
    assert norm["value"] == pytest.approx(passed["ln_f"][LAST, 5], rel=1e-5)
    assert norm["computed"] == pytest.approx(norm["value"], **HALF)
    for token in np.argsort(-passed["logits"][-1])[:10].tolist():
        logit = seen.origin(kind="logit", token=token)
        assert logit["value"] == pytest.approx(passed["logits"][-1][token], rel=1e-5, abs=1e-5)
        assert logit["computed"] == pytest.approx(logit["value"], rel=1e-5, abs=1e-5)
        chance = seen.origin(kind="probability", token=token)
        assert chance["value"] == pytest.approx(seen.numbers("minigpt.probabilities()")[token], rel=1e-12)
        assert chance["computed"] == pytest.approx(chance["value"], rel=1e-12)


def test_an_embedding_is_two_rows_added(seen: Seen, passed: Trace) -> None:
    found = seen.origin(kind="embedding", position=2, index=9)
    assert found["value"] == pytest.approx(float(passed["wte"][2, 9]) + float(passed["wpe"][2, 9]), rel=1e-7)


def test_what_the_file_does_not_hold_is_said(seen: Seen) -> None:
    seen.page.locator("#qkv-strips button.figure").first.click()
    text = seen.page.locator("#panel-body").text_content()
    assert "h.2.attn.c_attn.weight[:, " in text or "attn.c_attn.weight[:, " in text
    assert "minigpt live" in text


# ------------------------------------------------------------------------------------------------ the panel


def test_panel_says_the_line_of_code_and_the_glossary_s_sentence(seen: Seen) -> None:
    seen.page.locator("#row td.weight button").first.click()
    panel = seen.page.locator("#panel")
    assert "softmax(masked_scores)" in panel.locator(".line-of-code").text_content()
    assert "minigpt/model.py:" in panel.locator(".where").text_content()
    assert panel.locator(".term").text_content().startswith("attention weights The scores after softmax")


def test_keyboard_follows_a_number_back_to_its_vectors_and_returns(seen: Seen) -> None:
    weight = seen.page.locator("#row td.weight button").first
    weight.focus()
    seen.press("Enter")
    assert seen.focused() == "panel-title"
    seen.page.locator("#panel .terms button").first.focus()
    seen.press("Enter")
    assert seen.page.locator("#panel-title").text_content().startswith("Score in layer")
    assert seen.page.locator("#panel canvas").count() == 3
    seen.page.locator("#panel-back").focus()
    seen.press("Enter")
    assert seen.page.locator("#panel-title").text_content().startswith("Weight in layer")
    seen.press("Escape")
    assert seen.page.locator("#panel").is_hidden()
    assert weight.evaluate("e => e === document.activeElement")


def test_a_vector_is_followed_where_it_is_pressed(seen: Seen) -> None:
    canvas = seen.page.locator("#strips canvas").last
    width = canvas.bounding_box()["width"]
    canvas.click(position={"x": width * 20.5 / 32, "y": 10})
    assert seen.page.locator("#panel-title").text_content().startswith("x[20] = ")


def test_keyboard_reaches_every_number_of_a_vector(seen: Seen, passed: Trace) -> None:
    """Six of them are buttons; from there each other one is a number typed."""
    layer = int(seen.page.locator("#layer").input_value())
    seen.page.locator("#norm-1 .strip").last.locator("button").first.focus()
    seen.press("Enter")
    index = seen.page.get_by_label("Number 0–31:")
    index.focus()
    for place in (0, 17, 31):
        index.fill(str(place))
        title = seen.page.locator("#panel-title").text_content().replace("\N{MINUS SIGN}", "-")
        assert title.startswith(f"h.{layer}.ln_1[{place}] = ")
        value = float(passed[f"h.{layer}.ln_1"][LAST, place])
        assert float(title.split(" = ")[1]) == pytest.approx(value, rel=2e-3, abs=1e-4)
    index.fill("32")  # there is no such number: the last one stays
    assert "[31]" in seen.page.locator("#panel-title").text_content()
    seen.page.locator("#panel-close").click()
    seen.page.locator("#row button.figure").first.click()
    assert not seen.page.locator("#panel-index").is_visible()  # a score is no number of a vector


def test_a_number_of_another_context_leads_to_that_context(seen: Seen) -> None:
    second = seen.page.locator("table.next").nth(1).locator(".logit button").first
    text = second.text_content().replace("−", "-")
    second.click()
    shown = seen.page.locator("#panel-title strong").text_content().replace("−", "-")
    assert float(shown) == pytest.approx(float(text), abs=0.0051)


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_panel_scrolls_down_and_never_sideways(show: Callable[..., Seen], viewport: dict[str, int]) -> None:
    seen = show(viewport)
    for place in (
        "#row td.weight button",
        "#row button",
        "#units button",
        "#moves button",
        "#added-2 button",
    ):
        seen.page.locator(place).first.evaluate("e => e.click()")
        assert seen.sideways() == [], place
        seen.press("Escape")
    assert seen.complaints == []


# ---------------------------------------------------------------------------------- parts, steps, language


def test_parts_add_up_to_the_logit(seen: Seen, passed: Trace) -> None:
    rows = seen.page.locator("#parts-list tr")
    values = [float(text.replace("−", "-")) for text in rows.locator("td:last-child").all_text_contents()]
    assert sum(values[:-1]) == pytest.approx(values[-1], abs=0.06)  # a dozen numbers of two digits
    assert values[-1] == pytest.approx(passed["logits"][-1].max(), abs=0.0051)


def test_a_part_leads_to_the_head_that_wrote_it(seen: Seen) -> None:
    button = seen.page.locator("#parts-list button").first
    layer, head = (int(word) for word in button.text_content().replace(",", "").split() if word.isdecimal())
    button.click()
    assert seen.page.locator("#layer").input_value() == str(layer)
    assert seen.page.locator("#head").input_value() == str(head)


def test_recorded_tokens_can_be_stepped_through(seen: Seen, model: GPT2) -> None:
    ids = Tokenizer().encode(PROMPT)
    first = Tokenizer().encode(" is")[0]
    z = model(ids)[-1].astype(np.float64)
    chance = np.exp(z[first] - z.max()) / np.exp(z - z.max()).sum()
    words = seen.page.locator("#recorded-words").text_content()
    shown = float(words.split("with ")[1].removesuffix(".").removesuffix("%")) if "%" in words else None
    assert shown is None or shown == pytest.approx(100 * chance, rel=0.06)
    for _ in range(5):
        seen.page.locator("#forward").click()
    assert seen.page.locator("#recorded-text").text_content() == f"{PROMPT}␣is␣the␣best␣of␣all"
    assert seen.page.locator("#forward").is_disabled()
    seen.page.locator("#backward").click()
    assert seen.page.locator("#recorded-text").text_content() == f"{PROMPT}␣is␣the␣best␣of"


def test_language_can_be_switched_and_the_text_of_people_stays(seen: Seen) -> None:
    seen.page.get_by_label("한국어").check(force=True)
    assert seen.page.evaluate("document.documentElement.lang") == "ko"
    assert "토큰" in seen.page.locator("#tokens h2").text_content()
    assert "온도" in seen.page.locator("#controls").text_content()
    assert seen.page.locator(".opening .written").first.text_content() == PROMPT
    seen.page.locator("#row td.weight button").first.click()
    assert "어텐션 가중치 (attention weights)" in seen.page.locator("#panel .term").text_content()
    assert not seen.page.evaluate("document.body.innerText.includes('undefined')")
    assert seen.complaints == []


def test_map_shows_where_the_reader_is_and_leads_on(seen: Seen) -> None:
    here = seen.page.locator(".map-of-all [aria-current]")
    for place in ("mlp-step", "tokens", "final"):
        seen.page.locator(f".map-of-all a[href='#{place}']").click()
        playwright.expect(here).to_have_attribute("href", f"#{place}")
