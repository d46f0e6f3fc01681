from __future__ import annotations

import pytest

from harmonixr_model.errors import RegionError
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.score import Note, Tempo, TimeSignature
from harmonixr_model.music.song import NoteSource, Song
from harmonixr_model.music.write import write_midi

END = b"\x00\xff\x2f\x00"


def song(*bodies: bytes, file_format: int = 1) -> Song:
    chunks = [b"MTrk" + (len(b) + 4).to_bytes(4, "big") + b + END for b in bodies]
    return Song.parse(b"MThd\0\0\0\x06" + bytes((0, file_format, 0, len(chunks), 0, 96)) + b"".join(chunks))


def test_a_note_off_ends_the_oldest_note_of_its_pitch():
    found = song(b"\x00\x90\x3c\x01\x0a\x90\x3c\x02\x0a\x80\x3c\x00\x0a\x90\x3c\x00")
    assert found.score.tracks[0].notes == (Note(0, 20, 60, 1), Note(10, 20, 60, 2))
    assert found.sources == ((NoteSource(0, 0, 2), NoteSource(0, 1, 3)),)


def test_a_note_that_never_ends_lasts_to_the_end_of_its_chunk():
    found = song(b"\x00\x90\x3c\x01\x60\xb0\x40\x00")
    assert found.score.tracks[0].notes == (Note(0, 96, 60, 1),)
    assert found.sources[0][0].off is None


def test_a_note_of_length_zero_counts_as_one_tick():
    found = song(b"\x05\x90\x3c\x01\x00\x80\x3c\x00")
    assert found.score.tracks[0].notes == (Note(5, 1, 60, 1),)


def test_an_unmatched_note_off_is_recorded():
    found = song(b"\x05\x80\x3c\x01\x00\x90\x3c\x07\x01\x80\x3c\x00")
    assert [(s.tick, s.pitch) for s in found.unmatched_offs] == [(5, 60)]


def test_tracks_are_chunks_and_channels_with_notes():
    both = b"\x00\x99\x24\x40\x01\x89\x24\x00\x00\x90\x3c\x40\x01\x80\x3c\x00"
    found = song(b"\x00\xff\x03\x05title", b"\x00\xff\x03\x04 dr\x00" + both, b"\x00\x91\x3c\x40")
    assert [(t.name, t.channel, t.is_drum) for t in found.score.tracks] == [
        ("dr", 0, False),
        ("dr", 9, True),
        ("", 1, False),
    ]
    assert found.chunks == (1, 1, 2)


def test_the_program_is_the_one_in_force_at_the_first_note():
    body = b"\x00\xc0\x05\x00\xc0\x07\x0a\x90\x3c\x40\x0a\x80\x3c\x00\x00\xc0\x09"
    assert song(body).score.tracks[0].program == 7
    assert song(b"\x00\xc0\x2a", b"\x0a\x90\x3c\x40").score.tracks[0].program == 42


def test_tempos_and_metres_of_every_chunk_count_and_damaged_ones_do_not():
    found = song(
        b"\x60\xff\x51\x03\x06\x1a\x80\x00\xff\x58\x04\x03\x02\x18\x08\x00\xff\x58\x04\x00\x02\x18\x08",
        b"\x00\xff\x51\x03\x00\x00\x00\x81\x40\xff\x51\x03\x03\x0d\x40\x00\xff\x58\x04\x04\x63\x18\x08",
    )
    assert found.score.tempos == (Tempo(0, 500_000), Tempo(96, 400_000), Tempo(192, 200_000))
    assert found.score.time_signatures == (TimeSignature(0, 4, 4), TimeSignature(96, 3, 4))


def test_a_track_is_found_by_number_or_name():
    body = b"\x00\x90\x3c\x40\x01\x80\x3c\x00"
    found = song(*(b"\x00\xff\x03\x04" + name + body for name in (b"Lead", b"Bass", b"Bass")))
    assert found.find_track(1) == 0
    assert found.find_track("3") == 2
    assert found.find_track(" lead ") == 0
    with pytest.raises(RegionError, match=r"several tracks are named 'bass' \(2, 3\)"):
        found.find_track("bass")
    with pytest.raises(RegionError, match=r"no track 'Flute'; this song has 1 'Lead', 2 'Bass', 3 'Bass'"):
        found.find_track("Flute")
    for number in (0, 4, -1):
        with pytest.raises(RegionError, match="there is no track"):
            found.find_track(number)


@pytest.mark.parametrize("seed", range(3))
def test_a_written_score_reads_back_the_same(seed):
    score = Song.parse(compose_song(seed)).score
    assert Song.parse(write_midi(score)).score == score


def test_pretty_midi_out_and_in_keeps_the_notes():
    original = Song.parse(compose_song(1))
    pretty = original.to_pretty_midi()
    assert sum(len(i.notes) for i in pretty.instruments) == sum(len(t.notes) for t in original.score.tracks)
    back = Song.from_pretty_midi(pretty)
    assert back.score.ticks_per_quarter == original.score.ticks_per_quarter
    assert sorted(n for t in back.score.tracks for n in t.notes) == sorted(
        n for t in original.score.tracks for n in t.notes
    )
