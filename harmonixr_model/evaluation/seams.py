"""What the ear meets at a gap's edges: the step from the last note before to the first note within, and out again.

Knows nothing of models; notes are on the grid of 24 steps a quarter.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from harmonixr_model.evaluation.metrics import Fills, Ratio
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.music.score import Note

LEAP, WAIT = "leap at the seams, semitones", "wait at the seams, quarters"
LEAP_OFF, WAIT_OFF = "leap off the human's, semitones", "wait off the human's, quarters"
SEAMS = (LEAP, WAIT, LEAP_OFF, WAIT_OFF)
_QUARTER = 24
# A wait longer than two bars of four is no longer heard as one.
_LONGEST = 8 * _QUARTER


@dataclass(frozen=True, slots=True)
class Seam:
    """One crossing of an edge.

    Attributes:
        leap: semitones between the top notes on either side; None for drums, which have no pitch.
        wait: steps from the last onset before the edge to the first one after it.
    """

    leap: int | None
    wait: int


def seam_measures(item: EvaluationItem, fill: Fills) -> dict[str, Ratio]:
    """Return the mean size of leap and wait over the gap's edges, and how far both are from the human's.

    Of a chord the top note counts, the skyline that is heard as melody (Uitdenbogerd and Zobel 1999). An edge with
    silence on either side is none.
    """
    truth, made = seams(item, item.original), seams(item, fill)
    shared = [(truth[edge], made[edge]) for edge in made if edge in truth]
    leaps = [seam.leap for seam in made.values() if seam.leap is not None]
    off = [abs(one.leap - two.leap) for one, two in shared if one.leap is not None and two.leap is not None]
    return {
        LEAP: Ratio(sum(leaps), len(leaps)),
        WAIT: Ratio(sum(seam.wait for seam in made.values()) / _QUARTER, len(made)),
        LEAP_OFF: Ratio(sum(off), len(off)),
        WAIT_OFF: Ratio(sum(abs(one.wait - two.wait) for one, two in shared) / _QUARTER, len(shared)),
    }


def seams(item: EvaluationItem, fill: Fills) -> dict[tuple[int, int], Seam]:
    """Return the seams of a fill by (track, step of the edge)."""
    found = {}
    for track, start, end in _stretches(item):
        added = [
            note for cell, notes in zip(item.prompt.cells, fill, strict=True) for note in notes if cell.track == track
        ]
        tops = _tops([*item.context.tracks[track].notes, *added])
        onsets = sorted(tops)
        first, last = bisect_left(onsets, start), bisect_left(onsets, end)
        if first == last:
            continue
        for edge, at in ((start, first), (end, last)):
            if 0 < at < len(onsets):
                before, after = onsets[at - 1], onsets[at]
                is_drum = item.context.tracks[track].is_drum
                leap = None if is_drum else abs(tops[after] - tops[before])
                found[track, edge] = Seam(leap, min(after - before, _LONGEST))
    return found


def _stretches(item: EvaluationItem) -> Iterator[tuple[int, int, int]]:
    """Yield (track, start, end) of cells that touch, joined."""
    cells = sorted((cell.track, cell.start, cell.end) for cell in item.prompt.cells)
    while cells:
        track, start, end = cells.pop(0)
        while cells and cells[0][:2] == (track, end):
            end = cells.pop(0)[2]
        yield track, start, end


def _tops(notes: list[Note]) -> dict[int, int]:
    tops: dict[int, int] = {}
    for note in notes:
        tops[note.onset] = max(note.pitch, tops.get(note.onset, -1))
    return tops
