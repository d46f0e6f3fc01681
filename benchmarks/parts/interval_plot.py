"""A plot of values with intervals around zero, one row each, as an SVG for light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT, ROW = 720, 190, 20, 26


@dataclass(frozen=True, slots=True)
class Interval:
    """A named value and the ends of its interval."""

    name: str
    value: float
    low: float
    high: float


def interval_plot(rows: Sequence[Interval], *, caption: str) -> str:
    """Return the SVG with names on the left, a line at zero, and an axis with ticks and a caption below."""
    low = min([0.0, *(row.low for row in rows)])
    high = max([0.0, *(row.high for row in rows)])
    spread = (high - low) or 1.0

    def x(value: float) -> float:
        return LEFT + (value - low) / spread * (WIDTH - LEFT - RIGHT)

    bottom = ROW * (len(rows) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 46}" '
        'font-family="sans-serif" font-size="13" fill="#777">',
        f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="8" y2="{bottom}" stroke="#999" stroke-dasharray="3 3"/>',
    ]
    for number, row in enumerate(rows):
        y = round(ROW * (number + 0.8), 1)
        # An interval without zero has a strong colour.
        colour = "#999" if row.low <= 0 <= row.high else "#c0392b" if row.low > 0 else "#2471a3"
        parts += [
            f'<text x="{LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(row.name)}</text>',
            f'<path d="M{x(row.low):.1f} {y}H{x(row.high):.1f}" stroke="{colour}" stroke-width="2"/>',
            f'<circle cx="{x(row.value):.1f}" cy="{y}" r="4" fill="{colour}"/>',
        ]
    for tick in _ticks(low, high):
        parts.append(f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:+g}</text>')
    parts.append(
        f'<text x="{(LEFT + WIDTH) / 2}" y="{bottom + 38}" text-anchor="middle">{escape(caption)}</text></svg>\n'
    )
    return "\n".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    step = next(step for step in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 1e9) if (high - low) / step <= 8)
    first = -int(-low // step) if low < 0 else 0
    return [round(number * step, 6) for number in range(first, int(high // step) + 1)]
