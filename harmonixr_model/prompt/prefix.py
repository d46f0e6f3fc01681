"""The prefix of a prompt: header, similar passages, the gap's own bars, and the bars around it that fit."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import PromptError
from harmonixr_model.music.score import DEFAULT_TEMPO, Bar
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, metre_tokens
from harmonixr_model.notes.tokenizer import sound_token, tempo_token
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.gap import Gap
from harmonixr_model.prompt.similar_passages import Passage, passage_tokens

BOS, SEP, MASK = (VOCAB.id(name) for name in ("BOS", "SEP", "MASK"))
FROM, UNTIL, LOW, HIGH = (VOCAB.id(name) for name in ("FROM", "UNTIL", "LOW", "HIGH"))
# Of the tokens that the header and the gap's own bars leave, passages may take this share. In pop, the same place of
# another verse predicts more than the bars beside the gap (note F1 of a copy 0.80 against 0.44).
PASSAGE_SHARE = 0.6


def encode_prefix(
    gap: Gap, *, slots: Sequence[int], passages: Sequence[Passage], max_tokens: int
) -> tuple[npt.NDArray[np.int32], int]:
    """Return the tokens of a prefix, BOS to SEP, and how many of its bars come before the gap.

    `slots` is the score track of each TRACK_j. Of the `passages`, the most similar first, those that do not fit are
    left out. Raises PromptError where the header and the gap's own bars do not fit `max_tokens`.
    """
    header = header_tokens(gap.context, slots, gap.bars[0].start)
    gap_tokens = [bar_tokens(gap.context, bar, slots, gap.cells_at) for bar in gap.bars]
    room = max_tokens - len(header) - 1 - sum(map(len, gap_tokens))
    if room < 0:
        raise PromptError(
            f"the gap's {len(gap.bars)} bars and {len(slots)} tracks take {max_tokens - room} tokens, the model "
            f"reads {max_tokens}; choose fewer bars"
        )
    similar: list[int] = []
    for passage in passages:
        left = round(PASSAGE_SHARE * room) - len(similar)
        similar += passage_tokens(gap, passage, slots=slots, room=left)
    before, after = _surroundings(gap, slots, room - len(similar))
    return np.array([*header, *similar, *chain(*before, *gap_tokens, *after), SEP], dtype=np.int32), len(before)


def header_tokens(context: EncodedScore, slots: Sequence[int], start: int) -> list[int]:
    """Return BOS TEMPO [TRACK PROG or DRUMS]*, with the tempo at step `start`."""
    tempos = context.score.tempos or (DEFAULT_TEMPO,)
    tempo = tempos[max(0, bisect_right(tempos, start, key=lambda t: t.tick) - 1)]
    tokens = [BOS, tempo_token(tempo)]
    for slot, track in enumerate(slots):
        tokens += (VOCAB.track.start + slot, sound_token(context.tracks[track]))
    return tokens


def _surroundings(gap: Gap, slots: Sequence[int], room: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return the tokens of the bars before and after the gap that fit, taken alternately from either side."""
    before: list[list[int]] = []
    after: list[list[int]] = []
    behind, ahead = reversed(gap.song_bars[: gap.bars[0].index]), iter(gap.song_bars[gap.bars[-1].index + 1 :])
    sides: list[tuple[list[list[int]], Iterator[Bar]]] = [(before, behind), (after, ahead)]
    while sides:
        side, farther = sides.pop(0)
        bar = next(farther, None)
        if bar is None:
            continue
        tokens = bar_tokens(gap.context, bar, slots)
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
