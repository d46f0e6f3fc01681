"""A baseline that answers from the training music: the passage, in any key, whose surroundings are most like the gap's.

The training pieces stream past the items once. Knows nothing of models, nor of the answers.
"""

# S slots of a bar, F features of a bar, Q queries, O places of a training track

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.music.score import Bar, Note, Score
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell

SLOTS = 8
BESIDE = 2  # bars on either side that are compared
_FEATURES = SLOTS * 12
_KEYS = range(-5, 7)

Array = npt.NDArray[np.float32]


@dataclass(slots=True)
class _Query:
    """One track of one item: what surrounds its gap, in every key, and the best place found so far."""

    item: EvaluationItem
    track: int
    first: int
    bars: int
    steps: int
    pitch: float
    around_KF: Array
    score: float = 0.0
    notes: tuple[tuple[Note, ...], ...] = ()


def retrieve(
    asked: Sequence[EvaluationItem],
    training: Iterable[Score],
    *,
    progress: Callable[[], None] = lambda: None,
) -> dict[int, list[tuple[Note, ...]]]:
    """Return a fill for each item by its number: what some training track plays in surroundings like the gap's.

    Each of the gap's tracks is looked for on its own, drums among drums. Surroundings are the BESIDE bars before and
    after as pitch classes struck in each eighth of a bar, compared by cosine in all twelve keys. A track that shows
    nothing there stays empty.
    """
    queries = [query for item in asked for query in _queries(item)]
    groups: dict[tuple[int, int, bool], list[_Query]] = defaultdict(list)
    for query in queries:
        groups[query.bars, query.steps, query.item.context.tracks[query.track].is_drum].append(query)
    for score in training:
        _search(EncodedScore(score), groups)
        progress()
    found = {(query.item.number, query.track): query for query in queries}
    return {q.number: [_moved(q, cell, found.get((q.number, cell.track))) for cell in q.prompt.cells] for q in asked}


def _queries(item: EvaluationItem) -> Iterable[_Query]:
    for track in sorted({cell.track for cell in item.prompt.cells}):
        cells = [cell for cell in item.prompt.cells if cell.track == track]
        bars = [bar for bar in item.bars if any(bar.start <= cell.start < bar.end for cell in cells)]
        first, count = bars[0].index, bars[-1].index - bars[0].index + 1
        features = bar_features(item.context, track, item.bars)
        around = _around(features, count)[first]
        if around.any():
            is_drum = item.context.tracks[track].is_drum
            keys = [0] if is_drum else _KEYS
            steps = bars[0].end - bars[0].start
            turned = np.stack([np.roll(around.reshape(-1, SLOTS, 12), key, axis=2).reshape(-1) for key in keys])
            pitches = [note.pitch for note in item.context.tracks[track].notes]
            yield _Query(item, track, first, count, steps, float(np.mean(pitches)), turned / np.linalg.norm(turned[0]))


def bar_features(score: EncodedScore, track: int, bars: Sequence[Bar]) -> Array:
    """Return which pitch classes a track strikes in which eighth of each bar, float32 [bars, F]."""
    features = np.zeros((len(bars), SLOTS, 12), dtype=np.float32)
    for bar in bars:
        for note in score.notes(track, bar.start, bar.end):
            slot = (note.onset - bar.start) * SLOTS // (bar.end - bar.start)
            features[bar.index, slot, note.pitch % 12] = 1
    return features.reshape(len(bars), _FEATURES)


def _around(features: Array, count: int) -> Array:
    """Return for each bar what surrounds a gap of `count` bars that begins there, float32 [bars, 2 * BESIDE * F]."""
    bars = len(features)
    padded = np.zeros((bars + count + 2 * BESIDE, _FEATURES), dtype=np.float32)
    padded[BESIDE : BESIDE + bars] = features
    sides = [*range(BESIDE), *range(BESIDE + count, 2 * BESIDE + count)]
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
    """Keep for each query the best place of this track, where it is better than what was found before."""
    count = queries[0].bars
    plays = features.max(axis=1) > 0
    # Somewhere in the passage the track must play, and the passage must lie within the piece.
    shows = np.array([plays[at : at + count].any() for at in range(len(bars) - count + 1)])
    around = _around(features, count)[: len(shows)]
    norms = np.linalg.norm(around, axis=1)
    usable: npt.NDArray[np.bool_] = shows & fits[: len(shows)]
    usable &= norms > 0
    if not usable.any():
        return
    places = np.flatnonzero(usable)
    scores = np.concatenate([query.around_KF for query in queries]) @ (around[places] / norms[places, None]).T
    keys = len(queries[0].around_KF)
    for query, scores_KO in zip(queries, scores.reshape(len(queries), keys, -1), strict=True):
        key, place = np.unravel_index(int(scores_KO.argmax()), scores_KO.shape)
        if scores_KO[key, place] > query.score + 1e-6:
            query.score = float(scores_KO[key, place])
            # The query was turned by `key` to match: the passage is turned back.
            query.notes = _taken(
                score,
                track,
                bars[places[place] : places[place] + count],
                shift=-_KEYS[int(key)] if keys > 1 else 0,
                pitch=query.pitch if keys > 1 else None,
            )


def _taken(
    score: EncodedScore, track: int, bars: Sequence[Bar], *, shift: int, pitch: float | None
) -> tuple[tuple[Note, ...], ...]:
    """Return the notes of some bars, onsets counted from their bar, transposed into the octave around `pitch`."""
    if pitch is not None:
        there = float(np.mean([note.pitch for note in score.notes(track, bars[0].start, bars[-1].end)]))
        shift += 12 * round((pitch - there - shift) / 12)
    return tuple(
        tuple(
            note._replace(onset=note.onset - bar.start, pitch=note.pitch + shift)
            for note in score.notes(track, bar.start, bar.end)
            if 0 <= note.pitch + shift <= 127
        )
        for bar in bars
    )


def _moved(item: EvaluationItem, cell: GridCell, query: _Query | None) -> tuple[Note, ...]:
    """Return what was found for the cell's bar, less what lies outside the cell or is there."""
    if query is None or not query.notes:
        return ()
    here = next(bar for bar in item.bars if bar.start <= cell.start < bar.end)
    kept = {(note.onset, note.pitch) for note in item.context.notes(cell.track, cell.start, cell.end)}
    notes = (note._replace(onset=note.onset + here.start) for note in query.notes[here.index - query.first])
    return tuple(note for note in notes if cell.contains(note) and (note.onset, note.pitch) not in kept)
