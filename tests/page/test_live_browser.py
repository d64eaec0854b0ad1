"""The live page in Chromium: what is typed is answered, with the numbers that `--json` gives."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.checkpoints.find import find
from minigpt.checkpoints.load import load
from minigpt.checkpoints.saving import save
from minigpt.cli.main import main
from minigpt.cli.terminal import harmless
from minigpt.inspection import trace
from minigpt.page.build import Speaker
from minigpt.page.live import Server, open_server
from minigpt.sampling import probabilities
from minigpt.tokenizer import Tokenizer
from tests.page.browser import DESKTOP, EVIL, PHONE, Seen
from tests.synthetic import random_gpt2

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")

SETTINGS = {"temperature": 1.0, "topK": 0, "topP": 1.0, "minP": 0.0}


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    source = find("tiny")
    return Speaker(source, *load(source))


@contextmanager
def served(speaker: Speaker) -> Iterator[Server]:
    opened = open_server(speaker, "I love", SETTINGS, "en")
    thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield opened
    opened.shutdown()
    thread.join()
    opened.server_close()


@pytest.fixture
def server(speaker: Speaker) -> Iterator[Server]:
    with served(speaker) as opened:
        yield opened


@pytest.fixture
def show(context: Callable[..., Any], server: Server) -> Iterator[Callable[..., Seen]]:
    pages = []

    def opened(viewport: dict[str, int] = DESKTOP, where: Server = server) -> Seen:
        pages.append(context(viewport=viewport, reduced_motion="reduce").new_page())
        seen = Seen(pages[-1]).watch()
        seen.page.goto(where.address)
        return seen

    yield opened
    for page in pages:
        page.close()


def type_text(seen: Seen, text: str, which: int = 0) -> None:
    """Type a prompt, and wait until the page shows what the model makes of it."""
    area = seen.page.locator("textarea").nth(which)
    area.select_text()
    seen.page.keyboard.type(text)
    written = seen.page.locator(".opening .written").nth(which)
    playwright.expect(written).to_have_text(harmless(text) if text else "<|endoftext|>", timeout=20_000)


def expect_numbers_of_json(
    seen: Seen, prompt: str, model: str, capsys: pytest.CaptureFixture[str], context: int = 0
) -> None:
    """The page's tokens, logits and probabilities are those that the command line prints."""
    assert main([prompt, "--model", model, "--json", "--top", "200"]) == 0
    expected = json.loads(capsys.readouterr().out)
    tokens = seen.page.evaluate(f"minigpt.contexts[{context}].tokens")
    assert tokens == [token["id"] for token in expected["tokens"]]
    logits = seen.numbers(f"minigpt.contexts[{context}].logits")
    chances = seen.numbers(f"minigpt.probabilities({context})")
    largest = np.abs(logits).max()
    for row in expected["next_tokens"]:
        assert chances[row["id"]] == pytest.approx(row["probability"], abs=1e-6)
        assert logits[row["id"]] == pytest.approx(row["logit"], abs=1e-6 * largest)
    np.testing.assert_allclose(chances, probabilities(logits), rtol=1e-9)


def test_typed_prompt_has_the_numbers_of_json(
    show: Callable[..., Seen], capsys: pytest.CaptureFixture[str]
) -> None:
    seen, prompt = show(), "The little girl ran down the garden path"
    type_text(seen, prompt)
    expect_numbers_of_json(seen, prompt, "tiny", capsys)
    assert seen.complaints == []


def test_another_model_of_this_machine_answers(
    show: Callable[..., Seen], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page begins with a small model that has words of its own, and goes over to `tiny` and back."""
    folder = str(tmp_path / "small")
    words = Tokenizer.train(["I love you, I hate you, I love it"] * 20, vocab_size=270)
    save(folder, random_gpt2(seed=1, vocab_size=words.n_vocab), words)
    source = find(folder)
    with served(Speaker(source, *load(source))) as server:
        seen = show(where=server)
        select, title = seen.page.get_by_label("Model"), seen.page.locator("#model")
        assert "tiny" in select.locator("option").all_text_contents()
        for name, size in (("tiny", "6 layers × 6 heads"), (source.name, "3 layers × 4 heads")):
            select.select_option(name)
            playwright.expect(title).to_contain_text(size, timeout=20_000)
            expect_numbers_of_json(seen, "I love", name if name == "tiny" else folder, capsys)
            last = seen.page.locator("#layer").get_attribute("max")
            seen.page.locator("#layer").fill(last)
            strip = seen.page.locator("#norm-1 code").first
            playwright.expect(strip).to_have_text(f"h.{last}.resid_pre", timeout=20_000)
        seen.page.get_by_role("button", name="Add a context").click()
        seen.page.get_by_label("Model 2").select_option("tiny")
        playwright.expect(seen.page.locator(".opening .by")).to_have_text([source.name, "tiny"])
        expect_numbers_of_json(seen, "I love", folder, capsys)
        expect_numbers_of_json(seen, "I love", "tiny", capsys, context=1)
        assert seen.complaints == []


def test_every_number_can_be_followed_at_any_position(show: Callable[..., Seen], speaker: Speaker) -> None:
    seen, prompt = show(), "I love my little dog"
    type_text(seen, prompt)
    passed = trace(speaker.model, speaker.tokenizer.encode(prompt))
    seen.page.locator("input[name=token]").nth(2).check(force=True)
    at = {"layer": 3, "position": 2, "index": 11, "opened": 2}
    wanted = {
        "q": passed["h.3.attn.q"][1, 2, 11],
        "v": passed["h.3.attn.v"][1, 2, 11],
        "attn.out": passed["h.3.attn.out"][2, 11],
        "mlp.out": passed["h.3.mlp.out"][2, 11],
    }
    for name, value in wanted.items():
        origin = {"kind": "linear", "name": name, "head": 1, **at}
        found = until_known(seen, origin)
        assert found["value"] == pytest.approx(float(value), rel=1e-5, abs=1e-5), name
        assert found["computed"] == pytest.approx(found["value"], rel=1e-4, abs=1e-4), name
    found = until_known(seen, {"kind": "score", "layer": 3, "head": 1, "query": 4, "key": 1, "opened": 2})
    assert found["computed"] == pytest.approx(float(passed["h.3.attn.scores"][1, 4, 1]), rel=1e-4, abs=1e-4)
    found = until_known(seen, {"kind": "logit", "token": 40_000})
    assert found["computed"] == pytest.approx(float(passed["logits"][-1, 40_000]), rel=1e-4, abs=1e-4)


def until_known(seen: Seen, origin: dict[str, Any]) -> dict[str, float]:
    """Where a number came from, when the model has answered."""
    for _ in range(200):
        found = seen.origin(**origin)
        if found and found.get("computed") is not None:
            return found
        seen.page.wait_for_timeout(50)
    raise AssertionError(f"nothing is known of {origin}")


def test_drawn_tokens_are_appended_and_taken_back(show: Callable[..., Seen], speaker: Speaker) -> None:
    seen = show()
    model, tokenizer = speaker.model, speaker.tokenizer
    seen.page.get_by_role("button", name="The likeliest").click()
    ids = tokenizer.encode("I love")
    ids.append(int(model(ids)[-1].argmax()))
    written = seen.page.locator(".opening .written")
    playwright.expect(written).to_have_text(tokenizer.decode(ids), timeout=20_000)
    assert seen.page.evaluate("minigpt.contexts[0].tokens") == ids
    seen.page.locator("#undo").click()
    playwright.expect(written).to_have_text("I love", timeout=20_000)


def test_contexts_are_added_compared_and_removed(show: Callable[..., Seen]) -> None:
    seen = show()
    seen.page.get_by_role("button", name="Add a context").click()
    seen.page.keyboard.type("I hate")
    playwright.expect(seen.page.locator(".opening .written").nth(1)).to_have_text("I hate", timeout=20_000)
    assert seen.page.locator("#contexts input").count() == 2
    seen.page.get_by_role("button", name="Remove Prompt 1").click()
    playwright.expect(seen.page.locator(".opening")).to_have_count(1)
    assert seen.page.locator(".opening .written").text_content() == "I hate"
    assert seen.complaints == []


def test_keyboard_alone_types_adds_draws_and_takes_back(show: Callable[..., Seen]) -> None:
    seen = show()

    def tab_to(place: str) -> None:
        for _ in range(150):
            if seen.page.locator(place).last.evaluate("e => e === document.activeElement"):
                return
            seen.press("Tab")
        raise AssertionError(f"{place} is not reached")

    written = seen.page.locator(".opening .written")
    tab_to("textarea")
    seen.page.keyboard.type(" you")
    playwright.expect(written).to_have_text("I love you", timeout=20_000)
    tab_to(".asking select")
    tab_to("#asking-add")
    seen.press("Enter")
    seen.page.keyboard.type("I hate")
    playwright.expect(written.last).to_have_text("I hate", timeout=20_000)
    tab_to(".asking .context .quiet")
    seen.press("Enter")
    playwright.expect(written).to_have_text("I love you", timeout=20_000)
    tab_to("#greedy")
    seen.press("Enter")
    playwright.expect(seen.page.locator(".drawn .token")).to_have_count(1, timeout=20_000)
    tab_to("#undo")
    seen.press("Enter")
    playwright.expect(written).to_have_text("I love you", timeout=20_000)
    assert seen.page.locator("#asking-state").get_attribute("role") == "status"
    assert seen.page.locator(".fault").get_attribute("role") == "alert"
    assert seen.complaints == []


def test_a_text_that_does_not_fit_is_told_and_the_last_answer_stays(show: Callable[..., Seen]) -> None:
    seen = show()
    seen.page.locator("textarea").fill("word " * 300)
    fault = seen.page.locator(".fault")
    playwright.expect(fault).to_contain_text("do not fit into this model", timeout=20_000)
    assert seen.page.locator(".opening .written").text_content() == "I love"
    type_text(seen, "I hate")
    playwright.expect(fault).to_be_empty()


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_hostile_prompts_stay_inert(
    show: Callable[..., Seen], server: Server, viewport: dict[str, int]
) -> None:
    seen = show(viewport)
    seen.page.locator("textarea").fill(EVIL)
    written = seen.page.locator(".opening .written")
    playwright.expect(written).to_have_text(harmless(EVIL), timeout=20_000)
    assert seen.page.locator("img").count() == 0
    assert "pwned" not in seen.page.title()
    assert seen.sideways() == []
    assert all(url.startswith(server.address.split("/", 3)[0]) for url in seen.requests)
    assert {url.split("/")[2] for url in seen.requests} == {server.address.split("/")[2]}
    assert seen.complaints == []


def test_the_page_says_when_its_program_has_stopped(show: Callable[..., Seen], server: Server) -> None:
    seen = show()
    server.shutdown()
    server.server_close()
    seen.page.locator("textarea").fill("I hate")
    playwright.expect(seen.page.locator("#asking-state")).to_contain_text("has stopped", timeout=20_000)
    assert seen.page.locator(".opening .written").text_content() == "I love"
