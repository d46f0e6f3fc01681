"""Similar passages: found by the surroundings of the gap, aligned with it, and independent of the target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harmonixr_model.music.compose import compose
from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.grid import quantize
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.builder import build_layout
from harmonixr_model.prompt.coordinates import PASSAGE_BARS, REF_SHIFT, coordinates_of_tokens
from harmonixr_model.prompt.gap import open_gap
from harmonixr_model.prompt.similar_passages import MASK, REF, Passage, passage_tokens, similar_passages

VERSE, CHORUS, BRIDGE = (60, 62, 64, 65), (67, 69, 71, 72), (48, 50, 53, 55)


def song(*sections, bass=True):
    """Four bars of four quarters a section; the bass plays each bar's first note two octaves lower."""
    melody, low = [], []
    for number, section in enumerate(sections):
        for bar, root in enumerate(section):
            start = 96 * (4 * number + bar)
            melody += [Note(start + 24 * beat, 24, root + beat, 82) for beat in range(4)]
            low.append(Note(start, 96, root - 24, 82))
    tracks = (Track(tuple(melody), program=0), Track(tuple(low), program=33))
    return EncodedScore(Score(24, tracks if bass else tracks[:1]))


def gap(first, count=4, *, tracks=(0,)):
    return tuple(GridCell(t, 96 * b, 96 * (b + 1)) for b in range(first, first + count) for t in tracks)


def passages(full, cells, **given):
    return similar_passages(open_gap(full.without(cells), cells), **given)


def test_the_repeat_of_a_section_is_found_by_its_accompaniment_and_its_neighbours():
    full = song(VERSE, CHORUS, BRIDGE, VERSE, CHORUS)
    for first, offset in ((4, 12), (16, -12), (5, 12)):
        found = passages(full, gap(first, 3))
        assert found[0].offset == offset
        assert found[0].similarity > 0.7
        assert [p.similarity for p in found] == sorted((p.similarity for p in found), reverse=True)


def test_the_choice_does_not_depend_on_what_is_hidden():
    full, cells = song(VERSE, CHORUS, BRIDGE, VERSE, CHORUS), gap(4)
    melody = full.tracks[0]
    other = tuple(n._replace(pitch=n.pitch + 5) if 384 <= n.onset < 768 else n for n in melody.notes)
    changed = EncodedScore(replace(full.score, tracks=(replace(melody, notes=other), full.tracks[1])))
    assert changed.score != full.score
    assert passages(full, cells) == passages(changed, cells)


def test_a_passage_has_the_bar_numbers_and_slots_of_the_gap():
    full, cells = song(VERSE, CHORUS, VERSE), gap(8, 2)
    hidden = open_gap(full.without(cells), cells)
    tokens = passage_tokens(hidden, Passage(-8, 0.9), slots=(0, 1), room=100)
    assert tokens[:2] == [REF, VOCAB.match[7]]
    assert [t for t in tokens if t in VOCAB.bar_index] == [VOCAB.bar_index[0], VOCAB.bar_index[1]]
    pitches = [VOCAB.pitch.index(t) for t in tokens if t in VOCAB.pitch]
    assert pitches == [n.pitch for n in full.notes(0, 0, 192)]
    coordinates = coordinates_of_tokens([VOCAB.id("BOS"), *tokens, VOCAB.id("BAR")], gap_bar=0)
    bar_values = coordinates[1:-1, 0]
    best = REF_SHIFT + 7 * PASSAGE_BARS
    assert set(bar_values.tolist()) == {0, best, best + 1}
    worse = passage_tokens(hidden, Passage(-8, 0.3), slots=(0, 1), room=100)
    two = coordinates_of_tokens([*tokens, *worse], gap_bar=0)[len(tokens) :, 0]
    assert (two[2:] == bar_values[2:] - 5 * PASSAGE_BARS).all()


def test_bars_of_a_passage_are_included_while_they_fit():
    full, cells = song(VERSE, CHORUS, VERSE), gap(8, 4)
    hidden = open_gap(full.without(cells), cells)
    whole = passage_tokens(hidden, Passage(-8, 0.9), slots=(0, 1), room=1000)
    for room in range(len(whole) + 1):
        part = passage_tokens(hidden, Passage(-8, 0.9), slots=(0, 1), room=room)
        assert len(part) <= room
        assert part == whole[: len(part)]
        assert len(part) != 2  # REF and MATCH are not emitted alone
    assert part == whole


def test_places_that_are_hidden_too_are_masked_or_left_out():
    full = song(VERSE, VERSE, CHORUS, VERSE)
    both = (*gap(0), *gap(4))
    assert all(p.offset not in (-4, 4) or p.similarity < 0.5 for p in passages(full, both))
    cells = gap(4, 4)
    hidden = open_gap(full.without(cells), cells)
    tokens = passage_tokens(hidden, Passage(2, 0.5), slots=(0, 1), room=1000)
    assert tokens.count(MASK) == 2  # bars 7 and 8 are hidden themselves, 9 and 10 are not


def test_bars_of_another_length_and_silence_are_not_passages():
    full = song(VERSE, CHORUS, bass=False)
    silent = EncodedScore(replace(full.score, tracks=(*full.tracks, Track((Note(400, 24, 40, 80),)))))
    assert all(p.offset + 5 == 4 for p in passages(silent, gap(5, 1, tracks=(1,))))
    assert passages(full, gap(0, 8)) == []


@pytest.mark.parametrize("seed", range(6))
def test_passages_leave_room_for_the_bars_around_the_gap(seed):
    full = EncodedScore(quantize(compose(seed, bars=40)))
    bars = full.score.bars
    cells = tuple(GridCell(0, bar.start, bar.end) for bar in bars[20:24])
    context = full.without(cells)
    with_memory = build_layout(context, cells, max_prefix_tokens=900)
    without = build_layout(context, cells, max_prefix_tokens=900, passages=0)
    assert len(with_memory.prefix) <= 900
    assert (with_memory.prefix == REF).sum() in (1, 2)
    assert not (without.prefix == REF).any()
    assert (with_memory.prefix == VOCAB.id("BAR")).sum() > len(cells)
    assert np.array_equal(with_memory.headers, without.headers)
