"""What decoding offers to everything that needs fills: the seam between prompts and models. Knows no MIDI, no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harmonixr_model.errors import ControlError
from harmonixr_model.prompt.layout import InfillPrompt

# What comes nearest to the hidden music by kind of track, from a grid over held-out gaps (docs/controls.md): colder
# fills hit more of its notes and are more alike.
DEFAULT_TEMPERATURE, DRUM_TEMPERATURE = 0.8, 0.6
# Without it what the surroundings suggest outweighs what is asked (docs/controls.md).
GUIDANCE = 2.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters of one candidate.

    Attributes:
        temperature: 0 takes the likeliest token; None selects a default by the kind of track.
        top_k: sample from the k likeliest tokens only; 0 keeps all.
        top_p: sample from the nucleus of this probability mass only; 1 keeps all.
        guidance: classifier-free guidance scale for attribute controls; a scale other than 1 doubles the work. None
            selects GUIDANCE where the prompt has attribute controls.
        copy_strength: how closely the copy gate follows similar passages of the song, from 0 (the model alone) to 1
            (as often as songs repeat themselves).

    """

    temperature: float | None = None
    top_k: int = 0
    top_p: float = 0.98
    guidance: float | None = None
    copy_strength: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 <= self.temperature <= 5:
            raise ControlError(f"the temperature {self.temperature} is out of range; give 0 (the likeliest) to 5")
        if self.top_k < 0:
            raise ControlError(f"top_k {self.top_k} is negative; give 0 for no limit, or at least 1")
        if not 0 < self.top_p <= 1:
            raise ControlError(f"top_p {self.top_p} is out of range; give more than 0 and at most 1")
        if not 0 <= self.copy_strength <= 1:
            raise ControlError(
                f"the copy strength {self.copy_strength} is out of range; give 0 (model alone) to 1 (as songs repeat)"
            )
        if self.guidance is not None and not 0 <= self.guidance <= 10:
            raise ControlError(f"the guidance {self.guidance} is out of range; give 0 to 10, where 1 adds nothing")

    def temperature_of(self, prompt: InfillPrompt) -> float:
        """Return the temperature given, or what suits the tracks that a prompt asks for."""
        if self.temperature is not None:
            return self.temperature
        return DRUM_TEMPERATURE if prompt.is_drums else DEFAULT_TEMPERATURE

    def guidance_of(self, prompt: InfillPrompt) -> float:
        """Return how far to lean towards what a prompt asks softly; raises ControlError where it asks nothing."""
        asks = any(cell.controls for cell in prompt.cells)
        if self.guidance is None:
            return GUIDANCE if asks else 1.0
        if self.guidance != 1 and not asks:
            raise ControlError("guidance leans towards soft controls and none is asked; ask for one, or leave it at 1")
        return self.guidance


def temperature_text(temperature: float | None) -> str:
    """Say a temperature, or what stands in its place where none is given."""
    return f"{DEFAULT_TEMPERATURE:g}, drums {DRUM_TEMPERATURE:g}" if temperature is None else f"{temperature:g}"


@dataclass(frozen=True, slots=True)
class GeneratedFill:
    """One fill: its token ids, forced ones and EOS included, and how likely the model thinks it.

    `log_probability` is the sum over the tokens that were drawn, in nats, under the grammar's mask at temperature 1.
    """

    tokens: tuple[int, ...]
    log_probability: float


# A prompt, and the seed of the candidate that answers it.
Job = tuple[InfillPrompt, int]


class Engine(Protocol):
    """Owns a model and answers prompts."""

    def generate(self, prompt: InfillPrompt, *, seeds: Sequence[int], sampling: Sampling) -> list[GeneratedFill]:
        """Return one valid fill a seed; the same seed gives the same fill, alone or beside others."""
        ...

    def generate_each(self, jobs: Sequence[Job], *, sampling: Sampling) -> list[GeneratedFill]:
        """Return one valid fill a (prompt, seed), in order, as `generate` would give it."""
        ...
