"""Decided cells of a fill as notes, for clients that show them while the model decodes the rest."""

from __future__ import annotations

from harmonixr_model.engine.request import CellFinished, notes_of
from harmonixr_model.fill.method import notes_in_ticks
from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
from harmonixr_model.notes.grid import to_tick
from harmonixr_model.prompt.layout import InfillPrompt
from harmonixr_platform.schemas import InfillBar
from harmonixr_platform.serving.infill.session_cache import placed_note


class BarReader:
    """Converts the cells of one request."""

    def __init__(self, song: Song, region: Region) -> None:
        self._song = song
        self._region = region
        self._bars = song.score.bars_until(max(song.score.end, region.end))

    def read(self, prompt: InfillPrompt, event: CellFinished, *, candidate: int, seed: int) -> InfillBar:
        """Return a decided cell as notes in the song's ticks, each of them inside the region's cell."""
        cell, score = prompt.cells[event.cell], self._song.score
        notes = notes_in_ticks(self._song, self._region, prompt, event.cell, notes_of(prompt, event))
        start = to_tick(cell.start, score.ticks_per_quarter)
        bar = next(bar for bar in reversed(self._bars) if bar.start <= start)
        placed = tuple(placed_note(score, cell.track, note) for note in notes)
        return InfillBar(seed=seed, candidate=candidate, bar=bar.index + 1, track=cell.track + 1, notes=placed)
