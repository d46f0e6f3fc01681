"""The plots of the HTML report as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _NAMES, _ROW, _TOP = 720, 150, 34, 34
_CELL = 84
_MARK = "simulated raters"


def standings_plot(models: Sequence[Mapping[str, Any]], *, simulated: bool) -> str:
    """Return the models' strengths with both intervals, strongest on top."""
    ends = [end for m in models for end in (m["strength"], m["low"], m["high"], m["iid_low"], m["iid_high"])]
    known: list[float] = [end for end in ends if end is not None]
    low, high = min(known) - 0.1, max(known) + 0.1

    def x(value: float) -> float:
        return _NAMES + (value - low) / (high - low) * (_WIDTH - _NAMES - 70)

    height = _TOP + _ROW * len(models) + 30
    parts = [_open(_WIDTH, height, "Strengths of the models with 95 % intervals", simulated=simulated)]
    bottom = height - 26
    for tick in _ticks(low, high):
        at = f"{x(tick):.1f}"
        parts.append(
            f'<line x1="{at}" x2="{at}" y1="{_TOP - 8}" y2="{bottom}" stroke="#dfe4ec"/>'
            f'<text x="{at}" y="{bottom + 16}" text-anchor="middle" fill="#64748b">{_signed(tick)}</text>'
        )
    for row, model in enumerate(models):
        y = _TOP + _ROW * row + _ROW / 2 - 4
        parts.append(f'<text x="0" y="{y + 4:.1f}" fill="#1e293b">{escape(model["model_version"][:18])}</text>')
        parts.append(_bar(x(model["iid_low"]), x(model["iid_high"]), y + 7, width=1.5, colour="#94a3b8"))
        if model["low"] is not None:
            parts.append(_bar(x(model["low"]), x(model["high"]), y, width=5, colour="#a5b4fc"))
        parts.append(f'<circle cx="{x(model["strength"]):.1f}" cy="{y:.1f}" r="5" fill="#4f46e5"/>')
        parts.append(
            f'<text x="{_WIDTH}" y="{y + 4:.1f}" text-anchor="end" fill="#1e293b">{model["strength"]:+.2f}</text>'
        )
    return "".join(parts) + "</svg>"


def heat_map(wins: Mapping[str, Mapping[str, float]], *, simulated: bool) -> str:
    """Return how often the row's model beat the column's, a tie half a win, coloured by the share."""
    names = list(wins)
    width, height = max(300, _NAMES + _CELL * len(names)), _TOP + 26 + 44 * len(names)
    parts = [_open(width, height, "Wins of row over column", simulated=simulated)]
    for column, name in enumerate(names):
        at = _NAMES + _CELL * (column + 0.5)
        parts.append(f'<text x="{at}" y="{_TOP + 12}" text-anchor="middle" fill="#475569">{escape(name[:10])}</text>')
    for row, name in enumerate(names):
        top = _TOP + 22 + 44 * row
        parts.append(f'<text x="0" y="{top + 25}" fill="#475569">{escape(name[:18])}</text>')
        for column, other in enumerate(names):
            parts.append(_cell(wins, name, other, x=_NAMES + _CELL * column, y=top))
    return "".join(parts) + "</svg>"


def _cell(wins: Mapping[str, Mapping[str, float]], row: str, column: str, *, x: float, y: float) -> str:
    won, total = wins[row][column], wins[row][column] + wins[column][row]
    if row == column or not total:
        return (
            f'<rect x="{x}" y="{y}" width="{_CELL - 2}" height="42" fill="#f4f6fa"/>'
            f'<text x="{x + _CELL / 2}" y="{y + 25}" text-anchor="middle" fill="#94a3b8">–</text>'
        )
    share = won / total
    return (
        f'<rect x="{x}" y="{y}" width="{_CELL - 2}" height="42" fill="{_shade(share)}"/>'
        f'<text x="{x + _CELL / 2}" y="{y + 19}" text-anchor="middle" fill="#1e293b">{share:.0%}</text>'
        f'<text x="{x + _CELL / 2}" y="{y + 34}" text-anchor="middle" fill="#475569" font-size="11">'
        f"{won:g} of {total:g}</text>"
    )


def _shade(share: float) -> str:
    """Return orange below one half, white at it, green above."""
    end = (45, 156, 120) if share > 0.5 else (222, 119, 58)
    tint = min(1.0, abs(share - 0.5) * 1.6)
    return "#" + "".join(f"{round(255 + (part - 255) * tint):02x}" for part in end)


def _open(width: int, height: float, title: str, *, simulated: bool) -> str:
    mark = f'<text x="{width}" y="14" text-anchor="end" fill="#7a4d00">{_MARK}</text>' if simulated else ""
    label = f"{title} ({_MARK})" if simulated else title
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui,sans-serif" font-size="13"><title>{escape(label)}</title>{mark}'
    )


def _bar(x1: float, x2: float, y: float, *, width: float, colour: str) -> str:
    return (
        f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-width="{width}" '
        'stroke-linecap="round"/>'
    )


def _ticks(low: float, high: float) -> list[float]:
    step = next(size for size in (0.1, 0.25, 0.5, 1, 2, 5, 10, 25, 100, 1e6) if (high - low) / size <= 8)
    first = int(low // step) + 1
    return [round((first + k) * step, 6) for k in range(10) if (first + k) * step <= high]


def _signed(value: float) -> str:
    return f"{value:+g}" if value else "0"
