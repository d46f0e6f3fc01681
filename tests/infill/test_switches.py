"""The switches' promises: off by default nothing changes; causal context has no future; each twin learns and caches."""

from dataclasses import replace

import pytest
import torch

from harmonixr_model.engine.native.runner import is_supported
from harmonixr_model.errors import CheckpointError
from harmonixr_model.infill.checkpoint import load_checkpoint, save_checkpoint
from harmonixr_model.infill.config import SIZES, InfillConfig
from harmonixr_model.infill.loss import infill_loss
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.variants.encoder_decoder import EncoderDecoder

torch.set_num_threads(1)
TINY = InfillConfig(width=48, layers=2, heads=2, dropout=0.0, bars=6, steps=24, slots=6, vocabulary=50)
PREFIX, LENGTH = 6, 14


class TinyBatch:
    def __init__(self, seed=0, rows=3):
        generator = torch.Generator().manual_seed(seed)
        self.tokens_BT = torch.randint(0, TINY.vocabulary, (rows, LENGTH), generator=generator)
        self.coordinates_BTK = torch.randint(0, 4, (rows, LENGTH, 4), generator=generator)
        self.prefix_length_B = torch.tensor([PREFIX, 3, 5])[:rows]
        self.length_B = torch.tensor([LENGTH, 11, LENGTH])[:rows]
        index = torch.arange(LENGTH)
        self.loss_mask_BT = (index >= self.prefix_length_B[:, None]) & (index < self.length_B[:, None])


def made(build, config):
    torch.manual_seed(0)
    model = build(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


@torch.no_grad()
def logits(model, batch):
    return model(batch.tokens_BT, batch.coordinates_BTK, batch.prefix_length_B, batch.length_B)


def test_switches_at_their_default_leave_the_file_format_as_it_was():
    plain = replace(SIZES["nano"], control_values=0)
    said = plain.to_dict()
    assert set(said) == {"width", "layers", "heads", "dropout", "max_length", "bars", "steps", "slots", "vocabulary"}
    assert InfillConfig.from_dict(said) == plain
    assert InfillConfig.from_dict(SIZES["nano"].to_dict()) == SIZES["nano"]
    other = replace(SIZES["nano"], attending="causal", coordinates=False)
    assert InfillConfig.from_dict(other.to_dict()) == other


def test_a_model_trained_with_micro_tokens_is_refused_and_one_without_is_read():
    values = SIZES["nano"].to_dict()
    assert InfillConfig.from_dict(values | {"micro": False}) == SIZES["nano"]
    with pytest.raises(CheckpointError, match="MICRO"):
        InfillConfig.from_dict(values | {"micro": True})


def test_an_unknown_way_of_attending_names_the_known_ones():
    with pytest.raises(CheckpointError, match="prefix or causal"):
        InfillConfig.from_dict({"width": 32, "layers": 1, "heads": 2, "attending": "sideways"})


def test_a_causal_context_does_not_attend_to_later_tokens_and_conditions_the_fill():
    model, batch = made(InfillTransformer, replace(TINY, attending="causal")), TinyBatch()
    before = logits(model, batch)
    batch.tokens_BT[:, 2] = (batch.tokens_BT[:, 2] + 1) % TINY.vocabulary
    after = logits(model, batch)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.isclose(before[0, PREFIX:], after[0, PREFIX:]).all(dim=-1).any()


def test_without_coordinates_they_change_nothing():
    model, batch = made(InfillTransformer, replace(TINY, coordinates=False)), TinyBatch()
    before = logits(model, batch)
    batch.coordinates_BTK = batch.coordinates_BTK + 1
    assert torch.equal(before, logits(model, batch))


@pytest.mark.parametrize("changes", [{"attending": "causal"}, {"coordinates": False}])
def test_step_by_step_with_the_cache_equals_the_whole_sequence(changes):
    model, batch = made(InfillTransformer, replace(TINY, **changes)), TinyBatch(rows=1)
    whole = logits(model, batch)[0]
    cache = model.new_cache(1, LENGTH)
    list(model.prefill(batch.tokens_BT[:, :PREFIX], batch.coordinates_BTK[:, :PREFIX], cache))
    rest = model.extend(batch.tokens_BT[:, PREFIX:], batch.coordinates_BTK[:, PREFIX:], torch.tensor([PREFIX]), cache)
    torch.testing.assert_close(rest[0], whole[PREFIX:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [{"attending": "causal"}, {"coordinates": False}])
def test_a_switched_model_keeps_its_switches_in_its_file_and_is_left_to_pytorch(tmp_path, changes):
    model = made(InfillTransformer, replace(TINY, **changes))
    save_checkpoint(tmp_path / "model", model, info={})
    again, _ = load_checkpoint(tmp_path / "model")
    assert again.config == model.config
    assert torch.equal(logits(model, TinyBatch()), logits(again, TinyBatch()))
    assert is_supported(replace(TINY, width=32))
    assert not is_supported(replace(TINY, width=32, **changes))


def test_an_encoder_decoder_has_as_many_parameters_as_the_prefix_model():
    for config in (SIZES["nano"], replace(SIZES["nano"], width=128, heads=2)):
        one, two = (sum(w.numel() for w in build(config).parameters()) for build in (InfillTransformer, EncoderDecoder))
        assert two == pytest.approx(one, rel=0.01)


def test_an_encoder_decoders_fill_attends_to_the_whole_context_and_no_later_token():
    model, batch = made(EncoderDecoder, TINY), TinyBatch()
    before, changed = logits(model, batch), PREFIX + 4
    batch.tokens_BT[:, changed] = (batch.tokens_BT[:, changed] + 1) % TINY.vocabulary
    after = logits(model, batch)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert not torch.isclose(before[0, changed:], after[0, changed:]).all(dim=-1).any()
    batch.tokens_BT[:, 1] = (batch.tokens_BT[:, 1] + 1) % TINY.vocabulary
    assert not torch.isclose(after[0, PREFIX - 1], logits(model, batch)[0, PREFIX - 1]).all()


def test_padding_changes_nothing_for_an_encoder_decoder():
    model, batch = made(EncoderDecoder, TINY), TinyBatch()
    alone = TinyBatch()
    for name in ("tokens_BT", "coordinates_BTK", "prefix_length_B", "length_B", "loss_mask_BT"):
        setattr(alone, name, getattr(alone, name)[1:2])
    short = int(batch.length_B[1])
    alone.tokens_BT, alone.coordinates_BTK = alone.tokens_BT[:, :short], alone.coordinates_BTK[:, :short]
    first = int(batch.prefix_length_B[1]) - 1
    torch.testing.assert_close(
        logits(model, batch)[1, first:short], logits(model, alone)[0, first:], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("build", "changes"),
    [(InfillTransformer, {"attending": "causal"}), (InfillTransformer, {"coordinates": False}), (EncoderDecoder, {})],
)
def test_every_variant_overfits_one_batch(build, changes):
    torch.manual_seed(0)
    model, batch = build(replace(TINY, **changes)), TinyBatch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        loss = infill_loss(model, batch)[0].mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
