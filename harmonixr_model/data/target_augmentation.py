"""Targets that differ from the song in what their controls measure, so that controls and context may disagree.

The context predicts the target nearly as well as the controls do. A model whose training targets always agree with
both follows the context and ignores controls that contradict it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby

import numpy as np

from harmonixr_model.data.masking import Mask
from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import EncodedScore

# Of the examples with a control that can be varied, this share varies it.
AUGMENTED_SHARE = 0.5
_MAX_LOUDER = 45
_SHORTEST_SPLIT = 6  # steps
_MOST_VOICES = 4
_LOWEST_VOICE, _WIDEST_CHORD = 24, 24  # the lowest added pitch, and the most semitones below a chord's highest
_LONGEST_SOUNDING = 192  # steps: a note that began longer ago is ignored

# The pitch classes that sound at a step in all pitched tracks.
Tones = Callable[[int], frozenset[int]]
Change = Callable[[Sequence[Note], np.random.Generator, Tones | None], list[Note]]


def augment_target(full: EncodedScore, mask: Mask, controls: Collection[str], rng: np.random.Generator) -> EncodedScore:
    """Return the song with the hidden notes varied in some of the named controls, or the song unchanged.

    Hidden notes become louder or softer, fewer or more, or have fewer or more voices; in the same way throughout a
    mask. Other notes never change, and no two notes of a pitch overlap that did not before.
    """
    changes = [change for name, change in _CHANGES.items() if name in controls and rng.random() < AUGMENTED_SHARE]
    if not changes or any(cell.field for cell in mask.cells):
        return full
    seed = int(rng.integers(1 << 32))
    hidden: dict[int, set[Note]] = {}
    for cell in mask.cells:
        hidden.setdefault(cell.track, set()).update(full.hidden(cell, mask.locks))
    replaced: dict[int, Iterable[Note]] = {}
    for track, notes in hidden.items():
        made = sorted(notes)
        tones = None if full.tracks[track].is_drum else _tones(full)
        for change in changes:
            made = change(made, np.random.default_rng(seed), tones)
        cells = [cell for cell in mask.cells if cell.track == track]
        inside = [note for note in made if any(cell.contains(note) for cell in cells)]
        replaced[track] = _merge([note for note in full.tracks[track].notes if note not in notes], inside)
    return EncodedScore(full.score.replace_notes(replaced))


def _louder(notes: Sequence[Note], rng: np.random.Generator, _: Tones | None) -> list[Note]:
    by = int(rng.integers(-_MAX_LOUDER, _MAX_LOUDER + 1))
    return [note._replace(velocity=min(max(note.velocity + by, 1), 127)) for note in notes]


def _voices(notes: Sequence[Note], rng: np.random.Generator, tones: Tones | None) -> list[Note]:
    """Give each chord so many notes: its highest ones, then added tones below; drums gain none."""
    count, parts = int(rng.integers(1, _MOST_VOICES + 1)), rng.random() < 0.5
    chords = [sorted(group, key=lambda n: -n.pitch)[:count] for _, group in groupby(notes, key=lambda n: n.onset)]
    if tones is not None:
        chords = [[*chord, *_voices_below(chord, tones, count - len(chord))] for chord in chords]
    if count == 1 or parts:
        nexts = [chord[0].onset for chord in chords[1:]]
        for chord, following in zip(chords, nexts, strict=False):
            chord[:] = [n._replace(duration=min(n.duration, following - n.onset)) for n in chord]
    return sorted(note for chord in chords for note in chord)


def _voices_below(chord: Sequence[Note], tones: Tones, count: int) -> list[Note]:
    """Return the `count` nearest notes below a chord's lowest whose pitch class sounds there, or fewer."""
    lowest = chord[-1]
    sounding = tones(lowest.onset) | {lowest.pitch % 12}
    end = max(_LOWEST_VOICE, chord[0].pitch - _WIDEST_CHORD)
    # A second below would be a cluster.
    below = [pitch for pitch in range(lowest.pitch - 3, end - 1, -1) if pitch % 12 in sounding]
    return [lowest._replace(pitch=pitch) for pitch in below[: max(0, count)]]


def _count(notes: Sequence[Note], rng: np.random.Generator, _: Tones | None) -> list[Note]:
    """Remove chords, or repeat each longer note two or four times."""
    if rng.random() < 0.4:
        twice = [half for note in notes for half in _halves(note)]
        return sorted(twice if rng.random() < 0.5 else (half for note in twice for half in _halves(note)))
    share = float(rng.uniform(0.2, 0.7))
    stays = {onset: rng.random() < share for onset in dict.fromkeys(note.onset for note in notes)}
    return [note for note in notes if stays[note.onset]]


_CHANGES: dict[str, Change] = {"density": _count, "polyphony": _voices, "velocity": _louder}


def _halves(note: Note) -> Iterable[Note]:
    if note.duration < _SHORTEST_SPLIT:
        return (note,)
    first = note.duration // 2
    return note._replace(duration=first), note._replace(onset=note.onset + first, duration=note.duration - first)


def _tones(full: EncodedScore) -> Tones:
    pitched = [number for number, track in enumerate(full.tracks) if not track.is_drum]

    def at(step: int) -> frozenset[int]:
        began = (note for track in pitched for note in full.notes(track, max(0, step - _LONGEST_SOUNDING), step + 1))
        return frozenset(note.pitch % 12 for note in began if note.end > step)

    return at


def _merge(unchanged: Sequence[Note], made: Iterable[Note]) -> list[Note]:
    """Return both, without those of `made` that would overlap another note of their pitch."""
    taken: dict[int, list[Note]] = {}
    for note in unchanged:
        taken.setdefault(note.pitch, []).append(note)
    found = list(unchanged)
    for note in made:
        others = taken.setdefault(note.pitch, [])
        if all(note.end <= other.onset or note.onset >= other.end for other in others):
            others.append(note)
            found.append(note)
    return sorted(found)
