"""The composer promises varied, repeatable, well-formed songs."""

import io
from collections import Counter
from dataclasses import replace

import mido
import pytest

from harmonixr_model.music.compose import compose, compose_song
from harmonixr_model.music.harmony import Key, chord_of, scale_of
from harmonixr_model.music.song import Song

SEEDS = range(40)


def test_the_same_seed_gives_the_same_music_and_another_seed_other_music():
    assert compose(3) == compose(3)
    assert compose_song(3) == compose_song(3)
    assert compose(3) != compose(4)


@pytest.mark.parametrize("bars", [1, 2, 5, 8, 16, 31, 32, 64])
def test_a_song_has_exactly_the_requested_bars(bars):
    for seed in SEEDS:
        score = compose(seed, bars=bars)
        assert len(score.bars) == bars
        assert score.end == score.bars[-1].end


def test_no_bars_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        compose(1, bars=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_notes_are_sorted_in_range_and_never_sound_into_the_next_of_their_pitch(seed):
    score = compose(seed)
    assert [t.name for t in score.tracks] == ["Melody", "Chords", "Bass", "Drums"]
    assert score.tracks[3].is_drum
    for track in score.tracks:
        assert track == track.with_notes(track.notes)
        sounding: dict[int, int] = {}
        for note in track.notes:
            assert note.duration > 0
            assert 20 <= note.pitch <= 108
            assert 1 <= note.velocity <= 127
            assert sounding.get(note.pitch, 0) <= note.onset
            sounding[note.pitch] = note.end


def test_sections_come_back():
    """AABA: most of the second eight bars is the first eight again, touch aside."""
    shares = []
    for seed in SEEDS:
        score = compose(seed)
        first, second = _bars(score, 0, 8), _bars(score, 8, 16)
        shares.append(len(first & second) / max(1, len(first)))
    assert sum(share > 0.9 for share in shares) >= len(SEEDS) // 3


def _bars(score, first, last):
    start, end = score.bars[first].start, score.bars[last - 1].end
    return {
        (i, n.onset - start, n.pitch) for i, t in enumerate(score.tracks[:3]) for n in t.notes if start <= n.onset < end
    }


def test_songs_differ_in_key_metre_tempo_instruments_and_metre_changes():
    songs = [compose(seed) for seed in range(120)]
    assert {s.time_signatures[0][1:] for s in songs} == {(4, 4), (3, 4), (6, 8)}
    assert any(len(s.time_signatures) > 1 for s in songs)
    assert all(len(s.tempos) > 1 for s in songs)
    assert len({s.tempos[0].us_per_quarter for s in songs}) > 30
    assert len({s.tracks[0].program for s in songs}) >= 5
    bass_ends = Counter(s.tracks[2].notes[-1].pitch % 12 for s in songs)
    assert len(bass_ends) == 12


def test_every_song_is_syncopated_somewhere_in_a_dozen_and_ends_sections_with_a_drum_fill():
    toms = {50, 48, 45, 43}
    for seed in range(12):
        score = compose(seed)
        fill = score.bars[7]
        assert any(n.pitch in toms and fill.start <= n.onset < fill.end for n in score.tracks[3].notes)
    tied = 0
    for seed in range(12):
        score = compose(seed)
        tied += sum(
            n.onset % 480 != 0 and n.onset // 480 < (n.end - 1) // 480
            for n in score.tracks[0].notes
            if score.time_signatures == ((0, 4, 4),)
        )
    assert tied > 20


def test_a_song_file_reads_back_elsewhere_with_every_note_and_every_kind_of_event():
    for seed in range(8):
        score = compose(seed)
        file = mido.MidiFile(file=io.BytesIO(compose_song(seed)))
        assert file.type == 1
        assert file.ticks_per_beat == 480
        kinds = Counter(m.type for track in file.tracks for m in track)
        for kind in ("track_name", "marker", "lyrics", "set_tempo", "time_signature", "key_signature", "pitchwheel"):
            assert kinds[kind] > 0, kind
        controls = {m.control for track in file.tracks for m in track if m.type == "control_change"}
        assert {7, 10, 11, 64} <= controls
        assert kinds["note_on"] == kinds["note_off"] == sum(len(t.notes) for t in score.tracks)
        assert _onsets(file) == {(t.channel, n.onset, n.pitch) for t in score.tracks for n in t.notes}


def test_our_own_reader_finds_the_very_score_in_the_song_file():
    for seed in range(8):
        read = Song.parse(compose_song(seed)).score
        score = compose(seed)
        assert read.tracks == score.tracks
        assert (read.tempos, read.time_signatures) == (score.tempos, score.time_signatures)


def _onsets(file):
    found = set()
    for track in file.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "note_on":
                found.add((message.channel, tick, message.note))
    return found


def test_bends_come_back_to_the_middle_and_pedals_up():
    for seed in range(8):
        file = mido.MidiFile(file=io.BytesIO(compose_song(seed)))
        last = {}
        for message in (m for track in file.tracks for m in track):
            if message.type == "pitchwheel":
                last["bend"] = message.pitch
            if message.type == "control_change" and message.control == 64:
                last["pedal"] = message.value
        assert last == {"bend": 0, "pedal": 0}


def test_chords_and_keys_are_those_of_the_textbook():
    c, a = Key(0, "major"), Key(9, "minor")
    assert chord_of(c, 4, seventh=True).pitch_classes == (7, 11, 2, 5)
    assert chord_of(a, 4).pitch_classes == (4, 8, 11)
    assert scale_of(c) == scale_of(a) == scale_of(c.relative)
    assert (c.sharps, a.sharps, Key(5, "major").sharps, Key(2, "major").sharps) == (0, 0, -1, 2)
    assert chord_of(c, 0).voicing(55) == (55, 60, 64)
    assert replace(c, tonic=2) == c.moved(2)
