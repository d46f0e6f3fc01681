"""The grammar at chosen places: what may come next, and which constraints cannot be kept."""

import numpy as np
import pytest

from harmonixr_model.errors import ControlError, TokenError
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.fill_grammar import FillGrammar, check_fill
from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.text import from_text
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.builder import build_prompt

CONTEXT = Score(
    24,
    (
        Track((Note(0, 120, 60, 82), Note(200, 24, 62, 82)), channel=0),
        Track((Note(130, 12, 64, 82),), channel=0),
        Track((), is_drum=True, channel=9),
    ),
)
CELL = GridCell(0, 96, 192)


def grammar_after(text: str, *, cells=(CELL,), context=CONTEXT, **given) -> FillGrammar:
    """Return the grammar after its forced header and the tokens of `text`."""
    prompt = build_prompt(EncodedScore(context), cells, max_prefix_tokens=1000, **given)
    grammar = FillGrammar(prompt.tables)
    for token in (*prompt.headers[0], *from_text(text)):
        grammar.advance(int(token))
    return grammar


def names(grammar: FillGrammar, kind: str) -> list[str]:
    block = getattr(VOCAB, kind)
    return [VOCAB.name(int(t)) for t in np.flatnonzero(grammar.allowed()) if t in block]


def kinds(grammar: FillGrammar) -> set[str]:
    return {VOCAB.name(int(t)).split("_")[0] for t in np.flatnonzero(grammar.allowed())}


def test_a_cell_begins_with_a_position_or_ends_empty():
    assert kinds(grammar_after("")) == {"POS", "END"}
    assert len(names(grammar_after(""), "position")) == 96


def test_the_first_note_of_a_cell_has_a_velocity_and_later_ones_only_a_new_one():
    assert kinds(grammar_after("POS_0")) == {"PITCH"}
    assert kinds(grammar_after("POS_0 PITCH_70")) == {"DUR"}
    assert kinds(grammar_after("POS_0 PITCH_70 DUR_3")) == {"VEL"}
    assert kinds(grammar_after("POS_0 PITCH_70 DUR_3 VEL_82")) == {"POS", "PITCH", "END"}
    later = grammar_after("POS_0 PITCH_70 DUR_3 VEL_82 PITCH_71 DUR_3")
    assert kinds(later) == {"POS", "PITCH", "VEL", "END"}
    assert "VEL_82" not in names(later, "velocity")


def test_positions_and_pitches_of_a_chord_only_rise():
    grammar = grammar_after("POS_12 PITCH_70 DUR_3 VEL_82")
    assert names(grammar, "position")[0] == "POS_13"
    assert names(grammar, "pitch")[0] == "PITCH_71"


def test_a_pitch_still_sounding_on_the_channel_cannot_begin():
    assert "PITCH_60" not in names(grammar_after("POS_23"), "pitch")
    assert "PITCH_60" in names(grammar_after("POS_24"), "pitch")


def test_a_note_ends_before_its_pitch_begins_again_on_any_track_of_the_channel():
    assert names(grammar_after("POS_24 PITCH_64"), "duration")[-1] == "DUR_10"  # 120 to 130
    assert names(grammar_after("POS_90 PITCH_62"), "duration")[-1] == "DUR_14"  # 186 to 200
    assert names(grammar_after("POS_90 PITCH_63"), "duration")[-1] == "DUR_1536"


def test_a_note_of_the_fill_closes_its_pitch_for_later_tracks_of_the_channel():
    cells = (CELL, GridCell(1, 96, 192))
    grammar = grammar_after("POS_40 PITCH_70 DUR_12 VEL_82 END FILL BARIDX_0 TRACK_1 POS_30 PITCH_70", cells=cells)
    assert names(grammar, "duration")[-1] == "DUR_10"
    grammar = grammar_after("POS_40 PITCH_70 DUR_12 VEL_82 END FILL BARIDX_0 TRACK_1 POS_51", cells=cells)
    assert "PITCH_70" not in names(grammar, "pitch")


def test_locked_voices_count_against_polyphony():
    grammar = grammar_after("", constraints=Constraints(max_polyphony=1))
    assert names(grammar, "position")[0] == "POS_24"
    grammar = grammar_after("POS_90 PITCH_70", constraints=Constraints(max_polyphony=1))
    assert names(grammar, "duration")[-1] == "DUR_14"
    grammar = grammar_after("POS_24 PITCH_70 DUR_6 VEL_82", constraints=Constraints(max_polyphony=1))
    assert names(grammar, "position")[0] == "POS_30"
    assert names(grammar, "pitch") == []


def test_range_scale_and_velocity_limit_what_is_allowed():
    constraints = Constraints(pitch_min=60, pitch_max=72, scale=(0, 7), velocity_min=60, velocity_max=70)
    grammar = grammar_after("POS_30", constraints=constraints)
    assert names(grammar, "pitch") == ["PITCH_60", "PITCH_67", "PITCH_72"]
    grammar = grammar_after("POS_30 PITCH_67 DUR_3", constraints=constraints)
    assert names(grammar, "velocity") == ["VEL_62", "VEL_66", "VEL_70"]


def test_pitch_limits_do_not_bind_drums():
    grammar = grammar_after(
        "POS_0", cells=(GridCell(2, 0, 96), CELL), constraints=Constraints(pitch_min=60, scale=(0,))
    )
    assert len(names(grammar, "pitch")) == 128


def test_a_bar_closes_at_its_most_notes_and_not_before_its_least():
    constraints = Constraints(min_notes_per_bar=2, max_notes_per_bar=2)
    one, two = "POS_0 PITCH_70 DUR_3 VEL_82 ", "POS_6 PITCH_70 DUR_3 "
    assert "END" not in kinds(grammar_after(one, constraints=constraints))
    assert kinds(grammar_after(one + two, constraints=constraints)) == {"VEL", "END"}


def test_locked_notes_of_a_bar_count_towards_its_most_and_least():
    locked = Score(24, (Track((Note(96, 6, 60, 82), Note(120, 6, 60, 82))),))
    assert "END" in kinds(grammar_after("", context=locked, constraints=Constraints(min_notes_per_bar=2)))
    assert kinds(grammar_after("", context=locked, constraints=Constraints(max_notes_per_bar=2))) == {"END"}


def test_no_step_is_passed_that_the_least_notes_need():
    constraints = Constraints(min_notes_per_bar=5, max_polyphony=1)
    assert names(grammar_after("", constraints=constraints, context=Score(24, (Track(),))), "position")[-1] == "POS_91"
    grammar = grammar_after("POS_91 PITCH_70", constraints=constraints, context=Score(24, (Track(),)))
    assert names(grammar, "duration") == ["DUR_1"]


def test_near_its_token_budget_a_fill_can_only_close():
    grammar = grammar_after("POS_0 PITCH_70 DUR_3 VEL_82", max_fill_tokens=6 + 4 + 3)
    assert kinds(grammar) == {"END"}


def test_an_error_names_the_broken_place_and_the_allowed_tokens():
    prompt = build_prompt(EncodedScore(CONTEXT), [CELL], max_prefix_tokens=1000)
    header = " ".join(VOCAB.name(t) for t in prompt.headers[0])
    check_fill(prompt.tables, from_text(f"{header} POS_0 PITCH_70 DUR_3 VEL_82 END EOS"))
    with pytest.raises(TokenError, match=r"PITCH_60 is not allowed as token 8 .* allowed are PITCH_0, PITCH_1"):
        check_fill(prompt.tables, from_text(f"{header} POS_0 PITCH_60 DUR_3 VEL_82 END EOS"))
    with pytest.raises(TokenError, match="breaks off after 7 tokens"):
        check_fill(prompt.tables, from_text(f"{header} POS_0"))
    with pytest.raises(TokenError, match="finished"):
        check_fill(prompt.tables, from_text(f"{header} END EOS EOS"))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"pitch_min": 80, "pitch_max": 60}, "pitch range 80-60"),
        ({"pitch_max": 128}, "pitch range"),
        ({"velocity_min": 0}, "velocity range"),
        ({"scale": ()}, "scale"),
        ({"scale": (12,)}, "scale"),
        ({"max_polyphony": 0}, "polyphony"),
        ({"max_notes_per_bar": -1}, "negative"),
        ({"min_notes_per_bar": 9, "max_notes_per_bar": 8}, "at least 9 and at most 8"),
    ],
)
def test_contradicting_constraints_are_refused(given, complaint):
    with pytest.raises(ControlError, match=complaint):
        Constraints(**given)


@pytest.mark.parametrize(
    ("cell", "constraints", "complaint"),
    [
        (CELL, Constraints(min_notes_per_bar=73, max_polyphony=1), "room for 72 new notes in bar 2, 73"),
        (GridCell(0, 96, 192, low=61, high=61), Constraints(scale=(0,)), "band 61-61"),
        (GridCell(2, 96, 192), Constraints(scale=(0,)), "drums"),
        (GridCell(0, 96, 100), Constraints(min_notes_per_bar=300, max_polyphony=30), "ask for fewer"),
    ],
)
def test_constraints_that_a_gap_cannot_keep_are_refused(cell, constraints, complaint):
    with pytest.raises(ControlError, match=complaint):
        build_prompt(EncodedScore(CONTEXT), [cell], max_prefix_tokens=1000, constraints=constraints)


def test_notes_join_until_the_minimum_polyphony_sounds():
    constraints = Constraints(min_polyphony=3)
    assert kinds(grammar_after("POS_60 PITCH_50 DUR_6 VEL_82", constraints=constraints)) == {"PITCH"}
    assert kinds(grammar_after("POS_60 PITCH_50 DUR_6 VEL_82 PITCH_60 DUR_6", constraints=constraints)) == {
        "PITCH",
        "VEL",
    }
    done = grammar_after("POS_60 PITCH_50 DUR_6 VEL_82 PITCH_60 DUR_6 PITCH_62 DUR_6", constraints=constraints)
    assert {"POS", "PITCH", "END"} <= kinds(done)
    # With no higher pitch left, the chord stays as small as it is.
    assert {"POS", "END"} <= kinds(grammar_after("POS_60 PITCH_127 DUR_6 VEL_82", constraints=constraints))
