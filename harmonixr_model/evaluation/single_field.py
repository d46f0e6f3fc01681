"""Questions about one field of the notes: how near an answer is, what copies answer, and that all else is kept.

Knows nothing of likelihoods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from harmonixr_model.evaluation.metrics import Fills, Ratio
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.music.edit_field import edit_notes
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_model.notes.encoded_score import GridCell, NoteField
from harmonixr_model.notes.vocabulary import DURATIONS, duration_bin

RIGHT = "asked field as it was"
SEMITONES_OFF, STEPS_OFF = "semitones off", "onset off, quarters"
VELOCITY_OFF, DURATION_OFF = "velocity off", "duration off, quarters"
LESS_IS_BETTER = (SEMITONES_OFF, STEPS_OFF, VELOCITY_OFF, DURATION_OFF)
# Fields of a Note (onset, duration, pitch, velocity) that an answer must leave as they are.
_KEPT: dict[NoteField, tuple[int, ...]] = {
    "pitch": (0, 1, 3),
    "rhythm": (2, 3),
    "velocity": (0, 1, 2),
    "duration": (0, 2, 3),
}
_QUARTER = 24
_COPY_VELOCITY, _COPY_PITCH, _COPY_DURATION = 66, 60, 12  # where a copy finds nothing to copy


def field_measures(item: EvaluationItem, fill: Fills) -> dict[str, Ratio]:
    """Return how many notes have the asked field as it was, and how far off the field is on average.

    Notes are compared one by one, in their order: everything else of them is known.
    """
    pairs = [
        (was, said)
        for notes, made in zip(item.original, fill, strict=True)
        for was, said in zip(notes, made, strict=True)
    ]
    kept = {i for i in range(4) if item.only is None or i not in _KEPT[item.only]}
    right = sum(all(was[i] == said[i] for i in kept) for was, said in pairs)
    measures = {RIGHT: Ratio(right, len(pairs))}
    if item.only == "pitch":
        measures[SEMITONES_OFF] = Ratio(sum(abs(was.pitch - said.pitch) for was, said in pairs), len(pairs))
    if item.only == "velocity":
        measures[VELOCITY_OFF] = Ratio(sum(abs(was.velocity - said.velocity) for was, said in pairs), len(pairs))
    if item.only == "rhythm":
        measures[STEPS_OFF] = Ratio(sum(abs(w.onset - s.onset) for w, s in pairs) / _QUARTER, len(pairs))
    if item.only in ("rhythm", "duration"):
        measures[DURATION_OFF] = Ratio(sum(abs(w.duration - s.duration) for w, s in pairs) / _QUARTER, len(pairs))
    return measures


def copied_field(item: EvaluationItem, fill: Fills) -> Fills:
    """Return an answer that takes the asked field from what a copy plays there; others come back as they are.

    A known note takes it of the copied note nearest to it: of those at the nearest onset the nearest pitch, of a hidden
    pitch the same place in the chord, of a hidden onset the same place in the cell.
    """
    if item.only is None:
        return fill
    return [_lent(cell, notes, item.only) for cell, notes in zip(item.prompt.cells, fill, strict=True)]


def _lent(cell: GridCell, offered: Sequence[Note], only: NoteField) -> tuple[Note, ...]:
    offered = sorted(offered, key=lambda n: (n.onset, n.pitch))
    made = []
    for number, known in enumerate(cell.known):
        place = sum(other.onset == known.onset for other in cell.known[:number])
        source = _nearest(cell, offered, known, only=only, number=number, place=place)
        if only == "pitch":
            pitch = min(max(source.pitch if source else _COPY_PITCH, cell.low), cell.high)
            made.append(known._replace(pitch=pitch))
        elif only == "velocity":
            made.append(known._replace(velocity=source.velocity if source else _COPY_VELOCITY))
        elif only == "duration":
            made.append(known._replace(duration=source.duration if source else _COPY_DURATION))
        else:
            onset = source.onset if source else cell.start + (cell.end - cell.start) * number // len(cell.known)
            duration = source.duration if source else DURATIONS[duration_bin(_COPY_DURATION)]
            made.append(known._replace(onset=onset, duration=duration))
    return tuple(made)


def _nearest(
    cell: GridCell, offered: Sequence[Note], known: Note, *, only: NoteField, number: int, place: int
) -> Note | None:
    if not offered:
        return None
    if only == "rhythm":
        return offered[number * len(offered) // len(cell.known)]
    onset = min((note.onset for note in offered), key=lambda at: abs(at - known.onset))
    together = [note for note in offered if note.onset == onset]
    if only == "pitch":
        return together[min(place, len(together) - 1)]
    return min(together, key=lambda note: abs(note.pitch - known.pitch))


def with_field_changed(item: EvaluationItem, song: Song, fill: Fills, number: dict[int, int]) -> tuple[bool, Ratio]:
    """Make the answer in a file of the piece; return whether all else is as it was, and the share of changes made.

    `number` says which track of the file a track of the piece is.
    """
    assert item.only is not None
    wishes: dict[int, dict[int, Note]] = {}
    for cell, was, said in zip(item.prompt.cells, item.original, fill, strict=True):
        track = number[cell.track]
        index = {(note.onset, note.pitch): n for n, note in enumerate(song.score.tracks[track].notes)}
        chosen = wishes.setdefault(track, {})
        chosen.update({index[old.onset, old.pitch]: new for old, new in zip(was, said, strict=True)})
    result = edit_notes(song, wishes)
    after = Song.parse(result.midi)
    kept = _KEPT[item.only]
    is_kept = song.score.tempos == after.score.tempos and song.score.time_signatures == after.score.time_signatures
    for track, (old, new) in enumerate(zip(song.score.tracks, after.score.tracks, strict=True)):
        asked = wishes.get(track, {})
        outside = Counter(note for n, note in enumerate(old.notes) if n not in asked)
        inside = Counter(new.notes) - outside
        is_kept &= not outside - Counter(new.notes)
        is_kept &= _fields((old.notes[n] for n in asked), kept) == _fields(inside.elements(), kept)
    count = sum(map(len, wishes.values()))
    return is_kept, Ratio(count - result.dropped, count)


def _fields(notes: Iterable[Note], fields: Sequence[int]) -> Counter[tuple[int, ...]]:
    return Counter(tuple(note[i] for i in fields) for note in notes)
