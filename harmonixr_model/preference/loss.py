"""The reward model's loss: Bradley–Terry with Davidson's ties, grouped by context."""

# C comparisons, H heads, G contexts

from __future__ import annotations

import torch
from torch import Tensor

# Outcomes of a comparison, from side a's view.
WIN, LOSS, TIE = 0, 1, 2


def outcome_log_probability(reward_a_CH: Tensor, reward_b_CH: Tensor, outcome_C: Tensor, log_tie: Tensor) -> Tensor:
    """Return the log probability of each outcome under each head, C × H.

    Davidson (1970), "On extending the Bradley-Terry model to accommodate ties in paired comparison experiments":
    with strengths e^a and e^b, a tie has weight ν·sqrt(e^a e^b).
    """
    logits_CH3 = torch.stack([reward_a_CH, reward_b_CH, log_tie + (reward_a_CH + reward_b_CH) / 2], dim=-1)
    log_probability_CH3 = logits_CH3.log_softmax(-1)
    index_CH1 = outcome_C[:, None, None].expand(*log_probability_CH3.shape[:2], 1)
    return log_probability_CH3.gather(-1, index_CH1).squeeze(-1)


def preference_loss(log_probability_CH: Tensor, *, context_C: Tensor, weight_CH: Tensor) -> Tensor:
    """Return the negative log probability of a comparison, averaged within each context, then over contexts and heads.

    Ouyang et al. (2022), "Training language models to follow instructions", eq. 1: all comparisons of one context
    count together as one, so that a context with many judgments does not dominate.

    Args:
        log_probability_CH: from `outcome_log_probability`.
        context_C: which context each comparison belongs to, numbered from 0 within the batch.
        weight_CH: bootstrap weights of each comparison for each head (0 leaves it out for that head).

    """
    contexts = int(context_C.max()) + 1
    size_G1 = torch.bincount(context_C, minlength=contexts)[:, None].clamp(min=1)
    loss_GH = torch.zeros(contexts, log_probability_CH.shape[1], dtype=log_probability_CH.dtype)
    weight_GH = torch.zeros_like(loss_GH)
    loss_GH = loss_GH.index_add(0, context_C, -log_probability_CH * weight_CH) / size_G1
    weight_GH = weight_GH.index_add(0, context_C, weight_CH.to(weight_GH.dtype)) / size_G1
    return loss_GH.sum() / weight_GH.sum().clamp(min=1)


def bootstrap_weights(piece_ids: list[str], heads: int, *, seed: int) -> Tensor:
    """Return one Poisson(1) weight per piece and head, C × H: comparisons of one piece share it.

    The online bootstrap of Oza and Russell (2001); whole pieces are resampled because their judgments are correlated.
    """
    generator = torch.Generator().manual_seed(seed)
    pieces = {piece: i for i, piece in enumerate(sorted(set(piece_ids)))}
    draw_PH = torch.poisson(torch.ones(len(pieces), heads), generator=generator)
    return draw_PH[torch.tensor([pieces[piece] for piece in piece_ids])]
