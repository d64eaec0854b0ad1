"""Figures for notebooks and papers, as matplotlib axes to go on with.

    ax = plot_attention(model, tokenizer, ids, layer=5, head=1)
    ax.figure.savefig("attention.svg")

They need matplotlib, which is the extra `plot`. Colours are viridis, which stays readable in grey and to
the colour-blind.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..checks import checked_classes, checked_text
from ..errors import InputError
from ..model import GPT2
from ..sampling import probabilities
from ..scoring import largest
from ..tokenizer import AnyTokenizer, token_text
from .attention import attention_weights
from .intervention import check_index
from .lens import check_top, logit_lens

if TYPE_CHECKING:
    import matplotlib.axes

    from ..training.pushes import Pushes


@checked_classes
def plot_attention(
    model: GPT2,
    tokenizer: AnyTokenizer,
    ids: list[int],
    *,
    layer: int,
    head: int,
    ax: "matplotlib.axes.Axes | None" = None,
) -> "matplotlib.axes.Axes":
    """A heat map of one head: a row per token, a column per token that it looks at."""
    check_index("layer", layer, model.config.n_layer)
    check_index("head", head, model.config.n_head)
    ids = checked_text("ids", ids, model.config).tolist()
    ax = ax or new_axes()
    weights = attention_weights(model, ids)[layer, head]
    hidden = np.triu(np.ones_like(weights, bool), 1)
    image = ax.imshow(np.ma.masked_array(weights, hidden), vmin=0.0, vmax=1.0, cmap="viridis")
    labels = token_labels(tokenizer, ids)
    ax.set_xticks(range(len(ids)), labels, rotation=90)
    ax.set_yticks(range(len(ids)), labels)
    ax.set(xlabel="looks at", ylabel="token", title=f"attention weights, layer {layer}, head {head}")
    ax.figure.colorbar(image, ax=ax, label="weight")
    return ax


@checked_classes
def plot_next_tokens(
    model: GPT2, tokenizer: AnyTokenizer, ids: list[int], *, top: int = 10, temperature: float = 1.0,
    ax: "matplotlib.axes.Axes | None" = None,
) -> "matplotlib.axes.Axes":  # fmt: skip
    """Bars: the probabilities of the likeliest next tokens, likeliest on top."""
    check_top(top, model.config.vocab_size)
    ids = checked_text("ids", ids, model.config).tolist()
    ax = ax or new_axes()
    logits = model(ids, logits_to_keep=1)[-1]
    best = largest(logits, top)
    bars = ax.barh(token_labels(tokenizer, best.tolist()), probabilities(logits, temperature)[best])
    ax.bar_label(bars, [f"{logit:.2f}" for logit in logits[best]], padding=3)
    ax.invert_yaxis()
    ax.margins(x=0.15)  # room for the numbers
    ax.set(
        xlabel="probability (the number at a bar is the logit)",
        title=f"next token, temperature {temperature:g}",
    )
    return ax


@checked_classes
def plot_logit_lens(
    model: GPT2, tokenizer: AnyTokenizer, ids: list[int], *, ax: "matplotlib.axes.Axes | None" = None
) -> "matplotlib.axes.Axes":
    """A table as a heat map: for each layer and position the likeliest token, coloured by its probability."""
    ids = checked_text("ids", ids, model.config).tolist()
    ax = ax or new_axes(width=2.5 + 0.8 * len(ids))
    lens = logit_lens(model, ids)
    chances = lens.probabilities[:, :, 0]
    image = ax.imshow(chances, vmin=0.0, vmax=1.0, cmap="viridis", aspect="auto", origin="lower")
    for (depth, position), token in np.ndenumerate(lens.ids[:, :, 0]):
        label = token_labels(tokenizer, [int(token)])[0]
        dark = chances[depth, position] < 0.6
        ax.text(position, depth, label, ha="center", va="center", color="white" if dark else "black")
    ax.set_xticks(range(len(ids)), token_labels(tokenizer, ids), rotation=90)
    ax.set_yticks(range(len(lens.names)), lens.names)
    ax.set(xlabel="token", title="logit lens: the likeliest next token at every depth")
    ax.figure.colorbar(image, ax=ax, label="probability")
    return ax


def plot_pushes(pushes: "Pushes", *, ax: "matplotlib.axes.Axes | None" = None) -> "matplotlib.axes.Axes":
    """How hard a loss pushes each token of a pair (see `minigpt.pushes`), one colour for each term of it.

    Bars to the right push up, those to the left down. The chosen text comes first, then the rejected answer,
    whose prompt is not pushed.
    """
    if not hasattr(pushes, "chosen"):
        raise InputError(f"pushes: found {type(pushes).__name__}; expected what minigpt.pushes returns.")
    ax = ax or new_axes()
    answer = [token for token in pushes.rejected if token.is_answer]
    tokens, n_chosen = [*pushes.chosen, *answer], len(pushes.chosen)
    places = [*range(n_chosen), *range(n_chosen + 1, len(tokens) + 1)]  # a gap between the texts
    nll = np.array([token.nll for token in tokens])
    preference = np.array([token.preference for token in tokens])
    beyond = np.where(nll * preference > 0, nll, 0.0)  # two pushes in one direction add up
    ax.barh(places, nll, color="#21918c", label="nll: all of the chosen text")
    ax.barh(places, preference, left=beyond, color="#440154", label="preference: the answers apart")
    ax.set_yticks(places, [visible_label(token.text) for token in tokens])
    ax.invert_yaxis()
    ax.axvline(0.0, color="0.5", linewidth=0.8)
    ax.legend()
    ax.set(xlabel="push on the log-probability", title=f"{pushes.loss}: chosen above, rejected below")
    return ax


def token_labels(tokenizer: AnyTokenizer, ids: list[int]) -> list[str]:
    """Tokens as labels."""
    return [visible_label(token_text(tokenizer, token_id)) for token_id in ids]


def visible_label(text: str) -> str:
    """A label whose spaces and line ends are seen, without a dollar sign that matplotlib would interpret."""

    def seen(character: str) -> str:
        if character == " ":
            return "␣"
        return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")

    return "".join(map(seen, text)).replace("$", r"\$")


def new_axes(width: float = 6.4) -> "matplotlib.axes.Axes":
    """Axes of their own, in a figure at least so many inches wide; raises `InputError` without matplotlib."""
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415  an extra
    except ModuleNotFoundError:
        raise InputError("matplotlib is missing; install the extra: minigpt-numpy[plot].") from None
    return plt.subplots(layout="constrained", figsize=(max(width, 6.4), 4.8))[1]
