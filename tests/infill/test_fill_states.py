"""The tensor grammar says exactly what the scalar one says, token by token, in every row of a mixed batch."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harmonixr_model.errors import ControlError
from harmonixr_model.infill.fill_states import FillStates
from harmonixr_model.music.score import Note, Score, TimeSignature, Track
from harmonixr_model.tokens.encoded import GridCell, split_at_bars
from harmonixr_model.tokens.grammar import FillGrammar
from harmonixr_model.tokens.grid import quantize
from harmonixr_model.tokens.infill import build_prompt
from harmonixr_model.tokens.rules import HardLimits
from harmonixr_model.tokens.vocab import VOCAB

torch.set_num_threads(1)


def random_rules(rng: random.Random):
    """A gap in random music: shared channels, held notes, odd metres, parts of bars, bands and limits."""
    while True:
        tracks = []
        for index in range(rng.randint(1, 3)):
            notes = [
                Note(rng.randrange(500), rng.choice([3, 24, 200, 700]), rng.randint(50, 75), rng.randint(1, 127))
                for _ in range(rng.choice([0, 10, 50]))
            ]
            tracks.append(Track((), index, False, "", rng.choice([0, index])).with_notes(notes))
        metres = tuple(TimeSignature(t, *rng.choice([(4, 4), (7, 8), (2, 4)])) for t in sorted({0, rng.randrange(300)}))
        score = quantize(Score(24, tuple(tracks), time_signatures=metres))
        bars = score.bars_until(600)
        chosen = bars[(first := rng.randrange(3)) : first + rng.randint(1, 3)]
        cells = []
        for track in range(len(tracks)):
            start, end = chosen[0].start + rng.choice([0, 0, 7]), chosen[-1].end - rng.choice([0, 0, 5])
            parts = split_at_bars(GridCell(track, start, end, *rng.choice([(0, 127), (58, 66)])), bars)
            # Two cells of one bar and track share its count of notes.
            cells += [half for part in parts for half in halves(part)] if rng.random() < 0.4 else parts
        limits = HardLimits(
            scale=rng.choice([None, None, (0, 4, 7)]),
            max_polyphony=rng.choice([None, 1, 3]),
            min_notes_per_bar=rng.choice([None, 2, 6]),
            max_notes_per_bar=rng.choice([None, 7]),
            velocity_min=rng.choice([1, 50]),
            velocity_max=rng.choice([60, 127]),
        )
        try:
            prompt = build_prompt(score, cells, max_prefix_tokens=4000, limits=limits)
        except ControlError:
            continue  # the limits leave no room in this music
        least = sum(len(header) + 1 for header in prompt.headers) + 1
        return replace(prompt.rules, max_tokens=least + rng.choice([0, 9, 30, 31, 32, 33, 34, 35, 200]))


def halves(cell):
    middle = (cell.start + cell.end) // 2
    return [replace(cell, end=middle), replace(cell, start=middle)] if cell.start < middle else [cell]


def draw_token(rng: random.Random, allowed) -> int:
    options = np.flatnonzero(allowed)
    kind = rng.choice(sorted({VOCAB.block_of(int(token)) for token in options}))
    return int(rng.choice([token for token in options if VOCAB.block_of(int(token)) == kind]))


def take(grammar: FillGrammar, token: int | None = None) -> None:
    """Advance by a token and all that is forced."""
    if token is not None:
        grammar.advance(token)
    while (forced := grammar.forced) is not None:
        grammar.advance(forced)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_masks_agree_with_the_scalar_grammar_at_every_token(seed):
    rng = random.Random(seed)
    distinct = [random_rules(rng) for _ in range(2)]
    rules = [distinct[i % 2] for i in range(5)]
    grammars = [FillGrammar(rule) for rule in rules]
    for grammar in grammars:
        take(grammar)
    states = FillStates(rules)
    for _ in range(900):
        mask = states.mask().numpy()
        for row, grammar in zip(mask, grammars, strict=True):
            expected = grammar.allowed()
            differing = [VOCAB.name(int(token)) for token in np.flatnonzero(row != expected)]
            assert not differing
        assert states.done.tolist() == [grammar.finished for grammar in grammars]
        if all(grammar.finished for grammar in grammars):
            return
        tokens = [0 if g.finished else draw_token(rng, row) for g, row in zip(grammars, mask, strict=True)]
        states.advance(torch.tensor(tokens))
        for grammar, token in zip(grammars, tokens, strict=True):
            if not grammar.finished:
                take(grammar, token)
    pytest.fail("no fill takes so many tokens")


def test_a_moved_row_goes_on_where_it_stood():
    rng = random.Random(3)
    rules = [random_rules(rng) for _ in range(3)]
    grammars = [FillGrammar(rule) for rule in rules]
    states = FillStates(rules)
    for grammar in grammars:
        take(grammar)
    for step in range(60):
        if step == 10:
            states.move(2, 0)
            states.rows = 2
            grammars = [grammars[2], grammars[1]]
        mask = states.mask().numpy()
        for row, grammar in zip(mask, grammars, strict=True):
            assert np.array_equal(row, grammar.allowed())
        tokens = [0 if g.finished else draw_token(rng, row) for g, row in zip(grammars, mask, strict=True)]
        states.advance(torch.tensor(tokens))
        for grammar, token in zip(grammars, tokens, strict=True):
            if not grammar.finished:
                take(grammar, token)


def test_rows_share_no_tables():
    rules = [random_rules(random.Random(1))] * 2
    states, before = FillStates(rules), rules[0].max_duration.copy()
    grammar = FillGrammar(rules[0])
    take(grammar)
    rng = random.Random(0)
    for _ in range(20):
        if grammar.finished:
            break
        token = draw_token(rng, grammar.allowed())
        other = int(np.flatnonzero(states.mask()[1].numpy())[0])
        states.advance(torch.tensor([token, other]))
        take(grammar, token)
        assert np.array_equal(states.mask()[0].numpy(), grammar.allowed())
    assert np.array_equal(rules[0].max_duration, before)
