"""Build the prompt of a gap from its context and its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.table_builder import build_fill_tables
from harmonixr_model.music.score import Score
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, hold_tokens
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import PASSAGES, coordinates_of_tokens
from harmonixr_model.prompt.copy_pointer import MAX_COPY_SOURCES, copy_sources
from harmonixr_model.prompt.gap import Gap, open_gap
from harmonixr_model.prompt.layout import InfillLayout, InfillPrompt
from harmonixr_model.prompt.prefix import encode_prefix
from harmonixr_model.prompt.similar_passages import Passage, similar_passages

FILL = VOCAB.id("FILL")


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
    gap = open_gap(encoded, cells)
    found = similar_passages(gap, count=max(passages, MAX_COPY_SOURCES)) if passages else []
    layout = _layout(gap, found[:passages], max_prefix_tokens)
    tables = build_fill_tables(
        encoded,
        gap.cells,
        bars=gap.bars,
        headers=layout.headers,
        constraints=constraints or Constraints(),
        max_fill_tokens=max_fill_tokens,
    )
    return InfillPrompt(
        **{field.name: getattr(layout, field.name) for field in fields(layout)},
        tables=tables,
        copy_sources=() if layout.is_conditional else copy_sources(gap, found[:MAX_COPY_SOURCES]),
        is_drums=all(encoded.tracks[cell.track].is_drum for cell in gap.cells),
    )


def build_layout(
    context: EncodedScore, cells: Sequence[GridCell], *, max_prefix_tokens: int, passages: int = PASSAGES
) -> InfillLayout:
    """Return the layout without the tables of the grammar; training needs no more, and this is faster.

    Args and errors are those of `build_prompt`.
    """
    gap = open_gap(context, cells)
    return _layout(gap, similar_passages(gap, count=passages) if passages else [], max_prefix_tokens)


def _layout(gap: Gap, passages: Sequence[Passage], max_prefix_tokens: int) -> InfillLayout:
    slots = gap.choose_slots()
    prefix, gap_bar = encode_prefix(gap, slots=slots, passages=passages, max_tokens=max_prefix_tokens)
    headers = tuple(
        (
            FILL,
            VOCAB.bar_index.start + bar.index - gap.bars[0].index,
            VOCAB.track.start + slots.index(cell.track),
            *cell.header_tokens,
            *hold_tokens(gap.context.held(cell.track, cell.start), cell.start),
        )
        for cell, bar in zip(gap.cells, gap.cell_bars, strict=True)
    )
    return InfillLayout(
        prefix=prefix,
        coordinates=coordinates_of_tokens(prefix, gap_bar=gap_bar),
        cells=gap.cells,
        headers=headers,
        bar_starts=tuple(bar.start for bar in gap.cell_bars),
        gap_bar=gap_bar,
        slots=slots,
    )
