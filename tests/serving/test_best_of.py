"""best_of: make many, keep the ones the reward model likes best."""

import base64

import pytest
import torch

from harmonixr_model import examples
from harmonixr_model.fill.ranker import Ranker
from harmonixr_model.infill.checkpoint import load_checkpoint
from harmonixr_model.preference.config import RewardConfig
from harmonixr_model.preference.model import RewardHeads
from harmonixr_platform.registry import Lineage, open_registry

MINUET = examples.load("minuet-in-g")
REQUEST = {"midi_base64": base64.b64encode(MINUET).decode(), "region": {"bars": "5-6", "tracks": [1]}}


@pytest.fixture(scope="module")
def reward_version(settings, tiny_checkpoints, tmp_path_factory):
    torch.manual_seed(0)
    trunk, _ = load_checkpoint(tiny_checkpoints[0])
    heads = RewardHeads(RewardConfig(trunk_width=trunk.config.width, heads=2, head_width=8))
    for parameter in heads.parameters():
        # New heads predict 0 for everything.
        torch.nn.init.normal_(parameter)
    path = tmp_path_factory.mktemp("reward") / "reward.safetensors"
    Ranker(trunk, heads, {}).save(path)
    registry = open_registry(settings)
    version = registry.register("reward", path, Lineage(note="tiny")).version
    registry.promote("reward", version)
    return version


def test_best_of_returns_the_best_in_the_order_of_their_rewards(api, reward_version):
    def infill(**sampling):
        response = api("POST", "/v1/infill", json=REQUEST | {"sampling": {"seed": 5, **sampling}})
        assert response.status_code == 200, response.text
        return response.json()

    everything, kept = infill(n=6, best_of=6), infill(n=2, best_of=6)
    rewards = [c["reward"] for c in everything["candidates"]]
    assert rewards == sorted(rewards, reverse=True)
    assert len(set(rewards)) == 6
    assert kept["reward_version"] == reward_version
    assert [c["tokens"] for c in kept["candidates"]] == [c["tokens"] for c in everything["candidates"][:2]]
    assert sorted(c["seed"] for c in everything["candidates"]) == [5, 6, 7, 8, 9, 10]
    assert infill(n=2)["reward_version"] is None


def test_reward_models_are_listed(api, reward_version):
    models = api("GET", "/v1/models").json()
    assert [(m["version"], m["aliases"]) for m in models["reward"]] == [(reward_version, ["champion"])]
    assert models["infill"][0]["aliases"] == ["champion"]
