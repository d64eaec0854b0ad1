"""The course of a run: the loss of every step, the held-out loss now and then, and a picture of both."""

from dataclasses import dataclass, field

import numpy as np

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 320, 56, 40


@dataclass
class History:
    """Losses in nats per token."""

    losses: list[float] = field(default_factory=list)  # of each step's batch
    held_out: list[tuple[int, float]] = field(default_factory=list)  # steps done, and the loss after them

    def add_test(self, steps: int, loss: float) -> None:
        """A held-out loss; of two after the same step, the second read more of the text."""
        self.held_out[:] = [test for test in self.held_out if test[0] != steps] + [(steps, loss)]

    def smooth(self, points: int = 100) -> list[tuple[float, float]]:
        """The training loss as means of neighbouring steps, at most so many: single batches jump about."""
        groups = np.array_split(np.arange(len(self.losses)), min(points, len(self.losses)) or 1)
        losses = np.array(self.losses)
        return [(float(group.mean()) + 0.5, float(losses[group].mean())) for group in groups if len(group)]

    def _repr_html_(self) -> str:
        return loss_curve(self)


def loss_curve(history: History) -> str:
    """Both losses as a picture: one SVG element that needs nothing else."""
    training, held_out = history.smooth(), [(float(step), loss) for step, loss in history.held_out]
    points = training + held_out
    if not points:
        return "<svg xmlns='http://www.w3.org/2000/svg'></svg>"
    last, low, high = (
        max(step for step, _ in points),
        min(loss for _, loss in points),
        max(loss for _, loss in points),
    )

    def at(step: float, loss: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - 10) * step / (last or 1)
        y = 10 + (HEIGHT - BOTTOM - 10) * (high - loss) / ((high - low) or 1)
        return round(x, 1), round(y, 1)

    def line(points: list[tuple[float, float]], style: str) -> str:
        path = " ".join(f"{x},{y}" for x, y in (at(*point) for point in points))
        return f'<polyline points="{path}" fill="none" stroke-width="2" {style}/>'

    texts = [line(training, 'stroke="#8a8a8a"'), line(held_out, 'stroke="#c2410c"')]
    for loss in np.linspace(low, high, 5):
        _, y = at(0.0, loss)
        texts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{loss:.2f}</text>')
    for step in np.linspace(0, last, 5):
        x, _ = at(step, low)
        texts.append(f'<text x="{x}" y="{HEIGHT - 22}" text-anchor="middle">{step:,.0f}</text>')
    legend = (
        f'<text x="{LEFT}" y="{HEIGHT - 4}">loss in nats per token after so many steps: '
        '<tspan fill="#8a8a8a">training</tspan>, <tspan fill="#c2410c">held out</tspan></text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'font-family="sans-serif" font-size="12" fill="currentColor">{"".join(texts)}{legend}</svg>'
    )


BARS = " ▁▂▃▄▅▆▇█"


def text_curve(values: list[float], width: int, height: int = 8) -> list[str]:
    """A curve in rows of block characters, the highest value at the top."""
    groups = [
        group for group in np.array_split(np.array(values), max(1, min(width, len(values)))) if len(group)
    ]
    means = np.array([group.mean() for group in groups])
    if not len(means):
        return []
    low, high = means.min(), means.max()
    filled = np.round((means - low) / ((high - low) or 1) * (height * 8 - 1)).astype(int) + 1
    return [
        "".join(BARS[int(np.clip(level - row * 8, 0, 8))] for level in filled)
        for row in reversed(range(height))
    ]
