"""Requests and responses about comparisons, judgments, retractions and erasure."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, model_validator

from harmonixr_platform.schemas.base import Strict
from harmonixr_platform.schemas.infill import InfillRequest, PlacedNote, RegionSpec
from harmonixr_platform.schemas.records import Choice, Consent, Listening, Tag

RaterKey = Annotated[str, Field(min_length=8, max_length=128)]
JudgmentId = Annotated[str, Field(min_length=8, max_length=64)]


class ComparisonRequest(Strict):
    """Request a blind pair: from a pool (`pool`), or two fills of the caller's own gap (`infill`)."""

    rater_key: RaterKey = Field(description="a secret of the client; only a keyed pseudonym of it is stored")
    pool: str | None = None
    infill: InfillRequest | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "ComparisonRequest":
        if (self.pool is None) == (self.infill is None):
            raise ValueError("give either pool or infill")
        return self


class SideView(Strict):
    """One blind side; nothing in it reveals the model."""

    midi_base64: str
    notes: tuple[PlacedNote, ...]
    audio_url: str


class RaterProgress(Strict):
    """How many comparisons the rater was shown before this one, and their total number."""

    done: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(ge=1)]


class ComparisonView(Strict):
    """A blind pair to listen to. The judgment must contain `token`."""

    comparison_id: str
    token: str
    expires: datetime
    context_base64: str
    context_audio_url: str
    start_s: float = Field(description="start of the gap in seconds of the song")
    end_s: float = Field(description="end of the gap in seconds of the song")
    audio_start_s: float = Field(default=0.0, description="start of all three audio excerpts in seconds of the song")
    audio_end_s: float = Field(default=0.0, description="end of all three audio excerpts in seconds of the song")
    min_heard: float = Field(
        default=0.0,
        description="share of the fill, 0 to 1, that must be heard on each side to judge it",
    )
    progress: RaterProgress | None = Field(default=None, description="the listener's progress in a study")
    region: RegionSpec
    a: SideView
    b: SideView


class JudgmentRequest(Strict):
    """A rater's judgment. Repeated requests with the same `judgment_id` store it once."""

    judgment_id: JudgmentId
    comparison_id: str
    token: str
    rater_key: RaterKey
    choice: Choice
    strength: Annotated[int, Field(ge=1, le=3)] | None = Field(
        default=None, description="how much better: 1 slightly, 2 clearly, 3 far; only with a or b"
    )
    tags: tuple[Tag, ...] = Field(default=(), max_length=len(Tag))
    comment: Annotated[str, Field(max_length=500)] = ""
    listening: Listening = Field(
        default=Listening(),
        description="which seconds of the song were heard on each side; not checked for skips and simulated judgments",
    )
    consent: Consent | None = Field(default=None, description="the consent wording that the rater agreed to")
    simulated: bool = Field(default=False, description="made by a program, not a person")

    @model_validator(mode="after")
    def _fits_the_choice(self) -> "JudgmentRequest":
        if self.strength is not None and self.choice not in (Choice.A, Choice.B):
            raise ValueError(f"strength is for a and b only; leave it out with {self.choice.value}")
        if len(set(self.tags)) < len(self.tags):
            raise ValueError("name each tag once")
        return self


class JudgmentReceipt(Strict):
    """Sent after the judgment is on disk. It names the models, except in a study."""

    judgment_id: str
    stored: bool
    duplicate: bool
    model_a: str | None
    model_b: str | None


class RetractionRequest(Strict):
    """Retract a judgment. Its comparison may be judged again."""

    judgment_id: JudgmentId
    rater_key: RaterKey


class ErasureRequest(Strict):
    """Erase a rater. Nothing more is accepted under their key."""

    rater_key: RaterKey


class ErasureReceipt(Strict):
    """Sent after the request is on disk. No result counts the rater any more; their records are deleted later."""

    accepted: bool


class RetractionReceipt(Strict):
    """Sent after the retraction is on disk."""

    judgment_id: str
    retracted: bool
    duplicate: bool
