"""Sample what to hide: the mixture of gaps that an infill model is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harmonixr_model.data.phrases import phrases
from harmonixr_model.music.region import NoteKey
from harmonixr_model.music.score import Bar
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.field_tokens import NOTE_FIELDS, single_field_cell

# The chance that a window has a single gap, as in use; otherwise gaps are added up to a sampled share of the notes.
SINGLE_CHANCE = 0.2
MIN_SHARE, MAX_SHARE = 0.3, 0.7
MAX_DRAWS = 24
CONTINUATION_CHANCE = 0.1
LOCK_CHANCE = 0.08
# The chance that a single field is filled, and which.
FIELD_CHANCE = 0.133  # of masks that are not continuations: 12 % of all
FIELD_CHANCES = (0.35, 0.25, 0.2, 0.2)  # of NOTE_FIELDS: pitch, rhythm, velocity, duration
# Such a note has tokens both in the prefix and in the fill: with more of them the example would not fit.
FIELD_MIN_SHARE, FIELD_MAX_SHARE = 0.25, 0.45

Shape = Callable[["Scene", np.random.Generator], list[GridCell]]


@dataclass(frozen=True, slots=True)
class Scene:
    """A window of a piece to hide parts of: the piece and the window's bars."""

    encoded: EncodedScore
    bars: tuple[Bar, ...]

    @property
    def notes(self) -> int:
        """How many notes begin in the window."""
        first, last = self.bars[0], self.bars[-1]
        return sum(len(self.encoded.notes(track, first.start, last.end)) for track in range(self.tracks))

    @property
    def tracks(self) -> int:
        """How many tracks there are."""
        return len(self.encoded.tracks)

    def cells(self, tracks: Sequence[int], first: int, count: int) -> list[GridCell]:
        """Return whole-bar cells of some tracks over `count` bars from `first`."""
        return [GridCell(track, bar.start, bar.end) for bar in self.bars[first : first + count] for track in tracks]


@dataclass(frozen=True, slots=True)
class Mask:
    """The hidden cells, the locked notes within them, and the step where the context ends (None: at the song's end)."""

    cells: tuple[GridCell, ...]
    locks: frozenset[NoteKey]
    future_from: int | None


def sample_mask(scene: Scene, rng: np.random.Generator) -> Mask:
    """Sample one mask of the mixture over a window.

    A fifth of the windows have one gap. The others have gaps of one or several shapes until a share of the notes
    between MIN_SHARE and MAX_SHARE is hidden, so that enough tokens carry loss. Some windows end with their gap
    (continuation), some lock a third of the hidden notes, and some hide a single field of each note.
    """
    if rng.random() < CONTINUATION_CHANCE:
        return _continuation(scene, rng)
    is_single = rng.random() < SINGLE_CHANCE
    field = NOTE_FIELDS[int(rng.choice(len(NOTE_FIELDS), p=FIELD_CHANCES))] if rng.random() < FIELD_CHANCE else None
    share = float(rng.uniform(FIELD_MIN_SHARE, FIELD_MAX_SHARE) if field else rng.uniform(MIN_SHARE, MAX_SHARE))
    notes = scene.notes
    cells: list[GridCell] = []
    hidden = 0
    for _ in range(MAX_DRAWS):
        shape = SHAPES[int(rng.choice(len(SHAPES), p=SHAPE_CHANCES))]
        sampled = shape(scene, rng)
        if field and sum(len(scene.encoded.hidden(cell)) for cell in sampled) > FIELD_MAX_SHARE * notes:
            continue
        for cell in sampled:
            if not _overlaps(cell, cells):
                cells.append(cell)
                hidden += len(scene.encoded.hidden(cell))
        if hidden and (is_single or hidden >= share * notes):
            break
    locks = _sample_locks(scene, cells, rng)
    if field:
        cells = [single_field_cell(cell, field, scene.encoded.hidden(cell, locks)) for cell in cells]
        cells = [cell for cell in cells if cell.known]
    return Mask(tuple(cells), locks, None)


def _continuation(scene: Scene, rng: np.random.Generator) -> Mask:
    count = int(rng.integers(1, max(2, min(8, len(scene.bars) // 2) + 1)))
    first = int(rng.integers(0, len(scene.bars) - count + 1))
    tracks = range(scene.tracks) if rng.random() < 0.7 else [int(rng.integers(scene.tracks))]
    return Mask(tuple(scene.cells(list(tracks), first, count)), frozenset(), scene.bars[first + count - 1].end)


def _one_track(scene: Scene, rng: np.random.Generator) -> list[GridCell]:
    count = int(rng.choice((1, 2, 4, 8), p=(0.2, 0.25, 0.4, 0.15)))
    return scene.cells([_busy_track(scene, rng)], _first(scene, rng, count), count)


def _all_tracks(scene: Scene, rng: np.random.Generator) -> list[GridCell]:
    count = int(rng.choice((1, 2, 4), p=(0.4, 0.35, 0.25)))
    return scene.cells(range(scene.tracks), _first(scene, rng, count), count)


def _whole_track(scene: Scene, rng: np.random.Generator) -> list[GridCell]:
    return scene.cells([_busy_track(scene, rng)], 0, len(scene.bars))


def _scattered(scene: Scene, rng: np.random.Generator) -> list[GridCell]:
    count = int(rng.integers(2, 9))
    cells = scene.cells(range(scene.tracks), _first(scene, rng, count), count)
    return [cell for cell in cells if rng.random() < 0.4]


def _beats(scene: Scene, rng: np.random.Generator) -> list[GridCell]:
    """Return part of a bar, on beats or on sixteenths, of one track or of all."""
    number = int(rng.integers(len(scene.bars)))
    bar = scene.bars[number]
    step = 24 if rng.random() < 0.7 else 6
    edges = [*range(bar.start, bar.end, step), bar.end]
    if len(edges) < 3:
        return scene.cells([_busy_track(scene, rng)], number, 1)
    start, end = sorted(int(i) for i in rng.choice(len(edges), size=2, replace=False))
    tracks = range(scene.tracks) if rng.random() < 0.3 else [_busy_track(scene, rng)]
    return [GridCell(track, edges[start], edges[end]) for track in tracks]


def _pitch_band(scene: Scene, rng: np.random.Generator) -> list[GridCell]:
    """Return the notes of one track above, below or between pitches that it has."""
    count = int(rng.integers(1, 5))
    track, first = _busy_track(scene, rng), _first(scene, rng, count)
    bars = scene.bars[first : first + count]
    pitches = [n.pitch for n in scene.encoded.notes(track, bars[0].start, bars[-1].end)]
    if not pitches:
        return []
    one, two = sorted(int(rng.choice(pitches)) for _ in range(2))
    low, high = ((0, two), (one, 127), (one, two))[int(rng.integers(3))]
    return [replace(cell, low=low, high=high) for cell in scene.cells([track], first, count)]


def _phrase(scene: Scene, rng: np.random.Generator) -> list[GridCell]:
    """Return a stretch of bars that is repeated, or that differs from its neighbours, of all tracks or of one."""
    found = phrases(scene.encoded, scene.bars)
    if not found:
        return []
    first, count = found[int(rng.integers(len(found)))]
    tracks = range(scene.tracks) if rng.random() < 0.5 else [_busy_track(scene, rng)]
    return scene.cells(tracks, first, count)


SHAPES: tuple[Shape, ...] = (_one_track, _all_tracks, _whole_track, _scattered, _beats, _pitch_band, _phrase)
SHAPE_CHANCES = (0.42, 0.18, 0.08, 0.12, 0.08, 0.07, 0.05)


def _busy_track(scene: Scene, rng: np.random.Generator) -> int:
    """Sample a track, more often one with notes in more bars: a silent target teaches little."""
    weights = np.array([1 + sum(bool(scene.encoded.run(t, bar)) for bar in scene.bars) for t in range(scene.tracks)])
    return int(rng.choice(scene.tracks, p=weights / weights.sum()))


def _first(scene: Scene, rng: np.random.Generator, count: int) -> int:
    return int(rng.integers(0, max(1, len(scene.bars) - count + 1)))


def _overlaps(cell: GridCell, others: Sequence[GridCell]) -> bool:
    return any(o.track == cell.track and o.start < cell.end and cell.start < o.end for o in others)


def _sample_locks(scene: Scene, cells: Sequence[GridCell], rng: np.random.Generator) -> frozenset[NoteKey]:
    if rng.random() >= LOCK_CHANCE:
        return frozenset()
    keys = [NoteKey(cell.track, n.onset, n.pitch) for cell in cells for n in scene.encoded.hidden(cell)]
    return frozenset(key for key in keys if rng.random() < 0.35)
