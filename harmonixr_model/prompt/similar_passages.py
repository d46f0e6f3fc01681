"""Song-wide memory: passages of the same song that stand in surroundings like the gap's.

What is compared is what surrounds the gap — the other tracks while it lasts, every track just before and after — with
what surrounds each other place of the song. The hidden notes are no part of the context and so never of the choice.
Knows nothing of models; says passages as tokens, aligned with the gap's bars.
"""

# N notes, M notes of the surroundings, O offsets

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from harmonixr_model.music.score import Bar, Note
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import PASSAGES

LEAST_SIMILARITY = 0.1
SURROUNDING_BARS = 4
# Each bar away from the gap counts this much less than the one before.
_FADING = 0.75

REF, MASK = VOCAB.id("REF"), VOCAB.id("MASK")


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of the song as long as the gap.

    Attributes:
        offset: bars from the gap's first bar to its own; negative before the gap.
        similarity: how alike the surroundings are, 0 to 1: the weighted F1 of their notes (track, sixteenth, pitch).
    """

    offset: int
    similarity: float


def similar_passages(
    context: EncodedScore, cells: Sequence[GridCell], bars: Sequence[Bar], *, count: int = PASSAGES
) -> list[Passage]:
    """Return up to `count` passages, the most alike first; of equals the nearest.

    A passage has bars as long as the gap's, lies within the song, and shows something where the cells are; half of
    the cells, at most, may be hidden there too.

    Args:
        context: the song without what is hidden.
        cells: what is hidden, in fill order.
        bars: the song's bars.
        count: at most so many.
    """
    starts = np.array([bar.start for bar in bars])
    cell_bars = np.searchsorted(starts, [cell.start for cell in cells], side="right") - 1
    first, last = int(cell_bars[0]), int(cell_bars[-1])
    offsets = np.array([o for o in range(-first, len(bars) - last) if o != 0], dtype=np.int64)
    offsets = offsets[_fits(offsets, cells, cell_bars, bars)]
    if not len(offsets):
        return []
    similarity = _similarity(context, offsets, cells=cells, cell_bars=cell_bars, starts=starts)
    shows = _shows(context, offsets, cells=cells, cell_bars=cell_bars, bars=bars)
    order = np.lexsort((np.abs(offsets), -np.where(shows, similarity, -1.0)))[:count]
    found = [Passage(int(offsets[i]), float(similarity[i])) for i in order if shows[i]]
    return [passage for passage in found if passage.similarity >= LEAST_SIMILARITY]


def passage_notes(context: EncodedScore, cell: GridCell, *, bars: Sequence[Bar], offset: int) -> tuple[Note, ...]:
    """Return what the cell's track plays `offset` bars away, moved into the cell.

    Notes that lie outside the cell there, and those the context has in it already, are left out.
    """
    here = bars[_bar_of(bars, cell.start)]
    there = bars[here.index + offset]
    kept = {(note.onset, note.pitch) for note in context.notes(cell.track, cell.start, cell.end)}
    moved = (
        note._replace(onset=note.onset - there.start + here.start)
        for note in context.notes(cell.track, there.start, there.end)
    )
    return tuple(note for note in moved if cell.contains(note) and (note.onset, note.pitch) not in kept)


def passage_tokens(
    context: EncodedScore,
    passage: Passage,
    cells: Sequence[GridCell],
    *,
    bars: Sequence[Bar],
    slots: Sequence[int],
    room: int,
) -> list[int]:
    """Return REF MATCH, then for each bar with cells BARIDX and what their tracks play at the passage.

    Bars are numbered as the gap's; MASK stands where the passage is hidden too. As many bars are said as `room`
    tokens hold, from the first on; none if it does not hold one.
    """
    hidden = {(_bar_of(bars, cell.start), cell.track) for cell in cells}
    first_bar = min(hidden)[0]
    # MATCH says in steps how alike the surroundings are.
    tokens = [REF, VOCAB.match[min(len(VOCAB.match) - 1, int(passage.similarity * len(VOCAB.match)))]]
    least = len(tokens)
    for index, places in groupby(sorted(hidden), key=lambda place: place[0]):
        there = index + passage.offset
        said = [VOCAB.bar_index.start + index - first_bar]
        for _, track in places:
            run = context.run(track, bars[there])
            is_hidden = (there, track) in hidden
            if run or is_hidden:
                said += (VOCAB.track.start + slots.index(track), *run, *([MASK] if is_hidden else ()))
        if len(tokens) + len(said) > room:
            break
        tokens += said
    return tokens if len(tokens) > least else []


def _bar_of(bars: Sequence[Bar], step: int) -> int:
    return bisect_right(bars, step, key=lambda bar: bar.start) - 1


def _fits(
    offsets: npt.NDArray[np.int64],
    cells: Sequence[GridCell],
    cell_bars: npt.NDArray[np.intp],
    bars: Sequence[Bar],
) -> npt.NDArray[np.bool_]:
    """Say which offsets lead to bars as long as the gap's, where less than half of the cells are hidden as well."""
    lengths = np.array([bar.end - bar.start for bar in bars])
    gap = np.unique(cell_bars)
    as_long = (lengths[gap[:, None] + offsets] == lengths[gap][:, None]).all(axis=0)
    places = {(cell.track, int(bar)) for cell, bar in zip(cells, cell_bars, strict=True)}
    index = np.zeros((max(cell.track for cell in cells) + 1, len(bars)), dtype=bool)
    tracks, where = np.array(sorted(places)).T
    index[tracks, where] = True
    also_hidden = index[tracks[:, None], where[:, None] + offsets].mean(axis=0)
    fits: npt.NDArray[np.bool_] = as_long & (also_hidden <= 0.5)
    return fits


def _shows(
    context: EncodedScore,
    offsets: npt.NDArray[np.int64],
    *,
    cells: Sequence[GridCell],
    cell_bars: npt.NDArray[np.intp],
    bars: Sequence[Bar],
) -> npt.NDArray[np.bool_]:
    """Say at which offsets the cells' tracks play anything."""
    shows = np.zeros(len(offsets), dtype=bool)
    for track in {cell.track for cell in cells}:
        at = np.unique(cell_bars[[cell.track == track for cell in cells]])
        plays = np.zeros(len(bars), dtype=bool)
        plays[context.places(track)[0]] = True
        shows |= plays[at[:, None] + offsets].any(axis=0)
    return shows


def _similarity(
    context: EncodedScore,
    offsets: npt.NDArray[np.int64],
    *,
    cells: Sequence[GridCell],
    cell_bars: npt.NDArray[np.intp],
    starts: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return for each offset the F1 of the surroundings' notes here and there, weighted by nearness to the gap."""
    count = len(starts)
    weight = _weights(count, int(cell_bars[0]), int(cell_bars[-1]))
    shift = count  # offsets run from -(count - 1)
    shared = np.zeros(2 * count + 1)
    sizes = np.zeros(2 * count + 1)
    for track in range(len(context.tracks)):
        w = weight.copy()
        w[cell_bars[[cell.track == track for cell in cells]]] = 0  # what is hidden is compared with nothing
        near = np.flatnonzero(w)
        bar_N, key_N = context.places(track)
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
