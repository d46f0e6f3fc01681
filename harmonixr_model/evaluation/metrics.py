"""Measures that compare a fill with the human original. Each is a ratio, so that gaps and pieces add up.

Notes are on the grid of 24 steps a quarter.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import GridCell

_SIXTEENTH = 6
Fills = Sequence[Sequence[Note]]  # the notes of each cell of a gap
Tracks = Mapping[int, Sequence[Note]]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A part of a whole; ratios of several gaps add up."""

    part: float = 0.0
    whole: float = 0.0

    def __add__(self, other: Ratio) -> Ratio:
        return Ratio(self.part + other.part, self.whole + other.whole)

    @property
    def value(self) -> float:
        """The part divided by the whole; NaN if the whole is 0."""
        return self.part / self.whole if self.whole else math.nan


def compare(
    cells: Sequence[GridCell], original: Fills, fill: Fills, *, drums: Collection[int] = ()
) -> dict[str, Ratio]:
    """Return every measure of one fill; `drums` are the numbers of the drum tracks."""
    one, two = notes_by_track(cells, original), notes_by_track(cells, fill)
    return {
        "note F1": note_f1(one, two),
        "onset F1": onset_f1(one, two),
        "chroma F1": chroma_f1(one, two, drums=drums),
        "pitch-class entropy difference": entropy_difference(one, two, drums=drums),
        "groove similarity": groove_similarity(cells, original, fill),
        "notes generated per hidden note": Ratio(sum(map(len, fill)), sum(map(len, original))),
    }


def notes_by_track(cells: Sequence[GridCell], fill: Fills) -> dict[int, list[Note]]:
    """Return a fill's notes by track, in the order of the cells; a track without notes has an empty list."""
    tracks: dict[int, list[Note]] = defaultdict(list)
    for cell, notes in zip(cells, fill, strict=True):
        tracks[cell.track] += notes
    return tracks


def note_f1(original: Tracks, fill: Tracks) -> Ratio:
    """Return the F1 of notes that agree in track, pitch and onset: mir_eval's note F1 without offsets.

    Raffel et al. 2014, mir_eval.transcription. Onsets are on the grid, so the tolerance is 0 and not 50 ms.
    """
    return f1(_events(original, lambda note: note.pitch), _events(fill, lambda note: note.pitch))


def onset_f1(original: Tracks, fill: Tracks) -> Ratio:
    """Return the F1 of the onsets of each track; a chord counts once."""
    return f1(set(_events(original, lambda note: 0)), set(_events(fill, lambda note: 0)))


def chroma_f1(original: Tracks, fill: Tracks, *, drums: Collection[int] = ()) -> Ratio:
    """Return the note F1 of pitch classes: octave errors do not count. Drums have no pitch classes."""
    one, two = ({t: notes for t, notes in side.items() if t not in drums} for side in (original, fill))
    return f1(_events(one, lambda note: note.pitch % 12), _events(two, lambda note: note.pitch % 12))


def _events(side: Tracks, kind: Callable[[Note], int]) -> list[tuple[tuple[int, int], int]]:
    return [((track, kind(note)), note.onset) for track, notes in side.items() for note in notes]


def f1(
    original: Iterable[tuple[Hashable, float]], fill: Iterable[tuple[Hashable, float]], *, within: float = 0.0
) -> Ratio:
    """Return the F1 of events (key, time) that agree in key, and in time up to `within`, as sums of counts."""
    expected, found = _times_by_key(original), _times_by_key(fill)
    matched = sum(_matches(times, found.get(key, []), within=within) for key, times in expected.items())
    return Ratio(2 * matched, sum(map(len, expected.values())) + sum(map(len, found.values())))


def _times_by_key(events: Iterable[tuple[Hashable, float]]) -> dict[Hashable, list[float]]:
    times: dict[Hashable, list[float]] = defaultdict(list)
    for key, time in sorted(events, key=lambda event: event[1]):
        times[key].append(time)
    return times


def _matches(one: Sequence[float], two: Sequence[float], *, within: float) -> int:
    """Count the pairs of a maximum one-to-one matching of sorted times; the greedy matching is a maximum one."""
    i = j = count = 0
    while i < len(one) and j < len(two):
        if abs(one[i] - two[j]) <= within:
            i, j, count = i + 1, j + 1, count + 1
        elif one[i] < two[j]:
            i += 1
        else:
            j += 1
    return count


def entropy_difference(original: Tracks, fill: Tracks, *, drums: Collection[int] = ()) -> Ratio:
    """Return the difference of the entropies of the pitch-class histograms, in bits; lower is better.

    Wu and Yang 2020, "The Jazz Transformer on the Front Line", H of section 3. Gaps with a silent side are left out.
    """
    one, two = (
        pitch_class_entropy([note for track, notes in side.items() if track not in drums for note in notes])
        for side in (original, fill)
    )
    return Ratio() if one is None or two is None else Ratio(abs(one - two), 1)


def pitch_class_entropy(notes: Sequence[Note]) -> float | None:
    """Return the entropy in bits of the pitch classes of some notes, None without notes."""
    if not notes:
        return None
    shares = np.array(list(Counter(note.pitch % 12 for note in notes).values())) / len(notes)
    return float(-(shares * np.log2(shares)).sum())


def groove_similarity(cells: Sequence[GridCell], original: Fills, fill: Fills) -> Ratio:
    """Return the share of a cell's sixteenths on which both sides start a note or neither does.

    Wu and Yang 2020, GS of section 3, between fill and original instead of between bars of one piece, and on sixteenths
    instead of 64ths of a bar.
    """
    agreeing = total = 0
    for cell, *sides in zip(cells, original, fill, strict=True):
        positions = -(-(cell.end - cell.start) // _SIXTEENTH)
        one, two = ({(note.onset - cell.start) // _SIXTEENTH for note in notes} for notes in sides)
        agreeing += positions - len(one ^ two)
        total += positions
    return Ratio(agreeing, total)


def diversity(cells: Sequence[GridCell], fills: Sequence[Fills]) -> Ratio:
    """Return 1 minus the mean note F1 between the fills of a gap; pairs of silent fills count as equal."""
    shared = [note_f1(*pair) for pair in combinations([notes_by_track(cells, fill) for fill in fills], 2)]
    return Ratio(sum(1 - ratio.value for ratio in shared if ratio.whole), len(shared))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure over many gaps with its interval, and the numbers of gaps and pieces."""

    value: float
    low: float
    high: float
    gaps: int
    pieces: int


def bootstrap(
    counted: Sequence[tuple[str, npt.ArrayLike]],
    statistic: Callable[[Array], Array],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Return a statistic of sums over gaps with a percentile bootstrap over pieces (95 %; Efron and Tibshirani 1993).

    Gaps of one piece are alike, so pieces are resampled. `counted` has (piece_id, counts) of each gap, `statistic` maps
    R sums of counts [R, ...] to values [R].
    """
    pieces: dict[str, Array] = {}
    for piece, counts in counted:
        pieces[piece] = pieces.get(piece, 0.0) + np.asarray(counts, dtype=float)
    if not pieces:
        return Estimate(math.nan, math.nan, math.nan, 0, 0)
    sums = np.stack(list(pieces.values()))
    resampled = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    value, *values = statistic(np.concatenate([sums.sum(axis=0)[None], sums[resampled].sum(axis=1)])).tolist()
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(value, float(low), float(high), len(counted), len(pieces))


def estimate(measured: Sequence[tuple[str, Ratio]], *, seed: int = 0) -> Estimate:
    """Return the sum of (piece_id, ratio) pairs as one value with its interval."""
    counted = [(piece, (ratio.part, ratio.whole)) for piece, ratio in measured if ratio.whole]
    return bootstrap(counted, lambda sums_R2: sums_R2[:, 0] / sums_R2[:, 1], seed=seed)


def margin(one: Sequence[tuple[str, Ratio]], other: Sequence[tuple[str, Ratio]]) -> Estimate:
    """Return `one` minus `other` over the same gaps; both have (piece_id, ratio) pairs in the same order."""
    counted = [
        (piece, ((ours.part, ours.whole), (theirs.part, theirs.whole)))
        for (piece, ours), (_, theirs) in zip(one, other, strict=True)
        if ours.whole and theirs.whole
    ]

    def difference(sums_R22: Array) -> Array:
        values_R2: Array = sums_R22[..., 0] / sums_R22[..., 1]
        return values_R2[:, 0] - values_R2[:, 1]

    return bootstrap(counted, difference)
