"""Ask every item of every system and say what came out: JSON for programs, Markdown for people.

Knows nothing of where models, corpora or files come from.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Any

from harmonixr_model.evaluation.breakdown import ALL, NOVEL, REPEATED, groups_of, is_of, is_shape
from harmonixr_model.evaluation.likelihood import BITS, FIELDS, WITH_GRAMMAR
from harmonixr_model.evaluation.metrics import Estimate, Fills, Ratio, compare, diversity, estimate, margin
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.evaluation.seams import LEAP_OFF, WAIT_OFF, seam_measures
from harmonixr_model.evaluation.single_field import LESS_IS_BETTER, RIGHT, field_measures
from harmonixr_model.evaluation.systems import System
from harmonixr_model.evaluation.training_overlap import COPIED, LONGEST, CopyFinder
from harmonixr_model.evaluation.validity import PERCENT, keeping
from harmonixr_model.music.score import Note, Score

NOTE_F1 = "note F1"
DIVERSITY = "diversity among fills"
PAIRED = (BITS, NOTE_F1, "onset F1", "chroma F1", "groove similarity")
_BY_FIELD = {f"{total}, {field}": (total, field) for total in (BITS, WITH_GRAMMAR) for field in FIELDS}
_LESS_IS_BETTER = {BITS, WITH_GRAMMAR, *_BY_FIELD, LEAP_OFF, WAIT_OFF, "pitch-class entropy difference"}
_LESS_IS_BETTER |= {COPIED, LONGEST, *LESS_IS_BETTER}


@dataclass(frozen=True, slots=True)
class ReportedFill:
    """One fill of one gap, cell by cell, and its note F1: something to look at and listen to."""

    item: EvaluationItem
    fill: tuple[tuple[Note, ...], ...]
    note_f1: float


@dataclass(frozen=True, slots=True)
class Report:
    """Estimates by system, measure and kind of gap, and what was evaluated.

    Kinds are those of `kinds`. `margins` say by measure how far the first system is above each other one over all
    gaps; `shown` are its first fills.
    """

    made: dict[str, Any]
    results: dict[str, dict[str, dict[str, Estimate]]]
    margins: dict[str, dict[str, Estimate]]
    shown: tuple[ReportedFill, ...] = ()

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

    def to_markdown(self, *, by: Sequence[str] = ()) -> str:
        """Return tables: all measures over all shapes, bits by field, then bits per note and note F1 by shape.

        `by` names GROUPS of kinds that get tables of their own.
        """
        parts = ["# Evaluation", "", *(f"- {key}: {value}" for key, value in self.made.items()), ""]
        parts += ["Intervals hold 95 % of a bootstrap over pieces. ↓: less is better.", ""]
        measures = list(dict.fromkeys(m for measured in self.results.values() for m in measured))
        rows = {
            _titled(m): {system: self._cell(system, m, ALL) for system in self.results}
            for m in measures
            if m not in (*_BY_FIELD, RIGHT, *LESS_IS_BETTER)
        }
        parts += ["## Over all gaps", "", *_table(rows, list(self.results)), ""]
        able = [system for system, measured in self.results.items() if BITS in measured]
        rows = {m: {system: self._cell(system, m, ALL) for system in able} for m in measures if m in _BY_FIELD}
        parts += ["## Bits per note by field ↓", "", *_table(rows, able), ""] if rows else []
        for measure in (BITS, NOTE_F1, RIGHT, *LESS_IS_BETTER):
            parts += self._by_kind(measure, "shape", is_shape)
        for group in by:
            for measure in (BITS, NOTE_F1):
                parts += self._by_kind(measure, group, partial(is_of, group))
        first = next(iter(self.results))
        rows = {
            _titled(m): {name: _formatted(found) for name, found in beside.items()}
            for m, beside in self.margins.items()
        }
        if rows:
            others = list(dict.fromkeys(name for beside in self.margins.values() for name in beside))
            rows = {measure: {name: cells.get(name, "–") for name in others} for measure, cells in rows.items()}
            parts += [f"## {first} less each other, paired over the same gaps", "", *_table(rows, others), ""]
        return "\n".join(parts)

    def _by_kind(self, measure: str, group: str, belongs: Callable[[str], bool]) -> list[str]:
        able = [system for system, measured in self.results.items() if measure in measured]
        kinds = dict.fromkeys(kind for system in able for kind in self.results[system][measure] if belongs(kind))
        if not kinds:
            return []
        rows = {}
        for kind in kinds:
            cells = {system: self._cell(system, measure, kind) for system in able}
            gaps = min(
                self.results[system][measure][kind].gaps for system in able if kind in self.results[system][measure]
            )
            rows[f"{kind} ({gaps})"] = cells
        return [f"## {_titled(measure)} by {group}", "", *_table(rows, able), ""]

    def _cell(self, system: str, measure: str, shape: str) -> str:
        return _formatted(self.results[system].get(measure, {}).get(shape), is_share=measure in PERCENT)


def evaluate(
    asked: Iterable[EvaluationItem],
    systems: Sequence[System],
    *,
    made: Mapping[str, Any],
    progress: Callable[[EvaluationItem], None] = lambda item: None,
    training: Iterable[Score] = (),
) -> Report:
    """Ask every item of every system; with `training` music, also say how much of the fills is copied from it."""
    filled: list[tuple[System, EvaluationItem, Fills]] = []
    found: dict[str, dict[str, list[tuple[EvaluationItem, Ratio]]]] = {s.name: defaultdict(list) for s in systems}
    shown = []
    for item in asked:
        for system in systems:
            fills = system.fills(item) if system.fills is not None else ()
            for measure, ratio in _measure(item, system, fills):
                found[system.name][measure].append((item, ratio))
            if fills and system is systems[0] and item.only is None:
                shown.append(_reported_fill(item, fills[0]))
            # Of an answer about one field most is the song's own.
            filled += ((system, item, fill) for fill in fills if item.only is None)
        progress(item)
    for system, item, measure, ratio in _copied(filled, training):
        found[system.name][measure].append((item, ratio))
    results = {
        system: {measure: _estimates(rows) for measure, rows in measures.items()} for system, measures in found.items()
    }
    return Report(dict(made), results, _margins(found), tuple(shown))


def _measure(item: EvaluationItem, system: System, fills: Sequence[Fills]) -> Iterable[tuple[str, Ratio]]:
    if system.bits is not None:
        for measure, bits in system.bits(item).items():
            yield measure, Ratio(bits, item.notes)
    drums = [number for number, track in enumerate(item.context.tracks) if track.is_drum]
    for fill in fills:
        yield from keeping(item, fill).items()
        if item.only:
            yield from field_measures(item, fill).items()
        # Where onsets and pitches are known there is nothing to compare.
        if item.only not in ("velocity", "duration"):
            yield from compare(item.prompt.cells, item.original, fill, drums=drums).items()
            yield from seam_measures(item, fill).items()
    if len(fills) > 1 and item.only not in ("velocity", "duration"):
        yield DIVERSITY, diversity(item.prompt.cells, fills)


def _copied(
    filled: Sequence[tuple[System, EvaluationItem, Fills]], training: Iterable[Score]
) -> Iterator[tuple[System, EvaluationItem, str, Ratio]]:
    music = iter(training)
    first = next(music, None)
    if first is None:
        return
    copies = CopyFinder()
    for _, item, fill in filled:
        copies.add(item, fill)
    copies.read(chain([first], music))
    for system, item, fill in filled:
        for measure, ratio in copies.measure(item, fill).items():
            yield system, item, measure, ratio


def _reported_fill(item: EvaluationItem, fill: Fills) -> ReportedFill:
    score = compare(item.prompt.cells, item.original, fill)[NOTE_F1].value
    return ReportedFill(item, tuple(tuple(notes) for notes in fill), score)


def _margins(
    found: Mapping[str, Mapping[str, Sequence[tuple[EvaluationItem, Ratio]]]],
) -> dict[str, dict[str, Estimate]]:
    """Compare the first system with each other one, gap by gap, over the gaps that both were measured on."""
    first, *others = found
    margins: dict[str, dict[str, Estimate]] = {}
    for measure in PAIRED:
        mine = _by_gap([row for row in found[first].get(measure, ()) if row[0].only is None])
        for other in others:
            theirs = _by_gap(found[other].get(measure, ()))
            shared = [number for number in mine if number in theirs]
            if shared:
                margins.setdefault(measure, {})[other] = margin([mine[n] for n in shared], [theirs[n] for n in shared])
    return margins


def _by_gap(rows: Sequence[tuple[EvaluationItem, Ratio]]) -> dict[int, tuple[str, Ratio]]:
    """Return (piece_id, ratio) by the gap's number, several fills of a gap summed."""
    gaps: dict[int, tuple[str, Ratio]] = {}
    for item, ratio in rows:
        _, before = gaps.get(item.number, ("", Ratio()))
        gaps[item.number] = item.piece_id, before + ratio
    return gaps


def _formatted(found: Estimate | None, *, is_share: bool = False) -> str:
    if found is None or math.isnan(found.value):
        return "–"
    if is_share:
        # A share that is not quite whole must not read as if it were.
        return f"{math.floor(1000 * found.value) / 10:g} %"
    # One piece gives no interval: what it would be drawn from is that piece alone.
    interval = f" [{found.low:.2f}, {found.high:.2f}]" if found.pieces > 1 else ""
    return f"{found.value:.2f}{interval}"


def _estimates(rows: Sequence[tuple[EvaluationItem, Ratio]]) -> dict[str, Estimate]:
    kinds: dict[str, list[tuple[str, Ratio]]] = defaultdict(list)
    for item, ratio in rows:
        for kind in groups_of(item):
            kinds[kind].append((item.piece_id, ratio))
    ordered = sorted(kinds, key=lambda kind: (ALL, REPEATED, NOVEL, kind).index(kind))
    return {kind: estimate(kinds[kind]) for kind in ordered}


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
