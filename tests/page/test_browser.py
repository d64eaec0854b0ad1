"""The page in a real browser: headless Chromium, driven through Playwright."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.checkpoints.find import Source
from minigpt.cli.terminal import harmless
from minigpt.inspection import trace
from minigpt.model import GPT2, softmax
from minigpt.page.build import COLOURS, write_page
from minigpt.sampling import Sampling, probabilities
from minigpt.tokenizer import Tokenizer
from tests.page.browser import DESKTOP, EVIL, PHONE, Seen
from tests.synthetic import random_gpt2

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")

SOURCE = Source("random", Path("nowhere"), "numbers drawn by chance")
LONG = "All work and no play makes Jack a dull boy, said the very old and very tired innkeeper. " * 8
WORDS = [" you", " this", " it", " him", " her", " them", " us", " me"]
RANGES = ("layer", "head", "temperature", "top-k", "top-p", "min-p")


def with_equal_words(model: GPT2, prompt: str) -> GPT2:
    """The model with twelve tokens that are as likely as each other, and among the likeliest."""
    third = int(np.argsort(-model(Tokenizer().encode(prompt))[-1])[2])
    head = model.parameters.lm_head.copy()
    head[1000:1012] = head[third]
    return replace(model, parameters=replace(model.parameters, lm_head=head))


def other_words() -> tuple[Source, GPT2, Tokenizer]:
    """A model with a vocabulary of its own, in which most words of GPT-2's are missing."""
    words = Tokenizer.train(["I love you, I hate you, I love it"] * 20, vocab_size=270)
    return Source("small", Path("nowhere"), "numbers"), random_gpt2(seed=1, vocab_size=words.n_vocab), words


@pytest.fixture(scope="module")
def model() -> GPT2:
    return random_gpt2(vocab_size=50257, n_positions=256, n_layer=3)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, model: GPT2) -> dict[str, Path]:
    folder, tokenizer = tmp_path_factory.mktemp("pages"), Tokenizer()
    evil = Source(EVIL, Path("nowhere"), EVIL)
    likely = {"temperature": 0.25, "top_k": 400}
    pages: dict[str, dict[str, Any]] = {
        "love": {"prompt": "I love", "comparisons": ["I hate"], "candidates": [" you", " this", " it"]},
        "ties": {"model": with_equal_words(model, "I love"), "prompt": "I love", **likely},
        "evil": {"prompt": EVIL, "comparisons": [f"I hate {EVIL}"], "candidates": [EVIL], "source": evil},
        "empty": {"prompt": "", "top_p": 0.001, "min_p": 0.0005, "candidates": WORDS},
        "alike": {"prompt": "The capital of France is", "comparisons": ["The capital of Peru is"]},
        "models": {"prompt": "I love", "models": [other_words()], "candidates": [" you", " this"]},
        "long": {"prompt": LONG, "comparisons": ["I love", "I hate", LONG[:90]]},
    }
    defaults = {"model": model, "tokenizer": tokenizer, "source": SOURCE}
    return {
        name: write_page(folder / f"{name}.html", **(defaults | arguments))
        for name, arguments in pages.items()
    }


@pytest.fixture
def show(context: Callable[..., Any], files: dict[str, Path]) -> Iterator[Callable[..., Seen]]:
    pages = []

    def opened(name: str, viewport: dict[str, int] = DESKTOP, **options: Any) -> Seen:
        pages.append(context(viewport=viewport, **options).new_page())
        seen = Seen(pages[-1]).watch()
        seen.page.goto(files[name].as_uri())
        return seen

    yield opened
    for page in pages:
        page.close()


# ------------------------------------------------------------------------------------------- it stands alone


@pytest.mark.parametrize("name", ["love", "evil", "long", "models"])
def test_loads_without_complaint_or_request(
    show: Callable[..., Seen], files: dict[str, Path], name: str
) -> None:
    seen = show(name)
    seen.page.locator("footer").scroll_into_view_if_needed()
    seen.page.emulate_media(color_scheme="dark")
    for details in seen.page.locator("summary").all():
        details.click()
    assert seen.complaints == []
    assert seen.requests == [files[name].as_uri()]


def test_policy_stops_what_is_not_the_page_s_own(show: Callable[..., Seen]) -> None:
    seen = show("love")
    seen.page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.foreign = true';
        document.body.append(script);
        const image = new Image();
        image.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACw=';
        document.body.append(image);
    }""")
    assert seen.page.evaluate("window.foreign") is None
    assert any("Content Security Policy" in complaint for complaint in seen.complaints)


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_markup_in_text_is_shown_as_text(show: Callable[..., Seen], viewport: dict[str, int]) -> None:
    seen = show("evil", viewport)
    seen.page.get_by_label("Find a token").fill("<")
    assert seen.page.locator("#found button").count() == 8
    assert seen.page.locator("img").count() == 0
    assert "pwned" not in seen.page.title().split("=")[0]
    assert seen.page.locator(".opening .written").first.text_content() == harmless(EVIL)
    assert harmless(EVIL) in seen.page.locator("#colophon").text_content()
    assert seen.page.locator("#tokens .token").all_text_contents()[:4] == ["</", "script", "><", "img"]
    assert seen.complaints == []


# --------------------------------------------------------------------------------- softmax over all tokens


def logits_of(seen: Seen, context: int = 0) -> np.ndarray:
    return seen.numbers(f"minigpt.contexts[{context}].logits")


def test_temperature_slider_gives_numpy_s_probabilities(show: Callable[..., Seen]) -> None:
    seen = show("love")
    seen.page.locator("#temperature").focus()
    moves = {1.0: [], 0.97: ["ArrowLeft"] * 3, 0.57: ["PageDown"] * 2, 0.0: ["Home"], 2.0: ["End"]}
    for temperature, keys in moves.items():
        seen.press(*keys)
        assert seen.settings()["temperature"] == pytest.approx(temperature, abs=1e-12)
        for context in (0, 1):
            logits = logits_of(seen, context)
            assert logits.size == 50257
            expected = probabilities(logits, seen.settings()["temperature"])
            found = seen.numbers(f"minigpt.probabilities({context})")
            np.testing.assert_allclose(found, expected, rtol=1e-9)
            assert found.sum() == pytest.approx(1, abs=1e-12)


def test_extreme_temperatures(show: Callable[..., Seen]) -> None:
    seen = show("love")
    for temperature in (1e-300, 1e-8, 1e8):
        seen.page.evaluate(f"minigpt.set({{ temperature: {temperature} }})")
        expected = probabilities(logits_of(seen), temperature)
        np.testing.assert_allclose(seen.numbers("minigpt.probabilities()"), expected, rtol=0, atol=1e-9)


def cut(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    return softmax(sampling.process(logits, []))


def test_cuts_are_those_of_sampling(show: Callable[..., Seen]) -> None:
    seen = show("love")
    logits = logits_of(seen)
    everything = {"temperature": -50, "top-k": -9, "top-p": -30, "min-p": 1}
    for moves in ({"top-k": -33}, {"top-k": -17}, {"top-p": -10}, {"min-p": 10}, everything):
        for slider, steps in moves.items():
            seen.page.locator(f"#{slider}").focus()
            seen.press(*["ArrowRight" if steps > 0 else "ArrowLeft"] * abs(steps))
        s = seen.settings()
        expected = cut(logits, Sampling(s["temperature"], int(s["topK"]), s["topP"], s["minP"]))
        assert 0 < np.count_nonzero(expected) < logits.size
        np.testing.assert_allclose(seen.numbers("minigpt.kept()"), expected, rtol=1e-9, atol=1e-12)
        seen.page.get_by_role("button", name="Reset").click()


def test_equal_scores_are_cut_as_in_sampling(show: Callable[..., Seen]) -> None:
    seen = show("ties")
    logits = logits_of(seen)
    assert np.unique(logits[1000:1012]).size == 1
    rank = int((logits > logits[1000]).sum())
    # The edge falls before, inside and behind the twelve.
    p = np.sort(probabilities(logits, 0.25))[::-1].cumsum()
    for top_k in (0, rank, rank + 1, rank + 5, rank + 12):
        for top_p in (1.0, *(p[[rank - 1, rank + 1, rank + 5, rank + 11]] - p[0] / 9)):
            seen.page.evaluate(f"minigpt.set({{ topK: {top_k}, topP: {top_p} }})")
            expected = cut(logits, Sampling(0.25, top_k, float(top_p)))
            np.testing.assert_array_equal(seen.numbers("minigpt.kept()") > 0, expected > 0)


def test_table_shows_the_distribution_and_the_rest(show: Callable[..., Seen]) -> None:
    seen = show("love")
    table = seen.page.locator("table.next").first
    assert table.locator("tbody tr").count() == 10 + 3 + 1  # the likeliest, the followed words, the rest
    expected = probabilities(logits_of(seen))
    for row in table.locator("tbody tr[data-token]").all():
        token = int(row.get_attribute("data-token"))
        shown = row.locator(".value").text_content()
        assert shown.endswith("%") or "·10" in shown
        if shown.endswith("%"):
            assert float(shown[:-1]) == pytest.approx(100 * expected[token], rel=0.06, abs=0.051)
    shown = sum(
        expected[int(row.get_attribute("data-token"))] for row in table.locator("tr[data-token]").all()
    )
    assert float(table.locator(".rest .probability").text_content()[:-1]) == pytest.approx(
        100 * (1 - shown), abs=0.051
    )


def test_temperature_zero_is_argmax(show: Callable[..., Seen]) -> None:
    seen = show("love")
    seen.page.locator("#temperature").focus()
    seen.press("Home")
    playwright.expect(seen.page.locator("#remark")).to_contain_text("argmax")
    assert seen.page.locator("table.next").first.locator(".value").all_text_contents()[:2] == ["100%", "0%"]
    assert "0.00 bits" in seen.page.locator(".stats").first.text_content()


def test_reset_goes_back_to_the_start(show: Callable[..., Seen]) -> None:
    seen = show("ties")
    start = seen.settings()
    assert start == {"temperature": 0.25, "topK": 400, "topP": 1, "minP": 0}
    seen.page.evaluate("minigpt.set({ temperature: 2, topK: 3, topP: 0.5, minP: 0.5 })")
    seen.page.get_by_role("button", name="Reset").click()
    assert seen.settings() == start
    playwright.expect(seen.page.locator("#temperature")).to_have_value("0.25")  # at the next frame


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{ temperature: NaN }", "temperature is NaN; it must be 0 or more"),
        ("{ temperature: -1 }", "temperature is -1"),
        ("{ temperature: Infinity }", "temperature is Infinity"),
        ("{ temperature: '0.5' }", "temperature is 0.5"),
        ("{ topK: 1.5 }", "topK is 1.5; it must be a whole number"),
        ("{ topP: 0 }", "topP is 0; it must be above 0"),
        ("{ minP: 2 }", "minP is 2; it must be between 0 and 1"),
        ("{ topK: 3, minP: -1 }", "minP is -1"),
        ("{ toString: 1 }", "no setting is called toString"),
    ],
)
def test_settings_out_of_range_are_refused(show: Callable[..., Seen], change: str, message: str) -> None:
    seen = show("love")
    with pytest.raises(playwright.Error, match=f"RangeError: {message}"):
        seen.page.evaluate(f"minigpt.set({change})")
    assert seen.settings() == {"temperature": 1, "topK": 0, "topP": 1, "minP": 0}


def test_small_settings_are_not_rounded_to_nothing(show: Callable[..., Seen]) -> None:
    seen = show("empty")
    assert [seen.page.locator(f"#{name}-value").text_content() for name in ("top-p", "min-p")] == [
        "0.001",
        "0.0005",
    ]
    for value, text in ((0.5, "0.50"), (0.995, "0.995"), (0.99999, "> 0.9999"), (1e-7, "1e−7"), (1, "off")):
        seen.page.evaluate(f"minigpt.set({{ topP: {value} }})")
        playwright.expect(seen.page.locator("#top-p-value")).to_have_text(text)
        playwright.expect(seen.page.locator("#top-p")).to_have_attribute("aria-valuetext", text)


# ------------------------------------------------------------------------------------ words and contexts


def test_words_are_followed_through_every_view(show: Callable[..., Seen]) -> None:
    seen = show("love")
    seen.page.get_by_label("Find a token").fill("garden")
    seen.press("Enter")
    for place in ("#pins", "#histogram", "#moves", "#distributions"):
        assert "garden" in seen.page.locator(place).text_content()
    assert seen.page.locator("#pins button").count() == 4
    seen.page.locator("#pins button").last.click()
    assert seen.page.locator("#pins button").count() == 3


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_search_box_stays_where_it_is(show: Callable[..., Seen], viewport: dict[str, int]) -> None:
    seen = show("love", viewport)
    search = seen.page.get_by_label("Find a token")
    search.focus()
    place = "e => { const box = e.getBoundingClientRect(); return [box.x, box.y + scrollY, box.width]; }"
    start = search.evaluate(place)
    assert start[2] > 120
    for key in "garx":  # many results, fewer, and none
        seen.press(key)
        assert search.evaluate(place) == pytest.approx(start, abs=0.1)
    assert "No token" in seen.page.locator("#found").text_content()


def test_same_words_have_other_logits_in_another_context(show: Callable[..., Seen]) -> None:
    seen = show("love")
    first, second = logits_of(seen, 0)[345], logits_of(seen, 1)[345]  # " you"
    cells = seen.page.locator("#moves tbody tr").first.locator("td").all_text_contents()
    shown = [float(cell.split(" ")[0].replace("−", "-")) for cell in cells]
    assert shown == pytest.approx([first, second, second - first], abs=0.0051)


def test_narrow_names_show_where_contexts_differ(show: Callable[..., Seen]) -> None:
    for name, names in (("love", ["I love", "I hate"]), ("alike", ["…France is", "…Peru is"])):
        seen = show(name)
        for place in ("#contexts label span", "#moves thead th[translate=no]"):
            assert seen.page.locator(place).all_text_contents() == names


def test_models_with_other_vocabularies_stand_side_by_side(show: Callable[..., Seen]) -> None:
    seen, (_source, other, words) = show("models"), other_words()
    assert seen.page.locator("#contexts label span").all_text_contents() == ["random", "small"]
    assert seen.page.locator("#moves tbody tr").nth(1).locator("td").nth(1).text_content() == "no such token"
    logits = seen.numbers("minigpt.contexts[1].logits")
    shown = seen.page.locator("#moves tbody tr").first.locator("td").nth(1).text_content()
    assert float(shown.split(" ")[0].replace("−", "-")) == pytest.approx(
        logits[words.encode(" you")[0]], abs=0.0051
    )
    seen.page.locator("input[name=context]").nth(1).check(force=True)
    ids = words.encode("I love")
    assert seen.page.locator("#tokens .id").all_text_contents() == [str(token) for token in ids]
    score = seen.origin(kind="score", layer=2, head=1, query=len(ids) - 1, key=0, opened=len(ids) - 1)
    assert score["value"] == np.float64(trace(other, ids)["h.2.attn.scores"][1, -1, 0])
    assert seen.complaints == []


def test_context_can_be_changed(show: Callable[..., Seen]) -> None:
    seen = show("love")
    seen.page.locator("input[name=context]").first.focus()
    seen.press("ArrowDown")
    assert seen.page.locator("#tokens .token").all_text_contents() == ["I", "␣hate"]
    assert "I hate" in seen.page.locator("#curve-caption").text_content()


def test_empty_prompt_says_what_the_model_starts_from(show: Callable[..., Seen]) -> None:
    seen = show("empty")
    assert seen.page.locator(".opening .written").text_content() == "<|endoftext|>"
    assert seen.page.title() == "an empty prompt · minigpt"
    note = seen.page.locator("#tokens-note")
    assert note.is_visible()
    assert note.text_content() == (
        "The prompt is empty: the model starts from <|endoftext|>, the sign between texts."
    )
    assert show("love").page.locator("#tokens-note").is_hidden()


def test_no_two_followed_words_look_the_same(show: Callable[..., Seen]) -> None:
    seen = show("empty")
    assert seen.page.locator("#pins button").count() == len(WORDS) > COLOURS
    lines = seen.page.evaluate("""() => [...document.querySelectorAll('#histogram .lead, #lens-chart .line')]
        .map((line) => line.parentNode.parentNode.id + getComputedStyle(line).stroke
            + getComputedStyle(line).strokeDasharray)""")
    assert len(set(lines)) == len(lines) == 2 * len(WORDS)
    dots = seen.page.evaluate("""() => [...document.querySelectorAll('#pins .dot')].map((dot) =>
        getComputedStyle(dot).backgroundColor + getComputedStyle(dot).borderRadius)""")
    assert len(set(dots)) == len(dots) == len(WORDS)
    for chart in ("#histogram", "#curve"):
        assert seen.page.locator(f"{chart} circle.point").count() == COLOURS
        assert seen.page.locator(f"{chart} rect.point").count() == len(WORDS) - COLOURS


def test_two_tokens_open_the_head_that_looks_most_at_the_first(
    show: Callable[..., Seen], model: GPT2
) -> None:
    weights = trace(model, Tokenizer().encode("I love")).stack("h.*.attn.weights")[:, :, -1, 0]
    layer, head = np.unravel_index(weights.argmax(), weights.shape)
    assert (layer, head) != (0, 0)
    seen = show("love")
    assert seen.page.locator("#layer").input_value() == str(layer)
    assert seen.page.locator("#head").input_value() == str(head)


def test_long_context_says_what_is_left_out(show: Callable[..., Seen]) -> None:
    seen = show("long")
    assert "tokens" in seen.page.locator("#tokens-note").text_content()
    assert seen.page.locator("#attention-note").is_visible()
    assert seen.page.locator(".heat th", has_text="earlier").count() == 1
    rows = seen.page.locator(".heat tbody tr").all()
    for row in (rows[0], rows[-1]):
        weights = [float(cell) for cell in row.locator("td.weight").all_text_contents()]
        assert sum(weights) == pytest.approx(100, abs=0.5 * len(weights))


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_lens_says_how_likely_its_tokens_are(show: Callable[..., Seen], viewport: dict[str, int]) -> None:
    seen = show("love", viewport)
    logits = logits_of(seen)
    chance = 100 * probabilities(logits).max()
    cell = seen.page.locator(".lens tbody tr").last.locator("button").last
    shown = cell.locator(".p")
    assert shown.is_visible()
    assert float(shown.text_content().removesuffix("%")) == pytest.approx(chance, rel=0.06, abs=0.51)
    assert cell.evaluate("e => e.scrollWidth <= e.clientWidth")
    name = f"{Tokenizer().decode([int(logits.argmax())]).strip()} {shown.text_content()}"
    seen.page.get_by_role("table", name="likeliest next token").get_by_role("button", name=name).last.focus()
    assert seen.page.locator("#lens .swatch").all_text_contents() == ["0%", "1%", "10%", "50%", "100%"]


def test_words_without_a_line_are_named(show: Callable[..., Seen]) -> None:
    seen = show("love")
    watched = set(
        seen.page.evaluate("""() =>
        JSON.parse(document.getElementById('data').textContent).contexts[0].lens.watched""")
    )
    vocabulary = Tokenizer()
    words = [" garden", " house", " winter", " stone", " letter"]
    absent = [word for word in words if not {vocabulary.encode(word)[0]} & watched][:2]
    assert seen.page.locator("#lens-missing").text_content() == ""
    for word in absent:
        seen.page.get_by_label("Find a token").fill(word)
        seen.press("Enter")
    drawn = seen.page.locator("#lens-chart path.line").count()
    assert drawn == seen.page.locator("#pins button").count() - len(absent)
    names = ", ".join(word.replace(" ", "␣") for word in absent)
    assert seen.page.locator("#lens-missing").text_content() == (
        f"Not drawn: {names}; only the likeliest words are recorded at every layer."
    )


def test_a_power_of_ten_is_never_ten_times_a_smaller_one(show: Callable[..., Seen]) -> None:
    seen = show("love")
    logits, followed = logits_of(seen), 345
    temperatures = np.geomspace(0.05, 50, 400)
    chances = [probabilities(logits, temperature)[followed] for temperature in temperatures]
    (near, *_) = np.flatnonzero(np.abs(np.array(chances) - 9.75e-6) < 2.4e-7)
    seen.page.evaluate(f"minigpt.set({{ temperature: {temperatures[near]} }})")
    row = seen.page.locator("table.next").first.locator(f"tr[data-token='{followed}']")
    playwright.expect(row.locator(".value")).to_have_text("1·10⁻⁵")


# ---------------------------------------------------------------------------------- keyboard, screen, eyes


def test_tab_reaches_every_control(show: Callable[..., Seen]) -> None:
    seen = show("love")
    stops = []
    for _ in range(150):
        seen.press("Tab")
        stops.append(
            seen.page.evaluate("""() => {
            const e = document.activeElement, inside = (s) => e.closest(s) !== null;
            return e === document.body ? 'end' : e.id || e.name || e.tagName.toLowerCase()
                + ['#pins', '.heat', '.lens', '.next', '.strip', '#row', '#units', '#qkv', '#moves',
                    '#parts-list', '#parts-tokens']
                    .filter(inside).join('');
        }""")
        )
        if stops[-1] == "end":
            break
    wanted = {
        *RANGES,
        "context",
        "token",
        "search",
        "more",
        "summary",
        "button#pins",
        "button.heat",
        "button.lens",
        *(
            f"button{place}"
            for place in (".strip", "#row", "#units", "#qkv", "#moves", "#parts-list", "#parts-tokens")
        ),
        *("language", "draw", "greedy", "seed"),
    }
    assert wanted | {"button.next", "a", "button"} <= set(stops)
    assert stops.count("button.next") == 2  # a table of buttons is one stop: the arrow keys go on from there


def test_a_chosen_button_says_so(show: Callable[..., Seen]) -> None:
    seen = show("love")
    for place in ("#parts-tokens", "#qkv .matrix:first-child", ".heat"):
        buttons = seen.page.locator(f"{place} button[aria-pressed]")
        states = [button.get_attribute("aria-pressed") for button in buttons.all()]
        assert len(states) > 1
        assert states.count("true") == 1, place
        assert set(states) == {"true", "false"}


LABELS = ".map-of-all a, .code, .language span, .slider, .buttons button, .strip-label, h2, h3"


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_no_label_is_cut(show: Callable[..., Seen], viewport: dict[str, int], language: str) -> None:
    seen = show("love", viewport)
    seen.page.locator(f"input[value={language}]").check(force=True)
    cut = seen.page.evaluate(
        """([labels, isWide]) => [...document.querySelectorAll(labels)].filter((node) => {
            if (!node.checkVisibility() || (!isWide && node.closest('.map-of-all'))) return false;
            node.setAttribute('aria-current', 'step'); // bold, in the map
            const text = document.createRange();
            text.selectNodeContents(node);
            const room = (isWide && node.closest('.rail')) || document.documentElement;
            const end = text.getBoundingClientRect().right;
            return end > room.getBoundingClientRect().right || node.scrollWidth > node.clientWidth + 1;
        }).map((node) => node.textContent)""",
        [LABELS, viewport is DESKTOP],  # on a phone the map is a strip of points
    )
    assert cut == []


def test_arrow_keys_move_every_slider(show: Callable[..., Seen]) -> None:
    seen = show("love")
    for name in RANGES:
        slider = seen.page.locator(f"#{name}")
        slider.focus()
        before = slider.input_value()
        seen.press("ArrowLeft" if before == slider.get_attribute("max") else "ArrowRight")
        assert slider.input_value() != before, name


def test_arrow_keys_move_inside_tables(show: Callable[..., Seen]) -> None:
    seen = show("love")
    lens = seen.page.locator(".lens button")
    lens.first.focus()
    # By index: neighbours may show equal texts.
    focused = "[...document.querySelectorAll('.lens button')].indexOf(document.activeElement)"
    last = lens.count() - 1
    for key, place in (("ArrowRight", 1), ("ArrowDown", 3), ("ArrowLeft", 2), ("End", last), ("Home", 0)):
        seen.press(key)
        assert seen.page.evaluate(focused) == place
    seen.page.locator(".heat button").first.focus()
    seen.press("ArrowDown", "Enter")
    assert seen.page.locator("input[name=token]").nth(1).is_checked()
    seen.page.locator("input[name=token]").nth(1).focus()
    seen.press("ArrowLeft")
    assert seen.page.locator(".heat button").first.get_attribute("aria-pressed") == "true"


def test_focus_survives_what_it_changes(show: Callable[..., Seen]) -> None:
    seen = show("love")
    button = seen.page.locator("table.next .follows").nth(4)
    button.focus()
    text = seen.focused()
    seen.press("Enter")
    assert seen.focused() == text
    assert button.get_attribute("aria-pressed") == "true"
    seen.page.locator("#pins button").first.focus()
    seen.press(*["Enter"] * 4)
    assert seen.focused() == "search"


def test_every_control_has_a_name(show: Callable[..., Seen]) -> None:
    seen = show("love")
    unnamed = seen.page.evaluate("""() => [...document.querySelectorAll('button, input, svg, canvas, table')]
        .filter((e) => !e.closest('[hidden], [aria-hidden=true]'))
        .filter((e) => ![e.ariaLabel ?? '', e.textContent, ...[...(e.labels ?? [])].map((l) => l.textContent)]
            .some((text) => text.trim()))
        .map((e) => e.outerHTML)""")
    assert unnamed == []


def test_result_is_announced_when_the_slider_rests(show: Callable[..., Seen]) -> None:
    seen = show("love")
    seen.page.evaluate("""() => {
        window.said = [];
        new MutationObserver(() => window.said.push(document.getElementById('live').textContent))
            .observe(document.getElementById('live'), { childList: true });
    }""")
    seen.page.locator("#temperature").focus()
    seen.press(*["ArrowLeft"] * 5)
    playwright.expect(seen.page.locator("#live")).to_contain_text("Temperature 0.95")
    assert len(seen.page.evaluate("window.said")) < 5  # not at every step; on a slow machine more than once


@pytest.mark.parametrize("name", ["love", "evil", "long"])
def test_nothing_scrolls_sideways_on_a_phone(show: Callable[..., Seen], name: str) -> None:
    seen = show(name, PHONE, device_scale_factor=2, has_touch=True)
    seen.page.get_by_role("button", name="Show more tokens").click()
    seen.page.evaluate("minigpt.set({ topK: 40 })")
    for details in seen.page.locator("summary").all():
        details.click()
    assert seen.sideways() == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390


def test_numbers_of_a_vector_are_whole_on_a_phone(show: Callable[..., Seen]) -> None:
    seen = show("love", PHONE)
    for row in seen.page.locator(".strip-numbers").all():
        shown, beyond = row.evaluate("""e => {
            const box = e.getBoundingClientRect(), numbers = [...e.querySelectorAll('.figure')];
            const seen = numbers.map((n) => n.getBoundingClientRect()).filter((n) => n.top < box.bottom - 1);
            return [seen.length, seen.filter((n) => n.right > box.right + 0.5).length];
        }""")
        assert (2 <= shown <= 6, beyond) == (True, 0)
        assert re.fullmatch(r"(\d+−?\d+\.\d{1,3} ){4,6}…", row.text_content())


def test_window_may_become_very_narrow(show: Callable[..., Seen]) -> None:
    seen = show("love")
    for width in (80, 20, 1280):
        seen.page.set_viewport_size({"width": width, "height": 600})
        seen.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert seen.page.locator(".heat tbody tr").count() == (2 if width == 1280 else 1)
    assert seen.complaints == []


def test_motion_stops_for_those_who_ask(show: Callable[..., Seen]) -> None:
    durations = [
        show("love", reduced_motion=motion).page.evaluate(
            "getComputedStyle(document.querySelector('.bar'), '::before').transitionDuration"
        )
        for motion in ("no-preference", "reduce")
    ]
    assert durations[0] != "0s"
    assert durations[1] == "0s"


def test_colours_follow_the_scheme(show: Callable[..., Seen]) -> None:
    seen = show("love", color_scheme="light")
    strip = "document.querySelector('#strips canvas').toDataURL()"
    look = f"[getComputedStyle(document.body).backgroundColor, {strip}]"
    light = seen.page.evaluate(look)
    seen.page.emulate_media(color_scheme="dark")
    seen.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    dark = seen.page.evaluate(look)
    assert light[0] != dark[0]
    assert light[1] != dark[1]


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_file_without_room_for_every_block_says_so(
    context: Callable[..., Any],
    model: GPT2,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    viewport: dict[str, int],
) -> None:
    monkeypatch.setattr("minigpt.page.build.LARGEST_FILE", 0)
    file = write_page(tmp_path / "page.html", model, Tokenizer(), "I love my dog", source=SOURCE)
    seen = Seen(context(viewport=viewport).new_page()).watch()
    seen.page.goto(file.as_uri())
    notes, details = (
        seen.page.locator(".closed-note"),
        seen.page.locator("#one-block .strips, .matrices, .mlp"),
    )
    assert [each.is_visible() for each in notes.all()] == [False] * 3
    assert all(each.is_visible() for each in details.all())
    seen.page.locator("#layer").fill("1")
    assert notes.first.text_content().startswith("Layer 1 is closed: ")
    assert "these layers only: 0." in notes.first.text_content()
    assert [each.is_visible() for each in notes.all()] == [True] * 3
    assert not any(each.is_visible() for each in details.all())
    # Attention is there for every layer; a score is, too, but not the vectors behind it.
    seen.page.locator("#row td.weight button").last.click()
    seen.page.locator("#panel-body .chosen button").click()
    assert "not in this file" in seen.page.locator("#panel-body").text_content()
    seen.page.locator("#final-strips button").first.click()
    assert "not in this file" in seen.page.locator("#panel-body").text_content()
    assert seen.sideways() == []
    assert seen.complaints == []
    seen.page.close()
