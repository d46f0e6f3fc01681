"""Measures of a gap's boundaries: the step from the last note before an edge to the first note after it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from harmonixr_model.evaluation.metrics import Fills, Ratio, notes_by_track
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.music.score import Note

LEAP, WAIT = "boundary leap, semitones", "boundary wait, quarters"
LEAP_DIFFERENCE, WAIT_DIFFERENCE = "boundary leap difference, semitones", "boundary wait difference, quarters"
_QUARTER = 24
# A wait of more than two bars of four counts as two bars.
_LONGEST = 8 * _QUARTER


@dataclass(frozen=True, slots=True)
class Boundary:
    """One edge of a gap.

    Attributes:
        leap: semitones between the highest notes on both sides; None for drums, which have no pitch.
        wait: steps from the last onset before the edge to the first onset after it.
    """

    leap: int | None
    wait: int


def boundary_measures(item: EvaluationItem, fill: Fills) -> dict[str, Ratio]:
    """Return the mean leap and wait at the gap's edges, and their mean differences from the original's.

    The highest note of a chord counts (skyline: Uitdenbogerd and Zobel 1999). An edge with silence on one side is left
    out.
    """
    original, filled = boundaries(item, item.original), boundaries(item, fill)
    pairs = [(original[edge], filled[edge]) for edge in filled if edge in original]
    leaps = [edge.leap for edge in filled.values() if edge.leap is not None]
    differences = [abs(one.leap - two.leap) for one, two in pairs if one.leap is not None and two.leap is not None]
    return {
        LEAP: Ratio(sum(leaps), len(leaps)),
        WAIT: Ratio(sum(edge.wait for edge in filled.values()) / _QUARTER, len(filled)),
        LEAP_DIFFERENCE: Ratio(sum(differences), len(differences)),
        WAIT_DIFFERENCE: Ratio(sum(abs(one.wait - two.wait) for one, two in pairs) / _QUARTER, len(pairs)),
    }


def boundaries(item: EvaluationItem, fill: Fills) -> dict[tuple[int, int], Boundary]:
    """Return the boundaries of a fill by (track, step of the edge)."""
    added = notes_by_track(item.prompt.cells, fill)
    found = {}
    for track, start, end in _stretches(item):
        content = item.context.tracks[track]
        highest = _highest([*content.notes, *added[track]])
        onsets = sorted(highest)
        first, last = bisect_left(onsets, start), bisect_left(onsets, end)
        if first == last:
            continue
        for edge, at in ((start, first), (end, last)):
            if 0 < at < len(onsets):
                before, after = onsets[at - 1], onsets[at]
                leap = None if content.is_drum else abs(highest[after] - highest[before])
                found[track, edge] = Boundary(leap, min(after - before, _LONGEST))
    return found


def _stretches(item: EvaluationItem) -> Iterator[tuple[int, int, int]]:
    """Yield (track, start, end) of the gap's cells; adjacent cells are joined."""
    cells = sorted((cell.track, cell.start, cell.end) for cell in item.prompt.cells)
    while cells:
        track, start, end = cells.pop(0)
        while cells and cells[0][:2] == (track, end):
            end = cells.pop(0)[2]
        yield track, start, end


def _highest(notes: list[Note]) -> dict[int, int]:
    """Return the highest pitch at each onset."""
    return dict(sorted((note.onset, note.pitch) for note in notes))
