"""The definition of a listening study: songs, arms, quotas, controls and stopping rule, read from a YAML file.

A study that has begun never changes. Its version is a hash of its definition and is stored in every comparison.
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
    """How gaps are chosen in the songs."""

    per_song: Positive = 1
    min_bars: Annotated[int, Field(ge=1, le=16)] = 1
    max_bars: Annotated[int, Field(ge=1, le=16)] = 4
    one_track: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.75, description="share of the gaps that are on one track; the others are on all tracks"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Gaps:
        if self.min_bars > self.max_bars:
            raise ValueError(f"min_bars ({self.min_bars}) must not be more than max_bars ({self.max_bars})")
        return self


class Contexts(Strict):
    """The songs and their gaps."""

    songs: tuple[str, ...] = Field(
        default=(), description="MIDI files or folders, relative to the study's file; none: the bundled examples"
    )
    gaps: Gaps = Gaps()
    seed: int = 0


class Arm(Strict):
    """One way to fill a gap: a model and how it is sampled."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
    model: Annotated[str, Field(min_length=1)] = Field(
        default="champion", description="an alias or a version; an alias is resolved once, when the study begins"
    )
    sampling: SamplingSpec = SamplingSpec()

    @field_validator("sampling")
    @classmethod
    def _no_count_or_seed(cls, value: SamplingSpec) -> SamplingSpec:
        if value.n != 1 or value.best_of is not None or value.seed is not None:
            raise ValueError(
                "an arm sets temperature, top_k and top_p; the study sets the number of fills and their seeds"
            )
        return value


class FillPlan(Strict):
    """How many fills each arm makes of a gap, and which of them are compared."""

    per_arm: Annotated[int, Field(ge=1, le=16)] = 1
    within_arm: bool = Field(default=False, description="also compare two fills of one arm")


class Quotas(Strict):
    """How many judgments the study collects, by pair and by rater."""

    raters_per_pair: Positive = Field(
        default=2, description="number of raters who judge a pair before a new one is shown"
    )
    most_per_pair: Positive | None = Field(default=None, description="maximum number of raters who judge a pair")
    per_rater: Positive = Field(
        default=40, description="number of comparisons for one rater, including gold pairs and repeats"
    )

    @model_validator(mode="after")
    def _floor_below_cap(self) -> Quotas:
        if self.most_per_pair is not None and self.most_per_pair < self.raters_per_pair:
            raise ValueError(
                f"most_per_pair ({self.most_per_pair}) must not be less than raters_per_pair ({self.raters_per_pair})"
            )
        return self


class Repeats(Strict):
    """Pairs shown again to the same rater with the sides swapped, unannounced."""

    share: Share = 0.1
    after: Positive = Field(default=5, description="number of other comparisons between the two")


class Gold(Strict):
    """Pairs with a known outcome: a fill against an audibly broken copy of it, or against itself."""

    share: Share = 0.1
    pairs: Positive = 8
    identical: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.25, description="share of the gold pairs with two equal sides, which expect a tie"
    )


class Scheduling(Strict):
    """How the next pair is chosen."""

    epsilon: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="share of uniform choices, so that every open pair can be chosen"
    )
    unanswered_s: Annotated[int, Field(ge=30)] = Field(
        default=1800, description="how long a pair on a rater's screen counts as judged, in seconds"
    )


class Stopping(Strict):
    """When the study ends: at a number of judgments, or when an anytime-valid interval has decided."""

    most_judgments: Positive = 1000
    margin: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        default=0.05, description="a win rate within one half ± margin counts as no difference"
    )
    answers_each: Positive = Field(
        default=10, description="number of a rater's first judgments of two arms that are averaged to one value"
    )


class Study(Strict):
    """One listening study. Unknown keys fail."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    title: str = ""
    question: str = "Which of the two fits the song better?"
    consent: str | None = Field(
        default=None, description="consent version that people must have agreed to; none: any version"
    )
    retention_days: Positive = Field(default=730, description="how long judgments are stored; shown to raters")
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
                "one arm alone cannot be compared; add an arm, or set fills.within_arm and fills.per_arm: 2"
            )
        if self.repeats.share + self.gold.share > 0.5:
            raise ValueError("repeats.share and gold.share together are more than half of a rater's comparisons")
        return self

    @property
    def version(self) -> str:
        """Name and hash of the definition, stored in every comparison."""
        return f"{self.name}@{hashlib.sha256(content_json(self).encode()).hexdigest()[:12]}"


def read_study(path: Path) -> Study:
    """Return the study that a YAML file defines; raise BadStudy with the key of the first error."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadStudy(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadStudy(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise BadStudy(f"{path} is not a study; it must begin with `name:` and list `arms:`")
    return parse_study(values, source=str(path))


def parse_study(values: dict[str, Any], *, source: str) -> Study:
    """Return the study that these values define; raise BadStudy with the key of the first error."""
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the study"
        if first["type"] == "extra_forbidden":
            raise BadStudy(f"{source}: {place} is not a setting of a study; correct its name or remove it") from None
        raise BadStudy(f"{source}: {place}: {first['msg'].removeprefix('Value error, ')}") from None
