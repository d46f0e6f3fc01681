"""The infill transformer's promises: causal fill, bidirectional context, a cache that changes nothing, it learns."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from harmonixr_model.errors import CheckpointError
from harmonixr_model.infill.config import SIZES, InfillConfig, sized
from harmonixr_model.infill.loss import infill_loss
from harmonixr_model.infill.model import InfillTransformer

torch.set_num_threads(1)
TINY = InfillConfig(width=32, layers=2, heads=2, dropout=0.0, bars=6, steps=24, slots=6, vocabulary=50)
PREFIX, LENGTH = 6, 14


@dataclass
class TinyBatch:
    tokens_BT: Tensor
    coordinates_BTK: Tensor
    prefix_length_B: Tensor
    length_B: Tensor
    loss_mask_BT: Tensor


def tiny_model(seed: int = 0) -> InfillTransformer:
    """A model whose blocks do something: the zero-initialised output matrices are filled."""
    torch.manual_seed(seed)
    model = InfillTransformer(TINY).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def tiny_batch(rows: int = 3, *, seed: int = 0) -> TinyBatch:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, TINY.vocabulary, (rows, LENGTH), generator=generator, dtype=torch.int32)
    coordinates = torch.randint(0, 4, (rows, LENGTH, 4), generator=generator, dtype=torch.int16)
    mask = torch.zeros(rows, LENGTH, dtype=torch.bool)
    mask[:, PREFIX:] = True
    return TinyBatch(tokens, coordinates, torch.full((rows,), PREFIX), torch.full((rows,), LENGTH), mask)


def logits(model: InfillTransformer, batch: TinyBatch) -> Tensor:
    with torch.no_grad():
        return model(batch.tokens_BT, batch.coordinates_BTK, batch.prefix_length_B, batch.length_B)


@pytest.mark.parametrize("what", ["token", "coordinate"])
def test_the_fill_does_not_depend_on_later_tokens(what):
    model, batch = tiny_model(), tiny_batch()
    before, changed = logits(model, batch), PREFIX + 4
    if what == "token":
        batch.tokens_BT[:, changed] = (batch.tokens_BT[:, changed] + 1) % TINY.vocabulary
    else:
        batch.coordinates_BTK[:, changed] += 1
    after = logits(model, batch)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert not torch.isclose(before[:, changed:], after[:, changed:]).all(dim=-1).any()


def test_the_context_is_read_in_both_directions():
    model, batch = tiny_model(), tiny_batch()
    before = logits(model, batch)
    batch.tokens_BT[:, PREFIX - 1] = (batch.tokens_BT[:, PREFIX - 1] + 1) % TINY.vocabulary
    after = logits(model, batch)
    assert not torch.isclose(before[:, 0], after[:, 0]).all(dim=-1).any()


def test_the_context_never_attends_to_the_fill():
    model, batch = tiny_model(), tiny_batch()
    before = logits(model, batch)
    batch.tokens_BT[:, PREFIX:] = 0
    assert torch.equal(before[:, :PREFIX], logits(model, batch)[:, :PREFIX])


def test_padding_changes_nothing():
    model, batch = tiny_model(), tiny_batch()
    short = 10
    batch.length_B[1] = short
    padded = logits(model, batch)[1, :short]
    with torch.no_grad():
        alone = model(batch.tokens_BT[1:2, :short], batch.coordinates_BTK[1:2, :short], batch.prefix_length_B[1:2])
    torch.testing.assert_close(padded, alone[0], rtol=1e-5, atol=1e-5)


def test_chosen_positions_get_the_logits_of_the_whole():
    model, batch = tiny_model(), tiny_batch()
    chosen = torch.zeros_like(batch.loss_mask_BT)
    chosen[0, 3] = chosen[2, 9] = True
    with torch.no_grad():
        some = model(batch.tokens_BT, batch.coordinates_BTK, batch.prefix_length_B, batch.length_B, chosen_BT=chosen)
    torch.testing.assert_close(some, logits(model, batch)[chosen])


def test_step_by_step_with_the_cache_equals_the_whole_sequence():
    """Rows with prefixes of different lengths go on side by side, each at its own position."""
    model, batch = tiny_model(), tiny_batch()
    prefixes = [6, 3, 5]
    batch.prefix_length_B = torch.tensor(prefixes)
    whole = logits(model, batch)
    cache = model.new_cache(3, LENGTH)
    for row, prefix in enumerate(prefixes):
        tokens, coordinates = batch.tokens_BT[row, :prefix], batch.coordinates_BTK[row, :prefix]
        list(model.prefill(tokens[None], coordinates[None], cache, row))
    positions = torch.tensor(prefixes)
    rows = torch.arange(3)
    while positions.max() < LENGTH:
        tokens, coordinates = batch.tokens_BT[rows, positions], batch.coordinates_BTK[rows, positions]
        out = model.extend(tokens[:, None], coordinates[:, None], positions, cache)[:, 0]
        torch.testing.assert_close(out, whole[rows, positions], rtol=1e-5, atol=1e-5)
        positions = positions + 1


def test_one_prefilled_context_serves_many_candidates():
    model, batch = tiny_model(), tiny_batch()
    tokens, coordinates = batch.tokens_BT, batch.coordinates_BTK.clone()
    tokens[:, :PREFIX], coordinates[:, :PREFIX] = tokens[0, :PREFIX].clone(), coordinates[0, :PREFIX].clone()
    batch.coordinates_BTK = coordinates
    whole = logits(model, batch)
    cache = model.new_cache(4, LENGTH)
    list(model.prefill(tokens[:1, :PREFIX], coordinates[:1, :PREFIX], cache))
    cache.copy_row(0, [1, 2], length=PREFIX)
    start = torch.full((3,), PREFIX)
    chunk = model.extend(tokens[:, PREFIX:], coordinates[:, PREFIX:], start, cache)
    torch.testing.assert_close(chunk, whole[:, PREFIX:], rtol=1e-5, atol=1e-5)


def test_a_reused_row_does_not_depend_on_its_last_sequence():
    """A row is used again without clearing: what lies past the new prefix is never attended to."""
    model, batch = tiny_model(), tiny_batch()
    cache = model.new_cache(1, LENGTH)
    for layer in cache.layers:
        layer.keys.fill_(100.0)
        layer.values.fill_(100.0)
    tokens, coordinates = batch.tokens_BT[:1], batch.coordinates_BTK[:1]
    list(model.prefill(tokens[:, :PREFIX], coordinates[:, :PREFIX], cache))
    next_token = slice(PREFIX, PREFIX + 1)
    out = model.extend(tokens[:, next_token], coordinates[:, next_token], torch.tensor([PREFIX]), cache)
    torch.testing.assert_close(out, logits(model, batch)[:1, next_token], rtol=1e-5, atol=1e-5)


def test_it_overfits_one_batch():
    torch.manual_seed(0)
    model, batch = InfillTransformer(TINY), tiny_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = infill_loss(model, batch)[0].mean().item()
    for _ in range(80):
        optimizer.zero_grad()
        loss = infill_loss(model, batch)[0].mean()
        loss.backward()
        optimizer.step()
    assert first == pytest.approx(torch.tensor(TINY.vocabulary).log().item(), rel=0.05)
    assert loss.item() < 0.05


def test_a_condition_in_the_context_changes_a_trained_models_output():
    """Two kinds of songs differ in one context token alone; the model must read it to know which fill belongs."""
    torch.manual_seed(0)
    batch = tiny_batch(2)
    for field in (batch.tokens_BT, batch.coordinates_BTK):
        field[1, :PREFIX] = field[0, :PREFIX].clone()
        field[1, PREFIX] = field[0, PREFIX].clone()
    batch.tokens_BT[:, 2] = torch.tensor([7, 8])
    batch.tokens_BT[:, PREFIX + 1] = torch.tensor([11, 12])
    model = InfillTransformer(TINY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        infill_loss(model, batch)[0].mean().backward()
        optimizer.step()
    assert logits(model, batch)[:, PREFIX].argmax(-1).tolist() == [11, 12]


def test_the_loss_is_computed_only_where_the_mask_is_set():
    model, batch = tiny_model(), tiny_batch()
    batch.loss_mask_BT[:, PREFIX + 2] = False
    nats, targets = infill_loss(model, batch)
    asked = batch.loss_mask_BT.clone()
    assert targets.tolist() == batch.tokens_BT[asked].tolist()
    log_p = logits(model, batch).log_softmax(-1)[:, :-1]
    expected = -log_p.gather(-1, batch.tokens_BT[:, 1:, None].long())[..., 0][asked[:, 1:]]
    torch.testing.assert_close(nats.detach(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "millions"), [("nano", 3.4), ("mini", 7.2), ("small", 14.5), ("base", 38), ("large", 114)]
)
def test_the_sizes_have_about_their_documented_parameters(size, millions):
    with torch.device("meta"):
        model = InfillTransformer(SIZES[size])
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.2)


def test_an_unknown_size_names_the_known_ones():
    with pytest.raises(CheckpointError, match="nano, mini, small"):
        sized("huge")
