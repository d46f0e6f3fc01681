"""Loss curves of several runs from their metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harmonixr_model.errors import HarmonixrError

_MAX_POINTS = 400
_VISIBLE_SHARE = 0.97


class CurveError(HarmonixrError):
    """There is no curve to draw."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One run: the (x, y) of its training steps and of its validations."""

    name: str
    training: tuple[tuple[float, float], ...]
    validation: tuple[tuple[float, float], ...]


def read_curve(path: Path, *, name: str, measure: str, against: str) -> Curve:
    """Read a run's metrics, one JSON object a line; of a step that ran twice the later line counts.

    Raises CurveError where the file is damaged or has no `measure` and `against`, FileNotFoundError.
    """
    by_step: dict[float, Mapping[str, float]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            by_step[record["step"]] = record
        except (ValueError, KeyError, TypeError):
            raise CurveError(f"{path}, line {number}: not a step's metrics; give a metrics.jsonl of a run") from None
    records = [by_step[step] for step in sorted(by_step)]
    training = _points(records, against, measure)
    validation = _points(records, against, f"valid_{measure}")
    if not training and not validation:
        known = ", ".join(sorted(records[0])) if records else "nothing"
        raise CurveError(f"{path} has no {measure} against {against}; it has {known}")
    return Curve(name, training, validation)


def _points(records: Sequence[Mapping[str, float]], x: str, y: str) -> tuple[tuple[float, float], ...]:
    return tuple((float(r[x]), float(r[y])) for r in records if r.get(x) is not None and r.get(y) is not None)


def smoothed(points: Sequence[tuple[float, float]], *, window: int) -> list[tuple[float, float]]:
    """Return running means over `window` points, fewer at the ends, thinned to about _MAX_POINTS."""
    means = []
    for at in range(len(points)):
        near = points[max(0, at - window // 2) : at + window // 2 + 1]
        means.append((points[at][0], sum(y for _, y in near) / len(near)))
    return means[:: max(1, len(means) // _MAX_POINTS)]


def draw_curves(curves: Sequence[Curve], *, measure: str, against: str, title: str) -> str:
    """Return an SVG: for each run a smoothed line of its steps, and a line with dots of its validations."""
    from matplotlib.figure import Figure

    from harmonixr_model.pictures.figure import LINE_COLOURS, to_svg

    lines = [smoothed(curve.training, window=max(1, len(curve.training) // 40)) for curve in curves]
    ys = sorted(y for curve, line in zip(curves, lines, strict=True) for _, y in (*line, *curve.validation))
    if not ys:
        raise CurveError("no run has a step yet; wait for the first one")
    figure = Figure(figsize=(8.6, 4.4), layout="constrained")
    axes = figure.subplots()
    tooltips = []
    for number, (curve, line) in enumerate(zip(curves, lines, strict=True)):
        colour = LINE_COLOURS[number % len(LINE_COLOURS)]
        axes.plot(*_columns(line), color=colour, linewidth=1, alpha=0.65)
        axes.plot(*_columns(curve.validation), color=colour, linewidth=2, label=curve.name)
        dots = axes.scatter(*_columns(curve.validation), color=colour, s=16)
        tooltips.append((dots, [f"{curve.name}, {against} {x:g}: {y:.3f}" for x, y in curve.validation]))
    # The first steps of a run are far above the rest. The picture leaves the top of them out.
    highest = ys[int(_VISIBLE_SHARE * (len(ys) - 1))]
    margin = 0.05 * (highest - ys[0]) or 0.1
    axes.set(ylim=(ys[0] - margin, highest + margin), xlabel=against, ylabel=measure.replace("_", " "))
    axes.set_title(f"{title}\nthin: training, running mean; dots: validation", fontsize=10)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return to_svg(figure, title=title, tooltips=tooltips)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
