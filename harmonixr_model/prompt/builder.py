"""Build the prompt of a gap from its context and its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise

from harmonixr_model.errors import PromptError
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.table_builder import build_fill_tables
from harmonixr_model.music.score import Bar, Score, bar_at
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, hold_tokens
from harmonixr_model.notes.vocabulary import MAX_TRACKS, VOCAB
from harmonixr_model.prompt.coordinates import PASSAGES, coordinates_of_tokens
from harmonixr_model.prompt.copy_pointer import MAX_COPY_SOURCES, copy_sources
from harmonixr_model.prompt.layout import InfillLayout, InfillPrompt
from harmonixr_model.prompt.prefix import encode_prefix
from harmonixr_model.prompt.similar_passages import Passage, similar_passages

FILL = VOCAB.id("FILL")
MAX_GAP_BARS = VOCAB.bar_index.size


def build_prompt(
    context: Score | EncodedScore,
    cells: Sequence[GridCell],
    *,
    max_prefix_tokens: int,
    constraints: Constraints | None = None,
    max_fill_tokens: int = 1 << 30,
    passages: int = PASSAGES,
) -> InfillPrompt:
    """Return the prompt of `cells`; `context` is a grid score without the notes to replace.

    Notes of the context inside a cell are locked: they stay and come before the cell's MASK. The copy pointer has no
    sources without `passages`, with attribute controls (they may differ from what the song has), or in single-field
    cells. Raises PromptError where the gap does not fit, ControlError where `constraints` cannot be met.
    """
    encoded = context if isinstance(context, EncodedScore) else EncodedScore(context)
    ordered, bars = _check_and_order(encoded, cells)
    found = similar_passages(encoded, ordered, bars, count=max(passages, MAX_COPY_SOURCES)) if passages else []
    layout = _layout(encoded, ordered, bars, max_prefix_tokens=max_prefix_tokens, passages=found[:passages])
    tables = build_fill_tables(
        encoded,
        layout.cells,
        bars=_gap_bars(bars, layout.cells),
        headers=layout.headers,
        constraints=constraints or Constraints(),
        max_fill_tokens=max_fill_tokens,
    )
    is_conditional = any(cell.header_tokens for cell in ordered)
    return InfillPrompt(
        **{field.name: getattr(layout, field.name) for field in fields(layout)},
        tables=tables,
        copy_sources=() if is_conditional else copy_sources(encoded, ordered, found[:MAX_COPY_SOURCES], bars=bars),
        is_drums=all(encoded.tracks[cell.track].is_drum for cell in ordered),
    )


def build_layout(
    context: EncodedScore,
    cells: Sequence[GridCell],
    *,
    max_prefix_tokens: int,
    passages: int = PASSAGES,
) -> InfillLayout:
    """Return the layout without the tables of the grammar; training needs no more, and this is faster.

    Args and errors are those of `build_prompt`.
    """
    ordered, bars = _check_and_order(context, cells)
    found = similar_passages(context, ordered, bars, count=passages) if passages else []
    return _layout(context, ordered, bars, max_prefix_tokens=max_prefix_tokens, passages=found)


def _layout(
    context: EncodedScore,
    cells: tuple[GridCell, ...],
    bars: tuple[Bar, ...],
    *,
    max_prefix_tokens: int,
    passages: Sequence[Passage],
) -> InfillLayout:
    gap, slots = _gap_bars(bars, cells), _choose_slots(context, cells)
    prefix, gap_bar = encode_prefix(
        context, cells, bars, gap, slots=slots, passages=passages, max_tokens=max_prefix_tokens
    )
    cell_bars = [bar_at(bars, cell.start) for cell in cells]
    headers = tuple(
        (
            FILL,
            VOCAB.bar_index.start + bar.index - gap[0].index,
            VOCAB.track.start + slots.index(cell.track),
            *cell.header_tokens,
            *hold_tokens(context.held(cell.track, cell.start), cell.start),
        )
        for cell, bar in zip(cells, cell_bars, strict=True)
    )
    return InfillLayout(
        prefix=prefix,
        coordinates=coordinates_of_tokens(prefix, gap_bar=gap_bar),
        cells=cells,
        headers=headers,
        bar_starts=tuple(bar.start for bar in cell_bars),
        gap_bar=gap_bar,
        slots=slots,
    )


def _gap_bars(bars: Sequence[Bar], cells: Sequence[GridCell]) -> Sequence[Bar]:
    """Return the bars from the first to the last that has a cell."""
    return bars[bar_at(bars, cells[0].start).index : bar_at(bars, cells[-1].start).index + 1]


def _check_and_order(context: EncodedScore, cells: Sequence[GridCell]) -> tuple[tuple[GridCell, ...], tuple[Bar, ...]]:
    """Return the cells in fill order and the song's bars; raise PromptError where a cell is not valid."""
    if not cells:
        raise PromptError("nothing is to be filled; give at least one cell")
    for cell in cells:
        if not 0 <= cell.track < len(context.tracks):
            raise PromptError(f"a cell names track {cell.track + 1}; the score has {len(context.tracks)} tracks")
        if not 0 <= cell.start < cell.end or not 0 <= cell.low <= cell.high <= 127:
            raise PromptError(f"{cell} is empty or out of range; give 0 <= start < end and 0 <= low <= high <= 127")
        if cell.field and not cell.known:
            raise PromptError(f"{cell} has no notes whose {cell.field} could change; leave it out")
    bars = context.score.bars_until(max(context.end, max(cell.end for cell in cells)))
    ordered = tuple(sorted(cells, key=lambda cell: (bar_at(bars, cell.start).index, cell.track, cell.start)))
    for cell in ordered:
        if cell.end > bar_at(bars, cell.start).end:
            raise PromptError(f"{cell} crosses a barline; split it with split_at_bars")
    for one, two in pairwise(ordered):
        if one.track == two.track and two.start < one.end and one.start < two.end:
            raise PromptError(f"{one} and {two} overlap; merge them")
    count = len(_gap_bars(bars, ordered))
    if count > MAX_GAP_BARS:
        raise PromptError(f"the gap spans {count} bars, one prompt holds {MAX_GAP_BARS}; fill it in parts")
    return ordered, bars


def _choose_slots(context: EncodedScore, cells: Sequence[GridCell]) -> tuple[int, ...]:
    """Return the tracks that get a TRACK token, in file order: those with cells first, then others with notes."""
    chosen = {cell.track for cell in cells}
    if len(chosen) > MAX_TRACKS:
        raise PromptError(f"the gap spans {len(chosen)} tracks, one prompt holds {MAX_TRACKS}; fill it in parts")
    others = [track for track, content in enumerate(context.tracks) if content.notes and track not in chosen]
    return tuple(sorted([*chosen, *others[: MAX_TRACKS - len(chosen)]]))
