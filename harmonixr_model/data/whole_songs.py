"""Stretches of whole songs as examples without a gap, for a model that learns to continue before it learns to fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from harmonixr_model.data.augment import augment
from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.dataset import DatasetConfig, Example, InfillDataset, choose_window
from harmonixr_model.music.score import Bar
from harmonixr_model.notes.encoded_score import EncodedScore
from harmonixr_model.notes.vocabulary import MAX_TRACKS
from harmonixr_model.prompt.coordinates import coordinates_of_tokens
from harmonixr_model.prompt.prefix import bar_tokens, header_tokens


class _Source(Protocol):
    def example(self, index: int, *, step: int, seed: int) -> Example: ...


class SongDataset:
    """Examples of a header and as many bars as fit, all tokens with loss; pieces are sampled as by InfillDataset.

    The prefix is BOS alone, so that a prefix-LM reads such an example causally. The first bar is bar 0 of the gap.
    """

    def __init__(self, corpus: Corpus, config: DatasetConfig) -> None:
        self.pieces = InfillDataset(corpus, config)
        self.config = config

    def example(self, index: int, *, step: int, seed: int) -> Example:
        """Return example `index` of training step `step`; the same arguments give the same one."""
        rng = np.random.default_rng((seed, step, index))
        encoded = self.pieces.encoded(self.pieces.sample_piece(rng))
        bars = choose_window(encoded, rng, budget=self.config.max_tokens)
        if self.config.augments:
            encoded = EncodedScore(augment(encoded.score, rng, transposes=self.config.transposes))
        tokens = np.array(song_tokens(encoded, bars)[: self.config.max_tokens], dtype=np.int32)
        return Example(tokens, coordinates_of_tokens(tokens, gap_bar=0), 1, np.arange(len(tokens)) > 0)


def song_tokens(encoded: EncodedScore, bars: tuple[Bar, ...]) -> list[int]:
    """Return BOS TEMPO [TRACK sound]* and the bars as in the prefix of a prompt."""
    slots = range(min(len(encoded.tracks), MAX_TRACKS))
    tokens = header_tokens(encoded, slots, bars[0].start)
    for bar in bars:
        tokens += bar_tokens(encoded, bar, slots)
    return tokens


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Examples of one source before a step, of another from this step on."""

    first: _Source
    then: _Source
    until: int

    def example(self, index: int, *, step: int, seed: int) -> Example:
        """Return an example of the source for this step."""
        return (self.first if step < self.until else self.then).example(index, step=step, seed=seed)
