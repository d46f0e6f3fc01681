"""Which notes of the context a fill rests on: a piano roll coloured by how much each one matters to the model.

Knows nothing of files. What is measured is the gradient of the fill's log probability (Simonyan et al. 2013) with
respect to each token's embedding; a note counts the tokens that say it.
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
from torch import Tensor

from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.score import Note
from harmonixr_model.notes.grid import GRID
from harmonixr_model.notes.vocabulary import DURATIONS, VOCAB
from harmonixr_model.pictures.svg import FAINT, INK, Canvas, from_pale_to_red
from harmonixr_model.prompt.coordinates import BAR_SHIFT, PASSAGE_BARS, REF_SHIFT
from harmonixr_model.prompt.fill_tokens import decode_fill
from harmonixr_model.prompt.layout import InfillPrompt

_WIDTH, _NAMES, _ROW, _HEAD = 1000, 130, 3.2, 64
_PITCHES_BESIDE = 2


@dataclass(frozen=True, slots=True)
class Weighed:
    """A note the prompt says, and how much the fill rests on it.

    Attributes:
        bar: counted from the gap's first; of a remembered passage, from its own first.
        step: within the bar.
        passage: None for the music around the gap, else which level of likeness the passage has.
        weight: the sum of its tokens' gradients, as a share of the largest.
    """

    slot: int
    bar: int
    step: int
    duration: int
    pitch: int
    passage: int | None
    weight: float


def token_weights(model: InfillTransformer, prompt: InfillPrompt, fill: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return how much each token of the prefix matters, float64 [P].

    It is the length of gradient times embedding, of the log probability of the fill's tokens that were not forced.
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
    targets = drawn_places(prompt, fill)
    said = logits_TV.log_softmax(-1)[targets - 1, torch.from_numpy(tokens).long()[targets]].sum()
    (gradient_1TC,) = torch.autograd.grad(said, embedded)
    weights = (gradient_1TC * embedded[0]).norm(dim=-1)[0, : len(prompt.prefix)]
    weighed: npt.NDArray[np.float64] = weights.detach().double().numpy()
    return weighed


def drawn_places(prompt: InfillPrompt, fill: Sequence[int]) -> Tensor:
    """Return where the tokens stand that were drawn, headers and EOS left out."""
    end = VOCAB.id("END")
    places: list[int] = []
    at = 0
    for header in prompt.headers:
        at += len(header)
        stop = list(fill).index(end, at) + 1
        places += range(at, stop)
        at = stop
    return torch.tensor(places) + len(prompt.prefix)


def weighed_notes(prompt: InfillPrompt, weights: npt.NDArray[np.float64]) -> list[Weighed]:
    """Return the notes the prefix says, with their weights; PITCH and DUR count, and POS and VEL with the note."""
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
    return [Weighed(*note, weight=weight / largest) for note, weight in found]


def _place(bar: int) -> tuple[int, int | None]:
    if bar >= REF_SHIFT:
        level, place = divmod(bar - REF_SHIFT, PASSAGE_BARS)
        return place, level
    return bar - BAR_SHIFT, None


def draw_saliency(model: InfillTransformer, prompt: InfillPrompt, fill: Sequence[int], *, title: str) -> str:
    """Return an SVG: the prompt's notes around the gap by track, then its remembered passages under the gap.

    Bars are as wide as the longest metre of the prompt.
    """
    bar_steps = _longest_bar(prompt)
    notes = weighed_notes(prompt, token_weights(model, prompt, fill))
    gap = _in_bars(prompt, decode_fill(prompt, fill))
    rows = _rows(prompt, notes, gap)
    bars = [note.bar for note in notes if note.passage is None] + [note.bar for note in gap]
    first, last = min([0, *bars]), max([0, *bars])
    height = _HEAD + sum(row.height for row in rows) + 44
    canvas = Canvas(_WIDTH, height, title)
    canvas.text(10, 22, title, size=15)
    canvas.text(10, 42, "redder: the fill's likelihood depends more on this note; blue: the fill itself", colour=FAINT)
    scale = (_WIDTH - _NAMES - 10) / ((last - first + 1) * bar_steps)
    top = float(_HEAD)
    for row in rows:
        _draw_row(canvas, row, top=top, first=first, last=last, bar_steps=bar_steps, scale=scale)
        top += row.height
    for bar in range(first, last + 1):
        x = _NAMES + (bar - first + 0.5) * bar_steps * scale
        canvas.text(x, top + 14, f"{bar:+d}" if bar else "gap", colour=FAINT, size=10, anchor="middle")
    canvas.text(_WIDTH / 2, top + 32, "bars from the gap's first", colour=FAINT, anchor="middle")
    return canvas.to_svg()


def _longest_bar(prompt: InfillPrompt) -> int:
    metres = [VOCAB.name(token)[3:].split("/") for token in prompt.prefix.tolist() if token in VOCAB.time_signature]
    return max((4 * GRID * int(numerator) // int(denominator) for numerator, denominator in metres), default=4 * GRID)


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    notes: list[Weighed]
    fill: list[Weighed]

    @property
    def pitches(self) -> tuple[int, int]:
        pitches = [note.pitch for note in (*self.notes, *self.fill)]
        return min(pitches) - _PITCHES_BESIDE, max(pitches) + _PITCHES_BESIDE

    @property
    def height(self) -> float:
        low, high = self.pitches
        return (high - low + 1) * _ROW + 14


def _rows(prompt: InfillPrompt, notes: list[Weighed], gap: list[Weighed]) -> list[_Row]:
    rows = []
    for slot in range(len(prompt.slots)):
        of_slot = [note for note in notes if note.slot == slot and note.passage is None]
        filled = [note for note in gap if note.slot == slot]
        if of_slot or filled:
            rows.append(_Row(f"track {prompt.slots[slot] + 1}", of_slot, filled))
    remembered = sorted((n for n in notes if n.passage is not None), key=lambda note: -(note.passage or 0))
    for level, passage in groupby(remembered, key=lambda note: note.passage):
        rows.append(_Row(f"passage {((level or 0) + 1) / len(VOCAB.match):.0%} alike", list(passage), []))
    return rows


def _in_bars(prompt: InfillPrompt, fill: Sequence[Sequence[Note]]) -> list[Weighed]:
    """Return the fill's notes by track slot and bar of the gap."""
    starts = sorted(set(prompt.bar_starts))
    found = []
    for cell, start, header, notes in zip(prompt.cells, prompt.bar_starts, prompt.headers, fill, strict=True):
        slot = prompt.slots.index(cell.track)
        bar = header[1] - VOCAB.bar_index.start if len(starts) > 1 else 0
        found += [Weighed(slot, bar, n.onset - start, n.duration, n.pitch, None, 1.0) for n in notes]
    return found


def _draw_row(canvas: Canvas, row: _Row, *, top: float, first: int, last: int, bar_steps: int, scale: float) -> None:
    _, high = row.pitches
    bottom = top + row.height - 14
    canvas.text(10, (top + bottom) / 2 + 4, row.name, colour=INK, size=11)
    for bar in {note.bar for note in row.fill}:
        canvas.box(_NAMES + (bar - first) * bar_steps * scale, top, bar_steps * scale, bottom - top, colour="#fff7dd")
    for bar in range(first, last + 2):
        x = _NAMES + (bar - first) * bar_steps * scale
        canvas.line(x, top, x, bottom)
    for note in sorted(row.notes, key=lambda note: note.weight):
        says = f"{note.weight:.2f}"
        # The eye reads areas; the root keeps the many small weights visible.
        _draw_note(canvas, note, from_pale_to_red(math.sqrt(note.weight)), top, high, first, bar_steps, scale, says)
    for note in row.fill:
        _draw_note(canvas, note, "#3b6fd4", top, high, first, bar_steps, scale, "the fill")


def _draw_note(
    canvas: Canvas,
    note: Weighed,
    colour: str,
    top: float,
    high: int,
    first: int,
    bar_steps: int,
    scale: float,
    says: str,
) -> None:
    x = _NAMES + ((note.bar - first) * bar_steps + note.step) * scale
    width = max(1.5, min(note.duration * scale, _WIDTH - 10 - x) - 0.6)
    canvas.box(x, top + (high - note.pitch) * _ROW, width, _ROW, colour=colour, says=says)
