"""A model's token embeddings on a plane, coloured by pitch, duration, velocity and position in the beat."""

# N tokens of a kind, C width

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.notes.grid import GRID
from harmonixr_model.notes.vocabulary import DURATIONS, PITCH_CLASSES, VOCAB, velocity_of
from harmonixr_model.pictures.figure import CYCLIC, SEQUENTIAL, to_svg
from harmonixr_model.pictures.projection import Points, pca, tsne

LOWEST, HIGHEST = 21, 108  # the piano's pitches; others are rare in training
BAR_STEPS = 4 * GRID
Colour = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Attribute:
    """One musical attribute of consecutive tokens.

    Attributes:
        name: the attribute.
        first: the id of the first token.
        labels: one label a token.
        colours: one colour a token.
        legend: label and colour of some values.
    """

    name: str
    first: int
    labels: tuple[str, ...]
    colours: tuple[Colour, ...]
    legend: tuple[tuple[str, Colour], ...]

    def directions(self, model: InfillTransformer) -> Points:
        """Return the tokens' embeddings as unit vectors [N, C]; their length only reflects how often a token occurs."""
        rows = slice(self.first, self.first + len(self.labels))
        weights: Points = model.embedding.token.weight.detach()[rows].double().numpy()
        weights /= np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-12)
        return weights


def draw_embeddings(model: InfillTransformer, *, title: str) -> str:
    """Return an SVG: one column an attribute, the principal components above, t-SNE below."""
    attributes = attributes_of_music()
    figure = Figure(figsize=(2.8 * len(attributes), 6.4), layout="constrained")
    figure.suptitle(title)
    tooltips = []
    for attribute, (above, below) in zip(attributes, figure.subplots(2, len(attributes)).T, strict=True):
        points = attribute.directions(model)
        plane, shares = pca(points)
        dots = _scatter(above, plane, attribute, title=f"{attribute.name}: PCA, {sum(shares):.0%} of the variance")
        tooltips.append((dots, attribute.labels))
        dots = _scatter(below, tsne(points, perplexity=min(12, len(points) / 4)), attribute, title="t-SNE")
        tooltips.append((dots, attribute.labels))
        for label, colour in attribute.legend:
            below.scatter([], [], color=colour, label=label, s=10)
        columns = -(-len(attribute.legend) // 2)
        below.legend(fontsize=6, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, 0), frameon=False)
    return to_svg(figure, title=title, tooltips=tooltips)


def _scatter(axes: Axes, plane: Points, attribute: Attribute, *, title: str) -> PathCollection:
    axes.set_title(title, fontsize=8)
    axes.set(xticks=[], yticks=[])
    return axes.scatter(plane[:, 0], plane[:, 1], c=attribute.colours, s=10)


def attributes_of_music() -> list[Attribute]:
    """Return the attributes of the picture: pitch class, octave, duration, velocity, position in the beat."""
    pitches = range(LOWEST, HIGHEST + 1)
    names = tuple(f"{PITCH_CLASSES[pitch % 12]}{pitch // 12 - 1}" for pitch in pitches)
    first_pitch = VOCAB.pitch.start + LOWEST
    velocities = [velocity_of(i) for i in range(VOCAB.velocity.size)]
    durations = (("1/24", 1), ("1/4", 6), ("1", 24), ("4", 96), ("64 quarters", 1536))
    positions = (("on it", 0), ("1/4", 6), ("1/3", 8), ("1/2", 12), ("2/3", 16), ("3/4", 18))
    return [
        Attribute(
            "pitch class",
            first_pitch,
            names,
            tuple(map(_fifths, pitches)),
            tuple((PITCH_CLASSES[pitch % 12], _fifths(pitch)) for pitch in range(0, 84, 7)),
        ),
        Attribute(
            "octave",
            first_pitch,
            names,
            tuple(SEQUENTIAL((pitch // 12 - 1) / 8) for pitch in pitches),
            tuple((str(octave), SEQUENTIAL(octave / 8)) for octave in range(LOWEST // 12 - 1, HIGHEST // 12)),
        ),
        Attribute(
            "duration",
            VOCAB.duration.start,
            tuple(f"{steps / GRID:.2f} quarters" for steps in DURATIONS),
            _logarithmic(DURATIONS),
            tuple(zip((label for label, _ in durations), _logarithmic([n for _, n in durations]), strict=True)),
        ),
        Attribute(
            "velocity",
            VOCAB.velocity.start,
            tuple(map(str, velocities)),
            tuple(SEQUENTIAL(velocity / 127) for velocity in velocities),
            tuple((str(v), SEQUENTIAL(v / 127)) for v in (2, 30, 62, 94, 126)),
        ),
        Attribute(
            "position in the beat",
            VOCAB.position.start,
            tuple(f"beat {step // GRID + 1} + {step % GRID}/24" for step in range(BAR_STEPS)),
            tuple(CYCLIC(step % GRID / GRID) for step in range(BAR_STEPS)),
            tuple((label, CYCLIC(step / GRID)) for label, step in positions),
        ),
    ]


def _fifths(pitch: int) -> Colour:
    """Return a pitch class's colour: neighbours on the circle of fifths have similar colours."""
    return CYCLIC(pitch * 7 % 12 / 12)


def _logarithmic(steps: Sequence[int]) -> tuple[Colour, ...]:
    return tuple(SEQUENTIAL(math.log(n) / math.log(DURATIONS[-1])) for n in steps)
