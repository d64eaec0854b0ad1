"""axe-core finds nothing to complain of, on a phone and a desktop, in light and dark."""

import threading
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest

from minigpt.checkpoints.find import find
from minigpt.checkpoints.load import load
from minigpt.page.build import Speaker, write_page
from minigpt.page.live import open_server
from minigpt.training.pairs import Pair
from minigpt.training.pushes import pushes
from tests.page.browser import DESKTOP, PHONE

pytest.importorskip("axe_playwright_python", reason="needs axe-core: pip install axe-playwright-python")
AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    source = find("tiny")
    model, tokenizer = load(source)
    folder = tmp_path_factory.mktemp("accessible")
    pair = pushes(model, tokenizer, Pair("The girl was very", " kind", " cruel"))
    pages: dict[str, dict[str, Any]] = {
        "two": {
            "prompt": "I love",
            "comparisons": ["I hate"],
            "new_tokens": tokenizer.encode(" you so much"),
        },
        "korean": {"prompt": "안녕 transformers \N{GRINNING FACE}", "language": "ko"},
        "pair": {"prompt": pair.context, "pushes": pair},
        "long": {"prompt": "All work and no play makes Jack a dull boy. " * 6},
    }
    written = {
        name: write_page(
            folder / f"{name}.html", model=model, tokenizer=tokenizer, source=source, **page
        ).as_uri()
        for name, page in pages.items()
    }
    settings = {"temperature": 1.0, "topK": 0, "topP": 1.0, "minP": 0.0}
    server = open_server(Speaker(source, model, tokenizer), "I love", settings, "en")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield written | {"live": server.address}
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("name", ["two", "korean", "long", "pair", "live"])
def test_no_rule_is_violated(
    browser: Any, addresses: dict[str, str], name: str, viewport: dict[str, int], scheme: str
) -> None:
    options = {"viewport": viewport, "color_scheme": scheme, "reduced_motion": "reduce"}
    page = browser.new_context(bypass_csp=True, **options).new_page()  # axe is a script of another origin
    page.goto(addresses[name])
    page.evaluate(AXE)
    page.locator("#draw").click()
    for opened in (False, True):
        if opened:
            page.locator("#row button.figure").first.evaluate("e => e.click()")
        found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
        assert [(each["id"], each["nodes"][0]["html"][:100]) for each in found["violations"]] == []
    page.context.close()
