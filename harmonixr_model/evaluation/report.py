"""Evaluate every system on every item, and estimate each measure by group."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harmonixr_model.evaluation.boundaries import boundary_measures
from harmonixr_model.evaluation.breakdown import ALL, NOVEL, REPEATED, groups_of
from harmonixr_model.evaluation.likelihood import BITS
from harmonixr_model.evaluation.metrics import Estimate, Fills, Ratio, compare, diversity, estimate, margin
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.evaluation.single_field import field_measures
from harmonixr_model.evaluation.systems import System
from harmonixr_model.evaluation.training_overlap import CopyFinder
from harmonixr_model.evaluation.validity import validity_measures
from harmonixr_model.music.score import Note, Score

NOTE_F1 = "note F1"
DIVERSITY = "diversity among fills"
PAIRED = (BITS, NOTE_F1, "onset F1", "chroma F1", "groove similarity")

Measured = dict[str, list[tuple[EvaluationItem, Ratio]]]  # by measure


@dataclass(frozen=True, slots=True)
class ReportedFill:
    """One fill of a gap as notes of each cell, with its note F1."""

    item: EvaluationItem
    fill: tuple[tuple[Note, ...], ...]
    note_f1: float


@dataclass(frozen=True, slots=True)
class Report:
    """The results of an evaluation.

    Attributes:
        made: what was evaluated, and how.
        results: estimates by system, measure and group; `groups_of` names the groups.
        margins: by measure and other system, the first system minus the other one over the same gaps.
        shown: the first system's first fill of each gap.
    """

    made: dict[str, Any]
    results: dict[str, dict[str, dict[str, Estimate]]]
    margins: dict[str, dict[str, Estimate]]
    shown: tuple[ReportedFill, ...] = ()

    def value(self, system: str, measure: str, group: str = ALL) -> Estimate:
        """Return one estimate."""
        return self.results[system][measure][group]

    def to_json(self) -> str:
        """Return the report as JSON; null is a missing value."""
        return json.dumps(_json({"made": self.made, "results": self.results, "margins": self.margins}), indent=1)


def evaluate(
    items: Iterable[EvaluationItem],
    systems: Sequence[System],
    *,
    made: Mapping[str, Any],
    progress: Callable[[EvaluationItem], None] = lambda item: None,
    training: Iterable[Score] | None = None,
) -> Report:
    """Evaluate every system on every item; with `training` music, also measure how much the fills copy from it."""
    fills_of: list[tuple[System, EvaluationItem, Fills]] = []
    found: dict[str, Measured] = {system.name: defaultdict(list) for system in systems}
    shown = []
    for item in items:
        for system in systems:
            fills = system.fills(item) if system.fills is not None else ()
            for measure, ratio in _measures(item, system, fills):
                found[system.name][measure].append((item, ratio))
            # A fill of a single field consists mostly of the song's own notes.
            if item.field is None:
                fills_of += ((system, item, fill) for fill in fills)
                if fills and system is systems[0]:
                    shown.append(_reported_fill(item, fills[0]))
        progress(item)
    if training is not None:
        finder = CopyFinder()
        for _, item, fill in fills_of:
            finder.add(item, fill)
        finder.read(training)
        for system, item, fill in fills_of:
            for measure, ratio in finder.measure(item, fill).items():
                found[system.name][measure].append((item, ratio))
    results = {
        system: {measure: _estimates(rows) for measure, rows in measures.items()} for system, measures in found.items()
    }
    return Report(dict(made), results, _margins(found), tuple(shown))


def _measures(item: EvaluationItem, system: System, fills: Sequence[Fills]) -> Iterable[tuple[str, Ratio]]:
    if system.bits is not None:
        for measure, bits in system.bits(item).items():
            yield measure, Ratio(bits, item.notes)
    # If onsets and pitches are known, these measures have nothing to compare.
    is_comparable = item.field not in ("velocity", "duration")
    for fill in fills:
        yield from validity_measures(item, fill).items()
        if item.field:
            yield from field_measures(item, fill).items()
        if is_comparable:
            yield from compare(item.prompt.cells, item.original, fill, drums=item.drums).items()
            yield from boundary_measures(item, fill).items()
    if len(fills) > 1 and is_comparable:
        yield DIVERSITY, diversity(item.prompt.cells, fills)


def _reported_fill(item: EvaluationItem, fill: Fills) -> ReportedFill:
    score = compare(item.prompt.cells, item.original, fill)[NOTE_F1].value
    return ReportedFill(item, tuple(tuple(notes) for notes in fill), score)


def _estimates(rows: Sequence[tuple[EvaluationItem, Ratio]]) -> dict[str, Estimate]:
    groups: dict[str, list[tuple[str, Ratio]]] = defaultdict(list)
    for item, ratio in rows:
        for group in groups_of(item):
            groups[group].append((item.piece_id, ratio))
    ordered = sorted(groups, key=lambda group: (ALL, REPEATED, NOVEL, group).index(group))
    return {group: estimate(groups[group]) for group in ordered}


def _margins(found: Mapping[str, Measured]) -> dict[str, dict[str, Estimate]]:
    """Compare the first system with each other one over the gaps on which both were measured."""
    first, *others = found
    margins: dict[str, dict[str, Estimate]] = {}
    for measure in PAIRED:
        ours = _by_gap(found[first].get(measure, ()))
        for other in others:
            theirs = _by_gap(found[other].get(measure, ()))
            shared = [number for number in ours if number in theirs]
            if shared:
                margins.setdefault(measure, {})[other] = margin([ours[n] for n in shared], [theirs[n] for n in shared])
    return margins


def _by_gap(rows: Iterable[tuple[EvaluationItem, Ratio]]) -> dict[int, tuple[str, Ratio]]:
    """Return (piece_id, ratio) by item number: the sum over the fills of each gap that hides whole notes."""
    gaps: dict[int, tuple[str, Ratio]] = {}
    for item, ratio in rows:
        if item.field is None:
            _, before = gaps.get(item.number, ("", Ratio()))
            gaps[item.number] = item.piece_id, before + ratio
    return gaps


def _json(value: Any) -> Any:
    """Return the value with estimates as dictionaries, and None for NaN, which JSON does not have."""
    if isinstance(value, Estimate):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
