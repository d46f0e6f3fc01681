"""The same task for two stacks: an encoder reads the prefix, a decoder writes the fill and looks back at it.

Made to be compared with InfillTransformer at equal parameters (docs/experiments/architectures.md): it is trained and
scored, the engine does not decode with it and no checkpoint holds it.
"""

# B batch, T tokens, F places of the fill, P of the prefix, K coordinates, N chosen, C width, H heads, D head width

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.nn.attention import Attention, Rotation, prefix_mask, rotate, rotation
from harmonixr_model.nn.block import Block, SwiGLU, gated_width
from harmonixr_model.nn.embedding import MusicEmbedding


class CrossAttention(nn.Module):
    """Queries of one sequence over keys and values of another; both are turned by their places in the whole."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.into = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BFC: Tensor, read_BPC: Tensor, by: Rotation, read_by: Rotation, mask: Tensor) -> Tensor:
        """Attend from [B, F, C] to [B, P, C]; `mask` is bool [B, 1, 1, P], what there is to see."""
        queries = self._heads(self.query(x_BFC))
        keys, values = (self._heads(part) for part in self.into(read_BPC).chunk(2, dim=-1))
        mixed_BHFD = F.scaled_dot_product_attention(rotate(queries, by), rotate(keys, read_by), values, attn_mask=mask)
        projected: Tensor = self.out(mixed_BHFD.transpose(1, 2).flatten(2))
        return projected

    def _heads(self, x_BTC: Tensor) -> Tensor:
        batch, tokens, width = x_BTC.shape
        return x_BTC.view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)


class DecoderBlock(nn.Module):
    """Self-attention, attention to what was read, feed-forward; narrower there, so as to weigh what a Block does."""

    def __init__(self, width: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.reading_norm = nn.RMSNorm(width, eps=1e-6)
        self.reading = CrossAttention(width, heads)
        self.feedforward_norm = nn.RMSNorm(width, eps=1e-6)
        # The second attention's 4 C² weights are those of 4/3 C gated units.
        self.feedforward = SwiGLU(width, inner=gated_width(width) - round(width / 6) * 8)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x_BFC: Tensor, read_BPC: Tensor, by: Rotation, read_by: Rotation, mask: Tensor, read_mask: Tensor
    ) -> Tensor:
        """Run whole fills; see Attention and CrossAttention."""
        x_BFC = x_BFC + self.dropout(self.attention(self.attention_norm(x_BFC), by, mask))
        seen = self.reading(self.reading_norm(x_BFC), read_BPC, by, read_by, read_mask)
        x_BFC = x_BFC + self.dropout(seen)
        mixed: Tensor = x_BFC + self.dropout(self.feedforward(self.feedforward_norm(x_BFC)))
        return mixed


class EncoderDecoder(nn.Module):
    """Half of a config's layers read, the other half write; embedding, norms and output are InfillTransformer's."""

    def __init__(self, config: InfillConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = MusicEmbedding(config.vocabulary, config.width, **config.coordinate_sizes)
        self.dropout = nn.Dropout(config.dropout)
        reading = config.layers // 2
        width, heads, dropout = config.width, config.heads, config.dropout
        self.encoder = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(reading))
        self.encoder_norm = nn.RMSNorm(width, eps=1e-6)
        self.decoder = nn.ModuleList(
            DecoderBlock(width, heads, dropout=dropout) for _ in range(config.layers - reading)
        )
        self.norm = nn.RMSNorm(width, eps=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        nn.init.orthogonal_(self.embedding.previous.weight)
        if self.embedding.asked is not None:
            nn.init.zeros_(self.embedding.asked.weight)
        for module in self.modules():
            # As in InfillTransformer, each block starts as the identity.
            if isinstance(module, Attention | CrossAttention | SwiGLU):
                nn.init.zeros_(module.out.weight)

    def forward(
        self,
        tokens_BT: Tensor,
        coordinates_BTK: Tensor,
        prefix_length_B: Tensor,
        length_B: Tensor | None = None,
        *,
        chosen_BT: Tensor | None = None,
    ) -> Tensor:
        """Return next-token logits as InfillTransformer.forward does; within the prefix they mean nothing."""
        x_BTC = self.dropout(self.embedding(tokens_BT, coordinates_BTK))
        tokens = tokens_BT.shape[1]
        length_B = torch.full_like(prefix_length_B, tokens) if length_B is None else length_B
        read_BPC = self._read(x_BTC[:, : int(prefix_length_B.max())], prefix_length_B)
        # SEP, the prefix's last token, is where writing begins: it predicts the fill's first.
        first_B = prefix_length_B - 1
        place_BF = first_B[:, None] + torch.arange(int((length_B - first_B).max()), device=first_B.device)
        within_BF = place_BF.clamp(max=tokens - 1)
        rows_B1 = torch.arange(len(first_B), device=first_B.device)[:, None]
        x_BFC = self._write(x_BTC[rows_B1, within_BF], read_BPC, place_BF, prefix_length_B)
        hidden_BTC = x_BTC.new_zeros(x_BTC.shape).type_as(x_BFC)
        is_there_BF = place_BF < tokens
        hidden_BTC[rows_B1.expand_as(place_BF)[is_there_BF], place_BF[is_there_BF]] = x_BFC[is_there_BF]
        return self.embedding.logits(hidden_BTC if chosen_BT is None else hidden_BTC[chosen_BT])

    def _read(self, x_BPC: Tensor, prefix_length_B: Tensor) -> Tensor:
        places = x_BPC.shape[1]
        by = rotation(torch.arange(places, device=x_BPC.device), self.config.head_width)
        mask = _is_prefix(prefix_length_B, places)
        for block in self.encoder:
            x_BPC = block(x_BPC, by, mask)
        normed: Tensor = self.encoder_norm(x_BPC)
        return normed

    def _write(self, x_BFC: Tensor, read_BPC: Tensor, place_BF: Tensor, prefix_length_B: Tensor) -> Tensor:
        read_by = rotation(torch.arange(read_BPC.shape[1], device=x_BFC.device), self.config.head_width)
        by = rotation(place_BF, self.config.head_width)
        mask = prefix_mask(torch.zeros_like(prefix_length_B), x_BFC.shape[1])
        read_mask = _is_prefix(prefix_length_B, read_BPC.shape[1])
        for block in self.decoder:
            x_BFC = block(x_BFC, read_BPC, by, read_by, mask, read_mask)
        normed: Tensor = self.norm(x_BFC)
        return normed


def _is_prefix(prefix_length_B: Tensor, places: int) -> Tensor:
    """Mark the places that hold prefix, bool [B, 1, 1, P]."""
    index = torch.arange(places, device=prefix_length_B.device)
    return (index < prefix_length_B[:, None])[:, None, None, :]
