"""Sample the next token of each row: grammar mask, temperature, top-k and top-p, with settings and a seed a row."""

# R rows, V vocabulary

from __future__ import annotations

import torch
from torch import Tensor


def uniforms(seed: int, count: int) -> Tensor:
    """Return a candidate's own random numbers, float64 [count]: its tokens never depend on the rest of the batch."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample(
    logits_RV: Tensor,
    allowed_RV: Tensor,
    *,
    uniform_R: Tensor,
    temperature_R: Tensor,
    top_k_R: Tensor,
    top_p_R: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the sampled tokens int64 [R], and their log probabilities [R] under the mask at temperature 1.

    Each row inverts its cumulative distribution at its uniform number: the same logits give the same token in any
    batch. Temperature 0 takes the likeliest allowed token.
    """
    masked_RV = logits_RV.float().masked_fill(~allowed_RV, float("-inf"))
    log_probability_RV = masked_RV.log_softmax(-1)
    is_greedy_R = temperature_R == 0
    scaled_RV = masked_RV / torch.where(is_greedy_R, 1.0, temperature_R)[:, None]
    kept_RV = keep_top(scaled_RV, top_k_R=top_k_R, top_p_R=top_p_R)
    cumulative_RV = kept_RV.double().softmax(-1).cumsum(-1)
    # Scaled by the total: a sum that rounds to less than 1 must not select past the last token.
    sampled_R = torch.searchsorted(cumulative_RV, uniform_R[:, None] * cumulative_RV[:, -1:], right=True).squeeze(-1)
    tokens_R = torch.where(is_greedy_R, masked_RV.argmax(-1), sampled_R.clamp(max=logits_RV.shape[-1] - 1))
    return tokens_R, log_probability_RV.gather(-1, tokens_R[:, None]).squeeze(-1)


def keep_top(logits_RV: Tensor, *, top_k_R: Tensor, top_p_R: Tensor) -> Tensor:
    """Set all logits but the top k, then all but the nucleus, to minus infinity.

    The nucleus (Holtzman et al. 2020) is the smallest set of the likeliest tokens whose mass reaches top_p. A top_k
    of 0 and a top_p of 1 keep all.
    """
    sorted_RV, order_RV = logits_RV.sort(dim=-1, descending=True, stable=True)
    last_R = (torch.where(top_k_R > 0, top_k_R, logits_RV.shape[-1]) - 1).clamp(max=logits_RV.shape[-1] - 1)
    is_in_top_RV = sorted_RV >= sorted_RV.gather(-1, last_R[:, None])
    probability_RV = sorted_RV.masked_fill(~is_in_top_RV, float("-inf")).softmax(-1)
    before_RV = probability_RV.cumsum(-1) - probability_RV
    is_in_nucleus_RV = (before_RV < top_p_R[:, None]) | (top_p_R[:, None] >= 1)
    dropped_RV = torch.zeros_like(is_in_top_RV).scatter(-1, order_RV, ~(is_in_top_RV & is_in_nucleus_RV))
    return logits_RV.masked_fill(dropped_RV, float("-inf"))
