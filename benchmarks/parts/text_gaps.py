"""Gaps and answers as an earlier generation wrote them: lines of text, in seconds, one note a line.

    a=0 b=drums                                  tracks by letter, with their programs
    b -0.50 36 0.12 98                           track, onset from the gap's beginning, pitch, duration, velocity
    <gap> a 0.00 2.00                            which track is asked from when to when
    <fill> a 0.00 60 0.49 86 …  <end>

Knows no model. What it cannot say: bars, beats and metre.
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
    """A item as text: a header and the notes around, nearest to the gap first, what is asked, and the answer."""

    header: str
    around: tuple[tuple[float, str], ...]
    asked: str
    answer: str


def text_of(item: EvaluationItem) -> TextGap:
    """Return a item as text; the order of `around` is how far a note is from the gap."""
    score, cells = item.context.score, item.prompt.cells
    start, end = _span(cells)
    begins, ends = score.seconds(start), score.seconds(end)
    notes = sorted((note.onset, track, note) for track, content in enumerate(score.tracks) for note in content.notes)
    around = [
        (max(begins - score.seconds(onset), score.seconds(onset) - ends, 0.0), _line(score, track, note, begins))
        for onset, track, note in notes
        if track < len(LETTERS)
    ]
    hidden = sorted(
        (note.onset, cell.track, note) for cell, answer in zip(cells, item.original, strict=True) for note in answer
    )
    sounds = " ".join(
        f"{LETTERS[track]}={'drums' if content.is_drum else content.program}"
        for track, content in enumerate(score.tracks[: len(LETTERS)])
    )
    asked = "".join(LETTERS[track] for track in sorted({cell.track for cell in cells}))
    return TextGap(
        header=sounds + "\n",
        around=tuple(around),
        asked=f"{GAP} {asked} 0.00 {ends - begins:.2f}\n{FILL}",
        answer="".join(_line(score, track, note, begins) for _, track, note in hidden) + END,
    )


def around_within(gap: TextGap, count: int) -> str:
    """Return header, the `count` notes nearest to the gap in order of time, and what is asked."""
    near = sorted(range(len(gap.around)), key=lambda i: gap.around[i][0])[:count]
    return gap.header + "".join(gap.around[i][1] for i in sorted(near)) + gap.asked


@dataclass(frozen=True, slots=True)
class Parsed:
    """Notes cell by cell, and of how many lines how many said a note of the gap."""

    fills: tuple[tuple[Note, ...], ...]
    lines: int
    valid: int


def parse_fill(text: str, item: EvaluationItem) -> Parsed:
    """Read what a model wrote after FILL; a line is valid where it is of the form and its note lies in the gap.

    Onsets and ends go to the nearest step of the grid, so that notes compare with those of the answer.
    """
    score, cells = item.context.score, item.prompt.cells
    begins = score.seconds(_span(cells)[0])
    fills: list[list[Note]] = [[] for _ in cells]
    lines = [line for line in text.split(END)[0].split("\n") if line.strip()]
    valid = 0
    for line in lines:
        said = _LINE.fullmatch(line.strip())
        if not said:
            continue
        onset_s, pitch, velocity = begins + float(said[2]), int(said[3]), int(said[5])
        onset = _step_at(score, onset_s)
        cell = _cell(cells, LETTERS.find(said[1]), onset, pitch)
        if cell is None or not 1 <= velocity <= 127:
            continue
        end = max(onset + 1, _step_at(score, onset_s + float(said[4])))
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


def _line(score: Score, track: int, note: Note, begins: float) -> str:
    onset = score.seconds(note.onset)
    return f"{LETTERS[track]} {onset - begins:.2f} {note.pitch} {score.seconds(note.end) - onset:.2f} {note.velocity}\n"


def _span(cells: Sequence[GridCell]) -> tuple[int, int]:
    return min(cell.start for cell in cells), max(cell.end for cell in cells)
