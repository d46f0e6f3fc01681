from __future__ import annotations

import io

import mido
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harmonixr_model.errors import RegionError
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.midi import Event
from harmonixr_model.music.region import Cell, NoteKey, Region
from harmonixr_model.music.score import Note, Track
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import splice

relaxed = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def file(*chunks: bytes, file_format: int = 1) -> bytes:
    """Write chunk bodies as a file of 96 ticks a quarter; End-of-Track is added."""
    header = b"MThd\0\0\0\x06" + bytes((0, file_format, 0, len(chunks), 0, 96))
    return header + b"".join(b"MTrk" + (len(c) + 4).to_bytes(4, "big") + c + b"\0\xff\x2f\0" for c in chunks)


@given(data=st.data())
@relaxed
def test_an_empty_region_gives_the_input_back_byte_for_byte(drawn_files, data):
    source = data.draw(drawn_files())
    song = Song.parse(source)
    assert splice(song, Region(), {}).midi == source
    assert song.midi.source == source


@given(data=st.data())
@relaxed
def test_a_fill_leaves_every_event_but_the_deleted_and_inserted_pairs_untouched(drawn_gaps, preserved, data):
    song, region, fill = data.draw(drawn_gaps)
    result = splice(song, region, fill)
    preserved(song, region, result)
    put_in = sum(len(notes) for notes in result.notes.values())
    assert put_in + result.dropped == sum(len(notes) for notes in fill.values())


@given(data=st.data())
@relaxed
def test_a_fill_of_a_fill_keeps_the_invariants(drawn_gaps, preserved, data):
    song, region, fill = data.draw(drawn_gaps)
    again = Song.parse(splice(song, region, fill).midi)
    cells = tuple(Cell(t, c.start, c.end) for c in region.cells for t in range(len(again.score.tracks)))
    wider = Region(cells)
    preserved(again, wider, splice(again, wider, {}))


STATUS_ACROSS_A_META = bytes.fromhex(
    "4d546864 00000006 0001 0001 0018 4d54726b 0000001a"
    "00903c00 00913c01 00913c00 00ff5103000001 003c00 00ff0100"  # 3c00 is of channel 1, as the deleted note
)
PADDING_IN_A_TRACK = bytes.fromhex(
    "52494646 3a000000 524d4944 64617461 2d000000 4d546864 00000006 0001 0002 0018"
    "4d54726b 0000000f 8000903c00 8000913c01 8000903c00 4d54726b 000003e8 00"  # 3e8: the wrapper's padding is taken
)


@pytest.mark.parametrize("source", [STATUS_ACROSS_A_META, PADDING_IN_A_TRACK], ids=["status", "padding"])
def test_running_status_after_a_deleted_note_and_riff_padding_stay_correct(source, preserved):
    song = Song.parse(source)
    region = Region((Cell(0, 0, 1),))
    result = splice(song, region, {})
    assert result.midi != source
    preserved(song, region, result)


@given(data=st.data())
@settings(parent=relaxed, max_examples=100)
def test_an_independent_reader_sees_the_same_other_events(drawn_files, data):
    source = data.draw(drawn_files(clean=True))
    song = Song.parse(source)
    region = Region(tuple(Cell(i, 0, song.score.end + 1) for i in range(len(song.score.tracks))))
    after = splice(song, region, {}).midi
    kept = _mido_events(source, song)
    for chunk, track in enumerate(mido.MidiFile(file=io.BytesIO(after)).tracks):
        tick, seen = 0, []
        for message in track:
            tick += message.time
            seen.append((tick, message.copy(time=0).bin() if not message.is_meta else bytes(message.bytes())))
        assert seen == kept[chunk]


def _mido_events(source: bytes, song: Song) -> list[list[tuple[int, bytes]]]:
    """Return by chunk what mido reads, less the events that our pairing calls notes."""
    gone = [set() for _ in song.midi.tracks]
    for sources in song.sources:
        for chunk, on, off in sources:
            gone[chunk] |= {on, off}
    kept = []
    for chunk, track in enumerate(mido.MidiFile(file=io.BytesIO(source)).tracks):
        tick, events = 0, []
        for index, message in enumerate(track):
            tick += message.time
            if index not in gone[chunk]:
                events.append((tick, message.copy(time=0).bin() if not message.is_meta else bytes(message.bytes())))
        kept.append(events)
    return kept


@given(data=st.data())
@relaxed
def test_a_new_track_changes_nothing_else(drawn_files, data):
    source = data.draw(drawn_files())
    song = Song.parse(source)
    notes = data.draw(
        st.lists(st.builds(Note, st.integers(0, 500), st.integers(0, 99), st.integers(0, 127), st.integers(0, 127)))
    )
    result = splice(song, Region(), {}, new_tracks=[Track(tuple(notes), program=33, name="bass")])
    after = Song.parse(result.midi)
    used = {event.message[0] & 15 for events in song.midi.tracks for event in events if event.message[0] < 0xF0}
    free = min(set(range(16)) - used)
    index = len(song.score.tracks)
    assert after.midi.format == song.midi.format
    if song.midi.format == 1:
        assert after.midi.tracks[:-1] == song.midi.tracks
        assert after.score.tracks[:index] == song.score.tracks
        assert not result.notes or after.score.tracks[-1].name == "bass"
    else:
        assert len(after.midi.tracks) == 1
    new = [track for track in after.score.tracks if track.channel == free]
    # Not their durations: a note that is never ended lasts to the end of its chunk, which may now be later.
    old = [track for track in after.score.tracks if track.channel != free]
    assert [_struck(track) for track in old] == [_struck(track) for track in song.score.tracks]
    assert all(track.program == 33 for track in new)
    assert [note for track in new for note in track.notes] == list(result.notes.get(index, ()))


def _struck(track: Track) -> tuple[object, ...]:
    return track.name, track.channel, track.program, [(n.onset, n.pitch, n.velocity) for n in track.notes]


def test_a_new_note_off_comes_before_and_a_new_note_on_after_what_its_tick_holds():
    song = Song.parse(file(b"\x00\x90\x3c\x40\x60\x80\x3c\x00\x00\x90\x3c\x50\x60\x80\x3c\x00\x00\xc0\x05"))
    region = Region.ticks(song.score, 0, 500)
    region = Region(region.cells, locks=frozenset({NoteKey(0, 96, 60)}))
    result = splice(song, region, {0: [Note(0, 200, 60, 70), Note(192, 10, 60, 71)]})
    events = Song.parse(result.midi).midi.tracks[0]
    assert [(e.tick, e.message) for e in events] == [
        (0, b"\x90\x3c\x46"),
        (96, b"\x80\x3c\x40"),
        (96, b"\x90\x3c\x50"),
        (192, b"\x80\x3c\x00"),
        (192, b"\xc0\x05"),
        (192, b"\x90\x3c\x47"),
        (202, b"\x80\x3c\x40"),
        (202, b"\xff\x2f\x00"),
    ]
    assert result.notes[0][0] == Note(0, 96, 60, 70)


def test_a_note_held_into_the_region_stays_and_a_colliding_note_is_dropped():
    song = Song.parse(file(b"\x00\x90\x3c\x40\x81\x40\x80\x3c\x00"))
    result = splice(song, Region((Cell(0, 96, 192),)), {0: [Note(96, 24, 60, 80), Note(96, 24, 62, 80)]})
    assert result.dropped == 1
    assert Song.parse(result.midi).score.tracks[0].notes == (Note(0, 192, 60, 64), Note(96, 24, 62, 80))


def test_a_note_of_another_track_on_the_same_channel_is_not_cut():
    hand = b"\x60\x90\x3c\x40\x60\x80\x3c\x00"
    song = Song.parse(file(hand, b"\x00\x90\x30\x40\x01\x80\x30\x00"))
    result = splice(song, Region((Cell(1, 0, 500),)), {1: [Note(0, 300, 60, 80), Note(120, 9, 60, 80)]})
    # A tick is kept clear of the other track's note: at one tick a player may order tracks either way.
    assert result.notes[1] == (Note(0, 95, 60, 80),)
    assert result.dropped == 1


def test_running_status_is_spelt_out_only_after_a_deleted_or_new_event():
    song = Song.parse(file(b"\x00\x90\x3c\x40\x60\x3c\x00\x00\x3e\x40\x60\x3e\x00\x00\x40\x40\x60\x40\x00"))
    result = splice(song, Region((Cell(0, 0, 96),)), {})
    assert result.midi[22:-4] == b"\x60\x90\x3e\x40\x60\x3e\x00\x00\x40\x40\x60\x40\x00"


def test_end_of_track_moves_later_for_a_continuation_only():
    song = Song.parse(file(b"\x00\x90\x3c\x40\x60\x80\x3c\x00"))
    region = Region.continuation(song.score, 1)
    result = splice(song, region, {0: [Note(region.start, 50, 60, 80)]})
    assert Song.parse(result.midi).midi.tracks[0][-1] == Event(region.start + 50, b"\xff\x2f\x00")
    assert splice(song, region, {}).midi == song.midi.source


@pytest.mark.parametrize(
    ("fill", "what"),
    [({0: [Note(96, 5, 60, 80)]}, "outside the region"), ({1: [Note(0, 5, 60, 80)]}, "track 2")],
)
def test_a_fill_outside_the_region_is_refused(fill, what):
    song = Song.parse(file(b"\x00\x90\x3c\x40\x60\x80\x3c\x00", b"\x00\x91\x3c\x40\x60\x81\x3c\x00"))
    with pytest.raises(RegionError, match=what):
        splice(song, Region((Cell(0, 0, 96),)), fill)


def test_a_region_on_a_track_that_does_not_exist_is_refused():
    song = Song.parse(file(b"\x00\x90\x3c\x40\x60\x80\x3c\x00"))
    with pytest.raises(RegionError, match="track 4 does not exist"):
        splice(song, Region((Cell(3, 0, 96),)), {})


def test_a_new_track_without_a_free_channel_is_refused():
    body = b"".join(bytes((0, 0x90 | c, 60, 64, 5, 0x80 | c, 60, 0)) for c in range(16))
    song = Song.parse(file(body))
    with pytest.raises(RegionError, match="no MIDI channel is free"):
        splice(song, Region(), {}, new_tracks=[Track((Note(0, 5, 60, 64),))])


def test_new_drums_share_channel_10_without_changing_its_kit():
    song = Song.parse(file(b"\x00\xc9\x08\x00\x99\x24\x40\x18\x89\x24\x00"))
    drums = Track((Note(0, 10, 36, 80), Note(0, 10, 42, 80)), is_drum=True)
    result = splice(song, Region(), {}, new_tracks=[drums])
    after = Song.parse(result.midi)
    assert result.notes == {1: (Note(0, 10, 42, 80),)}
    assert [track.program for track in after.score.tracks] == [8, 8]


@pytest.mark.parametrize("seed", range(4))
def test_taking_a_composed_song_apart_and_putting_it_together_gives_the_same_music(seed, preserved):
    song = Song.parse(compose_song(seed))
    region = Region.bars(song.score, 2, 5)
    removed = {i: [n for n in song.score.tracks[i].notes if region.contains(i, n)] for i in region.tracks}
    result = splice(song, region, removed)
    preserved(song, region, result)
    assert Song.parse(result.midi).score == song.score
    assert result.dropped == 0


def test_a_file_without_tracks_takes_a_new_one():
    song = Song.parse(file(file_format=0))
    result = splice(song, Region(), {}, new_tracks=[Track((Note(0, 5, 60, 64),), name="lead")])
    after = Song.parse(result.midi)
    assert [track.name for track in after.score.tracks] == ["lead"]
    assert len(mido.MidiFile(file=io.BytesIO(result.midi)).tracks) == 1


@pytest.mark.parametrize("pitches", [[], [60], [60, 62]])
def test_a_riff_wrapper_keeps_true_sizes_and_what_follows(pitches):
    inner = file(b"\x00\x90\x3c\x40\x60\x80\x3c\x00\x00\xff\x01\x01a")
    info = b"LIST\x04\0\0\0INFO"
    pad = b"\0" * (len(inner) % 2)
    wrapped = b"RMIDdata" + len(inner).to_bytes(4, "little") + inner + pad + info
    song = Song.parse(b"RIFF" + len(wrapped).to_bytes(4, "little") + wrapped)
    data = splice(song, Region((Cell(0, 0, 96),)), {0: [Note(0, 9, pitch, 64) for pitch in pitches]}).midi
    size = int.from_bytes(data[16:20], "little")
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert len(data) == 20 + size + size % 2 + len(info)
    assert data.endswith(info)
    assert [note.pitch for track in Song.parse(data).score.tracks for note in track.notes] == pitches
    mido.MidiFile(file=io.BytesIO(data[20 : 20 + size]))
