"""Transforms, piano rolls and sound: what each promises of a score it is given."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonixr_model.errors import MidiError, RegionError
from harmonixr_model.music import transforms
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.interop import to_pretty_midi
from harmonixr_model.music.pianoroll import chroma, piano_roll
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note, Score, Tempo, TimeSignature, Track
from harmonixr_model.music.song import Song
from harmonixr_model.music.synth import PEAK, render, soundfont, tick_at, to_symusic, wav_bytes

notes = st.builds(Note, st.integers(0, 2000), st.integers(1, 300), st.integers(0, 127), st.integers(1, 127))
tracks = st.builds(
    lambda found, drum: Track(is_drum=drum).with_notes(found), st.lists(notes, max_size=12), st.booleans()
)
tempos = st.lists(st.integers(100_000, 2_000_000), max_size=4).map(
    lambda paces: (Tempo(0, 500_000), *(Tempo(100 * i + 70, pace) for i, pace in enumerate(paces)))
)
scores = st.builds(lambda found, paces: Score(96, tuple(found), paces), st.lists(tracks, max_size=3), tempos)
quick = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def song() -> Song:
    return Song.parse(compose_song(2))


@given(scores, st.integers(-6, 6))
@quick
def test_transposing_moves_pitches_and_leaves_drums(score, semitones):
    moved = transforms.transpose(score, semitones)
    for before, after in zip(score.tracks, moved.tracks, strict=True):
        step = 0 if before.is_drum else semitones
        wanted = [n._replace(pitch=n.pitch + step) for n in before.notes if 0 <= n.pitch + step <= 127]
        assert after == before.with_notes(wanted)


@given(scores, st.integers(0, 2000), st.integers(1, 900))
@quick
def test_a_clip_sounds_like_that_part_of_the_score(score, start, length):
    clipped = transforms.clip(score, start, start + length)
    assert clipped.end <= length
    full = piano_roll(score, steps_per_quarter=96, end=5000)[:, :, start : start + length]
    assert np.array_equal(piano_roll(clipped, steps_per_quarter=96, end=length), full)
    elapsed = score.seconds(start + length) - score.seconds(start)
    assert clipped.seconds(length) == pytest.approx(elapsed)


@given(scores, st.integers(0, 500))
@quick
def test_shifting_there_and_back_changes_nothing(score, ticks):
    assert transforms.shift(transforms.shift(score, ticks), -ticks).tracks == score.tracks


def test_a_score_is_its_context_and_its_region(song):
    region = Region.bars(song.score, 1, 3)
    context = region.without(song.score)
    inside = {t: [n for n in song.score.tracks[t].notes if region.contains(t, n)] for t in region.tracks}
    assert all(inside.values())
    assert song.score == context.replace_notes({t: [*context.tracks[t].notes, *inside[t]] for t in inside})


def test_a_roll_shows_notes_where_they_sound():
    score = Score(96, (Track((Note(96, 48, 60, 70), Note(96, 1, 72, 90))), Track((Note(0, 96, 36, 50),), is_drum=True)))
    roll = piano_roll(score, steps_per_quarter=4)
    assert roll.shape == (2, 128, 16)
    assert roll[0, 60].nonzero()[0].tolist() == [4, 5]
    assert roll[0, 72].nonzero()[0].tolist() == [4]
    assert chroma(score, steps_per_quarter=4)[0, 4] == 160


def test_a_roll_too_large_is_refused():
    score = Score(96, (Track((Note(0, 1, 60, 70),)),))
    with pytest.raises(ValueError, match="too large"):
        piano_roll(score, end=96_000_000)


@given(tempos, st.integers(0, 3000))
@quick
def test_seconds_and_ticks_agree(paces, tick):
    score = Score(96, (), paces)
    assert tick_at(score, score.seconds(tick)) == tick
    assert tick_at(score, score.seconds(tick + 1) - 1e-4) == tick


def test_a_score_becomes_the_same_symusic_score(song):
    other = to_symusic(song.score)
    assert other.ticks_per_quarter == song.score.ticks_per_quarter
    assert [t.program for t in other.tracks] == [t.program for t in song.score.tracks]
    assert [(n.time, n.duration, n.pitch, n.velocity) for n in other.tracks[0].notes] == [
        n[:4] for n in song.score.tracks[0].notes
    ]


def test_an_interval_is_rendered_with_exactly_its_length(song):
    audio = render(song.score, start_s=2.0, end_s=5.5)
    assert audio.dtype == np.float32
    assert audio.shape == (2, round(3.5 * 44_100))
    assert float(np.abs(audio).max()) == pytest.approx(PEAK, abs=1e-4)
    assert np.array_equal(audio, render(song.score, start_s=2.0, end_s=5.5))


def test_sound_begins_when_the_note_does():
    score = Score(480, (Track((Note(960, 480, 60, 100),)),), (Tempo(0, 500_000),))
    audio = render(score, start_s=0.5, end_s=2.0)
    first = int(np.nonzero(np.abs(audio[0]) > 0.01)[0][0])
    # The note falls at 1.0 s, half a second into the stretch.
    assert 0.49 < first / 44_100 < 0.53


def test_silence_is_rendered_as_silence():
    score = Score(480, (Track((Note(0, 480, 60, 100),)),))
    assert not render(score, start_s=30.0, end_s=31.0).any()
    assert render(Score(480)).shape == (2, round(1.5 * 44_100))


@pytest.mark.parametrize(("program", "pitch"), [(38, 104), (29, 102), (70, 101), (0, 108), (73, 127)])
def test_a_pitch_that_the_synthesizer_cannot_sound_is_rendered_octaves_lower(program, pitch):
    high = Score(480, (Track((Note(0, 480, pitch, 100),), program=program),))
    low = pitch - 12 * -(-(pitch - 100) // 12)
    assert np.array_equal(render(high), render(Score(480, (Track((Note(0, 480, low, 100),), program=program),))))
    assert render(high).any()


@pytest.mark.parametrize(("start", "end"), [(2, 1), (1, 1), (-1, 1), (0, 10_000)])
def test_an_impossible_interval_is_refused(song, start, end):
    with pytest.raises(RegionError, match="cannot render"):
        render(song.score, start_s=start, end_s=end)


def test_wav_bytes_hold_the_samples():
    audio = np.array([[0.0, 1.0, -1.0, 2.0], [0.5, -0.5, 0.0, 0.0]], dtype=np.float32)
    with wave.open(io.BytesIO(wav_bytes(audio))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (2, 2, 44_100, 4)
        samples = np.frombuffer(file.readframes(4), dtype="<i2").reshape(-1, 2)
    assert samples[:, 0].tolist() == [0, 32767, -32767, 32767]


def test_the_soundfont_is_there():
    assert soundfont().stat().st_size > 1_000_000


def test_a_file_pretty_midi_cannot_read_gives_an_error_with_a_remedy():
    bent = b"MThd\0\0\0\x06\0\x01\0\x01\0\x60MTrk\0\0\0\x08\0\x90\x3c\xe8\0\xff\x2f\0"
    with pytest.raises(MidiError, match="pass its score instead"):
        Song.parse(bent).to_pretty_midi()
    assert to_pretty_midi(Song.parse(bent).score).instruments


def test_metres_follow_a_clip():
    score = Score(
        16, (Track((Note(0, 600, 60, 70),)),), time_signatures=(TimeSignature(0, 3, 4), TimeSignature(96, 4, 4))
    )
    assert transforms.clip(score, 48, 300).time_signatures == (TimeSignature(0, 3, 4), TimeSignature(48, 4, 4))
