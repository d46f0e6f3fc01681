"""A report as Markdown tables, one column a system."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from harmonixr_model.evaluation.boundaries import LEAP_DIFFERENCE, WAIT_DIFFERENCE
from harmonixr_model.evaluation.breakdown import ALL, GROUPS
from harmonixr_model.evaluation.likelihood import BITS, FIELDS, WITH_GRAMMAR
from harmonixr_model.evaluation.metrics import Estimate
from harmonixr_model.evaluation.report import NOTE_F1, Report
from harmonixr_model.evaluation.single_field import LOWER_IS_BETTER, RIGHT
from harmonixr_model.evaluation.training_overlap import COPIED, LONGEST
from harmonixr_model.evaluation.validity import PERCENT

_BY_FIELD = [f"{total}, {field}" for total in (BITS, WITH_GRAMMAR) for field in FIELDS]
_SINGLE_FIELD = (RIGHT, *LOWER_IS_BETTER)
_DOWN = {BITS, WITH_GRAMMAR, *_BY_FIELD, LEAP_DIFFERENCE, WAIT_DIFFERENCE, "pitch-class entropy difference"}
_DOWN |= {COPIED, LONGEST, *LOWER_IS_BETTER}


def to_markdown(report: Report, *, by: Sequence[str] = ()) -> str:
    """Return tables of all measures over all gaps, of bits by field, and of the main measures by shape.

    `by` names GROUPS that get additional tables.
    """
    first, *_ = report.results
    measures = dict.fromkeys(measure for measured in report.results.values() for measure in measured)
    overall = [measure for measure in measures if measure not in (*_BY_FIELD, *_SINGLE_FIELD)]
    parts = ["# Evaluation", "", *(f"- {key}: {value}" for key, value in report.made.items()), ""]
    parts += ["Intervals are 95 % of a bootstrap over pieces. ↓: lower is better.", ""]
    parts += _section(report, "Over all gaps", {_title(m): _cells(report, m, ALL) for m in overall})
    parts += _section(
        report, "Bits per note by field ↓", {m: _cells(report, m, ALL) for m in measures if m in _BY_FIELD}
    )
    for measure in (BITS, NOTE_F1, *_SINGLE_FIELD):
        parts += _by_group(report, measure, "shape")
    for name in by:
        for measure in (BITS, NOTE_F1):
            parts += _by_group(report, measure, name, GROUPS[name])
    margins = {
        _title(measure): {system: _text(found) for system, found in others.items()}
        for measure, others in report.margins.items()
    }
    parts += _section(report, f"{first} minus each other system, paired over the same gaps", margins)
    return "\n".join(parts)


def _by_group(report: Report, measure: str, name: str, prefix: str = "") -> list[str]:
    """Return a table of the groups with a prefix; without one, of those that have none of GROUPS."""
    found = dict.fromkeys(group for measured in report.results.values() for group in measured.get(measure, {}))
    other = () if prefix else tuple(GROUPS.values())
    groups = [group for group in found if group.startswith(prefix) and not group.startswith(other)]
    rows = {f"{group} ({_gaps(report, measure, group)})": _cells(report, measure, group) for group in groups}
    return _section(report, f"{_title(measure)} by {name}", rows)


def _gaps(report: Report, measure: str, group: str) -> int:
    found = [measured.get(measure, {}).get(group) for measured in report.results.values()]
    return min(one.gaps for one in found if one is not None)


def _cells(report: Report, measure: str, group: str) -> dict[str, str]:
    """Return the text of each system that has this measure."""
    return {
        system: _text(measured[measure].get(group), is_share=measure in PERCENT)
        for system, measured in report.results.items()
        if measure in measured
    }


def _text(found: Estimate | None, *, is_share: bool = False) -> str:
    if found is None or math.isnan(found.value):
        return "–"
    if is_share:
        # Rounding down: 99.96 % must not become 100 %.
        return f"{math.floor(1000 * found.value) / 10:g} %"
    # A single piece has no interval.
    interval = f" [{found.low:.2f}, {found.high:.2f}]" if found.pieces > 1 else ""
    return f"{found.value:.2f}{interval}"


def _title(measure: str) -> str:
    arrow = " ↓" if measure in _DOWN else ""
    return measure[0].upper() + measure[1:] + arrow


def _section(report: Report, title: str, rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a heading with a table whose columns are the systems with a value; nothing if there are no rows."""
    if not rows:
        return []
    columns = [system for system in report.results if any(system in cells for cells in rows.values())]
    lines = [["", *columns], *([name, *(cells.get(column, "–") for column in columns)] for name, cells in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    head, *body = (_line(line, widths) for line in lines)
    return [f"## {title}", "", head, "|" + "|".join("-" * (width + 2) for width in widths) + "|", *body, ""]


def _line(cells: Iterable[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
