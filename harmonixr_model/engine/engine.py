"""The engine interface: prompts in, fills out; and the sampling parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harmonixr_model.errors import ControlError
from harmonixr_model.prompt.layout import InfillPrompt

# The temperatures whose fills were nearest to the hidden music, from a grid over held-out gaps (docs/controls.md).
DEFAULT_TEMPERATURE, DRUM_TEMPERATURE = 0.8, 0.6
# Without guidance the context outweighs the attribute controls (docs/controls.md).
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
        """Return the temperature, or the default for the prompt's kind of track."""
        if self.temperature is not None:
            return self.temperature
        return DRUM_TEMPERATURE if prompt.is_drums else DEFAULT_TEMPERATURE

    def guidance_of(self, prompt: InfillPrompt) -> float:
        """Return the guidance scale for a prompt; raises ControlError for a scale without attribute controls."""
        has_controls = any(cell.controls for cell in prompt.cells)
        if self.guidance is None:
            return GUIDANCE if has_controls else 1.0
        if self.guidance != 1 and not has_controls:
            raise ControlError("guidance needs attribute controls and the request has none; add one, or set it to 1")
        return self.guidance


def temperature_text(temperature: float | None) -> str:
    """Return a temperature as text; None gives the defaults."""
    return f"{DEFAULT_TEMPERATURE:g}, drums {DRUM_TEMPERATURE:g}" if temperature is None else f"{temperature:g}"


@dataclass(frozen=True, slots=True)
class GeneratedFill:
    """One fill: its token ids, forced tokens and EOS included, and its log probability.

    `log_probability` is the sum over the sampled tokens, in nats, under the grammar's mask at temperature 1.
    """

    tokens: tuple[int, ...]
    log_probability: float


PromptSeed = tuple[InfillPrompt, int]


class Engine(Protocol):
    """Owns a model and fills prompts."""

    def generate(self, prompt: InfillPrompt, *, seeds: Sequence[int], sampling: Sampling) -> list[GeneratedFill]:
        """Return one valid fill a seed; the same seed gives the same fill, alone and in any batch."""
        ...

    def generate_each(self, jobs: Sequence[PromptSeed], *, sampling: Sampling) -> list[GeneratedFill]:
        """Return one valid fill a (prompt, seed), in order; see `generate`."""
        ...
