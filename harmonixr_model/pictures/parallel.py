"""A sweep as parallel coordinates: one line a trial, through its settings to its result.

It reads the sweep's results folder as plain JSON and does not need Ray.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonixr_model.errors import HarmonixrError

PARAMETERS, RESULTS = "params.json", "result.json"
# A column of positive numbers is logarithmic from this ratio of the largest to the smallest.
_LOG_RATIO = 8


class SweepError(HarmonixrError):
    """There is no sweep to draw."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The settings of a trial, its last step and its best result."""

    settings: dict[str, Any]
    step: int
    best: float


def read_trials(folder: Path, *, metric: str) -> list[Trial]:
    """Return the trials under a sweep's folder that reported `metric` (lower is better), best first.

    Raises SweepError where there are none.
    """
    trials = []
    for path in sorted(folder.rglob(PARAMETERS)):
        results = path.with_name(RESULTS)
        lines = results.read_text(encoding="utf-8").splitlines() if results.is_file() else []
        reported = [record for record in map(_record, lines) if isinstance(record.get(metric), int | float)]
        if reported:
            settings = json.loads(path.read_text(encoding="utf-8"))
            best = min(float(record[metric]) for record in reported)
            trials.append(Trial(settings, max(int(record.get("step", 0)) for record in reported), best))
    if not trials:
        raise SweepError(f"{folder} has no trial that reports {metric}; give the folder of a sweep's results")
    return sorted(trials, key=lambda trial: trial.best)


def _record(line: str) -> dict[str, Any]:
    """Parse one line; the last line of an interrupted trial is empty."""
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return record


def draw_parallel(trials: Sequence[Trial], *, metric: str, title: str) -> str:
    """Return an SVG: one axis a setting, then the steps and the metric; the best trial has the darkest line."""
    from matplotlib.figure import Figure

    from harmonixr_model.pictures.figure import SEQUENTIAL, to_svg

    settings = sorted({name for trial in trials for name in trial.settings})
    columns: list[list[Any]] = [[trial.settings.get(name, "–") for trial in trials] for name in settings]
    columns += [[trial.step for trial in trials], [trial.best for trial in trials]]
    figure = Figure(figsize=(1.9 * len(columns) + 1, 4.4), layout="constrained")
    axes = figure.subplots()
    heights = []
    for number, (name, values) in enumerate(zip([*settings, "steps", metric], columns, strict=True)):
        height, ticks = _column_heights(values)
        heights.append(height)
        axes.axvline(number, color="#dfe4ec", linewidth=2, zorder=0)
        axes.text(number, 1.06, name.rsplit(".", 1)[-1].replace("_", " "), ha="center", fontsize=9)
        for at, label in ticks.items():
            axes.text(number - 0.04, at, label, ha="right", va="center", fontsize=7, color="#64748b")
    best, worst = trials[0].best, trials[-1].best
    for at in reversed(range(len(trials))):
        share = 0.9 * (trials[at].best - best) / (worst - best) if worst > best else 0.0
        line = [column[at] for column in heights]
        axes.plot(line, color=SEQUENTIAL(share), linewidth=3 if at == 0 else 1.5, alpha=0.85, gid=f"trial-{at}")
    axes.set(ylim=(-0.05, 1.12), xlim=(-0.5, len(columns) - 0.8))
    axes.set_axis_off()
    figure.suptitle(f"{title}\n{len(trials)} trials; the darker, the lower {metric.replace('_', ' ')}", fontsize=10)
    return to_svg(figure, title=title)


def _column_heights(values: Sequence[Any]) -> tuple[list[float], dict[float, str]]:
    """Return each value's height from 0 to 1, and the labels of some heights."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        names = sorted(set(map(str, values)))
        step = 1 / max(1, len(names) - 1)
        return [names.index(str(value)) * step for value in values], {i * step: name for i, name in enumerate(names)}
    low, high = min(values), max(values)
    scale = math.log if low > 0 and high / low >= _LOG_RATIO else float
    span = scale(high) - scale(low) or 1.0
    heights = [(scale(value) - scale(low)) / span for value in values]
    labelled = sorted(set(values)) if len(set(values)) <= 6 else [low, *sorted(values)[len(values) // 2 :][:1], high]
    return heights, {(scale(value) - scale(low)) / span: f"{value:g}" for value in labelled}
