"""How a fill compares with what was there. Every measure is a ratio, so that gaps and pieces add up.

Knows nothing of models or tokens; notes are on the grid of 24 steps a quarter.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import GridCell

TOLERANCE = 0  # steps, each a 24th of a quarter (21 ms at 120): answers and fills are both on the grid
_SIXTEENTH = 6
Fills = Sequence[Sequence[Note]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A share of something: adds up over gaps, and is compared by `value`."""

    part: float = 0.0
    whole: float = 0.0

    def __add__(self, other: Ratio) -> Ratio:
        return Ratio(self.part + other.part, self.whole + other.whole)

    @property
    def value(self) -> float:
        """Part over whole; NaN of nothing."""
        return self.part / self.whole if self.whole else math.nan


def compare(cells: Sequence[GridCell], answer: Fills, fill: Fills, *, drums: Iterable[int] = ()) -> dict[str, Ratio]:
    """Return every measure of one fill; answer and fill are notes cell by cell, `drums` the tracks that are drums."""
    truth, made = _by_track(cells, answer), _by_track(cells, fill)
    return {
        "note F1": note_f1(truth, made),
        "onset F1": onset_f1(truth, made),
        "chroma F1": chroma_f1(truth, made, drums=set(drums)),
        "pitch-class entropy difference": entropy_difference(truth, made, drums=set(drums)),
        "groove similarity": groove_similarity(cells, answer, fill),
        "notes made per note hidden": Ratio(sum(map(len, fill)), sum(map(len, answer))),
    }


def note_f1(truth: Mapping[int, Sequence[Note]], made: Mapping[int, Sequence[Note]]) -> Ratio:
    """Notes that agree in track, pitch and onset (within TOLERANCE), one to one: mir_eval's note F1 without offsets.

    Raffel et al. 2014, mir_eval.transcription; here onsets are on the grid, so the tolerance is 0, not 50 ms.
    """
    return _f1(
        [((track, note.pitch), note.onset) for track, notes in truth.items() for note in notes],
        [((track, note.pitch), note.onset) for track, notes in made.items() for note in notes],
    )


def onset_f1(truth: Mapping[int, Sequence[Note]], made: Mapping[int, Sequence[Note]]) -> Ratio:
    """Times at which a track begins anything, pitches aside; a chord counts once."""
    return _f1(
        [(track, onset) for track, notes in truth.items() for onset in sorted({n.onset for n in notes})],
        [(track, onset) for track, notes in made.items() for onset in sorted({n.onset for n in notes})],
    )


def chroma_f1(
    truth: Mapping[int, Sequence[Note]], made: Mapping[int, Sequence[Note]], *, drums: Collection[int] = ()
) -> Ratio:
    """As note F1, with pitch classes for pitches: an octave away is not wrong. Drums have no pitch classes."""
    one, two = (
        [((t, note.pitch % 12), note.onset) for t, notes in side.items() if t not in drums for note in notes]
        for side in (truth, made)
    )
    return _f1(one, two)


def entropy_difference(
    truth: Mapping[int, Sequence[Note]], made: Mapping[int, Sequence[Note]], *, drums: set[int]
) -> Ratio:
    """How far the pitch-class histograms' entropies differ, in bits; gaps where either side is silent are left out.

    Wu and Yang 2020, "The Jazz Transformer on the Front Line", H of section 3; less is better.
    """
    one, two = (
        pitch_class_entropy([note for track, notes in side.items() if track not in drums for note in notes])
        for side in (truth, made)
    )
    return Ratio() if one is None or two is None else Ratio(abs(one - two), 1)


def pitch_class_entropy(notes: Sequence[Note]) -> float | None:
    """Return the entropy in bits of the pitch classes of some notes, None without any."""
    if not notes:
        return None
    shares = np.array(list(Counter(note.pitch % 12 for note in notes).values())) / len(notes)
    return float(-(shares * np.log2(shares)).sum())


def groove_similarity(cells: Sequence[GridCell], answer: Fills, fill: Fills) -> Ratio:
    """Share of sixteenths at which both begin something or both do not, cell by cell.

    Wu and Yang 2020, GS of section 3, between the fill and what was there instead of between bars of one piece, on
    sixteenths instead of 64ths of a bar.
    """
    agreeing = total = 0
    for cell, truth, made in zip(cells, answer, fill, strict=True):
        places = -(-(cell.end - cell.start) // _SIXTEENTH)
        one, two = ({(note.onset - cell.start) // _SIXTEENTH for note in side} for side in (truth, made))
        agreeing += places - len(one ^ two)
        total += places
    return Ratio(agreeing, total)


def diversity(cells: Sequence[GridCell], fills: Sequence[Fills]) -> Ratio:
    """How different several fills of one gap are: 1 less their mean note F1 with each other; two silences are alike."""
    sides = [_by_track(cells, fill) for fill in fills]
    shared = [note_f1(one, two) for one, two in combinations(sides, 2)]
    return Ratio(sum(1 - ratio.value for ratio in shared if ratio.whole), len(shared))


def _by_track(cells: Sequence[GridCell], fills: Fills) -> dict[int, list[Note]]:
    notes: dict[int, list[Note]] = defaultdict(list)
    for cell, fill in zip(cells, fills, strict=True):
        notes[cell.track] += fill
    return notes


def _f1(truth: Iterable[tuple[Hashable, int]], made: Iterable[tuple[Hashable, int]]) -> Ratio:
    """Twice the matches over all events of both sides: F1 when summed over gaps, as counts."""
    expected, given = _onsets(truth), _onsets(made)
    found = sum(matches(onsets, given.get(key, [])) for key, onsets in expected.items())
    return Ratio(2 * found, sum(map(len, expected.values())) + sum(map(len, given.values())))


def _onsets(events: Iterable[tuple[Hashable, int]]) -> dict[Hashable, list[int]]:
    onsets: dict[Hashable, list[int]] = defaultdict(list)
    for key, onset in events:
        onsets[key].append(onset)
    return {key: sorted(times) for key, times in onsets.items()}


def matches(one: Sequence[float], two: Sequence[float], *, within: float = TOLERANCE) -> int:
    """Count the pairs of a largest one-to-one matching of sorted times: on a line the greedy one is largest."""
    i = j = count = 0
    while i < len(one) and j < len(two):
        if abs(one[i] - two[j]) <= within:
            i, j, count = i + 1, j + 1, count + 1
        elif one[i] < two[j]:
            i += 1
        else:
            j += 1
    return count


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure over many gaps, with the ends of its interval and how many gaps and pieces it rests on."""

    value: float
    low: float
    high: float
    gaps: int
    pieces: int


def estimate(
    measured: Sequence[tuple[str, Ratio]], *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Sum (piece_id, ratio) pairs to one value, with a percentile bootstrap over pieces (Efron and Tibshirani 1993).

    Gaps of one piece are alike, so pieces are what is resampled.
    """
    counted = [(piece, ratio) for piece, ratio in measured if ratio.whole]
    pieces: dict[str, Ratio] = defaultdict(Ratio)
    for piece, ratio in counted:
        pieces[piece] += ratio
    if not pieces:
        return Estimate(math.nan, math.nan, math.nan, 0, 0)
    sums = np.array([(ratio.part, ratio.whole) for ratio in pieces.values()])
    drawn = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    part, whole = sums[drawn].sum(axis=1).T
    low, high = np.quantile(part / whole, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(sums[:, 0].sum() / sums[:, 1].sum()), float(low), float(high), len(counted), len(pieces))


def margin(
    one: Sequence[tuple[str, Ratio]], other: Sequence[tuple[str, Ratio]], *, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """Return by how much `one` exceeds `other` over the same gaps, with a paired bootstrap over pieces (95 %).

    Both are (piece_id, ratio) pairs in the same order.
    """
    pieces: dict[str, list[Ratio]] = defaultdict(lambda: [Ratio(), Ratio()])
    gaps = 0
    for (piece, ratio), (_, beside) in zip(one, other, strict=True):
        if ratio.whole and beside.whole:
            pieces[piece] = [pieces[piece][0] + ratio, pieces[piece][1] + beside]
            gaps += 1
    if not pieces:
        return Estimate(math.nan, math.nan, math.nan, 0, 0)
    sums = np.array([[(ratio.part, ratio.whole) for ratio in pair] for pair in pieces.values()])
    drawn = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    totals = np.concatenate([sums.sum(axis=0)[None], sums[drawn].sum(axis=1)])
    value, *boot = totals[:, 0, 0] / totals[:, 0, 1] - totals[:, 1, 0] / totals[:, 1, 1]
    low, high = np.quantile(boot, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), gaps, len(pieces))
