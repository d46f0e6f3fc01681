"""The Decoding stage: fills as whole MIDI files, files as descriptions and sound. Imports no torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import lru_cache

from harmonixr_model.music import synth
from harmonixr_model.music.loudness import match_loudness
from harmonixr_platform.feedback.studies.pair_view import excerpt as excerpt_of
from harmonixr_platform.schemas import BarView, InfillOptions, InspectResponse, TrackView
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.infill.session_cache import open_session, placed_note, read_song, region_of
from harmonixr_platform.serving.transport.messages import FilledSong, FillTokens, FinishedFills

# A player requests one sound several times, for the parts that it seeks to.
_CACHED_SOUNDS = 16


class Decoding:
    """Stateless but for a cache of sounds."""

    def __init__(self, args: ServingArgs) -> None:
        self._args = args
        # Several at the same time would only delay each of them.
        self._render_lock = threading.Lock()
        self._rendered = lru_cache(_CACHED_SOUNDS)(self._render)

    def finish(
        self, midi: bytes, options: InfillOptions, tokens: Sequence[FillTokens], max_length: int
    ) -> FinishedFills:
        """Return a whole file for each candidate's tokens; raises TokenError for tokens of another request."""
        started = time.perf_counter()
        limit = self._args.max_midi_bytes
        song = read_song(midi, limit)
        filled, region = [], None
        for windows in tokens:
            session = open_session(midi, options, max_midi_bytes=limit, max_length=max_length, done=windows)
            made, region = session.result(), session.region
            notes = tuple(placed_note(song.score, track, note) for track in made.notes for note in made.notes[track])
            filled.append(FilledSong(made.midi, notes))
        excerpt = excerpt_of(song, region or region_of(song, options))
        took_s = time.perf_counter() - started
        return FinishedFills(tuple(filled), excerpt.audio_start_s, excerpt.audio_end_s, took_s)

    def inspect(self, midi: bytes) -> InspectResponse:
        """Return the bars, tracks and notes of a file."""
        score = read_song(midi, self._args.max_midi_bytes).score
        return InspectResponse(
            ticks_per_quarter=score.ticks_per_quarter,
            end_tick=score.end,
            duration_s=score.seconds(score.end),
            bars=tuple(
                BarView(
                    number=bar.index + 1,
                    start_tick=bar.start,
                    end_tick=bar.end,
                    start_s=score.seconds(bar.start),
                    numerator=bar.numerator,
                    denominator=bar.denominator,
                )
                for bar in score.bars
            ),
            tracks=tuple(
                TrackView(
                    number=index + 1,
                    name=track.name,
                    program=track.program,
                    is_drum=track.is_drum,
                    notes=len(track.notes),
                )
                for index, track in enumerate(score.tracks)
            ),
            notes=tuple(
                placed_note(score, index, note) for index, track in enumerate(score.tracks) for note in track.notes
            ),
        )

    def sound(self, midi: bytes, start_s: float, end_s: float | None, beside: tuple[bytes, ...] = ()) -> bytes:
        """Return an excerpt of a file as WAV, as loud as the same excerpt of the files `beside`.

        Raises RegionError for seconds outside the file.
        """
        # All are rendered together, so that neither latency nor level identifies one of them.
        together = tuple(sorted({midi, *beside}))
        with self._render_lock:
            return self._rendered(together, start_s, end_s)[midi]

    def _render(self, files: tuple[bytes, ...], start_s: float, end_s: float | None) -> dict[bytes, bytes]:
        scores = [read_song(midi, self._args.max_midi_bytes).score for midi in files]
        sounds = [synth.render(score, start_s=start_s, end_s=end_s) for score in scores]
        matched = match_loudness(sounds, synth.SAMPLE_RATE)
        return {midi: synth.wav_bytes(sound) for midi, sound in zip(files, matched, strict=True)}
