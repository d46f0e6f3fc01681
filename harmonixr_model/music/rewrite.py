"""Write a parsed file with some events deleted, replaced or inserted, and every other byte copied.

A chunk without edits is copied byte for byte. In an edited chunk only these other bytes change: delta times next to an
edit, an omitted status byte after an edit, the chunk's length, and the tick of End-of-Track where events now follow
it. A truncated chunk gets an End-of-Track.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harmonixr_model.music.midi import END_OF_TRACK, Event, MidiFile
from harmonixr_model.music.score import Note
from harmonixr_model.music.write import chunk_bytes, note_messages, variable_length

BEFORE, AFTER = 0, 1


class Insertion(NamedTuple):
    """A new event, BEFORE or AFTER the events that the chunk already has at its tick."""

    tick: int
    side: int
    message: bytes


@dataclass(slots=True)
class ChunkEdit:
    """The changes of one chunk: indices of events to delete, events to insert, and new messages by event index.

    Insertions at one tick keep their order. A replaced event keeps its tick and status byte.
    """

    deleted: set[int] = field(default_factory=set)
    inserted: list[Insertion] = field(default_factory=list)
    replaced: dict[int, bytes] = field(default_factory=dict)

    def insert_notes(self, channel: int, notes: Iterable[Note]) -> None:
        """Insert note-ons after and note-offs before the events of their tick, so that adjacent notes never overlap."""
        for note in notes:
            on, off = note_messages(channel, note)
            self.inserted += Insertion(note.onset, AFTER, on), Insertion(note.end, BEFORE, off)


def rewrite(midi: MidiFile, edits: Mapping[int, ChunkEdit], *, new_chunks: Sequence[bytes] = ()) -> bytes:
    """Return the file with `edits` (by chunk) made and `new_chunks` appended; without either the source itself."""
    edits = {chunk: edit for chunk, edit in edits.items() if edit.deleted or edit.inserted or edit.replaced}
    if not edits and not new_chunks:
        return midi.source
    source, position = midi.source, midi.first_chunk
    out = bytearray(source[:position])
    for chunk, span in enumerate(midi.spans):
        out += source[position : span.start]
        # A wrong length is corrected in a copied chunk too, because other chunks may now follow it.
        out += chunk_bytes(_edited(midi, chunk, edits[chunk]) if chunk in edits else source[span.start + 8 : span.end])
        position = span.end
    out += b"".join(new_chunks) + source[position:]
    if new_chunks:
        out[midi.header + 10 : midi.header + 12] = (len(midi.spans) + len(new_chunks)).to_bytes(2, "big")
    return _with_riff_sizes(bytes(out), midi)


def _edited(midi: MidiFile, chunk: int, edit: ChunkEdit) -> bytes:
    """Return the content of an edited chunk."""
    body = _Body(midi, chunk, edit.replaced)
    events = body.events
    is_ended = bool(events) and events[-1].message.startswith(END_OF_TRACK)
    count = len(events) - is_ended
    inserted: dict[int, list[Event]] = defaultdict(list)
    for tick, side, message in sorted(edit.inserted, key=lambda insertion: insertion[:2]):
        bisect = bisect_left if side == BEFORE else bisect_right
        inserted[bisect(events, tick, hi=count, key=lambda event: event.tick)].append(Event(tick, message))
    at = 0
    for index in sorted({*inserted, *(index for index in edit.deleted if index < count)}):
        body.copy(at, index)
        for event in inserted[index]:
            body.append(event)
        at = index
        if index in edit.deleted:
            at += 1
            body.follows_edit = True
    body.copy(at, count)
    end = events[-1] if events else Event(0, b"")
    body.append(Event(max(end.tick, body.tick), end.message if is_ended else END_OF_TRACK + b"\x00"))
    junk = midi.source[body.offsets[-1] : midi.spans[chunk].end] if is_ended else b""
    return bytes(body.out) + junk


class _Body:
    """The content of a chunk so far; a replaced event is changed in place in the source's bytes."""

    def __init__(self, midi: MidiFile, chunk: int, replaced: Mapping[int, bytes]) -> None:
        self.offsets = midi.spans[chunk].offsets
        self.out, self.tick = bytearray(), 0
        # The next event of the source comes after an edit: its delta time and an omitted status byte do not apply.
        self.follows_edit = False
        if not replaced:
            self.source, self.events = midi.source, midi.tracks[chunk]
            return
        source, events = bytearray(midi.source), list(midi.tracks[chunk])
        for index, message in replaced.items():
            end = self.offsets[index + 1]
            source[end - len(message) + 1 : end] = message[1:]
            events[index] = Event(events[index].tick, message)
        self.source, self.events = bytes(source), tuple(events)

    def append(self, event: Event) -> None:
        """Append an event with its delta time and status byte."""
        self.out += variable_length(event.tick - self.tick) + event.message
        self.tick, self.follows_edit = event.tick, True

    def copy(self, first: int, stop: int) -> None:
        """Append consecutive events of the source, most of them as one copy of their bytes."""
        while self.follows_edit and first < stop:
            self.append(self.events[first])
            # Running status reaches back over meta and sysex events in some files: stop at a channel message.
            self.follows_edit = self.events[first].message[0] >= 0xF0
            first += 1
        if first < stop:
            self.out += self.source[self.offsets[first] : self.offsets[stop]]
            self.tick = self.events[stop - 1].tick


def _with_riff_sizes(out: bytes, midi: MidiFile) -> bytes:
    """Return `out` with the sizes of its RIFF wrapper (an .rmi file) corrected; other files do not change."""
    size_at = midi.header - 4
    if midi.header < 20 or out[:4] + out[8:12] != b"RIFFRMID" or out[size_at - 4 : size_at] != b"data":
        return out
    old_size = int.from_bytes(out[size_at : midi.header], "little")
    # A last track with a wrong length may include bytes that follow the wrapper's data.
    taken = max(0, midi.spans[-1].end - midi.header - old_size)
    size = old_size + taken + len(out) - len(midi.source)
    end = midi.header + size
    # RIFF pads chunks of odd length by a byte that their size does not count.
    old_padding = 0 if taken else old_size % 2
    body = out[midi.header : end] + b"\0" * (size % 2) + out[end + old_padding :]
    total = len(body) + midi.header - 8
    return b"RIFF" + total.to_bytes(4, "little") + out[8:size_at] + size.to_bytes(4, "little") + body
