"""The values that the stages of the graph exchange; all but FillRequest cross process borders."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from harmonixr_model.engine.request import CellFinished
from harmonixr_model.prompt.layout import InfillPrompt
from harmonixr_platform.schemas import InfillOptions, PlacedNote, SamplingSpec

# W windows of the region: the fill token ids of each, in order.
FillTokens = tuple[tuple[int, ...], ...]
_SEED_BYTES = 4


@dataclass(frozen=True, slots=True)
class FillRequest:
    """One infill request, from the ingress to the calls of the other stages. Times are those of `time.perf_counter`.

    Attributes:
        midi: the MIDI file.
        options: region, controls, sampling and model.
        timeout_s: the longest time from `parsed` to the response.
        owner: the caller, for limits.
        session: one of several callers with the same address, for canary routing.
        key: the Idempotency-Key.
        received: when the head of the HTTP request arrived.
        parsed: when its body had been read.
        seed: of the first candidate: the requested seed, else one derived from `key`, else a random one.

    """

    midi: bytes = field(repr=False)
    options: InfillOptions
    timeout_s: float
    owner: str = ""
    session: str = ""
    key: str | None = None
    received: float = field(default_factory=time.perf_counter)
    parsed: float = field(default_factory=time.perf_counter)
    seed: int = field(init=False)

    def __post_init__(self) -> None:
        """Choose the seed."""
        seed = self.options.sampling.seed
        if seed is None:
            source = hashlib.sha256(self.key.encode()).digest() if self.key else secrets.token_bytes(_SEED_BYTES)
            seed = int.from_bytes(source[:_SEED_BYTES], "big")
        object.__setattr__(self, "seed", seed)

    @property
    def cache_key(self) -> str | None:
        """The Idempotency-Key, different for each caller."""
        return None if self.key is None else f"{self.owner}:{self.key}"

    def digest(self) -> str:
        """Return a hash of file and options."""
        return hashlib.sha256(self.midi + self.options.model_dump_json().encode()).hexdigest()

    def engine_request(self, prompt: InfillPrompt, seeds: tuple[int, ...]) -> EngineRequest:
        """Return what the Model stage needs to fill one window."""
        left_s = max(0.0, self.parsed + self.timeout_s - time.perf_counter())
        return EngineRequest(prompt, seeds, self.options.sampling, self.owner, left_s)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A loaded model version.

    `max_length` is the most tokens of prompt and fill together. `supported` is the part of the checkpoint's
    info that names the controls and tags of its training. `precision` is the number format of the arithmetic.
    """

    version: str
    sha256: str
    max_length: int
    supported: dict[str, Any] = field(default_factory=dict, hash=False)
    precision: str = "fp32"


@dataclass(frozen=True, slots=True)
class Route:
    """The versions that serve requests for the champion: the champion, and for a share of the callers the canary."""

    champion: ModelInfo
    canary: ModelInfo | None = None
    canary_share: float = 0.0

    def choose(self, caller: str) -> ModelInfo:
        """Return this caller's version: always the same one; callers of a small share stay in a larger one."""
        if self.canary is None:
            return self.champion
        place = int.from_bytes(hashlib.sha256(f"canary:{caller}".encode()).digest()[:8], "big") / 2**64
        return self.canary if place < self.canary_share else self.champion


@dataclass(frozen=True, slots=True)
class Window:
    """The prompt of a region's next window, and whether it is the region's last."""

    prompt: InfillPrompt
    is_last: bool
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One prompt for the Model stage, with a seed for each candidate.

    `owner` is the caller, for limits. `timeout_s` counts from now, since machines do not share a clock.
    """

    prompt: InfillPrompt = field(repr=False)
    seeds: tuple[int, ...]
    sampling: SamplingSpec
    owner: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ModelTimings:
    """How long a prompt spent in each phase of the Model stage."""

    queue_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True, slots=True)
class PromptAccepted:
    """The first event of a stream: the engine has queued the prompt."""


@dataclass(frozen=True, slots=True)
class WindowFill:
    """One candidate's fill of one window."""

    tokens: tuple[int, ...]
    log_probability: float
    candidate: int = 0
    timings: ModelTimings = ModelTimings(0.0, 0.0, 0.0)


# The events of one prompt in the Model stage; PromptAccepted is the first.
ModelEvent: TypeAlias = PromptAccepted | CellFinished | WindowFill


@dataclass(frozen=True, slots=True)
class FilledSong:
    """One candidate as a whole MIDI file, and its new notes."""

    midi: bytes
    notes: tuple[PlacedNote, ...]


@dataclass(frozen=True, slots=True)
class FinishedFills:
    """Candidates as files, and the excerpt of them to play."""

    candidates: tuple[FilledSong, ...]
    start_s: float
    end_s: float | None
    took_s: float


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A file and the seconds of it to render, as loud as the same seconds of the files `beside`."""

    midi: bytes = field(repr=False)
    start_s: float
    end_s: float | None
    beside: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class RewardScores:
    """A reward for each candidate, in order, and the version of the reward model."""

    version: str
    scores: tuple[float, ...]
