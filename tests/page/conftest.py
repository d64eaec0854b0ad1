"""Chromium, for all tests of the page."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.page.browser import CHROMIUM, PROMISED, QUIET


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    if CHROMIUM is None and not PROMISED:
        pytest.skip("needs Chromium, such as Debian's package chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def context(browser: Any) -> Callable[..., Any]:
    """A browser context for each kind of screen, made once."""
    made: dict[str, Any] = {}

    def chosen(**options: Any) -> Any:
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = browser.new_context(**options)
        return made[key]

    return chosen
