"""Single-field cells: the prefix has the known fields and never the hidden one; the fill has nothing else."""

import numpy as np
import pytest

from harmonixr_model.data.dataset import build_example
from harmonixr_model.data.masking import Mask
from harmonixr_model.errors import TokenError
from harmonixr_model.music.compose import compose
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.field_tokens import HIDDEN, NOTE_FIELDS, single_field_cell
from harmonixr_model.notes.grid import quantize
from harmonixr_model.notes.vocabulary import VOCAB, Block
from harmonixr_model.prompt.builder import build_layout
from harmonixr_model.prompt.coordinates import COORDINATE_SIZES
from harmonixr_model.prompt.fill_tokens import encode_fill, fill_length

BLOCK_OF = {token: name for name, block in vars(VOCAB).items() if isinstance(block, Block) for token in block}

CHANGED = {
    "pitch": {"pitch": 61},
    "velocity": {"velocity": 14},
    "duration": {"duration": 1},
    "rhythm": {"onset": 0, "duration": 1},
}


def single_field(field, *, seed=0, tracks=(0, 1), bars=(4, 7)):
    """Return a piece and the cells that fill one field of its notes."""
    full = EncodedScore(quantize(compose(seed, bars=12)))
    cells = [
        single_field_cell(cell := GridCell(track, bar.start, bar.end), field, full.hidden(cell))
        for bar in full.score.bars[bars[0] : bars[1]]
        for track in tracks
    ]
    return full, [cell for cell in cells if cell.known]


@pytest.mark.parametrize("field", NOTE_FIELDS)
def test_the_prefix_has_all_fields_but_the_hidden_one(field):
    full, cells = single_field(field)
    layout = build_layout(full.without(cells), cells, max_prefix_tokens=8192, passages=0)
    notes = sum(len(cell.known) for cell in cells)
    assert (layout.prefix == HIDDEN[field]).sum() == notes
    assert all(header[3] == HIDDEN[field] for header in layout.headers)
    names = [VOCAB.name(int(token)) for token in layout.prefix]
    at = names.index("MASK") + 1
    first = cells[0].known[0]
    tokens = names[at : at + 4]
    assert (
        tokens
        == {
            "pitch": [f"POS_{first.onset - cells[0].start}", "HIDDEN_PITCH", f"DUR_{first.duration}", tokens[3]],
            "rhythm": ["HIDDEN_ONSET", f"PITCH_{first.pitch}", "HIDDEN_DUR", tokens[3]],
            "velocity": [
                f"POS_{first.onset - cells[0].start}",
                f"PITCH_{first.pitch}",
                f"DUR_{first.duration}",
                "HIDDEN_VEL",
            ],
            "duration": [f"POS_{first.onset - cells[0].start}", f"PITCH_{first.pitch}", "HIDDEN_DUR", tokens[3]],
        }[field]
    )
    assert field == "velocity" or tokens[3] == f"VEL_{first.velocity}"


@pytest.mark.parametrize("field", NOTE_FIELDS)
def test_the_hidden_field_does_not_change_the_prefix(field):
    """Notes that differ only in the hidden field make the same prefix and cells."""
    full, cells = single_field(field)
    cell = cells[0]
    notes = full.hidden(GridCell(cell.track, cell.start, cell.end))
    changed = single_field_cell(
        GridCell(cell.track, cell.start, cell.end), field, [n._replace(**CHANGED[field]) for n in notes]
    )
    assert changed == cell


@pytest.mark.parametrize("field", NOTE_FIELDS)
def test_only_the_filled_field_carries_loss(field):
    full, cells = single_field(field)
    example = build_example(full, Mask(tuple(cells), frozenset(), None), max_tokens=8192)
    predicted = [BLOCK_OF[int(token)] for token in example.tokens[example.loss_mask]]
    notes = sum(len(cell.known) for cell in cells)
    blocks = {"pitch": ["pitch"], "rhythm": ["position", "duration"]}.get(field, [field])
    assert predicted == blocks * notes


@pytest.mark.parametrize("field", NOTE_FIELDS)
def test_a_fill_is_no_longer_than_its_max_length(field):
    full, cells = single_field(field)
    layout = build_layout(full.without(cells), cells, max_prefix_tokens=8192)
    fill, is_forced = encode_fill(layout, [full.hidden(cell) for cell in layout.cells])
    assert len(fill) == len(is_forced) <= fill_length(full, cells)
    assert layout.fill_coordinates(fill).shape == (len(fill), len(COORDINATE_SIZES))


def test_a_fill_with_a_note_too_few_is_refused():
    full, cells = single_field("pitch")
    layout = build_layout(full.without(cells), cells, max_prefix_tokens=8192)
    with pytest.raises(TokenError, match="one for each"):
        encode_fill(layout, [full.hidden(cell)[:-1] for cell in layout.cells])


def test_a_rhythm_may_place_successive_notes_at_one_onset():
    full, cells = single_field("rhythm", tracks=(0,), bars=(4, 5))
    layout = build_layout(full.without(cells), cells, max_prefix_tokens=8192)
    together = [note._replace(onset=cells[0].start) for note in full.hidden(cells[0])]
    fill, _ = encode_fill(layout, [together])
    assert (np.asarray(fill) == VOCAB.position.start).sum() == len(together)
