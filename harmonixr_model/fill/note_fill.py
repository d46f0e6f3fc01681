"""Note fill: the model replaces the region's notes, or writes a new track."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harmonixr_model.fill.grid_cells import region_cell
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note, Track
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import EditedSong, splice
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.grid import in_ticks

# The header of a cell, and the fewest tokens to expect for its notes.
_CELL_TOKENS, _LEAST_NOTES_TOKENS = 6, 24


@dataclass(frozen=True, slots=True)
class NoteFill:
    """The method that replaces whole notes."""

    song: Song
    region: Region
    new_track: Track | None = None

    def select_cells(self, cells: Sequence[GridCell]) -> tuple[GridCell, ...]:
        """Return all cells."""
        return tuple(cells)

    def expected_lengths(self, context: EncodedScore, cells: Sequence[GridCell]) -> dict[GridCell, int]:
        """Return the expected tokens of each cell, estimated from the other bars of its track."""
        by_track = {track: _CELL_TOKENS + _tokens_of_a_full_bar(context, track) for track in {c.track for c in cells}}
        return {cell: by_track[cell.track] for cell in cells}

    def expected_fill_length(self, context: EncodedScore, cells: Sequence[GridCell]) -> int:
        """Return the expected tokens of the fill of these cells."""
        return sum(self.expected_lengths(context, cells).values())

    def in_ticks(self, cell: GridCell, notes: Sequence[Note]) -> list[Note]:
        """Return a cell's grid notes in the song's ticks, with onsets inside the region."""
        per_quarter = self.song.score.ticks_per_quarter
        bounds = region_cell(self.region, cell, per_quarter)
        placed = []
        for note in notes:
            start, end = in_ticks(note, per_quarter)
            onset = min(max(start, bounds.start), bounds.end - 1)
            placed.append(Note(onset, max(end - onset, 1), note.pitch, note.velocity))
        return placed

    def insert(self, fills: Iterable[tuple[GridCell, Sequence[Note]]]) -> EditedSong:
        """Return the song with the region's notes replaced by those of the filled cells."""
        notes: dict[int, list[Note]] = defaultdict(list)
        for cell, cell_notes in fills:
            notes[cell.track] += self.in_ticks(cell, cell_notes)
        count = len(self.song.score.tracks)
        added = notes.pop(count, [])
        return splice(
            self.song,
            replace(self.region, cells=tuple(cell for cell in self.region.cells if cell.track < count)),
            notes,
            new_tracks=[replace(self.new_track, notes=tuple(added))] if self.new_track else [],
        )


def _tokens_of_a_full_bar(context: EncodedScore, track: int) -> int:
    """Return the 80th percentile of a track's tokens in the bars that have notes."""
    lengths = sorted(len(run) for bar in context.score.bars if (run := context.run(track, bar)))
    return max(_LEAST_NOTES_TOKENS, lengths[len(lengths) * 4 // 5] if lengths else 0)
