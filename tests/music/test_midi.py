from __future__ import annotations

import contextlib
import io
import time

import mido
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harmonixr_model.errors import MidiError
from harmonixr_model.music.midi import Event, MidiLimits, parse_midi
from harmonixr_model.music.song import Song

HEADER = b"MThd\0\0\0\x06\0\x01\0\x01\0\x60"
NOTE = b"\x00\x90\x3c\x40\x60\x80\x3c\x00"
END = b"\x00\xff\x2f\x00"
relaxed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def chunk(body: bytes, *, claim: int | None = None) -> bytes:
    return b"MTrk" + (len(body) if claim is None else claim).to_bytes(4, "big") + body


NOTES = (Event(0, b"\x90\x3c\x40"), Event(96, b"\x80\x3c\x00"), Event(96, b"\xff\x2f\x00"))


@given(data=st.data())
@relaxed
def test_reading_agrees_with_an_independent_reader(drawn_files, data):
    source = data.draw(drawn_files(clean=True))
    midi = parse_midi(source)
    other = mido.MidiFile(file=io.BytesIO(source))
    assert midi.ticks_per_quarter == other.ticks_per_beat
    assert len(midi.tracks) == len(other.tracks)
    for events, track in zip(midi.tracks, other.tracks, strict=True):
        tick = 0
        for event, message in zip(events, track, strict=True):
            tick += message.time
            assert event.tick == tick
            if event.message[0] < 0xF0:
                assert event.message == bytes(message.bytes())
            else:
                assert event.message[0] == (0xFF if message.is_meta else 0xF0)


@pytest.mark.parametrize(
    "data",
    [
        HEADER + chunk(NOTE + END),
        HEADER + chunk(NOTE + END, claim=900_000),
        HEADER + chunk(NOTE + END, claim=5),
        HEADER + chunk(NOTE + END + b"junk"),
        HEADER + b"XFIH\0\0\0\x03abc" + chunk(NOTE + END) + b"junk after the last chunk",
        b"\0" * 128 + HEADER + chunk(NOTE + END),
        b"RIFF\x32\0\0\0RMIDdata\x26\0\0\0" + HEADER + chunk(NOTE + END),
        HEADER.replace(b"\x06\0\x01\0\x01\0\x60", b"\x08\0\x01\0\x01\0\x60\0\0") + chunk(NOTE + END),
        HEADER.replace(b"\0\x01\0\x60", b"\0\x63\0\x60") + chunk(NOTE + END),
        HEADER + chunk(b"\x80\x80\x80\x00\x90\x3c\x40\x80\x60\x80\x3c\x00" + END),
    ],
    ids=[
        "plain",
        "too-long",
        "too-short",
        "junk",
        "unknown-chunk",
        "prefix",
        "rmid",
        "header-8",
        "99-tracks",
        "padded",
    ],
)
def test_odd_files_are_read_and_given_back(data):
    midi = parse_midi(data)
    assert midi.tracks == (NOTES,)
    assert midi.source is data


def test_a_chunk_that_claims_too_much_does_not_swallow_the_next_one():
    data = HEADER + chunk(NOTE + END, claim=5000) + chunk(NOTE + END)
    assert parse_midi(data).tracks == (NOTES, NOTES)
    text = b"\x00\xff\x01\x04MTrk"
    assert len(parse_midi(HEADER + chunk(text + NOTE + END, claim=5000)).tracks) == 1


def test_a_track_without_its_end_keeps_its_events():
    assert parse_midi(HEADER + chunk(NOTE)).tracks == (NOTES[:2],)
    assert parse_midi(HEADER + chunk(NOTE + b"\x00\x90\x3c", claim=99)).tracks == (NOTES[:2],)


def test_running_status_survives_a_meta_event():
    data = HEADER + chunk(b"\x00\x90\x3c\x40\x00\xff\x01\x01a\x60\x3c\x00" + END)
    assert parse_midi(data).tracks[0][2] == Event(96, b"\x90\x3c\x00")


def test_data_bytes_over_127_are_kept_and_count_as_127():
    song = Song.parse(HEADER + chunk(b"\x00\x90\x3c\xe8\x60\x80\x3c\x00" + END))
    assert song.midi.tracks[0][0].message == b"\x90\x3c\xe8"
    assert song.score.tracks[0].notes[0].velocity == 127


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"<html>no such page</html>", "not a MIDI file"),
        (b"\x89PNG" + bytes(500), "not a MIDI file"),
        (b"MThd\0\0\0\x06\0\x01", "cut off at byte 10"),
        (HEADER, "cut off at byte 14"),
        (HEADER + b"MTrk\0\0", "cut off at byte 20"),
        (HEADER.replace(b"\x06\0\x01", b"\x06\0\x02"), "format 2"),
        (HEADER[:12] + b"\xe2\x50" + chunk(NOTE + END), "SMPTE"),
        (HEADER[:12] + b"\0\0" + chunk(NOTE + END), "0 ticks per quarter"),
        (HEADER + chunk(b"\x00\x3c\x40" + END), "byte 22 has no status byte"),
        (HEADER + chunk(NOTE + b"\x00\xf4\x00" + END), "0xf4 at byte 31"),
        (HEADER + chunk(b"\xff\xff\xff\xff\x00\x90\x3c\x40" + END), "byte 22 runs past four bytes"),
        (b"MThd\0\0\0\x02\0\x01\0\x01\0\x60", "claims 2 bytes"),
    ],
)
def test_an_unreadable_file_gives_an_error_with_reason_and_position(data, message):
    with pytest.raises(MidiError, match=message):
        parse_midi(data)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (MidiLimits(max_bytes=40), "bytes, over the limit of 40"),
        (MidiLimits(max_events=3), "more than 3 events"),
        (MidiLimits(max_tracks=1), "more than 1 tracks"),
        (MidiLimits(max_ticks=95), "lasts 96 ticks"),
    ],
)
def test_limits_hold(limits, message):
    data = HEADER + chunk(NOTE + END) + chunk(NOTE + END)
    with pytest.raises(MidiError, match=message):
        parse_midi(data, limits=limits)


def test_a_few_bytes_cannot_make_millions_of_bars():
    body = b"\x00\xff\x58\x04\x01\x06\x18\x08" + b"\x00\x90\x3c\x40" + b"\xff\xff\xff\x7f\x80\x3c\x00"
    with pytest.raises(MidiError, match="bars, over the limit"):
        Song.parse(HEADER[:12] + b"\0\x01" + chunk(body + END))


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=300, deadline=None)
def test_noise_is_read_or_refused_never_more(noise, in_chunk):
    data = HEADER + (chunk(noise) if in_chunk else noise)
    try:
        midi = Song.parse(data).midi
    except MidiError:
        return
    assert midi.source == data


@given(data=st.data())
@relaxed
def test_damaged_files_are_read_or_refused_never_more(drawn_files, data):
    source = bytearray(data.draw(drawn_files()))
    for _ in range(data.draw(st.integers(1, 4))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(source[: data.draw(st.integers(0, len(source)))])
    try:
        midi = Song.parse(damaged).midi
    except MidiError:
        return
    assert midi.source == damaged


HOSTILE = {
    "running status": chunk(b"\x00\x90" + b"\x3c\x40\x00" * 350_000),
    "only note-ons": chunk(b"\x00\x90\x3c\x40" * 250_000),
    "headers": b"MTrk" * 250_000,
    "empty tracks": chunk(b"") * 130_000,
    "overlong tracks": chunk(NOTE, claim=2**31) * 60_000,
    "short tracks": chunk(NOTE * 2000, claim=1) * 60,
    "metres": chunk(b"\x01\xff\x58\x04\x01\x06\x18\x08" * 125_000 + b"\x00\x90\x3c\x40" * 9),
    "tempos": chunk(b"\x01\xff\x51\x03\x01\x06\x18" * 140_000),
    "names": chunk(b"\x00\xff\x03\x00" * 250_000 + NOTE),
    "unknown chunks": b"XXXX\0\0\0\0" * 130_000,
    "programs": chunk(b"\x00\xc0\x05" * 300_000) + chunk(NOTE) * 400,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_megabyte_is_read_or_refused_in_seconds(name):
    before = time.process_time()
    with contextlib.suppress(MidiError):
        assert len(Song.parse(HEADER + HOSTILE[name]).score.bars) <= 20_000
    assert time.process_time() - before < 5


def test_an_ordinary_file_is_read_in_milliseconds():
    body = b"".join(bytes((5, 0x90, 40 + i % 40, 64, 20, 0x80, 40 + i % 40, 0)) for i in range(2600))
    data = HEADER + chunk(body + END)
    times = []
    for _ in range(5):
        before = time.process_time()
        Song.parse(data)
        times.append(time.process_time() - before)
    # 10-15 ms on the machine it was written on; the bound leaves room for slow ones.
    assert min(times) < 0.05
