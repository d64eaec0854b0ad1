"""What the tests of the page in Chromium share: how it is started, and what is seen of a page."""

import base64
import os
import shutil
from dataclasses import dataclass, field
from typing import Any

import numpy as np

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Where a browser is promised, its absence is a failure: Playwright's own is taken, or missed.
PROMISED = bool(os.environ.get("MINIGPT_NEEDS_CHROMIUM"))
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
EVIL = "</script><img src=x onerror=document.title='pwned'><!--<script>\x1b[31m\u202e"


@dataclass
class Seen:
    """An open page, and what the browser had to say about it."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def watch(self) -> "Seen":
        """Note what the browser says and asks for from now on."""
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("a dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        return self

    def settings(self) -> dict[str, float]:
        return self.page.evaluate("minigpt.settings")

    def numbers(self, expression: str) -> np.ndarray:
        """A float array of the page, in float64, whole and quickly."""
        encoded = self.page.evaluate(f"""() => {{
            const bytes = new Uint8Array(Float64Array.from({expression}).buffer);
            let text = '';
            for (let i = 0; i < bytes.length; i += 8192)
                text += String.fromCharCode(...bytes.subarray(i, i + 8192));
            return btoa(text);
        }}""")
        return np.frombuffer(base64.b64decode(encoded))

    def origin(self, **origin: Any) -> dict[str, float] | None:
        """Where a number came from: its value, and what the arrays on the page give for it."""
        return self.page.evaluate("origin => minigpt.origin(origin)", origin)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def focused(self) -> str:
        return self.page.evaluate("document.activeElement.id || document.activeElement.textContent")

    def sideways(self) -> list[str]:
        """What scrolls sideways."""
        return self.page.evaluate("""() => [...document.querySelectorAll('*')].filter((e) =>
            e.scrollWidth > e.clientWidth && e.clientWidth > 1 &&
            (e === document.documentElement || ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)))
            .map((e) => e.outerHTML.slice(0, 80))""")
