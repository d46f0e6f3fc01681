"""The architecture of a reward model; its checkpoint stores it."""

from __future__ import annotations

from dataclasses import dataclass

from harmonixr_model.errors import CheckpointError
from harmonixr_model.preference.musical_features import NAMES


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """Heads over musical features and a trunk's hidden states, each fitted to its own bootstrap of the pieces.

    Attributes:
        trunk_width: width D of the trunk's hidden states.
        trunk_layers: how many of the trunk's last layers are read; 0 reads none.
        trunk_components: number of principal components of the trunk features, within contexts.
        trunk_scale: standard deviation of a component relative to a musical feature: the weight penalty is a stronger
            prior on smaller inputs.
        music_features: number of musical features, `musical_features.NAMES`; 0 reads none.
        heads: size of the ensemble.
        head_width: width of the non-linear part of a head; 0 for linear heads.
        tie_prior: initial value of Davidson's ν.

    """

    trunk_width: int
    trunk_layers: int = 3
    trunk_components: int = 8
    trunk_scale: float = 0.3
    music_features: int = len(NAMES)
    heads: int = 8
    head_width: int = 0
    tie_prior: float = 0.5

    def __post_init__(self) -> None:
        whole = self.trunk_width, self.heads
        rest = self.trunk_layers, self.trunk_components, self.head_width, self.music_features
        if min(whole) < 1 or min(rest) < 0 or self.tie_prior <= 0 or self.inputs < 1:
            raise CheckpointError(
                f"{self} is not a reward model: widths and heads are at least 1, ν > 0, and it needs an input"
            )

    @property
    def trunk_features(self) -> int:
        """Number of pooled trunk features: for each layer the fill's mean and its difference from the context's."""
        return 2 * self.trunk_width * self.trunk_layers

    @property
    def features(self) -> int:
        """Number of features of a fill: musical features first, then the trunk's."""
        return self.music_features + self.trunk_features

    @property
    def inputs(self) -> int:
        """Number of inputs of a head: musical features and principal components."""
        return self.music_features + min(self.trunk_components, self.trunk_features)
