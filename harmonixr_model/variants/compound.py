"""One step a note in place of one a token: its fields go in as a sum and come out one after another from one state.

Said are the same tokens, so that bits a note compare with those of the flat sequence. Made for that comparison
(docs/experiments/architectures.md): the engine does not decode with it and no checkpoint holds it.
"""

# B batch, T steps, S = 4 fields of a step: position, pitch, duration, velocity; K coordinates, N asked steps, C width

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor, nn

from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.nn.block import SwiGLU
from harmonixr_model.nn.embedding import MusicEmbedding
from harmonixr_model.notes.vocabulary import VOCAB

FIELDS = (VOCAB.position, VOCAB.pitch, VOCAB.duration, VOCAB.velocity)
NOTHING = VOCAB.id("PAD")  # a field that a step does not say

Tokens = npt.NDArray[np.int32]


def _fields() -> npt.NDArray[np.int8]:
    field = np.full(VOCAB.size, -1, dtype=np.int8)
    for number, block in enumerate(FIELDS):
        field[block.start : block.stop] = number
    return field


_FIELD = _fields()


def steps_of(tokens: Tokens, loss_mask: npt.NDArray[np.bool_]) -> tuple[Tokens, npt.NDArray[np.int64]]:
    """Return the steps int32 [T, S] that say a flat sequence, and where each begins in it.

    A step holds tokens that follow each other in the order of FIELDS and are all asked or all given; any other token
    is a step of its own, in the first field. Nothing is lost: `tokens_of` gives the sequence back.
    """
    steps: list[list[int]] = []
    starts: list[int] = []
    last = len(FIELDS)
    for place, token in enumerate(tokens.tolist()):
        field = int(_FIELD[token])
        if field <= last or loss_mask[place] != loss_mask[place - 1]:
            steps.append([NOTHING] * len(FIELDS))
            starts.append(place)
        steps[-1][max(field, 0)] = token
        # After a token that is no field nothing may join.
        last = field if field >= 0 else len(FIELDS)
    return np.array(steps, dtype=np.int32), np.array(starts)


def tokens_of(steps: Tokens) -> Tokens:
    """Return the flat sequence that steps say."""
    said: Tokens = steps[steps != NOTHING]
    return said


class StepEmbedding(MusicEmbedding):
    """MusicEmbedding for steps: the sum of what their fields say, at the place of their last token."""

    def forward(self, tokens_BTS: Tensor, coordinates_BTK: Tensor) -> Tensor:
        """Embed [B, T, S] and [B, T, K] as [B, T, C]."""
        said_BTSC = self.token(tokens_BTS) * (tokens_BTS != NOTHING).unsqueeze(-1)
        said: Tensor = said_BTSC.sum(-2)
        return self.embed_place(coordinates_BTK) + self.embed_previous(coordinates_BTK) + said


class CompoundTransformer(nn.Module):
    """InfillTransformer over steps, and for each further field a small layer that reads the fields before it."""

    def __init__(self, config: InfillConfig) -> None:
        super().__init__()
        self.trunk = InfillTransformer(config)
        embedding = StepEmbedding(config.vocabulary, config.width, **config.coordinate_sizes)
        embedding.load_state_dict(self.trunk.embedding.state_dict())
        self.trunk.embedding = embedding
        self.norms = nn.ModuleList(nn.RMSNorm(config.width, eps=1e-6) for _ in FIELDS[1:])
        self.further = nn.ModuleList(SwiGLU(config.width, inner=config.width // 2) for _ in FIELDS[1:])
        for layer in self.further.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)

    def nats(
        self,
        tokens_BTS: Tensor,
        coordinates_BTK: Tensor,
        prefix_length_B: Tensor,
        length_B: Tensor,
        loss_mask_BT: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return (nats of each asked step [N], its fields [N, S]); to say nothing in a field costs bits as well."""
        hidden_BTC = self.trunk.hidden(tokens_BTS, coordinates_BTK, prefix_length_B, length_B)
        asked_BT = F.pad(loss_mask_BT[:, 1:], (0, 1), value=False)
        targets_NS = tokens_BTS[:, 1:][loss_mask_BT[:, 1:]].long()
        hidden_NC = hidden_BTC[asked_BT]
        embedding = self.trunk.embedding
        nats_N = F.cross_entropy(embedding.logits(hidden_NC).float(), targets_NS[:, 0], reduction="none")
        read_NC = hidden_NC
        for number, (norm, layer) in enumerate(zip(self.norms, self.further, strict=True)):
            read_NC = read_NC + embedding.token(targets_NS[:, number])
            logits_NV = embedding.logits(hidden_NC + layer(norm(read_NC))).float()
            nats_N = nats_N + F.cross_entropy(logits_NV, targets_NS[:, number + 1], reduction="none")
        return nats_N, targets_NS
