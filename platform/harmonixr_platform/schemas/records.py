"""The immutable records of feedback, as they are stored."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from harmonixr_platform.schemas.base import Strict
from harmonixr_platform.schemas.infill import ControlSpec, RegionSpec, SamplingSpec


class Choice(StrEnum):
    """A rater's choice between sides a and b."""

    A = "a"
    B = "b"
    TIE = "tie"
    BOTH_BAD = "both_bad"
    SKIP = "skip"


class Candidate(Strict):
    """One side of a pair, with everything that is needed to reproduce it."""

    model_version: str
    checkpoint_sha256: str
    sampling: SamplingSpec
    seed: int
    tokens: tuple[tuple[int, ...], ...]
    midi_sha256: str
    midi_base64: str


class Pair(Strict):
    """Two fills of one gap. `pair_id` is the hash of all other fields."""

    pair_id: str
    context_base64: str
    context_sha256: str
    piece_id: str = Field(description="the source piece; all its pairs are in the same split")
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
    propensity: float = Field(description="probability with which the scheduler chose this pair")
    source: Literal["study", "own_prompt"]
    pool: str | None = None
    study: str | None = Field(default=None, description="the version of the study's definition, `name@digest`")
    arms: tuple[str, str] | None = Field(
        default=None, description="the study's arms that made the first and second fill"
    )
    role: Literal["plain", "repeat", "gold"] = "plain"
    expected: Literal["first", "second", "tie"] | None = Field(
        default=None, description="the known outcome of a gold pair, by its candidates"
    )
    repeats: str | None = Field(default=None, description="the comparison that this one repeats with the sides swapped")
    created: datetime
    expires: datetime


class Tag(StrEnum):
    """A reason for the choice."""

    TIMING = "timing"
    HARMONY = "harmony"
    SEAM = "seam"
    BORING = "boring"
    OUT_OF_STYLE = "out_of_style"


# Seconds of the song, [from, to).
Interval = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
Intervals = Annotated[tuple[Interval, ...], Field(max_length=512)]


class Listening(Strict):
    """Which part of the fill was heard on each side.

    The client sends the intervals. The service computes `heard_a` and `heard_b`, the share of the fill from 0 to 1
    without repetitions, and ignores the client's values.
    """

    heard_a: Annotated[float, Field(ge=0, le=1)] = 0.0
    heard_b: Annotated[float, Field(ge=0, le=1)] = 0.0
    intervals_a: Intervals = ()
    intervals_b: Intervals = ()
    seconds: Annotated[float, Field(ge=0)] = Field(default=0.0, description="total playing time, including repetitions")
    switches: Annotated[int, Field(ge=0)] = Field(default=0, description="how often the listener changed sides")
    headphones: Literal["passed", "failed", "not_checked"] = Field(
        default="not_checked", description="result of the listener's headphone check"
    )


class Consent(Strict):
    """The consent wording that a rater agreed to, and the time by their page."""

    version: Annotated[str, Field(min_length=1, max_length=32)]
    given: datetime


class Judgment(Strict):
    """One judgment of one comparison."""

    record: Literal["judgment"] = "judgment"
    judgment_id: str
    comparison_id: str
    pair_id: str
    rater: str
    choice: Choice
    strength: Annotated[int, Field(ge=1, le=3)] | None = None
    tags: tuple[Tag, ...] = ()
    comment: str = ""
    listening: Listening = Listening()
    consent: Consent | None = None
    simulated: bool = Field(default=False, description="made by a program, not a person; always labelled")
    received: datetime


class Retraction(Strict):
    """Retracts a judgment. It is a separate record, since records are never edited."""

    record: Literal["retraction"] = "retraction"
    retraction_id: str
    judgment_id: str
    rater: str
    received: datetime


class Flag(Strict):
    """A judgment is doubtful by a version of a quality rule."""

    record: Literal["flag"] = "flag"
    flag_id: str
    judgment_id: str
    rule: str
    rule_version: int
    received: datetime


class Tombstone(Strict):
    """Erases a rater: readers skip all their records. `rater` is a hash of the pseudonym."""

    record: Literal["tombstone"] = "tombstone"
    tombstone_id: str
    rater: str
    received: datetime
