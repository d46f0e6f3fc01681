"""Training examples from a corpus: a window of a piece, something hidden in it, and the answer.

An example is a function of (seed, step, index) alone: whichever worker builds it, and whenever. Knows nothing of torch.
"""

# T tokens, K coordinates

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from harmonixr_model.data.augment import augment
from harmonixr_model.data.controls import Tags, draw_said, with_controls
from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.masking import Mask, Scene, draw_mask
from harmonixr_model.data.styles import composer_of, style_of
from harmonixr_model.data.target_augmentation import augmented_target
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
# Of an example's tokens, the bars among which gaps are drawn; passages and the bars around take the rest.
WINDOW_SHARE = 0.75
# Where the song around a gap tells what belongs there, controls tell little more, and are learnt slowly. So most
# examples that say some show little else.
NARROW_SHARE, NARROW_PREFIX = 0.6, 256


@dataclass(frozen=True, slots=True)
class DatasetConfig:
    """Which split and sources, the most tokens of an example, and whether to vary the music.

    Varying means another key as well, unless `transposes` is off. Pieces are drawn in proportion to their notes to
    the power of `length_power`: 1 would let long pieces dominate, 0 would show a drum loop as often as a song. A prompt
    remembers up to `passages` passages of the song, or in `forgets` of the examples none. A share `controlled` of them
    says soft controls, drawn by `data.controls`.
    """

    split: str = "train"
    max_tokens: int = 1024
    augments: bool = True
    length_power: float = 0.6
    passages: int = PASSAGES
    forgets: float = 0.1
    transposes: bool = True
    controlled: float = 0.0
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
    """Examples drawn from one split of a corpus."""

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
            piece = self.draw_piece(rng)
            # A window whose answer came out too long is tried again, a little smaller each time.
            example = self._draw(piece, rng, budget=round(self.config.max_tokens * 0.9**attempt))
            if example is not None:
                return example
        raise CorpusError(
            f"no window of {self.config.max_tokens} tokens could be cut from {_ATTEMPTS} pieces; "
            "give a longer context, or leave out music with thousands of notes a bar"
        )

    def draw_piece(self, rng: np.random.Generator) -> int:
        """Draw the number of a piece."""
        return self.pieces[min(int(np.searchsorted(self._cumulative, rng.random())), len(self.pieces) - 1)]

    def encoded(self, piece: int) -> EncodedScore:
        """Return a piece, encoded once."""
        return self._encoded(piece)

    def _encode(self, piece: int) -> EncodedScore:
        return EncodedScore(self.corpus.score(piece))

    def _draw(self, piece: int, rng: np.random.Generator, *, budget: int) -> Example | None:
        encoded = self._encoded(piece)
        bars = choose_window(encoded, rng, budget=round(budget * WINDOW_SHARE))
        full = encoded
        if self.config.augments:
            full = EncodedScore(augment(encoded.score, rng, transposes=self.config.transposes))
        passages = 0 if rng.random() < self.config.forgets else self.config.passages
        mask = draw_mask(Scene(full, bars), rng)
        if self.config.controlled:
            said = draw_said(rng, share=self.config.controlled)
            full = augmented_target(full, mask, said, rng)
            mask = with_controls(full, mask, said, tags=self._tags(piece))
            if said and rng.random() < NARROW_SHARE:
                narrow = example_of(full, mask, max_tokens=self.config.max_tokens, passages=0, prefix=NARROW_PREFIX)
                if narrow is not None:
                    return narrow
        return example_of(full, mask, max_tokens=self.config.max_tokens, passages=passages)

    def _tags(self, piece: int) -> Tags:
        known = self.corpus.piece(piece)
        return Tags(style_of(known), composer_of(known))


def example_of(
    full: EncodedScore,
    mask: Mask,
    *,
    max_tokens: int,
    passages: int = PASSAGES,
    prefix: int | None = None,
) -> Example | None:
    """Return the example that hides `mask` in a score, or None when nothing is hidden or it takes too many tokens.

    What the answer does not take of `max_tokens` is the prompt's, `prefix` tokens at most: as much around the gap as
    fits.
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
