"""The grammar of all rows of a run, behind one seam: row by row on a processor, as tensors on an accelerator.

Measured on a processor, the tensors take twice as long as the rows one by one (5.3 against 2.9 ms a step for 32 rows):
a row alone skips every branch it is not in. On an accelerator they save the way there and back.
"""

# R rows, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harmonixr_model.infill.fill_states import FillStates
from harmonixr_model.tokens.grammar import FillGrammar
from harmonixr_model.tokens.rules import GrammarRules


class Masks(Protocol):
    """What may come next in the first `rows` rows. Forced tokens are never asked for: they follow by themselves."""

    rows: int

    def mask(self) -> Tensor:
        """Return which tokens may come next, bool [R, V]."""
        ...

    def advance(self, tokens_R: Tensor) -> None:
        """Take one token a row, and what it forces."""
        ...

    def move(self, source: int, target: int) -> None:
        """Put row `source` in the place of row `target`."""
        ...


class ScalarMasks:
    """Masks by one FillGrammar a row."""

    def __init__(self, rules: Sequence[GrammarRules]) -> None:
        self.rows = len(rules)
        self._grammars = [FillGrammar(rule) for rule in rules]
        for grammar in self._grammars:
            _force(grammar)

    def mask(self) -> Tensor:
        """Return which tokens may come next, bool [R, V]."""
        return torch.from_numpy(np.stack([grammar.allowed() for grammar in self._grammars[: self.rows]]))

    def advance(self, tokens_R: Tensor) -> None:
        """Take one token a row, and what it forces."""
        for grammar, token in zip(self._grammars, tokens_R.tolist(), strict=False):
            grammar.advance(token)
            _force(grammar)

    def move(self, source: int, target: int) -> None:
        """Put row `source` in the place of row `target`."""
        self._grammars[target] = self._grammars[source]


def open_masks(rules: Sequence[GrammarRules], *, device: torch.device) -> Masks:
    """Return the masks that are quicker on this device."""
    return ScalarMasks(rules) if device.type == "cpu" else FillStates(rules, device=device)


def _force(grammar: FillGrammar) -> None:
    while (token := grammar.forced) is not None:
        grammar.advance(token)
