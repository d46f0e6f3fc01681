"""The countdown to density and polyphony: note by note, and the same batched and step by step."""

import numpy as np
import pytest

from harmonixr_model.data.controls import with_controls
from harmonixr_model.data.masking import Mask
from harmonixr_model.music.compose import compose
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.grid import quantize
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.builder import build_layout
from harmonixr_model.prompt.coordinates import CONTROL_BLOCKS, COORDINATE_SIZES, CoordinateState
from harmonixr_model.prompt.countdown import HALF_VOICES_LACKING, NO_COUNTDOWN, NOTES_LEFT, Countdown
from harmonixr_model.prompt.fill_tokens import encode_fill, target_notes


def followed(names, steps=(96, 96)):
    """Return (notes left, half voices lacking) after each token, None without a control."""
    countdown, found = Countdown(steps), []
    for name in names:
        countdown.advance(VOCAB.id(name))
        left, lacking = countdown.values
        found.append((NOTES_LEFT[left - 1] if left else None, HALF_VOICES_LACKING[lacking - 1] if lacking else None))
    return found


def test_notes_are_counted_down_and_reset_with_their_cell():
    # DENSITY_2: two notes in four quarters.
    head, note = ["FILL", "BARIDX_0", "TRACK_0", "DENSITY_2"], ["PITCH_60", "DUR_12", "VEL_10"]
    left = [left for left, _ in followed([*head, "POS_0", *note, "POS_24", *note, "PITCH_64", "END", "FILL", "POS_0"])]
    assert left[:5] == [None, None, None, 2, 2]
    assert left[5:9] == [1, 1, 1, 1]
    assert left[9:] == [0, 0, 0, -1, -1, None, None]


def test_half_a_cell_needs_half_the_notes():
    head = ["FILL", "BARIDX_0", "TRACK_0", "DENSITY_4"]
    assert followed(head)[-1][0] == 4
    assert followed(head, steps=(48,))[-1][0] == 2


def test_voices_are_lacking_until_enough_sound_and_again_when_they_end():
    head = ["FILL", "BARIDX_0", "TRACK_0", "POLYPHONY_2"]  # two notes at once
    tokens = ["POS_0", "PITCH_60", "DUR_24", "PITCH_64", "DUR_12", "POS_12", "PITCH_67", "DUR_4", "POS_24"]
    assert [lacking for _, lacking in followed([*head, *tokens])][3:] == [4, 4, 2, 2, 0, 0, 2, 0, 0, 4]


def test_notes_held_into_a_cell_do_not_count():
    head = ["FILL", "BARIDX_0", "TRACK_0", "DENSITY_2", "POLYPHONY_0", "HOLD", "PITCH_48", "DUR_48"]
    assert followed(head)[-1] == (2, 2)
    assert followed([*head, "POS_0", "PITCH_60"])[-1] == (1, 0)


@pytest.mark.parametrize("seed", range(4))
def test_the_target_of_a_gap_ends_at_its_controls(seed):
    full = EncodedScore(quantize(compose(seed, bars=12)))
    cells = tuple(GridCell(track, b.start, b.end) for b in full.score.bars[4:7] for track in range(len(full.tracks)))
    mask = with_controls(full, Mask(cells, frozenset(), None), {"density", "polyphony", "chords"})
    layout = build_layout(full.without(mask.cells), mask.cells, max_prefix_tokens=2048)
    tokens, _ = encode_fill(layout, target_notes(layout, full))
    coordinates = layout.fill_coordinates(tokens)
    state = CoordinateState(layout.gap_bar, layout.cell_steps)
    for token in layout.prefix:
        state.advance(int(token))
    assert coordinates.tolist() == [[*place, *controls] for *place, controls in (state.advance(int(t)) for t in tokens)]
    assert (coordinates < COORDINATE_SIZES).all()
    left, shift = coordinates[:, 4 + len(CONTROL_BLOCKS)], 1 + sum(block.size for block in CONTROL_BLOCKS)
    ends = [NOTES_LEFT[int(value) - shift] for value in left[tokens == VOCAB.id("END")]]
    # Densities up to six notes in four quarters are exact to the note, others to about a tenth.
    assert np.mean(np.abs(ends)) < 1
    assert 0 in ends


def test_without_density_or_polyphony_nothing_is_counted():
    countdown = Countdown((96,))
    for name in ("FILL", "BARIDX_0", "TRACK_0", "VELRANGE_8", "POS_0", "PITCH_60", "DUR_12"):
        countdown.advance(VOCAB.id(name))
        assert countdown.values == NO_COUNTDOWN
