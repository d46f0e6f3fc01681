"""Adherence to attribute controls: requested and measured values over gaps of held-out music."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from harmonixr_model.engine.engine import Engine, Sampling
from harmonixr_model.errors import ControlError
from harmonixr_model.evaluation.likelihood import target_bits
from harmonixr_model.evaluation.metrics import Fills
from harmonixr_model.evaluation.protocol import CONTEXT_TOKENS, EvaluationItem
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.estimate import ChordSpan, estimate_chords
from harmonixr_model.music.harmony import Chord
from harmonixr_model.notes.grid import GRID
from harmonixr_model.prompt.builder import build_prompt
from harmonixr_model.prompt.control_values import (
    density_of,
    density_token,
    mean_velocity_of,
    mean_velocity_token,
    polyphony_of,
    polyphony_token,
)
from harmonixr_model.prompt.controls import TRAINED, AttributeControls, attribute_tokens
from harmonixr_model.prompt.fill_tokens import decode_fill
from harmonixr_model.prompt.layout import InfillPrompt

# The requested values, spread over the range of real music; each is the centre of a bin.
GRIDS: dict[str, tuple[float, ...]] = {
    "density": tuple(density_of(density_token(v)) for v in (0.25, 0.5, 1, 2, 3, 4, 6)),
    "polyphony": tuple(polyphony_of(polyphony_token(v)) for v in (1, 1.5, 2, 3, 4)),
    "velocity": tuple(float(mean_velocity_of(mean_velocity_token(v))) for v in (36, 52, 68, 84, 100, 116)),
}
_FOURTH = 5  # semitones; the piece's own chords, transposed up a fourth, do not fit the piece


@dataclass(frozen=True, slots=True)
class Adherence:
    """The requested and the measured value of each fill; fills without a note to measure are left out."""

    requested: tuple[float, ...]
    measured: tuple[float, ...]

    @property
    def spearman(self) -> float:
        """The rank correlation of both; NaN if one of them is constant."""
        varies = len(set(self.requested)) > 1 and len(set(self.measured)) > 1
        return float(spearmanr(self.requested, self.measured).statistic) if varies else float("nan")

    def means(self) -> dict[float, float]:
        """Return the mean measured value by requested value."""
        requested, measured = np.array(self.requested), np.array(self.measured)
        return {value: float(measured[requested == value].mean()) for value in sorted(set(self.requested))}


def controlled_prompt(
    item: EvaluationItem,
    controls: AttributeControls,
    *,
    chords: Sequence[ChordSpan] = (),
    context_tokens: int = CONTEXT_TOKENS,
) -> InfillPrompt:
    """Return an item's prompt with controls, as a session builds it; `chords` are in steps."""
    tracks = item.context.tracks
    cells = [
        replace(
            cell,
            controls=attribute_tokens(
                controls.conditioning,
                cell,
                chords=() if tracks[cell.track].is_drum else chords,
                bar_start=bar_start,
            ),
        )
        for cell, bar_start in zip(item.prompt.cells, item.prompt.bar_starts, strict=True)
    ]
    return build_prompt(
        item.context,
        cells,
        max_prefix_tokens=context_tokens - item.prompt.tables.max_tokens,
        constraints=controls.constraints(Constraints()),
        max_fill_tokens=item.prompt.tables.max_tokens,
    )


def measure_adherence(
    engine: Engine,
    items: Sequence[EvaluationItem],
    name: str,
    *,
    sampling: Sampling,
    seed: int = 0,
    enforce: bool = False,
) -> Adherence:
    """Request each value of GRIDS[name] for each gap and measure the fills; `enforce` makes the values constraints.

    Values that a gap cannot satisfy beside its locked notes are left out.
    """
    jobs = []
    for number, item in enumerate(items):
        for value in GRIDS[name]:
            with suppress(ControlError):
                prompt = controlled_prompt(item, replace(single_control(name, value), enforce=enforce))
                jobs.append((item, value, (prompt, seed + number)))
    fills = engine.generate_each([job for _, _, job in jobs], sampling=sampling)
    requested, measured = [], []
    for (item, value, (prompt, _)), fill in zip(jobs, fills, strict=True):
        found = measured_control(item, decode_fill(prompt, fill.tokens), name)
        if found is not None:
            requested.append(value)
            measured.append(found)
    return Adherence(tuple(requested), tuple(measured))


def single_control(name: str, value: float | str) -> AttributeControls:
    """Return controls with one attribute."""
    requested: dict[str, Any] = {name: value}
    return AttributeControls(**requested)


def measured_control(item: EvaluationItem, fill: Fills, name: str) -> float | None:
    """Return an attribute of the whole gap: the mean over cells, weighted by their length or their notes."""
    measure = TRAINED[name].measure
    assert measure is not None
    if name == "density":
        return sum(map(len, fill)) * GRID / sum(cell.end - cell.start for cell in item.prompt.cells)
    cells = zip(item.prompt.cells, fill, strict=True)
    playing = [(value, len(notes)) for cell, notes in cells if (value := measure(notes, cell)) is not None]
    total = sum(notes for _, notes in playing)
    return sum(value * notes for value, notes in playing) / total if total else None


def own_chords(item: EvaluationItem) -> list[ChordSpan]:
    """Return the estimated chords of the gap's bars with the whole original music."""
    first = min(cell.start for cell in item.prompt.cells)
    last = max(cell.end for cell in item.prompt.cells)
    bars = [bar for bar in item.bars if bar.end > first and bar.start < last]
    hidden = [note for notes in item.original for note in notes]
    visible = [
        note
        for track, content in enumerate(item.context.tracks)
        if not content.is_drum
        for note in item.context.notes(track, bars[0].start, bars[-1].end)
    ]
    return estimate_chords([*visible, *hidden], bars, ticks_per_quarter=GRID)


def transposed(chords: Sequence[ChordSpan], semitones: int = _FOURTH) -> list[ChordSpan]:
    """Return transposed chords."""
    return [
        replace(span, chord=Chord(tuple((tone + semitones) % 12 for tone in span.chord.pitch_classes)))
        for span in chords
    ]


def chord_share(chords: Sequence[ChordSpan], fill: Fills) -> float | None:
    """Return the share of a fill's sounding time in which its notes are tones of the current chord."""
    inside = total = 0
    for note in (note for notes in fill for note in notes):
        for span in chords:
            overlap = min(span.end, note.end) - max(span.start, note.onset)
            if overlap > 0:
                total += overlap
                inside += overlap * (note.pitch % 12 in span.chord.pitch_classes)
    return inside / total if total else None


def chord_adherence(
    engine: Engine, items: Sequence[EvaluationItem], *, sampling: Sampling, seed: int = 0
) -> dict[str, float]:
    """Return mean chord-tone shares of the piece's own chords and of foreign ones, each requested and not requested."""
    shares: dict[str, list[float]] = defaultdict(list)
    for number, item in enumerate(items):
        own = own_chords(item)
        if not own:
            continue
        foreign = transposed(own)
        prompts = [controlled_prompt(item, AttributeControls(), chords=chords) for chords in ((), own, foreign)]
        jobs = [(prompt, seed + number) for prompt in prompts]
        # Classifier-free guidance needs a control.
        made = engine.generate_each(jobs[:1], sampling=replace(sampling, guidance=1.0))
        made += engine.generate_each(jobs[1:], sampling=sampling)
        fills = [decode_fill(prompt, fill.tokens) for prompt, fill in zip(prompts, made, strict=True)]
        for name, chords, fill in (
            ("own chords, not requested", own, fills[0]),
            ("own chords, requested", own, fills[1]),
            ("a fourth up, not requested", foreign, fills[0]),
            ("a fourth up, requested", foreign, fills[2]),
            ("own chords, human original", own, item.original),
        ):
            share = chord_share(chords, fill)
            if share is not None:
                shares[name].append(share)
    return {name: float(np.mean(values)) for name, values in shares.items()}


def tag_bits(model: InfillTransformer, item: EvaluationItem, controls: AttributeControls) -> float:
    """Return the bits per note of the original, conditioned on controls of the whole gap."""
    return target_bits(model, item.with_prompt(controlled_prompt(item, controls))) / item.notes
