"""Quantisation from ticks to a grid of 24 steps a quarter, and back.

A *grid score* is a Score with 24 ticks a quarter whose durations, velocities, tempos and metres all have a token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from harmonixr_model.music.score import MAX_BAR_QUARTERS, Note, Score, Tempo, TimeSignature, Track
from harmonixr_model.notes.vocabulary import (
    DENOMINATORS,
    DURATIONS,
    MAX_DURATION,
    NUMERATORS,
    duration_bin,
    duration_floor,
    tempo_bin,
    tempo_of,
    velocity_bin,
    velocity_of,
)

GRID = 24
_DURATION = tuple(DURATIONS[duration_bin(steps)] for steps in range(MAX_DURATION))
_VELOCITY = tuple(velocity_of(velocity_bin(velocity)) for velocity in range(128))


def to_step(tick: int, ticks_per_quarter: int) -> int:
    """Return the grid step nearest to a tick; half way goes up, so a note just before a barline joins the bar."""
    return (2 * tick * GRID + ticks_per_quarter) // (2 * ticks_per_quarter)


def to_tick(step: int, ticks_per_quarter: int) -> int:
    """Return the tick nearest to a grid step; half way goes up."""
    return (2 * step * ticks_per_quarter + GRID) // (2 * GRID)


def in_ticks(note: Note, ticks_per_quarter: int) -> tuple[int, int]:
    """Return the ticks at which a grid note begins and ends, at least one apart."""
    onset = to_tick(note.onset, ticks_per_quarter)
    return onset, max(to_tick(note.end, ticks_per_quarter), onset + 1)


def quantize(score: Score) -> Score:
    """Return the grid score nearest to `score`. Idempotent.

    Onsets and ends go to the nearest step, durations and velocities to the vocabulary's bins, tempos to theirs,
    metres the vocabulary lacks to the one nearest in length. Of notes of a track that share onset and pitch the
    longest stays; a note still sounding when its pitch begins again on the same track is cut. A drum track's
    program is dropped; names and channels stay.
    """
    tpq = score.ticks_per_quarter
    return Score(
        ticks_per_quarter=GRID,
        tracks=tuple(_quantize_track(track, tpq) for track in score.tracks),
        tempos=_quantize_tempos(score.tempos, tpq),
        time_signatures=_quantize_metres(score.time_signatures, tpq),
    )


def plain(score: Score) -> Score:
    """Return the part of a score that tokens encode: without names, with channels in order (drums on 9)."""
    channels = (c for _ in range(len(score.tracks)) for c in (*range(9), *range(10, 16)))
    return replace(
        score,
        tracks=tuple(replace(track, name="", channel=9 if track.is_drum else next(channels)) for track in score.tracks),
    )


def cut_overlaps(notes: Iterable[Note]) -> list[Note]:
    """Return grid notes sorted by (onset, pitch), none sounding when the same pitch begins again."""
    result: list[Note] = []
    last: dict[int, int] = {}  # pitch -> index of its latest note in `result`
    for note in sorted(notes, key=lambda n: (n.onset, n.pitch, -n.duration, -n.velocity)):
        before = last.get(note.pitch)
        if before is not None:
            gap = note.onset - result[before].onset
            if gap == 0:
                continue
            if result[before].duration > gap:
                result[before] = result[before]._replace(duration=duration_floor(gap))
        last[note.pitch] = len(result)
        result.append(note)
    return result


def _quantize_track(track: Track, tpq: int) -> Track:
    notes = cut_overlaps(_quantize_notes(track.notes, tpq))
    return replace(track, notes=tuple(notes), program=0 if track.is_drum else track.program)


def _quantize_notes(notes: Iterable[Note], tpq: int) -> Iterator[Note]:
    """Yield each note on the grid. Ingest spends its time here, so `to_step` is inlined and bins come from tables."""
    for tick, ticks, pitch, velocity in notes:
        onset = (2 * tick * GRID + tpq) // (2 * tpq)
        steps = (2 * (tick + ticks) * GRID + tpq) // (2 * tpq) - onset
        duration = _DURATION[steps] if 0 <= steps < MAX_DURATION else DURATIONS[duration_bin(steps)]
        yield Note(onset, duration, pitch, _VELOCITY[velocity])


def _quantize_tempos(tempos: Sequence[Tempo], tpq: int) -> tuple[Tempo, ...]:
    at_step = {0: tempo_of(tempo_bin(500_000))}  # the MIDI default
    for tempo in sorted(tempos, key=lambda t: t.tick):
        at_step[to_step(tempo.tick, tpq)] = tempo_of(tempo_bin(tempo.us_per_quarter))
    changes: list[Tempo] = []
    for step, pace in sorted(at_step.items()):
        if not changes or changes[-1].us_per_quarter != pace:
            changes.append(Tempo(step, pace))
    return tuple(changes)


def _quantize_metres(signatures: Sequence[TimeSignature], tpq: int) -> tuple[TimeSignature, ...]:
    at_step = {0: (4, 4)}
    for signature in sorted(signatures, key=lambda s: s.tick):
        at_step[to_step(signature.tick, tpq)] = _nearest_metre(signature.numerator, signature.denominator)
    changes: list[TimeSignature] = []
    for step, metre in sorted(at_step.items()):
        # The same metre repeated at a barline changes nothing; inside a bar it begins a new bar.
        if changes and changes[-1][1:] == metre and (step - changes[-1].tick) % bar_steps(*metre) == 0:
            continue
        changes.append(TimeSignature(step, *metre))
    return tuple(changes)


def bar_steps(numerator: int, denominator: int) -> int:
    """Return the steps of a full bar, as Score.bars counts them."""
    return max(1, round(GRID * min(4 * numerator / denominator, MAX_BAR_QUARTERS)))


def _nearest_metre(numerator: int, denominator: int) -> tuple[int, int]:
    if numerator in NUMERATORS and denominator in DENOMINATORS:
        return numerator, denominator
    quarters = min(4 * max(1, numerator) / max(1, denominator), MAX_BAR_QUARTERS)
    candidates = ((n, d) for d in DENOMINATORS for n in NUMERATORS)
    return min(candidates, key=lambda m: (abs(4 * m[0] / m[1] - quarters), abs(m[1] - denominator), m))
