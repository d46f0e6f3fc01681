"""Choose a window: consecutive bars of a piece that fit a number of tokens."""

from __future__ import annotations

import numpy as np

from harmonixr_model.music.score import Bar
from harmonixr_model.notes.encoded_score import EncodedScore

# Tokens of a bar besides its notes (BAR, TS), of a track in it (TRACK), and roughly of the header.
_BAR_TOKENS, _TRACK_TOKENS, _HEADER_TOKENS = 2, 1, 8


def bar_costs(encoded: EncodedScore, bars: tuple[Bar, ...], first: int, *, budget: int) -> list[int]:
    """Return the tokens of bars `first`, `first + 1`, … as long as their sum is within `budget`; at least one."""
    costs: list[int] = []
    left = budget - _HEADER_TOKENS - 2 * len(encoded.tracks)
    for bar in bars[first:]:
        runs = [encoded.run(track, bar) for track in range(len(encoded.tracks))]
        cost = _BAR_TOKENS + sum(len(run) + _TRACK_TOKENS for run in runs if run)
        if costs and cost > left:
            break
        left -= cost
        costs.append(cost)
    return costs


def choose_window(encoded: EncodedScore, rng: np.random.Generator, *, budget: int) -> tuple[Bar, ...]:
    """Return consecutive bars of about `budget` tokens, sampled so that all bars of the piece are equally likely."""
    bars = encoded.score.bars
    anchor = int(rng.integers(len(bars)))
    # Going back by half the length that fits from the anchor keeps the last bars of a piece as likely as the middle.
    span = len(bar_costs(encoded, bars, anchor, budget=budget))
    first = max(0, anchor - int(rng.integers(span)) if span > 1 else anchor)
    if anchor + span >= len(bars):
        first = max(0, min(first, len(bars) - span))
    return bars[first : first + len(bar_costs(encoded, bars, first, budget=budget))]
