"""An edit changes one field of notes in their original events, and nothing else."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.edit_field import edit_notes
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
def changes_of(draw, song, field):
    """Draw some notes of a song, each with a new value of one field."""
    changes = {}
    for t, track in enumerate(song.score.tracks):
        selected = {n: FIELDS[field](draw, note) for n, note in enumerate(track.notes) if draw(st.integers(0, 2))}
        if selected:
            changes[t] = selected
    return changes


def touched(song, changes):
    """Return (chunk, event index) of both events of the changed notes."""
    sources = [song.sources[t][n] for t, selected in changes.items() for n in selected]
    return {(s.chunk, i) for s in sources for i in (s.on, s.off) if i is not None}


def untouched(song, changes):
    """Return (chunk, tick, message) of all other events, in order."""
    skip = touched(song, changes)
    return [
        (chunk, event.tick, event.message)
        for chunk, events in enumerate(song.midi.tracks)
        for i, event in enumerate(events)
        if (chunk, i) not in skip
    ]


def is_subsequence(part, whole):
    rest = iter(whole)
    return all(item in rest for item in part)


@pytest.mark.parametrize("field", ["pitch", "velocity"])
@given(data=st.data())
@relaxed
def test_a_pitch_or_velocity_changes_its_byte_and_no_other_event_tick_or_order(drawn_files, field, data):
    song = Song.parse(data.draw(drawn_files()))
    changes = data.draw(changes_of(song, field))
    after = Song.parse(edit_notes(song, changes).midi)
    skip = touched(song, changes)
    byte = 1 if field == "pitch" else 2
    for chunk, (old, new) in enumerate(zip(song.midi.tracks, after.midi.tracks, strict=True)):
        for i, (one, two) in enumerate(zip(old, new[: len(old)], strict=True)):
            assert one.tick == two.tick
            if (chunk, i) in skip:
                assert one.message[:byte] + one.message[byte + 1 :] == two.message[:byte] + two.message[byte + 1 :]
            else:
                assert one.message == two.message
        # A truncated chunk gets an End-of-Track when it is edited.
        assert new[len(old) :] in ((), new[-1:])


@pytest.mark.parametrize("field", ["duration", "rhythm"])
@given(data=st.data())
@relaxed
def test_a_duration_or_rhythm_moves_its_own_events_and_no_other(drawn_files, field, data):
    song = Song.parse(data.draw(drawn_files()))
    changes = data.draw(changes_of(song, field))
    after = Song.parse(edit_notes(song, changes).midi)
    found = [(chunk, event.tick, event.message) for chunk, events in enumerate(after.midi.tracks) for event in events]
    assert is_subsequence(untouched(song, changes), found)
    messages = Counter(event.message for events in song.midi.tracks for event in events)
    closed = sum(len(new) > len(old) for old, new in zip(song.midi.tracks, after.midi.tracks, strict=True))
    gained = Counter(event.message for events in after.midi.tracks for event in events) - messages
    assert gained == Counter({b"\xff\x2f\x00": closed} if closed else {})
    for old, new in zip(song.midi.tracks, after.midi.tracks, strict=True):
        assert not old or new[-1].tick == old[-1].tick


@pytest.mark.parametrize("field", list(FIELDS))
@given(data=st.data())
@relaxed
def test_the_file_holds_the_changed_notes_of_the_result_and_all_others_unchanged(drawn_files, field, data):
    song = Song.parse(data.draw(drawn_files(clean=True)))
    changes = data.draw(changes_of(song, field))
    result = edit_notes(song, changes)
    after = Song.parse(result.midi)
    for t, track in enumerate(song.score.tracks):
        others = [note for n, note in enumerate(track.notes) if n not in changes.get(t, {})]
        assert Counter(after.score.tracks[t].notes) == Counter([*others, *result.notes.get(t, ())])
    kept = {"pitch": (0, 1, 3), "velocity": (0, 1, 2), "duration": (0, 2, 3), "rhythm": (2, 3)}[field]
    for t, selected in changes.items():
        before = Counter(tuple(song.score.tracks[t].notes[n][i] for i in kept) for n in selected)
        assert before == Counter(tuple(note[i] for i in kept) for note in result.notes[t])


@pytest.mark.parametrize("field", ["pitch", "duration", "rhythm"])
@given(data=st.data())
@relaxed
def test_a_changed_note_overlaps_no_other_of_its_channel_and_pitch(drawn_files, field, data):
    song = Song.parse(data.draw(drawn_files(clean=True)))
    result = edit_notes(song, data.draw(changes_of(song, field)))
    before = {(track.channel, n[:3]) for track in song.score.tracks for n in track.notes}
    after = Song.parse(result.midi)
    notes = [(track.channel, note) for track in after.score.tracks for note in track.notes]
    for i, (channel, one) in enumerate(notes):
        if (channel, one[:3]) in before:
            continue
        for j, (other_channel, two) in enumerate(notes):
            if i != j and channel == other_channel and one.pitch == two.pitch:
                assert one.end <= two.onset or two.end <= one.onset


@pytest.mark.parametrize("field", list(FIELDS))
@given(data=st.data())
@settings(parent=relaxed, max_examples=30)
def test_changing_notes_to_themselves_gives_the_input_byte_for_byte(drawn_files, field, data):
    source = data.draw(drawn_files())
    song = Song.parse(source)
    same = {t: dict(enumerate(track.notes)) for t, track in enumerate(song.score.tracks)}
    result = edit_notes(song, same)
    assert result.midi == source
    assert result.dropped == 0


def test_a_whole_songs_velocities_change_as_many_bytes_as_it_has_notes_and_no_more():
    source = compose_song(3)
    song = Song.parse(source)
    softer = {
        t: {n: note._replace(velocity=max(1, note.velocity - 9)) for n, note in enumerate(track.notes)}
        for t, track in enumerate(song.score.tracks)
    }
    after = edit_notes(song, softer).midi
    assert len(after) == len(source)
    assert sum(one != two for one, two in zip(source, after, strict=True)) == sum(map(len, softer.values()))


def test_a_change_to_a_pitch_that_sounds_already_is_dropped_and_counted():
    song = Song.parse(compose_song(1))
    track = next(t for t, content in enumerate(song.score.tracks) if _chord(content.notes))
    low, high = _chord(song.score.tracks[track].notes)
    notes = song.score.tracks[track].notes
    result = edit_notes(song, {track: {low: notes[low]._replace(pitch=notes[high].pitch)}})
    assert result.dropped == 1
    assert result.midi == song.midi.source


def test_a_note_that_would_overlap_the_next_is_shortened():
    song = Song.parse(compose_song(1))
    track, notes = 0, song.score.tracks[0].notes
    pairs = ((i, j) for i in range(len(notes)) for j in range(i + 1, len(notes)) if notes[i].pitch == notes[j].pitch)
    first, second = next((i, j) for i, j in pairs if notes[i].end < notes[j].onset)
    result = edit_notes(song, {track: {first: notes[first]._replace(duration=100_000)}})
    assert result.notes[track][0] == Note(
        notes[first].onset, notes[second].onset - notes[first].onset, notes[first].pitch, notes[first].velocity
    )


def _chord(notes):
    return next(((i, i + 1) for i in range(len(notes) - 1) if notes[i].onset == notes[i + 1].onset), None)
