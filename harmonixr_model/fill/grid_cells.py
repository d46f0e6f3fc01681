"""The cells of a region on the grid of 24 steps a quarter."""

from __future__ import annotations

from harmonixr_model.music.region import Cell, Region
from harmonixr_model.music.score import Score
from harmonixr_model.notes.encoded_score import GridCell, split_at_bars
from harmonixr_model.notes.grid import GRID


def grid_cells(region: Region, ticks_per_quarter: int, grid_score: Score) -> list[GridCell]:
    """Return the region's cells in steps, cut at the barlines; a cell without a step is omitted."""
    cells: list[GridCell] = []
    for cell in region.cells:
        start, end = steps_of(cell, ticks_per_quarter)
        if start < end:
            whole = GridCell(cell.track, start, end, region.pitch_low, region.pitch_high)
            cells += split_at_bars(whole, grid_score.bars_until(end))
    return cells


def region_cell(region: Region, cell: GridCell, ticks_per_quarter: int) -> Cell:
    """Return the cell of the region, in ticks, that a cell of its grid belongs to."""
    for candidate in region.cells:
        start, end = steps_of(candidate, ticks_per_quarter)
        if candidate.track == cell.track and start <= cell.start < end:
            return candidate
    raise ValueError(f"{cell} is not a cell of this region")


def steps_of(cell: Cell, ticks_per_quarter: int) -> tuple[int, int]:
    """Return the first grid step of a region's cell and the step after its last."""
    return -(-cell.start * GRID // ticks_per_quarter), -(-cell.end * GRID // ticks_per_quarter)
