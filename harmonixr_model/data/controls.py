"""Controls of training examples: computed from the target, and included or left out by chance.

A model trained this way follows the controls it gets and needs none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from harmonixr_model.data.masking import Mask
from harmonixr_model.music.estimate import ChordSpan, estimate_chords, estimate_key
from harmonixr_model.music.score import Bar, Note, bar_at
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.prompt.controls import TRAINED, attribute_tokens

KEY_BARS = 8  # bars on either side of the gap from which the key is estimated


def sample_controls(rng: np.random.Generator, *, share: float) -> frozenset[str]:
    """Sample the controls of an example: none except in `share` of the examples."""
    has_controls = rng.random() < share
    draws = rng.random(len(TRAINED))
    return frozenset(
        name
        for draw, (name, control) in zip(draws, TRAINED.items(), strict=True)
        if has_controls and draw < control.training_chance
    )


def with_controls(
    full: EncodedScore,
    mask: Mask,
    names: Collection[str],
    *,
    tags: Mapping[str, str | None] = MappingProxyType({}),
) -> Mask:
    """Return the mask with controls in its cells; `tags` are the piece's style and composer where known.

    `full` includes the target: each cell's controls measure its hidden notes; chords and key come from all tracks.
    """
    if not names or not mask.cells:
        return mask
    bars = full.score.bars_until(max(cell.end for cell in mask.cells))
    chords = _chords(full, mask.cells, bars) if "chords" in names else []
    key = estimate_key(_pitched(full, *_around(mask.cells, bars))) if "key" in names else None
    shared = {name: value for name, value in ({"key": key} | dict(tags)).items() if name in names}
    cells: list[GridCell] = []
    for cell in mask.cells:
        hidden = full.hidden(cell, mask.locks)
        tokens = attribute_tokens(
            shared | {name: c.measure(hidden, cell) for name, c in TRAINED.items() if c.measure and name in names},
            cell,
            chords=() if full.tracks[cell.track].is_drum else chords,
            bar_start=bar_at(bars, cell.start).start,
        )
        cells.append(replace(cell, controls=tokens))
    return replace(mask, cells=tuple(cells))


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
