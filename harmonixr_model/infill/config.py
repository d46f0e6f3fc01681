"""The architecture of an infill model, as a value that travels inside its checkpoint. Knows no job and no path."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from harmonixr_model.errors import CheckpointError
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import CONTROL_SIZE, PLACE_SIZES

Attending = Literal["prefix", "causal"]


@dataclass(frozen=True, slots=True)
class InfillConfig:
    """Everything that decides the shapes of the weights, and dropout.

    `max_length` is how many tokens a prompt and its fill may take together: the longest the model was trained for.
    `bars`, `steps` and `slots` are how many values each coordinate has, `asked` how many all soft controls have (see
    MusicEmbedding); with 0, as checkpoints had it before, controls are tokens alone.

    The last two are what docs/experiments/architectures.md compares: `attending` lets the prefix see all of itself,
    or (`causal`) only what came before; without `coordinates` a token says nothing but itself.
    """

    width: int
    layers: int
    heads: int
    dropout: float = 0.1
    max_length: int = 2048
    bars: int = PLACE_SIZES[0]
    steps: int = PLACE_SIZES[1]
    slots: int = PLACE_SIZES[2]
    vocabulary: int = VOCAB.size
    asked: int = 0
    attending: Attending = "prefix"
    coordinates: bool = True

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads) != 0:
            raise CheckpointError(f"width {self.width} does not split into {self.heads} heads of an even width")
        if self.attending not in get_args(Attending):
            raise CheckpointError(f"nothing attends {self.attending!r}; choose {' or '.join(get_args(Attending))}")

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def coordinate_sizes(self) -> dict[str, int]:
        """How many values each coordinate has, as MusicEmbedding takes them."""
        return {"bars": self.bars, "steps": self.steps, "slots": self.slots, "asked": self.asked}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; switches at their default are not said, as before there were any."""
        return {name: value for name, value in asdict(self).items() if _SWITCHES.get(name) != value}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> InfillConfig:
        """Rebuild a config; unknown or missing fields raise CheckpointError, as does a model trained with MICRO."""
        values = dict(values)
        if values.pop("micro", False):
            raise CheckpointError("the model was trained with MICRO tokens, which are no longer read; train it anew")
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise CheckpointError(f"unknown model settings {', '.join(unknown)}: made by a newer version?")
        try:
            config = cls(**values)
        except TypeError as error:
            raise CheckpointError(f"incomplete model settings: {error}") from error
        # Older ones knew fewer values; those added since begin at nothing (`infill.checkpoint`).
        return replace(config, asked=CONTROL_SIZE) if 0 < config.asked < CONTROL_SIZE else config


_SWITCHES: dict[str, Any] = {field.name: field.default for field in fields(InfillConfig)[-3:]}
# Parameters with this vocabulary, roughly: 3.9 M, 7.2 M, 15 M, 39 M, 115 M.
SIZES = {
    "nano": InfillConfig(width=256, layers=4, heads=4, asked=CONTROL_SIZE),
    "mini": InfillConfig(width=320, layers=5, heads=5, asked=CONTROL_SIZE),
    "small": InfillConfig(width=384, layers=8, heads=6, asked=CONTROL_SIZE),
    "base": InfillConfig(width=512, layers=12, heads=8, asked=CONTROL_SIZE),
    "large": InfillConfig(width=768, layers=16, heads=12, asked=CONTROL_SIZE),
}


def sized(size: str, **changes: Any) -> InfillConfig:
    """Return a named size with some fields changed; an unknown name raises CheckpointError."""
    if size not in SIZES:
        raise CheckpointError(f"there is no model size {size!r}; choose one of {', '.join(SIZES)}")
    return replace(SIZES[size], **changes)
