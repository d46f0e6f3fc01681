"""A song: a Score, the MIDI file it came from, and the two events behind each note."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from harmonixr_model.errors import MidiError, RegionError
from harmonixr_model.music.interop import to_pretty_midi
from harmonixr_model.music.midi import Event, MidiFile, MidiLimits, parse_midi, read_varlen
from harmonixr_model.music.score import Note, Score, Tempo, TimeSignature, Track, timeline

if TYPE_CHECKING:
    from pretty_midi import PrettyMIDI

DRUM_CHANNEL = 9


class NoteSource(NamedTuple):
    """The origin of a note: its chunk, and the indices of its two events there (`off` None: the note never ends)."""

    chunk: int
    on: int
    off: int | None


class UnmatchedOff(NamedTuple):
    """A note-off that ends no note. It stays in the file and would end a new note that sounds at its tick."""

    chunk: int
    channel: int
    pitch: int
    tick: int


@dataclass(frozen=True, slots=True)
class Song:
    """A MIDI file and its music.

    A track of the score is one (chunk, channel) that has notes, ordered by chunk, then by channel. `sources[t][n]` is
    the origin of `score.tracks[t].notes[n]`, `chunks[t]` the chunk of track t.

    A note-off ends the oldest sounding note of its channel and pitch in its chunk. A note without a note-off lasts to
    the end of its chunk. A note of length zero counts as one tick long. Events with a pitch over 127 are not notes, and
    velocities over 127 count as 127; the events themselves do not change.
    """

    midi: MidiFile
    score: Score
    sources: tuple[tuple[NoteSource, ...], ...]
    chunks: tuple[int, ...]
    unmatched_offs: tuple[UnmatchedOff, ...] = field(repr=False)

    @classmethod
    def parse(cls, data: bytes, *, limits: MidiLimits | None = None) -> Song:
        """Read a MIDI file; raises MidiError as `parse_midi` does, and where the song has too many bars."""
        limits = limits or MidiLimits()
        midi = parse_midi(data, limits=limits)
        parts: dict[tuple[int, int], list[tuple[Note, NoteSource]]] = {}
        unmatched: list[UnmatchedOff] = []
        for chunk, events in enumerate(midi.tracks):
            found = _paired(chunk, events, unmatched)
            parts.update({(chunk, channel): found[channel] for channel in sorted(found)})
        programs = _Programs(midi)
        tracks = tuple(_track(midi, key, pairs, programs) for key, pairs in parts.items())
        tempos, signatures = _timeline(midi)
        score = Score(midi.ticks_per_quarter, tracks, tempos, signatures)
        if score.bar_count > limits.max_bars:
            raise MidiError(
                f"the song has {score.bar_count:,} bars, over the limit of {limits.max_bars:,}; a time signature or a "
                "delta time in it is wrong, or raise max_bars"
            )
        sources = tuple(tuple(source for _, source in pairs) for pairs in parts.values())
        return cls(midi, score, sources, tuple(chunk for chunk, _ in parts), tuple(unmatched))

    @classmethod
    def from_pretty_midi(cls, pretty: PrettyMIDI) -> Song:
        """Return the song that `pretty` would write to a file."""
        buffer = BytesIO()
        pretty.write(buffer)
        return cls.parse(buffer.getvalue())

    def to_pretty_midi(self) -> PrettyMIDI:
        """Return this song as pretty_midi reads it; raises MidiError where pretty_midi cannot read the file."""
        return to_pretty_midi(self.midi.source)

    def find_track(self, name_or_number: str | int) -> int:
        """Return the index of the track with this name (in any case) or number, counted from 1.

        Raises RegionError where no track, or more than one, has that name or number.
        """
        tracks = self.score.tracks
        text = str(name_or_number).strip()
        named = [i for i, track in enumerate(tracks) if track.name.casefold() == text.casefold() and text]
        if len(named) == 1 and not isinstance(name_or_number, int):
            return named[0]
        if text.isdecimal() and 1 <= int(text) <= len(tracks):
            return int(text) - 1
        if named:
            numbers = ", ".join(str(i + 1) for i in named)
            raise RegionError(f"several tracks are named {text!r} ({numbers}); choose one by its number")
        raise RegionError(f"there is no track {text!r}; this song has {self.score.track_list}")


def _paired(
    chunk: int, events: tuple[Event, ...], unmatched: list[UnmatchedOff]
) -> dict[int, list[tuple[Note, NoteSource]]]:
    """Return the notes of a chunk by channel, sorted by (onset, pitch), each with its source; add to `unmatched`."""
    sounding: dict[tuple[int, int], deque[tuple[int, int, int]]] = defaultdict(deque)
    found: dict[int, list[tuple[Note, NoteSource]]] = defaultdict(list)
    for index, (tick, message) in enumerate(events):
        kind = message[0] & 0xF0
        if kind not in (0x80, 0x90) or message[1] > 127:
            continue
        channel, pitch, velocity = message[0] & 0x0F, message[1], message[2]
        queue = sounding[channel, pitch]
        if kind == 0x90 and velocity:
            queue.append((tick, index, min(velocity, 127)))
        elif queue:
            onset, on, loudness = queue.popleft()
            found[channel].append((Note(onset, max(1, tick - onset), pitch, loudness), NoteSource(chunk, on, index)))
        else:
            unmatched.append(UnmatchedOff(chunk, channel, pitch, tick))
    last = events[-1].tick if events else 0
    for (channel, pitch), queue in sounding.items():
        for onset, on, loudness in queue:
            note = Note(onset, max(1, last - onset), pitch, loudness)
            found[channel].append((note, NoteSource(chunk, on, None)))
    for pairs in found.values():
        pairs.sort(key=lambda pair: (pair[0].onset, pair[0].pitch, pair[0].duration, pair[0].velocity, pair[1].on))
    return found


class _Programs:
    """The program changes of a file: (index, program) by chunk and channel, and (tick, program) by channel."""

    def __init__(self, midi: MidiFile) -> None:
        self.own: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        self.all: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for chunk, events in enumerate(midi.tracks):
            for index, (tick, message) in enumerate(events):
                if message[0] & 0xF0 == 0xC0:
                    channel, program = message[0] & 0x0F, message[1] & 0x7F
                    self.own[chunk, channel].append((index, program))
                    self.all[channel].append((tick, program))
        for changes in self.all.values():
            changes.sort(key=itemgetter(0))

    def in_force(self, chunk: int, channel: int, index: int, tick: int) -> int:
        """Return the chunk's own last program before its event `index`, else the channel's last up to `tick`."""
        for changes, bound in ((self.own[chunk, channel], index - 1), (self.all[channel], tick)):
            if before := bisect_right(changes, bound, key=itemgetter(0)):
                return changes[before - 1][1]
        return 0


def _track(midi: MidiFile, key: tuple[int, int], pairs: list[tuple[Note, NoteSource]], programs: _Programs) -> Track:
    chunk, channel = key
    first = min(source.on for _, source in pairs)
    return Track(
        notes=tuple(note for note, _ in pairs),
        program=programs.in_force(chunk, channel, first, midi.tracks[chunk][first].tick),
        is_drum=channel == DRUM_CHANNEL,
        name=_name(midi.tracks[chunk]),
        channel=channel,
    )


def _metas(events: tuple[Event, ...], kinds: tuple[int, int]) -> Iterator[tuple[int, int, bytes]]:
    """Yield (tick, kind, content) of the meta events of these kinds."""
    for tick, message in events:
        if message[0] == 0xFF and message[1] in kinds:
            yield tick, message[1], message[read_varlen(message, 2)[1] :]


def _name(events: tuple[Event, ...]) -> str:
    """Return the track name (kind 3), else the instrument name (kind 4), else an empty text."""
    names = [(kind, text) for _, kind, raw in _metas(events, (3, 4)) if (text := _text(raw))]
    return min(names, key=itemgetter(0), default=(0, ""))[1]


def _text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return " ".join("".join(c if c.isprintable() else " " for c in text[:256]).split())


def _timeline(midi: MidiFile) -> tuple[tuple[Tempo, ...], tuple[TimeSignature, ...]]:
    """Return the tempos and metres of all chunks; of several at one tick the last in the file counts."""
    tempos: list[Tempo] = []
    signatures: list[TimeSignature] = []
    for tick, kind, raw in chain.from_iterable(_metas(events, (0x51, 0x58)) for events in midi.tracks):
        if kind == 0x51 and len(raw) >= 3 and any(raw[:3]):
            tempos.append(Tempo(tick, int.from_bytes(raw[:3], "big")))
        # Real files hold damaged metres: of no beats, or of notes shorter than a 64th.
        if kind == 0x58 and len(raw) >= 2 and raw[0] and raw[1] <= 6:
            signatures.append(TimeSignature(tick, raw[0], 1 << raw[1]))
    return timeline(tempos, signatures)
