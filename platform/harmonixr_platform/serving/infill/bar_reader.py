"""Cells that a model has decided, as notes to draw while the rest is still being made. Knows no model and no HTTP."""

from __future__ import annotations

from harmonixr_model.engine.request import CellFinished, notes_of
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_model.notes.grid import to_tick
from harmonixr_model.prompt.layout import InfillPrompt
from harmonixr_platform.schemas import InfillBar
from harmonixr_platform.serving.infill.sessions import placed_note


class BarReader:
    """Reads the cells of one request."""

    def __init__(self, song: Song, region: Region) -> None:
        self._score = song.score
        self._region = region
        self._bars = song.score.bars_until(max(song.score.end, region.end))

    def read(self, prompt: InfillPrompt, event: CellFinished, *, candidate: int, seed: int) -> InfillBar:
        """Return a decided cell in the song's ticks, each note inside the region's cell."""
        cell = prompt.cells[event.cell]
        start, end = self._bounds(cell.track, cell.start, cell.end)
        notes = [self._in_ticks(note, start, end) for note in notes_of(prompt, event)]
        bar = next(bar for bar in reversed(self._bars) if bar.start <= start)
        placed = tuple(placed_note(self._score, cell.track, note) for note in notes)
        return InfillBar(seed=seed, candidate=candidate, bar=bar.index + 1, track=cell.track + 1, notes=placed)

    def _bounds(self, track: int, first_step: int, end_step: int) -> tuple[int, int]:
        per_quarter = self._score.ticks_per_quarter
        start, end = to_tick(first_step, per_quarter), to_tick(end_step, per_quarter)
        for cell in self._region.cells:
            # A step is wider than a tick: a cell's first step may begin before it.
            if cell.track == track and cell.start < end and start < cell.end:
                return max(start, cell.start), min(end, cell.end)
        return start, end

    def _in_ticks(self, note: Note, start: int, end: int) -> Note:
        per_quarter = self._score.ticks_per_quarter
        onset = min(max(to_tick(note.onset, per_quarter), start), end - 1)
        return Note(onset, max(to_tick(note.end, per_quarter) - onset, 1), note.pitch, note.velocity)
