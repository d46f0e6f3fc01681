"""Write a parsed file with some events deleted, replaced or inserted, and every other byte copied.

A chunk without edits is copied byte for byte. In an edited chunk only these other bytes change: delta times next to an
edit, a status byte that was omitted after a deleted event, the chunk's length, and the tick of End-of-Track where
events now follow it. A truncated chunk gets an End-of-Track.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harmonixr_model.music.midi import END_OF_TRACK, Event, MidiFile, TrackSpan, read_varlen
from harmonixr_model.music.smf import variable_length

BEFORE, AFTER = 0, 1


@dataclass(frozen=True, slots=True)
class Insertion:
    """A new event, BEFORE or AFTER the events that the chunk already has at its tick."""

    event: Event
    side: int


@dataclass(frozen=True, slots=True)
class ChunkEdit:
    """The changes of one chunk: indices of events to delete, events to insert, and new messages by event index.

    Insertions at one tick keep their order. A replaced event keeps its tick and status byte.
    """

    deleted: frozenset[int]
    inserted: tuple[Insertion, ...]
    replaced: Mapping[int, bytes] = field(default_factory=dict)


def rewrite(midi: MidiFile, edits: Mapping[int, ChunkEdit], *, new_chunks: Sequence[bytes] = ()) -> bytes:
    """Return the file with `edits` (by chunk) made and `new_chunks` appended; without either the source itself."""
    edits = {chunk: edit for chunk, edit in edits.items() if edit.deleted or edit.inserted or edit.replaced}
    if not edits and not new_chunks:
        return midi.source
    source, out, position = midi.source, bytearray(), 0
    for chunk, span in enumerate(midi.spans):
        out += source[position : span.start]
        out += _edited(midi, chunk, edits[chunk]) if chunk in edits else _copied(source, span)
        position = span.end
    if not midi.spans:
        position = midi.header + 8 + int.from_bytes(source[midi.header + 4 : midi.header + 8], "big")
        out += source[:position]
    for added in new_chunks:
        out += added
    out += source[position:]
    if new_chunks:
        out[midi.header + 10 : midi.header + 12] = (len(midi.spans) + len(new_chunks)).to_bytes(2, "big")
    return _with_riff_sizes(bytes(out), midi)


def _copied(source: bytes, span: TrackSpan) -> bytes:
    """Return an unedited chunk; a wrong length is corrected, because other chunks may now follow it."""
    content = source[span.start + 8 : span.end]
    return b"MTrk" + len(content).to_bytes(4, "big") + content


def _edited(midi: MidiFile, chunk: int, edit: ChunkEdit) -> bytes:
    events, span = midi.tracks[chunk], midi.spans[chunk]
    ended = bool(events) and events[-1].message.startswith(END_OF_TRACK)
    count = len(events) - ended
    body = _Body(midi.source, span)
    # (index of the next event, insertion), and (index, None) for an event that is deleted or replaced.
    changes: list[tuple[int, Insertion | None]] = [(_place(events, count, one), one) for one in edit.inserted]
    changes += [(index, None) for index in edit.deleted.union(edit.replaced) if index < count]
    at = 0
    for index, inserted in sorted(changes, key=_in_order):
        body.copy_run(events, at, index)
        at = index
        if inserted is not None:
            body.insert(inserted.event)
            continue
        if index not in edit.deleted:
            body.copy(index, events[index], replaced=edit.replaced[index])
        at += 1
    body.copy_run(events, at, count)
    if not ended:
        body.insert(Event(max(body.tick, events[-1].tick if events else 0), END_OF_TRACK + b"\x00"))
        junk = b""
    else:
        end = events[-1]
        body.copy(len(events) - 1, Event(max(end.tick, body.tick), end.message))
        junk = midi.source[span.offsets[-1] : span.end]
    content = bytes(body.out) + junk
    return b"MTrk" + len(content).to_bytes(4, "big") + content


def _place(events: Sequence[Event], count: int, insertion: Insertion) -> int:
    """Return the index of the event, of the first `count`, before which the insertion goes."""
    bisect = bisect_left if insertion.side == BEFORE else bisect_right
    return bisect(events, insertion.event.tick, hi=count, key=lambda event: event.tick)


def _in_order(change: tuple[int, Insertion | None]) -> tuple[int, bool, int, int]:
    index, inserted = change
    return (index, True, 0, 0) if inserted is None else (index, False, inserted.event.tick, inserted.side)


class _Body:
    """The bytes of a chunk so far, and the running status of a reader at their end."""

    def __init__(self, source: bytes, span: TrackSpan) -> None:
        self.source, self.span = source, span
        self.out = bytearray()
        self.tick = 0
        self.last_index = -1
        # By the standard a meta or sysex event cancels running status; some files ignore that (lenient).
        self.strict_status = self.lenient_status = 0

    def insert(self, event: Event) -> None:
        """Append a new event with its status byte."""
        self._append(variable_length(event.tick - self.tick), event.message, event)
        self.last_index = -2

    def copy_run(self, events: Sequence[Event], first: int, stop: int) -> None:
        """Append consecutive events of the source, most of them as one copy of their bytes.

        Running status may reach back before the run, so events up to the first channel message are copied singly.
        """
        is_open = True
        while is_open and first < stop:
            self.copy(first, events[first])
            is_open = events[first].message[0] >= 0xF0
            first += 1
        if first >= stop:
            return
        self.out += self.source[self.span.offsets[first] : self.span.offsets[stop]]
        self.tick, self.last_index = events[stop - 1].tick, stop - 1
        is_cancelled = False
        for index in range(stop - 1, first - 1, -1):
            status = events[index].message[0]
            if status < 0xF0:
                self.strict_status, self.lenient_status = 0 if is_cancelled else status, status
                return
            is_cancelled |= _cancels(status)
        if is_cancelled:
            self.strict_status = 0

    def copy(self, index: int, event: Event, *, replaced: bytes | None = None) -> None:
        """Append an event of the source, or the message that replaces it; its bytes stay where they still apply."""
        begin, end = self.span.offsets[index : index + 2]
        after_delta = begin
        while self.source[after_delta] & 0x80:
            after_delta += 1
        raw_delta, raw_message = self.source[begin : after_delta + 1], self.source[after_delta + 1 : end]
        if replaced is not None:
            raw_message, event = replaced[len(replaced) - len(raw_message) :], Event(event.tick, replaced)
        delta = event.tick - self.tick
        if read_varlen(raw_delta, 0)[0] != delta:
            raw_delta = variable_length(delta)
        if len(raw_message) < len(event.message) and not self._may_omit(event.message[0], index):
            raw_message = event.message
        self._append(raw_delta, raw_message, event)
        self.last_index = index

    def _may_omit(self, status: int, index: int) -> bool:
        untouched = self.last_index == index - 1
        return self.strict_status == status or (untouched and self.lenient_status == status)

    def _append(self, delta: bytes, message: bytes, event: Event) -> None:
        self.out += delta + message
        self.tick = event.tick
        status = event.message[0]
        if status < 0xF0:
            self.strict_status = self.lenient_status = status
        elif _cancels(status):
            self.strict_status = 0


def _cancels(status: int) -> bool:
    """Return whether a message may cancel running status: all except real-time messages do."""
    return status < 0xF8 or status == 0xFF


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
