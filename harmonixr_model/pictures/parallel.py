"""A sweep as parallel coordinates: a line for each trial through what it drew to how well it did.

Reads the results folder of a sweep as it lies on disk, plain JSON; knows nothing of Ray.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonixr_model.errors import HarmonixrError
from harmonixr_model.pictures.svg import FAINT, INK, RULE, Canvas, Scale, from_low_to_high

PARAMETERS, RESULTS = "params.json", "result.json"
_COLUMN, _HEIGHT, _LEFT, _TOP, _BOTTOM = 190, 420, 90, 84, 40
# From this ratio of the largest to the smallest on, a column of numbers above 0 is logarithmic.
_LOG_FROM = 8


class SweepError(HarmonixrError):
    """There is no sweep to draw."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial drew, the step it came to and the best it reached."""

    drawn: dict[str, Any]
    step: int
    best: float


def read_trials(folder: Path, *, metric: str) -> list[Trial]:
    """Return the trials under a sweep's folder that ever said `metric` (less is better), best first.

    Raises SweepError where there are none.
    """
    trials = []
    for path in sorted(folder.rglob(PARAMETERS)):
        results = path.with_name(RESULTS)
        lines = results.read_text(encoding="utf-8").splitlines() if results.is_file() else []
        said = [record for record in map(_record, lines) if isinstance(record.get(metric), int | float)]
        if said:
            drawn = json.loads(path.read_text(encoding="utf-8"))
            best = min(float(record[metric]) for record in said)
            trials.append(Trial(drawn, max(int(record.get("step", 0)) for record in said), best))
    if not trials:
        raise SweepError(f"{folder} has no trial that says {metric}; give the folder of a sweep's results")
    return sorted(trials, key=lambda trial: trial.best)


def _record(line: str) -> dict[str, Any]:
    """Return what a line says; nothing for the last line of a trial that was cut off."""
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return record


def draw_parallel(trials: Sequence[Trial], *, metric: str, title: str) -> str:
    """Return an SVG: an axis for each setting that differs or not, then steps, then the metric; the best is darkest."""
    settings = sorted({name for trial in trials for name in trial.drawn})
    columns = [[trial.drawn.get(name, "–") for trial in trials] for name in settings]
    columns += [[trial.step for trial in trials], [trial.best for trial in trials]]
    canvas = Canvas(_LEFT + _COLUMN * (len(columns) - 1) + 120, _HEIGHT, title)
    canvas.text(20, 24, title, size=15)
    canvas.text(20, 44, f"{len(trials)} trials; the darker, the lower {metric.replace('_', ' ')}", colour=FAINT)
    heights = []
    for number, (name, values) in enumerate(zip([*settings, "steps", metric], columns, strict=True)):
        heights.append(_draw_axis(canvas, name, values, x=_LEFT + _COLUMN * number))
    best, worst = trials[0].best, trials[-1].best
    for at in reversed(range(len(trials))):
        share = 0.9 * (trials[at].best - best) / (worst - best) if worst > best else 0.0
        points = [(_LEFT + _COLUMN * number, column[at]) for number, column in enumerate(heights)]
        canvas.path(points, colour=from_low_to_high(share), width=3 if at == 0 else 1.6, opacity=0.85)
    return canvas.to_svg()


def _draw_axis(canvas: Canvas, name: str, values: Sequence[Any], *, x: float) -> list[float]:
    """Draw one axis and return the height of each value on it."""
    canvas.line(x, _TOP, x, _HEIGHT - _BOTTOM, colour=RULE, width=2)
    canvas.text(x, _TOP - 12, name.rsplit(".", 1)[-1].replace("_", " "), colour=INK, anchor="middle")
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        low, high = min(values), max(values)
        is_log = low > 0 and high / low >= _LOG_FROM
        scale = Scale(low, high, _HEIGHT - _BOTTOM, _TOP, is_log=is_log)
        ticks = {tick: f"{tick:g}" for tick in ([*scale.ticks(5)] if len(set(values)) > 3 else sorted(set(values)))}
        heights = [scale(value) for value in values]
    else:
        names = sorted(set(map(str, values)))
        scale = Scale(0, max(1, len(names) - 1), _HEIGHT - _BOTTOM, _TOP)
        ticks = {float(at): said for at, said in enumerate(names)}
        heights = [scale(names.index(str(value))) for value in values]
    for tick, said in ticks.items():
        canvas.line(x - 4, scale(tick), x + 4, scale(tick), colour=FAINT)
        canvas.text(x - 8, scale(tick) + 4, said, colour=FAINT, size=10, anchor="end")
    return heights
