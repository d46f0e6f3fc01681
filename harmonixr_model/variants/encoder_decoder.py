"""An encoder-decoder: the encoder reads the prefix, and the decoder writes the fill with cross-attention to it.

It has as many parameters as InfillTransformer, for comparison (docs/experiments/architectures.md). No engine decodes
with this model.
"""

# B batch, T tokens, F tokens of the fill, P of the prefix, K coordinates, N chosen, C width, H heads, D head width

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.nn.attention import Attention, Rotation, prefix_mask, rotate, rotation
from harmonixr_model.nn.block import Block, SwiGLU, gated_width
from harmonixr_model.nn.embedding import MusicEmbedding


class CrossAttention(nn.Module):
    """Queries of the fill over keys and values of the prefix, rotated by their positions in the whole sequence."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.into = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BFC: Tensor, encoded_BPC: Tensor, by: Rotation, encoded_by: Rotation, mask: Tensor) -> Tensor:
        """Attend from [B, F, C] to [B, P, C]; `mask` is bool [B, 1, 1, P], True for the prefix."""
        queries = self._heads(self.query(x_BFC))
        keys, values = (self._heads(part) for part in self.into(encoded_BPC).chunk(2, dim=-1))
        mixed_BHFD = F.scaled_dot_product_attention(
            rotate(queries, by), rotate(keys, encoded_by), values, attn_mask=mask
        )
        projected: Tensor = self.out(mixed_BHFD.transpose(1, 2).flatten(2))
        return projected

    def _heads(self, x_BTC: Tensor) -> Tensor:
        batch, tokens, width = x_BTC.shape
        return x_BTC.view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention and a narrower feed-forward layer, with as many parameters as a Block."""

    def __init__(self, width: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.cross_attention_norm = nn.RMSNorm(width, eps=1e-6)
        self.cross_attention = CrossAttention(width, heads)
        self.feedforward_norm = nn.RMSNorm(width, eps=1e-6)
        # The 4 C² weights of the cross-attention are those of 4/3 C gated units.
        self.feedforward = SwiGLU(width, inner=gated_width(width) - round(width / 6) * 8)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x_BFC: Tensor, encoded_BPC: Tensor, by: Rotation, encoded_by: Rotation, mask: Tensor, encoded_mask: Tensor
    ) -> Tensor:
        """Run whole fills; see Attention and CrossAttention."""
        x_BFC = x_BFC + self.dropout(self.attention(self.attention_norm(x_BFC), by, mask))
        attended = self.cross_attention(self.cross_attention_norm(x_BFC), encoded_BPC, by, encoded_by, encoded_mask)
        x_BFC = x_BFC + self.dropout(attended)
        mixed: Tensor = x_BFC + self.dropout(self.feedforward(self.feedforward_norm(x_BFC)))
        return mixed


class EncoderDecoder(nn.Module):
    """Half of the layers encode, the other half decode; embedding, norms and output are InfillTransformer's."""

    def __init__(self, config: InfillConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = MusicEmbedding(config.vocabulary, config.width, **config.coordinate_sizes)
        self.dropout = nn.Dropout(config.dropout)
        encoder_layers = config.layers // 2
        width, heads, dropout = config.width, config.heads, config.dropout
        self.encoder = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(encoder_layers))
        self.encoder_norm = nn.RMSNorm(width, eps=1e-6)
        self.decoder = nn.ModuleList(
            DecoderBlock(width, heads, dropout=dropout) for _ in range(config.layers - encoder_layers)
        )
        self.norm = nn.RMSNorm(width, eps=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        nn.init.orthogonal_(self.embedding.previous.weight)
        if self.embedding.asked is not None:
            nn.init.zeros_(self.embedding.asked.weight)
        for module in self.modules():
            # Each block starts as the identity, as in InfillTransformer.
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
        """Return next-token logits as InfillTransformer.forward does; within the prefix they are undefined."""
        x_BTC = self.dropout(self.embedding(tokens_BT, coordinates_BTK))
        tokens = tokens_BT.shape[1]
        length_B = torch.full_like(prefix_length_B, tokens) if length_B is None else length_B
        encoded_BPC = self._encode(x_BTC[:, : int(prefix_length_B.max())], prefix_length_B)
        # The decoder starts at SEP, the last token of the prefix, which predicts the first of the fill.
        first_B = prefix_length_B - 1
        place_BF = first_B[:, None] + torch.arange(int((length_B - first_B).max()), device=first_B.device)
        within_BF = place_BF.clamp(max=tokens - 1)
        rows_B1 = torch.arange(len(first_B), device=first_B.device)[:, None]
        x_BFC = self._decode(x_BTC[rows_B1, within_BF], encoded_BPC, place_BF, prefix_length_B)
        hidden_BTC = x_BTC.new_zeros(x_BTC.shape).type_as(x_BFC)
        is_there_BF = place_BF < tokens
        hidden_BTC[rows_B1.expand_as(place_BF)[is_there_BF], place_BF[is_there_BF]] = x_BFC[is_there_BF]
        return self.embedding.logits(hidden_BTC if chosen_BT is None else hidden_BTC[chosen_BT])

    def _encode(self, x_BPC: Tensor, prefix_length_B: Tensor) -> Tensor:
        places = x_BPC.shape[1]
        by = rotation(torch.arange(places, device=x_BPC.device), self.config.head_width)
        mask = _is_prefix(prefix_length_B, places)
        for block in self.encoder:
            x_BPC = block(x_BPC, by, mask)
        normed: Tensor = self.encoder_norm(x_BPC)
        return normed

    def _decode(self, x_BFC: Tensor, encoded_BPC: Tensor, place_BF: Tensor, prefix_length_B: Tensor) -> Tensor:
        encoded_by = rotation(torch.arange(encoded_BPC.shape[1], device=x_BFC.device), self.config.head_width)
        by = rotation(place_BF, self.config.head_width)
        mask = prefix_mask(torch.zeros_like(prefix_length_B), x_BFC.shape[1])
        encoded_mask = _is_prefix(prefix_length_B, encoded_BPC.shape[1])
        for block in self.decoder:
            x_BFC = block(x_BFC, encoded_BPC, by, encoded_by, mask, encoded_mask)
        normed: Tensor = self.norm(x_BFC)
        return normed


def _is_prefix(prefix_length_B: Tensor, places: int) -> Tensor:
    """Return a mask of the prefix, bool [B, 1, 1, P]."""
    index = torch.arange(places, device=prefix_length_B.device)
    return (index < prefix_length_B[:, None])[:, None, None, :]
