"""Data augmentation of scores: key, loudness, tempo, and order and choice of tracks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harmonixr_model.music.score import Score, Tempo, Track

MAX_TRANSPOSE = 6
MAX_LOUDER = 12
TEMPO_SPREAD = 0.12
DROP_CHANCE, DROP_SHARE = 0.25, 0.3
PERMUTE_CHANCE = 0.5


def augment(score: Score, rng: np.random.Generator, *, transposes: bool = True) -> Score:
    """Return a variant of a score: transposed (not drums), louder or softer, faster or slower, without some tracks.

    At least one track stays. The random numbers are the same with and without `transposes`, so that only the key
    differs.
    """
    sampled = _transposition(score, rng)
    semitones = sampled if transposes else 0
    louder = int(rng.integers(-MAX_LOUDER, MAX_LOUDER + 1))
    pace = float(np.exp(rng.uniform(-TEMPO_SPREAD, TEMPO_SPREAD)))
    tracks = [_varied(track, 0 if track.is_drum else semitones, louder) for track in score.tracks]
    return replace(
        score,
        tracks=tuple(_choose(tracks, rng)),
        tempos=tuple(Tempo(t.tick, max(1, min(0xFFFFFF, round(t.us_per_quarter * pace)))) for t in score.tempos),
    )


def _transposition(score: Score, rng: np.random.Generator) -> int:
    """Sample a transposition that keeps every pitch within the range of MIDI."""
    pitches = [note.pitch for track in score.tracks if not track.is_drum for note in track.notes]
    low = max(-MAX_TRANSPOSE, -min(pitches, default=0))
    high = min(MAX_TRANSPOSE, 127 - max(pitches, default=127))
    return int(rng.integers(low, high + 1))


def _varied(track: Track, semitones: int, louder: int) -> Track:
    return replace(
        track,
        notes=tuple(
            note._replace(pitch=note.pitch + semitones, velocity=min(127, max(1, note.velocity + louder)))
            for note in track.notes
        ),
    )


def _choose(tracks: list[Track], rng: np.random.Generator) -> list[Track]:
    drops = rng.random() < DROP_CHANCE
    stays = rng.random(len(tracks)) >= DROP_SHARE
    is_permuted = rng.random() < PERMUTE_CHANCE
    order = rng.permutation(len(tracks))
    chosen = [i for i in range(len(tracks)) if not drops or stays[i]] or [int(order[0])]
    return [tracks[i] for i in (sorted(chosen, key=order.tolist().index) if is_permuted else chosen)]
