"""Hypothesis strategies of MIDI files, and a check of the splice invariants that shares no code with the splice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from harmonixr_model.music.region import Cell, NoteKey, Region
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import EditedSong


def _varlen(value: int, *, padded: bool = False) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    if padded and len(groups) < 4:
        groups.append(0x80)
    return bytes(reversed(groups))


def _meta(kind: int, payload: bytes) -> bytes:
    return bytes((0xFF, kind)) + _varlen(len(payload)) + payload


_channels = st.sampled_from([0, 1, 9])
# Few pitches, channels and deltas, so that notes meet: what matters happens at collisions.
_pitches = st.sampled_from([60, 61, 64])
_deltas = st.sampled_from([0, 0, 1, 5, 24, 48, 100, 300])
_sounding = st.builds(
    lambda status, channel, pitch, velocity: bytes((status | channel, pitch, velocity)),
    st.sampled_from([0x90, 0x90, 0x80]),
    _channels,
    _pitches,
    st.sampled_from([0, 0, 1, 64, 127]),
)
_data = st.integers(0, 127)
_other = st.one_of(
    st.builds(lambda s, c, a, b: bytes((s | c, a, b)), st.sampled_from([0xA0, 0xB0, 0xE0]), _channels, _data, _data),
    st.builds(lambda s, c, a: bytes((s | c, a)), st.sampled_from([0xC0, 0xD0]), _channels, _data),
    st.builds(_meta, st.sampled_from([1, 3, 5, 6, 0x21, 0x7F]), st.binary(max_size=5)),
    st.builds(lambda us: _meta(0x51, us.to_bytes(3, "big")), st.integers(1, 2**24 - 1)),
    st.builds(lambda n, d: _meta(0x58, bytes((n, d, 24, 8))), st.integers(0, 9), st.integers(0, 7)),
    st.builds(
        lambda s, raw: bytes((s,)) + _varlen(len(raw)) + raw, st.sampled_from([0xF0, 0xF7]), st.binary(max_size=4)
    ),
)
_plain = st.one_of(
    st.builds(lambda s, c, a, b: bytes((s | c, a, b)), st.sampled_from([0xA0, 0xB0, 0xE0]), _channels, _data, _data),
    st.builds(lambda s, c, a: bytes((s | c, a)), st.sampled_from([0xC0, 0xD0]), _channels, _data),
    st.builds(lambda kind, text: _meta(kind, text.encode()), st.sampled_from([1, 5, 6]), st.text("abc", max_size=5)),
    st.builds(lambda us: _meta(0x51, us.to_bytes(3, "big")), st.integers(1, 2**24 - 1)),
    st.builds(lambda raw: b"\xf0" + _varlen(len(raw) + 1) + bytes(raw) + b"\xf7", st.lists(_data, max_size=4)),
)


@st.composite
def _chunk_bodies(draw: st.DrawFn, *, clean: bool) -> tuple[bytes, bool]:
    """Draw the events of a chunk as bytes, and whether it has an End-of-Track."""
    body, running = bytearray(), 0
    strict = clean or draw(st.booleans())
    other = _plain if clean else _other
    for message in draw(st.lists(st.one_of(_sounding, _sounding, _sounding, other), max_size=30)):
        body += _varlen(draw(_deltas), padded=draw(st.integers(0, 9)) == 0)
        if message[0] < 0xF0:
            body += message[1:] if message[0] == running and draw(st.booleans()) else message
            running = message[0]
        else:
            body += message
            running = 0 if strict else running
    ended = draw(st.integers(0, 9)) > 0
    return bytes(body + (_varlen(draw(_deltas)) + b"\xff\x2f\x00" if ended else b"")), ended


@st.composite
def midi_files(draw: st.DrawFn, *, clean: bool = False) -> bytes:
    """Draw a file of format 0 or 1; unless `clean`, with defects that other readers fail on."""
    file_format = draw(st.integers(0, 1))
    bodies = draw(st.lists(_chunk_bodies(clean=clean), min_size=1, max_size=1 if file_format == 0 else 4))
    out = bytearray()
    for i, (body, ended) in enumerate(bodies):
        if clean and not ended:
            body += b"\x00\xff\x2f\x00"
        odd = "" if clean else draw(st.sampled_from(["", "", "", "junk", "unknown", "long"]))
        if odd == "junk" and ended:
            body += b"\x01\x02\x03"
        length = len(body) + (1000 if odd == "long" and i == len(bodies) - 1 else 0)
        out += b"MTrk" + length.to_bytes(4, "big") + body
        if odd == "unknown":
            out += b"XFIH\0\0\0\x02ab"
    header = b"MThd\0\0\0\x06" + bytes((0, file_format)) + len(bodies).to_bytes(2, "big")
    data = header + draw(st.sampled_from([24, 96, 480])).to_bytes(2, "big") + bytes(out)
    if not clean and draw(st.integers(0, 9)) == 0:
        pad = b"\0" * (len(data) % 2)
        body = b"RMIDdata" + len(data).to_bytes(4, "little") + data + pad
        return b"RIFF" + len(body).to_bytes(4, "little") + body
    return data


@st.composite
def regions(draw: st.DrawFn, song: Song) -> Region:
    """Draw a region of a song: it may be empty, have a pitch band or locks, or end after the song."""
    count, last = len(song.score.tracks), song.score.end + 100
    tick = st.integers(0, last)
    tracks = st.integers(0, count - 1)
    cells = draw(st.lists(st.builds(Cell, tracks, tick, tick), max_size=4)) if count else []
    low, high = sorted((draw(st.integers(55, 70)), draw(st.integers(55, 70))))
    region = Region(tuple(cells), low, high)
    inside = [
        NoteKey(i, note.onset, note.pitch)
        for i, track in enumerate(song.score.tracks)
        for note in track.notes
        if region.contains(i, note)
    ]
    locks = draw(st.sets(st.sampled_from(inside), max_size=2)) if inside else set()
    return Region(region.cells, low, high, frozenset(locks))


@st.composite
def fills(draw: st.DrawFn, region: Region) -> dict[int, list[Note]]:
    """Draw notes that begin inside the region, of any length and velocity, valid or not."""
    fill: dict[int, list[Note]] = {}
    for cell in region.cells:
        note = st.builds(
            Note,
            st.integers(cell.start, cell.end - 1),
            st.sampled_from([-3, 0, 1, 7, 24, 100, 5000]),
            st.integers(region.pitch_low, region.pitch_high),
            st.sampled_from([-5, 0, 1, 80, 127, 300]),
        )
        fill.setdefault(cell.track, []).extend(draw(st.lists(note, max_size=6)))
    return fill


def check_preserved(song: Song, region: Region, result: EditedSong) -> None:
    """Assert the invariants of a splice from the events of both files."""
    after = Song.parse(result.midi)
    new_by_chunk: dict[int, list[tuple[int, Note]]] = {}
    for index, notes in result.notes.items():
        new_by_chunk.setdefault(song.chunks[index], []).extend((song.score.tracks[index].channel, n) for n in notes)
    assert len(after.midi.tracks) == len(song.midi.tracks)
    for chunk in range(len(song.midi.tracks)):
        _check_events(song, region, after, chunk, new_by_chunk.get(chunk, []))
        _check_notes(song, region, after, chunk, new_by_chunk.get(chunk, []))
    _check_collisions(song, region, result)


def _check_events(song: Song, region: Region, after: Song, chunk: int, new: list[tuple[int, Note]]) -> None:
    gone = {
        index
        for i in region.tracks
        for note, source in zip(song.score.tracks[i].notes, song.sources[i], strict=True)
        if source.chunk == chunk and region.contains(i, note)
        for index in (source.on, source.off)
    }
    before_events, after_events = song.midi.tracks[chunk], after.midi.tracks[chunk]
    if not gone and not new:
        old, span = song.midi.spans[chunk], after.midi.spans[chunk]
        assert song.midi.source[old.start + 8 : old.end] == after.midi.source[span.start + 8 : span.end]
        return
    kept = [event for index, event in enumerate(before_events) if index not in gone]
    ended = bool(kept) and kept[-1].message[:2] == b"\xff\x2f"
    assert after_events[-1].message[:2] == b"\xff\x2f"
    if ended:
        latest = max((note.end for _, note in new), default=0)
        assert after_events[-1].tick == max(kept[-1].tick, latest)
    kept = kept[:-1] if ended else kept
    left, position = [], 0
    for event in after_events[:-1]:
        if position < len(kept) and event == kept[position]:
            position += 1
        else:
            left.append(event)
    assert position == len(kept), "an event outside the region changed, moved or disappeared"
    ons = [(n.onset, bytes((0x90 | channel, n.pitch, n.velocity))) for channel, n in new]
    offs = [(n.end, 0x80 | channel, n.pitch) for channel, n in new]
    assert Counter(tuple(event) for event in left if event.message[0] >= 0x90) == Counter(ons)
    assert Counter((e.tick, e.message[0], e.message[1]) for e in left if e.message[0] < 0x90) == Counter(offs)


def _check_notes(song: Song, region: Region, after: Song, chunk: int, new: list[tuple[int, Note]]) -> None:
    """Read back, the chunk holds the notes that stay and the new ones, none of them cut."""
    context = [
        (track.channel, note if source.off is not None else note._replace(duration=0))
        for i, (track, sources) in enumerate(zip(song.score.tracks, song.sources, strict=True))
        for note, source in zip(track.notes, sources, strict=True)
        if source.chunk == chunk and not region.contains(i, note)
    ]
    found = [
        (track.channel, note if source.off is not None else note._replace(duration=0))
        for track, sources in zip(after.score.tracks, after.sources, strict=True)
        for note, source in zip(track.notes, sources, strict=True)
        if source.chunk == chunk
    ]
    assert Counter(found) == Counter(context + new)


def _check_collisions(song: Song, region: Region, result: EditedSong) -> None:
    """No new note shares its channel and pitch with any other note that sounds, on whichever track."""
    context: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for i, (track, sources) in enumerate(zip(song.score.tracks, song.sources, strict=True)):
        for note, source in zip(track.notes, sources, strict=True):
            if not region.contains(i, note):
                end = note.end if source.off is not None else float("inf")
                context.setdefault((track.channel, note.pitch), []).append((note.onset, end))
    for i in sorted(result.notes):
        for note in result.notes[i]:
            others = context.setdefault((song.score.tracks[i].channel, note.pitch), [])
            assert all(note.end <= start or end <= note.onset for start, end in others)
            assert 1 <= note.velocity <= 127
            assert note.duration >= 1
            others.append((note.onset, note.end))


@pytest.fixture(scope="session")
def preserved() -> Callable[[Song, Region, EditedSong], None]:
    """The check of the splice invariants."""
    return check_preserved


@pytest.fixture(scope="session")
def drawn_files() -> Callable[..., st.SearchStrategy[bytes]]:
    """The strategy of MIDI files."""
    return midi_files


@pytest.fixture(scope="session")
def drawn_gaps() -> st.SearchStrategy[tuple[Song, Region, dict[int, list[Note]]]]:
    """The strategy of a song, a region of it and a fill for that."""

    @st.composite
    def gaps(draw: st.DrawFn) -> tuple[Song, Region, dict[int, list[Note]]]:
        song = Song.parse(draw(midi_files()))
        region = draw(regions(song))
        return song, region, draw(fills(region))

    return gaps()
