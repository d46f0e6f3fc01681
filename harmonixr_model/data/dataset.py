"""Training examples from a corpus: a window of a piece with a gap, and the target.

An example is a function of (seed, step, index) alone.
"""

# T tokens, K coordinates

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from harmonixr_model.data.augment import augment
from harmonixr_model.data.controls import sample_controls, with_controls
from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.masking import Mask, Scene, sample_mask
from harmonixr_model.data.styles import composer_of, style_of
from harmonixr_model.data.target_augmentation import augment_target
from harmonixr_model.data.window import choose_window
from harmonixr_model.errors import CorpusError, PromptError
from harmonixr_model.music.score import Note, Score
from harmonixr_model.notes.encoded_score import EncodedScore
from harmonixr_model.prompt.builder import build_layout
from harmonixr_model.prompt.coordinates import PASSAGES
from harmonixr_model.prompt.fill_tokens import encode_fill, fill_length, target_notes
from harmonixr_model.prompt.layout import InfillLayout

_CACHED_PIECES = 256
_ATTEMPTS = 12
# The share of an example's tokens for the bars in which gaps are sampled; passages and surrounding bars take the rest.
WINDOW_SHARE = 0.75
# Where the context predicts the target, controls add little and are learnt slowly. So most examples with controls have
# little context.
NARROW_SHARE, NARROW_PREFIX = 0.6, 256


@dataclass(frozen=True, slots=True)
class DatasetConfig:
    """How examples are sampled.

    Attributes:
        split: the split of the corpus.
        max_tokens: the most tokens of an example.
        augments: whether to augment the music.
        length_power: pieces are sampled in proportion to their number of notes to this power. With 1, long pieces
            dominate; with 0, a drum loop is as frequent as a song.
        passages: the most similar passages of a prompt.
        passage_dropout: the share of examples without passages.
        transposes: whether augmentation transposes.
        control_share: the share of examples with attribute controls (`data.controls`).
        sources: the collections of the corpus to use; all if empty.
    """

    split: str = "train"
    max_tokens: int = 1024
    augments: bool = True
    length_power: float = 0.6
    passages: int = PASSAGES
    passage_dropout: float = 0.1
    transposes: bool = True
    control_share: float = 0.0
    sources: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence, prefix then fill.

    Attributes:
        tokens: int32 [T].
        coordinates: int16 [T, K].
        prefix_length: tokens of the prefix, SEP included.
        loss_mask: bool [T], the tokens to be predicted: the fill's, its forced headers left out.
    """

    tokens: npt.NDArray[np.int32]
    coordinates: npt.NDArray[np.int16]
    prefix_length: int
    loss_mask: npt.NDArray[np.bool_]


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
        self._encoded = lru_cache(_CACHED_PIECES)(self._encode)

    def __getstate__(self) -> tuple[Corpus, DatasetConfig]:
        return self.corpus, self.config

    def __setstate__(self, state: tuple[Corpus, DatasetConfig]) -> None:
        InfillDataset.__init__(self, *state)

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

    def encoded(self, piece: int) -> EncodedScore:
        """Return a piece, encoded once."""
        return self._encoded(piece)

    def _encode(self, piece: int) -> EncodedScore:
        return EncodedScore(self.corpus.score(piece))

    def _sample(self, piece: int, rng: np.random.Generator, *, budget: int) -> Example | None:
        encoded = self._encoded(piece)
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
    if mask.future_from is not None:
        full = EncodedScore(_until(full.score, mask.future_from))
    room = max_tokens - fill_length(full, mask.cells, mask.locks)
    room = room if prefix is None else min(room, prefix)
    context = full.without(mask.cells, mask.locks)
    try:
        layout = build_layout(context, mask.cells, max_prefix_tokens=room, passages=passages)
    except PromptError:
        return None
    notes = target_notes(layout, full, mask.locks)
    return _assemble(layout, notes) if any(notes) else None


def _assemble(layout: InfillLayout, notes: list[tuple[Note, ...]]) -> Example:
    fill, is_forced = encode_fill(layout, notes)
    return Example(
        tokens=np.concatenate([layout.prefix, fill]),
        coordinates=np.concatenate([layout.coordinates, layout.fill_coordinates(fill)]),
        prefix_length=len(layout.prefix),
        loss_mask=np.concatenate([np.zeros(len(layout.prefix), dtype=bool), ~is_forced]),
    )


def _until(score: Score, end: int) -> Score:
    tracks = (replace(t, notes=tuple(n for n in t.notes if n.onset < end)) for t in score.tracks)
    return replace(score, tracks=tuple(tracks))
