"""Notes that the service streams while a fill is sampled are the notes of the finished song."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonixr_model.engine.request import CellFinished
from harmonixr_model.fill.session import FillSession
from harmonixr_model.music.region import Cell, Region
from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.music.song import Song
from harmonixr_model.music.write import write_midi
from harmonixr_model.notes.field_tokens import NOTE_FIELDS
from harmonixr_model.notes.vocabulary import DURATIONS, VOCAB
from harmonixr_model.prompt.fill_tokens import encode_fill
from harmonixr_platform.serving.infill.bar_reader import BarReader


@st.composite
def songs(draw):
    """Draw a song of one track with notes of different pitch, the last one late, on coarse and fine tick grids."""
    per_quarter = draw(st.sampled_from([1, 5, 8, 24, 96, 100, 480]))
    onsets = draw(st.lists(st.integers(0, 16 * per_quarter), min_size=2, max_size=8))
    notes = [Note(onset, draw(st.integers(1, per_quarter)), 40 + i, 10 * i + 10) for i, onset in enumerate(onsets)]
    notes.append(Note(60 * per_quarter, per_quarter, 20, 64))
    return Song.parse(write_midi(Score(per_quarter, (Track().with_notes(notes),))))


@st.composite
def grid_notes(draw, cell):
    """Draw notes for a cell of a prompt: new ones, or its known notes with new values of the cell's field."""
    step = st.integers(cell.start, cell.end - 1)
    if cell.field is None:
        steps = draw(st.lists(step, max_size=3))
        return [Note(at, draw(st.sampled_from(DURATIONS)), 100 + i, 63) for i, at in enumerate(steps)]
    values = {
        "pitch": lambda note, i: {"pitch": 60 + i},
        "velocity": lambda note, i: {"velocity": draw(st.integers(1, 127))},
        "duration": lambda note, i: {"duration": draw(st.sampled_from(DURATIONS[:24]))},
        "rhythm": lambda note, i: {"onset": draw(step), "duration": draw(st.sampled_from(DURATIONS[:24]))},
    }
    return [note._replace(**values[cell.field](note, i)) for i, note in enumerate(cell.known)]


@pytest.mark.parametrize("field", [None, *NOTE_FIELDS])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_streamed_notes_are_the_notes_of_the_finished_song(field, data):
    song = data.draw(songs())
    last, quarter = song.score.tracks[0].notes[-2].onset, song.score.ticks_per_quarter
    end = last + data.draw(st.integers(quarter, 8 * quarter))
    region = Region((Cell(0, data.draw(st.integers(0, last)), end),))
    session = FillSession(song, region, max_length=4096, field=field)
    reader = BarReader(song, region)
    streamed = []
    while (prompt := session.next_prompt()) is not None:
        notes = [data.draw(grid_notes(cell)) for cell in prompt.cells]
        tokens = encode_fill(prompt, notes)[0].tolist()
        rest = tokens[:-1]
        for number, header in enumerate(prompt.headers):
            stop = rest.index(VOCAB.id("END"), len(header)) + 1
            view = reader.read(prompt, CellFinished(0, number, tuple(rest[:stop])), candidate=0, seed=0)
            streamed += [(note.onset_tick, note.pitch, note.velocity) for note in view.notes]
            rest = rest[stop:]
        session.accept(tokens, check_grammar=False)
    finished = session.result()
    final = [(note.onset, note.pitch, note.velocity) for notes in finished.notes.values() for note in notes]
    assert len(streamed) == len(final) + finished.dropped * (field is None)
    unmatched = Counter(final) - Counter(streamed)
    assert sum(unmatched.values()) <= finished.dropped * (field is not None)
