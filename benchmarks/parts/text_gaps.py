"""Gaps and fills as an earlier generation of models had them: text in seconds, one note per line.

    a=0 b=drums                                  tracks by letter, with their programs
    b -0.50 36 0.12 98                           track, onset from the start of the gap, pitch, duration, velocity
    <gap> a 0.00 2.00                            the tracks of the gap, start and end
    <fill> a 0.00 60 0.49 86 …  <end>

The text has no bars, beats or metre.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.music.score import Note, Score
from harmonixr_model.notes.encoded_score import GridCell

PAD, GAP, FILL, END = SPECIALS = ("<pad>", "<gap>", "<fill>", "<end>")
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEF"
_LONGEST_STEPS = 1 << 22
_LINE = re.compile(r"([A-Za-z]) (-?\d+\.\d\d) (\d{1,3}) (\d+\.\d\d) (\d{1,3})")


@dataclass(frozen=True, slots=True)
class TextGap:
    """An item as text: header, notes of the context with their distance from the gap, the gap, and the fill."""

    header: str
    around: tuple[tuple[float, str], ...]
    gap: str
    fill: str


def text_of(item: EvaluationItem) -> TextGap:
    """Return an item as text; `around` has each note's distance from the gap in seconds."""
    score, cells = item.context.score, item.prompt.cells
    start, end = _span(cells)
    start_s, end_s = score.seconds(start), score.seconds(end)
    notes = sorted((note.onset, track, note) for track, content in enumerate(score.tracks) for note in content.notes)
    around = [
        (max(start_s - score.seconds(onset), score.seconds(onset) - end_s, 0.0), _line(score, track, note, start_s))
        for onset, track, note in notes
        if track < len(LETTERS)
    ]
    hidden = sorted(
        (note.onset, cell.track, note) for cell, notes in zip(cells, item.original, strict=True) for note in notes
    )
    sounds = " ".join(
        f"{LETTERS[track]}={'drums' if content.is_drum else content.program}"
        for track, content in enumerate(score.tracks[: len(LETTERS)])
    )
    tracks = "".join(LETTERS[track] for track in sorted({cell.track for cell in cells}))
    return TextGap(
        header=sounds + "\n",
        around=tuple(around),
        gap=f"{GAP} {tracks} 0.00 {end_s - start_s:.2f}\n{FILL}",
        fill="".join(_line(score, track, note, start_s) for _, track, note in hidden) + END,
    )


def around_within(gap: TextGap, count: int) -> str:
    """Return the header, the `count` notes nearest to the gap in order of time, and the gap."""
    near = sorted(range(len(gap.around)), key=lambda i: gap.around[i][0])[:count]
    return gap.header + "".join(gap.around[i][1] for i in sorted(near)) + gap.gap


@dataclass(frozen=True, slots=True)
class Parsed:
    """The notes of each cell, and the numbers of lines and of valid lines."""

    fills: tuple[tuple[Note, ...], ...]
    lines: int
    valid: int


def parse_fill(text: str, item: EvaluationItem) -> Parsed:
    """Parse a model's text after FILL; a line is valid if it has the format and its note is in the gap.

    Onsets and end_s are rounded to the grid, so that notes compare with the original.
    """
    score, cells = item.context.score, item.prompt.cells
    start_s = score.seconds(_span(cells)[0])
    fills: list[list[Note]] = [[] for _ in cells]
    lines = [line for line in text.split(END)[0].split("\n") if line.strip()]
    valid = 0
    for line in lines:
        match = _LINE.fullmatch(line.strip())
        if not match:
            continue
        onset_s, pitch, velocity = start_s + float(match[2]), int(match[3]), int(match[5])
        onset = _step_at(score, onset_s)
        cell = _cell(cells, LETTERS.find(match[1]), onset, pitch)
        if cell is None or not 1 <= velocity <= 127:
            continue
        end = max(onset + 1, _step_at(score, onset_s + float(match[4])))
        fills[cell].append(Note(onset, end - onset, pitch, velocity))
        valid += 1
    return Parsed(tuple(tuple(sorted(set(fill))) for fill in fills), len(lines), valid)


def _step_at(score: Score, second: float) -> int:
    """Return the step of the grid nearest to a time."""
    after = bisect_left(range(_LONGEST_STEPS), second, key=score.seconds)
    return min((max(0, after - 1), after), key=lambda step: abs(score.seconds(step) - second))


def _cell(cells: Sequence[GridCell], track: int, onset: int, pitch: int) -> int | None:
    note = Note(onset, 1, pitch, 1)
    return next((i for i, cell in enumerate(cells) if cell.track == track and cell.contains(note)), None)


def _line(score: Score, track: int, note: Note, start_s: float) -> str:
    onset = score.seconds(note.onset)
    return (
        f"{LETTERS[track]} {onset - start_s:.2f} {note.pitch} {score.seconds(note.end) - onset:.2f} {note.velocity}\n"
    )


def _span(cells: Sequence[GridCell]) -> tuple[int, int]:
    return min(cell.start for cell in cells), max(cell.end for cell in cells)
