"""Controls of training examples: computed from the target, and included or left out by chance.

A model trained this way follows the controls it gets and needs none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harmonixr_model.data.masking import Mask
from harmonixr_model.music.estimate import ChordSpan, estimate_chords, estimate_key
from harmonixr_model.music.score import Bar, Note, bar_at
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.prompt.controls import TRAINED, AttributeControls, cell_tokens, request_tokens

KEY_BARS = 8  # bars on either side of the gap from which the key is estimated


@dataclass(frozen=True, slots=True)
class Tags:
    """The style and composer of a piece, None where unknown."""

    style: str | None = None
    composer: str | None = None


def sample_controls(rng: np.random.Generator, *, share: float) -> frozenset[str]:
    """Sample the controls of an example: none except in `share` of the examples."""
    has_controls = rng.random() < share
    draws = rng.random(len(TRAINED))
    return frozenset(
        name
        for draw, (name, control) in zip(draws, TRAINED.items(), strict=True)
        if has_controls and draw < control.training_chance
    )


def with_controls(full: EncodedScore, mask: Mask, names: Collection[str], *, tags: Tags | None = None) -> Mask:
    """Return the mask with controls in its cells.

    `full` includes the target: each cell's controls measure its hidden notes; chords and key come from all tracks.
    """
    if not names or not mask.cells:
        return mask
    bars = full.score.bars_until(max(cell.end for cell in mask.cells))
    chords = _chords(full, mask.cells, bars) if "chords" in names else []
    tags = tags or Tags()
    controls = AttributeControls(
        key_hint=estimate_key(_pitched(full, *_around(mask.cells, bars))) if "key" in names else None,
        style=tags.style if "style" in names else None,
        composer=tags.composer if "composer" in names else None,
    )
    shared = request_tokens(controls)
    cells = (
        replace(c, controls=shared + _cell_controls(full, c, mask, names, chords=chords, bars=bars)) for c in mask.cells
    )
    return replace(mask, cells=tuple(cells))


def _cell_controls(
    full: EncodedScore,
    cell: GridCell,
    mask: Mask,
    names: Collection[str],
    *,
    chords: Sequence[ChordSpan],
    bars: Sequence[Bar],
) -> tuple[int, ...]:
    """Return the control tokens of one cell."""
    hidden = full.hidden(cell, mask.locks)
    is_drum = full.tracks[cell.track].is_drum
    return cell_tokens(
        cell,
        {name: c.measure(hidden, cell) for name, c in TRAINED.items() if c.measure and name in names},
        chords=() if is_drum else chords,
        bar_start=bar_at(bars, cell.start).start,
    )


def _chords(full: EncodedScore, cells: Sequence[GridCell], bars: Sequence[Bar]) -> list[ChordSpan]:
    """Return the chords of the bars from the first cell's to the last one's."""
    first, last = min(cell.start for cell in cells), max(cell.end for cell in cells)
    inside = [bar for bar in bars if bar.end > first and bar.start < last]
    notes = _pitched(full, inside[0].start, inside[-1].end)
    return estimate_chords(notes, inside, ticks_per_quarter=full.score.ticks_per_quarter)


def _around(cells: Sequence[GridCell], bars: Sequence[Bar]) -> tuple[int, int]:
    first = min(cell.start for cell in cells)
    index = bar_at(bars, first).index
    longest = max(bar.end - bar.start for bar in bars)
    return bars[max(0, index - KEY_BARS)].start, max(cell.end for cell in cells) + KEY_BARS * longest


def _pitched(full: EncodedScore, start: int, end: int) -> list[Note]:
    return [
        note
        for track, content in enumerate(full.tracks)
        if not content.is_drum
        for note in full.notes(track, start, end)
    ]
