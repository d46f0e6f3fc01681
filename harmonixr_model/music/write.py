"""Write standard MIDI files: a whole score, or event by event."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from harmonixr_model.music.score import Note, Score, Track

# The longest delta time of a variable-length number's four bytes.
MAX_DELTA = 0x0FFF_FFFF
_TEXT_KINDS = {"text": 1, "copyright": 2, "name": 3, "lyric": 5, "marker": 6}
_MAX_US_PER_QUARTER = 0xFF_FFFF
# The MIDI standard's value for devices that do not sense release velocity.
_RELEASE_VELOCITY = 64
# The order at one tick: note-offs, then settings, then note-ons.
_ENDS, _SETS, _SOUNDS = 0, 1, 2


def write_midi(score: Score) -> bytes:
    """Return a format 1 file: a chunk of tempos and metres, then one for each track with its name and program.

    Tracks keep their channels. Velocities outside 1-127 are clamped, and a note of length zero gets one tick. MIDI
    cannot express which of two overlapping notes of one pitch a note-off ends: read back, the first one ends first.
    """
    conductor = Chunk()
    conductor.timeline(score)
    return smf_bytes([conductor, *map(track_chunk, score.tracks)], score.ticks_per_quarter)


class Chunk:
    """The events of one MTrk chunk. They may be added in any order; `to_bytes` sorts them by tick."""

    def __init__(self, name: str = "") -> None:
        self._events: list[tuple[int, int, bytes]] = []
        if name:
            self.text(0, "name", name)

    def text(self, tick: int, kind: str, text: str) -> None:
        """Add a text, copyright, name, lyric or marker meta event."""
        self._meta(tick, _TEXT_KINDS[kind], text.encode())

    def timeline(self, score: Score) -> None:
        """Add the metres and tempos of a score, tempos clamped to the format's range."""
        for tick, numerator, denominator in score.time_signatures:
            clocks = 36 if denominator == 8 and numerator % 3 == 0 else 96 // denominator
            self._meta(tick, 0x58, bytes((numerator, denominator.bit_length() - 1, clocks, 8)))
        for tick, us_per_quarter in score.tempos:
            self._meta(tick, 0x51, min(_MAX_US_PER_QUARTER, max(1, us_per_quarter)).to_bytes(3, "big"))

    def key_signature(self, tick: int, sharps: int, *, is_minor: bool) -> None:
        """Add a key signature; flats are negative sharps."""
        self._meta(tick, 0x59, struct.pack(">bB", sharps, is_minor))

    def program(self, channel: int, program: int) -> None:
        """Set the program of a channel at the start."""
        self._events.append((0, _SETS, program_change(channel, program)))

    def control(self, tick: int, channel: int, number: int, value: int) -> None:
        """Add a controller change."""
        self._events.append((tick, _SETS, bytes((0xB0 | channel, number, value))))

    def bend(self, tick: int, channel: int, value: int) -> None:
        """Add a pitch bend, -8192 to 8191."""
        wheel = value + 8192
        self._events.append((tick, _SETS, bytes((0xE0 | channel, wheel & 0x7F, wheel >> 7))))

    def notes(self, channel: int, notes: Iterable[Note]) -> None:
        """Add a note-on and a note-off for every note."""
        for note in notes:
            on, off = note_messages(channel, note)
            self._events += (note.onset, _SOUNDS, on), (note.end, _ENDS, off)

    def to_bytes(self) -> bytes:
        """Return the chunk with its header and End-of-Track."""
        body, now = bytearray(), 0
        for tick, _, message in sorted(self._events, key=lambda event: event[:2]):
            body += variable_length(tick - now) + message
            now = tick
        return chunk_bytes(bytes(body) + b"\0\xff\x2f\0")

    def _meta(self, tick: int, kind: int, data: bytes) -> None:
        self._events.append((tick, _SETS, bytes((0xFF, kind)) + variable_length(len(data)) + data))


def track_chunk(track: Track, *, volume: int | None = None, pan: int = 64) -> Chunk:
    """Return a chunk with a track's name, program and notes, and with its volume and pan where a volume is given."""
    chunk = Chunk(track.name)
    chunk.program(track.channel, track.program)
    if volume is not None:
        chunk.control(0, track.channel, 7, volume)
        chunk.control(0, track.channel, 10, pan)
    chunk.notes(track.channel, (note._replace(duration=max(1, note.duration)) for note in track.notes))
    return chunk


def smf_bytes(chunks: Sequence[Chunk], ticks_per_quarter: int) -> bytes:
    """Return a format-1 file of these chunks; the first holds tempos and metres."""
    header = b"MThd" + struct.pack(">IHHH", 6, 1, len(chunks), ticks_per_quarter)
    return header + b"".join(chunk.to_bytes() for chunk in chunks)


def chunk_bytes(content: bytes) -> bytes:
    """Return an MTrk chunk with this content."""
    return b"MTrk" + struct.pack(">I", len(content)) + content


def note_messages(channel: int, note: Note) -> tuple[bytes, bytes]:
    """Return the note-on and the note-off of a note; the velocity is clamped to 1-127."""
    velocity = min(127, max(1, note.velocity))
    return bytes((0x90 | channel, note.pitch, velocity)), bytes((0x80 | channel, note.pitch, _RELEASE_VELOCITY))


def program_change(channel: int, program: int) -> bytes:
    """Return the message that sets a channel's program."""
    return bytes((0xC0 | channel, program & 0x7F))


def variable_length(value: int) -> bytes:
    """Return `value` as a variable-length number; four bytes hold at most 2**28 - 1."""
    if not 0 <= value <= MAX_DELTA:
        raise ValueError(f"{value} does not fit a variable-length number; 0-{MAX_DELTA} does")
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))
