"""Similar passages: stretches of the same song whose surroundings are like the gap's, and their tokens.

The surroundings of the gap are the other tracks during the gap and all tracks just before and after it. They are
compared with the surroundings of each other place in the song. The hidden notes are not part of the context, so they
cannot influence the choice.
"""

# N notes, M notes of the surroundings, O offsets

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from harmonixr_model.music.score import Bar, Note, bar_at
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import PASSAGES
from harmonixr_model.prompt.gap import Gap

LEAST_SIMILARITY = 0.1
SURROUNDING_BARS = 4
# Each bar away from the gap counts this much less than the one before.
_FADING = 0.75

REF, MASK = VOCAB.id("REF"), VOCAB.id("MASK")


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of the song as long as the gap."""

    offset: int  # bars from the gap's first bar to its own; negative before the gap
    similarity: float  # of the surroundings, 0 to 1: the weighted F1 of their notes (track, sixteenth, pitch)


def similar_passages(gap: Gap, *, count: int = PASSAGES) -> list[Passage]:
    """Return up to `count` passages, the most similar first, then the nearest.

    A passage is within the song, has bars as long as the gap's, and has notes on the cells' tracks; at most half of the
    cells may be hidden there too.
    """
    first, last = gap.bars[0].index, gap.bars[-1].index
    offsets = np.array([o for o in range(-first, len(gap.song_bars) - last) if o != 0], dtype=np.int64)
    offsets = offsets[_fits(gap, offsets)]
    if not len(offsets):
        return []
    similarity = np.where(_has_notes(gap, offsets), _similarity(gap, offsets), -1.0)
    order = np.lexsort((np.abs(offsets), -similarity))[:count]
    return [Passage(int(offsets[i]), float(similarity[i])) for i in order if similarity[i] >= LEAST_SIMILARITY]


def passage_notes(context: EncodedScore, cell: GridCell, *, bars: Sequence[Bar], offset: int) -> tuple[Note, ...]:
    """Return the notes of the cell's track `offset` bars away, moved into the cell.

    Notes that would be outside the cell, and those that the context already has in it, are left out.
    """
    here = bar_at(bars, cell.start)
    there = bars[here.index + offset]
    present = {(note.onset, note.pitch) for note in context.notes(cell.track, cell.start, cell.end)}
    moved = (
        note._replace(onset=note.onset - there.start + here.start)
        for note in context.notes(cell.track, there.start, there.end)
    )
    return tuple(note for note in moved if cell.contains(note) and (note.onset, note.pitch) not in present)


def passage_tokens(gap: Gap, passage: Passage, *, slots: Sequence[int], room: int) -> list[int]:
    """Return REF MATCH, then for each bar with cells BARIDX and the notes of their tracks at the passage.

    Bars are numbered like the gap's; MASK marks cells that are hidden at the passage too. Bars are included from the
    first on while they fit `room` tokens; the result is empty if the first does not fit.
    """
    # MATCH is the binned similarity of the surroundings.
    tokens = [REF, VOCAB.match[min(VOCAB.match.size - 1, int(passage.similarity * VOCAB.match.size))]]
    least = len(tokens)
    for index, places in groupby(gap.cells_at, key=lambda place: place[0]):
        there = index + passage.offset
        bar_tokens = [VOCAB.bar_index.start + index - gap.bars[0].index]
        for _, track in places:
            run = gap.context.run(track, gap.song_bars[there])
            is_hidden = (there, track) in gap.cells_at
            if run or is_hidden:
                bar_tokens += (VOCAB.track.start + slots.index(track), *run, *([MASK] if is_hidden else ()))
        if len(tokens) + len(bar_tokens) > room:
            break
        tokens += bar_tokens
    return tokens if len(tokens) > least else []


def _fits(gap: Gap, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which offsets lead to bars as long as the gap's, where at most half of the cells are hidden too."""
    lengths = np.array([bar.end - bar.start for bar in gap.song_bars])
    bars, tracks = np.array(list(gap.cells_at)).T
    as_long = (lengths[bars[:, None] + offsets] == lengths[bars][:, None]).all(axis=0)
    is_hidden = np.zeros((len(lengths), tracks.max() + 1), dtype=bool)
    is_hidden[bars, tracks] = True
    also_hidden = is_hidden[bars[:, None] + offsets, tracks[:, None]].mean(axis=0)
    fits: npt.NDArray[np.bool_] = as_long & (also_hidden <= 0.5)
    return fits


def _has_notes(gap: Gap, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return at which offsets the cells' tracks have notes."""
    has_notes = np.zeros(len(offsets), dtype=bool)
    for track in {cell.track for cell in gap.cells}:
        plays = np.zeros(len(gap.song_bars), dtype=bool)
        plays[gap.context.places(track)[0]] = True
        has_notes |= plays[np.array(gap.bars_of(track))[:, None] + offsets].any(axis=0)
    return has_notes


def _similarity(gap: Gap, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return for each offset the F1 of the surroundings' notes here and there, weighted by nearness to the gap."""
    count = len(gap.song_bars)
    weight = _weights(count, gap.bars[0].index, gap.bars[-1].index)
    shift = count  # offsets run from -(count - 1)
    shared = np.zeros(2 * count + 1)
    sizes = np.zeros(2 * count + 1)
    for track in range(len(gap.context.tracks)):
        w = weight.copy()
        w[gap.bars_of(track)] = 0  # hidden cells are not compared
        near = np.flatnonzero(w)
        bar_N, key_N = gap.context.places(track)
        here_M = np.flatnonzero(w[bar_N])
        order = np.argsort(key_N, kind="stable")
        ordered = key_N[order]
        low = np.searchsorted(ordered, key_N[here_M], side="left")
        times = np.searchsorted(ordered, key_N[here_M], side="right") - low
        # Every pair of equal notes (here, there), flattened.
        there = order[np.repeat(low - np.concatenate(([0], np.cumsum(times)[:-1])), times) + np.arange(times.sum())]
        here = np.repeat(here_M, times)
        np.add.at(shared, bar_N[there] - bar_N[here] + shift, w[bar_N[here]])
        notes = np.bincount(bar_N, minlength=count).astype(float)
        sizes += (w * notes).sum()
        # Notes there, at each offset: a correlation of the weights with the bars' notes.
        for bar in near:
            sizes[shift - bar : shift - bar + count] += w[bar] * notes
    similarity: npt.NDArray[np.float64] = 2 * shared[offsets + shift] / np.maximum(sizes[offsets + shift], 1e-9)
    return np.minimum(similarity, 1.0)


def _weights(count: int, first: int, last: int) -> npt.NDArray[np.float64]:
    index = np.arange(count)
    distance = np.maximum(0, np.maximum(first - index, index - last))
    return np.where(distance <= SURROUNDING_BARS, _FADING**distance, 0.0)
