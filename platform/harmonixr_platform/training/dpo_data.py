"""Judgments as DPO's data: gaps with their fills packed, and who was chosen over whom. Knows no Ray and no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harmonixr_model.errors import HarmonixrError
from harmonixr_model.fill.ranker import FilledWindow
from harmonixr_model.infill.packed import pack
from harmonixr_model.preference.dpo import preferences_of, repeat_noise
from harmonixr_model.preference.pairs import RatedPair, split_by_piece
from harmonixr_model.preference.report import human_ceiling
from harmonixr_model.training.dpo_loop import JudgedGap
from harmonixr_platform.training.reward_data import Comparisons, windows_of

# More fills at once take more memory than they save: attention is over all of them.
_MOST_FILLS = 16


@dataclass(frozen=True, slots=True)
class DpoData:
    """Gaps to train on and to choose the best epoch by; `noise` is measured where pairs were judged several times."""

    train: list[JudgedGap]
    held_out: list[JudgedGap]
    noise: float
    unreadable: int


def dpo_data(comparisons: Comparisons, *, max_length: int, held_out: float, seed: int) -> DpoData:
    """Return the packed gaps, split by piece. Fills that the model cannot read are left out and counted."""
    by_context: dict[str, list[RatedPair]] = {}
    for pair in comparisons.pairs:
        by_context.setdefault(pair.context_id, []).append(pair)
    _, valid = split_by_piece(comparisons.pairs, held_out=held_out, seed=seed)
    kept_apart = {comparisons.pairs[i].piece_id for i in valid}
    train: list[JudgedGap] = []
    chosen: list[JudgedGap] = []
    unreadable = 0
    for rated in by_context.values():
        windows = {row: _window(comparisons, row, max_length) for pair in rated for row in (pair.first, pair.second)}
        unreadable += sum(window is None for window in windows.values())
        readable = {row: window for row, window in windows.items() if window is not None}
        for gap in _gaps(rated, readable):
            (chosen if gap.piece_id in kept_apart else train).append(gap)
    return DpoData(train, chosen, repeat_noise(human_ceiling(comparisons.pairs).accuracy), unreadable)


def _window(comparisons: Comparisons, row: int, max_length: int) -> FilledWindow | None:
    """Return a fill with its prompt; None where it has several windows or cannot be read."""
    try:
        windows = windows_of(comparisons.fills[row], max_length=max_length)
    except HarmonixrError:
        return None
    # A later window's prompt holds the earlier answer: fills of several windows share no context.
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
