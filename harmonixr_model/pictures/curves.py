"""Loss curves of several runs from their metrics.jsonl. Knows nothing of models or training loops."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harmonixr_model.errors import HarmonixrError
from harmonixr_model.pictures.svg import FAINT, LINES, Canvas, Scale, draw_axes

_WIDTH, _HEIGHT = 860, 430
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 30, 60, 80
_MOST_POINTS = 400
_SHOWN_SHARE = 0.97


class CurveError(HarmonixrError):
    """There is nothing to draw a curve of."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One run: (x, y) of its steps, and of its validations."""

    name: str
    trained: tuple[tuple[float, float], ...]
    validated: tuple[tuple[float, float], ...]


def read_curve(path: Path, *, name: str, measure: str, against: str) -> Curve:
    """Read a run's metrics, a JSON object a line; what a step run twice said first is forgotten.

    Raises CurveError where the file is damaged or never says `measure` and `against`, FileNotFoundError.
    """
    by_step: dict[float, Mapping[str, float]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            by_step[record["step"]] = record
        except (ValueError, KeyError, TypeError):
            raise CurveError(f"{path}, line {number}: not a step's metrics; give a metrics.jsonl of a run") from None
    records = [by_step[step] for step in sorted(by_step)]
    trained = _points(records, against, measure)
    validated = _points(records, against, f"valid_{measure}")
    if not trained and not validated:
        known = ", ".join(sorted(records[0])) if records else "nothing"
        raise CurveError(f"{path} says no {measure} against {against}; it says {known}")
    return Curve(name, trained, validated)


def _points(records: Sequence[Mapping[str, float]], x: str, y: str) -> tuple[tuple[float, float], ...]:
    return tuple((float(r[x]), float(r[y])) for r in records if r.get(x) is not None and r.get(y) is not None)


def smoothed(points: Sequence[tuple[float, float]], *, window: int) -> list[tuple[float, float]]:
    """Return running means over `window` points, fewer at the ends, at most _MOST_POINTS of them."""
    means = []
    for at in range(len(points)):
        near = points[max(0, at - window // 2) : at + window // 2 + 1]
        means.append((points[at][0], sum(y for _, y in near) / len(near)))
    return means[:: max(1, len(means) // _MOST_POINTS)]


def draw_curves(curves: Sequence[Curve], *, measure: str, against: str, title: str) -> str:
    """Return an SVG: a smoothed line for each run's steps, dots joined for its validations."""
    lines = [smoothed(curve.trained, window=max(1, len(curve.trained) // 40)) for curve in curves]
    everything = [point for curve, line in zip(curves, lines, strict=True) for point in (*line, *curve.validated)]
    if not everything:
        raise CurveError("no run has a step yet; wait for the first one")
    xs, ys = [x for x, _ in everything], sorted(y for _, y in everything)
    # A run's first steps lie far above all others: what is over this is drawn at the upper edge.
    highest = ys[int(_SHOWN_SHARE * (len(ys) - 1))]
    room = 0.05 * (highest - ys[0])
    x = Scale(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    y = Scale(ys[0] - room, highest + room, _HEIGHT - _BOTTOM, _TOP)
    canvas = Canvas(_WIDTH, _HEIGHT, title)
    canvas.text(_LEFT, 22, title, size=15)
    draw_axes(canvas, x, y, x_name=against, y_name=measure.replace("_", " "))
    at = float(_LEFT)
    for number, (curve, line) in enumerate(zip(curves, lines, strict=True)):
        colour = LINES[number % len(LINES)]
        canvas.path([(x(a), max(_TOP, y(b))) for a, b in line], colour=colour, width=1.2, opacity=0.65)
        canvas.path([(x(a), max(_TOP, y(b))) for a, b in curve.validated], colour=colour, width=2)
        for a, b in curve.validated:
            canvas.dot(x(a), max(_TOP, y(b)), colour=colour, says=f"{curve.name}, {against} {a:g}: {b:.3f}")
        canvas.dot(at + 4, _HEIGHT - 14, colour=colour, radius=4)
        canvas.text(at + 12, _HEIGHT - 10, curve.name)
        at += 34 + 7 * len(curve.name)
    canvas.text(_WIDTH - _RIGHT, 22, "thin: training, running mean; dots: validation", colour=FAINT, anchor="end")
    return canvas.to_svg()
