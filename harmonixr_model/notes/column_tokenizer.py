"""A vectorised `tokenizer.encode` for many files: `encode_columns(columns_of(score))` equals `encode(score)`."""

# N notes of all tracks, M notes after quantisation in the order of their tokens, B bars

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import TokenError
from harmonixr_model.music.columns import Column, Columns
from harmonixr_model.music.score import Bar, Score, Tempo
from harmonixr_model.notes.encoded_score import DURATION_TOKENS, VELOCITY_TOKENS, metre_tokens
from harmonixr_model.notes.grid import GRID, quantize
from harmonixr_model.notes.tokenizer import BOS, EOS, tempo_token
from harmonixr_model.notes.vocabulary import (
    DURATIONS,
    MAX_BAR_STEPS,
    MAX_DURATION,
    MAX_TRACKS,
    VOCAB,
    duration_bin,
    duration_floor,
)

_DURATION = np.array([DURATIONS[duration_bin(steps)] for steps in range(MAX_DURATION + 1)])
_FLOOR = np.array([0, *(duration_floor(gap) for gap in range(1, MAX_DURATION + 1))])
_DURATION_ID, _VELOCITY_ID = np.array(DURATION_TOKENS), np.array(VELOCITY_TOKENS)
# A sorting key of 63 bits has track and pitch, an onset of so many bits, then a rank by duration and velocity.
_ONSET_BITS = 36
_RANKS = 1 << 12


def encode_columns(columns: Columns) -> npt.NDArray[np.int32]:
    """Return the tokens of a score given as columns. Raises TokenError where it has more tracks than tokens name."""
    if len(columns.sounds) > MAX_TRACKS:
        raise TokenError(
            f"the score has {len(columns.sounds)} tracks, tokens name {MAX_TRACKS}; merge or leave out some"
        )
    frame = quantize(Score(columns.ticks_per_quarter, (), columns.tempos, columns.time_signatures))
    track_M, onset_M, duration_M, pitch_M, velocity_M = _on_grid(columns)
    changes = [tempo.tick for tempo in frame.tempos] + [metre.tick for metre in frame.time_signatures]
    end = max(int((onset_M + duration_M).max(initial=0)), max(changes) + 1)
    bars = frame.bars_until(end)
    starts_B = np.array([bar.start for bar in bars])
    bar_M = np.searchsorted(starts_B, onset_M, side="right") - 1
    position_M = onset_M - starts_B[bar_M]
    # Sorting one number for each note is several times faster than sorting four.
    order_M = np.argsort(((bar_M * MAX_TRACKS + track_M) * MAX_BAR_STEPS + position_M) * 128 + pitch_M)
    track_M, pitch_M, bar_M = track_M[order_M], pitch_M[order_M], bar_M[order_M]
    position_M = VOCAB.position.start + position_M[order_M]
    heads = _heads(bars, frame.tempos[1:])
    return _assemble(
        _header(columns, frame.tempos[0]),
        heads,
        (bar_M, track_M, position_M, pitch_M, _DURATION_ID[duration_M[order_M]], _VELOCITY_ID[velocity_M[order_M]]),
    )


def _on_grid(columns: Columns) -> tuple[Column, Column, Column, Column, Column]:
    """Return the notes of `grid.quantize`: track, onset, duration, pitch, velocity."""
    double = 2 * columns.ticks_per_quarter
    onset_N = (2 * GRID * columns.onset_N + columns.ticks_per_quarter) // double
    end_N = (2 * GRID * (columns.onset_N + columns.duration_N) + columns.ticks_per_quarter) // double
    steps_N = np.minimum(end_N - onset_N, MAX_DURATION)
    duration_N, velocity_N = _DURATION[steps_N], columns.velocity_N
    lane_N = columns.track_N * 128 + columns.pitch_N
    # For each lane (track and pitch) and onset, the longest note comes first, then the loudest, both as binned.
    rank_N = (_DURATION_ID[steps_N] - VOCAB.duration.start) * 32 + _VELOCITY_ID[velocity_N] - VOCAB.velocity.start
    order_N = np.argsort((lane_N << _ONSET_BITS | onset_N) * _RANKS + _RANKS - 1 - rank_N)
    lane_N, onset_N = lane_N[order_N], onset_N[order_N]
    is_first_N = np.ones(len(lane_N), dtype=bool)
    is_first_N[1:] = (lane_N[1:] != lane_N[:-1]) | (onset_N[1:] != onset_N[:-1])
    note_M = order_N[is_first_N]
    lane_M, onset_M, duration_M = lane_N[is_first_N], onset_N[is_first_N], duration_N[note_M]
    gap_M = np.minimum(onset_M[1:] - onset_M[:-1], MAX_DURATION)
    is_cut_M = (lane_M[1:] == lane_M[:-1]) & (duration_M[:-1] > gap_M)
    duration_M[:-1][is_cut_M] = _FLOOR[gap_M[is_cut_M]]
    return lane_M // 128, onset_M, duration_M, lane_M % 128, velocity_N[note_M]


def _header(columns: Columns, first: Tempo) -> list[int]:
    tokens = [BOS, tempo_token(first)]
    for slot, (program, is_drum) in enumerate(columns.sounds):
        tokens += (VOCAB.track.start + slot, VOCAB.drums if is_drum else VOCAB.program[program])
    return tokens


def _heads(bars: Sequence[Bar], tempos: Sequence[Tempo]) -> list[list[int]]:
    """Return the tokens of each bar before its notes: its metre and changes of tempo."""
    known: dict[tuple[int, int, int], list[int]] = {}
    heads = []
    for bar in bars:
        shape = bar.end - bar.start, bar.numerator, bar.denominator
        if shape not in known:
            known[shape] = metre_tokens(bar)
        heads.append(known[shape])
    at = 0
    for tempo in tempos:
        while bars[at].end <= tempo.tick:
            at += 1
        heads[at] = [*heads[at], VOCAB.position[tempo.tick - bars[at].start], tempo_token(tempo)]
    return heads


def _assemble(header: list[int], heads: list[list[int]], notes: tuple[Column, ...]) -> npt.NDArray[np.int32]:
    """Return header, heads and notes in order; TRACK, POS and VEL are emitted when they change."""
    bar_M, track_M, position_M, pitch_M, duration_M, velocity_M = notes
    first_M = _changes(bar_M) | _changes(track_M)
    moves_M = first_M | _changes(position_M)
    louder_M = first_M | _changes(velocity_M)
    length_M = 2 + first_M.astype(np.int64) + moves_M + louder_M
    length_B = np.array([len(head) for head in heads])
    # A note comes after the header, the heads up to its own bar, and the notes before it.
    at_M = len(header) + length_B.cumsum()[bar_M] + length_M.cumsum() - length_M
    notes_before_B = np.concatenate(([0], length_M.cumsum()))[np.searchsorted(bar_M, np.arange(len(heads)))]
    out = np.empty(len(header) + int(length_B.sum() + length_M.sum()) + 1, dtype=np.int32)
    out[: len(header)] = header
    out[-1] = EOS
    flat = np.array([token for head in heads for token in head], dtype=np.int32)
    shift_B = len(header) + notes_before_B
    out[np.arange(len(flat)) + np.repeat(shift_B, length_B)] = flat
    out[at_M[first_M]] = VOCAB.track.start + track_M[first_M]
    at_M = at_M + first_M
    out[at_M[moves_M]] = position_M[moves_M]
    at_M = at_M + moves_M
    out[at_M] = VOCAB.pitch.start + pitch_M
    out[at_M + 1] = duration_M
    out[at_M[louder_M] + 2] = velocity_M[louder_M]
    return out


def _changes(column_M: Column) -> npt.NDArray[np.bool_]:
    """Return where a column differs from the previous row; the first row counts as different."""
    changed = np.ones(len(column_M), dtype=bool)
    changed[1:] = column_M[1:] != column_M[:-1]
    return changed
