"""Estimate the key and the chords of music from its notes.

Chords are templates over beats, joined by dynamic programming: a change of chord has a cost, which is lower at the
start and the middle of a bar. `benchmarks/controls.py` measures the accuracy of both estimates.
"""

# B beats, S states: a root and a quality each

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
import numpy.typing as npt

from harmonixr_model.music.harmony import QUALITIES, Chord, Key, chord_named
from harmonixr_model.music.score import Bar, Note

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Key profiles by pitch class, from the tonic up: D. Temperley, Music and Probability (2007), table 6.1.
_PROFILES = {
    "major": (0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400),
    "minor": (0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330),
}
# The expected share of chord tones in a beat's sound, and the weight of the root among them.
_CHORD_SHARE, _ROOT_WEIGHT = 0.88, 1.3
_EVIDENCE = 6.0  # a beat counts as this many independent tones
_BASS_ROOT, _BASS_TONE, _BASS_OTHER = 0.7, 0.25, 0.05
# The cost of a change of chord at the start of a bar, at its middle, and at another beat.
_BAR, _HALF, _BEAT = 1.5, 2.5, 4.5
# Penalties of rarer qualities, as log odds against a triad.
_RARITY = {"5": 2.5, "sus2": 2.0, "sus4": 1.2, "aug": 2.5, "dim": 1.0, "dim7": 1.5, "hdim7": 0.8, "maj7": 0.6}


@dataclass(frozen=True, slots=True)
class ChordSpan:
    """A chord over [start, end), in the unit of the notes."""

    start: int
    end: int
    chord: Chord


def estimate_key(notes: Iterable[Note]) -> Key | None:
    """Return the key whose profile best matches the durations of the pitch classes; None without notes.

    The caller omits drums. The method is Krumhansl and Schmuckler's with Temperley's profiles.
    """
    weights = np.zeros(12)
    for note in notes:
        weights[note.pitch % 12] += note.duration
    if not weights.any():
        return None
    fits = _key_profiles() @ (weights - weights.mean())
    best = int(fits.argmax())
    return Key(best % 12, "major" if best < 12 else "minor")


def estimate_chords(notes: Iterable[Note], bars: Sequence[Bar], *, ticks_per_quarter: int) -> list[ChordSpan]:
    """Return the chords over consecutive bars, one span for each chord.

    A chord lasts through silence; without notes there are no chords. The caller omits drums.
    """
    beats = [edge for bar in bars for edge in _beats(bar, ticks_per_quarter)]
    if not beats:
        return []
    sound, bass = _sound(notes, np.array([start for start, _, _ in beats]), bars[-1].end)
    if not sound.any():
        return []
    path = _cheapest_path(_fit(sound, bass), np.array([cost for _, _, cost in beats]))
    runs = [list(run) for _, run in groupby(range(len(path)), key=path.__getitem__)]
    return [ChordSpan(beats[run[0]][0], beats[run[-1]][1], _states()[path[run[0]]]) for run in runs]


def _beats(bar: Bar, ticks_per_quarter: int) -> list[tuple[int, int, float]]:
    """Return (start, end, cost of a change) of a bar's felt beats, which are dotted in 6/8, 9/8 and 12/8."""
    step = max(1, ticks_per_quarter * 4 // bar.denominator)
    if bar.denominator >= 8:
        step = step * 3 if bar.numerator % 3 == 0 else max(step, ticks_per_quarter)
    edges = [*range(bar.start, bar.end, step), bar.end]
    costs = [_BAR, *[_BEAT] * (len(edges) - 2)]
    if len(costs) % 2 == 0:
        costs[len(costs) // 2] = _HALF
    return list(zip(edges, edges[1:], costs, strict=False))


def _sound(notes: Iterable[Note], starts_B: Ints, end: int) -> tuple[Floats, Ints]:
    """Return the duration of each pitch class in each beat [B, 12], and the bass's pitch class [B] (-1: silence)."""
    ends_B = np.append(starts_B[1:], end)
    sound = np.zeros((len(starts_B), 12))
    lowest = np.full(len(starts_B), 128)
    for onset, duration, pitch, *_ in notes:
        stop = onset + duration
        if stop <= starts_B[0] or onset >= end:
            continue
        first = max(0, int(np.searchsorted(starts_B, onset, side="right")) - 1)
        last = int(np.searchsorted(starts_B, stop, side="left"))
        for beat in range(first, last):
            overlap = min(stop, int(ends_B[beat])) - max(onset, int(starts_B[beat]))
            sound[beat, pitch % 12] += overlap
            # A tone that ends early in a beat is not its bass.
            if overlap * 4 >= ends_B[beat] - starts_B[beat]:
                lowest[beat] = min(lowest[beat], pitch)
    return sound, np.where(lowest < 128, lowest % 12, -1)


def _fit(sound: Floats, bass: Ints) -> Floats:
    """Return the log probabilities [B, S] of each beat's sound, up to a constant for each beat."""
    totals = sound.sum(axis=1, keepdims=True)
    shares = np.divide(sound, totals, out=np.zeros_like(sound), where=totals > 0)
    tones, basses, rarity = _templates()
    fit = _EVIDENCE * shares @ tones.T - rarity * (totals > 0)
    has_bass = bass >= 0
    fit[has_bass] += basses[:, bass[has_bass]].T
    return np.asarray(fit)


def _cheapest_path(fit: Floats, change_B: Floats) -> list[int]:
    """Return the most likely state of each beat (Viterbi); each change costs the beat's price."""
    score = fit[0].copy()
    came_from: list[Ints] = []
    here = np.arange(fit.shape[1])
    for beat in range(1, len(fit)):
        best = int(score.argmax())
        changed = score[best] - change_B[beat]
        stays = score >= changed
        came_from.append(np.where(stays, here, best))
        score = np.where(stays, score, changed) + fit[beat]
    path = [int(score.argmax())]
    for back in reversed(came_from):
        path.append(int(back[path[-1]]))
    return path[::-1]


@lru_cache(1)
def _key_profiles() -> Floats:
    """Return the 24 profiles [24, 12], major keys first, centred and of unit length."""
    rows = np.array([np.roll(_PROFILES[mode], tonic) for mode in ("major", "minor") for tonic in range(12)])
    rows -= rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@lru_cache(1)
def _states() -> tuple[Chord, ...]:
    return tuple(chord_named(root, quality) for root in range(12) for quality in QUALITIES)


@lru_cache(1)
def _templates() -> tuple[Floats, Floats, Floats]:
    """Return the log shares of tones [S, 12], the log probabilities of the bass [S, 12] and the penalties [S]."""
    states = _states()
    tones = np.zeros((len(states), 12))
    basses = np.full((len(states), 12), _BASS_OTHER / 9)
    for state, chord in enumerate(states):
        classes = list(chord.pitch_classes)
        weights = np.array([_ROOT_WEIGHT, *[1.0] * (len(classes) - 1)])
        tones[state] = (1 - _CHORD_SHARE) / (12 - len(classes))
        tones[state, classes] = _CHORD_SHARE * weights / weights.sum()
        basses[state, classes] = _BASS_TONE / (len(classes) - 1)
        basses[state, classes[0]] = _BASS_ROOT
    rarity = np.array([_RARITY.get(quality, 0.0) for _ in range(12) for quality in QUALITIES])
    return np.log(tones), np.log(basses), rarity
