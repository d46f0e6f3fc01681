"""Change one field of some notes of a song, in the very events they came from, and nothing else.

A pitch or a velocity is changed in place: every event keeps its tick and order, every other byte stays. A duration
moves the note's off, a rhythm its on and off, to another tick; their messages and all other events stay as they are,
the End-of-Track too. A change after which a note would meet another one of its channel and pitch is cut short where
that helps, or else not made. Knows nothing of models or tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from harmonixr_model.music.midi import Event
from harmonixr_model.music.rewrite import AFTER, BEFORE, ChunkEdit, Insertion, rewrite
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import NoteSource, Song
from harmonixr_model.music.splice import SpliceResult, keep_original

# A note that is never ended sounds on, on its channel, past the end of its chunk.
_NEVER = 1 << 60


class _Placed(NamedTuple):
    """A note where it shall stand. `wanted` differs from `was` where something is asked of it."""

    track: int
    number: int
    channel: int
    source: NoteSource
    was: Note
    wanted: Note

    @property
    def is_moved(self) -> bool:
        """Whether the note would sound at another time or pitch."""
        return self.wanted[:3] != self.was[:3]

    @property
    def end(self) -> int:
        """The tick at which it no longer sounds."""
        return _NEVER if self.source.off is None else self.wanted.end

    @property
    def lane(self) -> tuple[int, int]:
        """The channel and pitch on which it sounds."""
        return self.channel, self.wanted.pitch


def retouch(song: Song, changes: Mapping[int, Mapping[int, Note]]) -> SpliceResult:
    """Return the song with some notes changed; `changes` says by track and index (of the score) what each becomes.

    Notes are in the song's ticks. A note that is never ended keeps its onset and duration. The result's notes are
    those of `changes` as they are now; `dropped` counts those of which a change was asked and not made.
    """
    notes = [
        _Placed(t, n, track.channel, source, note, _possible(song, source, note, changes.get(t, {}).get(n, note)))
        for t, track in enumerate(song.score.tracks)
        for n, (note, source) in enumerate(zip(track.notes, song.sources[t], strict=True))
    ]
    placed = {(note.track, note.number): note for note in _without_collisions(song, notes)}
    now = {
        track: tuple(sorted((placed[track, n].wanted for n in asked), key=lambda n: (n.onset, n.pitch)))
        for track, asked in changes.items()
    }
    dropped = sum(
        placed[track, n].wanted == placed[track, n].was != wish
        for track, asked in changes.items()
        for n, wish in asked.items()
    )
    edits = _edits(song, [note for note in placed.values() if note.wanted != note.was])
    return SpliceResult(rewrite(song.midi, edits) if edits else keep_original(song), now, dropped)


def _possible(song: Song, source: NoteSource, was: Note, wish: Note) -> Note:
    """Return what a note may become: within MIDI's bounds, over before its chunk is."""
    pitch, velocity = min(max(wish.pitch, 0), 127), min(max(wish.velocity, 1), 127)
    if source.off is None or wish[:2] == was[:2]:
        return Note(was.onset, was.duration, pitch, velocity)
    last = song.midi.tracks[source.chunk][-1].tick
    onset = min(max(wish.onset, 0), last - 1)
    if onset < 0 or wish.duration < 1:
        return Note(was.onset, was.duration, pitch, velocity)
    return Note(onset, min(wish.duration, last - onset), pitch, velocity)


def _without_collisions(song: Song, notes: list[_Placed]) -> list[_Placed]:
    """Return the notes, changes that would collide cut short or taken back, until none does."""
    if not any(note.is_moved for note in notes):
        return notes
    strays: dict[tuple[int, int], list[int]] = defaultdict(list)
    for stray in song.strays:
        strays[stray.channel, stray.pitch].append(stray.tick)
    while True:
        lanes: dict[tuple[int, int], list[_Placed]] = defaultdict(list)
        for note in notes:
            lanes[note.lane].append(note)
        fitted = [_fitted(note, lanes[note.lane], strays[note.lane]) if note.is_moved else note for note in notes]
        if fitted == notes:
            return notes
        notes = fitted


def _fitted(note: _Placed, lane: Iterable[_Placed], strays: Iterable[int]) -> _Placed:
    """Return the note cut short before what follows on its lane, or as it was where it may not begin."""
    back = note._replace(wanted=note.was._replace(velocity=note.wanted.velocity))
    onset, end = note.wanted.onset, note.end
    for other in lane:
        if (other.track, other.number) == (note.track, note.number):
            continue
        if onset < other.wanted.onset:
            end = min(end, other.wanted.onset - (not _may_touch(note, other)))
        elif onset == other.wanted.onset or (_sounds_into(other, note) and not _can_end_by(other, note)):
            return back
    end = min([end, *(tick for tick in strays if onset <= tick)])
    if end == note.end:
        return note
    # A pitch alone may change neither onset nor end.
    may_shorten = note.wanted[:2] != note.was[:2] and end > onset
    return note._replace(wanted=note.wanted._replace(duration=end - onset)) if may_shorten else back


def _sounds_into(earlier: _Placed, later: _Placed) -> bool:
    return earlier.end + (not _may_touch(earlier, later)) > later.wanted.onset


def _can_end_by(earlier: _Placed, later: _Placed) -> bool:
    """Return whether a note will be cut short, in its own turn, to end where another begins."""
    room = later.wanted.onset - (not _may_touch(earlier, later)) - earlier.wanted.onset
    return earlier.wanted[:2] != earlier.was[:2] and room > 0


def _may_touch(earlier: _Placed, later: _Placed) -> bool:
    """Return whether one note may end at the very tick at which another of its channel and pitch begins.

    Between chunks the order of events at one tick is nobody's; within one, moved offs come first and moved ons last.
    """
    if earlier.source.chunk != later.source.chunk:
        return False
    is_in_place = earlier.wanted.end == earlier.was.end and later.wanted.onset == later.was.onset
    off = _NEVER if earlier.source.off is None else earlier.source.off
    return not is_in_place or off < later.source.on


def _edits(song: Song, changed: Iterable[_Placed]) -> dict[int, ChunkEdit]:
    deleted: dict[int, set[int]] = defaultdict(set)
    inserted: dict[int, list[Insertion]] = defaultdict(list)
    replaced: dict[int, dict[int, bytes]] = defaultdict(dict)

    def put(chunk: int, index: int, message: bytes, *, tick: int, side: int) -> None:
        was = song.midi.tracks[chunk][index]
        if tick != was.tick:
            deleted[chunk].add(index)
            inserted[chunk].append(Insertion(Event(tick, message), side))
        elif message != was.message:
            replaced[chunk][index] = message

    for note in changed:
        chunk, on, off = note.source
        message = song.midi.tracks[chunk][on].message
        velocity = message[2] if note.wanted.velocity == note.was.velocity else note.wanted.velocity
        put(chunk, on, bytes((message[0], note.wanted.pitch, velocity)), tick=note.wanted.onset, side=AFTER)
        if off is not None:
            event = song.midi.tracks[chunk][off]
            message = bytes((event.message[0], note.wanted.pitch, *event.message[2:]))
            # A note of no length counts as one tick long: its off is where it was unless it is moved.
            tick = event.tick if note.wanted[:2] == note.was[:2] else note.wanted.end
            put(chunk, off, message, tick=tick, side=BEFORE)
    chunks = {*deleted, *inserted, *replaced}
    return {c: ChunkEdit(frozenset(deleted[c]), tuple(inserted[c]), replaced[c]) for c in sorted(chunks)}
