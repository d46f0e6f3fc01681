"""The layout of a gap, token by token, and the gaps that are refused."""

import pytest

from harmonixr_model.errors import PromptError, TokenError
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.music.region import NoteKey
from harmonixr_model.music.score import Note, Score, Tempo, TimeSignature, Track
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, split_at_bars
from harmonixr_model.notes.text import from_text, to_text
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.builder import build_layout, build_prompt
from harmonixr_model.prompt.fill_tokens import decode_fill, encode_fill, target_notes

MELODY = Track(
    (
        Note(0, 24, 60, 82),
        Note(24, 24, 62, 82),
        Note(72, 48, 64, 102),
        Note(120, 24, 65, 82),
        Note(168, 24, 67, 82),
        Note(192, 96, 72, 82),
    ),
    program=4,
    channel=0,
)
DRUMS = Track((Note(0, 3, 36, 126), Note(96, 3, 36, 126), Note(96, 3, 42, 126)), is_drum=True, channel=9)
PIECE = Score(24, (MELODY, DRUMS), tempos=(Tempo(0, 500_000), Tempo(96, 600_000)))
FULL = EncodedScore(PIECE)
SECOND_BAR = GridCell(0, 96, 192)


def as_text(tokens) -> str:
    return to_text([int(token) for token in tokens])


def layout_of(*cells, full=FULL, locks=(), window=1000, **given):
    return build_layout(full.without(cells, locks), cells, max_prefix_tokens=window, **given)


def test_a_hidden_bar_is_laid_out_as_designed():
    layout = layout_of(SECOND_BAR, passages=0)
    assert as_text(layout.prefix) == (
        "BOS TEMPO_16 TRACK_0 PROG_4 TRACK_1 DRUMS\n"
        "BAR TS_4/4 TRACK_0 POS_0 PITCH_60 DUR_24 VEL_82 POS_24 PITCH_62 DUR_24 POS_72 PITCH_64 DUR_48 VEL_102 "
        "TRACK_1 POS_0 PITCH_36 DUR_3 VEL_126\n"
        "BAR TS_4/4 TRACK_0 MASK TRACK_1 POS_0 PITCH_36 DUR_3 VEL_126 PITCH_42 DUR_3\n"
        "BAR TS_4/4 TRACK_0 POS_0 PITCH_72 DUR_96 VEL_82\n"
        "SEP\n"
    )
    tokens, is_forced = encode_fill(layout, target_notes(layout, FULL))
    assert as_text(tokens) == (
        "FILL BARIDX_0 TRACK_0 HOLD PITCH_64 DUR_24 POS_24 PITCH_65 DUR_24 VEL_82 POS_72 PITCH_67 DUR_24 END\nEOS\n"
    )
    assert is_forced.tolist() == [True] * 6 + [False] * 8 + [True]


def test_cells_are_filled_bars_outer_tracks_inner():
    layout = layout_of(GridCell(1, 96, 192), GridCell(0, 192, 288), GridCell(0, 96, 192))
    assert [(cell.start, cell.track) for cell in layout.cells] == [(96, 0), (96, 1), (192, 0)]
    assert [as_text(header[:3]) for header in layout.headers] == [
        "FILL BARIDX_0 TRACK_0\n",
        "FILL BARIDX_0 TRACK_1\n",
        "FILL BARIDX_1 TRACK_0\n",
    ]


def test_part_of_a_bar_and_a_pitch_band_follow_the_mask_after_locked_notes():
    layout = layout_of(GridCell(0, 144, 192, low=66, high=80))
    assert "TRACK_0 POS_24 PITCH_65 DUR_24 VEL_82 MASK FROM POS_48 UNTIL POS_96 LOW PITCH_66 HIGH PITCH_80" in as_text(
        layout.prefix
    )


def test_a_locked_note_stays_in_the_prefix_and_out_of_the_target():
    locks = {NoteKey(0, 120, 65)}
    layout = layout_of(SECOND_BAR, locks=locks)
    assert "TRACK_0 POS_24 PITCH_65 DUR_24 VEL_82 MASK TRACK_1" in as_text(layout.prefix)
    assert target_notes(layout, FULL, locks) == [(Note(168, 24, 67, 82),)]


def test_a_bar_shortened_by_a_change_of_metre_has_its_length():
    score = Score(24, (MELODY,), time_signatures=(TimeSignature(0, 4, 4), TimeSignature(144, 3, 4)))
    assert "BAR TS_4/4 UNTIL POS_48 TRACK_0 MASK\nBAR TS_3/4" in as_text(
        layout_of(GridCell(0, 96, 144), full=EncodedScore(score)).prefix
    )


def test_a_gap_may_be_past_the_end_of_the_song():
    layout = layout_of(GridCell(0, 288, 384), GridCell(0, 384, 480))
    assert as_text(layout.prefix).endswith("BAR TS_4/4 TRACK_0 MASK\nBAR TS_4/4 TRACK_0 MASK\nSEP\n")


def test_a_new_track_without_notes_can_be_filled():
    score = Score(24, (*PIECE.tracks, Track(program=33, channel=1)))
    layout = layout_of(GridCell(2, 0, 96), full=EncodedScore(score))
    assert "TRACK_2 PROG_33" in as_text(layout.prefix)
    assert "TRACK_2 MASK" in as_text(layout.prefix)


def test_similar_passages_come_before_the_bars_and_are_numbered_like_the_gap():
    lines = as_text(layout_of(SECOND_BAR).prefix).splitlines()
    assert lines[1:3] == [
        "REF MATCH_1 BARIDX_0 "
        "TRACK_0 POS_0 PITCH_60 DUR_24 VEL_82 POS_24 PITCH_62 DUR_24 POS_72 PITCH_64 DUR_48 VEL_102",
        "REF MATCH_1 BARIDX_0 TRACK_0 POS_0 PITCH_72 DUR_96 VEL_82",
    ]
    assert [lines[0], *lines[3:]] == as_text(layout_of(SECOND_BAR, passages=0).prefix).splitlines()


def test_tracks_without_notes_or_cells_have_no_tokens():
    full = EncodedScore(Score(24, (Track(), *PIECE.tracks, Track())))
    layout = layout_of(GridCell(1, 96, 192), full=full)
    assert layout.slots == (1, 2)
    assert as_text(layout.prefix).startswith("BOS TEMPO_18 TRACK_0 PROG_4 TRACK_1 DRUMS\n")
    assert "TRACK_0 MASK" in as_text(layout.prefix)


def test_the_window_grows_on_both_sides_and_the_gap_stays():
    track = Track(tuple(Note(24 * i, 12, 60, 82) for i in range(80)))
    full = EncodedScore(Score(24, (track,)))
    for window in (40, 80, 120, 400):
        layout = layout_of(GridCell(0, 960, 1056), full=full, window=window, passages=0)
        bars = as_text(layout.prefix).splitlines()[1:-1]
        assert "MASK" in bars[layout.gap_bar]
        assert abs(2 * layout.gap_bar + 1 - len(bars)) <= 1 or window == 400
        assert len(layout.prefix) <= window
    assert (layout.gap_bar, len(bars)) == (10, 20)


def test_at_an_edge_of_the_song_the_window_grows_the_other_way():
    track = Track(tuple(Note(24 * i, 12, 60, 82) for i in range(80)))
    layout = layout_of(GridCell(0, 0, 96), full=EncodedScore(Score(24, (track,))), window=120)
    assert layout.gap_bar == 0
    assert as_text(layout.prefix).count("BAR") >= 7


def test_controls_are_said_in_the_header_of_their_cell():
    cell = GridCell(0, 96, 192, controls=(VOCAB.id("DENSITY_3"),))
    layout = layout_of(cell)
    assert as_text(layout.headers[0]).startswith("FILL BARIDX_0 TRACK_0 DENSITY_3 HOLD")


def test_coordinates_place_tokens_from_the_gap():
    layout = layout_of(SECOND_BAR)
    tokens, _ = encode_fill(layout, target_notes(layout, FULL))
    placed = dict(zip(as_text(tokens).split(), layout.fill_coordinates(tokens)[:, :3].tolist(), strict=False))
    assert placed["FILL"] == [0, 0, 0]
    assert placed["HOLD"] == [65, 0, 1]
    assert placed["POS_72"] == placed["PITCH_67"] == [65, 73, 1]
    assert placed["END"] == [65, 0, 1]
    before = layout.coordinates[layout.prefix.tolist().index(VOCAB.id("BAR"))]
    assert before[:3].tolist() == [64, 0, 0]
    locked = layout_of(SECOND_BAR, locks={NoteKey(0, 120, 65)})
    mask = locked.coordinates[locked.prefix.tolist().index(VOCAB.id("MASK"))]
    assert mask[:3].tolist() == [65, 0, 1]  # it is of the whole cell, not of the last locked note


def test_the_fourth_coordinate_is_the_previous_token_and_a_fill_follows_sep():
    layout = layout_of(SECOND_BAR)
    tokens, _ = encode_fill(layout, target_notes(layout, FULL))
    assert layout.fill_coordinates(tokens)[:, 3].tolist() == [VOCAB.id("SEP"), *tokens[:-1]]
    assert layout.coordinates[1:, 3].tolist() == layout.prefix[:-1].tolist()


def test_a_cell_is_split_at_the_barlines():
    parts = split_at_bars(GridCell(0, 50, 200, low=40), PIECE.bars)
    assert [(p.start, p.end, p.low) for p in parts] == [(50, 96, 40), (96, 192, 40), (192, 200, 40)]


def test_thirty_two_tracks_have_tokens_the_cells_first():
    score = Score(24, tuple(MELODY for _ in range(40)))
    layout = layout_of(GridCell(39, 96, 192), full=EncodedScore(score), window=5000)
    assert layout.slots == (*range(31), 39)


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        ((), "nothing is to be filled"),
        ((GridCell(2, 96, 192),), "track 3"),
        ((GridCell(0, 96, 96),), "empty"),
        ((GridCell(0, 96, 192, low=70, high=60),), "low <= high"),
        ((GridCell(0, 90, 100),), "barline"),
        ((GridCell(0, 96, 150), GridCell(0, 140, 192)), "overlap"),
        ((GridCell(0, 0, 96), GridCell(0, 128 * 96, 129 * 96)), "129 bars"),
    ],
)
def test_invalid_cells_are_refused(cells, complaint):
    with pytest.raises(PromptError, match=complaint):
        build_prompt(PIECE, cells, max_prefix_tokens=1000)


def test_a_gap_that_does_not_fit_is_refused():
    with pytest.raises(PromptError, match=r"reads 15; choose fewer bars"):
        layout_of(SECOND_BAR, window=15)
    with pytest.raises(PromptError, match="at least"):
        build_prompt(PIECE, [SECOND_BAR], max_prefix_tokens=500, max_fill_tokens=4)


def test_a_score_that_is_not_on_the_grid_is_refused():
    with pytest.raises(TokenError, match="quantize"):
        EncodedScore(Score(480))


def test_a_fill_outside_its_cell_is_refused():
    with pytest.raises(TokenError, match="outside its cell"):
        encode_fill(layout_of(SECOND_BAR), [[Note(192, 12, 60, 82)]])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("FILL BARIDX_1 TRACK_0 END EOS", "header of cell 1"),
        ("FILL BARIDX_0 TRACK_0 HOLD PITCH_64 DUR_24 EOS", "no END"),
        ("FILL BARIDX_0 TRACK_0 HOLD PITCH_64 DUR_24 END", "EOS"),
        ("FILL BARIDX_0 TRACK_0 HOLD PITCH_64 DUR_24 POS_24 PITCH_60 DUR_3 END EOS", "VEL"),
    ],
)
def test_tokens_that_are_not_a_fill_of_the_prompt_are_refused(text, complaint):
    prompt = build_prompt(FULL.without([SECOND_BAR]), [SECOND_BAR], max_prefix_tokens=500)
    with pytest.raises(TokenError, match=complaint):
        decode_fill(prompt, from_text(text))


def test_decoded_velocities_are_clamped_to_the_constraints():
    constraints = Constraints(velocity_min=64, velocity_max=64)
    prompt = build_prompt(FULL.without([SECOND_BAR]), [SECOND_BAR], max_prefix_tokens=500, constraints=constraints)
    fill = from_text("FILL BARIDX_0 TRACK_0 HOLD PITCH_64 DUR_24 POS_24 PITCH_60 DUR_3 VEL_66 END EOS")
    assert decode_fill(prompt, fill) == [(Note(120, 3, 60, 64),)]
