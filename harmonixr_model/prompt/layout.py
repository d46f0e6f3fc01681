"""A gap of a song as tokens: its prefix, the headers of its fill, and the tables that its fill must keep."""

# P prefix tokens, F fill tokens, K coordinates

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harmonixr_model.grammar.fill_tables import FillTables
from harmonixr_model.notes.encoded_score import GridCell
from harmonixr_model.prompt.coordinates import coordinates_of_tokens
from harmonixr_model.prompt.copy_pointer import CopySource


@dataclass(frozen=True, slots=True)
class InfillLayout:
    """A gap and its context as tokens; all that training needs."""

    prefix: npt.NDArray[np.int32]  # [P], BOS … SEP
    coordinates: npt.NDArray[np.int16]  # [P, K] of the prefix
    cells: tuple[GridCell, ...]  # in fill order: bars outer, tracks inner
    headers: tuple[tuple[int, ...], ...]  # for each cell FILL BARIDX TRACK [HIDDEN_…] [controls] [HOLD PITCH DUR]*
    bar_starts: tuple[int, ...]  # for each cell the absolute step at which its bar begins
    gap_bar: int  # number of bars in the prefix before the gap's first bar
    slots: tuple[int, ...]  # score track of each TRACK_j, in order

    @property
    def is_conditional(self) -> bool:
        """Whether any cell has attribute controls or fills a single field of known notes."""
        return any(cell.header_tokens for cell in self.cells)

    @property
    def cell_steps(self) -> tuple[int, ...]:
        """The lengths of the cells in steps."""
        return tuple(cell.end - cell.start for cell in self.cells)

    def fill_coordinates(self, fill_tokens: npt.ArrayLike) -> npt.NDArray[np.int16]:
        """Return the coordinates int16 [F, K] of a fill; SEP resets all coordinates, so they need no prefix."""
        return coordinates_of_tokens(fill_tokens, gap_bar=self.gap_bar, cell_steps=self.cell_steps)


@dataclass(frozen=True, slots=True)
class InfillPrompt(InfillLayout):
    """A layout, the tables of its grammar, and the sources of the copy pointer; all that decoding needs."""

    tables: FillTables
    copy_sources: tuple[CopySource, ...] = ()
    is_drums: bool = False  # whether all cells are of drum tracks
