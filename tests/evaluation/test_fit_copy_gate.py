"""Fitting the copy gate raises the likelihood of originals, and the checkpoint stores the gate."""

import pytest
import torch

from harmonixr_model.errors import CorpusError
from harmonixr_model.evaluation.fit_copy_gate import fit_copy_gate
from harmonixr_model.evaluation.likelihood import BITS, FIELDS, measured_bits
from harmonixr_model.evaluation.protocol import evaluation_items
from harmonixr_model.infill.checkpoint import load_checkpoint, save_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return InfillTransformer(InfillConfig(width=32, layers=1, heads=2, dropout=0.0, max_length=1024)).eval()


@pytest.fixture(scope="module")
def gate(model, corpus):
    return fit_copy_gate(model, corpus, gaps=14)


def test_repeated_music_needs_fewer_bits_with_the_copy_gate(model, gate, corpus):
    items = list(evaluation_items(corpus, split="train", count=6, seed=5, shapes=["track-4"]))
    alone = [measured_bits(model, item)[BITS] for item in items]
    model.copy_gate = gate
    try:
        pointed = [measured_bits(model, item) for item in items]
    finally:
        model.copy_gate = None
    assert sum(bits[BITS] for bits in pointed) < 0.8 * sum(alone)
    for bits in pointed:
        assert sum(bits[f"{BITS}, {field}"] for field in FIELDS) == pytest.approx(bits[BITS])


def test_the_same_gaps_give_the_same_gate_and_a_checkpoint_stores_it(model, gate, corpus, tmp_path):
    assert torch.equal(fit_copy_gate(model, corpus, gaps=14).weight_KF, gate.weight_KF)
    model.copy_gate = gate
    try:
        save_checkpoint(tmp_path / "pointed.safetensors", model, info={})
    finally:
        model.copy_gate = None
    loaded, _ = load_checkpoint(tmp_path / "pointed.safetensors")
    assert torch.allclose(loaded.copy_gate.weight_KF, gate.weight_KF, atol=1e-6)


def test_too_few_guesses_give_no_gate(model, corpus):
    assert fit_copy_gate(model, corpus, gaps=1) is None
    with pytest.raises(CorpusError):
        fit_copy_gate(model, corpus, gaps=1, split="nowhere")
