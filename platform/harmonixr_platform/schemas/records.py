"""The immutable records of feedback, as they are stored for good. Knows nothing of stores or HTTP."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from harmonixr_platform.schemas.base import Strict
from harmonixr_platform.schemas.infill import ControlSpec, RegionSpec, SamplingSpec


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
    study: str | None = Field(default=None, description="the version of the study's definition in force, `name@digest`")
    arms: tuple[str, str] | None = Field(
        default=None, description="the study's arms that made the first and second fill"
    )
    role: Literal["plain", "repeat", "gold"] = "plain"
    expected: Literal["first", "second", "tie"] | None = Field(
        default=None, description="the right answer of a gold pair, in the pair's terms"
    )
    repeats: str | None = Field(default=None, description="the comparison that this shows again with its sides swapped")
    created: datetime
    expires: datetime


class Tag(StrEnum):
    """What a rater says decided it."""

    TIMING = "timing"
    HARMONY = "harmony"
    SEAM = "seam"
    BORING = "boring"
    OUT_OF_STYLE = "out_of_style"


# Seconds of the song, [from, to).
Interval = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
Intervals = Annotated[tuple[Interval, ...], Field(max_length=512)]


class Listening(Strict):
    """What of the fill was really heard on each side.

    A client sends the intervals; `heard_a` and `heard_b`, the unique part of the fill from 0 to 1, are then worked out
    by the service, whatever the client said.
    """

    heard_a: Annotated[float, Field(ge=0, le=1)] = 0.0
    heard_b: Annotated[float, Field(ge=0, le=1)] = 0.0
    intervals_a: Intervals = ()
    intervals_b: Intervals = ()
    seconds: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="how long anything played, repeats included"
    )
    switches: Annotated[int, Field(ge=0)] = Field(default=0, description="how often the listener changed sides")
    headphones: Literal["passed", "failed", "not_checked"] = Field(
        default="not_checked", description="how the listener's headphone check ended"
    )


class Consent(Strict):
    """Which wording a rater agreed to, and when their page says so."""

    version: Annotated[str, Field(min_length=1, max_length=32)]
    given: datetime


class Judgment(Strict):
    """One answer to one comparison."""

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
    """Erases a rater: readers drop everything of theirs.

    `rater` is the hash of the pseudonym, so that what remains of an erased rater does not name them.
    """

    record: Literal["tombstone"] = "tombstone"
    tombstone_id: str
    rater: str
    received: datetime
