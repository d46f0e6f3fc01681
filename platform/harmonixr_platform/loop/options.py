"""The size of the loop: a full one whose results mean something, and a quick one that only shows that it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from harmonixr_platform.loop.simulated_listener import Taste

# Seeds of the composer, with a distance, so that no piece has two purposes.
JUDGED_SEED, UTILITY_SEED, GATE_SEED = 0, 1_000_000, 2_000_000
# The names of renamed options in stored files.
_STORED_NAMES = {"utility_gaps": "asked", "utility_fills": "drawn"}


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How much of everything the loop does.

    Attributes:
        pieces: pieces with one gap each that is filled and judged.
        fills: fills of each of these gaps; every pair of them is judged.
        judgments: judgments of these pairs over HTTP.
        raters: simulated listeners, each with its own key and all with the same taste.
        utility_gaps: fresh gaps on which the hidden utility compares both models and best-of-n.
        utility_fills: fills of each of these gaps.
        best_of: how many fills the reward model chooses from.
        gate_gaps: fresh gaps for the promotion gate, filled by both models.
        gate_pairs: pairs of each of these gaps.
        gate_judgments: judgments over HTTP for each version that the gate decides on.
        measured_gaps: gaps on which the gate measures likelihood, validity, latency and diversity.
        max_context: tokens of a gap's context.
        temperature: of all fills.
        taste: the hidden utility.
        epochs: of DPO.
        seed: of everything random.

    """

    pieces: int = 96
    fills: int = 6
    judgments: int = 3000
    raters: int = 40
    utility_gaps: int = 32
    utility_fills: int = 8
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

    def stored(self) -> dict[str, Any]:
        """Return the options under the names that `plan.json` and `results.json` use."""
        return {_STORED_NAMES.get(name, name): value for name, value in asdict(self).items()}


FULL = LoopOptions()
QUICK = LoopOptions(
    pieces=10,
    fills=3,
    judgments=60,
    raters=6,
    utility_gaps=3,
    utility_fills=4,
    best_of=4,
    gate_gaps=4,
    gate_pairs=1,
    gate_judgments=12,
    measured_gaps=4,
    epochs=1,
)
