"""One pair under the magnifying glass: how hard its loss pushes each token, and which logits that moves.

print(pushes(model, tokenizer, Pair("The girl was very", " kind", " cruel")))
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from itertools import takewhile

import numpy as np
from jaxtyping import Float

from ..checks import checked_classes
from ..errors import NumericsError
from ..model import GPT2, softmax
from ..ranges import Number
from ..scoring import largest
from ..tape import target_logprobs
from ..tokenizer import AnyTokenizer, text_of, token_text
from .pairs import Pair, Rows, encode_pair, last_vectors, rows_of
from .preferences import Objective, PreferenceLoss, checked_objective, log_odds_ratio_of, totals_of

MOVED = 5  # logits that rise most, and as many that fall most
Table = Float[np.ndarray, "texts tokens"]


@dataclass(frozen=True)
class TokenPush:
    """A token of one of the texts, and its coefficients: above 0, its log-probability is pushed up."""

    position: int
    id: int
    text: str
    logprob: float
    nll: float  # from the first term, which wants all of the chosen text
    preference: float  # from the pair's own term
    is_answer: bool

    @property
    def total(self) -> float:
        """Both together: the c of Σ c (−log p)."""
        return self.nll + self.preference


@dataclass(frozen=True)
class LogitPush:
    """A logit, and the push on it: minus the gradient of the loss."""

    id: int
    text: str
    logit: float
    probability: float
    push: float


@dataclass(frozen=True)
class Pushes:
    """What the loss of one pair wants of the logits."""

    loss: str
    beta: float
    value: float  # the loss: of these two texts alone
    log_odds_ratio: float  # h; what TRL logs under this name is log σ(h)
    chosen: list[TokenPush]  # all tokens but the first, which nothing predicts
    rejected: list[TokenPush]
    context: str  # up to where the answers part
    context_ids: list[int]
    rise: list[LogitPush]  # the logits that follow it: those that are pushed up most
    fall: list[LogitPush]  # and down

    def __str__(self) -> str:
        lines = [
            f"{self.loss}, beta {self.beta:g}: loss {self.value:.4f}, "
            f"log-odds ratio {self.log_odds_ratio:.4f}"
        ]
        for title, tokens in (("chosen", self.chosen), ("rejected", self.rejected)):
            lines.append(f"{title:<16}{'log p':>9}{'nll':>10}{'preference':>12}")
            lines += (f"{t.text!r:<16}{t.logprob:9.3f}{t.nll:+10.4f}{t.preference:+12.4f}" for t in tokens)
        lines.append(f"after {self.context!r}")
        lines += (f"{m.text!r:<16}{m.logit:9.3f}{m.push:+10.4f}" for m in (*self.rise, *self.fall))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_of(self)


@checked_classes
@np.errstate(all="ignore")  # what overflows is refused below
def pushes(
    model: GPT2,
    tokenizer: AnyTokenizer,
    pair: Pair,
    loss: str | Objective = "orpo",
    beta: Number | None = None,
    *,
    completion_only_loss: bool = False,
    end_of_text: bool = False,
) -> Pushes:
    """How hard a loss pushes each token of a pair, as in a step with this pair alone; nothing is trained.

    The model is its own reference, as before the first step. Raises `InputError` for what is no pair, and
    `NumericsError` for weights that are too large.
    """
    objective = checked_objective(loss)
    weight = objective.weight(beta)
    ids = encode_pair(tokenizer, pair, model.config.n_positions, end_of_text)
    rows = rows_of([(ids.prompt, answer) for answer in ids.answers])
    x, head = last_vectors(model, rows.ids), model.parameters.lm_head
    logprobs = target_logprobs(x, head, rows.targets).astype(np.float64)
    answers = [tuple(row[mask] for row, mask in zip(logprobs, rows.is_answer, strict=True))]
    totals = totals_of([ids], completion_only_loss)
    both = PreferenceLoss(objective, weight, rows, answers, totals, completion_only_loss)
    value, total = both(logprobs)
    if not np.isfinite([value, *answers[0][0], *answers[0][1]]).all():
        raise NumericsError("model: its numbers are not all finite; its weights are broken or too large.")
    nll = replace(both, objective=replace(objective, pair=None))(logprobs)[1]
    chosen, rejected = (tokens_of(tokenizer, rows, row, logprobs, nll, total - nll) for row in (0, 1))
    n_common = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(*ids.answers, strict=False)))
    position = len(ids.prompt) - 1 + n_common
    context = [*ids.prompt, *ids.chosen[:n_common]]
    moves = list(logit_pushes(tokenizer, x[0, position] @ head.T, rows, total, position))
    return Pushes(
        objective.name, weight, value, log_odds_ratio_of(both.pairs[0]), chosen, rejected,
        text_of(tokenizer, context), context,
        [move for move in moves[:MOVED] if move.push > 0], [move for move in moves[MOVED:] if move.push < 0],
    )  # fmt: skip


def tokens_of(
    tokenizer: AnyTokenizer, rows: Rows, row: int, logprobs: Table, nll: Table, preference: Table
) -> list[TokenPush]:
    """The tokens of one text."""
    return [
        TokenPush(
            position + 1,
            int(rows.targets[row, position]),
            token_text(tokenizer, int(rows.targets[row, position])),
            float(logprobs[row, position]),
            float(nll[row, position]),
            float(preference[row, position]),
            bool(rows.is_answer[row, position]),
        )
        for position in np.flatnonzero(rows.is_text[row]).tolist()
    ]


def logit_pushes(
    tokenizer: AnyTokenizer,
    logits: Float[np.ndarray, " vocab"],
    rows: Rows,
    total: Table,
    position: int,
) -> Iterator[LogitPush]:
    """The logits after a context that both texts share: those pushed up most, then those pushed down most.

    Each text pushes by c (onehot − p): its own next token up, if c is above 0, and all others down.
    """
    p, push = softmax(logits.astype(np.float64)), np.zeros(len(logits))
    for row in np.flatnonzero(rows.is_text[:, position]).tolist():
        push -= total[row, position] * p
        push[rows.targets[row, position]] += total[row, position]
    for token_id in [*largest(push, MOVED).tolist(), *largest(-push, MOVED).tolist()]:
        text = token_text(tokenizer, token_id)
        yield LogitPush(token_id, text, float(logits[token_id]), float(p[token_id]), float(push[token_id]))


# ------------------------------------------------------------------------------------------------------ HTML

STYLE = (
    "table{border-collapse:collapse;margin:1em 0}th,td{padding:.15em .7em;text-align:right}"
    "th:first-child,td:first-child{text-align:left;white-space:pre}"
)


def html_of(found: Pushes) -> str:
    """The tables, coloured: blue is pushed up, orange down, and the stronger the harder."""
    tokens = [*found.chosen, *found.rejected]
    moves = [*found.rise, *found.fall]
    hardest = max((abs(token.total) for token in tokens), default=0.0)
    farthest = max((abs(move.push) for move in moves), default=0.0)
    parts = [
        f"<style>{STYLE}</style><p>{escape(found.loss)}, β {found.beta:g}: loss {found.value:.4f}, "
        f"log-odds ratio {found.log_odds_ratio:.4f}</p>"
    ]
    for title, some in (("chosen", found.chosen), ("rejected", found.rejected)):
        cells = (
            (t.text, f"{t.logprob:.3f}", f"{t.nll:+.4f}", f"{t.preference:+.4f}", shade(t.total, hardest))
            for t in some
        )
        parts.append(table_of((title, "log p", "push of the NLL", "push of the preference"), cells))
    cells = (
        (m.text, f"{m.logit:.3f}", f"{m.probability:.2%}", f"{m.push:+.4f}", shade(m.push, farthest))
        for m in moves
    )
    parts.append(table_of((f"after “{found.context}”", "logit", "probability", "push"), cells))
    return "".join(parts)


def table_of(headers: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A table whose rows end with the colour of their last cell."""
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells[:-1])
        + f'<td style="{colour}">{escape(cells[-1])}</td></tr>'
        for *cells, colour in rows
    )  # fmt: skip
    return f"<table><tr>{head}</tr>{body}</table>"


def shade(push: float, hardest: float) -> str:
    """A colour for a push, which readers who tell no red from green can see too."""
    colour = "31, 120, 180" if push > 0 else "230, 120, 20"
    return f"background: rgba({colour}, {abs(push) / (hardest or 1.0) * 0.6:.2f})"
