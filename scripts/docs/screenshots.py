"""Make the pictures that the README shows: `python -m scripts.docs.screenshots`.

Needs the extra `test` (Playwright, matplotlib) and Chromium. The pictures depend on the fonts of the machine.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import minigpt
from minigpt.checkpoints.find import find
from minigpt.inspection import plot_logit_lens
from minigpt.model import GPT2
from minigpt.page.build import write_page
from minigpt.tokenizer import Tokenizer

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 760}
PROMPT, COMPARISON = "I love", "I hate"
SENTENCE = "The little girl ran down the garden path"
FOLLOW = "document.querySelector('#row tr:nth-child(4) td.weight button').click()"
# Picture: prompt, contexts to compare, what to scroll to, the screen, and what was done before.
PICTURES: dict[str, tuple[str, list[str], str, dict[str, Any], str]] = {
    "page-softmax": (
        PROMPT,
        [COMPARISON],
        "#softmax",
        {"viewport": DESKTOP},
        "minigpt.set({ temperature: 1.25 })",
    ),
    "page-block": (SENTENCE, [], "#attention", {"viewport": DESKTOP}, FOLLOW),
    "page-attention": (SENTENCE, [], "#blocks", {"viewport": DESKTOP, "color_scheme": "dark"}, ""),
    "page-phone": (
        PROMPT,
        [COMPARISON],
        "#controls",
        {"viewport": PHONE, "device_scale_factor": 1.4},
        "minigpt.set({ temperature: 1.25, topK: 8 })",
    ),
}


def draw_figure(model: GPT2, tokenizer: Tokenizer) -> None:
    """The logit lens as matplotlib draws it."""
    from matplotlib import pyplot

    plot_logit_lens(model, tokenizer, tokenizer.encode(SENTENCE))
    pyplot.savefig(IMAGES / "figure-lens.png", dpi=110, bbox_inches="tight")


def main() -> None:
    """Draw the figure; write one page for each of the other pictures, and look at it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    source = find(args.model, offline=True)
    model, tokenizer = minigpt.load(args.model, offline=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    draw_figure(model, tokenizer)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, (prompt, comparisons, place, screen, action) in PICTURES.items():
            file = Path(folder, f"{name}.html")
            words = [" you", " it", " the", " him"] if comparisons else []
            write_page(
                file, model, tokenizer, prompt, source=source, comparisons=comparisons, candidates=words
            )
            page = browser.new_context(reduced_motion="reduce", **screen).new_page()
            page.goto(file.as_uri())
            page.evaluate(action)
            page.locator(place).evaluate("(element) => element.scrollIntoView()")
            page.wait_for_timeout(300)
            page.screenshot(path=IMAGES / f"{name}.png")
            print(f"{IMAGES / name}.png: {(IMAGES / f'{name}.png').stat().st_size / 1000:.0f} kB")
        browser.close()


if __name__ == "__main__":
    main()
