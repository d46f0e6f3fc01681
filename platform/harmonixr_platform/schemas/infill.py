"""Requests and responses of infilling."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AliasChoices, Field, create_model, model_validator

from harmonixr_model.engine.engine import GUIDANCE, temperature_text
from harmonixr_model.grammar.control import Control
from harmonixr_model.notes.encoded_score import NoteField
from harmonixr_model.prompt.controls import CONTROLS
from harmonixr_platform.schemas.base import Strict

TrackName = int | str
Pitch = Annotated[int, Field(ge=0, le=127)]
MAX_TEXT = 2000


class Lock(Strict):
    """A note inside the region that stays."""

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
        default=None, description="bars to add after the song's end"
    )
    tracks: list[TrackName] | None = Field(default=None, description="numbers from 1 or names; left out: all tracks")
    pitch_low: Pitch = 0
    pitch_high: Pitch = 127
    locks: tuple[Lock, ...] = ()

    @model_validator(mode="after")
    def _has_one_range(self) -> "RegionSpec":
        given = [self.bars, self.beats, self.ticks, self.continue_bars]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give exactly one of bars, beats, ticks or continue_bars")
        return self


def control_fields(controls: Iterable[Control]) -> dict[str, Any]:
    """Return the fields of a schema that holds these controls, as `pydantic.create_model` takes them."""
    return {control.name: (_type_of(control), _field_of(control)) for control in controls}


def _type_of(control: Control) -> Any:
    if control.type is bool:
        return bool
    if control.type is str:
        return Annotated[str, Field(max_length=MAX_TEXT)] | None
    return Annotated[control.type, Field(ge=control.low, le=control.high)] | None


def _field_of(control: Control) -> Any:
    return Field(
        default=False if control.type is bool else None,
        description=f"attribute control: {control.help}" if control.trained_as else control.help,
        examples=[control.example] if control.example else None,
    )


if TYPE_CHECKING:
    _Controls = Strict  # a type checker cannot read generated fields
else:
    _Controls = create_model("_Controls", __base__=Strict, **control_fields(CONTROLS))


class ControlSpec(_Controls):
    """Constraints, which every fill keeps, and attribute controls, which the model was trained to follow.

    With `only` the region keeps its notes, and one field of them changes; a control that does not apply to that field
    is refused (422). A model that was not trained to follow a requested attribute control refuses the request (422).
    """

    later_fields: ClassVar[frozenset[str]] = frozenset(
        {"only", *(control.name for control in CONTROLS if not control.is_always_hashed)}
    )

    only: NoteField | None = Field(
        default=None,
        description="keep the region's notes and change one field of them; a rhythm is onsets and durations",
    )


class SamplingSpec(Strict):
    """How to sample. The same seed and model version give the same fill."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"copy_strength", "guidance"})

    n: Annotated[int, Field(ge=1, le=16)] = 1
    best_of: Annotated[int, Field(ge=1, le=32)] | None = Field(
        default=None, description="make this many fills, return the n that the reward model ranks highest"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] | None = Field(
        default=None,
        description=f"0: the likeliest notes; left out, the default of the tracks: {temperature_text(None)}",
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
        description="scale of classifier-free guidance towards attribute controls, 1: none; left out it is "
        f"{GUIDANCE:g} with attribute controls",
    )

    def for_comparing(self) -> "SamplingSpec":
        """Return it with copy strength 0 where none is given: two fills that both repeat the song would be equal."""
        return self.model_copy(update={"copy_strength": 0.0}) if self.copy_strength is None else self

    @model_validator(mode="after")
    def _best_of_is_at_least_n(self) -> "SamplingSpec":
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError(f"best_of ({self.best_of}) must be at least n ({self.n})")
        return self


class InfillOptions(Strict):
    """An infill request without its MIDI file (the `options` field of a multipart request)."""

    region: RegionSpec
    controls: ControlSpec = ControlSpec()
    sampling: SamplingSpec = SamplingSpec()
    model: str = Field(default="champion", description="an alias (champion, challenger) or a version")

    @model_validator(mode="after")
    def _ranks_whole_fills(self) -> "InfillOptions":
        if self.controls.only is not None and self.sampling.best_of is not None:
            raise ValueError("the reward model ranks whole fills: leave best_of out with `only`, and give n")
        return self


class InfillRequest(InfillOptions):
    """One gap to fill."""

    midi_base64: str = Field(description="a standard MIDI file, base64")


class PlacedNote(Strict):
    """A note of a fill. Seconds and ticks count from the start of the song, `track` from 1."""

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
    tokens: tuple[tuple[int, ...], ...] = Field(description="fill token ids, one list per window of the region")
    log_probability: float
    reward: float | None = None
    audio_url: str | None = None


class InfillResponse(Strict):
    """The fills, best first when a reward model ranked them, and the models that made them."""

    request_id: str
    model_version: str
    checkpoint_sha256: str
    precision: str = Field(
        default="fp32", description="number format of the model; in another format the same seed may give another fill"
    )
    reward_version: str | None = None
    seed: int
    candidates: tuple[CandidateView, ...]
    timings_ms: dict[str, float]
