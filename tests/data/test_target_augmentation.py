"""Augmented targets: varied in the named controls only, with nothing else changed, and still valid fills."""

import numpy as np
import pytest

from harmonixr_model.data.masking import Mask
from harmonixr_model.data.target_augmentation import augment_target
from harmonixr_model.music.compose import compose
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.field_tokens import single_field_cell
from harmonixr_model.notes.grid import quantize
from harmonixr_model.prompt.builder import build_prompt
from harmonixr_model.prompt.control_values import measure_density, measure_polyphony, measure_velocity
from harmonixr_model.prompt.fill_tokens import decode_fill, encode_fill, target_notes


@pytest.fixture(scope="module")
def full():
    return EncodedScore(quantize(compose(2, bars=16)))


def mask_of(full, *tracks, locks=frozenset()):
    bars = full.score.bars[4:7]
    return Mask(tuple(GridCell(track, bar.start, bar.end) for bar in bars for track in tracks), locks, None)


def drawn(full, mask, names, count=40):
    return [augment_target(full, mask, names, np.random.default_rng(seed)) for seed in range(count)]


def kept(score, mask):
    return [
        [note for note in track.notes if not any(c.track == i and c.contains(note) for c in mask.cells)]
        for i, track in enumerate(score.tracks)
    ]


def places(notes):
    return sorted((note.onset, note.pitch, note.duration) for note in notes)


@pytest.mark.parametrize(
    ("names", "measure", "spread"),
    [("velocity", measure_velocity, 20), ("density", measure_density, 0.5), ("polyphony", measure_polyphony, 0.5)],
)
def test_the_named_control_varies_and_half_of_the_targets_stay(full, names, measure, spread):
    mask = mask_of(full, 1)
    others = drawn(full, mask, {names})
    assert 10 < sum(other is full for other in others) < 30
    values = [measure(other.hidden(mask.cells[0]), mask.cells[0]) for other in others]
    known = [v for v in values if v is not None]
    assert max(known) - min(known) > spread


def test_only_hidden_notes_change_and_locked_ones_stay(full):
    first = full.hidden(mask_of(full, 0).cells[0])[0]
    mask = mask_of(full, 0, 1, locks=frozenset({(0, first.onset, first.pitch)}))
    for other in drawn(full, mask, {"velocity", "density", "polyphony"}):
        assert kept(other, mask) == kept(full, mask)
        assert first in other.tracks[0].notes


def test_no_two_notes_of_a_pitch_overlap_and_the_target_can_be_encoded(full):
    mask = mask_of(full, 0, 1, 2)
    for other in drawn(full, mask, {"velocity", "density", "polyphony"}):
        for track in other.tracks:
            ends = {}
            for note in track.notes:
                assert note.duration > 0
                assert note.onset >= ends.get(note.pitch, 0)
                ends[note.pitch] = note.end
        prompt = build_prompt(other.without(mask.cells), mask.cells, max_prefix_tokens=4096)
        notes = target_notes(prompt, other)
        fills = decode_fill(prompt, encode_fill(prompt, notes)[0])
        assert [places(fill) for fill in fills] == [places(hidden) for hidden in notes]


def test_without_controls_or_in_single_fields_the_song_stays(full):
    mask = mask_of(full, 0)
    assert all(other is full for other in drawn(full, mask, {"key", "style", "chords"}))
    cells = tuple(single_field_cell(cell, "velocity", full.hidden(cell)) for cell in mask.cells)
    assert all(other is full for other in drawn(full, Mask(cells, frozenset(), None), {"velocity"}))


def test_added_voices_are_below_and_belong_to_the_harmony(full):
    mask = mask_of(full, 0)
    added = 0
    for other in drawn(full, mask, {"polyphony"}):
        for cell in mask.cells:
            for note in set(other.hidden(cell)) - set(full.hidden(cell)):
                above = [n for n in other.hidden(cell) if n.onset == note.onset and n.pitch > note.pitch]
                if any(n.onset == note.onset and n.pitch == note.pitch for n in full.hidden(cell)):
                    continue  # a note that was cut where the next begins
                pitched = [n for track in full.tracks if not track.is_drum for n in track.notes]
                heard = {n.pitch % 12 for n in pitched if n.onset <= note.onset < n.end}
                assert above
                assert note.pitch % 12 in heard
                added += 1
    assert added > 20
