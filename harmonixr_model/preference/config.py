"""The reward model's architecture. Travels inside its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from harmonixr_model.errors import CheckpointError
from harmonixr_model.preference.musical_features import NAMES


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """Heads over musical measures and a trunk's hidden states, each head fitted to its own bootstrap of the pieces.

    Attributes:
        trunk_width: the width D of the hidden states that the trunk hands over.
        trunk_layers: how many layers of the trunk are read, the last one included; 0 reads none.
        trunk_components: the hidden states come down to so many principal components of what differs within a context.
        trunk_scale: how much louder or softer a component is than a musical measure; the penalty on weights is then
            the stronger or weaker prior on it.
        music_features: musical measures, `preference.musical_features.NAMES`; 0 reads none.
        heads: the ensemble's size.
        head_width: the width of the bent part of a head, beside its linear part; 0 leaves it linear.
        tie_prior: where Davidson's ν starts.

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
                f"{self} is no reward model: widths and heads are at least 1, ν > 0, and something must be read"
            )

    @property
    def trunk_features(self) -> int:
        """How many pooled trunk features a fill has: the fill's mean and its distance from the context's, a layer."""
        return 2 * self.trunk_width * self.trunk_layers

    @property
    def features(self) -> int:
        """How many features a fill has: musical measures first, then the trunk's."""
        return self.music_features + self.trunk_features

    @property
    def inputs(self) -> int:
        """How many numbers a head reads, once the trunk's features are brought down to components."""
        return self.music_features + min(self.trunk_components, self.trunk_features)
