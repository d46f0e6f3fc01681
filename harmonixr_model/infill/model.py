"""The infill transformer: a prefix-LM that reads the context bidirectionally and writes the fill causally.

A sequence is the prefix, then the fill. The output at position t predicts token t + 1, so the last token of the prefix
predicts the first of the fill.
"""

# B batch, R rows of a cache, T tokens, K coordinates, P prefix tokens, L tokens attended to, N chosen positions
# C width, V vocabulary

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.copy_gate import CopyGate
from harmonixr_model.nn.attention import KVCache, new_cache, prefix_mask, rotation
from harmonixr_model.nn.block import Block
from harmonixr_model.nn.embedding import MusicEmbedding, PlainEmbedding


class InfillTransformer(nn.Module):
    """A transformer with pre-RMSNorm, SwiGLU, RoPE and tied embeddings, for whole sequences and with a KV cache."""

    def __init__(self, config: InfillConfig) -> None:
        super().__init__()
        self.config = config
        # Fitted after training, by `evaluation.fit_copy_gate`.
        self.copy_gate: CopyGate | None = None
        self.embedding = _embedding(config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, dropout=config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.RMSNorm(config.width, eps=1e-6)
        self.apply(_initialise)
        if isinstance(self.embedding, MusicEmbedding):
            nn.init.orthogonal_(self.embedding.previous.weight)
            if self.embedding.asked is not None:
                nn.init.zeros_(self.embedding.asked.weight)
        for block in self.layers():
            # Each block starts as the identity (Zhang et al. 2019, Fixup): deeper models take the same learning rate.
            nn.init.zeros_(block.attention.out.weight)
            nn.init.zeros_(block.feedforward.out.weight)

    def layers(self) -> list[Block]:
        """Return the blocks, typed."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def forward(
        self,
        tokens_BT: Tensor,
        coordinates_BTK: Tensor,
        prefix_length_B: Tensor,
        length_B: Tensor | None = None,
        *,
        chosen_BT: Tensor | None = None,
    ) -> Tensor:
        """Return next-token logits [B, T, V]; with a bool mask `chosen_BT`, only those of its positions, [N, V].

        The mask saves most of the output projection in training, where only the fill carries loss.
        """
        hidden_BTC = self.hidden(tokens_BT, coordinates_BTK, prefix_length_B, length_B)
        return self.embedding.logits(hidden_BTC if chosen_BT is None else hidden_BTC[chosen_BT])

    def hidden(
        self,
        tokens_BT: Tensor,
        coordinates_BTK: Tensor,
        prefix_length_B: Tensor,
        length_B: Tensor | None = None,
    ) -> Tensor:
        """Return the normalised output of the last layer, [B, T, C]: the input of the logits and of other heads.

        Positions past `length_B` are padding, and their outputs are undefined.
        """
        tokens = tokens_BT.shape[1]
        mask = prefix_mask(self._bidirectional_length(prefix_length_B), tokens, length_B=length_B)
        by = rotation(torch.arange(tokens, device=tokens_BT.device), self.config.head_width)
        x_BTC = self.dropout(self.embedding(tokens_BT, coordinates_BTK))
        for block in self.layers():
            x_BTC = block(x_BTC, by, mask)
        normed: Tensor = self.norm(x_BTC)
        return normed

    def _bidirectional_length(self, prefix_length_B: Tensor) -> Tensor:
        """Return how many tokens of each row attend to each other in both directions."""
        return prefix_length_B if self.config.attending == "prefix" else torch.zeros_like(prefix_length_B)

    def new_cache(self, rows: int, max_length: int, dtype: torch.dtype = torch.float32) -> KVCache:
        """Allocate keys and values for `rows` sequences of at most `max_length` tokens, on the model's device."""
        return new_cache(
            self.config.layers,
            rows,
            heads=self.config.heads,
            max_length=max_length,
            head_width=self.config.head_width,
            dtype=dtype,
            device=self.norm.weight.device,
        )

    @torch.inference_mode()
    def prefill(self, tokens_1P: Tensor, coordinates_1PK: Tensor, cache: KVCache, row: int = 0) -> Iterator[None]:
        """Read a prefix into a row of the cache, yielding after each layer so that running rows need not wait.

        The output of the last layer is not computed: the first tokens of a fill are forced.
        """
        x_1PC = self.embedding(tokens_1P, coordinates_1PK)
        tokens = x_1PC.shape[1]
        by = rotation(torch.arange(tokens, device=x_1PC.device), self.config.head_width)
        is_causal = self.config.attending == "causal"
        mask = prefix_mask(torch.zeros(1, dtype=torch.long, device=x_1PC.device), tokens) if is_causal else None
        *lower, last = zip(self.layers(), cache.layers, strict=True)
        for block, layer in lower:
            x_1PC = block.prefill(x_1PC, by, layer, row=row, mask=mask)
            yield
        last[0].write_cache(x_1PC, by, last[1], row=row)
        yield

    @torch.inference_mode()
    def extend(self, tokens_RT: Tensor, coordinates_RTK: Tensor, positions_R: Tensor, cache: KVCache) -> Tensor:
        """Append T tokens to each of the cache's first R rows, starting at that row's own position; return [R, T, V].

        A chunk of T forced tokens is one call.
        """
        tokens = tokens_RT.shape[1]
        positions_RT = positions_R[:, None] + torch.arange(tokens, device=positions_R.device)
        length = int(positions_RT.max()) + 1
        mask_R1TL = (torch.arange(length, device=positions_R.device) <= positions_RT[:, :, None]).unsqueeze(1)
        by = rotation(positions_RT, self.config.head_width)
        x_RTC = self.embedding(tokens_RT, coordinates_RTK)
        for block, layer in zip(self.layers(), cache.layers, strict=True):
            x_RTC = block.extend(x_RTC, by, layer, positions_RT=positions_RT, mask=mask_R1TL)
        return self.embedding.logits(self.norm(x_RTC))


def _embedding(config: InfillConfig) -> PlainEmbedding:
    if not config.coordinates:
        return PlainEmbedding(config.vocabulary, config.width)
    return MusicEmbedding(config.vocabulary, config.width, **config.coordinate_sizes)


def _initialise(module: nn.Module) -> None:
    """Initialise linear and embedding weights from N(0, 0.02²), as GPT-2 does."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
