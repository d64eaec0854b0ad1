"""Measure the live page, from a key pressed to the picture: `python -m scripts.benchmark.page --model tiny`.

Needs the extra `test` (Playwright) and Chromium. The server is a process of its own, as it is for everybody.
"""

import argparse
import shutil
import subprocess
import sys
from statistics import median
from typing import Any

PROMPT, TYPED = "The little girl ran down the garden", " path and saw it"
# The time of the next key, until what it changed in #openings has been painted.
WATCH = """() => {
    window.times = [];
    addEventListener("keydown", ({ timeStamp }) => (window.key = timeStamp), true);
    new MutationObserver(() => {
        const key = window.key;
        requestAnimationFrame(() => {
            const { port1, port2 } = new MessageChannel();
            port2.onmessage = () => window.times.push(performance.now() - key);
            port1.postMessage(null);
        });
    }).observe(document.getElementById("openings"), { childList: true });
}"""


def key_times(page: Any) -> list[float]:
    """Milliseconds from each key to its picture."""
    page.evaluate(WATCH)
    page.locator("textarea").click()
    page.keyboard.press("End")
    for n, letter in enumerate(TYPED, 1):
        page.keyboard.type(letter)
        while page.evaluate("window.times.length") < n:
            page.wait_for_timeout(50)
        page.wait_for_timeout(400)  # what is far from the screen is drawn meanwhile
    times: list[float] = page.evaluate("window.times")
    return times


def main() -> None:
    """Serve the page, type into it, and print the median and the slowest key."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--model", default="tiny", help="name or folder (tiny)")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "minigpt", "live", PROMPT, "--model", args.model, "--no-browser"]
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as driver:
        assert server.stdout is not None
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(server.stdout.readline().strip())
        times = key_times(page)
        tokens = page.evaluate("minigpt.contexts[0].tokens.length")
        browser.close()
        server.terminate()
    print(f"{args.model}, {tokens} tokens: median {median(times):.0f} ms, slowest {max(times):.0f} ms")


if __name__ == "__main__":
    main()
