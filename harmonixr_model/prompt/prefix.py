"""The prefix of a prompt: header, similar passages, the gap's own bars, and the bars around it that fit."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import PromptError
from harmonixr_model.music.score import DEFAULT_TEMPO, Bar, bar_at
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, metre_tokens
from harmonixr_model.notes.tokenizer import sound_token, tempo_token
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.similar_passages import Passage, passage_tokens

BOS, SEP, MASK = (VOCAB.id(name) for name in ("BOS", "SEP", "MASK"))
FROM, UNTIL, LOW, HIGH = (VOCAB.id(name) for name in ("FROM", "UNTIL", "LOW", "HIGH"))
# Of the tokens that the header and the gap's own bars leave, passages may take this share. In pop, the same place of
# another verse predicts more than the bars beside the gap (note F1 of a copy 0.80 against 0.44).
PASSAGE_SHARE = 0.6


def encode_prefix(
    context: EncodedScore,
    cells: Sequence[GridCell],
    bars: Sequence[Bar],
    gap: Sequence[Bar],
    *,
    slots: Sequence[int],
    passages: Sequence[Passage],
    max_tokens: int,
) -> tuple[npt.NDArray[np.int32], int]:
    """Return the tokens of a prefix, BOS to SEP, and how many of its bars come before the gap.

    Args:
        context: the song without the notes to fill.
        cells: the cells in fill order.
        bars: the song's bars.
        gap: the bars from the first to the last that has a cell.
        slots: score track of each TRACK_j.
        passages: similar passages, the most similar first; those that do not fit are left out.
        max_tokens: the most tokens of the prefix.

    Raises:
        PromptError: the header and the gap's own bars do not fit.

    """
    header = header_tokens(context, slots, gap[0].start)
    cells_at: dict[tuple[int, int], list[GridCell]] = {}
    for cell in cells:
        cells_at.setdefault((bar_at(bars, cell.start).index, cell.track), []).append(cell)
    gap_tokens = [bar_tokens(context, bar, slots, cells_at) for bar in gap]
    room = max_tokens - len(header) - 1 - sum(map(len, gap_tokens))
    if room < 0:
        raise PromptError(
            f"the gap's {len(gap)} bars and {len(slots)} tracks take {max_tokens - room} tokens, the model "
            f"reads {max_tokens}; choose fewer bars"
        )
    similar: list[int] = []
    for passage in passages:
        left = round(PASSAGE_SHARE * room) - len(similar)
        similar += passage_tokens(context, passage, cells, bars=bars, slots=slots, room=left)
    before, after = _surroundings(context, bars, gap, slots, room - len(similar))
    return np.array([*header, *similar, *chain(*before, *gap_tokens, *after), SEP], dtype=np.int32), len(before)


def header_tokens(context: EncodedScore, slots: Sequence[int], start: int) -> list[int]:
    """Return BOS TEMPO [TRACK PROG or DRUMS]*, with the tempo at step `start`."""
    tempos = context.score.tempos or (DEFAULT_TEMPO,)
    tempo = tempos[max(0, bisect_right(tempos, start, key=lambda t: t.tick) - 1)]
    tokens = [BOS, tempo_token(tempo)]
    for slot, track in enumerate(slots):
        tokens += (VOCAB.track.start + slot, sound_token(context.tracks[track]))
    return tokens


def _surroundings(
    context: EncodedScore, bars: Sequence[Bar], gap: Sequence[Bar], slots: Sequence[int], room: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the tokens of the bars before and after the gap that fit, taken alternately from either side."""
    before: list[list[int]] = []
    after: list[list[int]] = []
    behind, ahead = reversed(bars[: gap[0].index]), iter(bars[gap[-1].index + 1 :])
    sides: list[tuple[list[list[int]], Iterator[Bar]]] = [(before, behind), (after, ahead)]
    while sides:
        side, farther = sides.pop(0)
        bar = next(farther, None)
        if bar is None:
            continue
        tokens = bar_tokens(context, bar, slots)
        if len(tokens) > room:
            continue
        side.append(tokens)
        room -= len(tokens)
        sides.append((side, farther))
    return before[::-1], after


def bar_tokens(
    context: EncodedScore,
    bar: Bar,
    slots: Sequence[int],
    cells_at: Mapping[tuple[int, int], Sequence[GridCell]] = MappingProxyType({}),
) -> list[int]:
    """Return the tokens of one bar, with a MASK for each of its cells by (bar index, track)."""
    tokens = metre_tokens(bar)
    for slot, track in enumerate(slots):
        run = context.run(track, bar)
        cells = cells_at.get((bar.index, track), ())
        if run or cells:
            tokens += (VOCAB.track.start + slot, *run)
            for cell in cells:
                tokens += _mask_tokens(cell, bar)
    return tokens


def _mask_tokens(cell: GridCell, bar: Bar) -> list[int]:
    """Return MASK [FROM POS UNTIL POS] [LOW PITCH HIGH PITCH], then the known notes of a single-field cell."""
    tokens = [MASK]
    position, pitch = VOCAB.position.start, VOCAB.pitch.start
    if (cell.start, cell.end) != (bar.start, bar.end):
        tokens += (FROM, position + cell.start - bar.start, UNTIL, position + cell.end - bar.start)
    if (cell.low, cell.high) != (0, 127):
        tokens += (LOW, pitch + cell.low, HIGH, pitch + cell.high)
    return tokens + cell.prefix_tokens(bar.start)
