"""The grammar of fills for many rows at once, on the model's device: the tensor twin of `tokens.grammar.FillGrammar`.

Rows may answer different prompts and stand at different places of them. What the grammar forces (headers, EOS) is not
drawn: a row goes from one END straight to the next cell. The rules are written out in `GrammarRules`.
"""

# R rows, Q distinct prompts, C cells, W steps of a cell, T steps of the gap, H steps of the horizon, P pitches
# D durations, V vocabulary

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harmonixr_model.tokens.rules import GrammarRules
from harmonixr_model.tokens.vocab import DURATIONS, MAX_DURATION, VOCAB

END = VOCAB.id("END")
BOUNDARY, PITCH, DURATION, FIRST_VELOCITY, DONE = range(5)
_NO_PITCH = 128  # before a cell's first note: no pitch is higher


class FillStates:
    """Where each row's fill stands. `mask` says what may come, `advance` takes what came."""

    def __init__(self, rules: Sequence[GrammarRules], *, device: torch.device | str = "cpu") -> None:
        """Open one row for each of `rules`; rows of one prompt share its tables."""
        self.rows = len(rules)
        self._device = torch.device(device)
        distinct = list({id(rule): rule for rule in rules}.values())
        places = {id(rule): place for place, rule in enumerate(distinct)}
        self._tables = _Tables.build(distinct, self._device)
        self._prompt_R = torch.tensor([places[id(rule)] for rule in rules], device=self._device)
        self._max_duration = _padded([rule.max_duration for rule in distinct], 0, self._device)[self._prompt_R]
        self._sounding = _padded([rule.sounding for rule in distinct], 0, self._device)[self._prompt_R]
        self._durations_D = torch.tensor(DURATIONS, device=self._device)
        fresh = torch.zeros(self.rows, dtype=torch.long, device=self._device)
        self._expects, self._used, self._count, self._cell = fresh.clone(), fresh.clone(), fresh.clone(), fresh - 1
        self._step, self._pitch, self._velocity, self._may_say = fresh - 1, fresh - 1, fresh - 1, fresh.bool()
        self._open_cells(torch.ones_like(self._may_say))

    @property
    def done(self) -> Tensor:
        """Which rows are finished, bool [R]."""
        return self._expects[: self.rows] == DONE

    def move(self, source: int, target: int) -> None:
        """Put row `source` in the place of row `target`."""
        for tensor in self._row_tensors():
            tensor[target] = tensor[source]

    def _row_tensors(self) -> tuple[Tensor, ...]:
        scalars = (self._prompt_R, self._expects, self._used, self._count, self._cell)
        return (*scalars, self._step, self._pitch, self._velocity, self._may_say, self._max_duration, self._sounding)

    def mask(self) -> Tensor:
        """Return which tokens may come next, bool [R, V], of the first `rows` rows; all False for finished ones."""
        here = _View.of(self)
        allowed_RV = torch.zeros(self.rows, VOCAB.size, dtype=torch.bool, device=self._device)
        self._allow_boundary(here, allowed_RV)
        loose_RP, enough_RP = here.pitches()
        self._put(allowed_RV, VOCAB.pitch, _enough_or(loose_RP, enough_RP) & here.expects(PITCH))
        self._put(allowed_RV, VOCAB.duration, here.durations(self._durations_D) & here.expects(DURATION))
        self._put(allowed_RV, VOCAB.velocity, here.velocity_allowed_RB & here.expects(FIRST_VELOCITY))
        return allowed_RV

    def advance(self, tokens_R: Tensor) -> None:
        """Take one token a row, each allowed by `mask`; forced ones that follow an END are taken with it."""
        n, rows = self.rows, torch.arange(self.rows, device=self._device)
        running = ~self.done
        self._used[:n] += running

        def is_in(start: int, size: int) -> Tensor:
            return (tokens_R >= start) & (tokens_R < start + size) & running

        at_position = is_in(VOCAB.position.start, VOCAB.position.size)
        at_pitch = is_in(VOCAB.pitch.start, VOCAB.pitch.size)
        at_duration = is_in(VOCAB.duration.start, VOCAB.duration.size)
        at_velocity = is_in(VOCAB.velocity.start, VOCAB.velocity.size)
        cell_start = self._tables.bar_start[self._prompt_R[:n], self._cell[:n]]
        self._step[:n] = torch.where(at_position, cell_start + tokens_R - VOCAB.position.start, self._step[:n])
        self._pitch[:n] = torch.where(at_position, -1, self._pitch[:n])
        self._pitch[:n] = torch.where(at_pitch, tokens_R - VOCAB.pitch.start, self._pitch[:n])
        index_R = (tokens_R - VOCAB.duration.start).clamp(0, len(DURATIONS) - 1)
        self._place(rows, torch.where(at_duration, self._durations_D[index_R], 0))
        self._count[:n] += at_duration
        self._may_say[:n] = torch.where(at_duration, self._velocity[:n] >= 0, self._may_say[:n] & ~at_velocity)
        after_duration = torch.where(self._velocity[:n] >= 0, BOUNDARY, FIRST_VELOCITY)
        self._velocity[:n] = torch.where(at_velocity, tokens_R, self._velocity[:n])
        expects = torch.where(at_position, PITCH, self._expects[:n])
        expects = torch.where(at_pitch, DURATION, expects)
        expects = torch.where(at_duration, after_duration, expects)
        self._expects[:n] = torch.where(at_velocity, BOUNDARY, expects)
        self._open_cells((tokens_R == END) & running)

    def _open_cells(self, opens_R: Tensor) -> None:
        """Take the header of the next cell, or EOS after the last, in the rows told."""
        n, tables, prompt = len(opens_R), self._tables, self._prompt_R[: len(opens_R)]
        after = self._cell[:n] + 1
        is_last = after >= tables.cells[prompt]
        cell = torch.minimum(after, tables.cells[prompt] - 1)
        forced = torch.where(is_last, 1, tables.header_size[prompt, cell])
        self._used[:n] += torch.where(opens_R, forced, 0)
        self._expects[:n] = torch.where(opens_R, torch.where(is_last, DONE, BOUNDARY), self._expects[:n])
        opens_R = opens_R & ~is_last
        self._cell[:n] = torch.where(opens_R, cell, self._cell[:n])
        starts_anew = opens_R & ~tables.counts_on[prompt, cell]
        self._count[:n] = torch.where(starts_anew, 0, self._count[:n])
        self._step[:n] = torch.where(opens_R, tables.cell_start[prompt, cell] - 1, self._step[:n])
        self._pitch[:n] = torch.where(opens_R, _NO_PITCH, self._pitch[:n])
        self._velocity[:n] = torch.where(opens_R, -1, self._velocity[:n])
        self._may_say[:n] &= ~opens_R

    def _place(self, rows: Tensor, duration_R: Tensor) -> None:
        """Take note of (step, pitch, duration) in the tables of the rows whose duration is not 0."""
        tables, n = self._tables, len(rows)
        prompt, cell = self._prompt_R[:n], self._cell[:n]
        group, line = tables.cell_group[prompt, cell], tables.cell_row[prompt, cell]
        step_R1, stop_R1 = self._step[:n, None], (self._step[:n] + duration_R)[:, None]
        is_note_R1 = duration_R[:, None] > 0
        pitch = self._pitch[:n].clamp(0, 127)
        time_T = torch.arange(self._max_duration.shape[2], device=self._device)
        longest_RT = self._max_duration[rows, group, :, pitch]
        until_RT = torch.where(time_T < step_R1, step_R1 - time_T, torch.where(time_T < stop_R1, 0, MAX_DURATION))
        changed_RT = torch.where(is_note_R1, torch.minimum(longest_RT, until_RT), longest_RT)
        self._max_duration[rows, group, :, pitch] = changed_RT.to(self._max_duration.dtype)
        time_H = torch.arange(self._sounding.shape[2], device=self._device)
        sounds_RH = (time_H >= step_R1) & (time_H < stop_R1) & is_note_R1
        self._sounding[rows, line] += sounds_RH.to(self._sounding.dtype)

    def _allow_boundary(self, here: _View, allowed_RV: Tensor) -> None:
        is_here_R1 = here.expects(BOUNDARY)
        may_begin_R1 = ((here.left_R >= 5) & (here.count_R < here.max_notes_R))[:, None] & is_here_R1
        steps_RW, steps_enough_RW = here.steps()
        pitches_RP, pitches_enough_RP = here.pitches()
        is_enough_R1 = (steps_enough_RW.any(1) | pitches_enough_RP.any(1))[:, None]
        steps_RW = torch.where(is_enough_R1, steps_enough_RW, steps_RW) & may_begin_R1
        pitches_RP = torch.where(is_enough_R1, pitches_enough_RP, pitches_RP) & may_begin_R1
        self._put(allowed_RV, VOCAB.position, here.by_position(steps_RW))
        self._put(allowed_RV, VOCAB.pitch, pitches_RP)
        says_R1 = ((here.left_R >= 2) & here.may_say_R)[:, None] & is_here_R1
        bins_B = torch.arange(VOCAB.velocity.size, device=self._device) + VOCAB.velocity.start
        velocities_RB = here.velocity_allowed_RB & says_R1 & (bins_B != here.velocity_R[:, None])
        self._put(allowed_RV, VOCAB.velocity, velocities_RB)
        nothing_R = ~(steps_RW.any(1) | pitches_RP.any(1) | velocities_RB.any(1))
        allowed_RV[:, END] = is_here_R1[:, 0] & ((here.count_R >= here.min_notes_R) | nothing_R)

    @staticmethod
    def _put(allowed_RV: Tensor, block: object, values: Tensor) -> None:
        start: int = block.start  # type: ignore[attr-defined]
        allowed_RV[:, start : start + values.shape[1]] |= values


@dataclass(frozen=True, slots=True)
class _Tables:
    """The rules of Q prompts as tensors [Q, C] or [Q]; short ones are padded at the end."""

    cells: Tensor
    cell_group: Tensor
    cell_row: Tensor
    bar_start: Tensor
    cell_start: Tensor
    cell_end: Tensor
    min_notes: Tensor
    max_notes: Tensor
    counts_on: Tensor
    last_end: Tensor
    close_tokens: Tensor
    header_size: Tensor
    pitch_allowed: Tensor
    velocity_allowed: Tensor
    max_polyphony: Tensor
    max_tokens: Tensor
    widest: int

    @classmethod
    def build(cls, rules: Sequence[GrammarRules], device: torch.device) -> _Tables:
        def table(of: Callable[[GrammarRules], npt.NDArray[np.generic]], *, is_bool: bool = False) -> Tensor:
            stacked = _padded([np.asarray(of(rule)) for rule in rules], 0, device)
            return stacked.bool() if is_bool else stacked.long()

        return cls(
            cells=torch.tensor([rule.cells for rule in rules], device=device),
            cell_group=table(lambda r: r.cell_group),
            cell_row=table(lambda r: r.cell_row),
            bar_start=table(lambda r: r.bar_start),
            cell_start=table(lambda r: r.cell_start),
            cell_end=table(lambda r: r.cell_end),
            min_notes=table(lambda r: r.min_notes),
            max_notes=table(lambda r: r.max_notes),
            counts_on=table(lambda r: r.counts_on, is_bool=True),
            last_end=table(lambda r: r.last_end),
            close_tokens=table(lambda r: r.close_tokens),
            header_size=table(lambda r: np.array([len(header) for header in r.headers])),
            pitch_allowed=table(lambda r: r.pitch_allowed, is_bool=True),
            velocity_allowed=table(lambda r: r.velocity_allowed, is_bool=True),
            max_polyphony=torch.tensor([rule.max_polyphony for rule in rules], device=device),
            max_tokens=torch.tensor([rule.max_tokens for rule in rules], device=device),
            widest=max(int((rule.cell_end - rule.cell_start).max()) for rule in rules),
        )


@dataclass(frozen=True, slots=True)
class _View:
    """What the rules say at the place where each row stands: everything that one mask is made of."""

    expects_R: Tensor
    count_R: Tensor
    step_R: Tensor
    pitch_R: Tensor
    velocity_R: Tensor
    may_say_R: Tensor
    left_R: Tensor
    need_R: Tensor
    min_notes_R: Tensor
    max_notes_R: Tensor
    last_end_R: Tensor
    cell_start_R: Tensor
    offset_R: Tensor  # of the cell's start within its bar
    polyphony_R: Tensor
    velocity_allowed_RB: Tensor
    steps_RW: Tensor
    open_RWP: Tensor  # pitches that may begin at each step of the cell
    voices_RW: Tensor  # voices left at each step of the cell, not below 0
    room_RW: Tensor
    here_open_RP: Tensor  # pitches that may begin at the row's own step
    here_voices_R: Tensor
    sounding_RS: Tensor  # from the row's own step on, MAX_DURATION steps
    longest_R: Tensor  # max_duration at (step, pitch)

    @classmethod
    def of(cls, states: FillStates) -> _View:
        n, tables = states.rows, states._tables
        rows, prompt, cell = torch.arange(n, device=states._device), states._prompt_R[:n], states._cell[:n]
        group, line = tables.cell_group[prompt, cell], tables.cell_row[prompt, cell]
        allowed_RP, polyphony_R = tables.pitch_allowed[prompt, cell], tables.max_polyphony[prompt]
        cell_start_R, cell_end_R = tables.cell_start[prompt, cell], tables.cell_end[prompt, cell]
        step_R, pitch_R, count_R = states._step[:n], states._pitch[:n], states._count[:n]
        last_step = states._max_duration.shape[2] - 1
        steps_RW = cell_start_R[:, None] + torch.arange(tables.widest, device=states._device)
        is_inside_RW = steps_RW < cell_end_R[:, None]
        places_RW = steps_RW.clamp(max=last_step)
        open_RWP = (states._max_duration[rows[:, None], group[:, None], places_RW] > 0) & allowed_RP[:, None]
        open_RWP &= is_inside_RW[:, :, None]
        voices_RW = polyphony_R[:, None] - states._sounding[rows[:, None], line[:, None], places_RW]
        voices_RW = voices_RW.clamp(min=0) * is_inside_RW
        here_R = step_R.clamp(0, last_step)
        ahead_RS = here_R[:, None] + torch.arange(MAX_DURATION, device=states._device)
        sounding_RS = states._sounding[rows[:, None], line[:, None], ahead_RS]
        here_longest_RP = states._max_duration[rows, group, here_R]
        return cls(
            expects_R=states._expects[:n],
            count_R=count_R,
            step_R=step_R,
            pitch_R=pitch_R,
            velocity_R=states._velocity[:n],
            may_say_R=states._may_say[:n],
            left_R=tables.max_tokens[prompt] - states._used[:n] - tables.close_tokens[prompt, cell],
            need_R=(tables.min_notes[prompt, cell] - count_R).clamp(min=0),
            min_notes_R=tables.min_notes[prompt, cell],
            max_notes_R=tables.max_notes[prompt, cell],
            last_end_R=tables.last_end[prompt, cell],
            cell_start_R=cell_start_R,
            offset_R=cell_start_R - tables.bar_start[prompt, cell],
            polyphony_R=polyphony_R,
            velocity_allowed_RB=tables.velocity_allowed[prompt],
            steps_RW=steps_RW,
            open_RWP=open_RWP,
            voices_RW=voices_RW,
            room_RW=torch.minimum(open_RWP.sum(-1), voices_RW),
            here_open_RP=(here_longest_RP > 0) & allowed_RP,
            here_voices_R=polyphony_R - sounding_RS[:, 0],
            sounding_RS=sounding_RS,
            longest_R=here_longest_RP.gather(1, pitch_R.clamp(0, 127)[:, None])[:, 0].long(),
        )

    def expects(self, what: int) -> Tensor:
        """Return which rows expect `what`, bool [R, 1]."""
        return (self.expects_R == what)[:, None]

    def steps(self) -> tuple[Tensor, Tensor]:
        """Return for each step of the cell whether POS may name it, and whether that leaves room for the minimum."""
        is_later_RW = (self.steps_RW > self.step_R[:, None]) & (self.steps_RW < self.last_end_R[:, None])
        is_open_RW = (self.room_RW > 0) & is_later_RW
        from_here_RW = self.room_RW.flip(1).cumsum(1).flip(1)
        return is_open_RW, is_open_RW & (from_here_RW >= self.need_R[:, None])

    def pitches(self) -> tuple[Tensor, Tensor]:
        """Return which pitches above the row's may begin at its step, and which leave room for the minimum."""
        is_possible_R = (self.step_R >= 0) & (self.here_voices_R > 0) & (self.step_R < self.last_end_R)
        pitches_P = torch.arange(128, device=self.step_R.device)
        is_open_RP = self.here_open_RP & (pitches_P > self.pitch_R[:, None]) & is_possible_R[:, None]
        higher_RP = is_open_RP.sum(1, keepdim=True) - is_open_RP.cumsum(1)
        later_R = (self.room_RW * (self.steps_RW > self.step_R[:, None])).sum(1)
        fits_RP = torch.minimum(higher_RP, (self.here_voices_R - 1)[:, None]) + later_R[:, None]
        return is_open_RP, is_open_RP & (fits_RP >= (self.need_R - 1)[:, None])

    def durations(self, durations_D: Tensor) -> Tensor:
        """Return which duration bins the note at (step, pitch) may have."""
        is_free_RS = (self.sounding_RS < self.polyphony_R[:, None]).long()
        free_R = is_free_RS.cumprod(1).sum(1)
        longest_R = torch.minimum(torch.minimum(self.longest_R, free_R), self.last_end_R - self.step_R)
        durations_RD = longest_R[:, None] >= durations_D
        enough_RD = durations_RD & (self._room_after(durations_D) >= (self.need_R - 1)[:, None])
        return torch.where((self.need_R > 1)[:, None], _enough_or(durations_RD, enough_RD), durations_RD)

    def _room_after(self, durations_D: Tensor) -> Tensor:
        """Return how many more notes would fit if the note at (step, pitch) had each of these durations, [R, D]."""
        pitches_P = torch.arange(128, device=self.step_R.device)
        higher_R = (self.here_open_RP & (pitches_P > self.pitch_R[:, None])).sum(1)
        here_R = torch.minimum(higher_R, self.here_voices_R - 1)
        is_later_RW = self.steps_RW > self.step_R[:, None]
        index_RW1 = self.pitch_R.clamp(0, 127)[:, None, None].expand(-1, self.open_RWP.shape[1], 1)
        taken_RW = self.open_RWP.gather(2, index_RW1)[:, :, 0].long()
        under_RW = torch.minimum(self.open_RWP.sum(-1) - taken_RW, (self.voices_RW - 1).clamp(min=0))
        lost_RW = ((self.room_RW - under_RW) * is_later_RW).cumsum(1)
        last_RD = (self.step_R - self.cell_start_R)[:, None] + durations_D - 1
        lost_RD = lost_RW.gather(1, last_RD.clamp(0, lost_RW.shape[1] - 1))
        return (here_R + (self.room_RW * is_later_RW).sum(1))[:, None] - lost_RD

    def by_position(self, steps_RW: Tensor) -> Tensor:
        """Return flags of a cell's steps as flags of the positions of its bar, [R, positions]."""
        index_RN = torch.arange(VOCAB.position.size, device=steps_RW.device) - self.offset_R[:, None]
        is_inside_RN = (index_RN >= 0) & (index_RN < steps_RW.shape[1])
        return steps_RW.gather(1, index_RN.clamp(0, steps_RW.shape[1] - 1)) & is_inside_RN


def _enough_or(loose: Tensor, enough: Tensor) -> Tensor:
    """Return `enough` in the rows where it has anything, else `loose`."""
    return torch.where(enough.any(1, keepdim=True), enough, loose)


def _padded(arrays: Sequence[npt.NDArray[np.generic]], value: int, device: torch.device) -> Tensor:
    """Stack arrays of one rank on a new first axis, each padded at its ends to the largest."""
    shape = np.max([array.shape for array in arrays], axis=0)
    stacked = np.full((len(arrays), *shape), value, dtype=arrays[0].dtype)
    for place, array in zip(stacked, arrays, strict=True):
        place[tuple(slice(size) for size in array.shape)] = array
    return torch.from_numpy(stacked).to(device)
