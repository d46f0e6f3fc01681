"""The grammar of single-field fills: every sampled fill is valid, and the target is always allowed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonixr_model.errors import ControlError, PromptError, TokenError
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.fill_grammar import check_fill, open_grammar
from harmonixr_model.music.compose import compose
from harmonixr_model.music.score import Note, Score, TimeSignature, Track
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.field_tokens import NOTE_FIELDS, single_field_cell
from harmonixr_model.notes.grid import quantize
from harmonixr_model.notes.vocabulary import VELOCITY_BINS, VOCAB
from harmonixr_model.prompt.builder import build_prompt
from harmonixr_model.prompt.fill_tokens import decode_fill, encode_fill

BAR = 96
UNCHANGED = {
    "pitch": lambda n: (n.onset, n.duration, n.velocity),
    "velocity": lambda n: (n.onset, n.duration, n.pitch),
    "duration": lambda n: (n.onset, n.pitch, n.velocity),
    "rhythm": lambda n: (n.pitch, n.velocity),
}


def prompt_of(full, field, cells, **given):
    filled = [single_field_cell(cell, field, full.hidden(cell)) for cell in cells]
    filled = [cell for cell in filled if cell.known]
    return build_prompt(full.without(filled), filled, max_prefix_tokens=1 << 16, **given)


def drawn(prompt, rng, *, outermost=False):
    """Sample a fill at random, or at its extremes, where it is most likely to run out of room."""
    grammar, tokens = open_grammar(prompt.tables), []
    while not grammar.finished:
        allowed = np.flatnonzero(grammar.allowed())
        assert len(allowed), "no token is allowed"
        if grammar.forced is not None:
            assert allowed.tolist() == [grammar.forced]
        tokens.append(int(allowed[-1 if outermost else rng.integers(len(allowed))]))
        grammar.advance(tokens[-1])
    return tokens


def collides(score):
    """Return whether any two notes of a channel share a pitch and a time."""
    ends = {}
    for onset, duration, pitch, channel in sorted(
        (n.onset, n.duration, n.pitch, track.channel) for track in score.tracks for n in track.notes
    ):
        if onset < ends.get((channel, pitch), 0):
            return True
        ends[channel, pitch] = onset + duration
    return False


def filled(full, prompt, fill):
    notes = {t: list(full.without(prompt.cells).tracks[t].notes) for t in range(len(full.tracks))}
    for cell, made in zip(prompt.cells, fill, strict=True):
        notes[cell.track] += made
    return full.score.replace_notes(notes)


bar_notes = st.lists(
    st.builds(
        Note,
        onset=st.integers(0, 3 * BAR - 1),
        duration=st.sampled_from((1, 6, 12, 24, 48, 96, 192)),
        pitch=st.one_of(st.integers(60, 64), st.integers(30, 90)),
        velocity=st.sampled_from((14, 66, 126)),
    ),
    min_size=2,
    max_size=24,
)


@st.composite
def songs(draw):
    """Two tracks, on two channels or on one, without collisions on a channel."""
    shared = draw(st.booleans())
    tracks = [
        Track(notes=tuple(draw(bar_notes)), channel=0, program=0),
        Track(notes=tuple(draw(bar_notes)), channel=0 if shared else 1, program=5),
    ]
    score = quantize(Score(24, tuple(tracks), (), (TimeSignature(0, 4, 4),)))
    if shared:
        taken = list(score.tracks[0].notes)
        rest = [
            n
            for n in score.tracks[1].notes
            if not any(o.pitch == n.pitch and o.onset < n.end and n.onset < o.end for o in taken)
        ]
        score = score.replace_notes({1: rest})
    return EncodedScore(score)


@st.composite
def gaps(draw, full):
    bars = full.score.bars
    first = draw(st.integers(0, len(bars) - 1))
    last = draw(st.integers(first, len(bars) - 1))
    tracks = draw(st.sampled_from(([0], [1], [0, 1])))
    return [GridCell(track, bar.start, bar.end) for bar in bars[first : last + 1] for track in tracks]


@settings(max_examples=80, deadline=None)
@given(data=st.data(), field=st.sampled_from(NOTE_FIELDS), seed=st.integers(0, 2**31), outermost=st.booleans())
def test_every_sampled_fill_keeps_the_other_fields_and_never_collides(data, field, seed, outermost):
    full = data.draw(songs())
    cells = data.draw(gaps(full))
    if not any(full.hidden(cell) for cell in cells):
        return
    prompt = prompt_of(full, field, cells)
    fill = decode_fill(prompt, drawn(prompt, np.random.default_rng(seed), outermost=outermost))
    assert not collides(filled(full, prompt, fill))
    for cell, notes in zip(prompt.cells, fill, strict=True):
        before = full.hidden(GridCell(cell.track, cell.start, cell.end))
        assert [UNCHANGED[field](note) for note in notes] == [UNCHANGED[field](note) for note in before]
        assert all(cell.contains(note) for note in notes)
        if field == "rhythm":
            assert [n.onset for n in notes] == sorted(n.onset for n in notes)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), field=st.sampled_from(NOTE_FIELDS))
def test_the_target_is_always_allowed(data, field):
    full = data.draw(songs())
    track = data.draw(st.sampled_from((0, 1)))
    cells = [cell for cell in data.draw(gaps(full)) if cell.track == track and full.hidden(cell)]
    if not cells:
        return
    prompt = prompt_of(full, field, cells)
    target = [full.hidden(GridCell(cell.track, cell.start, cell.end)) for cell in prompt.cells]
    tokens, is_forced = encode_fill(prompt, target)
    check_fill(prompt.tables, tokens)
    assert decode_fill(prompt, tokens) == target
    grammar = open_grammar(prompt.tables)
    for token, forced in zip(tokens.tolist(), is_forced.tolist(), strict=True):
        assert (grammar.forced is not None) == forced
        grammar.advance(token)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    low=st.integers(40, 70),
    width=st.integers(5, 24),
    scale=st.sampled_from((None, (0, 2, 4, 5, 7, 9, 11), (0, 4, 7))),
    seed=st.integers(0, 2**31),
)
def test_pitches_keep_to_the_range_and_scale_or_the_prompt_is_refused(data, low, width, scale, seed):
    full = data.draw(songs())
    cells = data.draw(gaps(full))
    if not any(full.hidden(cell) for cell in cells):
        return
    constraints = Constraints(pitch_min=low, pitch_max=low + width, scale=scale)
    try:
        prompt = prompt_of(full, "pitch", cells, constraints=constraints)
    except ControlError:
        return
    for outermost in (False, True):
        fill = decode_fill(prompt, drawn(prompt, np.random.default_rng(seed), outermost=outermost))
        made = [note.pitch for notes in fill for note in notes]
        assert all(low <= pitch <= low + width and (scale is None or pitch % 12 in scale) for pitch in made)
        assert not collides(filled(full, prompt, fill))


def piece():
    full = EncodedScore(quantize(compose(0, bars=8)))
    return full, [GridCell(0, bar.start, bar.end) for bar in full.score.bars[2:4]]


def test_velocities_keep_to_their_range():
    full, cells = piece()
    prompt = prompt_of(full, "velocity", cells, constraints=Constraints(velocity_min=40, velocity_max=50))
    fill = decode_fill(prompt, drawn(prompt, np.random.default_rng(0)))
    assert {40 <= note.velocity <= 50 for notes in fill for note in notes} == {True}
    assert prompt.tables.velocity_allowed.sum() < VELOCITY_BINS


@pytest.mark.parametrize(
    ("field", "constraints"),
    [
        ("velocity", Constraints(pitch_min=40)),
        ("rhythm", Constraints(scale=(0, 2, 4))),
        ("pitch", Constraints(velocity_max=90)),
        ("pitch", Constraints(max_notes_per_bar=4)),
        ("duration", Constraints(max_polyphony=2)),
    ],
)
def test_a_constraint_that_would_be_ignored_is_refused(field, constraints):
    full, cells = piece()
    with pytest.raises(ControlError, match="leave it out"):
        prompt_of(full, field, cells, constraints=constraints)


def test_too_few_pitches_for_a_chord_are_refused():
    full = EncodedScore(quantize(Score(24, (Track(notes=tuple(Note(0, 96, 60 + i, 66) for i in range(4))),), (), ())))
    with pytest.raises(ControlError, match="sound together"):
        prompt_of(full, "pitch", [GridCell(0, 0, 96)], constraints=Constraints(pitch_min=60, pitch_max=62))


def test_cells_with_different_fields_are_refused():
    full, cells = piece()
    one, two = cells
    filled = [single_field_cell(one, "pitch", full.hidden(one)), single_field_cell(two, "velocity", full.hidden(two))]
    with pytest.raises(PromptError, match="one by one"):
        build_prompt(full.without(cells), filled, max_prefix_tokens=8192)


def test_a_token_other_than_the_forced_one_is_refused_and_changes_nothing():
    full, cells = piece()
    prompt = prompt_of(full, "duration", cells)
    grammar = open_grammar(prompt.tables)
    with pytest.raises(TokenError, match="is not allowed as token 1"):
        grammar.advance(VOCAB.id("END"))
    assert grammar.forced == prompt.headers[0][0]
