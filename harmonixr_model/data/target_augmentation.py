"""Another answer than the song's own, so that what is asked is not what the surroundings tell anyway.

Surroundings tell nearly as much of an answer as controls do. A model that only met answers which agree with both
believes the surroundings, and what is asked against them goes unheard. Knows nothing of torch or files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby

import numpy as np

from harmonixr_model.data.masking import Mask
from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import EncodedScore

# Of the examples that say a control which can be varied so many vary it.
OTHER_SHARE = 0.5
_MOST_LOUDER = 45
_SHORTEST_SPLIT = 6  # steps
_MOST_VOICES = 4
_LOWEST_VOICE, _WIDEST_CHORD = 24, 24  # the lowest pitch that is added, and how far below the highest of its moment
_LONGEST_HEARD = 192  # steps: a note that began longer ago is no longer looked for

# The pitch classes that sound at a step in all pitched tracks.
Tones = Callable[[int], frozenset[int]]
Change = Callable[[Sequence[Note], np.random.Generator, Tones | None], list[Note]]


def augmented_target(full: EncodedScore, mask: Mask, said: Collection[str], rng: np.random.Generator) -> EncodedScore:
    """Return the song with the hidden notes varied in what is said of them, or as it is.

    Louder or softer, fewer or more notes, fewer or more voices; one way throughout a mask. Notes that stay are never
    touched, and no two notes of a pitch overlap that did not before.
    """
    changes = [change for name, change in _CHANGES.items() if name in said and rng.random() < OTHER_SHARE]
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
        replaced[track] = _beside([note for note in full.tracks[track].notes if note not in notes], inside)
    return EncodedScore(full.score.replace_notes(replaced))


def _louder(notes: Sequence[Note], rng: np.random.Generator, _: Tones | None) -> list[Note]:
    by = int(rng.integers(-_MOST_LOUDER, _MOST_LOUDER + 1))
    return [note._replace(velocity=min(max(note.velocity + by, 1), 127)) for note in notes]


def _voices(notes: Sequence[Note], rng: np.random.Generator, tones: Tones | None) -> list[Note]:
    """Let each moment have so many notes: its highest ones, and below them what sounds there; drums gain none."""
    count, parts = int(rng.integers(1, _MOST_VOICES + 1)), rng.random() < 0.5
    moments = [sorted(group, key=lambda n: -n.pitch)[:count] for _, group in groupby(notes, key=lambda n: n.onset)]
    if tones is not None:
        moments = [[*moment, *_beneath(moment, tones, count - len(moment))] for moment in moments]
    if count == 1 or parts:
        nexts = [moment[0].onset for moment in moments[1:]]
        for moment, following in zip(moments, nexts, strict=False):
            moment[:] = [n._replace(duration=min(n.duration, following - n.onset)) for n in moment]
    return sorted(note for moment in moments for note in moment)


def _beneath(moment: Sequence[Note], tones: Tones, count: int) -> list[Note]:
    """Return the `count` nearest notes below a moment's lowest that belong to what sounds, or fewer."""
    lowest = moment[-1]
    heard = tones(lowest.onset) | {lowest.pitch % 12}
    end = max(_LOWEST_VOICE, moment[0].pitch - _WIDEST_CHORD)
    # A second below would be a cluster.
    below = [pitch for pitch in range(lowest.pitch - 3, end - 1, -1) if pitch % 12 in heard]
    return [lowest._replace(pitch=pitch) for pitch in below[: max(0, count)]]


def _count(notes: Sequence[Note], rng: np.random.Generator, _: Tones | None) -> list[Note]:
    """Leave moments out, or say each longer note two or four times."""
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
        began = (note for track in pitched for note in full.notes(track, max(0, step - _LONGEST_HEARD), step + 1))
        return frozenset(note.pitch % 12 for note in began if note.end > step)

    return at


def _beside(kept: Sequence[Note], made: Iterable[Note]) -> list[Note]:
    """Return both, less the made notes that would overlap another of their pitch."""
    taken: dict[int, list[Note]] = {}
    for note in kept:
        taken.setdefault(note.pitch, []).append(note)
    found = list(kept)
    for note in made:
        others = taken.setdefault(note.pitch, [])
        if all(note.end <= other.onset or note.onset >= other.end for other in others):
            others.append(note)
            found.append(note)
    return sorted(found)
