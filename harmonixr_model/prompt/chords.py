"""Requested chords: read from text, spread over bars, and cells cut where they change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from harmonixr_model.errors import ControlError
from harmonixr_model.music.estimate import ChordSpan
from harmonixr_model.music.harmony import Chord, read_chord
from harmonixr_model.music.score import Bar
from harmonixr_model.notes.encoded_score import GridCell


def read_chords(text: str) -> tuple[tuple[Chord, ...], ...]:
    """Return the chords of each bar of a text such as 'C | Am F | G7'; raises ControlError."""
    bars = tuple(tuple(read_chord(name) for name in bar.split()) for bar in text.strip().strip("|").split("|"))
    if not all(bars):
        raise ControlError(f"a bar of the chords {text!r} is empty; write chords in each, such as 'C | Am F | G7'")
    return bars


def chord_spans(chords: Sequence[Sequence[Chord]], bars: Sequence[Bar]) -> tuple[ChordSpan, ...]:
    """Return where the chords sound: evenly spread over each bar, and repeated until the bars end.

    Raises ControlError where there are chords for more bars than there are.
    """
    if len(chords) > len(bars):
        raise ControlError(f"there are chords for {len(chords)} bars, the region has {len(bars)}; leave some out")
    spans: list[ChordSpan] = []
    for number, bar in enumerate(bars):
        here = chords[number % len(chords)]
        edges = [bar.start + (bar.end - bar.start) * i // len(here) for i in range(len(here) + 1)]
        spans += [ChordSpan(edges[i], edges[i + 1], chord) for i, chord in enumerate(here)]
    return tuple(spans)


def split_at_chords(cell: GridCell, chords: Iterable[ChordSpan]) -> list[GridCell]:
    """Return the cell cut where a chord begins."""
    edges = sorted({cell.start, cell.end, *(span.start for span in chords if cell.start < span.start < cell.end)})
    return [replace(cell, start=start, end=end) for start, end in pairwise(edges)]
