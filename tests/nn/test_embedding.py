"""The embedding's promises: every part of a coordinate counts, and weights are tied."""

import pytest
import torch

from harmonixr_model.nn.attention import rotation
from harmonixr_model.nn.block import Block, gated_width
from harmonixr_model.nn.embedding import MusicEmbedding


def embed(coordinate: list[int]) -> torch.Tensor:
    torch.manual_seed(0)
    embedding = MusicEmbedding(10, 8, bars=4, steps=24, slots=3)
    return embedding(torch.tensor([[1]]), torch.tensor([[coordinate]], dtype=torch.int16))


def test_each_coordinate_changes_the_embedding():
    places = ([0, 0, 0, 0], [3, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1])
    assert len({tuple(embed(place).flatten().tolist()) for place in places}) == 5


def test_a_coordinate_out_of_range_raises():
    with pytest.raises(IndexError):
        embed([4, 0, 0, 0])


def test_the_output_projection_is_the_token_matrix():
    embedding = MusicEmbedding(10, 8, bars=4, steps=24, slots=3)
    hidden = torch.randn(3, 8)
    assert torch.equal(embedding.logits(hidden), hidden @ embedding.token.weight.T)


def test_the_gate_is_a_multiple_of_64_and_not_narrower_than_eight_thirds():
    assert [gated_width(width) for width in (256, 320, 384)] == [704, 896, 1024]


def test_a_block_drops_out_in_training_only():
    torch.manual_seed(0)
    block = Block(16, 2, dropout=0.5)
    x, by = torch.randn(1, 4, 16), rotation(torch.arange(4), 8)
    assert not torch.equal(block.train()(x, by, None), block.train()(x, by, None))
    assert torch.equal(block.eval()(x, by, None), block.eval()(x, by, None))
