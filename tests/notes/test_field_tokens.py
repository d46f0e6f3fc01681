"""Attribute-only cells: what is asked is nowhere in the prefix, what is known is, and an answer says no more."""

import numpy as np
import pytest

from harmonixr_model.data.dataset import example_of
from harmonixr_model.data.masking import Mask
from harmonixr_model.errors import TokenError
from harmonixr_model.music.compose import compose
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.field_tokens import HIDDEN, NOTE_FIELDS, single_field_cell
from harmonixr_model.notes.grid import quantize
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.builder import build_layout
from harmonixr_model.prompt.coordinates import COORDINATE_SIZES
from harmonixr_model.prompt.fill_tokens import encode_fill, fill_length

CHANGED = {
    "pitch": {"pitch": 61},
    "velocity": {"velocity": 14},
    "duration": {"duration": 1},
    "rhythm": {"onset": 0, "duration": 1},
}


def asked(only, *, seed=0, tracks=(0, 1), bars=(4, 7)):
    """Return a piece and the cells that ask for one field of its notes."""
    full = EncodedScore(quantize(compose(seed, bars=12)))
    cells = [
        single_field_cell(cell := GridCell(track, bar.start, bar.end), only, full.hidden(cell))
        for bar in full.score.bars[bars[0] : bars[1]]
        for track in tracks
    ]
    return full, [cell for cell in cells if cell.known]


@pytest.mark.parametrize("only", NOTE_FIELDS)
def test_the_prefix_says_all_of_the_notes_but_what_is_asked(only):
    full, cells = asked(only)
    layout = build_layout(full.without(cells), cells, max_prefix_tokens=8192, passages=0)
    notes = sum(len(cell.known) for cell in cells)
    assert (layout.prefix == HIDDEN[only]).sum() == notes
    assert all(header[3] == HIDDEN[only] for header in layout.headers)
    names = [VOCAB.name(int(token)) for token in layout.prefix]
    at = names.index("MASK") + 1
    first = cells[0].known[0]
    said = names[at : at + 4]
    assert (
        said
        == {
            "pitch": [f"POS_{first.onset - cells[0].start}", "HIDDEN_PITCH", f"DUR_{first.duration}", said[3]],
            "rhythm": ["HIDDEN_ONSET", f"PITCH_{first.pitch}", "HIDDEN_DUR", said[3]],
            "velocity": [
                f"POS_{first.onset - cells[0].start}",
                f"PITCH_{first.pitch}",
                f"DUR_{first.duration}",
                "HIDDEN_VEL",
            ],
            "duration": [f"POS_{first.onset - cells[0].start}", f"PITCH_{first.pitch}", "HIDDEN_DUR", said[3]],
        }[only]
    )
    assert only == "velocity" or said[3] == f"VEL_{first.velocity}"


@pytest.mark.parametrize("only", NOTE_FIELDS)
def test_what_is_asked_leaves_no_trace_before_the_answer(only):
    """Notes that differ only in the asked field make the same prefix and cells."""
    full, cells = asked(only)
    cell = cells[0]
    notes = full.hidden(GridCell(cell.track, cell.start, cell.end))
    changed = single_field_cell(
        GridCell(cell.track, cell.start, cell.end), only, [n._replace(**CHANGED[only]) for n in notes]
    )
    assert changed == cell


@pytest.mark.parametrize("only", NOTE_FIELDS)
def test_of_an_answer_only_what_is_asked_carries_loss(only):
    full, cells = asked(only)
    example = example_of(full, Mask(tuple(cells), frozenset(), None), max_tokens=8192)
    predicted = [VOCAB.block_of(int(token)) for token in example.tokens[example.loss_mask]]
    notes = sum(len(cell.known) for cell in cells)
    blocks = {"pitch": ["pitch"], "rhythm": ["position", "duration"]}.get(only, [only])
    assert predicted == blocks * notes


@pytest.mark.parametrize("only", NOTE_FIELDS)
def test_an_answer_takes_no_more_than_was_reckoned(only):
    full, cells = asked(only)
    layout = build_layout(full.without(cells), cells, max_prefix_tokens=8192)
    fill, is_forced = encode_fill(layout, [full.hidden(cell) for cell in layout.cells])
    assert len(fill) == len(is_forced) <= fill_length(full, cells)
    assert layout.fill_coordinates(fill).shape == (len(fill), len(COORDINATE_SIZES))


def test_an_answer_with_a_note_too_few_is_refused():
    full, cells = asked("pitch")
    layout = build_layout(full.without(cells), cells, max_prefix_tokens=8192)
    with pytest.raises(TokenError, match="one for each"):
        encode_fill(layout, [full.hidden(cell)[:-1] for cell in layout.cells])


def test_a_rhythm_may_put_notes_that_followed_each_other_at_one_time():
    full, cells = asked("rhythm", tracks=(0,), bars=(4, 5))
    layout = build_layout(full.without(cells), cells, max_prefix_tokens=8192)
    together = [note._replace(onset=cells[0].start) for note in full.hidden(cells[0])]
    fill, _ = encode_fill(layout, [together])
    assert (np.asarray(fill) == VOCAB.position.start).sum() == len(together)
