"""Musical features of a fill in its context: pitch relative to the key, rhythm relative to the bars around.

They are computed from the tokens of prompt and fill, the input of the model.
"""

# N notes, F features

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harmonixr_model.notes.vocabulary import DENOMINATORS, DURATIONS, NUMERATORS, VOCAB, velocity_of
from harmonixr_model.prompt.coordinates import BAR_SHIFT, REF_SHIFT
from harmonixr_model.prompt.layout import InfillLayout

_MAJOR = (0, 2, 4, 5, 7, 9, 11)
# Rhythms are compared in sixteenths; the grid has 24 steps a quarter.
_STEPS_A_SLOT, _STEPS_A_WHOLE = 6, 96
_NEAR_BARS = 4
# A pitch after one of these tokens is no new note: a bound of the pitch range, or a note held from before the gap.
_NOT_A_NOTE = frozenset(VOCAB.id(name) for name in ("LOW", "HIGH", "RANGE_LOW", "RANGE_HIGH", "HOLD"))

NAMES = (
    *(f"degree_{i}" for i in range(12)),
    *("in_heard_classes", "class_share", "class_surprise", "mean_pitch_shift", "pitch_range", "range_ratio"),
    *("mean_interval", "interval_ratio", "repeated_pitches", "seam_before", "seam_after"),
    *("rhythm_hits", "rhythm_extra", "rhythm_missing", "rhythm_likeness", "rhythm_best"),
    *("band_hits", "band_extra", "band_missing", "on_beat", "on_eighth", "on_sixteenth", "off_grid"),
    *("log_notes", "density_ratio", "notes_an_onset", "silent_cells", "duration", "duration_ratio"),
    *("velocity_shift", "velocity_spread"),
)


class _Note(NamedTuple):
    bar: int
    step: int
    slot: int
    pitch: int
    duration: int
    velocity: int


@dataclass(frozen=True, slots=True)
class _Passage:
    """The notes of a token sequence, its drum slots, and the length in steps of each bar."""

    notes: tuple[_Note, ...]
    drums: frozenset[int]
    bars: dict[int, int]


def music_features(layout: InfillLayout, fill: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return float32 [F], in the order of NAMES; means over no notes are 0."""
    context = _read(layout.prefix, layout.coordinates)
    made = _read(np.asarray(fill, dtype=np.int64), layout.fill_coordinates(fill)).notes
    values = (
        *_harmony(context, [note for note in made if note.slot not in context.drums]),
        *_contour(context, made),
        *_rhythm(layout, context, made),
        *_density_and_velocity(layout, context, made),
    )
    return np.array(values, dtype=np.float32)


def _read(tokens: npt.NDArray[np.integer], coordinates: npt.NDArray[np.int16]) -> _Passage:
    notes: list[_Note] = []
    drums: set[int] = set()
    bars: dict[int, int] = {}
    velocity = 64
    ids = [int(token) for token in tokens]
    for at, token in enumerate(ids):
        bar, step, slot = (int(value) for value in coordinates[at, :3])
        if token in VOCAB.velocity:
            velocity = velocity_of(VOCAB.velocity.index(token))
            if notes and at >= 2 and ids[at - 2] in VOCAB.pitch:
                notes[-1] = notes[-1]._replace(velocity=velocity)
        elif token == VOCAB.drums:
            drums.add(slot)
        elif token in VOCAB.time_signature:
            bars[bar - BAR_SHIFT] = _bar_steps(token)
        # Notes of similar passages are left out: they repeat the context, or are far from the gap.
        elif token in VOCAB.pitch and ids[at - 1] not in _NOT_A_NOTE and bar < REF_SHIFT:
            following = ids[at + 1] if at + 1 < len(ids) else -1
            duration = DURATIONS[VOCAB.duration.index(following)] if following in VOCAB.duration else 1
            notes.append(_Note(bar - BAR_SHIFT, step - 1, slot, VOCAB.pitch.index(token), duration, velocity))
    return _Passage(tuple(notes), frozenset(drums), bars)


def _bar_steps(token: int) -> int:
    numerator, denominator = divmod(VOCAB.time_signature.index(token), len(DENOMINATORS))
    return NUMERATORS[numerator] * _STEPS_A_WHOLE // DENOMINATORS[denominator]


def _harmony(context: _Passage, made: Sequence[_Note]) -> list[float]:
    """Return the shares of the scale's twelve degrees, and how common the fill's pitch classes are in the context."""
    counts = Counter(note.pitch % 12 for note in context.notes if note.slot not in context.drums)
    tonic = max(range(12), key=lambda t: sum(counts[(t + step) % 12] for step in _MAJOR))
    if not made:
        return [0.0] * 15
    degrees = Counter((note.pitch - tonic) % 12 for note in made)
    shares = [counts[note.pitch % 12] / max(1, counts.total()) for note in made]
    return [
        *(degrees[degree] / len(made) for degree in range(12)),
        _mean([float(share > 0) for share in shares]),
        _mean(shares),
        _mean([-math.log(share + 0.01) for share in shares]),
    ]


def _contour(context: _Passage, made: Sequence[_Note]) -> list[float]:
    """Return pitch range and movement relative to the same tracks' other bars; eight numbers."""
    if not made:
        return [0.0] * 8
    slots = {note.slot for note in made}
    own = [note for note in context.notes if note.slot in slots]
    pitches, others = [n.pitch for n in made], [n.pitch for n in own]
    steps, other_steps = _intervals(made), _intervals(own)
    before = [n for n in own if (n.bar, n.step) < (made[0].bar, made[0].step)]
    after = [n for n in own if (n.bar, n.step) > (made[-1].bar, made[-1].step)]
    spread, other_spread = _deviation(pitches), _deviation(others)
    return [
        (_mean(pitches) - _mean(others)) / 12 if others else 0.0,
        spread / 12,
        math.log((spread + 1) / (other_spread + 1)),
        _mean(steps) / 12,
        math.log((_mean(steps) + 1) / (_mean(other_steps) + 1)),
        _mean([float(step == 0) for step in steps]),
        abs(before[-1].pitch - made[0].pitch) / 12 if before else 0.0,
        abs(after[0].pitch - made[-1].pitch) / 12 if after else 0.0,
    ]


def _rhythm(layout: InfillLayout, context: _Passage, made: Sequence[_Note]) -> list[float]:
    """Return the agreement of onsets with the track's near bars and with other tracks; twelve numbers."""
    own: list[tuple[float, float, float]] = []
    best: list[float] = []
    band: list[tuple[float, float, float]] = []
    gap = _gap_cells(layout)
    last = max(bar for bar, _ in gap)
    for bar, slot in gap:
        length = context.bars.get(bar, _STEPS_A_WHOLE)
        played = _onsets(made, bar, {slot})
        near = [
            other
            for other in context.bars
            if -_NEAR_BARS <= other <= last + _NEAR_BARS and (other, slot) not in gap and context.bars[other] == length
        ]
        agreements = [
            _agreement(played, onsets, length) for other in near if (onsets := _onsets(context.notes, other, {slot}))
        ]
        own += agreements
        best += [max(1 - extra - missing for _, extra, missing in agreements)] if agreements else []
        other_slots = {note.slot for note in context.notes} - {slot}
        band.append(_agreement(played, _onsets(context.notes, bar, other_slots), length))
    hits, extra, missing = (_mean([each[i] for each in own]) for i in range(3))
    steps = [note.step for note in made]
    return [
        *(hits, extra, missing, 1 - extra - missing, _mean(best)),
        *(_mean([each[i] for each in band]) for i in range(3)),
        _mean([float(step % 24 == 0) for step in steps]),
        _mean([float(step % 24 == 12) for step in steps]),
        _mean([float(step % 12 == 6) for step in steps]),
        _mean([float(step % 6 != 0) for step in steps]),
    ]


def _density_and_velocity(layout: InfillLayout, context: _Passage, made: Sequence[_Note]) -> list[float]:
    """Return number, durations and velocities of notes relative to the tracks' other bars; eight numbers."""
    gap = _gap_cells(layout)
    slots = {slot for _, slot in gap}
    own = [note for note in context.notes if note.slot in slots]
    bars = len({(note.bar, note.slot) for note in own})
    expected = len(own) / max(1, bars) * len(gap)
    onsets = len({(n.bar, n.step, n.slot) for n in made})
    lengths, other_lengths = [math.log(n.duration) for n in made], [math.log(n.duration) for n in own]
    velocities, other_velocities = [n.velocity / 32 for n in made], [n.velocity / 32 for n in own]
    return [
        math.log(len(made) + 1),
        math.log((len(made) + 1) / (expected + 1)),
        len(made) / max(1, onsets),
        sum((bar, slot) not in {(n.bar, n.slot) for n in made} for bar, slot in gap) / len(gap),
        _mean(lengths),
        _mean(lengths) - _mean(other_lengths) if lengths and other_lengths else 0.0,
        _mean(velocities) - _mean(other_velocities) if velocities and other_velocities else 0.0,
        _deviation(velocities),
    ]


def _gap_cells(layout: InfillLayout) -> set[tuple[int, int]]:
    """Return (bar from the gap, slot coordinate) of every cell."""
    slot_of = {track: slot + 1 for slot, track in enumerate(layout.slots)}
    return {
        (header[1] - VOCAB.bar_index.start, slot_of[cell.track])
        for cell, header in zip(layout.cells, layout.headers, strict=True)
    }


def _onsets(notes: Sequence[_Note], bar: int, slots: set[int]) -> frozenset[int]:
    return frozenset(round(n.step / _STEPS_A_SLOT) for n in notes if n.bar == bar and n.slot in slots)


def _agreement(played: frozenset[int], others: frozenset[int], length: int) -> tuple[float, float, float]:
    """Return the shares of a bar's positions with onsets in both, only in the fill, only in the other."""
    positions = length / _STEPS_A_SLOT
    return len(played & others) / positions, len(played - others) / positions, len(others - played) / positions


def _intervals(notes: Sequence[_Note]) -> list[float]:
    """Return the sizes of the steps between successive onsets of a track, by its highest notes."""
    tops: dict[tuple[int, int, int], int] = {}
    for note in notes:
        key = (note.slot, note.bar, note.step)
        tops[key] = max(note.pitch, tops.get(key, 0))
    melody = sorted(tops.items())
    return [float(abs(b[1] - a[1])) for a, b in itertools.pairwise(melody) if a[0][0] == b[0][0]]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values)) if values else 0.0
