"""Rank fills of one gap by predicted preference, with a frozen infill trunk under fitted reward heads.

One safetensors file holds both, so that the heads always run on the trunk they were fitted on.
"""

# T tokens, F pooled features, W windows of a fill, S fills, H heads

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harmonixr_model.errors import CheckpointError
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.nn.weights_file import write_weights
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.preference.config import RewardConfig
from harmonixr_model.preference.model import RewardHeads, lower_bound, pool
from harmonixr_model.preference.musical_features import music_features
from harmonixr_model.prompt.layout import InfillPrompt

FORMAT = "harmonixr.reward.2"


class FilledWindow(NamedTuple):
    """One window of a region: its prompt and its fill tokens."""

    prompt: InfillPrompt
    tokens: Sequence[int]


@dataclass(frozen=True, slots=True)
class Reward:
    """A predicted preference in Bradley–Terry log odds: the ensemble's mean, and the mean less one deviation.

    Only rewards of fills of the same gap are comparable.
    """

    mean: float
    lower: float


class Ranker:
    """A frozen trunk and reward heads; `info` holds their training data and accuracy."""

    def __init__(self, trunk: InfillTransformer, heads: RewardHeads, info: dict[str, Any]) -> None:
        self.trunk = trunk.eval().requires_grad_(False)
        self.heads = heads.eval()
        self.info = info

    @torch.no_grad()
    def score(self, fills: Sequence[Sequence[FilledWindow]]) -> list[Reward]:
        """Return a reward for each fill of one gap, given as its windows in order."""
        if not fills:
            return []
        features_SF = torch.stack([fill_features(self.trunk, windows, self.heads.config) for windows in fills])
        reward_SH = self.heads(features_SF)
        return [
            Reward(float(mean), float(lower))
            for mean, lower in zip(reward_SH.mean(-1), lower_bound(reward_SH), strict=True)
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write trunk and heads as one safetensors file, atomically."""
        state = {f"trunk.{name}": value for name, value in self.trunk.state_dict().items()}
        state |= {f"heads.{name}": value for name, value in self.heads.state_dict().items()}
        metadata = {
            "format": FORMAT,
            "trunk": json.dumps(self.trunk.config.to_dict()),
            "heads": json.dumps(asdict(self.heads.config)),
            "vocabulary": str(VOCAB.hash),
            "info": json.dumps(self.info),
        }
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        write_weights(Path(path), tensors, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Ranker:
        """Read a reward checkpoint; raises CheckpointError, FileNotFoundError."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(2, "no such checkpoint", str(path))
        try:
            with safe_open(path, framework="pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
                state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  not a dict
        except SafetensorError as error:
            raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
        if metadata.get("format") != FORMAT or metadata.get("vocabulary") != str(VOCAB.hash):
            raise CheckpointError(
                f"{path} is not a reward checkpoint of this version's format and vocabulary; "
                "fit it again with `harmonixr train platform/configs/train_reward.yaml`"
            )
        trunk = InfillTransformer(InfillConfig.from_dict(json.loads(metadata["trunk"])))
        heads = RewardHeads(RewardConfig(**json.loads(metadata["heads"])))
        try:
            trunk.load_state_dict(_part(state, "trunk."))
            heads.load_state_dict(_part(state, "heads."))
        except RuntimeError as error:
            raise CheckpointError(f"{path}: the weights do not fit their config: {error}") from error
        return cls(trunk, heads, dict(json.loads(metadata["info"])))


@torch.no_grad()
def fill_features(trunk: InfillTransformer, windows: Sequence[FilledWindow], config: RewardConfig) -> Tensor:
    """Return a fill's features, F: musical measures, then pooled trunk states; windows count by their fill tokens."""
    features_WF = torch.stack([_window_features(trunk, window, config) for window in windows])
    weight_W1 = torch.tensor([float(len(window.tokens)) for window in windows])[:, None]
    return (features_WF * weight_W1).sum(0) / weight_W1.sum()


def _window_features(trunk: InfillTransformer, window: FilledWindow, config: RewardConfig) -> Tensor:
    features: list[Tensor] = []
    if config.music_features:
        features.append(torch.from_numpy(music_features(window.prompt, window.tokens)))
    if config.trunk_layers:
        features += _trunk_features(trunk, window, config.trunk_layers)
    return torch.cat(features)


def _trunk_features(trunk: InfillTransformer, window: FilledWindow, layers: int) -> list[Tensor]:
    """Return the pooled states of `layers` layers spread evenly over the trunk, the last one normed."""
    prompt, fill = window
    tokens_1T = torch.from_numpy(np.concatenate([prompt.prefix, np.asarray(fill, dtype=np.int64)]))[None].long()
    coordinates_1T3 = torch.from_numpy(np.concatenate([prompt.coordinates, prompt.fill_coordinates(fill)]))[None].long()
    prefix_length_1, length_1 = torch.tensor([len(prompt.prefix)]), torch.tensor([tokens_1T.shape[1]])
    blocks = trunk.layers()
    read = [blocks[place * len(blocks) // layers] for place in range(layers - 1)]
    states: list[Tensor] = []
    # Hooks work with every trunk, whatever its class.
    hooks = [block.register_forward_hook(lambda _, __, output: states.append(output)) for block in read]
    try:
        states.append(trunk.hidden(tokens_1T, coordinates_1T3, prefix_length_1))
    finally:
        for hook in hooks:
            hook.remove()
    return [pool(state, prefix_length_1, length_1)[0] for state in states]


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
