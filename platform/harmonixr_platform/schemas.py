"""What crosses the wire: requests, answers and the immutable feedback records. Knows nothing of who sends or stores them.

Bars, beats and tracks are counted from 1 here, as musicians count, and ranges include both ends.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """Unknown keys fail; records never change after they are made."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


# ---- infill ---------------------------------------------------------------------------------------------------------

TrackName = int | str
Pitch = Annotated[int, Field(ge=0, le=127)]


class Lock(Strict):
    """A note inside the region that must stay."""

    track: TrackName
    onset_tick: Annotated[int, Field(ge=0)]
    pitch: Pitch


class RegionSpec(Strict):
    """Where to fill. Give exactly one of `bars`, `beats`, `ticks` or `continue_bars`."""

    bars: str | None = Field(
        default=None, description="bars from 1, both ends included, e.g. '9-12' or '5'", examples=["9-12"]
    )
    beats: str | None = Field(default=None, description="beats of the song from 1, both ends included, e.g. '33-36'")
    ticks: tuple[int, int] | None = Field(default=None, description="ticks [start, end)")
    continue_bars: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="go on past the song's end"
    )
    tracks: list[TrackName] | None = Field(default=None, description="numbers from 1 or names; left out: all tracks")
    pitch_low: Pitch = 0
    pitch_high: Pitch = 127
    locks: tuple[Lock, ...] = ()

    @model_validator(mode="after")
    def _one_stretch(self) -> "RegionSpec":
        given = [self.bars, self.beats, self.ticks, self.continue_bars]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give exactly one of bars, beats, ticks or continue_bars")
        return self


class ControlSpec(Strict):
    """Hard limits on what a fill may contain; every limit given is kept by every fill."""

    pitch_min: Pitch | None = None
    pitch_max: Pitch | None = None
    key: str | None = Field(
        default=None, description="tonic and mode; notes outside its scale are never made", examples=["C major"]
    )
    max_polyphony: Annotated[int, Field(ge=1, le=32)] | None = None
    min_notes_per_bar: Annotated[int, Field(ge=0, le=256)] | None = None
    max_notes_per_bar: Annotated[int, Field(ge=0, le=256)] | None = None
    velocity_min: Annotated[int, Field(ge=1, le=127)] | None = None
    velocity_max: Annotated[int, Field(ge=1, le=127)] | None = None


class SamplingSpec(Strict):
    """How to draw. The same seed and model version give the same fill."""

    n: Annotated[int, Field(ge=1, le=16)] = 1
    best_of: Annotated[int, Field(ge=1, le=32)] | None = Field(
        default=None, description="make this many, keep the n the reward model likes best"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] = 1.0
    top_k: Annotated[int, Field(ge=0, le=4096)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.98

    @model_validator(mode="after")
    def _best_of_covers_n(self) -> "SamplingSpec":
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError(f"best_of ({self.best_of}) must be at least n ({self.n})")
        return self


class InfillOptions(Strict):
    """Everything of an infill request but the MIDI file itself (the `options` field of a multipart request)."""

    region: RegionSpec
    controls: ControlSpec = ControlSpec()
    sampling: SamplingSpec = SamplingSpec()
    model: str = Field(default="champion", description="an alias (champion, challenger) or a version")


class InfillRequest(InfillOptions):
    """One gap to fill."""

    midi_base64: str = Field(description="a standard MIDI file, base64")


class PlacedNote(Strict):
    """A note of a fill, for drawing: seconds and ticks from the start of the song; `track` counts from 1."""

    track: int
    onset_tick: int
    duration_ticks: int
    onset_s: float
    duration_s: float
    pitch: Pitch
    velocity: Annotated[int, Field(ge=1, le=127)]


class CandidateView(Strict):
    """One fill."""

    index: int
    seed: int
    midi_base64: str
    notes: tuple[PlacedNote, ...]
    tokens: tuple[tuple[int, ...], ...] = Field(description="fill token ids, one list a window of the region")
    log_probability: float
    reward: float | None = None
    audio_url: str | None = None


class InfillResponse(Strict):
    """The fills, best first when a reward model ranked them, and what made them."""

    request_id: str
    model_version: str
    checkpoint_sha256: str
    reward_version: str | None = None
    seed: int
    candidates: tuple[CandidateView, ...]
    timings_ms: dict[str, float]


class Problem(Strict):
    """An error as RFC 9457 `application/problem+json` says it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: tuple[dict[str, str], ...] = ()


# ---- looking and listening ------------------------------------------------------------------------------------------


class InspectRequest(Strict):
    """Ask what a MIDI file holds."""

    midi_base64: str = Field(description="a standard MIDI file, base64")


class BarView(Strict):
    """One bar: `number` from 1, ticks [start, end) and the second at which it starts."""

    number: int
    start_tick: int
    end_tick: int
    start_s: float
    numerator: int
    denominator: int


class TrackView(Strict):
    """One track with notes: `number` from 1."""

    number: int
    name: str
    program: Annotated[int, Field(ge=0, le=127)]
    is_drum: bool
    notes: int


class InspectResponse(Strict):
    """What a page needs to draw a song."""

    ticks_per_quarter: int
    end_tick: int
    duration_s: float
    bars: tuple[BarView, ...]
    tracks: tuple[TrackView, ...]
    notes: tuple[PlacedNote, ...]


class PreviewRequest(Strict):
    """Ask for a MIDI file as sound: the answer is audio/wav, from `start_s` to `end_s` (None: to the end)."""

    midi_base64: str = Field(description="a standard MIDI file, base64")
    start_s: Annotated[float, Field(ge=0)] = 0.0
    end_s: Annotated[float, Field(gt=0)] | None = None


# ---- feedback: immutable records ------------------------------------------------------------------------------------


class Choice(StrEnum):
    """What a rater may answer about sides a and b."""

    A = "a"
    B = "b"
    TIE = "tie"
    BOTH_BAD = "both_bad"
    SKIP = "skip"


class Candidate(Strict):
    """One side of a pair: enough to make it again exactly."""

    model_version: str
    checkpoint_sha256: str
    sampling: SamplingSpec
    seed: int
    tokens: tuple[tuple[int, ...], ...]
    midi_sha256: str
    midi_base64: str


class Pair(Strict):
    """Two fills of one gap. `pair_id` is the hash of the rest: made once, never changed."""

    pair_id: str
    context_base64: str
    context_sha256: str
    piece_id: str = Field(description="groups pairs of one source piece; splits never cut through it")
    region: RegionSpec
    controls: ControlSpec
    vocabulary_hash: str
    first: Candidate
    second: Candidate


class Comparison(Strict):
    """One presentation of a pair to one rater."""

    record: Literal["comparison"] = "comparison"
    comparison_id: str
    pair_id: str
    rater: str = Field(description="keyed pseudonym")
    swapped: bool = Field(description="whether side a is the pair's second candidate")
    propensity: float = Field(description="chance with which the scheduler chose this pair")
    source: Literal["study", "own_prompt"]
    pool: str | None = None
    created: datetime
    expires: datetime


class Listening(Strict):
    """What part of the fill, 0 to 1, was really heard on each side."""

    heard_a: Annotated[float, Field(ge=0, le=1)] = 0.0
    heard_b: Annotated[float, Field(ge=0, le=1)] = 0.0
    seconds: Annotated[float, Field(ge=0)] = 0.0


class Judgment(Strict):
    """One answer to one comparison."""

    record: Literal["judgment"] = "judgment"
    judgment_id: str
    comparison_id: str
    pair_id: str
    rater: str
    choice: Choice
    strength: Annotated[int, Field(ge=1, le=3)] | None = None
    listening: Listening = Listening()
    simulated: bool = Field(default=False, description="made by a program, not a person; always labelled so")
    received: datetime


class Retraction(Strict):
    """Takes a judgment back: a record of its own, since nothing is ever edited."""

    record: Literal["retraction"] = "retraction"
    retraction_id: str
    judgment_id: str
    rater: str
    received: datetime


class Flag(Strict):
    """A quality rule's verdict on a judgment, by the rule's version."""

    record: Literal["flag"] = "flag"
    flag_id: str
    judgment_id: str
    rule: str
    rule_version: int
    received: datetime


class Tombstone(Strict):
    """Erases a rater: readers drop everything of theirs."""

    record: Literal["tombstone"] = "tombstone"
    tombstone_id: str
    rater: str
    received: datetime


# ---- feedback over HTTP ---------------------------------------------------------------------------------------------


class ComparisonRequest(Strict):
    """Ask for a blind pair: from a pool (`pool`), or two fills of the caller's own gap (`infill`)."""

    rater_key: Annotated[str, Field(min_length=8, max_length=128)] = Field(
        description="a secret of the client's own; stored only as a keyed pseudonym"
    )
    pool: str | None = None
    infill: InfillRequest | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "ComparisonRequest":
        if (self.pool is None) == (self.infill is None):
            raise ValueError("give either pool or infill")
        return self


class SideView(Strict):
    """One blind side: nothing here tells which model made it."""

    midi_base64: str
    notes: tuple[PlacedNote, ...]
    audio_url: str


class ComparisonView(Strict):
    """A blind pair to listen to. `token` must come back with the judgment."""

    comparison_id: str
    token: str
    expires: datetime
    context_base64: str
    context_audio_url: str
    start_s: float = Field(description="where the gap begins, in seconds of the song")
    end_s: float = Field(description="where the gap ends, in seconds of the song")
    audio_start_s: float = Field(default=0.0, description="the second of the song at which all three sounds begin")
    region: RegionSpec
    a: SideView
    b: SideView


class JudgmentRequest(Strict):
    """A rater's answer. Sending it twice with the same `judgment_id` stores it once."""

    judgment_id: Annotated[str, Field(min_length=8, max_length=64)]
    comparison_id: str
    token: str
    rater_key: Annotated[str, Field(min_length=8, max_length=128)]
    choice: Choice
    strength: Annotated[int, Field(ge=1, le=3)] | None = None
    listening: Listening = Listening()
    simulated: bool = False


class JudgmentReceipt(Strict):
    """Sent only after the judgment is on disk. Now that the vote is cast, it names what was heard."""

    judgment_id: str
    stored: bool
    duplicate: bool
    model_a: str
    model_b: str


class RetractionRequest(Strict):
    """Take a judgment back. Its comparison may be answered again."""

    judgment_id: Annotated[str, Field(min_length=8, max_length=64)]
    rater_key: Annotated[str, Field(min_length=8, max_length=128)]


class RetractionReceipt(Strict):
    """Sent only after the retraction is on disk."""

    judgment_id: str
    retracted: bool
    duplicate: bool


# ---- models ---------------------------------------------------------------------------------------------------------


class ModelView(Strict):
    """One version of a model, and the names that point to it."""

    version: str
    aliases: tuple[str, ...]
    checkpoint_sha256: str
    size_bytes: int
    created: datetime
    metrics: dict[str, float]
    note: str


class ModelsResponse(Strict):
    """What may stand in `model` of a request, and the reward models that `best_of` may use."""

    infill: tuple[ModelView, ...]
    reward: tuple[ModelView, ...]
