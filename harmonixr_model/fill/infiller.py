"""The library's front: a song and a region in, fills out.

    infiller = Infiller.load()
    fills = infiller.fill(song, Region.bars(song.score, 8, 11, tracks=[1]), n=4, seed=7)

Knows nothing of servers or stores; `session` plans and finishes, an engine decodes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonixr_model.engine.engine import Engine, GeneratedFill, Sampling
from harmonixr_model.errors import CheckpointError, ControlError
from harmonixr_model.fill.session import FillSession
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note, Track
from harmonixr_model.music.song import Song
from harmonixr_model.notes.encoded_score import NoteField
from harmonixr_model.prompt.controls import AttributeControls, check_known
from harmonixr_model.weights import SHIPPED

if TYPE_CHECKING:
    from pretty_midi import PrettyMIDI

MAX_SEED = 2**63


@dataclass(frozen=True, slots=True)
class Fill:
    """One candidate: the whole song with the fill in it, and what makes it again.

    Attributes:
        midi: the file; outside the region it is the input's.
        notes: the fill's notes in the song's ticks, by track from 0; a new track counts on past the song's.
        tokens: fill token ids, one tuple a window of the region; `Infiller.replay` gives the same file for them.
        seed: of this candidate; asking for one fill with it gives this one.
        log_probability: in nats, under the grammar at temperature 1.
        dropped: notes that could not be placed, or changed, without touching another.
    """

    midi: bytes
    notes: dict[int, tuple[Note, ...]]
    tokens: tuple[tuple[int, ...], ...]
    seed: int
    log_probability: float
    dropped: int


def shipped_weights() -> Path:
    """Return where the weights that ship with the package are."""
    return SHIPPED


class Infiller:
    """Fills regions with one engine; `info` is what the checkpoint says of itself."""

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
        limits: Constraints | None = None,
        controls: AttributeControls | None = None,
        only: NoteField | None = None,
        n: int = 1,
        seed: int = 0,
        sampling: Sampling | None = None,
        new_track: Track | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Fill]:
        """Return `n` fills of the region; candidate i is drawn with seed `seed + i`.

        Args:
            song: a parsed song, the bytes of a MIDI file, or a PrettyMIDI.
            region: what may change, in the song's ticks.
            limits: what every fill must keep to.
            controls: what the model is asked for, and follows as well as it learnt to.
            only: the one field of the region's notes that may change: pitch, rhythm (onsets and durations), velocity or
                duration.
            n: how many candidates.
            seed: the same seed, model and arguments give the same fills.
            sampling: temperature, top-k, top-p, guidance, copy_strength.
            new_track: a track to add; the region's cells then name the track after the song's last one.
            progress: called with (windows done, windows in all) of all candidates; the second may grow.

        Raises:
            MidiError, RegionError, ControlError, PromptError: what is asked for cannot be done.

        """
        if n < 1 or not 0 <= seed < MAX_SEED:
            raise ControlError(
                f"{n} candidates of seed {seed}: give at least 1 candidate and a seed from 0 to 2^63 - 1"
            )
        check_known(controls or AttributeControls(), self.info, only=only)
        song = as_song(song)
        seeds = [(seed + i) % MAX_SEED for i in range(n)]
        sampling = sampling or Sampling()
        begun = FillSession(
            song,
            region,
            max_length=self.max_length,
            limits=limits,
            controls=controls,
            only=only,
            new_track=new_track,
        )
        # Built before the others fork off: all candidates share the first prompt, which is then read once.
        begun.next_prompt()
        sessions = [begun.fork() for _ in seeds]
        likely = [0.0] * n
        while waiting := [i for i in range(n) if sessions[i].next_prompt() is not None]:
            answers = self._answers([sessions[i] for i in waiting], [seeds[i] for i in waiting], sampling)
            for i, generated in zip(waiting, answers, strict=True):
                sessions[i].accept(generated.tokens)
                likely[i] += generated.log_probability
            if progress:
                progress(sum(len(s.tokens) for s in sessions), sum(len(s.windows) for s in sessions))
        return [
            _finished(session, seed, log_probability)
            for session, seed, log_probability in zip(sessions, seeds, likely, strict=True)
        ]

    def replay(
        self,
        song: Song | bytes | PrettyMIDI,
        region: Region,
        tokens: Sequence[Sequence[int]],
        *,
        limits: Constraints | None = None,
        controls: AttributeControls | None = None,
        only: NoteField | None = None,
        new_track: Track | None = None,
    ) -> Fill:
        """Return the fill that stored token ids say, exactly as it was; no model is asked.

        Raises TokenError when the tokens do not answer this song and region.
        """
        session = FillSession(
            as_song(song),
            region,
            max_length=self.max_length,
            limits=limits,
            controls=controls,
            only=only,
            new_track=new_track,
        )
        for window in tokens:
            session.accept(window)
        return _finished(session, 0, 0.0)

    def _answers(
        self, sessions: Sequence[FillSession], seeds: Sequence[int], sampling: Sampling
    ) -> list[GeneratedFill]:
        """Return an answer to the next prompt of each session: all are at the same window."""
        prompts = [session.next_prompt() for session in sessions]
        window = len(sessions[0].tokens)
        jobs = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            assert prompt is not None
            jobs.append((prompt, window_seed(seed, window)))
        return self.engine.generate_each(jobs, sampling=sampling)


def window_seed(seed: int, window: int) -> int:
    """Return the seed with which a candidate draws its n-th window: no two windows share a stream."""
    # The odd constant of a 64-bit Weyl sequence spreads windows over the seeds.
    return (seed + window * 0x9E3779B97F4A7C15) % MAX_SEED


def as_song(song: Song | bytes | PrettyMIDI) -> Song:
    """Return a Song of whatever a caller has."""
    if isinstance(song, Song):
        return song
    return Song.parse(song) if isinstance(song, bytes) else Song.from_pretty_midi(song)


def _finished(session: FillSession, seed: int, log_probability: float) -> Fill:
    made = session.result()
    return Fill(made.midi, made.notes, made.tokens, seed, log_probability, made.dropped)
