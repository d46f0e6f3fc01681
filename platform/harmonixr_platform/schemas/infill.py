"""A gap, what may fill it and what did: requests and answers of infilling."""

from typing import Annotated, ClassVar, Literal

from pydantic import AliasChoices, Field, model_validator

from harmonixr_model.engine.engine import GUIDANCE, temperature_text
from harmonixr_platform.schemas.base import Strict

TrackName = int | str
Pitch = Annotated[int, Field(ge=0, le=127)]
NoteField = Literal["pitch", "rhythm", "velocity", "duration"]


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
    """Hard limits, which every fill keeps, and soft controls, which the model follows as well as it learnt to.

    With `only` the region keeps its notes, and one field of them alone may change; a limit or control that says nothing
    about that field is refused (422).

    Soft are density, polyphony, velocity, chords, key_hint, style and composer; a model that did not learn one that is
    asked for refuses the request (422).
    """

    later_fields: ClassVar[frozenset[str]] = frozenset(
        {
            "density",
            "polyphony",
            "velocity",
            "chords",
            "chord_tones_only",
            "key_hint",
            "style",
            "composer",
            "only",
            "enforce",
        }
    )

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
    density: Annotated[float, Field(ge=0, le=14)] | None = Field(
        default=None, description="soft: about so many notes a quarter in every track"
    )
    polyphony: Annotated[float, Field(ge=1, le=8.5)] | None = Field(
        default=None, description="soft: about so many notes of a track at once while any sounds"
    )
    velocity: Annotated[float, Field(ge=1, le=127)] | None = Field(
        default=None, description="soft: a mean velocity of about this"
    )
    chords: Annotated[str, Field(max_length=2000)] | None = Field(
        default=None,
        description="soft: the chords of each bar, bars parted by |, repeated over the region",
        examples=["C | Am F | G7"],
    )
    chord_tones_only: bool = Field(default=False, description="hard: no other notes than those of `chords`")
    key_hint: str | None = Field(default=None, description="soft: a tonic and mode; `key` enforces its scale")
    enforce: bool = Field(
        default=False, description="keep density, polyphony and velocity as limits, whatever the model learnt"
    )
    style: str | None = Field(default=None, description="soft: a style the model was trained on, such as pop")
    composer: str | None = Field(default=None, description="soft: a composer the model was trained on")
    only: NoteField | None = Field(
        default=None,
        description="hard: keep the region's notes and change one field of them; a rhythm is onsets and durations",
    )


class SamplingSpec(Strict):
    """How to draw. The same seed and model version give the same fill."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"copy_strength", "guidance"})

    n: Annotated[int, Field(ge=1, le=16)] = 1
    best_of: Annotated[int, Field(ge=1, le=32)] | None = Field(
        default=None, description="make this many, keep the n the reward model likes best"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] | None = Field(
        default=None, description=f"0: the likeliest notes; left out, what suits the tracks: {temperature_text(None)}"
    )
    top_k: Annotated[int, Field(ge=0, le=4096)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.98
    copy_strength: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        # Stored records and earlier clients call it recall.
        validation_alias=AliasChoices("copy_strength", "recall"),
        serialization_alias="recall",
        description="how much fills repeat the song: 0 as the model alone does, 1 as often as songs do. Left out it is "
        "1, and 0 for fills to be compared. No effect with attribute controls or `only`. Also accepted as `recall`",
    )
    guidance: Annotated[float, Field(ge=0, le=10)] | None = Field(
        default=None,
        description="how far to lean towards soft controls, 1 as the model does by itself; left out it is "
        f"{GUIDANCE:g} where any are asked",
    )

    def for_comparing(self) -> "SamplingSpec":
        """Return it with copy strength 0 where none is given: two fills that both repeat the song would be equal."""
        return self.model_copy(update={"copy_strength": 0.0}) if self.copy_strength is None else self

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

    @model_validator(mode="after")
    def _whole_fills_are_ranked(self) -> "InfillOptions":
        if self.controls.only is not None and self.sampling.best_of is not None:
            raise ValueError("the reward model judges whole fills: leave best_of out with `only`, and ask for n")
        return self


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
    precision: str = Field(
        default="fp32", description="number format of the model: the same seed may give another fill in another format"
    )
    reward_version: str | None = None
    seed: int
    candidates: tuple[CandidateView, ...]
    timings_ms: dict[str, float]
