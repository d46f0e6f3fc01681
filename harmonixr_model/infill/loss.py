"""Cross entropy of the tokens that carry loss, summed in nats. Knows nothing of optimisers or batching."""

# B batch, T tokens, N tokens that carry loss, V vocabulary

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:  # a batch is anything with these five tensors
    from harmonixr_model.data.collate import Batch


def predicting_mask(loss_mask_BT: Tensor) -> Tensor:
    """Shift a mask over tokens to the positions that predict them: t predicts t + 1, the first token is never asked."""
    return F.pad(loss_mask_BT[:, 1:], (0, 1), value=False)


def infill_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return (nats of each token that carries loss [N], those tokens [N]); every token weighs the same.

    `model` is called like InfillTransformer.forward: it may be wrapped for data-parallel training.
    """
    logits_NV = model(
        batch.tokens_BT,
        batch.coordinates_BT3,
        batch.prefix_length_B,
        batch.length_B,
        chosen_BT=predicting_mask(batch.loss_mask_BT),
    )
    # The first token of a sequence has no position before it that could predict it.
    targets_N = batch.tokens_BT[:, 1:][batch.loss_mask_BT[:, 1:]].long()
    return F.cross_entropy(logits_NV.float(), targets_N, reduction="none"), targets_N
