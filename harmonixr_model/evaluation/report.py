"""Ask every question of every system and say what came out: JSON for programs, Markdown for people.

Knows nothing of where models, corpora or files come from.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harmonixr_model.evaluation.metrics import Estimate, Fills, Ratio, compare, estimate, margin
from harmonixr_model.evaluation.protocol import Question
from harmonixr_model.evaluation.systems import System
from harmonixr_model.music.score import Note

BITS = "bits per note"
NOTE_F1 = "note F1"
ALL = "all shapes"
REPEATED, NOVEL = "repeated elsewhere", "novel"
_LESS_IS_BETTER = {BITS, "pitch-class entropy difference"}


@dataclass(frozen=True, slots=True)
class Shown:
    """One fill of one gap, cell by cell, and its note F1: something to look at and listen to."""

    question: Question
    fill: tuple[tuple[Note, ...], ...]
    note_f1: float


@dataclass(frozen=True, slots=True)
class Report:
    """Estimates by system, measure and kind of gap, and what was evaluated.

    Kinds are the shapes, REPEATED (the piece plays the very same elsewhere) and NOVEL, and ALL. `margins` say by
    measure how far the first system is above each other one over all gaps; `shown` are its first fills.
    """

    made: dict[str, Any]
    results: dict[str, dict[str, dict[str, Estimate]]]
    margins: dict[str, dict[str, Estimate]]
    shown: tuple[Shown, ...] = ()

    def value(self, system: str, measure: str, shape: str = ALL) -> Estimate:
        """Return one estimate."""
        return self.results[system][measure][shape]

    def to_json(self) -> str:
        """Return the report as JSON; what was not measured is null."""
        results = {
            system: {
                measure: {shape: _finite(asdict(found)) for shape, found in shapes.items()}
                for measure, shapes in measures.items()
            }
            for system, measures in self.results.items()
        }
        margins = {
            measure: {system: _finite(asdict(found)) for system, found in systems.items()}
            for measure, systems in self.margins.items()
        }
        return json.dumps({"made": self.made, "results": results, "margins": margins}, indent=1)

    def to_markdown(self) -> str:
        """Return tables: all measures over all shapes, then bits per note and note F1 by shape."""
        parts = ["# Evaluation", "", *(f"- {key}: {value}" for key, value in self.made.items()), ""]
        parts += ["Intervals hold 95 % of a bootstrap over pieces. ↓: less is better.", ""]
        measures = list(dict.fromkeys(m for measured in self.results.values() for m in measured))
        rows = {_titled(m): {system: self._cell(system, m, ALL) for system in self.results} for m in measures}
        parts += ["## Over all gaps", "", *_table(rows, list(self.results)), ""]
        for measure in (BITS, NOTE_F1):
            able = [system for system, measured in self.results.items() if measure in measured]
            shapes = list(dict.fromkeys(s for system in able for s in self.results[system][measure]))
            rows = {shape: {system: self._cell(system, measure, shape) for system in able} for shape in shapes}
            parts += [f"## {_titled(measure)} by shape", "", *_table(rows, able), ""] if able else []
        first = next(iter(self.results))
        rows = {
            _titled(m): {name: _said(found) for name, found in beside.items()} for m, beside in self.margins.items()
        }
        if rows:
            others = list(dict.fromkeys(name for beside in self.margins.values() for name in beside))
            rows = {measure: {name: cells.get(name, "–") for name in others} for measure, cells in rows.items()}
            parts += [f"## {first} less each other, paired over the same gaps", "", *_table(rows, others), ""]
        return "\n".join(parts)

    def _cell(self, system: str, measure: str, shape: str) -> str:
        return _said(self.results[system].get(measure, {}).get(shape))


def evaluate(
    asked: Iterable[Question],
    systems: Sequence[System],
    *,
    made: Mapping[str, Any],
    progress: Callable[[Question], None] = lambda question: None,
) -> Report:
    """Ask every question of every system."""
    found: dict[str, dict[str, list[tuple[Question, Ratio]]]] = {s.name: defaultdict(list) for s in systems}
    shown = []
    for question in asked:
        for system in systems:
            fills = system.fills(question) if system.fills is not None else ()
            for measure, ratio in _measure(question, system, fills):
                found[system.name][measure].append((question, ratio))
            if fills and system is systems[0]:
                shown.append(_shown(question, fills[0]))
        progress(question)
    results = {
        system: {measure: _estimates(rows) for measure, rows in measures.items()} for system, measures in found.items()
    }
    return Report(dict(made), results, _margins(found), tuple(shown))


def _measure(question: Question, system: System, fills: Sequence[Fills]) -> Iterable[tuple[str, Ratio]]:
    if system.bits is not None:
        yield BITS, Ratio(system.bits(question), question.notes)
    drums = [number for number, track in enumerate(question.context.tracks) if track.is_drum]
    for fill in fills:
        yield from compare(question.prompt.cells, question.answer, fill, drums=drums).items()


def _shown(question: Question, fill: Fills) -> Shown:
    score = compare(question.prompt.cells, question.answer, fill)[NOTE_F1].value
    return Shown(question, tuple(tuple(notes) for notes in fill), score)


def _margins(found: Mapping[str, Mapping[str, Sequence[tuple[Question, Ratio]]]]) -> dict[str, dict[str, Estimate]]:
    """Compare the first system with each other one where both were measured equally often on every gap."""
    first, *others = found
    margins: dict[str, dict[str, Estimate]] = {}
    for measure in (BITS, NOTE_F1):
        mine = [(question.piece_id, ratio) for question, ratio in found[first].get(measure, ())]
        for other in others:
            theirs = [(question.piece_id, ratio) for question, ratio in found[other].get(measure, ())]
            if mine and len(mine) == len(theirs):
                margins.setdefault(measure, {})[other] = margin(mine, theirs)
    return margins


def _said(found: Estimate | None) -> str:
    if found is None or math.isnan(found.value):
        return "–"
    # One piece gives no interval: what it would be drawn from is that piece alone.
    interval = f" [{found.low:.2f}, {found.high:.2f}]" if found.pieces > 1 else ""
    return f"{found.value:.2f}{interval}"


def _estimates(rows: Sequence[tuple[Question, Ratio]]) -> dict[str, Estimate]:
    kinds: dict[str, list[tuple[str, Ratio]]] = {ALL: [], REPEATED: [], NOVEL: []}
    for question, ratio in rows:
        repetition = REPEATED if question.is_repeated else NOVEL
        for kind in (ALL, repetition, question.shape):
            kinds.setdefault(kind, []).append((question.piece_id, ratio))
    return {kind: estimate(measured) for kind, measured in kinds.items() if measured}


def _titled(measure: str) -> str:
    arrow = " ↓" if measure in _LESS_IS_BETTER else ""
    return measure[0].upper() + measure[1:] + arrow


def _table(rows: Mapping[str, Mapping[str, str]], columns: Sequence[str]) -> list[str]:
    """Return a Markdown table that also reads well as text."""
    lines = [["", *columns], *([name, *(cells[column] for column in columns)] for name, cells in rows.items())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]
    said = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    return [said[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *said[1:]]


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}
