"""Change fields of a song's notes in their original events, and change nothing else.

A new pitch or velocity changes its byte in place: every event keeps its tick and order. A new duration moves the
note-off to another tick, a new onset the note-on; their messages do not change. All other events stay identical, the
End-of-Track included. Where a changed note would overlap another note of its channel and pitch, it is shortened, or
the change is dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from harmonixr_model.music.rewrite import AFTER, BEFORE, ChunkEdit, Insertion, rewrite
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import NoteSource, Song
from harmonixr_model.music.splice import EditedSong

# A note without a note-off sounds past the end of its chunk.
_NEVER = 1 << 60


class _Edit(NamedTuple):
    """A note of the song: its `old` value, and its `new` value, which differs where the note changes."""

    channel: int
    source: NoteSource
    old: Note
    new: Note

    @property
    def is_moved(self) -> bool:
        """Whether the note's onset, duration or pitch changes."""
        return self.new[:3] != self.old[:3]

    @property
    def is_retimed(self) -> bool:
        """Whether the note's onset or duration changes."""
        return self.new[:2] != self.old[:2]

    @property
    def end(self) -> int:
        """The tick at which the new note stops."""
        return _NEVER if self.source.off is None else self.new.end

    @property
    def lane(self) -> tuple[int, int]:
        """The channel and pitch of the new note."""
        return self.channel, self.new.pitch


def edit_notes(song: Song, changes: Mapping[int, Mapping[int, Note]]) -> EditedSong:
    """Return the song with some notes changed; `changes` holds the new notes by track and index in the score.

    Notes are in the song's ticks. A note without a note-off keeps its onset and duration. The result's `notes` are the
    notes named in `changes` after the edit; `dropped` counts the changes that were not made.
    """
    notes = {
        (t, n): _Edit(track.channel, source, note, _possible(song, source, note, changes.get(t, {}).get(n, note)))
        for t, track in enumerate(song.score.tracks)
        for n, (note, source) in enumerate(zip(track.notes, song.sources[t], strict=True))
    }
    edited = dict(zip(notes, _without_collisions(song, list(notes.values())), strict=True))
    new_notes = {
        track: tuple(sorted((edited[track, n].new for n in requested), key=lambda note: (note.onset, note.pitch)))
        for track, requested in changes.items()
    }
    dropped = sum(
        edited[track, n].new == edited[track, n].old != note
        for track, requested in changes.items()
        for n, note in requested.items()
    )
    edits = _chunk_edits(song, (note for note in edited.values() if note.new != note.old))
    return EditedSong(rewrite(song.midi, edits), new_notes, dropped)


def _possible(song: Song, source: NoteSource, old: Note, new: Note) -> Note:
    """Return the new note within MIDI's ranges, with an end no later than its chunk's."""
    pitch, velocity = min(max(new.pitch, 0), 127), min(max(new.velocity, 1), 127)
    last = song.midi.tracks[source.chunk][-1].tick
    onset = min(max(new.onset, 0), last - 1)
    if source.off is None or new[:2] == old[:2] or onset < 0 or new.duration < 1:
        return Note(old.onset, old.duration, pitch, velocity)
    return Note(onset, min(new.duration, last - onset), pitch, velocity)


def _without_collisions(song: Song, notes: list[_Edit]) -> list[_Edit]:
    """Return the notes, colliding changes shortened or undone until no new collision is left."""
    if not any(note.is_moved for note in notes):
        return notes
    unmatched: dict[tuple[int, int], list[int]] = defaultdict(list)
    for off in song.unmatched_offs:
        unmatched[off.channel, off.pitch].append(off.tick)
    while True:
        lanes: dict[tuple[int, int], list[_Edit]] = defaultdict(list)
        for note in notes:
            lanes[note.lane].append(note)
        fitted = [_fitted(note, lanes[note.lane], unmatched[note.lane]) if note.is_moved else note for note in notes]
        if fitted == notes:
            return notes
        notes = fitted


def _fitted(note: _Edit, lane: Iterable[_Edit], unmatched_offs: Iterable[int]) -> _Edit:
    """Return the note shortened to end before the next on its lane, or undone where it may not begin."""
    undone = note._replace(new=note.old._replace(velocity=note.new.velocity))
    onset, end = note.new.onset, note.end
    for other in lane:
        if other.source == note.source:
            continue
        if onset < other.new.onset:
            end = min(end, other.new.onset - _gap(note, other))
            continue
        stop = onset - _gap(other, note)
        # The other note is shortened in its turn where its own change allows that.
        may_shorten = other.is_retimed and stop > other.new.onset
        if onset == other.new.onset or (other.end > stop and not may_shorten):
            return undone
    end = min([end, *(tick for tick in unmatched_offs if onset <= tick)])
    if end == note.end:
        return note
    # A change of pitch alone may change neither onset nor end.
    return note._replace(new=note.new._replace(duration=end - onset)) if note.is_retimed and end > onset else undone


def _gap(earlier: _Edit, later: _Edit) -> int:
    """Return how many ticks stay clear between two notes of one channel and pitch, 0 or 1.

    Between chunks the order of events at one tick is undefined. Within a chunk, moved note-offs precede and moved
    note-ons follow the other events of their tick.
    """
    if earlier.source.chunk != later.source.chunk:
        return 1
    is_in_place = earlier.new.end == earlier.old.end and later.new.onset == later.old.onset
    off = _NEVER if earlier.source.off is None else earlier.source.off
    return int(is_in_place and off > later.source.on)


def _chunk_edits(song: Song, changed: Iterable[_Edit]) -> dict[int, ChunkEdit]:
    edits: dict[int, ChunkEdit] = defaultdict(ChunkEdit)

    def put(chunk: int, index: int, message: bytes, *, tick: int, side: int) -> None:
        old = song.midi.tracks[chunk][index]
        if tick != old.tick:
            edits[chunk].deleted.add(index)
            edits[chunk].inserted.append(Insertion(tick, side, message))
        elif message != old.message:
            edits[chunk].replaced[index] = message

    for note in changed:
        chunk, on, off = note.source
        message = song.midi.tracks[chunk][on].message
        velocity = message[2] if note.new.velocity == note.old.velocity else note.new.velocity
        put(chunk, on, bytes((message[0], note.new.pitch, velocity)), tick=note.new.onset, side=AFTER)
        if off is not None:
            tick, message = song.midi.tracks[chunk][off]
            # A note of length zero counts as one tick long: its note-off moves only where onset or duration changes.
            tick = note.new.end if note.is_retimed else tick
            put(chunk, off, bytes((message[0], note.new.pitch, *message[2:])), tick=tick, side=BEFORE)
    return edits
