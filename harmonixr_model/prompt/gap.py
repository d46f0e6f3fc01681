"""The gap of a prompt: its cells in fill order, with the bars and tracks of the song."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from harmonixr_model.errors import PromptError
from harmonixr_model.music.score import Bar, bar_at
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.vocabulary import MAX_TRACKS, VOCAB

MAX_GAP_BARS = VOCAB.bar_index.size


@dataclass(frozen=True, slots=True)
class Gap:
    """What a prompt hides of a song. `context` is the song without the notes to fill."""

    context: EncodedScore
    song_bars: tuple[Bar, ...]
    cells: tuple[GridCell, ...]  # in fill order: bars outer, tracks inner
    cell_bars: tuple[Bar, ...]  # the bar of each cell
    cells_at: dict[tuple[int, int], list[GridCell]]  # the cells by (bar index, track)

    @property
    def bars(self) -> tuple[Bar, ...]:
        """The bars from the first to the last that has a cell."""
        return self.song_bars[self.cell_bars[0].index : self.cell_bars[-1].index + 1]

    def bars_of(self, track: int) -> list[int]:
        """Return the indices of the bars in which a track has cells."""
        return [bar for bar, other in self.cells_at if other == track]

    def choose_slots(self) -> tuple[int, ...]:
        """Return the tracks that get a TRACK token, in file order: those with cells first, then others with notes."""
        chosen = {cell.track for cell in self.cells}
        if len(chosen) > MAX_TRACKS:
            raise PromptError(f"the gap spans {len(chosen)} tracks, one prompt holds {MAX_TRACKS}; fill it in parts")
        others = [track for track, content in enumerate(self.context.tracks) if content.notes and track not in chosen]
        return tuple(sorted([*chosen, *others[: MAX_TRACKS - len(chosen)]]))


def open_gap(context: EncodedScore, cells: Sequence[GridCell]) -> Gap:
    """Return the gap of these cells; raises PromptError where a cell is not valid."""
    if not cells:
        raise PromptError("nothing is to be filled; give at least one cell")
    for cell in cells:
        if not 0 <= cell.track < len(context.tracks):
            raise PromptError(f"a cell names track {cell.track + 1}; the score has {len(context.tracks)} tracks")
        if not 0 <= cell.start < cell.end or not 0 <= cell.low <= cell.high <= 127:
            raise PromptError(f"{cell} is empty or out of range; give 0 <= start < end and 0 <= low <= high <= 127")
        if cell.field and not cell.known:
            raise PromptError(f"{cell} has no notes whose {cell.field} could change; leave it out")
    song_bars = context.score.bars_until(max(context.end, max(cell.end for cell in cells)))
    ordered = sorted(cells, key=lambda cell: (bar_at(song_bars, cell.start).index, cell.track, cell.start))
    cell_bars = tuple(bar_at(song_bars, cell.start) for cell in ordered)
    cells_at: dict[tuple[int, int], list[GridCell]] = {}
    for cell, bar in zip(ordered, cell_bars, strict=True):
        if cell.end > bar.end:
            raise PromptError(f"{cell} crosses a barline; split it with split_at_bars")
        cells_at.setdefault((bar.index, cell.track), []).append(cell)
    for one, two in pairwise(ordered):
        if one.track == two.track and two.start < one.end and one.start < two.end:
            raise PromptError(f"{one} and {two} overlap; merge them")
    gap = Gap(context, song_bars, tuple(ordered), cell_bars, cells_at)
    if len(gap.bars) > MAX_GAP_BARS:
        raise PromptError(f"the gap spans {len(gap.bars)} bars, one prompt holds {MAX_GAP_BARS}; fill it in parts")
    return gap
