"""Phrases are found at repeats, and at breaks in music without repeats."""

import numpy as np

from harmonixr_model.data.masking import FIELD_CHANCE, Scene, sample_mask
from harmonixr_model.data.phrases import LONGEST, SHORTEST, phrases, similarity
from harmonixr_model.music.compose import compose
from harmonixr_model.music.score import Note, Score, TimeSignature, Track
from harmonixr_model.notes.encoded_score import EncodedScore
from harmonixr_model.notes.field_tokens import NOTE_FIELDS
from harmonixr_model.notes.grid import quantize

BAR = 96


def song(bars):
    """Return a piece of one track whose bars play the given pitches in quarters."""
    notes = [
        Note(BAR * i + 24 * beat, 24, pitch, 66) for i, pitches in enumerate(bars) for beat, pitch in enumerate(pitches)
    ]
    score = Score(24, (Track(notes=tuple(notes)),), (), (TimeSignature(0, 4, 4),))
    encoded = EncodedScore(quantize(score))
    return encoded, encoded.score.bars


VERSE = [(60, 62, 64, 65), (67, 65, 64, 62), (60, 64, 67, 72)]
BRIDGE = [(40, 41, 42, 43), (44, 45, 46, 47)]


def test_a_repeated_verse_is_a_phrase_and_so_is_the_part_between():
    encoded, bars = song(VERSE + BRIDGE + VERSE)
    found = phrases(encoded, bars)
    assert {(0, 3), (3, 2), (5, 3)} <= set(found)
    assert not any(first in (1, 2, 4) for first, _ in found)


def test_equal_bars_have_similarity_one_and_different_ones_zero():
    encoded, bars = song(VERSE + BRIDGE + VERSE)
    alike = similarity(encoded, bars)
    assert np.allclose(np.diag(alike), 1)
    assert alike[0, 5] == 1
    assert alike[0, 3] == 0


def test_a_phrase_has_a_valid_length_in_any_window():
    encoded = EncodedScore(quantize(compose(3, bars=24)))
    for first in range(0, 16, 5):
        bars = encoded.score.bars[first : first + 9]
        assert all(
            SHORTEST <= count <= LONGEST and begin + count <= len(bars) for begin, count in phrases(encoded, bars)
        )
    assert phrases(encoded, encoded.score.bars[:1]) == []


def test_an_eighth_of_the_masks_fill_one_field_and_each_field_occurs():
    scene = Scene(encoded := EncodedScore(quantize(compose(1, bars=12))), encoded.score.bars)
    rng = np.random.default_rng(0)
    masks = [{cell.field for cell in sample_mask(scene, rng).cells} for _ in range(600)]
    assert all(len(fields) <= 1 for fields in masks)
    single = [field for fields in masks for field in fields if field]
    assert set(single) == set(NOTE_FIELDS)
    assert 0.6 * FIELD_CHANCE < len(single) / len(masks) < 1.4 * FIELD_CHANCE


def test_locked_notes_are_not_filled():
    scene = Scene(encoded := EncodedScore(quantize(compose(1, bars=12))), encoded.score.bars)
    rng = np.random.default_rng(1)
    seen = 0
    while seen < 3:
        mask = sample_mask(scene, rng)
        if mask.locks and mask.cells and mask.cells[0].field:
            seen += 1
            for cell in mask.cells:
                assert len(cell.known) == len(encoded.hidden(cell, mask.locks))
