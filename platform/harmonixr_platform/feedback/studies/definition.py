"""What a listening study is: its songs, arms, raters, quotas, controls and end, as one YAML says it. Knows no store.

A study that has begun never changes: its version is the hash of its definition and stands in every comparison.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from harmonixr_platform.feedback.errors import BadStudy
from harmonixr_platform.schemas import ControlSpec, SamplingSpec, Strict
from harmonixr_platform.schemas.base import content_json

Share = Annotated[float, Field(ge=0, le=0.5)]
Positive = Annotated[int, Field(ge=1)]


class Gaps(Strict):
    """Which gaps are made in the songs."""

    per_song: Positive = 1
    min_bars: Annotated[int, Field(ge=1, le=16)] = 1
    max_bars: Annotated[int, Field(ge=1, le=16)] = 4
    one_track: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.75, description="share of the gaps that lie on one track; the rest are on all"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Gaps:
        if self.min_bars > self.max_bars:
            raise ValueError(f"min_bars ({self.min_bars}) must not be more than max_bars ({self.max_bars})")
        return self


class Contexts(Strict):
    """The songs and their gaps."""

    songs: tuple[str, ...] = Field(
        default=(), description="MIDI files or folders, as seen from the study's file; none: the bundled examples"
    )
    gaps: Gaps = Gaps()
    seed: int = 0


class Arm(Strict):
    """One way to fill a gap: a model and how it is sampled."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
    model: Annotated[str, Field(min_length=1)] = Field(
        default="champion", description="an alias or a version; an alias is read once, when the pool is made"
    )
    sampling: SamplingSpec = SamplingSpec()

    @field_validator("sampling")
    @classmethod
    def _one_at_a_time(cls, value: SamplingSpec) -> SamplingSpec:
        if value.n != 1 or value.best_of is not None or value.seed is not None:
            raise ValueError("an arm says temperature, top_k and top_p; how many fills and their seeds are the study's")
        return value


class FillPlan(Strict):
    """How many fills each arm makes of a gap, and which of them meet."""

    per_arm: Annotated[int, Field(ge=1, le=16)] = 1
    within_arm: bool = Field(default=False, description="whether two fills of one arm are compared, too")


class Quotas(Strict):
    """How much is asked of whom."""

    raters_per_pair: Positive = Field(default=2, description="so many judge a pair before another one is opened")
    most_per_pair: Positive | None = Field(default=None, description="no more than so many judge a pair")
    per_rater: Positive = Field(default=40, description="comparisons a rater is shown, gold and repeats included")

    @model_validator(mode="after")
    def _floor_below_cap(self) -> Quotas:
        if self.most_per_pair is not None and self.most_per_pair < self.raters_per_pair:
            raise ValueError(
                f"most_per_pair ({self.most_per_pair}) must not be less than raters_per_pair ({self.raters_per_pair})"
            )
        return self


class Repeats(Strict):
    """Pairs shown again to the same rater, sides swapped, without a word."""

    share: Share = 0.1
    after: Positive = Field(default=5, description="so many other comparisons lie between the two")


class Gold(Strict):
    """Pairs whose right answer is known: a fill against its own audibly broken copy, or against itself."""

    share: Share = 0.1
    pairs: Positive = 8
    identical: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.25, description="share of the gold pairs with two equal sides, which expect a tie"
    )


class Scheduling(Strict):
    """How a pair is chosen."""

    epsilon: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="share of the choices that is uniform, so that every open pair keeps a chance"
    )
    unanswered_s: Annotated[int, Field(ge=30)] = Field(
        default=1800, description="a pair on a screen counts as answered for so long"
    )


class Stopping(Strict):
    """When the study ends: after so many judgments, or when an anytime-valid interval has decided."""

    most_judgments: Positive = 1000
    margin: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        default=0.05, description="win rates within one half ± margin count as no difference"
    )
    answers_each: Positive = Field(default=10, description="a rater's first so many answers make one value")


class Study(Strict):
    """One listening study. Unknown keys fail."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    title: str = ""
    question: str = "Which of the two fits the song better?"
    consent: str | None = Field(
        default=None, description="version of the wording that people must have agreed to; none: any version"
    )
    retention_days: Positive = Field(default=730, description="how long answers are kept; said to raters")
    contexts: Contexts = Contexts()
    arms: Annotated[tuple[Arm, ...], Field(min_length=1, max_length=16)]
    controls: ControlSpec = ControlSpec()
    fills: FillPlan = FillPlan()
    quotas: Quotas = Quotas()
    repeats: Repeats = Repeats()
    gold: Gold = Gold()
    scheduling: Scheduling = Scheduling()
    stopping: Stopping = Stopping()

    @field_validator("controls")
    @classmethod
    def _whole_fills(cls, value: ControlSpec) -> ControlSpec:
        if value.only is not None:
            raise ValueError("a study compares whole fills; leave `only` out")
        return value

    @model_validator(mode="after")
    def _can_compare(self) -> Study:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms need different names, not {', '.join(names)}")
        if len(names) == 1 and not (self.fills.within_arm and self.fills.per_arm > 1):
            raise ValueError(
                "one arm has nothing to be compared with; add an arm, or set fills.within_arm and fills.per_arm: 2"
            )
        if self.repeats.share + self.gold.share > 0.5:
            raise ValueError("repeats.share and gold.share together take more than half of a rater's time")
        return self

    @property
    def version(self) -> str:
        """Name and hash of the definition: what a comparison says it was made under."""
        return f"{self.name}@{hashlib.sha256(content_json(self).encode()).hexdigest()[:12]}"


def read_study(path: Path) -> Study:
    """Return the study that a YAML file defines; raise BadStudy with the place of its first fault."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadStudy(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadStudy(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise BadStudy(f"{path} holds no study; it should begin with `name:` and list `arms:`")
    return parse_study(values, source=str(path))


def parse_study(values: dict[str, Any], *, source: str) -> Study:
    """Return the study that these values define; raise BadStudy with the place of the first fault."""
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the study"
        if first["type"] == "extra_forbidden":
            raise BadStudy(f"{source}: {place} is no setting of a study; correct its name or leave it out") from None
        raise BadStudy(f"{source}: {place}: {first['msg'].removeprefix('Value error, ')}") from None
