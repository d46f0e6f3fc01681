"""Draw the next token of each row: grammar mask, temperature, top-k, top-p, and a random stream per row.

Knows nothing of models, caches or music.
"""

# R rows, V vocabulary

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def row_generator(seed: int) -> torch.Generator:
    """Return a row's own random stream: what a row draws never depends on the rows beside it."""
    return torch.Generator().manual_seed(seed)


def sample(
    logits_RV: Tensor,
    allowed_RV: Tensor,
    *,
    generators: Sequence[torch.Generator],
    temperature: float,
    top_k: int,
    top_p: float,
) -> tuple[Tensor, Tensor]:
    """Return the drawn tokens int64 [R], and their log probabilities [R] under the mask at temperature 1.

    Each row takes one uniform number from its stream and inverts the cumulative distribution with it, so rows differ
    from how they would be drawn alone only where logits do. Temperature 0 takes the likeliest allowed token.
    """
    masked_RV = logits_RV.float().masked_fill(~allowed_RV, float("-inf"))
    log_probability_RV = masked_RV.log_softmax(-1)
    if temperature == 0:
        tokens_R = masked_RV.argmax(-1)
    else:
        kept_RV = keep_top(masked_RV / temperature, top_k=top_k, top_p=top_p)
        cumulative_RV = kept_RV.double().softmax(-1).cumsum(-1)
        uniform_R1 = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in generators]).to(
            logits_RV.device
        )
        # Scaled by the total: a sum that rounds to less than 1 must not point past the last token.
        tokens_R = torch.searchsorted(cumulative_RV, uniform_R1 * cumulative_RV[:, -1:], right=True).squeeze(-1)
        tokens_R = tokens_R.clamp(max=logits_RV.shape[-1] - 1)
    return tokens_R, log_probability_RV.gather(-1, tokens_R[:, None]).squeeze(-1)


def keep_top(logits_RV: Tensor, *, top_k: int, top_p: float) -> Tensor:
    """Return the logits with all but the top-k, then all but the nucleus of mass top-p, at minus infinity.

    The nucleus (Holtzman et al. 2020) is the smallest set of the likeliest tokens whose mass reaches top_p.
    """
    if top_k > 0:
        least_R1 = logits_RV.topk(min(top_k, logits_RV.shape[-1]), dim=-1).values[:, -1:]
        logits_RV = logits_RV.masked_fill(logits_RV < least_R1, float("-inf"))
    if top_p < 1:
        sorted_RV, order_RV = logits_RV.sort(dim=-1, descending=True, stable=True)
        probability_RV = sorted_RV.softmax(-1)
        before_RV = probability_RV.cumsum(-1) - probability_RV
        dropped_RV = torch.zeros_like(before_RV, dtype=torch.bool).scatter(-1, order_RV, before_RV >= top_p)
        logits_RV = logits_RV.masked_fill(dropped_RV, float("-inf"))
    return logits_RV
