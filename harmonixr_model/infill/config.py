"""The architecture of an infill model; its checkpoint stores it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from harmonixr_model.errors import CheckpointError
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import CONTROL_SIZE, PLACE_SIZES

Attending = Literal["prefix", "causal"]


@dataclass(frozen=True, slots=True)
class InfillConfig:
    """The shapes of the weights, and dropout.

    Attributes:
        max_length: the most tokens of a prompt and its fill together, and the longest that the model was trained for.
        bars, steps, slots: the number of values of each coordinate; see MusicEmbedding.
        control_values: the number of values of all attribute controls; with 0, controls are tokens only.
        attending: `prefix` for bidirectional attention within the prefix, `causal` for causal attention everywhere.
        coordinates: whether tokens have coordinates.

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
    control_values: int = 0
    attending: Attending = "prefix"
    coordinates: bool = True

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads) != 0:
            raise CheckpointError(f"width {self.width} does not split into {self.heads} heads of an even width")
        if self.attending not in get_args(Attending):
            raise CheckpointError(
                f"there is no attention {self.attending!r}; choose {' or '.join(get_args(Attending))}"
            )

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def coordinate_sizes(self) -> dict[str, int]:
        """The number of values of each coordinate, as MusicEmbedding takes them."""
        return {"bars": self.bars, "steps": self.steps, "slots": self.slots, "control_values": self.control_values}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values, under their stored names; default switches are left out."""
        values = {name: value for name, value in asdict(self).items() if _SWITCHES.get(name) != value}
        return {_STORED_NAMES.get(name, name): value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> InfillConfig:
        """Rebuild a config; unknown or missing fields raise CheckpointError, as does a model trained with MICRO."""
        field_names = {stored: name for name, stored in _STORED_NAMES.items()}
        values = {field_names.get(name, name): value for name, value in values.items()}
        if values.pop("micro", False):
            raise CheckpointError("the model was trained with MICRO tokens, which are no longer read; train it anew")
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise CheckpointError(f"unknown model settings {', '.join(unknown)}: made by a newer version?")
        try:
            config = cls(**values)
        except TypeError as error:
            raise CheckpointError(f"incomplete model settings: {error}") from error
        # Older models have fewer control values; `infill.checkpoint` sets the embeddings of the new ones to zero.
        is_older = 0 < config.control_values < CONTROL_SIZE
        return replace(config, control_values=CONTROL_SIZE) if is_older else config


_STORED_NAMES = {"control_values": "asked"}
_SWITCHES: dict[str, Any] = {field.name: field.default for field in fields(InfillConfig)[-3:]}
# Parameters with this vocabulary, roughly: 3.9 M, 7.2 M, 15 M, 39 M, 115 M.
SIZES = {
    "nano": InfillConfig(width=256, layers=4, heads=4, control_values=CONTROL_SIZE),
    "mini": InfillConfig(width=320, layers=5, heads=5, control_values=CONTROL_SIZE),
    "small": InfillConfig(width=384, layers=8, heads=6, control_values=CONTROL_SIZE),
    "base": InfillConfig(width=512, layers=12, heads=8, control_values=CONTROL_SIZE),
    "large": InfillConfig(width=768, layers=16, heads=12, control_values=CONTROL_SIZE),
}


def sized(size: str, **changes: Any) -> InfillConfig:
    """Return a named size with some fields changed; an unknown name raises CheckpointError."""
    if size not in SIZES:
        raise CheckpointError(f"there is no model size {size!r}; choose one of {', '.join(SIZES)}")
    return replace(SIZES[size], **changes)
