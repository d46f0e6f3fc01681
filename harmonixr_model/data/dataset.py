"""Training examples from a corpus: a window of a piece with a gap, and the target.

An example is a function of (seed, step, index) alone.
"""

# T tokens, K coordinates

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from harmonixr_model.data.augment import augment
from harmonixr_model.data.controls import sample_controls, with_controls
from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.masking import Mask, Scene, sample_mask
from harmonixr_model.data.styles import composer_of, style_of
from harmonixr_model.data.target_augmentation import augment_target
from harmonixr_model.errors import CorpusError, PromptError
from harmonixr_model.music.score import Bar
from harmonixr_model.notes.encoded_score import EncodedScore
from harmonixr_model.prompt.builder import build_layout
from harmonixr_model.prompt.coordinates import PASSAGES
from harmonixr_model.prompt.fill_tokens import encode_fill, fill_length, target_notes

_CACHED_PIECES = 256
_ATTEMPTS = 12
# The share of an example's tokens for the bars in which gaps are sampled; passages and surrounding bars take the rest.
WINDOW_SHARE = 0.75
# Where the context predicts the target, controls add little and are learnt slowly. So most examples with controls have
# little context.
NARROW_SHARE, NARROW_PREFIX = 0.6, 256
# Tokens of a bar besides its notes (BAR, TS), of a track in it (TRACK), and roughly of the header.
_BAR_TOKENS, _TRACK_TOKENS, _HEADER_TOKENS = 2, 1, 8


@dataclass(frozen=True, slots=True)
class DatasetConfig:
    """How examples are sampled."""

    split: str = "train"
    max_tokens: int = 1024  # of an example
    augments: bool = True  # the music
    # Pieces are sampled in proportion to their number of notes to this power. With 1, long pieces dominate; with 0, a
    # drum loop is as frequent as a song.
    length_power: float = 0.6
    passages: int = PASSAGES  # the most similar passages of a prompt
    passage_dropout: float = 0.1  # the share of examples without passages
    transposes: bool = True  # as part of augmentation
    control_share: float = 0.0  # the share of examples with attribute controls (`data.controls`)
    sources: tuple[str, ...] = ()  # the collections of the corpus to use; all if empty


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence, prefix then fill."""

    tokens: npt.NDArray[np.int32]  # [T]
    coordinates: npt.NDArray[np.int16]  # [T, K]
    prefix_length: int  # SEP included
    loss_mask: npt.NDArray[np.bool_]  # [T], the tokens to be predicted: the fill's without its forced headers


class InfillDataset:
    """Examples sampled from one split of a corpus."""

    def __init__(self, corpus: Corpus, config: DatasetConfig) -> None:
        self.corpus = corpus
        self.config = config
        self.pieces = [
            i for i in corpus.split(config.split) if not config.sources or corpus.piece(i).source in config.sources
        ]
        if not self.pieces:
            raise CorpusError(f"{corpus.folder} has no {config.split} pieces; ingest more music, or split it otherwise")
        weights = np.array([corpus.piece(i).notes for i in self.pieces], dtype=float) ** config.length_power
        self._cumulative = np.cumsum(weights / weights.sum())
        self.encoded = lru_cache(_CACHED_PIECES)(lambda piece: EncodedScore(corpus.score(piece)))  # of a piece's number

    def __reduce__(self) -> tuple[type[InfillDataset], tuple[Corpus, DatasetConfig]]:
        return type(self), (self.corpus, self.config)

    def example(self, index: int, *, step: int, seed: int) -> Example:
        """Return example `index` of training step `step`; the same arguments give the same one."""
        rng = np.random.default_rng((seed, step, index))
        for attempt in range(_ATTEMPTS):
            piece = self.sample_piece(rng)
            # A window whose target is too long is tried again, a little smaller each time.
            example = self._sample(piece, rng, budget=round(self.config.max_tokens * 0.9**attempt))
            if example is not None:
                return example
        raise CorpusError(
            f"no window of {self.config.max_tokens} tokens could be cut from {_ATTEMPTS} pieces; "
            "give a longer context, or leave out music with thousands of notes a bar"
        )

    def sample_piece(self, rng: np.random.Generator) -> int:
        """Sample the number of a piece."""
        return self.pieces[min(int(np.searchsorted(self._cumulative, rng.random())), len(self.pieces) - 1)]

    def _sample(self, piece: int, rng: np.random.Generator, *, budget: int) -> Example | None:
        encoded = self.encoded(piece)
        bars = choose_window(encoded, rng, budget=round(budget * WINDOW_SHARE))
        full = encoded
        if self.config.augments:
            full = EncodedScore(augment(encoded.score, rng, transposes=self.config.transposes))
        passages = 0 if rng.random() < self.config.passage_dropout else self.config.passages
        mask = sample_mask(Scene(full, bars), rng)
        if self.config.control_share:
            controls = sample_controls(rng, share=self.config.control_share)
            full = augment_target(full, mask, controls, rng)
            known = self.corpus.piece(piece)
            tags = {"style": style_of(known), "composer": composer_of(known)}
            mask = with_controls(full, mask, controls, tags=tags)
            if controls and rng.random() < NARROW_SHARE:
                narrow = build_example(full, mask, max_tokens=self.config.max_tokens, passages=0, prefix=NARROW_PREFIX)
                if narrow is not None:
                    return narrow
        return build_example(full, mask, max_tokens=self.config.max_tokens, passages=passages)


def build_example(
    full: EncodedScore,
    mask: Mask,
    *,
    max_tokens: int,
    passages: int = PASSAGES,
    prefix: int | None = None,
) -> Example | None:
    """Return the example that hides `mask` in a score, or None when nothing is hidden or it takes too many tokens.

    The prefix takes the tokens that the target leaves of `max_tokens`, at most `prefix`.
    """
    if not mask.cells:
        return None
    if (end := mask.future_from) is not None:
        past = {i: [n for n in track.notes if n.onset < end] for i, track in enumerate(full.tracks)}
        full = EncodedScore(full.score.replace_notes(past))
    room = max_tokens - fill_length(full, mask.cells, mask.locks)
    room = room if prefix is None else min(room, prefix)
    context = full.without(mask.cells, mask.locks)
    try:
        layout = build_layout(context, mask.cells, max_prefix_tokens=room, passages=passages)
    except PromptError:
        return None
    notes = target_notes(layout, full, mask.locks)
    if not any(notes):
        return None
    fill, is_forced = encode_fill(layout, notes)
    return Example(
        tokens=np.concatenate([layout.prefix, fill]),
        coordinates=np.concatenate([layout.coordinates, layout.fill_coordinates(fill)]),
        prefix_length=len(layout.prefix),
        loss_mask=np.concatenate([np.zeros(len(layout.prefix), dtype=bool), ~is_forced]),
    )


def choose_window(encoded: EncodedScore, rng: np.random.Generator, *, budget: int) -> tuple[Bar, ...]:
    """Return consecutive bars of about `budget` tokens, sampled so that all bars of the piece are equally likely."""
    bars = encoded.score.bars
    anchor = int(rng.integers(len(bars)))
    # Going back by half the length that fits from the anchor keeps the last bars of a piece as likely as the middle.
    span = _count_fitting(encoded, bars[anchor:], budget)
    first = max(0, anchor - int(rng.integers(span)) if span > 1 else anchor)
    if anchor + span >= len(bars):
        first = max(0, min(first, len(bars) - span))
    return bars[first : first + _count_fitting(encoded, bars[first:], budget)]


def _count_fitting(encoded: EncodedScore, bars: Sequence[Bar], budget: int) -> int:
    """Return how many bars, from the first on, fit `budget` tokens; at least one."""
    left = budget - _HEADER_TOKENS - 2 * len(encoded.tracks)
    for count, bar in enumerate(bars):
        runs = [encoded.run(track, bar) for track in range(len(encoded.tracks))]
        left -= _BAR_TOKENS + sum(len(run) + _TRACK_TOKENS for run in runs if run)
        if count and left < 0:
            return count
    return len(bars)
