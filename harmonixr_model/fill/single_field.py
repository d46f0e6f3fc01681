"""Which notes of a song an attribute-only region asks about, as the grid has them, and its answer back in ticks.

What the answer leaves as it was on the grid stays exactly as it was in the file. Knows no prompts, models or files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harmonixr_model.errors import ControlError, RegionError
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_model.notes.encoded_score import GridCell, NoteField
from harmonixr_model.notes.field_tokens import single_field_cell
from harmonixr_model.notes.grid import to_step, to_tick
from harmonixr_model.notes.vocabulary import DURATIONS, duration_bin, velocity_bin, velocity_of
from harmonixr_model.prompt.controls import AttributeControls

# The soft controls that say something about a field; style and composer do about all.
_SPEAKING: dict[NoteField, frozenset[str]] = {
    "pitch": frozenset({"chords", "key"}),
    "rhythm": frozenset({"polyphony"}),
    "velocity": frozenset({"velocity"}),
    "duration": frozenset({"polyphony"}),
}


@dataclass(frozen=True, slots=True)
class SelectedNotes:
    """The cells of an attribute-only region that have notes, and where in the score each of these is.

    `places` names the notes of each cell, in order, by their index in the cell's track; cells go by (track, start).
    """

    only: NoteField
    cells: tuple[GridCell, ...]
    places: Mapping[tuple[int, int], tuple[int, ...]]


def ask_about(song: Song, region: Region, cells: Iterable[GridCell], *, only: NoteField) -> SelectedNotes:
    """Return what a region asks about; `cells` are its cells on the grid.

    Of notes that the grid cannot tell apart (same track, step and pitch) the longest is asked about, the others stay as
    they are. Raises RegionError where there is no note.
    """
    by_track: dict[int, list[GridCell]] = defaultdict(list)
    for cell in sorted(cells, key=lambda c: c.start):
        by_track[cell.track].append(cell)
    asked: list[GridCell] = []
    places: dict[tuple[int, int], tuple[int, ...]] = {}
    for track, inside in by_track.items():
        found: dict[int, dict[tuple[int, int], tuple[Note, int]]] = defaultdict(dict)
        for number, note in enumerate(song.score.tracks[track].notes):
            if not region.contains(track, note):
                continue
            on_grid = _on_grid(note, song.score.ticks_per_quarter)
            at, step = _cell_of(inside, on_grid.onset)
            key = step, note.pitch
            if key not in found[at] or on_grid.duration > found[at][key][0].duration:
                found[at][key] = on_grid._replace(onset=step), number
        for at in sorted(found):
            notes = [found[at][key] for key in sorted(found[at])]
            asked.append(single_field_cell(inside[at], only, [note for note, _ in notes]))
            places[track, inside[at].start] = tuple(number for _, number in notes)
    if not asked:
        raise RegionError(f"the region has no note whose {only} could change; choose one that has notes")
    return SelectedNotes(only, tuple(asked), places)


def wishes(
    song: Song,
    region: Region,
    asked: SelectedNotes,
    answers: Iterable[tuple[GridCell, Sequence[Note]]],
    *,
    velocities: tuple[int, int] = (1, 127),
) -> dict[int, dict[int, Note]]:
    """Return, by track and index, what the notes become; `answers` are each cell's notes as a fill says them.

    `velocities` are the bounds a velocity must keep, the old one too where the answer is near it.
    """
    changes: dict[int, dict[int, Note]] = defaultdict(dict)
    for cell, notes in answers:
        for number, said in zip(asked.places[cell.track, cell.start], notes, strict=True):
            was = song.score.tracks[cell.track].notes[number]
            if asked.only == "pitch":
                wish = was._replace(pitch=said.pitch)
            elif asked.only == "velocity":
                wish = was._replace(velocity=_velocity(was.velocity, said.velocity, velocities))
            else:
                wish = _in_time(song, region, cell.track, was, said, moves=asked.only == "rhythm")
            changes[cell.track][number] = wish
    return dict(changes)


def check_controls(controls: AttributeControls, only: NoteField) -> None:
    """Raise ControlError where a soft control says nothing about the field that is asked for."""
    given = {
        "density": controls.density is not None,
        "polyphony": controls.polyphony is not None,
        "velocity": controls.velocity is not None,
        "chords": bool(controls.chords),
        "key": controls.key is not None,
    }
    for name, is_given in given.items():
        if is_given and name not in _SPEAKING[only]:
            raise ControlError(f"{name} says nothing where only the {only} of notes may change; leave it out")


def _on_grid(note: Note, per_quarter: int) -> Note:
    onset = to_step(note.onset, per_quarter)
    duration = DURATIONS[duration_bin(to_step(note.end, per_quarter) - onset)]
    return Note(onset, duration, note.pitch, velocity_of(velocity_bin(note.velocity)))


def _cell_of(cells: Sequence[GridCell], step: int) -> tuple[int, int]:
    """Return the cell a note belongs to, and the step in it: one rounded out of the region goes back to its edge."""
    nearest = min(range(len(cells)), key=lambda i: max(cells[i].start - step, step - cells[i].end + 1, 0))
    return nearest, min(max(step, cells[nearest].start), cells[nearest].end - 1)


def _velocity(was: int, said: int, bounds: tuple[int, int]) -> int:
    is_same = velocity_bin(was) == velocity_bin(said) and bounds[0] <= was <= bounds[1]
    return was if is_same else said


def _in_time(song: Song, region: Region, track: int, was: Note, said: Note, *, moves: bool) -> Note:
    """Return a note with the onset (where it `moves`) and duration that the grid says, in ticks."""
    per_quarter = song.score.ticks_per_quarter
    on_grid = _on_grid(was, per_quarter)
    duration = was.duration if said.duration == on_grid.duration else max(1, to_tick(said.duration, per_quarter))
    if not moves or said.onset == on_grid.onset:
        return was._replace(duration=duration)
    cell = next(c for c in region.cells if c.track == track and c.start <= was.onset < c.end)
    # A track's notes may move from one cell of the region to no other: each is answered within its own.
    onset = min(max(to_tick(said.onset, per_quarter), cell.start), cell.end - 1)
    return Note(onset, duration, was.pitch, was.velocity)
