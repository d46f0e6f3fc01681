"""Draw the loop's results as one SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_PANEL, _GAP, _TOP, _LEFT, _HEIGHT = 300, 70, 70, 60, 240
_INK, _FAINT, _ONE, _TWO = "#222", "#bbb", "#3465a4", "#c4592b"


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with its interval."""

    label: str
    value: float
    low: float
    high: float


def draw(
    *,
    title: str,
    scatter: Sequence[tuple[float, float]],
    rho: float,
    bars: Sequence[Bar],
    reliability: Sequence[tuple[float, float, int]],
) -> str:
    """Return an SVG of three panels: reward against utility, utilities with their intervals, reliability."""
    width = _LEFT + 3 * _PANEL + 2 * _GAP + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_TOP + _HEIGHT + 70}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/>{_text(_LEFT, 24, title, size=15)}',
        *_scatter(_LEFT, scatter, f"Held-out pairs: Spearman {rho:.3f}"),
        *_bars(_LEFT + _PANEL + _GAP, bars),
        *_reliability(_LEFT + 2 * (_PANEL + _GAP), reliability),
        "</svg>",
    ]
    return "\n".join(parts)


def _scatter(x: float, points: Sequence[tuple[float, float]], title: str) -> list[str]:
    frame = _frame(x, title, "difference in hidden utility", "difference in reward")
    if not points:
        return frame
    across = max(abs(u) for u, _ in points) or 1.0
    up = max(abs(r) for _, r in points) or 1.0
    dots = [
        f'<circle cx="{x + _PANEL * (0.5 + 0.48 * u / across):.1f}" cy="{_TOP + _HEIGHT * (0.5 - 0.48 * r / up):.1f}" '
        f'r="2" fill="{_ONE}" fill-opacity="0.4"/>'
        for u, r in points
    ]
    middle = [
        _line(x, _TOP + _HEIGHT / 2, x + _PANEL, _TOP + _HEIGHT / 2, _FAINT),
        _line(x + _PANEL / 2, _TOP, x + _PANEL / 2, _TOP + _HEIGHT, _FAINT),
    ]
    return [*frame, *middle, *dots]


def _bars(x: float, bars: Sequence[Bar]) -> list[str]:
    frame = _frame(x, "Hidden utility on fresh gaps (95 % interval over gaps)", "", "utility")
    low = min(bar.low for bar in bars)
    high = max(bar.high for bar in bars)
    floor, reach = low - 0.25 * (high - low), 1.3 * (high - low) or 1.0

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (1 - (value - floor) / reach)

    step = _PANEL / len(bars)
    parts = list(frame)
    for number, bar in enumerate(bars):
        left, middle = x + step * (number + 0.2), x + step * (number + 0.5)
        colour = _TWO if bar.label.startswith("DPO") else _ONE
        parts += [
            f'<rect x="{left:.1f}" y="{y(bar.value):.1f}" width="{step * 0.6:.1f}" '
            f'height="{_TOP + _HEIGHT - y(bar.value):.1f}" fill="{colour}" fill-opacity="0.75"/>',
            _line(middle, y(bar.low), middle, y(bar.high), _INK),
            _text(middle, y(bar.high) - 6, f"{bar.value:.3f}", anchor="middle"),
        ]
        parts += [
            _text(middle, _TOP + _HEIGHT + 16 + 14 * i, word, anchor="middle")
            for i, word in enumerate(bar.label.split("\n"))
        ]
    return parts


def _reliability(x: float, rows: Sequence[tuple[float, float, int]]) -> list[str]:
    frame = _frame(x, "Reliability of the reward model", "predicted probability", "observed frequency")

    def at(predicted: float, observed: float) -> tuple[float, float]:
        return x + _PANEL * (predicted - 0.5) / 0.5, _TOP + _HEIGHT * (1 - observed)

    most = max((count for *_, count in rows), default=1)
    dots = []
    for predicted, observed, count in rows:
        cx, cy = at(predicted, observed)
        dots.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{3 + 6 * count / most:.1f}" fill="{_TWO}"/>')
    return [*frame, _line(*at(0.5, 0.5), *at(1, 1), _FAINT), *dots]


def _frame(x: float, title: str, below: str, beside: str) -> list[str]:
    turned = f"translate({x - 12},{_TOP + _HEIGHT / 2}) rotate(-90)"
    return [
        f'<rect x="{x}" y="{_TOP}" width="{_PANEL}" height="{_HEIGHT}" fill="none" stroke="{_FAINT}"/>',
        _text(x, _TOP - 10, title),
        _text(x + _PANEL / 2, _TOP + _HEIGHT + 34, below, anchor="middle"),
        f'<g transform="{turned}">{_text(0, 0, beside, anchor="middle")}</g>',
    ]


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{_INK}">{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
