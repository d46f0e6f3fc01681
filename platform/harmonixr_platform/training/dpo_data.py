"""Make DPO's data from judgments: gaps with their packed fills and the preferences between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harmonixr_model.errors import HarmonixrError
from harmonixr_model.fill.ranker import FilledWindow
from harmonixr_model.infill.packed import pack
from harmonixr_model.preference.dpo import measured_label_smoothing, preferences_of
from harmonixr_model.preference.pairs import RatedPair, split_by_piece
from harmonixr_model.preference.report import human_ceiling
from harmonixr_model.training.dpo_loop import JudgedGap
from harmonixr_platform.training.reward_data import Comparisons, windows_of

# Attention covers all packed fills: more of them need more memory than packing saves.
_MOST_FILLS = 16


@dataclass(frozen=True, slots=True)
class DpoData:
    """The gaps for training and for the choice of the best epoch; `noise` is measured on repeated judgments."""

    train: list[JudgedGap]
    held_out: list[JudgedGap]
    noise: float
    unreadable: int


def dpo_data(comparisons: Comparisons, *, max_length: int, held_out: float, seed: int) -> DpoData:
    """Return the packed gaps, split by piece. Fills that the model cannot read are left out and counted."""
    by_context: dict[str, list[RatedPair]] = {}
    for pair in comparisons.pairs:
        by_context.setdefault(pair.context_id, []).append(pair)
    _, held_out_indices = split_by_piece(comparisons.pairs, held_out=held_out, seed=seed)
    held_out_pieces = {comparisons.pairs[i].piece_id for i in held_out_indices}
    train: list[JudgedGap] = []
    valid: list[JudgedGap] = []
    unreadable = 0
    for rated in by_context.values():
        windows = {row: _window(comparisons, row, max_length) for pair in rated for row in (pair.first, pair.second)}
        unreadable += sum(window is None for window in windows.values())
        readable = {row: window for row, window in windows.items() if window is not None}
        for gap in _gaps(rated, readable):
            (valid if gap.piece_id in held_out_pieces else train).append(gap)
    return DpoData(train, valid, measured_label_smoothing(human_ceiling(comparisons.pairs).accuracy), unreadable)


def _window(comparisons: Comparisons, row: int, max_length: int) -> FilledWindow | None:
    """Return a fill with its prompt; None where it has several windows or cannot be read."""
    try:
        windows = windows_of(comparisons.fills[row], max_length=max_length)
    except HarmonixrError:
        return None
    # The prompt of a later window contains the earlier output, so such fills share no prompt.
    return windows[0] if len(windows) == 1 else None


def _gaps(rated: Sequence[RatedPair], windows: dict[int, FilledWindow]) -> Iterator[JudgedGap]:
    rows = sorted(windows)
    for start in range(0, len(rows), _MOST_FILLS):
        some = rows[start : start + _MOST_FILLS]
        among = [pair for pair in rated if pair.first in some and pair.second in some]
        preferences = preferences_of(among, some)
        if preferences is not None:
            packed = pack(windows[some[0]].prompt, [windows[row].tokens for row in some])
            yield JudgedGap(packed, preferences, rated[0].piece_id)
