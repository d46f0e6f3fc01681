"""Columns give the tokens that the readable tokenizer gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonixr_model import examples
from harmonixr_model.errors import MidiError, TokenError
from harmonixr_model.music.columns import columns_of, read_columns
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.score import Note, Score, Tempo, TimeSignature, Track
from harmonixr_model.music.song import Song
from harmonixr_model.notes.column_tokenizer import encode_columns
from harmonixr_model.notes.tokenizer import encode

SONGS = {name: examples.load(name) for name in ("minuet-in-g",)} | {f"composed-{i}": compose_song(i) for i in range(4)}

notes = st.builds(
    Note, st.integers(0, 4000), st.integers(1, 3000), st.sampled_from([0, 60, 61, 62, 127]), st.integers(1, 127)
)
tracks = st.builds(
    lambda found, program, is_drum: Track(program=0 if is_drum else program, is_drum=is_drum).with_notes(found),
    st.lists(notes, min_size=1, max_size=30),
    st.integers(0, 127),
    st.booleans(),
)
scores = st.builds(
    lambda tpq, parts, paces, metres: Score(
        tpq,
        tuple(parts),
        (Tempo(0, 500_000), *(Tempo(tick, pace) for tick, pace in sorted(paces.items()))),
        (TimeSignature(0, 4, 4), *(TimeSignature(tick, *metre) for tick, metre in sorted(metres.items()))),
    ),
    st.sampled_from([24, 96, 100, 480]),
    st.lists(tracks, min_size=1, max_size=4),
    st.dictionaries(st.integers(1, 5000), st.integers(200_000, 1_500_000), max_size=3),
    st.dictionaries(st.integers(1, 5000), st.sampled_from([(3, 4), (6, 8), (5, 4), (7, 16)]), max_size=3),
)


@settings(deadline=None, max_examples=150)
@given(scores)
def test_columns_of_any_score_give_its_tokens(score):
    assert encode_columns(columns_of(score)).tolist() == encode(score)


@pytest.mark.parametrize("name", SONGS)
def test_a_file_read_in_bulk_gives_the_tokens_of_its_song(name):
    score = Song.parse(SONGS[name]).score
    assert encode_columns(read_columns(SONGS[name])).tolist() == encode(score)


def test_a_score_without_notes_has_a_header_and_one_bar():
    assert encode_columns(columns_of(Score(480))).tolist() == encode(Score(480))


def test_a_truncated_file_is_read_up_to_its_end():
    data = SONGS["minuet-in-g"]
    whole, half = encode_columns(read_columns(data)), encode_columns(read_columns(data[: len(data) // 2]))
    assert 0 < len(half) < len(whole)


def test_a_file_that_is_not_midi_is_refused():
    with pytest.raises(MidiError):
        read_columns(b"RIFF, and nothing else")


def test_more_tracks_than_tokens_name_are_refused():
    many = Score(480, tuple(Track((Note(0, 1, 60, 64),)) for _ in range(33)))
    with pytest.raises(TokenError, match="33 tracks, tokens name 32"):
        encode_columns(columns_of(many))
