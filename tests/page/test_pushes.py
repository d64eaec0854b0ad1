"""The pushes of a pair on the page: what `minigpt prefer --explain` prints, and where each comes from."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minigpt.cli.main import main
from tests.page.browser import DESKTOP, EVIL, PHONE, Seen
from tests.page.test_page import data_of

PAIR = {
    "prompt": "The girl was very",
    "chosen": " kind to all",
    "rejected": f" kind to telecommunications {EVIL}",
}
Explained = tuple[dict[str, Any], Path]


@pytest.fixture(scope="module")
def explain(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Explained]:
    """What the command prints for a program, and the page that it writes."""
    folder = tmp_path_factory.mktemp("pushes")

    def explained(*options: str, pair: dict[str, str] = PAIR) -> Explained:
        pairs, file = folder / "pairs.jsonl", folder / "pushes.html"
        pairs.write_text(json.dumps(pair), encoding="utf-8")
        command = ["prefer", str(pairs), "--model", "tiny", "--explain", "1", "--html", str(file), *options]
        with pytest.MonkeyPatch.context() as patch:
            printed: list[Any] = []
            patch.setattr("minigpt.cli.commands.prefer.print_json", printed.append)
            assert main([*command, "--json"]) == 0
        return printed[0], file

    return explained


@pytest.fixture
def show(context: Callable[..., Any]) -> Iterator[Callable[..., Seen]]:
    pages = []

    def opened(file: Path, viewport: dict[str, int] = DESKTOP) -> Seen:
        pages.append(context(viewport=viewport).new_page())
        seen = Seen(pages[-1]).watch()
        seen.page.goto(file.as_uri())
        return seen

    yield opened
    for page in pages:
        page.close()


@pytest.mark.parametrize("loss", ["orpo", "dpo", "sft"])
def test_the_page_holds_the_numbers_of_the_command(explain: Callable[..., Explained], loss: str) -> None:
    found, file = explain("--loss", loss)
    data = data_of(file.read_text(encoding="utf-8"))
    assert data["contexts"][0]["tokens"] == found["context_ids"]
    assert data["contexts"][0]["prompt"] == found["context"] == "The girl was very kind to"
    pushes = data["pushes"]
    assert pushes["value"] == found["value"]
    assert pushes["logOddsRatio"] == found["log_odds_ratio"]
    for name in ("chosen", "rejected"):
        for shown, token in zip(pushes[name], found[name], strict=True):
            assert all(shown[key] == token[key] for key in ("position", "id", "logprob", "nll", "preference"))
    for shown, move in zip(pushes["moves"], [*found["rise"], *found["fall"]], strict=True):
        assert all(shown[key] == move[key] for key in ("id", "logit", "probability", "push"))


@pytest.mark.parametrize("loss", ["orpo", "dpo"])
def test_every_push_is_shown_and_leads_to_its_sum(
    explain: Callable[..., Explained], show: Callable[..., Seen], loss: str
) -> None:
    found, file = explain("--loss", loss)
    seen, moves = show(file), [*found["rise"], *found["fall"]]
    rows = seen.page.locator("#pushes-logits tr[data-token]")
    assert rows.count() == len(moves) > 1
    for row, move in zip(rows.all(), moves, strict=True):
        text = row.text_content().replace("\N{MINUS SIGN}", "-")
        assert f"{move['push']:+.4f}" in text
        assert f"{move['logit']:.2f}" in text
        origin = seen.origin(kind="push", token=move["id"])
        assert origin["value"] == move["push"]
        assert origin["computed"] == pytest.approx(move["push"], rel=1e-4, abs=1e-8)
    tokens = seen.page.locator("#pushes-texts tbody tr")
    answer = [token for token in found["rejected"] if token["is_answer"]]
    for row, token in zip(tokens.all(), [*found["chosen"], *answer], strict=True):
        text = row.text_content().replace("\N{MINUS SIGN}", "-")
        assert f"{token['logprob']:.3f}{token['nll']:+.4f}{token['preference']:+.4f}" in text


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_hostile_pair_stays_text_and_fits(
    explain: Callable[..., Explained], show: Callable[..., Seen], viewport: dict[str, int]
) -> None:
    _found, file = explain("--lang", "ko")
    seen = show(file, viewport)
    assert seen.page.locator("#pushes-title").text_content().endswith("밀기")
    seen.page.locator("#pushes-logits td:nth-of-type(3) button").first.click()
    assert "onehot" in seen.page.locator("#panel-body").text_content()
    assert seen.page.locator("img").count() == 0
    assert seen.sideways() == []
    assert seen.complaints == []
    assert seen.requests == [file.as_uri()]


def test_an_answer_that_ends_where_the_other_goes_on_pushes_alone(
    explain: Callable[..., Explained], show: Callable[..., Seen]
) -> None:
    pair = {"prompt": "She", "chosen": " was", "rejected": " was kind"}
    found, file = explain(pair=pair)
    seen = show(file)
    for move in [*found["rise"], *found["fall"]]:
        origin = seen.origin(kind="push", token=move["id"])
        assert origin["computed"] == pytest.approx(move["push"], rel=1e-4, abs=1e-8)


def test_a_page_of_no_pair_has_no_such_section(show: Callable[..., Seen], tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    assert main(["I love", "--model", "tiny", "--html", str(file)]) == 0
    seen = show(file)
    for place in ("#pushes", "#pushes-part"):
        assert not seen.page.locator(place).is_visible()


@pytest.mark.parametrize("width", [390, 820, 1280])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_word_of_an_answer_is_not_broken_letter_by_letter(
    explain: Callable[..., Explained], show: Callable[..., Seen], width: int, language: str
) -> None:
    pair = {"prompt": "The girl was", "chosen": " very beautiful", "rejected": " hardly beautiful"}
    seen = show(explain("--lang", language, pair=pair)[1], {"width": width, "height": 900})
    tokens = seen.page.locator(".pushed:not(.logits) tbody th .token")
    heights = tokens.evaluate_all("found => found.map((each) => each.getBoundingClientRect().height)")
    assert len(heights) == 6  # of the whole chosen text but its first token, and of the rejected answer
    assert max(heights) < 45  # one line, on a phone two
