"""The seam between logits and the next tokens: every row's grammar, pointers, settings and random stream.

`TorchSampler` asks the scalar grammar row by row and draws with PyTorch: the reference, and what runs where there is no
C++ compiler. Knows nothing of models or queues.
"""

# R rows, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harmonixr_model.engine.row import END, Row
from harmonixr_model.grammar.fill_grammar import open_grammar
from harmonixr_model.infill.copy_gate import CopyGate
from harmonixr_model.infill.sample import sample, uniforms
from harmonixr_model.prompt.copy_pointer import CopyPointer, Guess


class Sampler(Protocol):
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


class TorchSampler:
    """One grammar a row, and its pointers. `gate` says how far these are believed; without it none speak."""

    def __init__(self, *, gate: CopyGate | None = None) -> None:
        self._gate = gate
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
        if self._gate is not None:
            copy_strength = [row.sampling.copy_strength for row in rows]
            logits_RV = self._gate.mix(logits_RV, [row.guess() for row in rows], copy_strength=copy_strength)
        tokens_R, log_probability_R = sample(
            logits_RV,
            torch.from_numpy(np.stack([row.grammar.allowed() for row in rows])).to(device),
            uniform_R=torch.tensor([row.next_uniform() for row in rows], dtype=torch.float64, device=device),
            temperature_R=torch.tensor([row.temperature for row in rows], device=device),
            top_k_R=torch.tensor([row.sampling.top_k for row in rows], device=device),
            top_p_R=torch.tensor([row.sampling.top_p for row in rows], device=device),
        )
        drawn = list(zip(tokens_R.tolist(), log_probability_R.tolist(), strict=True))
        for row, (token, _) in zip(rows, drawn, strict=True):
            row.take(token)
        return drawn


class SplitSampler:
    """Two choosers side by side: one for attribute-only fills, one for all others."""

    def __init__(self, chooser: Sampler, asked: Sampler) -> None:
        self._parts = (chooser, asked)
        self._counts = [0, 0]
        self._where: list[tuple[int, int]] = []  # of each place: which part, and its place there

    def join(self, place: int, row: Row) -> None:
        """Take a row at its first choice."""
        part = int(row.prompt.tables.attributes is not None)
        self._parts[part].join(self._counts[part], row)
        self._where[place:] = [(part, self._counts[part])]
        self._counts[part] += 1

    def leave(self, place: int, last: int) -> None:
        """Forget a row; the last one moves there."""
        part, inner = self._where[place]
        self._counts[part] -= 1
        self._parts[part].leave(inner, self._counts[part])
        self._where[self._where.index((part, self._counts[part]))] = part, inner
        self._where[place] = self._where[last]
        del self._where[last:]

    def choose(self, logits_RV: Tensor, places: Sequence[int]) -> list[tuple[int, float]]:
        """Return (token, its log probability) for the rows at `places`."""
        chosen: dict[int, tuple[int, float]] = {}
        for part, chooser in enumerate(self._parts):
            inside = [(self._where[place][1], i) for i, place in enumerate(places) if self._where[place][0] == part]
            if not inside:
                continue
            inner, rows = zip(*sorted(inside), strict=True)
            is_all = len(rows) == len(places) and list(rows) == sorted(rows)
            drawn = chooser.choose(logits_RV if is_all else logits_RV[list(rows)], list(inner))
            chosen.update(zip(rows, drawn, strict=True))
        return [chosen[i] for i in range(len(places))]


class _Chosen:
    """A row's grammar, pointers and stream."""

    def __init__(self, row: Row) -> None:
        self.sampling, self.temperature = row.sampling, row.temperature
        recalled = row.prompt.copy_sources if row.sampling.copy_strength else ()
        self._pointers = CopyPointer(recalled) if recalled else None
        # Those that no pointer has come to.
        self._cells = list(range(row.prompt.tables.cells))
        if self._pointers is not None:
            self._pointers.open_cell(self._cells.pop(0))
        self.grammar = open_grammar(row.prompt.tables)
        self._uniforms = iter(uniforms(row.seed, row.prompt.tables.max_tokens).tolist())
        self._take_forced()

    def next_uniform(self) -> float:
        uniform: float = next(self._uniforms)
        return uniform

    def guess(self) -> Guess | None:
        return None if self._pointers is None else self._pointers.guess()

    def take(self, token: int) -> None:
        self.grammar.advance(token)
        if self._pointers is not None:
            self._pointers.advance(token)
            if token == END and self._cells:
                self._pointers.open_cell(self._cells.pop(0))
        self._take_forced()

    def _take_forced(self) -> None:
        while (token := self.grammar.forced) is not None:
            self.grammar.advance(token)
