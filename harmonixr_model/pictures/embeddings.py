"""What a model has learnt of pitch, duration, velocity and beat: its embeddings on a plane, coloured by the music.

Knows nothing of files or of how the model was trained.
"""

# N tokens of a kind, C width

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.notes.grid import GRID
from harmonixr_model.notes.vocabulary import DURATIONS, PITCH_CLASSES, VOCAB, velocity_of
from harmonixr_model.pictures.projection import Points, pca, tsne
from harmonixr_model.pictures.svg import FAINT, INK, Canvas, around_the_circle, from_low_to_high

LOWEST, HIGHEST = 21, 108  # the piano's pitches: what lies outside is hardly trained
BAR_STEPS = 4 * GRID
_PANEL, _HEAD, _GAP = 250, 46, 24


@dataclass(frozen=True, slots=True)
class Attribute:
    """One way to colour embeddings: which they are, and each one's name, value as said and colour."""

    name: str
    points: Callable[[InfillTransformer], Points]
    names: tuple[str, ...]
    colours: tuple[str, ...]
    legend: tuple[tuple[str, str], ...]


def draw_embeddings(model: InfillTransformer, *, title: str) -> str:
    """Return an SVG: a column for each attribute, the principal components above, t-SNE below."""
    attributes = attributes_of_music()
    width = _GAP + (_PANEL + _GAP) * len(attributes)
    canvas = Canvas(width, 2 * (_PANEL + _HEAD) + 60, title)
    canvas.text(_GAP, 22, title, size=15)
    for column, attribute in enumerate(attributes):
        points = attribute.points(model)
        plane, shares = pca(points)
        x = _GAP + column * (_PANEL + _GAP)
        said = f"PCA, {sum(shares):.0%} of the variance"
        _panel(canvas, plane, attribute, x=x, y=40, says=said)
        laid = tsne(points, perplexity=min(12, len(points) / 4))
        _panel(canvas, laid, attribute, x=x, y=40 + _PANEL + _HEAD, says="t-SNE")
    return canvas.to_svg()


def attributes_of_music() -> list[Attribute]:
    """Return the attributes that are drawn: pitch class, octave, duration, velocity, place in the bar."""
    pitches = range(LOWEST, HIGHEST + 1)
    pitch_names = tuple(f"{PITCH_CLASSES[pitch % 12]}{pitch // 12 - 1}" for pitch in pitches)
    octaves = range(LOWEST // 12 - 1, HIGHEST // 12)
    longest = math.log(DURATIONS[-1])
    velocities = [velocity_of(i) for i in range(len(VOCAB.velocity))]
    return [
        Attribute(
            "pitch class",
            _tokens(VOCAB.pitch.start + LOWEST, len(pitches)),
            pitch_names,
            tuple(_fifths(pitch) for pitch in pitches),
            tuple((PITCH_CLASSES[pitch % 12], _fifths(pitch)) for pitch in range(0, 84, 7)),
        ),
        Attribute(
            "octave",
            _tokens(VOCAB.pitch.start + LOWEST, len(pitches)),
            pitch_names,
            tuple(_octave_colour(pitch // 12 - 1) for pitch in pitches),
            tuple((str(octave), _octave_colour(octave)) for octave in octaves),
        ),
        Attribute(
            "duration",
            _tokens(VOCAB.duration.start, len(DURATIONS)),
            tuple(f"{steps / GRID:.2f} quarters" for steps in DURATIONS),
            tuple(from_low_to_high(math.log(steps) / longest) for steps in DURATIONS),
            tuple(
                (said, from_low_to_high(math.log(steps) / longest))
                for said, steps in (("1/24", 1), ("1/4", 6), ("1", 24), ("4", 96), ("64 quarters", 1536))
            ),
        ),
        Attribute(
            "velocity",
            _tokens(VOCAB.velocity.start, len(velocities)),
            tuple(map(str, velocities)),
            tuple(from_low_to_high(velocity / 127) for velocity in velocities),
            tuple((str(v), from_low_to_high(v / 127)) for v in (2, 30, 62, 94, 126)),
        ),
        Attribute(
            "place in the beat",
            _tokens(VOCAB.position.start, BAR_STEPS),
            tuple(f"beat {step // GRID + 1} + {step % GRID}/24" for step in range(BAR_STEPS)),
            tuple(around_the_circle(step % GRID / GRID) for step in range(BAR_STEPS)),
            tuple(
                (said, around_the_circle(step / GRID))
                for said, step in (("on it", 0), ("1/4", 6), ("1/3", 8), ("1/2", 12), ("2/3", 16), ("3/4", 18))
            ),
        ),
    ]


def _tokens(start: int, count: int) -> Callable[[InfillTransformer], Points]:
    def points(model: InfillTransformer) -> Points:
        weights: Points = model.embedding.token.weight.detach()[start : start + count].double().numpy()
        # Embeddings are compared by direction: how often a token occurs shows in its length.
        weights /= np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-12)
        return weights

    return points


def _fifths(pitch: int) -> str:
    """Return a pitch class's colour: neighbours on the circle of fifths look alike."""
    return around_the_circle(pitch * 7 % 12 / 12)


def _octave_colour(octave: int) -> str:
    return from_low_to_high(octave / 8)


def _panel(canvas: Canvas, plane: Points, attribute: Attribute, *, x: float, y: float, says: str) -> None:
    low, high = plane.min(axis=0), plane.max(axis=0)
    size = np.maximum(high - low, 1e-9)
    canvas.text(x, y + 12, attribute.name, colour=INK, size=13)
    canvas.text(x + _PANEL, y + 12, says, colour=FAINT, size=10, anchor="end")
    at = x
    for said, colour in attribute.legend:
        canvas.dot(at + 3, y + 24, colour=colour, radius=3)
        canvas.text(at + 8, y + 27, said, colour=FAINT, size=8)
        at += 11 + 4.8 * len(said)
    canvas.box(x, y + 34, _PANEL, _PANEL, colour="none", outline="#dfe4ec")
    for place, name, colour in zip((plane - low) / size, attribute.names, attribute.colours, strict=True):
        canvas.dot(x + 8 + place[0] * (_PANEL - 16), y + 42 + (1 - place[1]) * (_PANEL - 16), colour=colour, says=name)
