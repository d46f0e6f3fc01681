"""What the stages of the graph hand to each other: plain values that cross process borders. Knows no stage."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from harmonixr_model.engine.request import CellFinished
from harmonixr_model.prompt.layout import InfillPrompt
from harmonixr_platform.schemas import PlacedNote, SamplingSpec

# W windows of the region: the fill token ids of each, in order.
FillTokens = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The version that answers a reference, the most tokens it reads and writes together, and what it knows of itself.

    `supported` is the part of its checkpoint's info that lists the controls and tags it was trained on;
    `precision` is the number format it runs in.
    """

    version: str
    sha256: str
    max_length: int
    supported: dict[str, Any] = field(default_factory=dict, hash=False)
    precision: str = "fp32"


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers requests for the champion: it, or for a share of the callers the canary."""

    champion: ModelInfo
    canary: ModelInfo | None = None
    canary_share: float = 0.0

    def choose(self, caller: str) -> ModelInfo:
        """Return what this caller gets; the same each time, and those of a small share stay in a larger one."""
        if self.canary is None:
            return self.champion
        place = int.from_bytes(hashlib.sha256(f"canary:{caller}".encode()).digest()[:8], "big") / 2**64
        return self.canary if place < self.canary_share else self.champion


@dataclass(frozen=True, slots=True)
class Window:
    """The prompt of the next window of a region, and whether the region is filled once it is answered."""

    prompt: InfillPrompt
    is_last: bool
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One prompt to the model, one candidate a seed.

    `owner` is who asks, for bounds. `timeout_s` is how long from now, since no two machines share a clock.
    """

    prompt: InfillPrompt = field(repr=False)
    seeds: tuple[int, ...]
    sampling: SamplingSpec
    owner: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Spent:
    """How a prompt's time in the model went."""

    queue_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True, slots=True)
class Taken:
    """The model has taken a prompt; its answer will come."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One answer of the model to one window."""

    tokens: tuple[int, ...]
    log_probability: float
    candidate: int = 0
    spent: Spent = Spent(0.0, 0.0, 0.0)


# What the model says of a prompt while it answers it; `Taken` comes first.
Said: TypeAlias = Taken | CellFinished | Drawn


@dataclass(frozen=True, slots=True)
class Filled:
    """One candidate as music."""

    midi: bytes
    notes: tuple[PlacedNote, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """Candidates as music, and the stretch of them to sound."""

    candidates: tuple[Filled, ...]
    start_s: float
    end_s: float | None
    took_s: float


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A file and the seconds of it to sound, as loud as the same seconds of the files `beside` it."""

    midi: bytes = field(repr=False)
    start_s: float
    end_s: float | None
    beside: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class RewardScores:
    """A reward for each candidate, in order, and the reward model that gave them."""

    version: str
    scores: tuple[float, ...]
