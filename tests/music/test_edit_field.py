"""One field of the notes is changed in the events they came from, and nothing else is."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.edit_field import retouch
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song

relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
pitches, velocities, lengths = st.integers(55, 70), st.integers(1, 127), st.sampled_from((1, 7, 24, 96, 700))
FIELDS = {
    "pitch": lambda draw, note: note._replace(pitch=draw(pitches)),
    "velocity": lambda draw, note: note._replace(velocity=draw(velocities)),
    "duration": lambda draw, note: note._replace(duration=draw(lengths)),
    "rhythm": lambda draw, note: note._replace(onset=draw(st.integers(0, note.onset + 90)), duration=draw(lengths)),
}


@st.composite
def wishes(draw, song, only):
    """Draw some notes of a song and what one field of each shall become."""
    wished = {}
    for t, track in enumerate(song.score.tracks):
        chosen = {n: FIELDS[only](draw, note) for n, note in enumerate(track.notes) if draw(st.integers(0, 2))}
        if chosen:
            wished[t] = chosen
    return wished


def touched(song, wished):
    """Return (chunk, event index) of both events of the notes wished for."""
    sources = [song.sources[t][n] for t, chosen in wished.items() for n in chosen]
    return {(s.chunk, i) for s in sources for i in (s.on, s.off) if i is not None}


def still(song, wished):
    """Return the (chunk, tick, message) in order of all events but those."""
    skip = touched(song, wished)
    return [
        (chunk, event.tick, event.message)
        for chunk, events in enumerate(song.midi.tracks)
        for i, event in enumerate(events)
        if (chunk, i) not in skip
    ]


def is_subsequence(part, whole):
    rest = iter(whole)
    return all(item in rest for item in part)


@pytest.mark.parametrize("only", ["pitch", "velocity"])
@given(data=st.data())
@relaxed
def test_a_pitch_or_velocity_changes_its_byte_and_no_other_event_tick_or_order(drawn_files, only, data):
    song = Song.parse(data.draw(drawn_files()))
    wished = data.draw(wishes(song, only))
    after = Song.parse(retouch(song, wished).data)
    skip = touched(song, wished)
    byte = 1 if only == "pitch" else 2
    for chunk, (old, new) in enumerate(zip(song.midi.tracks, after.midi.tracks, strict=True)):
        for i, (was, now) in enumerate(zip(old, new[: len(old)], strict=True)):
            assert was.tick == now.tick
            if (chunk, i) in skip:
                assert was.message[:byte] + was.message[byte + 1 :] == now.message[:byte] + now.message[byte + 1 :]
            else:
                assert was.message == now.message
        # An edited chunk that was cut off is closed.
        assert new[len(old) :] in ((), new[-1:])


@pytest.mark.parametrize("only", ["duration", "rhythm"])
@given(data=st.data())
@relaxed
def test_a_duration_or_rhythm_moves_its_own_events_and_no_other(drawn_files, only, data):
    song = Song.parse(data.draw(drawn_files()))
    wished = data.draw(wishes(song, only))
    after = Song.parse(retouch(song, wished).data)
    found = [(chunk, event.tick, event.message) for chunk, events in enumerate(after.midi.tracks) for event in events]
    assert is_subsequence(still(song, wished), found)
    messages = Counter(event.message for events in song.midi.tracks for event in events)
    closed = sum(len(new) > len(old) for old, new in zip(song.midi.tracks, after.midi.tracks, strict=True))
    gained = Counter(event.message for events in after.midi.tracks for event in events) - messages
    assert gained == Counter({b"\xff\x2f\x00": closed} if closed else {})
    for old, new in zip(song.midi.tracks, after.midi.tracks, strict=True):
        assert not old or new[-1].tick == old[-1].tick


@pytest.mark.parametrize("only", list(FIELDS))
@given(data=st.data())
@relaxed
def test_the_file_says_the_notes_that_the_result_says_and_all_others_as_they_were(drawn_files, only, data):
    song = Song.parse(data.draw(drawn_files(clean=True)))
    wished = data.draw(wishes(song, only))
    result = retouch(song, wished)
    after = Song.parse(result.data)
    for t, track in enumerate(song.score.tracks):
        others = [note for n, note in enumerate(track.notes) if n not in wished.get(t, {})]
        assert Counter(after.score.tracks[t].notes) == Counter([*others, *result.notes.get(t, ())])
    kept = {"pitch": (0, 1, 3), "velocity": (0, 1, 2), "duration": (0, 2, 3), "rhythm": (2, 3)}[only]
    for t, chosen in wished.items():
        was = Counter(tuple(song.score.tracks[t].notes[n][i] for i in kept) for n in chosen)
        assert was == Counter(tuple(note[i] for i in kept) for note in result.notes[t])


@pytest.mark.parametrize("only", ["pitch", "duration", "rhythm"])
@given(data=st.data())
@relaxed
def test_a_changed_note_meets_no_other_of_its_channel_and_pitch(drawn_files, only, data):
    song = Song.parse(data.draw(drawn_files(clean=True)))
    result = retouch(song, data.draw(wishes(song, only)))
    before = {(track.channel, n[:3]) for track in song.score.tracks for n in track.notes}
    after = Song.parse(result.data)
    notes = [(track.channel, note) for track in after.score.tracks for note in track.notes]
    for i, (channel, one) in enumerate(notes):
        if (channel, one[:3]) in before:
            continue
        for j, (other_channel, two) in enumerate(notes):
            if i != j and channel == other_channel and one.pitch == two.pitch:
                assert one.end <= two.onset or two.end <= one.onset


@pytest.mark.parametrize("only", list(FIELDS))
@given(data=st.data())
@settings(parent=relaxed, max_examples=30)
def test_wishing_what_is_gives_the_input_back_byte_for_byte(drawn_files, only, data):
    source = data.draw(drawn_files())
    song = Song.parse(source)
    same = {t: dict(enumerate(track.notes)) for t, track in enumerate(song.score.tracks)}
    result = retouch(song, same)
    assert result.data == source
    assert result.dropped == 0


def test_a_whole_songs_velocities_change_as_many_bytes_as_it_has_notes_and_no_more():
    source = compose_song(3)
    song = Song.parse(source)
    softer = {
        t: {n: note._replace(velocity=max(1, note.velocity - 9)) for n, note in enumerate(track.notes)}
        for t, track in enumerate(song.score.tracks)
    }
    after = retouch(song, softer).data
    assert len(after) == len(source)
    assert sum(one != two for one, two in zip(source, after, strict=True)) == sum(map(len, softer.values()))


def test_a_pitch_that_sounds_already_is_left_and_counted():
    song = Song.parse(compose_song(1))
    track = next(t for t, content in enumerate(song.score.tracks) if _chord(content.notes))
    low, high = _chord(song.score.tracks[track].notes)
    notes = song.score.tracks[track].notes
    result = retouch(song, {track: {low: notes[low]._replace(pitch=notes[high].pitch)}})
    assert result.dropped == 1
    assert result.data == song.midi.source


def test_a_note_that_would_run_into_the_next_is_cut_short():
    song = Song.parse(compose_song(1))
    track, notes = 0, song.score.tracks[0].notes
    pairs = ((i, j) for i in range(len(notes)) for j in range(i + 1, len(notes)) if notes[i].pitch == notes[j].pitch)
    first, second = next((i, j) for i, j in pairs if notes[i].end < notes[j].onset)
    result = retouch(song, {track: {first: notes[first]._replace(duration=100_000)}})
    assert result.notes[track][0] == Note(
        notes[first].onset, notes[second].onset - notes[first].onset, notes[first].pitch, notes[first].velocity
    )


def _chord(notes):
    return next(((i, i + 1) for i in range(len(notes) - 1) if notes[i].onset == notes[i + 1].onset), None)
