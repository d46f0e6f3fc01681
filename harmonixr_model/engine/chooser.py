"""The seam between logits and the next tokens: every row's grammar, settings and random stream.

`PlainChooser` asks the scalar grammar row by row and draws with PyTorch: the reference, and what runs where there is no
C++ compiler. Knows nothing of models or queues.
"""

# R rows, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harmonixr_model.engine.row import Row
from harmonixr_model.infill.sample import sample, uniforms
from harmonixr_model.tokens.grammar import FillGrammar


class Chooser(Protocol):
    """Says what comes next in each row; what is forced after it is taken with it. Places are as in `Runner`."""

    def join(self, place: int, row: Row) -> None:
        """Take a row at its first choice to `place`, the first free one."""
        ...

    def leave(self, place: int, last: int) -> None:
        """Forget the row at `place`; the one at `last`, the last place, moves there."""
        ...

    def choose(self, logits_RV: Tensor, places: Sequence[int]) -> list[tuple[int, float]]:
        """Return (token, its log probability) for the rows at `places`, whose logits are the rows of [R, V]."""
        ...


class PlainChooser:
    """One FillGrammar a row."""

    def __init__(self) -> None:
        self._rows: list[_Chosen] = []

    def join(self, place: int, row: Row) -> None:
        """Take a row at its first choice."""
        self._rows[place:] = [_Chosen(row)]

    def leave(self, place: int, last: int) -> None:
        """Forget a row; the last one moves there."""
        self._rows[place] = self._rows[last]
        del self._rows[last:]

    @torch.inference_mode()
    def choose(self, logits_RV: Tensor, places: Sequence[int]) -> list[tuple[int, float]]:
        """Return (token, its log probability) for the rows at `places`."""
        rows = [self._rows[place] for place in places]
        device = logits_RV.device
        tokens_R, log_probability_R = sample(
            logits_RV,
            torch.from_numpy(np.stack([row.grammar.allowed() for row in rows])).to(device),
            uniform_R=torch.tensor([row.next_uniform() for row in rows], dtype=torch.float64, device=device),
            temperature_R=torch.tensor([row.sampling.temperature for row in rows], device=device),
            top_k_R=torch.tensor([row.sampling.top_k for row in rows], device=device),
            top_p_R=torch.tensor([row.sampling.top_p for row in rows], device=device),
        )
        drawn = list(zip(tokens_R.tolist(), log_probability_R.tolist(), strict=True))
        for row, (token, _) in zip(rows, drawn, strict=True):
            row.take(token)
        return drawn


class _Chosen:
    """A row's grammar and stream."""

    def __init__(self, row: Row) -> None:
        self.sampling = row.sampling
        self.grammar = FillGrammar(row.prompt.rules)
        self._uniforms = iter(uniforms(row.seed, row.prompt.rules.max_tokens).tolist())
        self._take_forced()

    def next_uniform(self) -> float:
        uniform: float = next(self._uniforms)
        return uniform

    def take(self, token: int) -> None:
        self.grammar.advance(token)
        self._take_forced()

    def _take_forced(self) -> None:
        while (token := self.grammar.forced) is not None:
            self.grammar.advance(token)
