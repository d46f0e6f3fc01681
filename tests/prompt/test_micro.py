"""Onsets off the grid: how far they are from it survives tokens and comes back, and never moves a note into another."""

from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from harmonixr_model.errors import ControlError, TokenError
from harmonixr_model.grammar.fill_grammar import FillGrammar, check_fill
from harmonixr_model.grammar.fill_tables import Constraints
from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, decode_notes, encode_notes, split_at_bars
from harmonixr_model.notes.grid import GRID, MICRO, in_ticks, plain, quantize, to_tick
from harmonixr_model.notes.text import from_text
from harmonixr_model.notes.tokenizer import decode, encode
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.copy_pointer import CopySource
from harmonixr_model.prompt.layout import answer_notes, build_prompt, decode_fill, encode_answer

slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
resolutions = st.sampled_from([24, 96, 120, 384, 480, 960, 1000])


def played(note: Note) -> Fraction:
    """Return the exact onset of a grid note, in steps."""
    return note.onset + Fraction(note.micro, MICRO)


@st.composite
def songs(draw, *, most_tracks=3):
    """Return a score in ticks whose onsets lie anywhere, on few pitches, so that notes meet."""
    rng, tpq = draw(st.randoms(use_true_random=False)), draw(resolutions)
    tracks = []
    for _ in range(rng.randint(1, most_tracks)):
        notes = [
            Note(rng.randrange(12 * tpq), rng.randint(1, tpq), rng.randint(60, 64), rng.randint(1, 127))
            for _ in range(rng.choice([1, 10, 60]))
        ]
        channel = rng.choice([0, 9])
        tracks.append(Track((), 0, channel == 9, "", channel).with_notes(notes))
    return Score(tpq, tuple(tracks))


@st.composite
def gaps(draw):
    """Return the full score off the grid and cells to fill: whole bars, halves of them, apart or side by side."""
    score = quantize(draw(songs()), micro=True)
    rng = draw(st.randoms(use_true_random=False))
    bars = score.bars_until(3 * 96)
    chosen = bars[(first := rng.randrange(3)) : first + rng.randint(1, 2)]
    cells = []
    for track in rng.sample(range(len(score.tracks)), rng.randint(1, len(score.tracks))):
        start, end = chosen[0].start + rng.choice([0, 0, 13]), chosen[-1].end - rng.choice([0, 0, 7])
        cells += split_at_bars(GridCell(track, start, end, *rng.choice([(0, 127), (61, 62)])), bars)
    return EncodedScore(score), tuple(cells)


def walk(prompt, rng) -> list[int]:
    """Draw a fill kind by kind from the grammar alone; the mask must never be empty."""
    grammar, fill = FillGrammar(prompt.rules), []
    while not grammar.finished:
        options = np.flatnonzero(grammar.allowed())
        assert len(options)
        kind = rng.choice(sorted({VOCAB.block_of(int(token)) for token in options}))
        fill.append(int(rng.choice([token for token in options if VOCAB.block_of(int(token)) == kind])))
        grammar.advance(fill[-1])
    return fill


@given(songs())
@settings(deadline=None)
def test_an_onset_comes_back_from_tokens_within_a_fiftieth_of_a_step(score):
    grid = EncodedScore(quantize(score, micro=True))
    for track, source in enumerate(score.tracks):
        ticks = {note.onset for note in source.notes}
        for bar in grid.score.bars:
            notes = grid.notes(track, bar.start, bar.end)
            again = decode_notes(grid.run(track, bar), bar.start) if notes else []
            assert again == list(notes)
            for note in again:
                exact = played(note) * score.ticks_per_quarter / GRID
                assert min(abs(exact - tick) for tick in ticks) * GRID / score.ticks_per_quarter <= Fraction(1, 48)
                assert -12 <= note.micro <= 12


@given(songs())
@settings(deadline=None)
def test_in_ticks_an_onset_is_the_very_one_wherever_a_24th_of_a_step_is_a_tick_or_less(score):
    score = replace(score, ticks_per_quarter=384)
    ticks = [{note.onset for note in track.notes} for track in score.tracks]
    for track, content in enumerate(quantize(score, micro=True).tracks):
        for note in content.notes:
            onset, end = in_ticks(note, 384)
            assert onset in ticks[track]
            assert end > onset


@given(songs())
@settings(deadline=None)
def test_steps_durations_and_all_else_are_the_same_with_and_without(score):
    with_micro, without = quantize(score, micro=True), quantize(score)
    for one, two in zip(with_micro.tracks, without.tracks, strict=True):
        assert [note._replace(micro=0) for note in one.notes] == list(two.notes)
    assert quantize(with_micro, micro=True) == with_micro
    assert quantize(with_micro) == without
    assert decode(encode(score)) == plain(without)


@given(st.integers(0, 4000), resolutions)
def test_a_step_without_offset_is_the_tick_it_always_was(step, tpq):
    assert to_tick(step, tpq, micro=0) == (2 * step * tpq + GRID) // (2 * GRID)
    assert in_ticks(Note(step, 3, 60, 64), tpq)[0] == to_tick(step, tpq)


def test_a_note_on_the_grid_says_nothing_and_each_other_its_own_offset():
    said = encode_notes([Note(0, 6, 36, 66), Note(0, 6, 42, 66, -3), Note(0, 6, 46, 66, 12), Note(6, 6, 42, 66)], 0)
    assert said == from_text(
        "POS_0 PITCH_36 DUR_6 VEL_66 PITCH_42 MICRO_-3 DUR_6 PITCH_46 MICRO_+12 DUR_6 POS_6 PITCH_42 DUR_6"
    )


@pytest.mark.parametrize(
    "text",
    [
        "POS_0 MICRO_+1 PITCH_60 DUR_6 VEL_66",
        "POS_0 PITCH_60 MICRO_+0 DUR_6 VEL_66",
        "POS_0 PITCH_60 MICRO_+1 MICRO_+2 DUR_6 VEL_66",
        "POS_0 PITCH_60 DUR_6 MICRO_+1 VEL_66",
        "POS_0 PITCH_60 MICRO_+1",
    ],
)
def test_an_offset_out_of_place_is_told(text):
    with pytest.raises(TokenError):
        decode_notes(from_text(text), 0)


@given(gaps(), st.integers(0, 2**32), st.sampled_from([None, 2]), st.sampled_from([None, 1, 4]))
@settings(slow, max_examples=80)
def test_whatever_is_drawn_no_offset_leaves_the_region_or_reaches_into_another_note(gap, seed, most, voices):
    full, cells = gap
    context = full.without(cells)
    limits = Constraints(min_notes_per_bar=most, max_polyphony=voices)
    try:
        prompt = build_prompt(context, cells, max_prefix_tokens=4000, limits=limits, max_fill_tokens=400, micro=True)
    except ControlError:
        assume(False)
        raise
    fill = walk(prompt, np.random.default_rng(seed))
    assert len(fill) <= 400
    check_fill(prompt.rules, fill)
    made = [(cell, n) for cell, notes in zip(prompt.cells, decode_fill(prompt, fill), strict=True) for n in notes]
    tracks = context.tracks
    for cell, note in made:
        inside = [(c.start, c.end) for c in cells if c.track == cell.track]
        assert any(start <= played(note) < end for start, end in inside)
        for track in tracks:
            others = track.notes if track.channel == tracks[cell.track].channel else ()
            assert not any(n.pitch == note.pitch and meet(n, note) for n in others)
    for (one_cell, one), (two_cell, two) in combinations(made, 2):
        shares = tracks[one_cell.track].channel == tracks[two_cell.track].channel and one.pitch == two.pitch
        assert not (shares and meet(one, two))


def meet(one: Note, two: Note) -> bool:
    return played(one) < two.end and played(two) < one.end


@given(gaps())
@settings(slow, max_examples=60)
def test_the_true_answer_comes_back_exactly(gap):
    full, cells = gap
    prompt = build_prompt(full.without(cells), cells, max_prefix_tokens=4000, micro=True)
    notes = answer_notes(prompt, full)
    assert decode_fill(prompt, encode_answer(prompt, notes)[0]) == notes


CONTEXT = Score(24, (Track((Note(0, 120, 60, 82), Note(150, 24, 62, 82, -4)), channel=0),))
CELL = GridCell(0, 96, 192)


def grammar_after(text: str, *, cells=(CELL,), micro=True) -> FillGrammar:
    prompt = build_prompt(EncodedScore(CONTEXT), cells, max_prefix_tokens=1000, micro=micro)
    grammar = FillGrammar(prompt.rules)
    for token in (*prompt.headers[0], *from_text(text)):
        grammar.advance(int(token))
    return grammar


def names(grammar: FillGrammar, kind: str) -> list[str]:
    block = getattr(VOCAB, kind)
    return [VOCAB.name(int(t)) for t in np.flatnonzero(grammar.allowed()) if t in block]


def test_an_offset_stands_between_pitch_and_duration_once():
    before = grammar_after("POS_40 PITCH_70")
    assert len(names(before, "micro")) == 24
    assert "MICRO_+0" not in names(before, "micro")
    assert names(before, "duration")
    assert not names(grammar_after("POS_40"), "micro")
    after = grammar_after("POS_40 PITCH_70 MICRO_-3")
    assert not names(after, "micro")
    assert names(after, "duration")
    assert not names(grammar_after("POS_40 PITCH_70", micro=False), "micro")


def test_at_the_regions_edge_and_after_a_note_of_its_pitch_a_note_may_only_be_late():
    assert names(grammar_after("POS_0 PITCH_70"), "micro")[0] == "MICRO_+1"
    assert names(grammar_after("POS_1 PITCH_70"), "micro")[0] == "MICRO_-12"
    assert names(grammar_after("POS_24 PITCH_60"), "micro")[0] == "MICRO_+1"
    assert names(grammar_after("POS_25 PITCH_60"), "micro")[0] == "MICRO_-12"
    parts = (replace(CELL, end=120), replace(CELL, start=120))
    later = "END FILL BARIDX_0 TRACK_0 HOLD PITCH_60 DUR_1 POS_24 PITCH_70"
    assert names(grammar_after(later.replace(" HOLD PITCH_60 DUR_1", ""), cells=parts), "micro")[0] == "MICRO_-12"


def test_a_note_ends_a_step_before_a_note_of_its_pitch_that_comes_early():
    assert names(grammar_after("POS_48 PITCH_62"), "duration")[-1] == "DUR_5"  # 144 to 149, the next at 149 20/24
    assert "PITCH_62" not in names(grammar_after("POS_53"), "pitch")


def test_no_passage_is_pointed_to_where_notes_are_off_the_grid():
    notes = [Note(96 * bar + step, 6, 60, 66) for bar in range(6) for step in (0, 24, 48)]
    full = EncodedScore(Score(24, (Track(tuple(notes)), Track(tuple(notes), channel=1))))
    context = full.without([CELL])
    assert isinstance(build_prompt(context, [CELL], max_prefix_tokens=1000).recalled[0], CopySource)
    assert build_prompt(context, [CELL], max_prefix_tokens=1000, micro=True).recalled == ()
