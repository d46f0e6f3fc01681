"""The coordinates of each token: bar from the gap, step in the bar, track slot, previous token, controls in force, and
the countdown of notes and voices still to come.

A coordinate is 0 where it is not known. A token's coordinates follow from itself, earlier tokens, the number of bars in
the prefix before the gap, and the lengths of the gap's cells.
"""

# T tokens, K = 13 coordinates: bar, step, slot, previous token; one for each of the 7 controls; 2 of the countdown

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harmonixr_model.notes.vocabulary import MAX_BAR_STEPS, MAX_TRACKS, VOCAB, Block
from harmonixr_model.prompt.countdown import COUNTDOWN_SIZE, NO_COUNTDOWN, NOTES_LEFT, Countdown

# Bars -64..63 from the gap's first bar have the values 1..128; bars further away are clipped to the ends.
FIRST_BAR, LAST_BAR, BAR_SHIFT = -64, 63, 65
# A prompt has at most so many passages of the same song, each aligned bar by bar with so many bars of the gap.
PASSAGES, PASSAGE_BARS = 2, 16
# Bar i of a passage with match level m has the value 129 + 16 m + i, so that each of its notes has the match level.
# With the MATCH token alone, the level reached the notes only after one layer. The first layer had learnt to copy and
# copied good and bad passages alike (docs/log.md).
REF_SHIFT = LAST_BAR + BAR_SHIFT + 1
# Control tokens are in the header of their cell, and every token of its fill repeats their values as coordinates:
# models of some 40 M training tokens hardly attended to a token far back (docs/decisions/0009). The values of all
# blocks are numbered from 1, followed by those of the countdown.
CONTROL_BLOCKS = (
    VOCAB.density,
    VOCAB.polyphony,
    VOCAB.velocity_range,
    VOCAB.chord,
    VOCAB.key,
    VOCAB.style,
    VOCAB.composer,
)
_BLOCKS_SIZE = 1 + sum(block.size for block in CONTROL_BLOCKS)
CONTROL_SIZE = _BLOCKS_SIZE + COUNTDOWN_SIZE
NO_CONTROLS = (0,) * len(CONTROL_BLOCKS) + NO_COUNTDOWN
PLACE_SIZES = (REF_SHIFT + VOCAB.match.size * PASSAGE_BARS, MAX_BAR_STEPS + 2, MAX_TRACKS + 1, VOCAB.size)
COORDINATE_SIZES = (*PLACE_SIZES, *(CONTROL_SIZE,) * len(NO_CONTROLS))

_BAR, _SEP = VOCAB.id("BAR"), VOCAB.id("SEP")
_CHORD = CONTROL_BLOCKS.index(VOCAB.chord)


def _flags(*names: str) -> npt.NDArray[np.bool_]:
    flags = np.zeros(VOCAB.size, dtype=bool)
    flags[[VOCAB.id(name) for name in names]] = True
    return flags


def _values(*blocks: Block, shift: int = 1) -> npt.NDArray[np.int16]:
    values = np.zeros(VOCAB.size, dtype=np.int16)
    for block in blocks:
        values[block.start : block.stop] = np.arange(block.size) + shift
    return values


# [match level from 1, bar coordinate of the gap's bar] -> the passage's bar coordinate.
_LEVEL, _GAP_BAR = np.mgrid[0 : VOCAB.match.size + 1, 0:REF_SHIFT]
_REF_BAR = (
    REF_SHIFT + np.maximum(_LEVEL - 1, 0) * PASSAGE_BARS + np.clip(_GAP_BAR - BAR_SHIFT, 0, PASSAGE_BARS - 1)
).astype(np.int16)
# The tokens at which a coordinate takes a new value, and that value (0 where the token only resets it).
_RESETS_ALL = _flags("BOS", "SEP", "FILL", "EOS", "PAD", "REF")
_STEP_VALUE = _values(VOCAB.position)
_MATCH_LEVEL = _values(VOCAB.match)
_SLOT_VALUE = _values(VOCAB.track)
_BAR_VALUE = np.minimum(_values(VOCAB.bar_index, shift=BAR_SHIFT), LAST_BAR + BAR_SHIFT)
_SETS_BAR = _RESETS_ALL | (_BAR_VALUE > 0) | _flags("BAR")
_SETS_STEP = _RESETS_ALL | (_STEP_VALUE > 0) | (_SLOT_VALUE > 0) | _flags("BAR", "MASK", "HOLD", "END")
_SETS_SLOT = _RESETS_ALL | (_SLOT_VALUE > 0) | _flags("BAR")
_CONTROL_VALUE = np.zeros(VOCAB.size, dtype=np.int16)
_CONTROL_COLUMN = np.zeros(VOCAB.size, dtype=np.int16)
for _column, _block in enumerate(CONTROL_BLOCKS):
    _CONTROL_VALUE[_block.start : _block.stop] = 1 + _CONTROL_VALUE.max() + np.arange(_block.size)
    _CONTROL_COLUMN[_block.start : _block.stop] = _column
# What a token does to the controls in force: it sets one, resets all, moves in the bar, or counts in the countdown.
_SETS, _RESETS, _MOVES, _COUNTS = 1, 2, 3, 4
_IS_COUNTED = _flags("HOLD") | (_values(VOCAB.pitch, VOCAB.duration) > 0)
_EFFECT = bytes(
    np.select(
        [_CONTROL_VALUE > 0, _RESETS_ALL, _STEP_VALUE > 0, _IS_COUNTED], [_SETS, _RESETS, _MOVES, _COUNTS], 0
    ).tolist()
)


def coordinates_of_tokens(
    tokens: npt.ArrayLike, *, gap_bar: int, cell_steps: Sequence[int] = ()
) -> npt.NDArray[np.int16]:
    """Return the coordinates int16 [T, K] of a whole sequence: prefix, prefix and fill, or fill.

    `gap_bar` is the number of bars before the gap's first bar, `cell_steps` the lengths of the fill's cells.
    """
    ids = np.asarray(tokens, dtype=np.int64)
    bar_value = _BAR_VALUE[ids]
    is_bar = ids == _BAR
    counted = np.clip(np.cumsum(is_bar) - 1 - gap_bar, FIRST_BAR, LAST_BAR) + BAR_SHIFT
    bar = np.where(is_bar, counted, bar_value)
    # Passages come before the first BAR.
    level = np.asarray(_carried(_MATCH_LEVEL[ids], (_MATCH_LEVEL > 0)[ids]), dtype=np.int64)
    is_passage = (level > 0) & (np.cumsum(is_bar) == 0) & (bar_value > 0)
    bar = np.where(is_passage, _REF_BAR[level, bar_value], bar)
    columns = (
        _carried(bar, _SETS_BAR[ids]),
        _carried(_STEP_VALUE[ids], _SETS_STEP[ids]),
        _carried(_SLOT_VALUE[ids], _SETS_SLOT[ids]),
        # A fill follows SEP; the first value of a prefix means nothing.
        np.concatenate(([_SEP], ids[:-1]))[: len(ids)],
    )
    return np.concatenate([np.stack(columns, axis=1), _controls_of_tokens(ids, cell_steps)], axis=1).astype(np.int16)


def _controls_of_tokens(ids: npt.NDArray[np.int64], cell_steps: Sequence[int]) -> npt.NDArray[np.int16]:
    """Return the controls in force at each token and the countdown, [T, len(NO_CONTROLS)]."""
    controls = np.zeros((len(ids), len(NO_CONTROLS)), dtype=np.int16)
    if _CONTROL_VALUE[ids].any():
        state = ControlState(Countdown(cell_steps))
        for at, token in enumerate(ids.tolist()):
            state.advance(token)
            controls[at] = state.values
    return controls


def _carried(values: npt.NDArray[np.generic], is_set: npt.NDArray[np.bool_]) -> npt.NDArray[np.generic]:
    """Return at each place the value at the latest place where `is_set`, 0 before the first."""
    latest = np.maximum.accumulate(np.where(is_set, np.arange(len(values)), -1))
    carried: npt.NDArray[np.generic] = np.where(latest >= 0, values[latest], 0)
    return carried


@dataclass(slots=True)
class ControlState:
    """The controls in force, token by token: one value for each of CONTROL_BLOCKS, then the countdown; 0 for none."""

    countdown: Countdown = field(default_factory=Countdown)
    values: tuple[int, ...] = NO_CONTROLS
    # (step of the bar, value) of this cell's chords, in order.
    _chords: list[tuple[int, int]] = field(default_factory=list)
    _step: int = 0

    def advance(self, token: int) -> None:
        """Take one token."""
        effect = _EFFECT[token]
        if not effect:
            return
        self.countdown.advance(token)
        if effect == _SETS:
            column, value = int(_CONTROL_COLUMN[token]), int(_CONTROL_VALUE[token])
            if column == _CHORD:
                self._chords.append((self._step, value))
            self._put(column, value)
        elif effect == _RESETS:
            self.values, self._step = NO_CONTROLS, 0
            self._chords.clear()
            return
        elif effect == _MOVES:
            self._step = token - VOCAB.position.start
            if len(self._chords) > 1:
                self._put(_CHORD, next((value for step, value in reversed(self._chords) if step <= self._step), 0))
        notes, voices = self.countdown.values
        if notes or voices:
            shift = _BLOCKS_SIZE - 1
            counts = shift + notes if notes else 0, shift + len(NOTES_LEFT) + voices if voices else 0
            self.values = (*self.values[: len(CONTROL_BLOCKS)], *counts)

    def _put(self, column: int, value: int) -> None:
        self.values = (*self.values[:column], value, *self.values[column + 1 :])


@dataclass(slots=True)
class CoordinateState:
    """The coordinates of one row of a decoder, token by token; equal to `coordinates_of_tokens`."""

    gap_bar: int
    cell_steps: Sequence[int] = ()
    bars: int = 0  # BAR tokens so far
    level: int = 0
    bar: int = 0
    step: int = 0
    slot: int = 0
    previous: int = _SEP
    controls: ControlState = field(init=False)

    def __post_init__(self) -> None:
        self.controls = ControlState(Countdown(self.cell_steps))

    def advance(self, token: int) -> tuple[int, int, int, int, tuple[int, ...]]:
        """Take one token and return its (bar, step, slot, previous token, controls and countdown)."""
        self.controls.advance(token)
        if token == _BAR:
            self.bar = min(max(self.bars - self.gap_bar, FIRST_BAR), LAST_BAR) + BAR_SHIFT
            self.bars += 1
        elif _SETS_BAR[token]:
            self.bar = int(_BAR_VALUE[token])
            if self.bar and self.level and not self.bars:
                self.bar = int(_REF_BAR[self.level, self.bar])
        self.level = int(_MATCH_LEVEL[token]) or self.level
        if _SETS_STEP[token]:
            self.step = int(_STEP_VALUE[token])
        if _SETS_SLOT[token]:
            self.slot = int(_SLOT_VALUE[token])
        previous, self.previous = self.previous, token
        return self.bar, self.step, self.slot, previous, self.controls.values


def place_updates() -> npt.NDArray[np.int16]:
    """Return the bar, step and slot that each token of a fill sets, int16 [V, 3]; -1 where it sets none."""
    values = np.stack([_BAR_VALUE, _STEP_VALUE, _SLOT_VALUE], axis=1)
    sets = np.stack([_SETS_BAR, _SETS_STEP, _SETS_SLOT], axis=1)
    return np.ascontiguousarray(np.where(sets, values, -1), dtype=np.int16)
