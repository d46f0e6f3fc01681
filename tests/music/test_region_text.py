from __future__ import annotations

import pytest

from harmonixr_model.errors import RegionError
from harmonixr_model.music.region import Cell, NoteKey
from harmonixr_model.music.region_text import beat_starts, parse_ranges, read_region
from harmonixr_model.music.score import Note, Score, TimeSignature, Track
from harmonixr_model.music.song import Song
from harmonixr_model.music.write import write_midi


@pytest.fixture(scope="module")
def song() -> Song:
    """Two bars of 4/4, two of 6/8: 16 ticks a quarter, beats of 16 and then of 8 ticks."""
    notes = tuple(Note(16 * i, 16, 60, 80) for i in range(14))
    tracks = (Track(notes, name="Lead"), Track(notes[:1], name="Bass, low", channel=1))
    metres = (TimeSignature(0, 4, 4), TimeSignature(128, 6, 8))
    return Song.parse(write_midi(Score(16, tracks, time_signatures=metres)))


@pytest.mark.parametrize(
    ("text", "ranges"),
    [("5", ((5, 5),)), ("9-12", ((9, 12),)), (" 1 - 4 , 9–12", ((1, 4), (9, 12)))],
)
def test_ranges_are_read_as_musicians_write_them(text, ranges):
    assert parse_ranges(text) == ranges


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read bars"),
        ("a", "cannot read bars 'a'"),
        ("1-", "cannot read"),
        ("1,,2", "cannot read"),
        ("-3", "cannot read"),
        ("0-3", "counted from 1"),
        ("4-2", "backwards; write '2-4'"),
        ("9" * 40, "cannot read"),
    ],
)
def test_an_unreadable_range_gives_an_error_with_a_remedy(text, message):
    with pytest.raises(RegionError, match=message):
        parse_ranges(text)


def test_bars_follow_the_metre(song):
    assert read_region(song, bars="2-3", tracks=[1]).cells == (Cell(0, 64, 176),)
    assert read_region(song, bars="1,4", tracks="lead").cells == (Cell(0, 0, 64), Cell(0, 176, 224))


def test_beats_follow_the_metre(song):
    assert beat_starts(song.score)[7:10] == (112, 128, 136)
    assert read_region(song, beats="8-9", tracks=["Lead"]).cells == (Cell(0, 112, 136),)


def test_tracks_left_out_mean_all_and_names_may_hold_commas(song):
    assert read_region(song, bars="1").tracks == (0, 1)
    assert read_region(song, bars="1", tracks="bass, LOW").tracks == (1,)
    assert read_region(song, bars="1", tracks="2, lead").tracks == (0, 1)


def test_ticks_and_continuation(song):
    assert read_region(song, ticks=(10, 10_000), tracks=[2]).cells == (Cell(1, 10, 224),)
    assert read_region(song, continue_bars=2, tracks=[1]).cells == (Cell(0, 224, 320),)


def test_bands_and_locks(song):
    region = read_region(song, bars="1", tracks=[1], pitch_low=50, pitch_high=60, locks=[("Lead", 16, 60)])
    assert region.locks == {NoteKey(0, 16, 60)}
    assert not region.contains(0, Note(16, 16, 60, 80))
    assert region.contains(0, Note(32, 16, 60, 80))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"bars": "3-9"}, "bars 3-9 lie outside the song, which has 4 bars"),
        ({"beats": "20-21"}, "which has 20 beats; choose beats within 1-20"),
        ({"ticks": (5000, 6000)}, "tick 5000 lies past the song"),
        ({"ticks": (9, 9)}, "is empty"),
        ({"continue_bars": 0}, "cannot continue by 0 bars"),
        ({}, "exactly one of"),
        ({"bars": "1", "beats": "1"}, "exactly one of"),
        ({"bars": "1", "tracks": ["Flute"]}, "no track 'Flute'; this song has 1 'Lead'"),
        ({"bars": "1", "tracks": []}, "no track is named"),
        ({"bars": "1", "pitch_low": 70, "pitch_high": 60}, "pitch band 70-60"),
        ({"bars": "1", "locks": [("Lead", 17, 60)]}, "no note of pitch 60 at tick 17 of track 1"),
        ({"bars": "1", "locks": [("Lead", 64, 60)]}, "inside the region to lock"),
    ],
)
def test_an_invalid_region_gives_an_error_with_a_remedy(song, choice, message):
    with pytest.raises(RegionError, match=message):
        read_region(song, **choice)


def test_a_song_without_notes_has_no_region():
    empty = Song.parse(write_midi(Score(16)))
    with pytest.raises(RegionError, match="no notes"):
        read_region(empty, bars="1")
