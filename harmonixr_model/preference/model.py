"""The reward model: score a fill in its context by an ensemble of small heads over features."""

# B sequences, T tokens, D trunk width, M musical features, F features, K components, I inputs of a head, H heads

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from harmonixr_model.preference.config import RewardConfig


def pool(hidden_BTD: Tensor, prefix_length_B: Tensor, length_B: Tensor) -> Tensor:
    """Return B × 2D features: the mean over the fill, and how it differs from the mean over the context.

    Args:
        hidden_BTD: hidden states of context and fill.
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
    """An ensemble of H heads evaluated at once, and the propensity to call a tie.

    A head is linear, with a small non-linear part. Features are standardised first, and the trunk's are reduced to the
    principal components of their differences within contexts (`fit_scale`): differences between contexts cancel out of
    every comparison, and heads would overfit thousands of trunk features on hundreds of fills.
    """

    def __init__(self, config: RewardConfig) -> None:
        super().__init__()
        self.config = config
        components = config.inputs - config.music_features
        self.register_buffer("centre_F", torch.zeros(config.features))
        self.register_buffer("music_scale_M", torch.ones(config.music_features))
        self.register_buffer("components_FK", torch.zeros(config.trunk_features, components))
        # Zero: the comparisons of an untrained model have even odds.
        self.linear_HI = nn.Parameter(torch.zeros(config.heads, config.inputs))
        inner_HIW = torch.randn(config.heads, config.inputs, config.head_width) / math.sqrt(config.inputs)
        self.inner_HIW = nn.Parameter(inner_HIW)
        self.inner_bias_HW = nn.Parameter(torch.zeros(config.heads, config.head_width))
        self.outer_HW = nn.Parameter(torch.zeros(config.heads, config.head_width))
        self.log_tie = nn.Parameter(torch.full((), math.log(config.tie_prior)))

    centre_F: Tensor
    music_scale_M: Tensor
    components_FK: Tensor

    @torch.no_grad()
    def fit_scale(self, features_BF: Tensor, context_B: Tensor) -> None:
        """Set the standardisation and the components from training features; `context_B` numbers their contexts."""
        music = self.config.music_features
        within_BF = features_BF - _context_means(features_BF, context_B)
        self.centre_F.copy_(features_BF.mean(0))
        # A constant feature carries no information; its scale is 0.
        deviation_F = within_BF.square().mean(0).sqrt()
        self.music_scale_M.copy_(torch.where(deviation_F > 1e-6, 1 / deviation_F.clamp(min=1e-6), 0.0)[:music])
        components = self.components_FK.shape[1]
        if not components:
            return
        deviation_F = deviation_F[music:].clamp(min=1e-6)
        _, spread_K, basis_KF = torch.linalg.svd(within_BF[:, music:] / deviation_F, full_matrices=False)
        found = min(components, int((spread_K > 1e-6 * spread_K[0].clamp(min=1e-6)).sum()))
        size_K = spread_K[:found] / math.sqrt(len(features_BF))
        self.components_FK.zero_()
        scaled_KF = self.config.trunk_scale * basis_KF[:found] / size_K[:, None] / deviation_F
        # The sign of a component is arbitrary; it is fixed so that the same data always gives the same file.
        largest_K1 = scaled_KF.gather(1, scaled_KF.abs().argmax(1, keepdim=True))
        self.components_FK[:, :found] = (scaled_KF * largest_K1.sign()).T

    def inputs(self, features_BF: Tensor) -> Tensor:
        """Return the inputs of the heads, B × I."""
        music = self.config.music_features
        centred_BF = features_BF - self.centre_F
        music_BM = (centred_BF[:, :music] * self.music_scale_M).clamp(-6, 6)
        return torch.cat([music_BM, centred_BF[:, music:] @ self.components_FK], dim=-1)

    def forward(self, features_BF: Tensor) -> Tensor:
        """Return the reward of each head, B × H, in Bradley–Terry log odds."""
        inputs_BI = self.inputs(features_BF)
        hidden_BHW = torch.einsum("bi,hiw->bhw", inputs_BI, self.inner_HIW) + self.inner_bias_HW
        return inputs_BI @ self.linear_HI.T + torch.einsum("bhw,hw->bh", nn.functional.gelu(hidden_BHW), self.outer_HW)


def _context_means(features_BF: Tensor, context_B: Tensor) -> Tensor:
    """Return for each row the mean of its context's rows."""
    total_GF = torch.zeros(int(context_B.max()) + 1, features_BF.shape[1], dtype=features_BF.dtype)
    total_GF = total_GF.index_add(0, context_B, features_BF)
    return (total_GF / torch.bincount(context_B).clamp(min=1)[:, None])[context_B]


def lower_bound(reward_BH: Tensor, *, deviations: float = 1.0) -> Tensor:
    """Return the mean over heads less `deviations` standard deviations, B, for fills of one context.

    Comparisons determine rewards only within a context, so each head's mean is subtracted first.
    """
    level_1H = reward_BH.mean(0, keepdim=True) if len(reward_BH) > 1 else 0.0
    return reward_BH.mean(-1) - deviations * (reward_BH - level_1H).std(-1, unbiased=False)
