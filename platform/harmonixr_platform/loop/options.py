"""How large the loop is. Two sizes: one that proves something, one that only shows it runs. Knows no stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from harmonixr_platform.loop.simulated_listener import Taste

# Pieces of different purposes come from seeds far apart, so none is in two of them.
JUDGED_SEED, ASKED_SEED, GATE_SEED = 0, 1_000_000, 2_000_000


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """What the loop does how often.

    Attributes:
        pieces: pieces with a gap that is filled and judged.
        fills: fills a gap, of which every pair is judged.
        judgments: answers over HTTP to those pairs.
        raters: simulated listeners, each with a key of its own and the same taste.
        asked: fresh gaps on which best-of-n and both models are compared by the hidden utility.
        drawn: fills a gap there.
        best_of: how many the reward model chooses from.
        gate_gaps: fresh gaps on which the gate's pairs are made, a pair of fills each with either model.
        gate_pairs: pairs a gap there.
        gate_judgments: answers over HTTP to the pairs of each version that asks to be promoted.
        measured_gaps: gaps on which the gate measures likelihood, validity, latency and diversity.
        max_context: tokens of a gap's context.
        temperature: at which fills are drawn, everywhere.
        taste: the hidden one.

    """

    pieces: int = 96
    fills: int = 6
    judgments: int = 3000
    raters: int = 40
    asked: int = 32
    drawn: int = 8
    best_of: int = 8
    gate_gaps: int = 60
    gate_pairs: int = 3
    gate_judgments: int = 360
    measured_gaps: int = 16
    max_context: int = 512
    temperature: float = 1.0
    taste: Taste = field(default_factory=Taste)
    epochs: int = 4
    seed: int = 0


FULL = LoopOptions()
QUICK = LoopOptions(
    pieces=10,
    fills=3,
    judgments=60,
    raters=6,
    asked=3,
    drawn=4,
    best_of=4,
    gate_gaps=4,
    gate_pairs=1,
    gate_judgments=12,
    measured_gaps=4,
    epochs=1,
)
