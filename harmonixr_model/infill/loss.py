"""Cross entropy of the tokens that carry loss, summed in nats. Knows nothing of optimisers or batching."""

# B batch, T tokens, K coordinates, N tokens that carry loss, M positions asked for logits, V vocabulary

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:  # a batch is anything with these five tensors
    from harmonixr_model.data.collate import Batch


def predicting_mask(loss_mask_BT: Tensor) -> Tensor:
    """Shift a mask over tokens to the positions that predict them: t predicts t + 1, the first token is never asked."""
    return F.pad(loss_mask_BT[:, 1:], (0, 1), value=False)


# Asked positions are rounded up to a multiple of this. On a CPU every new shape of a matrix product compiles kernels
# that are kept: with one shape a batch a run was seen to grow by 4 MB a step.
CHOSEN_MULTIPLE = 256


def infill_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return (nats of each token that carries loss [N], those tokens [N]); every token weighs the same.

    `model` is called like InfillTransformer.forward.
    """
    asked_BT = predicting_mask(batch.loss_mask_BT)
    chosen_BT = _rounded_up(asked_BT)
    logits_MV = model(
        batch.tokens_BT, batch.coordinates_BTK, batch.prefix_length_B, batch.length_B, chosen_BT=chosen_BT
    )
    next_BT = F.pad(batch.tokens_BT[:, 1:], (0, 1)).long()
    is_asked_M = asked_BT[chosen_BT]
    targets_M = next_BT[chosen_BT]
    nats_M = F.cross_entropy(logits_MV.float(), targets_M, reduction="none")
    return nats_M[is_asked_M], targets_M[is_asked_M]


def _rounded_up(asked_BT: Tensor) -> Tensor:
    """Choose some further positions, whose answers are thrown away, so that a multiple of CHOSEN_MULTIPLE is asked."""
    spare = -int(asked_BT.sum()) % CHOSEN_MULTIPLE
    chosen = asked_BT.flatten().clone()
    chosen[(~chosen).nonzero()[:spare, 0]] = True
    return chosen.view_as(asked_BT)
