"""Stretches of whole songs as examples with nothing hidden: for a model that learns to go on before it learns to fill.

Knows nothing of gaps, and of torch neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from harmonixr_model.data.augment import augment
from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.dataset import DatasetConfig, Example, InfillDataset
from harmonixr_model.data.window import choose_window
from harmonixr_model.music.score import Bar
from harmonixr_model.notes.encoded_score import EncodedScore, metre_tokens
from harmonixr_model.notes.vocabulary import MAX_TRACKS, VOCAB, tempo_bin
from harmonixr_model.prompt.coordinates import coordinates_of_tokens

BOS = VOCAB.id("BOS")


class _Source(Protocol):
    def example(self, index: int, *, step: int, seed: int) -> Example: ...


class SongDataset:
    """The same pieces as InfillDataset draws, as likely: a header and as many bars as fit, each token to be predicted.

    The prefix is BOS alone, so that a prefix-LM reads such an example causally. The first bar is bar 0 of the gap.
    """

    def __init__(self, corpus: Corpus, config: DatasetConfig) -> None:
        self.pieces = InfillDataset(corpus, config)
        self.config = config

    def example(self, index: int, *, step: int, seed: int) -> Example:
        """Return example `index` of training step `step`; the same arguments give the same one."""
        rng = np.random.default_rng((seed, step, index))
        encoded = self.pieces.encoded(self.pieces.draw_piece(rng))
        bars = choose_window(encoded, rng, budget=self.config.max_tokens)
        if self.config.augments:
            encoded = EncodedScore(augment(encoded.score, rng, transposes=self.config.transposes))
        tokens = np.array(song_tokens(encoded, bars)[: self.config.max_tokens], dtype=np.int32)
        return Example(tokens, coordinates_of_tokens(tokens, gap_bar=0), 1, np.arange(len(tokens)) > 0)


def song_tokens(encoded: EncodedScore, bars: tuple[Bar, ...]) -> list[int]:
    """Return BOS TEMPO [TRACK sound]* and the bars as a prompt says those around a gap."""
    said = encoded.tracks[:MAX_TRACKS]
    tempos = [tempo for tempo in encoded.score.tempos if tempo.tick <= bars[0].start]
    pace = tempos[-1].us_per_quarter if tempos else 500_000
    tokens = [BOS, VOCAB.tempo.start + tempo_bin(pace)]
    for slot, track in enumerate(said):
        tokens += (VOCAB.track.start + slot, VOCAB.drums if track.is_drum else VOCAB.program.start + track.program)
    for bar in bars:
        tokens += metre_tokens(bar)
        for slot in range(len(said)):
            if run := encoded.run(slot, bar):
                tokens += (VOCAB.track.start + slot, *run)
    return tokens


@dataclass(frozen=True, slots=True)
class WarmUp:
    """One source up to a step, another from there on."""

    first: _Source
    then: _Source
    until: int

    def example(self, index: int, *, step: int, seed: int) -> Example:
        """Return an example of the source whose turn it is."""
        return (self.first if step < self.until else self.then).example(index, step=step, seed=seed)
