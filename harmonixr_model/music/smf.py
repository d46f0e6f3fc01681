"""Write standard MIDI files event by event."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from harmonixr_model.music.score import Note, Score

_TEXT_KINDS = {"text": 1, "copyright": 2, "name": 3, "lyric": 5, "marker": 6}
# The longest delta time of a variable-length number's four bytes.
MAX_DELTA = 0x0FFF_FFFF
_MAX_US_PER_QUARTER = 0xFF_FFFF
# The order at one tick: note-offs, then settings, then note-ons.
_ENDS, _SETS, _SOUNDS = 0, 1, 2


class Chunk:
    """The events of one MTrk chunk. They may be added in any order; `to_bytes` sorts them by tick."""

    def __init__(self, name: str = "") -> None:
        self._events: list[tuple[int, int, bytes]] = []
        if name:
            self.text(0, "name", name)

    def text(self, tick: int, kind: str, text: str) -> None:
        """Add a text, copyright, name, lyric or marker meta event."""
        self._meta(tick, _TEXT_KINDS[kind], text.encode())

    def tempo(self, tick: int, us_per_quarter: int) -> None:
        """Add a tempo change."""
        self._meta(tick, 0x51, us_per_quarter.to_bytes(3, "big"))

    def time_signature(self, tick: int, numerator: int, denominator: int) -> None:
        """Add a metre; the denominator is a power of two."""
        clocks = 36 if denominator == 8 and numerator % 3 == 0 else 96 // denominator
        self._meta(tick, 0x58, bytes((numerator, denominator.bit_length() - 1, clocks, 8)))

    def timeline(self, score: Score) -> None:
        """Add the metres and tempos of a score, tempos clamped to the format's range."""
        for signature in score.time_signatures:
            self.time_signature(*signature)
        for tempo in score.tempos:
            self.tempo(tempo.tick, min(_MAX_US_PER_QUARTER, max(1, tempo.us_per_quarter)))

    def key_signature(self, tick: int, sharps: int, *, is_minor: bool) -> None:
        """Add a key signature; flats are negative sharps."""
        self._meta(tick, 0x59, struct.pack(">bB", sharps, is_minor))

    def program(self, channel: int, program: int) -> None:
        """Set the program of a channel at the start."""
        self._events.append((0, _SETS, bytes((0xC0 | channel, program))))

    def player(self, channel: int, program: int, *, volume: int = 100, pan: int = 64) -> None:
        """Set the program, volume and pan of a channel at the start."""
        self.program(channel, program)
        self.control(0, channel, 7, volume)
        self.control(0, channel, 10, pan)

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
            self._events.append((note.onset, _SOUNDS, bytes((0x90 | channel, note.pitch, note.velocity))))
            self._events.append((note.end, _ENDS, bytes((0x80 | channel, note.pitch, 64))))

    def to_bytes(self) -> bytes:
        """Return the chunk with its header and End-of-Track."""
        body, now = bytearray(), 0
        for tick, _, message in sorted(self._events, key=lambda event: event[:2]):
            body += variable_length(tick - now) + message
            now = tick
        body += b"\0\xff\x2f\0"
        return b"MTrk" + struct.pack(">I", len(body)) + bytes(body)

    def _meta(self, tick: int, kind: int, data: bytes) -> None:
        self._events.append((tick, _SETS, bytes((0xFF, kind)) + variable_length(len(data)) + data))


def smf_bytes(chunks: Sequence[Chunk], ticks_per_quarter: int) -> bytes:
    """Return a format-1 file of these chunks; the first holds tempos and metres."""
    header = b"MThd" + struct.pack(">IHHH", 6, 1, len(chunks), ticks_per_quarter)
    return header + b"".join(chunk.to_bytes() for chunk in chunks)


def variable_length(value: int) -> bytes:
    """Return `value` as a variable-length number; four bytes hold at most 2**28 - 1."""
    if not 0 <= value <= MAX_DELTA:
        raise ValueError(f"{value} does not fit a variable-length number; 0-{MAX_DELTA} does")
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))
