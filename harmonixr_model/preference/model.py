"""Score a fill in its context: pool a trunk's hidden states, then an ensemble of small heads.

Knows nothing of what the trunk is, of files or of who judged.
"""

# B sequences, T tokens, D trunk width, F pooled features, H heads

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from harmonixr_model.preference.config import RewardConfig


def pool(hidden_BTD: Tensor, prefix_length_B: Tensor, length_B: Tensor) -> Tensor:
    """Return B × 2D features: the mean over the fill, and how it differs from the mean over the context.

    Args:
        hidden_BTD: last hidden states of context and fill.
        prefix_length_B: tokens of context; the fill follows it.
        length_B: tokens of context and fill; the rest is padding.

    """
    place_T = torch.arange(hidden_BTD.shape[1], device=hidden_BTD.device)
    in_context_BT = place_T < prefix_length_B[:, None]
    in_fill_BT = ~in_context_BT & (place_T < length_B[:, None])
    context_BD = _masked_mean(hidden_BTD, in_context_BT)
    fill_BD = _masked_mean(hidden_BTD, in_fill_BT)
    return torch.cat([fill_BD, fill_BD - context_BD], dim=-1)


def _masked_mean(hidden_BTD: Tensor, keep_BT: Tensor) -> Tensor:
    weight_BT1 = keep_BT[..., None].to(hidden_BTD.dtype)
    return (hidden_BTD * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1)


class RewardHeads(nn.Module):
    """An ensemble of H two-layer heads evaluated at once, and the propensity to call a tie.

    Features are standardised by running statistics set once from the training set (`fit_scale`), so that heads of a few
    hundred comparisons do not have to learn the scale of the trunk.
    """

    def __init__(self, config: RewardConfig) -> None:
        super().__init__()
        self.config = config
        features = 2 * config.trunk_width
        self.register_buffer("centre_F", torch.zeros(features))
        self.register_buffer("scale_F", torch.ones(features))
        self.inner_HFW = nn.Parameter(torch.randn(config.heads, features, config.head_width) / math.sqrt(features))
        self.inner_bias_HW = nn.Parameter(torch.zeros(config.heads, config.head_width))
        # Zero: an untrained model likes everything equally, so its comparisons start at even odds.
        self.outer_HW = nn.Parameter(torch.zeros(config.heads, config.head_width))
        self.log_tie = nn.Parameter(torch.full((), math.log(config.tie_prior)))
        self.dropout = nn.Dropout(config.dropout)

    centre_F: Tensor
    scale_F: Tensor

    @torch.no_grad()
    def fit_scale(self, features_BF: Tensor) -> None:
        """Set the standardisation from the training features."""
        self.centre_F.copy_(features_BF.mean(0))
        self.scale_F.copy_(features_BF.std(0, unbiased=False).clamp(min=1e-4))

    def forward(self, features_BF: Tensor) -> Tensor:
        """Return the reward of each head, B × H, in Bradley–Terry log odds."""
        standard_BF = self.dropout((features_BF - self.centre_F) / self.scale_F)
        inner_BHW = torch.einsum("bf,hfw->bhw", standard_BF, self.inner_HFW) + self.inner_bias_HW
        return torch.einsum("bhw,hw->bh", self.dropout(nn.functional.gelu(inner_BHW)), self.outer_HW)


def lower_bound(reward_BH: Tensor, *, deviations: float = 1.0) -> Tensor:
    """Return the mean over heads less `deviations` standard deviations, B."""
    return reward_BH.mean(-1) - deviations * reward_BH.std(-1, unbiased=False)
