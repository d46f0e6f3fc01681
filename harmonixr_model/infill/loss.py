"""Cross entropy of the tokens that carry loss, in nats."""

# B batch, T tokens, K coordinates, N tokens that carry loss, M positions with logits, V vocabulary

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:  # a batch is anything with these five tensors
    from harmonixr_model.data.collate import Batch


def predicting_mask(loss_mask_BT: Tensor) -> Tensor:
    """Shift a mask over tokens to the positions that predict them: t predicts t + 1."""
    return F.pad(loss_mask_BT[:, 1:], (0, 1), value=False)


# The number of positions with logits is rounded up to a multiple of this. On a CPU every new shape of a matrix product
# compiles kernels that stay in memory: with a new shape each batch a run grew by 4 MB a step.
LOGITS_MULTIPLE = 256


def infill_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return (nats of each token that carries loss [N], those tokens [N]); every token weighs the same.

    `model` is called like InfillTransformer.forward.
    """
    predicts_BT = predicting_mask(batch.loss_mask_BT)
    chosen_BT = _rounded_up(predicts_BT)
    logits_MV = model(
        batch.tokens_BT, batch.coordinates_BTK, batch.prefix_length_B, batch.length_B, chosen_BT=chosen_BT
    )
    next_BT = F.pad(batch.tokens_BT[:, 1:], (0, 1)).long()
    has_loss_M = predicts_BT[chosen_BT]
    targets_M = next_BT[chosen_BT]
    nats_M = F.cross_entropy(logits_MV.float(), targets_M, reduction="none")
    return nats_M[has_loss_M], targets_M[has_loss_M]


def _rounded_up(mask_BT: Tensor) -> Tensor:
    """Add positions to the mask until it has a multiple of LOGITS_MULTIPLE."""
    spare = -int(mask_BT.sum()) % LOGITS_MULTIPLE
    chosen = mask_BT.flatten().clone()
    chosen[(~chosen).nonzero()[:spare, 0]] = True
    return chosen.view_as(mask_BT)
