"""The compiled grammar allows exactly what the Python one allows, and the compiled sampler equals PyTorch's."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harmonixr_model.engine.engine import Sampling
from harmonixr_model.engine.native.sampler import NativeGrammar, NativeSampler
from harmonixr_model.engine.row import Row
from harmonixr_model.engine.sampler import TorchSampler
from harmonixr_model.errors import ControlError, PromptError
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.fill_grammar import FillGrammar
from harmonixr_model.infill.copy_gate import FEATURES, CopyGate
from harmonixr_model.music.score import Note, Score, TimeSignature, Track
from harmonixr_model.notes.encoded_score import GridCell, split_at_bars
from harmonixr_model.notes.grid import quantize
from harmonixr_model.notes.vocabulary import VOCAB, Block
from harmonixr_model.prompt.builder import build_prompt
from harmonixr_model.prompt.copy_pointer import KINDS

BLOCK_OF = {token: name for name, block in vars(VOCAB).items() if isinstance(block, Block) for token in block}

torch.set_num_threads(1)


def random_rules(rng: random.Random):
    """A gap in random music: shared channels, odd metres, parts of bars, bands, limits."""
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
        limits = Constraints(
            scale=rng.choice([None, None, (0, 4, 7)]),
            max_polyphony=rng.choice([None, 1, 3]),
            min_notes_per_bar=rng.choice([None, 2, 6]),
            max_notes_per_bar=rng.choice([None, 7]),
            velocity_min=rng.choice([1, 50]),
            velocity_max=rng.choice([60, 127]),
        )
        try:
            prompt = build_prompt(score, cells, max_prefix_tokens=4000, constraints=limits)
        except (ControlError, PromptError):
            continue  # the limits leave no room in this music, or nothing is left of the gap
        least = sum(len(header) + 1 for header in prompt.headers) + 1
        return replace(
            prompt.tables,
            min_polyphony=rng.choice([0, 2, 3]),
            max_tokens=least + rng.choice([0, 9, 30, 31, 32, 33, 34, 35, 200]),
        )


def halves(cell):
    middle = (cell.start + cell.end) // 2
    return [replace(cell, end=middle), replace(cell, start=middle)] if cell.start < middle else [cell]


def draw_token(rng: random.Random, allowed) -> int:
    options = np.flatnonzero(allowed)
    kind = rng.choice(sorted({BLOCK_OF[int(token)] for token in options}))
    return int(rng.choice([token for token in options if BLOCK_OF[int(token)] == kind]))


def take(grammar: FillGrammar, token: int | None = None) -> None:
    """Advance by a token and all that is forced."""
    if token is not None:
        grammar.advance(token)
    while (forced := grammar.forced) is not None:
        grammar.advance(forced)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_masks_agree_with_the_scalar_grammar_at_every_token(library, seed):
    rng = random.Random(seed)
    rules = random_rules(rng)
    grammar, native = FillGrammar(rules), NativeGrammar(library, rules)
    take(grammar)
    while not grammar.finished:
        expected, allowed = grammar.allowed(), native.allowed()
        differing = [VOCAB.name(int(token)) for token in np.flatnonzero(allowed != expected)]
        assert not differing
        assert not native.finished
        token = draw_token(rng, expected)
        take(grammar, token)
        native.advance(token)
    assert native.finished


def test_rows_share_no_tables(library):
    rules = random_rules(random.Random(1))
    before = rules.max_duration.copy()
    grammar, one, other = FillGrammar(rules), NativeGrammar(library, rules), NativeGrammar(library, rules)
    take(grammar)
    rng = random.Random(0)
    while not grammar.finished:
        token = draw_token(rng, grammar.allowed())
        take(grammar, token)
        one.advance(token)
    fresh = FillGrammar(rules)
    take(fresh)
    assert np.array_equal(other.allowed(), fresh.allowed())
    assert np.array_equal(rules.max_duration, before)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(top_p=1.0),
        Sampling(temperature=0),
        Sampling(temperature=2.5, top_p=0.9),
        Sampling(top_k=3, top_p=1.0),
        Sampling(temperature=0.7, top_k=20, top_p=0.5),
        Sampling(top_p=1e-6),
    ],
)
@pytest.mark.parametrize("spread", [0.3, 1.0, 8.0])
def test_both_samplers_sample_the_same_tokens(library, prompt_of, sampling, spread):
    prompts = [prompt_of(), prompt_of(bars=(9, 9), tracks=(2, 3)), prompt_of(limits=Constraints(min_notes_per_bar=3))]
    samplers = [TorchSampler(), NativeSampler(library)]
    rows = [Row(prompt, 10 + number, sampling) for number, prompt in enumerate(prompts)]
    for sampler in samplers:
        for row in rows:
            sampler.join(row)
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):  # no fill ends so early
        logits = torch.randn(3, VOCAB.size, generator=generator) * spread
        plain, native = (sampler.sample(logits, rows) for sampler in samplers)
        assert [token for token, _ in plain] == [token for token, _ in native]
        assert [value for _, value in native] == pytest.approx([value for _, value in plain], abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("copy_strength", [1.0, 0.6])
def test_both_samplers_use_copy_pointers_alike(library, prompt_of, seed, copy_strength):
    prompts = [prompt_of(), prompt_of(bars=(9, 11), tracks=(2, 3)), prompt_of(bars=(12, 13), tracks=(1,))]
    assert all(prompt.copy_sources for prompt in prompts)
    generator = torch.Generator().manual_seed(seed)
    gate = CopyGate(torch.randn(len(KINDS), len(FEATURES), generator=generator))
    samplers = [TorchSampler(gate=gate), NativeSampler(library, gate=gate)]
    sampling = Sampling(top_p=1.0, copy_strength=copy_strength)
    rows = [Row(prompt, 10 + number, sampling) for number, prompt in enumerate(prompts)]
    for sampler in samplers:
        for row in rows:
            sampler.join(row)
    steps = 0
    for _ in range(60):
        logits = torch.randn(3, VOCAB.size, generator=generator)
        # END often enough that the second cells are reached.
        logits[:, VOCAB.id("END")] += 2
        said = [sampler.sample(logits.clone(), rows) for sampler in samplers]
        assert [token for token, _ in said[0]] == [token for token, _ in said[1]]
        assert [value for _, value in said[1]] == pytest.approx([value for _, value in said[0]], abs=1e-4)
        steps += 1
        if any(state.grammar.finished for state in samplers[0]._states.values()):
            break
    assert steps >= 8
