"""The attention's promises: who sees whom, positions that turn, a cache that changes nothing."""

import pytest
import torch

from harmonixr_model.nn.attention import Attention, new_cache, prefix_mask, rotate, rotation

torch.set_num_threads(1)


def test_the_prefix_attends_to_itself_and_later_tokens_to_earlier_ones():
    mask = prefix_mask(torch.tensor([2, 0]), 4)
    assert mask.shape == (2, 1, 4, 4)
    assert mask[0, 0].int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert mask[1, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_no_token_attends_to_padding_and_no_row_is_empty():
    mask = prefix_mask(torch.tensor([3]), 5, length_B=torch.tensor([3]))
    assert not mask[0, 0, :, 3:].any()
    assert mask.any(dim=-1).all()


def test_rotary_scores_depend_on_the_distance_alone():
    query, key = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0)).unbind(0)

    def score(at: int, seen: int) -> torch.Tensor:
        turned = [rotate(x, rotation(torch.tensor([where]), 8)) for x, where in ((query, at), (key, seen))]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(7, 3), score(107, 103), rtol=1e-4, atol=1e-5)
    assert (score(7, 3) - score(7, 4)).abs() > 1e-3


def test_a_position_does_not_change_the_length_of_a_vector():
    x = torch.randn(1, 2, 5, 8, generator=torch.Generator().manual_seed(1))
    turned = rotate(x, rotation(torch.arange(5), 8))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])


@pytest.mark.parametrize("chunk", [1, 3])
def test_extending_a_cached_prefix_gives_what_the_whole_sequence_gives(chunk):
    torch.manual_seed(0)
    attention = Attention(16, heads=2)
    x = torch.randn(1, 9, 16)
    prefix, by = 3, rotation(torch.arange(9), 8)
    whole = attention(x, by, prefix_mask(torch.tensor([prefix]), 9))
    cache = new_cache(1, 2, heads=2, max_length=12, head_width=8, dtype=torch.float32, device=x.device)
    [layer] = cache.layers
    first = attention.prefill(x[:, :prefix], rotation(torch.arange(prefix), 8), layer, row=0)
    torch.testing.assert_close(first, whole[:, :prefix])
    for start in range(prefix, 9, chunk):
        positions = torch.arange(start, start + chunk)[None]
        mask = (torch.arange(start + chunk) <= positions[..., None]).unsqueeze(1)
        out = attention.extend(
            x[:, start : start + chunk], rotation(positions, 8), layer, positions_RT=positions, mask=mask
        )
        torch.testing.assert_close(out, whole[:, start : start + chunk], rtol=1e-5, atol=1e-6)


def test_a_copied_row_holds_the_source_and_leaves_the_source_alone():
    cache = new_cache(2, 4, heads=1, max_length=5, head_width=2, dtype=torch.float32, device=torch.device("cpu"))
    for layer in cache.layers:
        layer.keys.normal_()
        layer.values.normal_()
    before = [layer.keys.clone() for layer in cache.layers]
    cache.copy_row(1, [0, 3], length=4)
    for layer, old in zip(cache.layers, before, strict=True):
        assert torch.equal(layer.keys[[0, 3], :, :4], old[[1, 1], :, :4])
        assert torch.equal(layer.keys[[1, 2]], old[[1, 2]])
        assert torch.equal(layer.keys[[0, 3], :, 4:], old[[0, 3], :, 4:])
