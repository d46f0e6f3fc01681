"""A lossless reader of standard MIDI files: raw events in order, and the position of each in the source.

The reader tolerates common defects of real files: running status after a meta event, wrong chunk lengths, junk before,
between and after chunks, a missing End-of-Track, a RIFF wrapper, data bytes over 127. Other damage raises MidiError,
which names the byte.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from harmonixr_model.errors import MidiError
from harmonixr_model.music.write import MAX_DELTA

END_OF_TRACK = b"\xff\x2f"
# How many bytes may precede the header: MacBinary puts 128 there, mail gateways a page.
_HEADER_SEARCH = 1 << 16


class Event(NamedTuple):
    """One event: its absolute tick, and its message with the status byte (meta and sysex as in the file)."""

    tick: int
    message: bytes


@dataclass(frozen=True, slots=True)
class MidiLimits:
    """Size limits of a file. A file past a limit raises MidiError before it costs time or memory."""

    max_bytes: int = 8 << 20
    max_events: int = 500_000
    max_tracks: int = 512
    max_ticks: int = MAX_DELTA
    max_bars: int = 20_000


@dataclass(frozen=True, slots=True)
class TrackSpan:
    """The position of one track in the source bytes.

    `offsets` holds the position of each event's delta time, then the position after the last whole event. The chunk
    begins (its "MTrk") at `start` and ends at `end`; bytes between the last event and `end` are junk or a fragment.
    """

    start: int
    end: int
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MidiFile:
    """A parsed file: its events, its bytes as they were read, and the position of each track in them."""

    format: int
    ticks_per_quarter: int
    tracks: tuple[tuple[Event, ...], ...]
    source: bytes
    header: int
    spans: tuple[TrackSpan, ...]

    @property
    def first_chunk(self) -> int:
        """The position after the header."""
        return self.header + 8 + int.from_bytes(self.source[self.header + 4 : self.header + 8], "big")


def parse_midi(data: bytes, *, limits: MidiLimits | None = None) -> MidiFile:
    """Read a standard MIDI file of format 0 or 1.

    Raises:
        MidiError: the bytes are not a MIDI file, end before anything usable, have no single musical timeline (format 2,
            SMPTE division), are damaged beyond repair, or exceed `limits`.
    """
    limits = limits or MidiLimits()
    if not data:
        raise MidiError("the file is empty; give a standard MIDI file (.mid)")
    if len(data) > limits.max_bytes:
        raise MidiError(
            f"the file has {len(data):,} bytes, over the limit of {limits.max_bytes:,}; "
            "give a shorter song, or raise max_bytes"
        )
    header, file_format, declared_tracks, ticks_per_quarter = _read_header(data)
    position = header + 8 + int.from_bytes(data[header + 4 : header + 8], "big")
    tracks, spans = _read_tracks(data, position, limits)
    if not tracks and declared_tracks:
        raise MidiError(
            f"the file is cut off at byte {len(data)}: its header promises {declared_tracks} tracks and none follows; "
            "export or download it again"
        )
    return MidiFile(file_format, ticks_per_quarter, tuple(tracks), data, header, tuple(spans))


def read_varlen(data: bytes, position: int) -> tuple[int, int]:
    """Return the variable-length number at `position` and the position after it.

    Raises:
        IndexError: the data ends inside the number.
        MidiError: the number has more than the four bytes the format allows.
    """
    value = 0
    for offset in range(4):
        byte = data[position + offset]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position + offset + 1
    raise MidiError(f"a variable-length number at byte {position} runs past four bytes; the file is damaged there")


def _read_header(data: bytes) -> tuple[int, int, int, int]:
    """Return the position of the header, the format, the declared number of tracks and the ticks per quarter."""
    header = data.find(b"MThd", 0, _HEADER_SEARCH)
    if header < 0:
        raise MidiError(
            f"not a MIDI file: no 'MThd' header in its first {min(len(data), _HEADER_SEARCH)} bytes "
            f"(it begins with {data[:8]!r}); give a standard MIDI file (.mid)"
        )
    if len(data) < header + 14:
        raise MidiError(
            f"the file is cut off at byte {len(data)}, inside its 14-byte header; export or download it again"
        )
    length, file_format, declared_tracks, division = struct.unpack_from(">IHHH", data, header + 4)
    if not 6 <= length <= len(data) - header - 8:
        raise MidiError(f"the header at byte {header} claims {length} bytes of content where 6 are due; it is damaged")
    if file_format > 1:
        raise MidiError(
            f"the file is of format {file_format} (byte {header + 8}), whose tracks share no timeline; "
            "save it as format 0 or 1"
        )
    if division & 0x8000:
        raise MidiError(
            f"the file counts time in SMPTE frames (division 0x{division:04x} at byte {header + 12}), not in beats; "
            "export it with ticks per quarter note"
        )
    if division == 0:
        raise MidiError(f"the file has 0 ticks per quarter note (byte {header + 12}); export it with 24 or more")
    return header, file_format, declared_tracks, division


def _read_tracks(data: bytes, position: int, limits: MidiLimits) -> tuple[list[tuple[Event, ...]], list[TrackSpan]]:
    tracks: list[tuple[Event, ...]] = []
    spans: list[TrackSpan] = []
    budget = limits.max_events
    while True:
        start, end = _next_chunk(data, position)
        if start < 0:
            return tracks, spans
        position = end
        if data[start : start + 4] != b"MTrk":
            continue
        if len(tracks) == limits.max_tracks:
            raise MidiError(
                f"the file holds more than {limits.max_tracks} tracks (byte {start}); merge some, or raise max_tracks"
            )
        events, offsets, position = _TrackReader(data, start, limits, budget).read(end)
        budget -= len(events)
        tracks.append(tuple(events))
        spans.append(TrackSpan(start, position, tuple(offsets)))


def _next_chunk(data: bytes, position: int) -> tuple[int, int]:
    """Return [start, end) of the chunk at or after `position`, header included; (-1, -1) when there is none."""
    if position + 8 <= len(data):
        end = position + 8 + int.from_bytes(data[position + 4 : position + 8], "big")
        # An unknown chunk's length is trusted only where a track follows; otherwise search for the next track.
        if b"MTrk" in (data[position : position + 4], data[end : end + 4]):
            return position, end
    start = data.find(b"MTrk", position)
    if start < 0 or start + 8 > len(data):
        return -1, -1
    return start, start + 8 + int.from_bytes(data[start + 4 : start + 8], "big")


class _TrackReader:
    """Reads one track chunk, whose length field may be wrong."""

    def __init__(self, data: bytes, start: int, limits: MidiLimits, budget: int) -> None:
        self.data, self.start, self.limits, self.budget = data, start, limits, budget

    def read(self, declared_end: int) -> tuple[list[Event], list[int], int]:
        """Return the events, their offsets and the end of the chunk, which may differ from `declared_end`."""
        data, end = self.data, declared_end
        if end > len(data):
            events, offsets = self._events(len(data), stop_at_chunk=True)
            return events, offsets, self._next_track(offsets[-1])
        events, offsets = self._events(end)
        after = offsets[-1]
        if _is_ended(events) or end == len(data) or data[end : end + 4] == b"MTrk":
            # The declared length may include the next chunk.
            includes_next = after < end and data[after : after + 4] == b"MTrk" != data[end : end + 4]
            return events, offsets, after if includes_next else end
        # No End-of-Track before the declared end and no chunk after it: the declared length is too small.
        try:
            longer, longer_offsets = self._events(self._next_track(end))
        except MidiError:
            return events, offsets, end
        return (longer, longer_offsets, longer_offsets[-1]) if _is_ended(longer) else (events, offsets, end)

    def _next_track(self, position: int) -> int:
        following = self.data.find(b"MTrk", position)
        return len(self.data) if following < 0 else following

    def _events(self, end: int, *, stop_at_chunk: bool = False) -> tuple[list[Event], list[int]]:
        data, position, tick = self.data, self.start + 8, 0
        events: list[Event] = []
        offsets: list[int] = []
        running = 0
        try:
            while position < end:
                begin = position
                delta = data[position]
                position += 1
                if delta >= 0x80:
                    delta, position = read_varlen(data, begin)
                elif stop_at_chunk and delta == 0x4D and data.startswith(b"MTrk", begin):
                    # Only at the start of an event: a text may contain the same four bytes.
                    position = begin
                    break
                if position >= end:
                    position = begin
                    break
                tick += delta
                status = data[position]
                if status < 0x80:
                    if not running:
                        raise MidiError(
                            f"the event at byte {begin} has no status byte and none came before it in its track; "
                            "the file is damaged there"
                        )
                    after = position + (1 if 0xC0 <= running < 0xE0 else 2)
                    message = running.to_bytes(1, "big") + data[position:after]
                else:
                    if status < 0xF0:
                        running = status
                        after = position + (2 if 0xC0 <= status < 0xE0 else 3)
                    else:
                        after = _system_end(data, position)
                    message = data[position:after]
                if after > end:
                    # The chunk ends inside an event: the events before it are complete.
                    position = begin
                    break
                position = after
                events.append(Event(tick, message))
                offsets.append(begin)
                if len(events) > self.budget:
                    raise MidiError(
                        f"the file holds more than {self.limits.max_events:,} events (byte {begin}); "
                        "give a shorter song, or raise max_events"
                    )
                if status == 0xFF and message[1] == 0x2F:
                    break
        except IndexError:
            position = begin
        if tick > self.limits.max_ticks:
            raise MidiError(
                f"the track at byte {self.start} lasts {tick:,} ticks, over the limit of {self.limits.max_ticks:,}; "
                "a delta time in it is wrong, or raise max_ticks"
            )
        offsets.append(position)
        return events, offsets


def _is_ended(events: list[Event]) -> bool:
    return bool(events) and events[-1].message.startswith(END_OF_TRACK)


def _system_end(data: bytes, position: int) -> int:
    """Return the position after the meta, sysex or system message at `position`."""
    status = data[position]
    if status in (0xF0, 0xF7, 0xFF):
        length, after = read_varlen(data, position + (2 if status == 0xFF else 1))
        return after + length
    if status in (0xF4, 0xF5):
        raise MidiError(
            f"undefined status byte 0x{status:02x} at byte {position}: how long that message is cannot be known; "
            "the file is damaged there"
        )
    # System common and real-time messages do not belong in a file, but their lengths are known.
    return position + {0xF1: 2, 0xF2: 3, 0xF3: 2}.get(status, 1)
