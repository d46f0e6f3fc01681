"""The retrieval baseline: the training passage, in any key, whose surroundings are most similar to the gap's.

The training pieces are read once. The search uses the context only, never the original.
"""

# F features of a bar, K keys, P positions of a training track

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.music.score import Bar, Note, Score
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell

SLOTS = 8
CONTEXT_BARS = 2  # compared on each side
_FEATURES = SLOTS * 12
_KEYS = range(-5, 7)

Array = npt.NDArray[np.float32]


@dataclass(slots=True)
class _Query:
    """One track of one item: the surroundings of its gap in every key, and the most similar passage so far."""

    item: EvaluationItem
    track: int
    first: int
    bars: int
    steps: int
    pitch: float
    around_KF: Array
    score: float = 0.0
    notes: tuple[tuple[Note, ...], ...] = ()


def retrieve(items: Sequence[EvaluationItem], training: Iterable[Score]) -> dict[int, list[tuple[Note, ...]]]:
    """Return a fill for each item, by item number.

    Each track of the gap is searched separately, drums among drums. Surroundings are the CONTEXT_BARS bars before and
    after, as the pitch classes that start in each eighth of a bar; the similarity is their cosine in all twelve keys.
    A track with silent surroundings stays empty.
    """
    queries = [query for item in items for query in _queries(item)]
    groups: dict[tuple[int, int, bool], list[_Query]] = defaultdict(list)
    for query in queries:
        groups[query.bars, query.steps, query.item.context.tracks[query.track].is_drum].append(query)
    for score in training:
        _search(EncodedScore(score), groups)
    found = {(query.item.number, query.track): query for query in queries}
    return {
        item.number: [_retrieved(item, cell, found.get((item.number, cell.track))) for cell in item.prompt.cells]
        for item in items
    }


def _queries(item: EvaluationItem) -> Iterable[_Query]:
    for track in sorted({cell.track for cell in item.prompt.cells}):
        bars = [item.bar_of(cell).index for cell in item.prompt.cells if cell.track == track]
        first, count = min(bars), max(bars) - min(bars) + 1
        features = bar_features(item.context, track, item.bars)
        around = _around(features, count)[first]
        if around.any():
            is_drum = item.context.tracks[track].is_drum
            keys = [0] if is_drum else _KEYS
            steps = item.bars[first].end - item.bars[first].start
            transposed = np.stack([np.roll(around.reshape(-1, SLOTS, 12), key, axis=2).reshape(-1) for key in keys])
            pitches = [note.pitch for note in item.context.tracks[track].notes]
            transposed /= np.linalg.norm(around)
            yield _Query(item, track, first, count, steps, float(np.mean(pitches)), transposed)


def bar_features(score: EncodedScore, track: int, bars: Sequence[Bar]) -> Array:
    """Return the pitch classes that a track starts in each eighth of each bar, float32 [bars, F]."""
    features = np.zeros((len(bars), SLOTS, 12), dtype=np.float32)
    for bar in bars:
        for note in score.notes(track, bar.start, bar.end):
            slot = (note.onset - bar.start) * SLOTS // (bar.end - bar.start)
            features[bar.index, slot, note.pitch % 12] = 1
    return features.reshape(len(bars), _FEATURES)


def _around(features: Array, count: int) -> Array:
    """Return the surroundings of a gap of `count` bars at each bar, float32 [bars, 2 * CONTEXT_BARS * F]."""
    bars = len(features)
    padded = np.zeros((bars + count + 2 * CONTEXT_BARS, _FEATURES), dtype=np.float32)
    padded[CONTEXT_BARS : CONTEXT_BARS + bars] = features
    sides = [*range(CONTEXT_BARS), *range(CONTEXT_BARS + count, 2 * CONTEXT_BARS + count)]
    return np.concatenate([padded[side : side + bars] for side in sides], axis=1)


def _search(score: EncodedScore, groups: dict[tuple[int, int, bool], list[_Query]]) -> None:
    bars = score.score.bars_until(score.end)
    lengths = np.array([bar.end - bar.start for bar in bars])
    for number, track in enumerate(score.tracks):
        features = bar_features(score, number, bars) if track.notes else None
        for (count, steps, is_drum), queries in groups.items():
            if features is not None and track.is_drum == is_drum and len(bars) > count:
                _compare(score, number, bars, features=features, fits=lengths == steps, queries=queries)


def _compare(
    score: EncodedScore,
    track: int,
    bars: Sequence[Bar],
    *,
    features: Array,
    fits: npt.NDArray[np.bool_],
    queries: Sequence[_Query],
) -> None:
    """Update each query with the best position of this track, if it is better than the one found before."""
    count = queries[0].bars
    plays = features.max(axis=1) > 0
    # The passage must be inside the piece and must have notes.
    has_notes = np.array([plays[at : at + count].any() for at in range(len(bars) - count + 1)])
    around = _around(features, count)[: len(has_notes)]
    norms = np.linalg.norm(around, axis=1)
    usable: npt.NDArray[np.bool_] = has_notes & fits[: len(has_notes)] & (norms > 0)
    if not usable.any():
        return
    positions = np.flatnonzero(usable)
    scores = np.concatenate([query.around_KF for query in queries]) @ (around[positions] / norms[positions, None]).T
    keys = len(queries[0].around_KF)
    for query, scores_KP in zip(queries, scores.reshape(len(queries), keys, -1), strict=True):
        key, position = np.unravel_index(int(scores_KP.argmax()), scores_KP.shape)
        if scores_KP[key, position] > query.score + 1e-6:
            query.score = float(scores_KP[key, position])
            # The transposed query matched, so the passage is transposed back.
            query.notes = _passage(
                score,
                track,
                bars[positions[position] : positions[position] + count],
                shift=-_KEYS[int(key)] if keys > 1 else 0,
                pitch=query.pitch if keys > 1 else None,
            )


def _passage(
    score: EncodedScore, track: int, bars: Sequence[Bar], *, shift: int, pitch: float | None
) -> tuple[tuple[Note, ...], ...]:
    """Return the notes of some bars relative to their bar, transposed by `shift` and to the octave around `pitch`."""
    if pitch is not None:
        mean = float(np.mean([note.pitch for note in score.notes(track, bars[0].start, bars[-1].end)]))
        shift += 12 * round((pitch - mean - shift) / 12)
    return tuple(
        tuple(
            note._replace(onset=note.onset - bar.start, pitch=note.pitch + shift)
            for note in score.notes(track, bar.start, bar.end)
            if 0 <= note.pitch + shift <= 127
        )
        for bar in bars
    )


def _retrieved(item: EvaluationItem, cell: GridCell, query: _Query | None) -> tuple[Note, ...]:
    """Return the retrieved notes of the cell's bar that are in the cell and not in the context."""
    if query is None or not query.notes:
        return ()
    here = item.bar_of(cell)
    visible = {(note.onset, note.pitch) for note in item.context.notes(cell.track, cell.start, cell.end)}
    notes = (note._replace(onset=note.onset + here.start) for note in query.notes[here.index - query.first])
    return tuple(note for note in notes if cell.contains(note) and (note.onset, note.pitch) not in visible)
