"""Control tokens that training pushed into one place are separated again; the embeddings of the other tokens stay."""

import torch

from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.control_embedding_init import init_control_embeddings
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.notes.vocabulary import VOCAB

CONTROLS = (VOCAB.density, VOCAB.polyphony, VOCAB.velocity_range, VOCAB.key, VOCAB.style, VOCAB.composer, VOCAB.chord)


def pushed_model() -> InfillTransformer:
    """As after training without controls: their rows are nearly one and the same."""
    torch.manual_seed(0)
    model = InfillTransformer(InfillConfig(width=64, layers=1, heads=2, dropout=0.0, max_length=64))
    with torch.no_grad():
        rows = model.embedding.token.weight
        rows[VOCAB.pitch.start : VOCAB.pitch.stop] *= 10
        for block in CONTROLS:
            rows[block.start : block.stop] = 0.3 + 0.01 * torch.randn(block.size, 64)
    return model


def cosines(model, block):
    rows = model.embedding.token.weight[block.start : block.stop].detach()
    rows = rows / rows.norm(dim=1, keepdim=True)
    return rows @ rows.T


def test_control_embeddings_differ_and_nothing_else_changes():
    model = pushed_model()
    before = model.embedding.token.weight.detach().clone()
    assert all(cosines(model, block).min() > 0.98 for block in CONTROLS)
    init_control_embeddings(model)
    after = model.embedding.token.weight.detach()
    for block in CONTROLS:
        # Half of the push stays, so they are not orthogonal.
        assert cosines(model, block).min() < 0.6
    changed = {i for i in range(VOCAB.size) if not torch.equal(before[i], after[i])}
    assert changed <= {i for block in CONTROLS for i in block}


def test_neighbouring_values_start_similar_and_distant_ones_do_not():
    model = pushed_model()
    init_control_embeddings(model)
    likeness = cosines(model, VOCAB.density)
    for i in range(1, 15):
        assert likeness[i, i + 1] > 0.97
        assert likeness[0, i] > likeness[0, i + 1] - 0.02
    assert likeness[0, 15] < 0.6
    chords = cosines(model, VOCAB.chord)
    c_major, c_minor, d_flat_minor = 0, 1, 13
    assert chords[c_major, c_minor] > chords[c_major, d_flat_minor]


def test_the_same_seed_gives_the_same_rows():
    one, two = pushed_model(), pushed_model()
    init_control_embeddings(one)
    init_control_embeddings(two)
    assert torch.equal(one.embedding.token.weight, two.embedding.token.weight)
