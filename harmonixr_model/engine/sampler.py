"""Choose the next token of each row from logits: copy pointer, grammar mask, temperature, top-k and top-p.

`TorchSampler` uses the Python grammar and PyTorch. It is the reference, and runs where there is no C++ compiler.
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
    """Holds the grammar, the copy pointer and the random stream of each row."""

    def join(self, row: Row) -> None:
        """Add a new row."""
        ...

    def leave(self, row: Row) -> None:
        """Remove a row."""
        ...

    def sample(self, logits_RV: Tensor, rows: Sequence[Row]) -> list[tuple[int, float]]:
        """Return (token, its log probability) for each row, and advance its grammar by that and the forced tokens."""
        ...


class TorchSampler:
    """Sample with PyTorch. `gate` weighs the copy pointer; without it there is none."""

    def __init__(self, *, gate: CopyGate | None = None) -> None:
        self._gate = gate
        self._states: dict[Row, _SamplerState] = {}

    def join(self, row: Row) -> None:
        """Add a new row."""
        self._states[row] = _SamplerState(row)

    def leave(self, row: Row) -> None:
        """Remove a row."""
        del self._states[row]

    @torch.inference_mode()
    def sample(self, logits_RV: Tensor, rows: Sequence[Row]) -> list[tuple[int, float]]:
        """Return (token, its log probability) for each row; changes the logits in place."""
        states = [self._states[row] for row in rows]
        device = logits_RV.device
        if self._gate is not None:
            copy_strength = [row.sampling.copy_strength for row in rows]
            logits_RV = self._gate.mix(logits_RV, [state.guess() for state in states], copy_strength=copy_strength)
        tokens_R, log_probability_R = sample(
            logits_RV,
            torch.from_numpy(np.stack([state.grammar.allowed() for state in states])).to(device),
            uniform_R=torch.tensor([next(state.uniforms) for state in states], dtype=torch.float64, device=device),
            temperature_R=torch.tensor([row.temperature for row in rows], device=device),
            top_k_R=torch.tensor([row.sampling.top_k for row in rows], device=device),
            top_p_R=torch.tensor([row.sampling.top_p for row in rows], device=device),
        )
        sampled = list(zip(tokens_R.tolist(), log_probability_R.tolist(), strict=True))
        for state, (token, _) in zip(states, sampled, strict=True):
            state.advance(token)
        return sampled


class SplitSampler:
    """Use the compiled sampler for note fills and the Python one for single-field fills, which are few and short."""

    def __init__(self, native: Sampler, python: Sampler) -> None:
        self._native, self._python = native, python

    def join(self, row: Row) -> None:
        """Add a new row."""
        self._of(row).join(row)

    def leave(self, row: Row) -> None:
        """Remove a row."""
        self._of(row).leave(row)

    def sample(self, logits_RV: Tensor, rows: Sequence[Row]) -> list[tuple[int, float]]:
        """Return (token, its log probability) for each row."""
        sampled: dict[Row, tuple[int, float]] = {}
        for sampler in (self._native, self._python):
            index = [i for i, row in enumerate(rows) if self._of(row) is sampler]
            if index:
                own = [rows[i] for i in index]
                logits = logits_RV if len(own) == len(rows) else logits_RV[index]
                sampled.update(zip(own, sampler.sample(logits, own), strict=True))
        return [sampled[row] for row in rows]

    def _of(self, row: Row) -> Sampler:
        return self._python if row.prompt.tables.attributes else self._native


class _SamplerState:
    """The grammar, the copy pointer and the random numbers of one row."""

    def __init__(self, row: Row) -> None:
        self.uniforms = iter(uniforms(row.seed, row.prompt.tables.max_tokens).tolist())
        passages = row.prompt.copy_sources if row.sampling.copy_strength else ()
        self._pointers = CopyPointer(passages) if passages else None
        self._cells = iter(range(row.prompt.tables.cells))
        self._open_cell()
        self.grammar = open_grammar(row.prompt.tables)
        self._advance_forced()

    def guess(self) -> Guess | None:
        """Return the copy pointer's guess of the next token."""
        return None if self._pointers is None else self._pointers.guess()

    def advance(self, token: int) -> None:
        """Advance by a sampled token and the forced tokens after it."""
        self.grammar.advance(token)
        if self._pointers is not None:
            self._pointers.advance(token)
            if token == END:
                self._open_cell()
        self._advance_forced()

    def _open_cell(self) -> None:
        cell = next(self._cells, None)
        if self._pointers is not None and cell is not None:
            self._pointers.open_cell(cell)

    def _advance_forced(self) -> None:
        while (token := self.grammar.forced) is not None:
            self.grammar.advance(token)
