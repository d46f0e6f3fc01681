"""Grid and tokenizer: any score round-trips through its tokens."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonixr_model.errors import HarmonixrError, TokenError
from harmonixr_model.music.score import Note, Score, Tempo, TimeSignature, Track
from harmonixr_model.notes.grid import GRID, cut_overlaps, plain, quantize, to_step, to_tick
from harmonixr_model.notes.text import from_text, to_text
from harmonixr_model.notes.tokenizer import decode, encode
from harmonixr_model.notes.vocabulary import DURATIONS, VOCAB

ticks = st.integers(0, 6000)
notes = st.builds(Note, ticks, st.integers(0, 4000), st.integers(0, 127), st.integers(1, 127))
# Few pitches and times, so that notes collide.
crowded = st.builds(Note, st.integers(0, 300), st.integers(0, 500), st.integers(60, 62), st.integers(1, 127))
tracks = st.builds(
    lambda found, program, is_drum, name, channel: Track((), program, is_drum, name, channel).with_notes(found),
    st.lists(notes | crowded, max_size=25),
    st.integers(0, 127),
    st.booleans(),
    st.sampled_from(["", "Bass"]),
    st.integers(0, 15),
)
metres = st.builds(TimeSignature, ticks, st.integers(1, 40), st.sampled_from([1, 2, 4, 8, 16, 32, 64]))
tempos = st.builds(Tempo, ticks, st.integers(1, 2**24 - 1))
scores = st.builds(
    lambda tpq, found, paces, changes: Score(tpq, tuple(found), tuple(sorted(paces)), tuple(sorted(changes))),
    st.sampled_from([24, 96, 120, 384, 480, 1000]),
    st.lists(tracks, max_size=4),
    st.lists(tempos, max_size=4),
    st.lists(metres, max_size=4),
)


@given(scores)
def test_quantize_is_idempotent(score):
    once = quantize(score)
    assert quantize(once) == once
    assert once.ticks_per_quarter == GRID


@given(scores)
@settings(deadline=None)
def test_decoding_what_was_encoded_gives_the_quantized_score(score):
    assert decode(encode(score)) == plain(quantize(score))


@given(scores)
@settings(deadline=None, max_examples=30)
def test_token_text_reads_back_to_the_same_tokens(score):
    tokens = encode(score)
    text = to_text(tokens)
    assert from_text(text) == tokens
    assert sum(line.startswith("BAR") for line in text.splitlines()) == tokens.count(VOCAB.id("BAR"))


@given(scores)
def test_no_note_of_a_grid_track_overlaps_the_next_of_its_pitch(score):
    for track in quantize(score).tracks:
        for one in track.notes:
            assert one.duration in DURATIONS
            again = [two for two in track.notes if two is not one and two.pitch == one.pitch]
            assert not any(two.onset <= one.onset < two.end for two in again)


@given(scores)
def test_quantize_keeps_every_track_its_name_and_its_channel(score):
    before = [(t.name, t.channel, t.is_drum) for t in score.tracks]
    assert [(t.name, t.channel, t.is_drum) for t in quantize(score).tracks] == before


@given(st.integers(0, 10**7), st.sampled_from([24, 96, 120, 480, 960]))
def test_a_step_becomes_a_tick_and_the_same_step_again(step, tpq):
    assert to_step(to_tick(step, tpq), tpq) == step


def test_half_way_between_two_steps_goes_up():
    assert [to_step(tick, 480) for tick in (9, 10, 29, 30)] == [0, 1, 1, 2]


def test_a_note_just_before_a_barline_joins_the_bar():
    score = Score(480, (Track((Note(1915, 400, 60, 80),)),))
    assert quantize(score).tracks[0].notes == (Note(96, 20, 60, 82),)
    assert "BAR TS_4/4\nBAR TS_4/4 TRACK_0 POS_0 PITCH_60 DUR_20 VEL_82\n" in to_text(encode(score))


def test_quantize_keeps_the_longest_of_notes_with_one_onset_and_pitch():
    assert cut_overlaps([Note(0, 6, 60, 90), Note(0, 12, 60, 50), Note(8, 6, 60, 70)]) == [
        Note(0, 8, 60, 50),
        Note(8, 6, 60, 70),
    ]


def test_a_change_of_metre_within_a_bar_shortens_it_and_round_trips():
    score = Score(
        24,
        (Track((Note(0, 12, 60, 82), Note(200, 12, 60, 82))),),
        time_signatures=(TimeSignature(0, 4, 4), TimeSignature(120, 4, 4), TimeSignature(192, 3, 8)),
    )
    tokens = encode(score)
    assert "BAR TS_4/4 UNTIL POS_24" in to_text(tokens)
    assert [(b.start, b.end) for b in decode(tokens).bars] == [(b.start, b.end) for b in score.bars]


def test_a_metre_the_vocabulary_lacks_becomes_the_nearest_in_length():
    metres_after = quantize(Score(24, time_signatures=(TimeSignature(0, 33, 8), TimeSignature(990, 26, 16))))
    assert metres_after.time_signatures == (TimeSignature(0, 24, 8), TimeSignature(990, 13, 8))


def test_a_piece_reads_as_text():
    score = Score(
        24,
        (
            Track((Note(0, 24, 60, 82), Note(0, 24, 64, 82), Note(48, 48, 67, 102)), program=33),
            Track((Note(96, 3, 36, 126),), is_drum=True, channel=9),
        ),
        tempos=(Tempo(0, 500_000), Tempo(24, 600_000)),
    )
    assert to_text(encode(score)) == (
        "BOS TEMPO_18 TRACK_0 PROG_33 TRACK_1 DRUMS\n"
        "BAR TS_4/4 POS_24 TEMPO_16 "
        "TRACK_0 POS_0 PITCH_60 DUR_24 VEL_82 PITCH_64 DUR_24 POS_48 PITCH_67 DUR_48 VEL_102\n"
        "BAR TS_4/4 TRACK_1 POS_0 PITCH_36 DUR_3 VEL_126\n"
        "EOS\n"
    )


def test_a_word_that_is_not_a_token_is_refused_with_its_line():
    with pytest.raises(TokenError, match=r"line 2.*PITCH_C4"):
        from_text("BOS TEMPO_18 # a remark\nBAR TS_4/4 TRACK_0 POS_0 PITCH_C4\nEOS\n")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("BAR TS_4/4 EOS", "begins with BOS"),
        ("BOS TEMPO_18 EOS", "no BAR"),
        ("BOS TRACK_0 PROG_0 BAR TS_4/4 EOS", "header"),
        ("BOS TEMPO_18 TRACK_1 PROG_0 BAR TS_4/4 EOS", "TRACK_0"),
        ("BOS TEMPO_18 BAR POS_0 EOS", "bar 1.*metre"),
        ("BOS TEMPO_18 BAR TS_4/4 UNTIL POS_96 EOS", "bar 1.*POS_1 to POS_95"),
        ("BOS TEMPO_18 BAR TS_4/4 BAR TS_4/4 TRACK_0 POS_0 PITCH_60 DUR_6 VEL_82 EOS", "bar 2.*header"),
        ("BOS TEMPO_18 TRACK_0 PROG_0 BAR TS_4/4 TRACK_0 PITCH_60 DUR_6 VEL_82 EOS", "PITCH_60.*POS"),
        ("BOS TEMPO_18 TRACK_0 PROG_0 BAR TS_4/4 TRACK_0 POS_0 PITCH_60 DUR_6 EOS", "break off where VEL"),
        ("BOS TEMPO_18 TRACK_0 PROG_0 BAR TS_3/4 TRACK_0 POS_72 PITCH_60 DUR_6 VEL_82 EOS", "past the bar's end"),
        ("BOS TEMPO_18 TRACK_0 PROG_0 BAR TS_3/4 PITCH_60 EOS", "TRACK, or POS and TEMPO"),
    ],
)
def test_tokens_that_are_not_a_score_are_refused_with_the_place(text, complaint):
    with pytest.raises(TokenError, match=complaint):
        decode(from_text(text))


def test_more_tracks_than_tokens_name_are_refused():
    with pytest.raises(TokenError, match="33 tracks"):
        encode(Score(24, (Track(),) * 33))


@pytest.mark.corpus
def test_real_files_round_trip_through_tokens():
    folder = os.environ.get("HARMONIXR_TEST_DATA")
    if not folder:
        pytest.skip("HARMONIXR_TEST_DATA names no folder of MIDI files")
    song = pytest.importorskip("harmonixr_model.music.song")
    read = 0
    for path in sorted(Path(folder).rglob("*.mid"))[:: int(os.environ.get("HARMONIXR_TEST_STRIDE", "25"))]:
        try:
            score = song.Song.parse(path.read_bytes()).score
        except HarmonixrError:
            continue
        if len(score.tracks) > 32:
            continue
        assert decode(encode(score)) == plain(quantize(score)), path
        read += 1
    assert read, "no file could be read"
