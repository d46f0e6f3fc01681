"""The prefix-LM transformer: context read both ways, fill written causally. Knows nothing of files or training.

Tokens of one sequence are prefix then fill. Position t's output predicts token t + 1, so the last prefix token
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
from harmonixr_model.nn.attention import Cache, Rotation, new_cache, prefix_mask, rotation
from harmonixr_model.nn.block import Block
from harmonixr_model.nn.embedding import MusicEmbedding, PlainEmbedding


class InfillTransformer(nn.Module):
    """Pre-RMSNorm, SwiGLU, RoPE, tied embeddings; one set of weights for the whole-sequence and the cached path."""

    def __init__(self, config: InfillConfig) -> None:
        super().__init__()
        self.config = config
        # Fitted once training is done (`evaluation.pointer`); no weight that training moves.
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
        """Return the blocks with their type, which ModuleList forgets."""
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
        """Return next-token logits [B, T, V]; with a bool `chosen_BT`, those positions' alone, [N, V].

        Choosing before the output projection saves most of it: in training only the fill carries loss.
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
        """Return the normed last layer, [B, T, C]: what the logits are read from, and a trunk for other heads.

        Positions past `length_B` hold padding; what comes out there means nothing.
        """
        tokens = tokens_BT.shape[1]
        mask = prefix_mask(self._seen_whole(prefix_length_B), tokens, length_B=length_B)
        by = rotation(torch.arange(tokens, device=tokens_BT.device), self.config.head_width)
        x_BTC = self.dropout(self.embedding(tokens_BT, coordinates_BTK))
        for block in self.layers():
            x_BTC = block(x_BTC, by, mask)
        normed: Tensor = self.norm(x_BTC)
        return normed

    def _seen_whole(self, prefix_length_B: Tensor) -> Tensor:
        """Return how many tokens of each row see each other in both directions."""
        return prefix_length_B if self.config.attending == "prefix" else torch.zeros_like(prefix_length_B)

    def new_cache(self, rows: int, max_length: int, dtype: torch.dtype = torch.float32) -> Cache:
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
    def prefill(self, tokens_1P: Tensor, coordinates_1PK: Tensor, cache: Cache, row: int = 0) -> Tensor:
        """Read a whole prefix into one row of the cache; return [V], the first fill token's logits.

        `cache.copy_row` then gives the same prefix to further candidates.
        """
        x_1PC = self.embedding(tokens_1P, coordinates_1PK)
        by, mask = self._prefill_places(x_1PC)
        for block, layer in zip(self.layers(), cache.layers, strict=True):
            x_1PC = block.prefill(x_1PC, by, layer, row=row, mask=mask)
        return self.embedding.logits(self.norm(x_1PC[0, -1]))

    @torch.inference_mode()
    def prefill_by_layer(
        self, tokens_1P: Tensor, coordinates_1PK: Tensor, cache: Cache, row: int = 0
    ) -> Iterator[None]:
        """Read a prefix and give way after each layer, so that others need not wait for all.

        For those who go on from what is remembered: what the last layer makes of a prefix is left out.
        """
        x_1PC = self.embedding(tokens_1P, coordinates_1PK)
        by, mask = self._prefill_places(x_1PC)
        *lower, last = zip(self.layers(), cache.layers, strict=True)
        for block, layer in lower:
            x_1PC = block.prefill(x_1PC, by, layer, row=row, mask=mask)
            yield
        last[0].remember(x_1PC, by, last[1], row=row)
        yield

    def _prefill_places(self, x_1PC: Tensor) -> tuple[Rotation, Tensor | None]:
        """Return the rotations of a prefix's positions, and what may see what: everything where this is None."""
        tokens = x_1PC.shape[1]
        by = rotation(torch.arange(tokens, device=x_1PC.device), self.config.head_width)
        is_causal = self.config.attending == "causal"
        mask = prefix_mask(torch.zeros(1, dtype=torch.long, device=x_1PC.device), tokens) if is_causal else None
        return by, mask

    @torch.inference_mode()
    def extend(self, tokens_RT: Tensor, coordinates_RTK: Tensor, positions_R: Tensor, cache: Cache) -> Tensor:
        """Append T tokens to each of the cache's first R rows, starting at that row's own position; return [R, T, V].

        A chunk of forced tokens costs one call instead of T.
        """
        tokens = tokens_RT.shape[1]
        positions_RT = positions_R[:, None] + torch.arange(tokens, device=positions_R.device)
        held = int(positions_RT.max()) + 1
        mask_R1TL = (torch.arange(held, device=positions_R.device) <= positions_RT[:, :, None]).unsqueeze(1)
        by = rotation(positions_RT, self.config.head_width)
        x_RTC = self.embedding(tokens_RT, coordinates_RTK)
        for block, layer in zip(self.layers(), cache.layers, strict=True):
            x_RTC = block.extend(x_RTC, by, layer, positions_RT=positions_RT, mask=mask_R1TL)
        return self.embedding.logits(self.norm(x_RTC))

    def step(self, tokens_R: Tensor, coordinates_RK: Tensor, positions_R: Tensor, cache: Cache) -> Tensor:
        """Append one token to each of the cache's first R rows, each at its own position; return [R, V]."""
        return self.extend(tokens_R[:, None], coordinates_RK[:, None], positions_R, cache)[:, -1]


def _embedding(config: InfillConfig) -> PlainEmbedding:
    if not config.coordinates:
        return PlainEmbedding(config.vocabulary, config.width)
    return MusicEmbedding(config.vocabulary, config.width, **config.coordinate_sizes)


def _initialise(module: nn.Module) -> None:
    """Draw linear and embedding weights from N(0, 0.02²), as GPT-2 does; the tied matrix is both."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
