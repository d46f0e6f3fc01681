"""The saliency of each note of the context for a fill, as a piano roll.

Saliency is the gradient of the fill's log probability with respect to each token's embedding (Simonyan et al. 2013). A
note sums the saliency of its tokens.
"""

# P prefix tokens, T tokens, C width

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from torch import Tensor

from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.score import Note
from harmonixr_model.notes.grid import GRID
from harmonixr_model.notes.vocabulary import DURATIONS, VOCAB
from harmonixr_model.pictures.figure import to_svg
from harmonixr_model.prompt.coordinates import BAR_SHIFT, PASSAGE_BARS, REF_SHIFT
from harmonixr_model.prompt.fill_tokens import decode_fill
from harmonixr_model.prompt.layout import InfillPrompt

_MARGIN_PITCHES = 2
_FILL_COLOUR, _GAP_COLOUR = "#3b6fd4", "#fff7dd"


@dataclass(frozen=True, slots=True)
class SalientNote:
    """A note of the prompt and its saliency.

    Attributes:
        bar: relative to the gap's first bar; in a similar passage, relative to its own first bar.
        step: within the bar.
        passage: None for the music around the gap, otherwise the similarity level of the passage.
        weight: the sum over its tokens, as a share of the largest.
    """

    slot: int
    bar: int
    step: int
    duration: int
    pitch: int
    passage: int | None
    weight: float


def token_weights(model: InfillTransformer, prompt: InfillPrompt, fill: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the saliency of each token of the prefix, float64 [P].

    It is the norm of gradient times embedding, for the log probability of the fill's tokens that were not forced.
    """
    tokens = np.concatenate([prompt.prefix, np.asarray(fill, dtype=np.int64)])
    coordinates = np.concatenate([prompt.coordinates, prompt.fill_coordinates(fill)])
    embedded: list[Tensor] = []

    def keep(_: object, __: object, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    hook = model.embedding.register_forward_hook(keep)
    try:
        logits_TV = model(
            torch.from_numpy(tokens).long()[None],
            torch.from_numpy(coordinates).long()[None],
            torch.tensor([len(prompt.prefix)]),
        )[0]
    finally:
        hook.remove()
    targets = sampled_positions(prompt, fill)
    log_probability = logits_TV.log_softmax(-1)[targets - 1, torch.from_numpy(tokens).long()[targets]].sum()
    (gradient_1TC,) = torch.autograd.grad(log_probability, embedded)
    weights = (gradient_1TC * embedded[0]).norm(dim=-1)[0, : len(prompt.prefix)]
    result: npt.NDArray[np.float64] = weights.detach().double().numpy()
    return result


def sampled_positions(prompt: InfillPrompt, fill: Sequence[int]) -> Tensor:
    """Return the positions of the sampled tokens: all but headers and EOS."""
    end = VOCAB.id("END")
    places: list[int] = []
    at = 0
    for header in prompt.headers:
        at += len(header)
        stop = list(fill).index(end, at) + 1
        places += range(at, stop)
        at = stop
    return torch.tensor(places) + len(prompt.prefix)


def salient_notes(prompt: InfillPrompt, weights: npt.NDArray[np.float64]) -> list[SalientNote]:
    """Return the notes of the prefix; each sums its PITCH and DUR tokens, and POS and VEL where they are emitted."""
    found: list[tuple[tuple[int, int, int, int, int, int | None], float]] = []
    waiting = 0.0
    pitch = -1
    for at, token in enumerate(prompt.prefix.tolist()):
        bar, step, slot = prompt.coordinates[at, :3].tolist()
        if token in VOCAB.position:
            waiting = float(weights[at])
        elif token in VOCAB.pitch and slot and step:
            waiting, pitch = waiting + float(weights[at]), VOCAB.pitch.index(token)
        elif token in VOCAB.duration and pitch >= 0:
            place, passage = _place(bar)
            note = (slot - 1, place, step - 1, DURATIONS[VOCAB.duration.index(token)], pitch, passage)
            found.append((note, waiting + float(weights[at])))
            waiting, pitch = 0.0, -1
        elif token in VOCAB.velocity and found:
            found[-1] = found[-1][0], found[-1][1] + float(weights[at])
        else:
            waiting, pitch = 0.0, -1
    largest = max((weight for _, weight in found), default=1.0) or 1.0
    return [SalientNote(*note, weight=weight / largest) for note, weight in found]


def _place(bar: int) -> tuple[int, int | None]:
    if bar >= REF_SHIFT:
        level, place = divmod(bar - REF_SHIFT, PASSAGE_BARS)
        return place, level
    return bar - BAR_SHIFT, None


def draw_saliency(model: InfillTransformer, prompt: InfillPrompt, fill: Sequence[int], *, title: str) -> str:
    """Return an SVG: the prompt's notes around the gap by track, then its similar passages under the gap.

    Bars are as wide as the longest metre of the prompt.
    """
    bar_steps = _longest_bar(prompt)
    notes = salient_notes(prompt, token_weights(model, prompt, fill))
    gap = _in_bars(prompt, decode_fill(prompt, fill))
    rows = _rows(prompt, notes, gap)
    bars = [note.bar for note in notes if note.passage is None] + [note.bar for note in gap]
    first, last = min([0, *bars]), max([0, *bars])
    heights = [row.pitches[1] - row.pitches[0] for row in rows]
    figure = Figure(figsize=(10, 1.2 + 0.035 * sum(heights) + 0.15 * len(rows)), layout="constrained")
    figure.suptitle(f"{title}\nredder: the fill's likelihood depends more on this note; blue: the fill", fontsize=10)
    stack = figure.subplots(len(rows), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    tooltips = []
    for axes, row in zip(stack, rows, strict=True):
        for bar in {note.bar for note in row.fill}:
            axes.axvspan(bar * bar_steps, (bar + 1) * bar_steps, color=_GAP_COLOUR, zorder=0)
        # The eye reads areas; the square root makes small weights visible.
        notes = sorted(row.notes, key=lambda note: note.weight)
        colours = [colormaps["Reds"](0.15 + 0.85 * math.sqrt(note.weight)) for note in notes]
        tooltips.append((_draw_notes(axes, notes, colours, bar_steps), [f"{note.weight:.2f}" for note in notes]))
        filled = _draw_notes(axes, row.fill, [_FILL_COLOUR] * len(row.fill), bar_steps)
        tooltips.append((filled, ["the fill"] * len(row.fill)))
        axes.set(ylim=row.pitches, yticks=[], xticks=[(bar + 0.5) * bar_steps for bar in range(first, last + 1)])
        axes.set_ylabel(row.name, rotation=0, ha="right", va="center", fontsize=8)
        for bar in range(first, last + 2):
            axes.axvline(bar * bar_steps, color="#dfe4ec", linewidth=0.8, zorder=0)
    stack[-1].set(xlim=(first * bar_steps, (last + 1) * bar_steps), xlabel="bars from the first bar of the gap")
    stack[-1].set_xticklabels([f"{bar:+d}" if bar else "gap" for bar in range(first, last + 1)], fontsize=8)
    return to_svg(figure, title=title, tooltips=[pair for pair in tooltips if pair[1]])


def _draw_notes(axes: Axes, notes: Sequence[SalientNote], colours: Sequence[object], bar_steps: int) -> PolyCollection:
    corners = []
    for note in notes:
        left, low = note.bar * bar_steps + note.step, note.pitch - 0.5
        right = left + note.duration - 0.5
        corners.append([(left, low), (right, low), (right, low + 1), (left, low + 1)])
    collection = PolyCollection(corners, facecolors=colours)
    axes.add_collection(collection)
    return collection


def _longest_bar(prompt: InfillPrompt) -> int:
    metres = [VOCAB.name(token)[3:].split("/") for token in prompt.prefix.tolist() if token in VOCAB.time_signature]
    return max((4 * GRID * int(numerator) // int(denominator) for numerator, denominator in metres), default=4 * GRID)


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    notes: list[SalientNote]
    fill: list[SalientNote]

    @property
    def pitches(self) -> tuple[int, int]:
        pitches = [note.pitch for note in (*self.notes, *self.fill)]
        return min(pitches) - _MARGIN_PITCHES, max(pitches) + _MARGIN_PITCHES


def _rows(prompt: InfillPrompt, notes: list[SalientNote], gap: list[SalientNote]) -> list[_Row]:
    rows = []
    for slot in range(len(prompt.slots)):
        of_slot = [note for note in notes if note.slot == slot and note.passage is None]
        filled = [note for note in gap if note.slot == slot]
        if of_slot or filled:
            rows.append(_Row(f"track {prompt.slots[slot] + 1}", of_slot, filled))
    passages = sorted((n for n in notes if n.passage is not None), key=lambda note: -(note.passage or 0))
    for level, passage in groupby(passages, key=lambda note: note.passage):
        rows.append(_Row(f"passage {((level or 0) + 1) / VOCAB.match.size:.0%} similar", list(passage), []))
    return rows


def _in_bars(prompt: InfillPrompt, fill: Sequence[Sequence[Note]]) -> list[SalientNote]:
    """Return the fill's notes by track slot and bar of the gap."""
    starts = sorted(set(prompt.bar_starts))
    found = []
    for cell, start, header, notes in zip(prompt.cells, prompt.bar_starts, prompt.headers, fill, strict=True):
        slot = prompt.slots.index(cell.track)
        bar = header[1] - VOCAB.bar_index.start if len(starts) > 1 else 0
        found += [SalientNote(slot, bar, n.onset - start, n.duration, n.pitch, None, 1.0) for n in notes]
    return found
