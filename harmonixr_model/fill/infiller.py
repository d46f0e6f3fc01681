"""Fill a region of a song with one call.

infiller = Infiller.load()
fills = infiller.fill(song, Region.bars(song.score, 8, 11, tracks=[1]), n=4, seed=7)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonixr_model.engine.engine import Engine, Sampling
from harmonixr_model.errors import CheckpointError, ControlError
from harmonixr_model.fill.session import FillSession
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note, Track
from harmonixr_model.music.song import Song
from harmonixr_model.notes.encoded_score import NoteField
from harmonixr_model.prompt.controls import AttributeControls, check_supported
from harmonixr_model.weights import SHIPPED

if TYPE_CHECKING:
    from pretty_midi import PrettyMIDI

MAX_SEED = 2**63


@dataclass(frozen=True, slots=True)
class Fill:
    """One candidate: the whole song with the fill in it, and the data to make it again."""

    midi: bytes  # the MIDI file; outside the region it equals the input
    notes: dict[int, tuple[Note, ...]]  # the fill's, in the song's ticks, by track; a new track follows the song's
    tokens: tuple[tuple[int, ...], ...]  # one tuple for each window; `Infiller.replay` makes the same file from them
    seed: int  # `fill` with this seed and n=1 makes the same candidate
    log_probability: float  # in nats, under the grammar at temperature 1
    dropped: int  # notes not inserted or not changed, because they would collide with others


def shipped_weights() -> Path:
    """Return the path of the weights that ship with the package."""
    return SHIPPED


class Infiller:
    """Fills regions with one engine; `info` is the metadata of its checkpoint."""

    def __init__(self, engine: Engine, *, max_length: int, info: dict[str, Any] | None = None) -> None:
        self.engine = engine
        self.max_length = max_length
        self.info = info or {}

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Infiller:
        """Load a checkpoint, by default the shipped one; raises CheckpointError, FileNotFoundError."""
        from harmonixr_model.engine.decoder import Decoder
        from harmonixr_model.infill.checkpoint import load_checkpoint

        if path is None and not SHIPPED.is_file():
            raise CheckpointError(f"the shipped weights are missing ({SHIPPED}); install the package again")
        model, info = load_checkpoint(path or SHIPPED)
        return cls(Decoder(model), max_length=model.config.max_length, info=info)

    def fill(
        self,
        song: Song | bytes | PrettyMIDI,
        region: Region,
        *,
        constraints: Constraints | None = None,
        controls: AttributeControls | None = None,
        field: NoteField | None = None,
        n: int = 1,
        seed: int = 0,
        sampling: Sampling | None = None,
        new_track: Track | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Fill]:
        """Return `n` fills of the region; candidate i is sampled with seed `seed + i`.

        Args:
            song: a parsed song, the bytes of a MIDI file, or a PrettyMIDI.
            region: the notes that may change, in the song's ticks.
            constraints: rules that every fill obeys.
            controls: attribute controls; the model follows them as well as it was trained to.
            field: the only field of the region's notes that may change: pitch, rhythm (onsets and durations), velocity
                or duration.
            n: the number of candidates.
            seed: the same seed, model and arguments give the same fills.
            sampling: temperature, top-k, top-p, guidance, copy_strength.
            new_track: a track to add; the region's cells then name the track after the song's last one.
            progress: called with the windows of all candidates that are filled, and their total, which may grow.

        Raises:
            MidiError, RegionError, ControlError, PromptError: the arguments cannot be satisfied.

        """
        if n < 1 or not 0 <= seed < MAX_SEED:
            raise ControlError(
                f"{n} candidates of seed {seed}: give at least 1 candidate and a seed from 0 to 2^63 - 1"
            )
        check_supported(controls or AttributeControls(), self.info, only=field)
        seeds = [(seed + i) % MAX_SEED for i in range(n)]
        session = FillSession(
            as_song(song),
            region,
            max_length=self.max_length,
            constraints=constraints,
            controls=controls,
            field=field,
            new_track=new_track,
        )
        # All candidates share the first prompt: build it before they fork.
        session.next_prompt()
        sessions = [session.fork() for _ in seeds]
        log_probabilities = [0.0] * n
        while prompts := {i: prompt for i in range(n) if (prompt := sessions[i].next_prompt()) is not None}:
            jobs = [(prompt, window_seed(seeds[i], len(sessions[i].tokens))) for i, prompt in prompts.items()]
            made = self.engine.generate_each(jobs, sampling=sampling or Sampling())
            for i, generated in zip(prompts, made, strict=True):
                sessions[i].accept(generated.tokens)
                log_probabilities[i] += generated.log_probability
            if progress:
                progress(sum(len(s.tokens) for s in sessions), sum(len(s.windows) for s in sessions))
        return [_finished(*candidate) for candidate in zip(sessions, seeds, log_probabilities, strict=True)]

    def replay(
        self,
        song: Song | bytes | PrettyMIDI,
        region: Region,
        tokens: Sequence[Sequence[int]],
        *,
        constraints: Constraints | None = None,
        controls: AttributeControls | None = None,
        field: NoteField | None = None,
        new_track: Track | None = None,
    ) -> Fill:
        """Return the fill with these stored token ids, without running a model.

        Raises TokenError where the tokens are not a fill of this song and region.
        """
        session = FillSession(
            as_song(song),
            region,
            max_length=self.max_length,
            constraints=constraints,
            controls=controls,
            field=field,
            new_track=new_track,
        )
        for window in tokens:
            session.accept(window)
        return _finished(session, 0, 0.0)


def window_seed(seed: int, window: int) -> int:
    """Return the seed of a candidate's n-th window; no two windows share a random stream."""
    # The odd constant of a 64-bit Weyl sequence distributes windows over the seeds.
    return (seed + window * 0x9E3779B97F4A7C15) % MAX_SEED


def as_song(song: Song | bytes | PrettyMIDI) -> Song:
    """Return the song in any of the accepted types; raises MidiError."""
    if isinstance(song, Song):
        return song
    return Song.parse(song) if isinstance(song, bytes) else Song.from_pretty_midi(song)


def _finished(session: FillSession, seed: int, log_probability: float) -> Fill:
    edited = session.result()
    return Fill(edited.midi, edited.notes, tuple(session.tokens), seed, log_probability, edited.dropped)
