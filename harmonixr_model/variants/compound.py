"""A transformer over compound steps: one step is a note instead of a token.

The input of a step is the sum of its fields' embeddings; its output predicts the fields one after another. The tokens
are those of the flat sequence, so that bits per note are comparable (docs/experiments/architectures.md). No engine
decodes with this model.
"""

# B batch, T steps, S = 4 fields of a step: position, pitch, duration, velocity; K coordinates, N target steps, C width

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
EMPTY = VOCAB.id("PAD")  # a field without a token

Tokens = npt.NDArray[np.int32]


def _field_numbers() -> npt.NDArray[np.int8]:
    field = np.full(VOCAB.size, -1, dtype=np.int8)
    for number, block in enumerate(FIELDS):
        field[block.start : block.stop] = number
    return field


_FIELD = _field_numbers()


def compound_steps(tokens: Tokens, loss_mask: npt.NDArray[np.bool_]) -> tuple[Tokens, npt.NDArray[np.int64]]:
    """Return the steps int32 [T, S] of a flat sequence, and the index of each step's first token.

    A step holds consecutive tokens in the order of FIELDS, either all targets or all context. Any other token is a step
    of its own, in the first field. The tokens that are not EMPTY are the flat sequence.
    """
    steps: list[list[int]] = []
    starts: list[int] = []
    last = len(FIELDS)
    for index, token in enumerate(tokens.tolist()):
        field = int(_FIELD[token])
        if field <= last or loss_mask[index] != loss_mask[index - 1]:
            steps.append([EMPTY] * len(FIELDS))
            starts.append(index)
        steps[-1][max(field, 0)] = token
        # No token joins the step of a token that is no field.
        last = field if field >= 0 else len(FIELDS)
    return np.array(steps, dtype=np.int32), np.array(starts)


class StepEmbedding(MusicEmbedding):
    """MusicEmbedding for steps: the sum of the fields' embeddings, with the coordinates of the last field."""

    def forward(self, tokens_BTS: Tensor, coordinates_BTK: Tensor) -> Tensor:
        """Embed [B, T, S] and [B, T, K] as [B, T, C]."""
        fields_BTSC = self.token(tokens_BTS) * (tokens_BTS != EMPTY).unsqueeze(-1)
        embedded: Tensor = fields_BTSC.sum(-2)
        return self.embed_place(coordinates_BTK) + self.embed_previous(coordinates_BTK) + embedded


class CompoundTransformer(nn.Module):
    """InfillTransformer over steps, with a small layer for each further field that reads the fields before it."""

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

    def losses(
        self,
        tokens_BTS: Tensor,
        coordinates_BTK: Tensor,
        prefix_length_B: Tensor,
        length_B: Tensor,
        loss_mask_BT: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return (nats of each target step [N], its fields [N, S]); an empty field costs bits as well."""
        hidden_BTC = self.trunk.hidden(tokens_BTS, coordinates_BTK, prefix_length_B, length_B)
        predicts_BT = F.pad(loss_mask_BT[:, 1:], (0, 1), value=False)
        targets_NS = tokens_BTS[:, 1:][loss_mask_BT[:, 1:]].long()
        hidden_NC = hidden_BTC[predicts_BT]
        embedding = self.trunk.embedding
        nats_N = F.cross_entropy(embedding.logits(hidden_NC).float(), targets_NS[:, 0], reduction="none")
        read_NC = hidden_NC
        for number, (norm, layer) in enumerate(zip(self.norms, self.further, strict=True)):
            read_NC = read_NC + embedding.token(targets_NS[:, number])
            logits_NV = embedding.logits(hidden_NC + layer(norm(read_NC))).float()
            nats_N = nats_N + F.cross_entropy(logits_NV, targets_NS[:, number + 1], reduction="none")
        return nats_N, targets_NS
