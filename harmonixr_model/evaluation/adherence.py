"""Does a fill do what it was asked? Soft controls asked of gaps in held-out music, and what came out of them.

Knows nothing of reports or command lines.
"""

# N pairs of asked and measured

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from harmonixr_model.engine.engine import Engine, Sampling
from harmonixr_model.errors import ControlError
from harmonixr_model.evaluation.likelihood import BITS, measured_bits
from harmonixr_model.evaluation.metrics import Fills
from harmonixr_model.evaluation.protocol import EvaluationItem
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
from harmonixr_model.prompt.fill_tokens import decode_fill, encode_fill
from harmonixr_model.prompt.layout import InfillPrompt

# What is asked, spread over what music has; each value is the middle of a bin.
GRIDS: dict[str, tuple[float, ...]] = {
    "density": tuple(density_of(density_token(v)) for v in (0.25, 0.5, 1, 2, 3, 4, 6)),
    "polyphony": tuple(polyphony_of(polyphony_token(v)) for v in (1, 1.5, 2, 3, 4)),
    "velocity": tuple(float(mean_velocity_of(mean_velocity_token(v))) for v in (36, 52, 68, 84, 100, 116)),
}
_FOREIGN = 5  # semitones: the piece's own chords, moved up a fourth, are those of other music


@dataclass(frozen=True, slots=True)
class Pairs:
    """What was asked and what was measured, one of each a fill; fills without a note to measure are left out."""

    asked: tuple[float, ...]
    measured: tuple[float, ...]

    @property
    def spearman(self) -> float:
        """Their rank correlation; nan where one of them does not vary."""
        varies = len(set(self.asked)) > 1 and len(set(self.measured)) > 1
        return float(spearmanr(self.asked, self.measured).statistic) if varies else float("nan")

    def means(self) -> dict[float, float]:
        """Return the mean of what was measured by what was asked."""
        asked = np.array(self.asked)
        return {value: float(np.array(self.measured)[asked == value].mean()) for value in sorted(set(self.asked))}


def controlled_prompt(
    item: EvaluationItem,
    controls: AttributeControls,
    *,
    chords: Sequence[ChordSpan] = (),
    context_tokens: int = 1024,
) -> InfillPrompt:
    """Return a item's prompt with controls, as a session builds it; `chords` are in steps."""
    context, values = item.context, controls.conditioning
    starts = dict(zip(item.prompt.cells, item.prompt.bar_starts, strict=True))
    cells = [
        replace(
            cell,
            controls=attribute_tokens(
                values,
                cell,
                chords=chords if "chords" in values and not context.tracks[cell.track].is_drum else (),
                bar_start=starts[cell],
            ),
        )
        for cell in item.prompt.cells
    ]
    return build_prompt(
        context,
        cells,
        max_prefix_tokens=context_tokens - item.prompt.tables.max_tokens,
        constraints=controls.constraints(Constraints()),
        max_fill_tokens=item.prompt.tables.max_tokens,
    )


def follows(
    engine: Engine,
    evaluation_items: Sequence[EvaluationItem],
    name: str,
    *,
    sampling: Sampling,
    seed: int = 0,
    enforce: bool = False,
) -> Pairs:
    """Ask each value of GRIDS[name] of each gap, or enforce it, and measure what comes out.

    What a gap cannot keep, beside what is locked in it, is left out.
    """
    jobs = []
    for number, item in enumerate(evaluation_items):
        for value in GRIDS[name]:
            with suppress(ControlError):
                prompt = controlled_prompt(item, replace(asking(name, value), enforce=enforce))
                jobs.append((item, value, (prompt, seed + number)))
    made = engine.generate_each([job for _, _, job in jobs], sampling=sampling)
    pairs = []
    for (item, value, (prompt, _)), fill in zip(jobs, made, strict=True):
        found = measured(item, decode_fill(prompt, fill.tokens), name)
        if found is not None:
            pairs.append((value, found))
    return Pairs(tuple(asked for asked, _ in pairs), tuple(found for _, found in pairs))


def asking(name: str, value: float) -> AttributeControls:
    """Return controls that ask for one of GRIDS alone."""
    requested: dict[str, Any] = {name: value}
    return AttributeControls(**requested)


def measured(item: EvaluationItem, fills: Fills, name: str) -> float | None:
    """Return a measure of AttributeControls over the whole gap: cells count by their length, or by their notes."""
    measure = TRAINED[name].measure
    assert measure is not None
    cells = list(zip(item.prompt.cells, fills, strict=True))
    if name == "density":
        steps = sum(cell.end - cell.start for cell in item.prompt.cells)
        return sum(len(notes) for _, notes in cells) * GRID / steps
    playing = [(value, len(notes)) for cell, notes in cells if (value := measure(notes, cell)) is not None]
    total = sum(notes for _, notes in playing)
    return sum(value * notes for value, notes in playing) / total if total else None


def own_chords(item: EvaluationItem) -> list[ChordSpan]:
    """Return the chords of the gap's bars as the whole piece plays them, the answer included."""
    first = min(cell.start for cell in item.prompt.cells)
    last = max(cell.end for cell in item.prompt.cells)
    bars = [bar for bar in item.bars if bar.end > first and bar.start < last]
    answer = [note for notes in item.original for note in notes]
    shown = [
        note
        for track, content in enumerate(item.context.tracks)
        if not content.is_drum
        for note in item.context.notes(track, bars[0].start, bars[-1].end)
    ]
    return estimate_chords([*shown, *answer], bars, ticks_per_quarter=GRID)


def moved(chords: Sequence[ChordSpan], semitones: int = _FOREIGN) -> list[ChordSpan]:
    """Return chords transposed."""
    return [
        replace(span, chord=Chord(tuple((tone + semitones) % 12 for tone in span.chord.pitch_classes)))
        for span in chords
    ]


def chord_share(chords: Sequence[ChordSpan], fills: Fills) -> float | None:
    """Return the share of the sounding time in which notes are tones of the chord at that time."""
    inside = total = 0
    for note in (note for notes in fills for note in notes):
        for span in chords:
            overlap = min(span.end, note.end) - max(span.start, note.onset)
            if overlap > 0:
                total += overlap
                inside += overlap * (note.pitch % 12 in span.chord.pitch_classes)
    return inside / total if total else None


def chord_adherence(
    engine: Engine, evaluation_items: Sequence[EvaluationItem], *, sampling: Sampling, seed: int = 0
) -> dict[str, float]:
    """Return mean chord-tone shares: of foreign chords asked and not asked, of the piece's own, asked and not."""
    shares: dict[str, list[float]] = {}
    for number, item in enumerate(evaluation_items):
        own = own_chords(item)
        if not own:
            continue
        foreign = moved(own)
        plain, with_own, with_foreign = (
            controlled_prompt(item, AttributeControls(), chords=chords) for chords in ((), own, foreign)
        )
        at = seed + number
        # Guidance leans towards controls: where none is asked there is nothing to lean to.
        made = engine.generate_each([(plain, at)], sampling=replace(sampling, guidance=1.0))
        made += engine.generate_each([(with_own, at), (with_foreign, at)], sampling=sampling)
        prompts = (plain, with_own, with_foreign)
        fills = [decode_fill(prompt, fill.tokens) for prompt, fill in zip(prompts, made, strict=True)]
        for name, chords, fill in (
            ("own chords, not asked", own, fills[0]),
            ("own chords, asked", own, fills[1]),
            ("a fourth up, not asked", foreign, fills[0]),
            ("a fourth up, asked", foreign, fills[2]),
            ("own chords, the hidden music itself", own, item.original),
        ):
            share = chord_share(chords, fill)
            if share is not None:
                shares.setdefault(name, []).append(share)
    return {name: float(np.mean(values)) for name, values in shares.items()}


def tag_bits(model: InfillTransformer, item: EvaluationItem, controls: AttributeControls) -> float:
    """Return the bits per note of the true answer when the request says these controls of the whole request."""
    prompt = controlled_prompt(item, controls)
    fill, is_forced = encode_fill(prompt, item.original)
    told = replace(item, prompt=prompt, fill=fill, is_forced=is_forced)
    return measured_bits(model, told, with_grammar=False)[BITS] / item.notes
