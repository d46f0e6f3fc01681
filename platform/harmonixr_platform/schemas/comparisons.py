"""Blind pairs and answers as they cross the wire."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, model_validator

from harmonixr_platform.schemas.base import Strict
from harmonixr_platform.schemas.infill import InfillRequest, PlacedNote, RegionSpec
from harmonixr_platform.schemas.records import Choice, Consent, Listening, Tag


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


class RaterProgress(Strict):
    """How many comparisons a rater has been shown before this one, and of how many."""

    done: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(ge=1)]


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
    audio_end_s: float = Field(default=0.0, description="the second of the song at which all three sounds end")
    min_heard: float = Field(
        default=0.0, description="the part of the fill, 0 to 1, to be heard on each side before a verdict is taken"
    )
    progress: RaterProgress | None = Field(default=None, description="how far the listener is, where there is an end")
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
    strength: Annotated[int, Field(ge=1, le=3)] | None = Field(
        default=None, description="how much better: 1 slightly, 2 clearly, 3 far; only with a or b"
    )
    tags: tuple[Tag, ...] = Field(default=(), max_length=len(Tag))
    comment: Annotated[str, Field(max_length=500)] = ""
    listening: Listening = Field(
        default=Listening(),
        description="which seconds of the song were heard on each side; checked, but for skips and simulated answers",
    )
    consent: Consent | None = Field(default=None, description="the wording of consent that the rater agreed to")
    simulated: bool = Field(default=False, description="made by a program, not a person")

    @model_validator(mode="after")
    def _fits_the_choice(self) -> "JudgmentRequest":
        if self.strength is not None and self.choice not in (Choice.A, Choice.B):
            raise ValueError(f"strength says how much better a or b is; leave it out with {self.choice.value}")
        if len(set(self.tags)) < len(self.tags):
            raise ValueError("name each tag once")
        return self


class JudgmentReceipt(Strict):
    """Sent only after the judgment is on disk. Now that the vote is cast, it names what was heard, but in a study."""

    judgment_id: str
    stored: bool
    duplicate: bool
    model_a: str | None
    model_b: str | None


class RetractionRequest(Strict):
    """Take a judgment back. Its comparison may be answered again."""

    judgment_id: Annotated[str, Field(min_length=8, max_length=64)]
    rater_key: Annotated[str, Field(min_length=8, max_length=128)]


class ErasureRequest(Strict):
    """Ask that a rater be erased. Nothing more is taken under their key from then on."""

    rater_key: Annotated[str, Field(min_length=8, max_length=128)]


class ErasureReceipt(Strict):
    """Sent only after the request is on disk. No result counts the rater any more; copies go with the next sweep."""

    accepted: bool


class RetractionReceipt(Strict):
    """Sent only after the retraction is on disk."""

    judgment_id: str
    retracted: bool
    duplicate: bool
