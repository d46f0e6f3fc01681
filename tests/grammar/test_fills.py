"""Properties of prompts and fills over many scores, cells, locks and constraints, checked independently."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from harmonixr_model.errors import ControlError, TokenError
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.fill_grammar import FillGrammar, check_fill
from harmonixr_model.music.region import NoteKey
from harmonixr_model.music.score import Note, Score, TimeSignature, Track
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, split_at_bars
from harmonixr_model.notes.grid import quantize
from harmonixr_model.notes.vocabulary import VOCAB, Block
from harmonixr_model.prompt.builder import build_layout, build_prompt
from harmonixr_model.prompt.coordinates import COORDINATE_SIZES, CoordinateState
from harmonixr_model.prompt.fill_tokens import decode_fill, encode_fill, target_notes
from harmonixr_model.prompt.layout import InfillPrompt

BLOCK_OF = {token: name for name, block in vars(VOCAB).items() if isinstance(block, Block) for token in block}

END = VOCAB.id("END")
slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@dataclass(frozen=True)
class Gap:
    """A score with cells to fill and notes locked."""

    full: EncodedScore
    cells: tuple[GridCell, ...]
    locks: frozenset[NoteKey]

    @property
    def context(self):
        return self.full.without(self.cells, self.locks)


@st.composite
def gaps(draw, *, shared_channels=False, one_cell_a_bar=False):
    rng = draw(st.randoms(use_true_random=False))
    length = rng.choice([200, 400, 700])
    low = rng.choice([0, 40, 58])
    tracks = []
    for index in range(rng.randint(1, 4)):
        notes = [
            Note(rng.randrange(length), rng.choice([3, 12, 24, 48, 200, 700]), rng.randint(low, 127 - low), 64)
            for _ in range(rng.choice([0, 3, 20, 60]))
        ]
        notes = [n._replace(velocity=rng.randint(1, 127)) for n in notes]
        channel = rng.choice([0, 9]) if shared_channels else 9 - index
        tracks.append(Track((), rng.randrange(128), channel == 9, "", channel).with_notes(notes))
    metres = tuple(
        TimeSignature(tick, *rng.choice([(4, 4), (3, 4), (7, 8), (2, 4)])) for tick in sorted({0, rng.randrange(300)})
    )
    score = quantize(Score(24, tuple(tracks), time_signatures=metres))
    bars = score.bars_until(max(score.end, length) + rng.choice([0, 300]))
    first = rng.randrange(len(bars))
    chosen = bars[first : first + rng.randint(1, 4)]
    cells = []
    for track in rng.sample(range(len(tracks)), rng.randint(1, len(tracks))):
        start, end = chosen[0].start, chosen[-1].end
        band = rng.choice([(0, 127), (0, 127), (low, 127 - low), (60, 67)])
        if rng.random() < 0.4 and end - start > 24:
            start, end = start + rng.randrange(12), end - rng.randrange(12)
        stretch = GridCell(track, start, end, *band)
        parts = split_at_bars(stretch, bars)
        if not one_cell_a_bar and rng.random() < 0.3:
            parts = [half for part in parts for half in halves(part)]
        if rng.random() < 0.2:
            parts = rng.sample(parts, max(1, len(parts) // 2))
        cells += parts
    full = EncodedScore(score)
    hidden = [NoteKey(c.track, n.onset, n.pitch) for c in cells for n in full.hidden(c)]
    locks = frozenset(key for key in hidden if rng.random() < 0.2)
    return Gap(full, tuple(cells), locks)


def halves(cell):
    middle = (cell.start + cell.end) // 2
    return [replace(cell, end=middle), replace(cell, start=middle)] if cell.start < middle - 1 else [cell]


limits_given = st.builds(
    Constraints,
    pitch_min=st.sampled_from([0, 0, 50, 60]),
    pitch_max=st.sampled_from([64, 72, 127, 127]),
    scale=st.sampled_from([None, None, (0, 2, 4, 5, 7, 9, 11), (0,)]),
    max_polyphony=st.sampled_from([None, None, 1, 2, 4]),
    min_notes_per_bar=st.sampled_from([None, None, 1, 4, 9]),
    max_notes_per_bar=st.sampled_from([None, 9, 20]),
    velocity_min=st.sampled_from([1, 30, 64]),
    velocity_max=st.sampled_from([64, 65, 127]),
)
policys = st.sampled_from(["uniform", "kinds", "lowest", "highest"])


def walk(prompt: InfillPrompt, policy: str, seed: int) -> list[int]:
    """Sample a fill from the grammar alone; the mask must never be empty."""
    rng = np.random.default_rng(seed)
    grammar, fill = FillGrammar(prompt.tables), []
    while not grammar.finished:
        options = np.flatnonzero(grammar.allowed())
        assert len(options), f"no token is allowed after {[VOCAB.name(t) for t in fill[-8:]]}"
        if policy == "kinds":
            kinds = {BLOCK_OF[int(t)] for t in options}
            kind = rng.choice(sorted(kinds))
            options = [t for t in options if BLOCK_OF[int(t)] == kind]
        token = {"lowest": min, "highest": max}.get(policy, rng.choice)(options)
        grammar.advance(int(token))
        fill.append(int(token))
    return fill


def overlap(one: Note, two: Note) -> bool:
    return one.onset < two.end and two.onset < one.end


def check_constraints(gap: Gap, prompt: InfillPrompt, constraints: Constraints, fills: list[tuple[Note, ...]]) -> None:
    """Check by brute force, from notes alone, that a fill keeps every constraint but the minimum."""
    tracks = gap.context.tracks
    new = [(cell, note) for cell, notes in zip(prompt.cells, fills, strict=True) for note in notes]
    for cell, note in new:
        assert cell.contains(note)
        assert constraints.velocity_min <= note.velocity <= constraints.velocity_max
        if not tracks[cell.track].is_drum:
            assert constraints.pitch_min <= note.pitch <= constraints.pitch_max
            assert constraints.scale is None or note.pitch % 12 in constraints.scale
    for notes in fills:
        assert list(notes) == sorted(set(notes), key=lambda n: (n.onset, n.pitch))
    for (one_cell, one), (two_cell, two) in combinations(new, 2):
        same = tracks[one_cell.track].channel == tracks[two_cell.track].channel and one.pitch == two.pitch
        assert not (same and overlap(one, two))
    for cell, note in new:
        others = [n for t in tracks if t.channel == tracks[cell.track].channel for n in t.notes]
        assert not any(n.pitch == note.pitch and overlap(n, note) for n in others)
    for index in {cell.track for cell, _ in new}:
        mine = [note for cell, note in new if cell.track == index]
        everything = [*mine, *tracks[index].notes]
        for note in mine if constraints.max_polyphony else ():
            for step in range(note.onset, note.end):
                assert sum(n.onset <= step < n.end for n in everything) <= constraints.max_polyphony
    counts = notes_per_bar(gap, prompt, fills)
    for key, (added, locked) in counts.items():
        assert not added or constraints.max_notes_per_bar is None or added + locked <= constraints.max_notes_per_bar, (
            key
        )


def notes_per_bar(gap: Gap, prompt: InfillPrompt, fills) -> dict[tuple[int, int], tuple[int, int]]:
    """Return for each (track, bar start) that has a cell the notes added and the notes locked."""
    bars = gap.context.score.bars_until(max(gap.context.end, *(c.end for c in gap.cells), 1))
    added: Counter[tuple[int, int]] = Counter()
    for cell, notes in zip(prompt.cells, fills, strict=True):
        bar = next(b for b in bars if b.start <= cell.start < b.end)
        added[cell.track, bar.start] += len(notes)
    ends = {bar.start: bar.end for bar in bars}
    return {
        (track, start): (count, sum(start <= n.onset < ends[start] for n in gap.context.tracks[track].notes))
        for (track, start), count in added.items()
    }


def prompt_or_reject(gap: Gap, constraints: Constraints, **given) -> InfillPrompt:
    """Return the prompt; other tests cover constraints that cannot be kept."""
    try:
        return build_prompt(gap.context, gap.cells, max_prefix_tokens=3000, constraints=constraints, **given)
    except ControlError:
        assume(False)
        raise


@given(gaps(shared_channels=True) | gaps(), limits_given, policys, st.integers(0, 2**32))
@settings(slow, max_examples=80)
def test_every_sampled_fill_is_valid_by_construction(gap, constraints, policy, seed):
    prompt = prompt_or_reject(gap, constraints, max_fill_tokens=1200)
    fill = walk(prompt, policy, seed)
    assert len(fill) <= 1200
    check_fill(prompt.tables, fill)
    check_constraints(gap, prompt, constraints, decode_fill(prompt, fill))


@given(gaps(one_cell_a_bar=True), limits_given, policys, st.integers(0, 2**32))
@settings(slow, max_examples=60)
def test_every_bar_has_the_required_least_notes(gap, constraints, policy, seed):
    constraints = replace(constraints, min_notes_per_bar=constraints.min_notes_per_bar or 3)
    prompt = prompt_or_reject(gap, constraints)
    fills = decode_fill(prompt, walk(prompt, policy if policy != "uniform" else "kinds", seed))
    for key, (added, locked) in notes_per_bar(gap, prompt, fills).items():
        assert added + locked >= constraints.min_notes_per_bar, key


@given(gaps(), st.integers(0, 60), policys, st.integers(0, 2**32))
@settings(slow, max_examples=60)
def test_a_fill_closes_within_its_token_budget(gap, spare, policy, seed):
    layout = build_layout(gap.context, gap.cells, max_prefix_tokens=3000)
    least = sum(len(header) + 1 for header in layout.headers) + 1
    prompt = build_prompt(gap.context, gap.cells, max_prefix_tokens=3000, max_fill_tokens=least + spare)
    assert len(walk(prompt, policy, seed)) <= least + spare


@given(gaps())
@settings(slow, max_examples=80)
def test_the_target_keeps_the_grammar_and_round_trips(gap):
    prompt = build_prompt(gap.context, gap.cells, max_prefix_tokens=3000)
    notes = target_notes(prompt, gap.full, gap.locks)
    tokens, is_forced = encode_fill(prompt, notes)
    check_fill(prompt.tables, tokens)
    assert decode_fill(prompt, tokens) == notes
    assert [t for t, forced in zip(tokens, is_forced, strict=True) if forced] == [*sum(prompt.headers, ()), tokens[-1]]


@given(gaps(), st.integers(0, 2**32))
@settings(slow, max_examples=60)
def test_changing_a_token_to_one_not_allowed_is_found(gap, seed):
    prompt = build_prompt(gap.context, gap.cells, max_prefix_tokens=3000)
    tokens, _ = encode_fill(prompt, target_notes(prompt, gap.full, gap.locks))
    rng = np.random.default_rng(seed)
    at = int(rng.integers(len(tokens)))
    grammar = FillGrammar(prompt.tables)
    for token in tokens[:at]:
        grammar.advance(int(token))
    tokens[at] = rng.choice(np.flatnonzero(~grammar.allowed()))
    with pytest.raises(TokenError):
        check_fill(prompt.tables, tokens)
    with pytest.raises(TokenError):
        check_fill(prompt.tables, tokens[:at])


@given(gaps(shared_channels=True), st.integers(60, 3000))
@settings(slow, max_examples=60)
def test_coordinates_of_a_whole_example_equal_those_of_step_by_step_decoding(gap, window):
    try:
        layout = build_layout(gap.context, gap.cells, max_prefix_tokens=window)
    except ValueError:
        assume(False)
    tokens, _ = encode_fill(layout, target_notes(layout, gap.full, gap.locks))
    state = CoordinateState(layout.gap_bar, layout.cell_steps)
    one_by_one = [state.advance(int(token)) for token in [*layout.prefix, *tokens]]
    batch = np.concatenate([layout.coordinates, layout.fill_coordinates(tokens)])
    assert batch.tolist() == [[*place, *controls] for *place, controls in one_by_one]
    assert (batch >= 0).all()
    assert (batch < COORDINATE_SIZES).all()


@given(gaps(), st.integers(60, 3000))
@settings(slow, max_examples=60)
def test_the_prefix_does_not_depend_on_the_target_and_fits(gap, window):
    """The cached path of training and the path from a context score that never had the target agree."""
    for cell in gap.cells:
        for bar in gap.full.score.bars:
            gap.full.run(cell.track, bar)
    try:
        cached = build_layout(gap.full.without(gap.cells, gap.locks), gap.cells, max_prefix_tokens=window)
    except ValueError:
        assume(False)
    fresh = build_layout(EncodedScore(gap.context.score), gap.cells[::-1], max_prefix_tokens=window)
    assert cached.prefix.tolist() == fresh.prefix.tolist()
    assert (cached.headers, cached.cells, cached.gap_bar) == (fresh.headers, fresh.cells, fresh.gap_bar)
    assert len(cached.prefix) <= window
    after_memory = cached.prefix[cached.prefix.tolist().index(VOCAB.id("BAR")) :]
    assert (after_memory == VOCAB.id("MASK")).sum() == len(gap.cells)
