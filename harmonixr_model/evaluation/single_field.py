"""Items that hide one field of the notes: measures, copies, and the check that all other fields stay as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from harmonixr_model.evaluation.metrics import Fills, Ratio
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.music.edit_field import edit_notes
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_model.notes.encoded_score import GridCell, NoteField

RIGHT = "changed field as in the original"
# The name of a field's mean error and its unit in steps, semitones or MIDI values.
_ERRORS = {
    "onset": ("onset error, quarters", 24),
    "duration": ("duration error, quarters", 24),
    "pitch": ("pitch error, semitones", 1),
    "velocity": ("velocity error", 1),
}
ONSET_ERROR, DURATION_ERROR, PITCH_ERROR, VELOCITY_ERROR = LOWER_IS_BETTER = [name for name, _ in _ERRORS.values()]
# The fields of a Note that a fill sets.
_CHANGED: dict[NoteField, tuple[str, ...]] = {
    "pitch": ("pitch",),
    "rhythm": ("onset", "duration"),
    "velocity": ("velocity",),
    "duration": ("duration",),
}
_NO_SOURCE = Note(onset=0, duration=12, pitch=60, velocity=66)  # values where there is nothing to copy


def field_measures(item: EvaluationItem, fill: Fills) -> dict[str, Ratio]:
    """Return the share of notes whose hidden field is that of the original, and the field's mean absolute error.

    Notes are compared in their order, because all their other fields are known.
    """
    assert item.field is not None
    changed = _CHANGED[item.field]
    pairs = [
        (old, new)
        for notes, filled in zip(item.original, fill, strict=True)
        for old, new in zip(notes, filled, strict=True)
    ]
    right = sum(_values(old, changed) == _values(new, changed) for old, new in pairs)
    measures = {RIGHT: Ratio(right, len(pairs))}
    for field in changed:
        name, unit = _ERRORS[field]
        measures[name] = Ratio(
            sum(abs(getattr(old, field) - getattr(new, field)) for old, new in pairs) / unit, len(pairs)
        )
    return measures


def copied_field(item: EvaluationItem, copied: Fills) -> Fills:
    """Return a fill that takes the hidden field from copied notes; copies of whole notes are returned unchanged.

    A known note takes the field of the nearest copied note: the nearest pitch at the nearest onset; for a hidden pitch
    the same position in the chord at the nearest onset; for a hidden onset the same position in the cell.
    """
    if item.field is None:
        return copied
    return [_with_copied_field(cell, notes, item.field) for cell, notes in zip(item.prompt.cells, copied, strict=True)]


def _with_copied_field(cell: GridCell, copied: Sequence[Note], field: NoteField) -> tuple[Note, ...]:
    copied = sorted(copied, key=lambda note: (note.onset, note.pitch))
    notes = []
    for number, known in enumerate(cell.known):
        if not copied:
            onset = cell.start + (cell.end - cell.start) * number // len(cell.known)
            source = _NO_SOURCE._replace(onset=onset)
        elif field == "rhythm":
            source = copied[number * len(copied) // len(cell.known)]
        else:
            source = _nearest(copied, known, field, position=sum(n.onset == known.onset for n in cell.known[:number]))
        source = source._replace(pitch=min(max(source.pitch, cell.low), cell.high))
        notes.append(known._replace(**{name: getattr(source, name) for name in _CHANGED[field]}))
    return tuple(notes)


def _nearest(copied: Sequence[Note], known: Note, field: NoteField, *, position: int) -> Note:
    onset = min((note.onset for note in copied), key=lambda at: abs(at - known.onset))
    chord = [note for note in copied if note.onset == onset]
    if field == "pitch":
        return chord[min(position, len(chord) - 1)]
    return min(chord, key=lambda note: abs(note.pitch - known.pitch))


def field_round_trip(item: EvaluationItem, song: Song, fill: Fills, number: dict[int, int]) -> tuple[bool, Ratio]:
    """Change the field in the song's file and read that file back.

    `number` maps the piece's tracks to those of the file. Returns whether everything else is unchanged, and the share
    of notes that were changed.
    """
    assert item.field is not None
    changes: dict[int, dict[int, Note]] = {}
    for cell, old_notes, new_notes in zip(item.prompt.cells, item.original, fill, strict=True):
        track = number[cell.track]
        index = {(note.onset, note.pitch): n for n, note in enumerate(song.score.tracks[track].notes)}
        pairs = zip(old_notes, new_notes, strict=True)
        changes.setdefault(track, {}).update({index[old.onset, old.pitch]: new for old, new in pairs})
    result = edit_notes(song, changes)
    after = Song.parse(result.midi)
    unchanged = [name for name in Note._fields if name not in _CHANGED[item.field]]
    preserved = song.score.tempos == after.score.tempos and song.score.time_signatures == after.score.time_signatures
    for track, (before, now) in enumerate(zip(song.score.tracks, after.score.tracks, strict=True)):
        edited = changes.get(track, {})
        outside = Counter(note for n, note in enumerate(before.notes) if n not in edited)
        inside = Counter(now.notes) - outside
        preserved &= not outside - Counter(now.notes)
        preserved &= _counted((before.notes[n] for n in edited), unchanged) == _counted(inside.elements(), unchanged)
    count = sum(map(len, changes.values()))
    return preserved, Ratio(count - result.dropped, count)


def _values(note: Note, fields: Sequence[str]) -> tuple[int, ...]:
    return tuple(getattr(note, field) for field in fields)


def _counted(notes: Iterable[Note], fields: Sequence[str]) -> Counter[tuple[int, ...]]:
    return Counter(_values(note, fields) for note in notes)
