"""What the stages of the graph hand to each other: plain values that cross process borders. Knows no stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from harmonixr_model.tokens.infill import InfillPrompt
from harmonixr_platform.schemas import PlacedNote

# W windows of the region: the fill token ids of each, in order.
FillTokens = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The version that answers a reference, and the most tokens it reads and writes together."""

    version: str
    sha256: str
    max_length: int


@dataclass(frozen=True, slots=True)
class Window:
    """The prompt of the next window of a region, and whether the region is filled once it is answered."""

    prompt: InfillPrompt
    is_last: bool


@dataclass(frozen=True, slots=True)
class Drawn:
    """One answer of the model to one window."""

    tokens: tuple[int, ...]
    log_probability: float


@dataclass(frozen=True, slots=True)
class Filled:
    """One candidate as music."""

    midi: bytes
    notes: tuple[PlacedNote, ...]


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
