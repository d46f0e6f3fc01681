"""The state that every grammar of a fill has: the forced tokens before the next choice, and the cell they are in."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import TokenError
from harmonixr_model.grammar.fill_tables import FillTables
from harmonixr_model.notes.vocabulary import VOCAB

EOS = VOCAB.id("EOS")


class RowGrammar(ABC):
    """The state of one fill. `allowed` is never empty before `finished`."""

    def __init__(self, tables: FillTables) -> None:
        self.tables = tables
        self.max_duration = tables.max_duration.copy()
        self.used = 0
        self.cell = -1
        self._forced: list[int] = []  # what must come before the next choice
        self._open_next_cell()

    @property
    def finished(self) -> bool:
        """Whether EOS has been emitted."""
        return self.cell == self.tables.cells and not self._forced

    @property
    def forced(self) -> int | None:
        """The token that must come next, where there is no choice."""
        return self._forced[0] if self._forced else None

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Return which tokens may come next, bool [V]; all False once finished."""
        mask = np.zeros(VOCAB.size, dtype=bool)
        if self._forced:
            mask[self._forced[0]] = True
        elif not self.finished:
            self._allow_choices(mask)
        return mask

    def advance(self, token: int) -> None:
        """Take one token. Raises TokenError, changing nothing, where the token is not allowed."""
        if not (0 <= token < VOCAB.size and self.allowed()[token]):
            name = VOCAB.name(token)
            raise TokenError(f"{name} is not allowed as token {self.used + 1} of the fill; {self.describe_allowed()}")
        self.used += 1
        if self._forced:
            self._forced.pop(0)
        else:
            self._take_choice(token)

    def describe_allowed(self) -> str:
        """Describe which tokens may come next, for an error message."""
        names = [VOCAB.name(int(token)) for token in np.flatnonzero(self.allowed())]
        if not names:
            return "the fill is finished"
        return "allowed are " + ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")

    def _open_next_cell(self) -> None:
        self.cell += 1
        if self.cell == self.tables.cells:
            self._forced.append(EOS)
        else:
            self._forced += self.tables.headers[self.cell].tolist()
            self._open_cell()

    @abstractmethod
    def _open_cell(self) -> None:
        """Reset the state for the cell `self.cell`."""

    @abstractmethod
    def _allow_choices(self, mask: npt.NDArray[np.bool_]) -> None:
        """Set the tokens among which there is a choice."""

    @abstractmethod
    def _take_choice(self, token: int) -> None:
        """Take one of these tokens."""
