"""Figures hold the numbers that the model computed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="figures are drawn with matplotlib, which is not installed")

import matplotlib as mpl

from minigpt.errors import InputError
from minigpt.inspection import (
    attention_weights,
    logit_lens,
    plot_attention,
    plot_logit_lens,
    plot_next_tokens,
    plot_pushes,
    trace,
)
from minigpt.model import GPT2
from minigpt.sampling import probabilities
from minigpt.tokenizer import Tokenizer
from minigpt.training.pairs import Pair
from minigpt.training.pushes import pushes

IDS = [40, 1842, 198, 3]  # "I", " love", "\n", "$"
LABELS = ["I", "␣love", r"\n", r"\$"]


@pytest.fixture(autouse=True, scope="module")
def _no_window() -> Iterator[None]:
    mpl.use("Agg")
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


def labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def test_attention(speaking: GPT2, tokenizer: Tokenizer) -> None:
    ax = plot_attention(speaking, tokenizer, IDS, layer=1, head=0)
    shown = ax.images[0].get_array()
    weights = attention_weights(speaking, IDS)[1, 0]
    np.testing.assert_array_equal(np.ma.filled(shown, 0), weights)
    assert labels(ax.xaxis) == labels(ax.yaxis) == LABELS
    assert ax.get_title() == "attention weights, layer 1, head 0"
    ax.figure.canvas.draw()


def test_next_tokens(speaking: GPT2, tokenizer: Tokenizer) -> None:
    ax = plot_next_tokens(speaking, tokenizer, IDS, top=5, temperature=0.7)
    expected = np.sort(probabilities(speaking(IDS)[-1], 0.7))[::-1][:5]
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], expected, rtol=1e-6)
    assert ax.yaxis_inverted()


def test_lens(speaking: GPT2, tokenizer: Tokenizer) -> None:
    ax = plot_logit_lens(speaking, tokenizer, IDS)
    lens = logit_lens(speaking, IDS)
    np.testing.assert_array_equal(ax.images[0].get_array(), lens.probabilities[:, :, 0])
    assert len(ax.texts) == lens.ids[:, :, 0].size
    assert labels(ax.yaxis) == list(lens.names)


def test_pushes(speaking: GPT2, tokenizer: Tokenizer) -> None:
    found = pushes(speaking, tokenizer, Pair("I love", " you", " $"), beta=0.5)
    ax = plot_pushes(found)
    answer = found.rejected[-1:]
    tokens = [*found.chosen, *answer]
    assert labels(ax.yaxis) == ["␣love", "␣you", r"␣\$"]
    nll, preference = ax.containers
    np.testing.assert_allclose([bar.get_width() for bar in nll], [token.nll for token in tokens])
    np.testing.assert_allclose(
        [bar.get_width() for bar in preference], [token.preference for token in tokens]
    )
    assert preference[1].get_x() == nll[1].get_width()  # both push up, one after the other
    ax.figure.canvas.draw()


def test_they_draw_into_given_axes(speaking: GPT2, tokenizer: Tokenizer) -> None:
    from matplotlib import pyplot as plt

    _figure, ax = plt.subplots()
    assert plot_next_tokens(speaking, tokenizer, IDS, ax=ax) is ax


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_exist_is_refused(speaking: GPT2, tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="layer is 2"):
        plot_attention(speaking, tokenizer, IDS, layer=2, head=0)
    with pytest.raises(InputError, match="head is -1"):
        plot_attention(speaking, tokenizer, IDS, layer=0, head=-1)
    fraction: Any = 1.5
    with pytest.raises(InputError, match=r"layer is 1\.5; this model has layers 0 to 1"):
        plot_attention(speaking, tokenizer, IDS, layer=fraction, head=0)
    tops: list[Any] = [0, 2.5, True, 50258]
    for top in tops:
        with pytest.raises(InputError, match=f"top is {top}; it must be 1 to 50257"):
            plot_next_tokens(speaking, tokenizer, IDS, top=top)


def test_without_matplotlib_it_says_what_to_install(
    speaking: GPT2, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(InputError, match=r"minigpt-numpy\[plot\]"):
        plot_next_tokens(speaking, tokenizer, IDS)
    assert trace(speaking, IDS).logits.shape == (4, 50257)
