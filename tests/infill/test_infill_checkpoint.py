"""A checkpoint's promises: what was saved comes back, and what does not fit is refused with a reason."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from harmonixr_model.errors import CheckpointError
from harmonixr_model.infill.checkpoint import load_checkpoint, read_info, save_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.prompt.coordinates import CONTROL_SIZE
from harmonixr_model.prompt.countdown import COUNTDOWN_SIZE

TINY = InfillConfig(width=32, layers=1, heads=2, bars=4, steps=24, slots=4, vocabulary=50)
INFO = {"tokens": 12_000, "bits_per_note": 9.5, "data": ["composed"]}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model, path = InfillTransformer(TINY), tmp_path / "deep" / "model.safetensors"
    save_checkpoint(path, model, info=INFO)
    return model, path


def rewrite(path, **changes):
    """Write the file again with some metadata changed."""
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    save_file(weights, path, metadata | changes)


def test_weights_config_and_info_come_back(saved):
    model, path = saved
    loaded, info = load_checkpoint(path)
    assert info == INFO
    assert loaded.config == TINY
    assert not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    assert read_info(path) == (TINY, INFO)
    assert [entry.name for entry in path.parent.iterdir()] == ["model.safetensors"]


def test_half_precision_takes_half_the_space_and_loads_as_single(saved, tmp_path):
    model, path = saved
    save_checkpoint(tmp_path / "half.safetensors", model, info=INFO, dtype=torch.float16)
    loaded, _ = load_checkpoint(tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * path.stat().st_size
    assert loaded.norm.weight.dtype == torch.float32
    torch.testing.assert_close(loaded.embedding.token.weight, model.embedding.token.weight, rtol=1e-3, atol=1e-4)


def test_the_same_model_is_the_same_file(saved, tmp_path):
    """Versions are named by their content; safetensors alone would order its metadata by chance."""
    model, path = saved
    for number in range(4):
        save_checkpoint(tmp_path / f"{number}.safetensors", model, info=INFO)
    assert {(tmp_path / f"{number}.safetensors").read_bytes() for number in range(4)} == {path.read_bytes()}


def test_another_vocabulary_is_refused(saved):
    _, path = saved
    rewrite(path, vocabulary="0" * 64)
    with pytest.raises(CheckpointError, match="vocabulary"):
        load_checkpoint(path)


def test_a_setting_of_a_newer_version_is_refused(saved):
    _, path = saved
    rewrite(path, config=json.dumps(TINY.to_dict() | {"mixture": 3}))
    with pytest.raises(CheckpointError, match="mixture"):
        load_checkpoint(path)


def test_weights_of_another_shape_are_refused(saved):
    _, path = saved
    rewrite(path, config=json.dumps(TINY.to_dict() | {"layers": 2}))
    with pytest.raises(CheckpointError, match="do not fit"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"MThd\x00\x00", b"\xff" * 64])
def test_what_is_not_a_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load_checkpoint(tmp_path / "none.safetensors")
    assert caught.value.filename == str(tmp_path / "none.safetensors")


def test_weights_without_countdowns_give_the_same_logits(tmp_path):
    older = replace(TINY, control_values=CONTROL_SIZE - COUNTDOWN_SIZE)
    model = InfillTransformer(older).eval()
    torch.nn.init.normal_(model.embedding.asked.weight[1:])
    save_checkpoint(tmp_path / "older.safetensors", model, info={})
    loaded, _ = load_checkpoint(tmp_path / "older.safetensors")
    assert loaded.config.control_values == CONTROL_SIZE
    assert torch.equal(loaded.embedding.asked.weight[: older.control_values], model.embedding.asked.weight)
    assert not loaded.embedding.asked.weight[older.control_values :].any()
