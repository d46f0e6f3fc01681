"""Evaluation items: gaps in held-out pieces, the same for every system.

An item is a function of (corpus, split, seed, number). The prompt has a fixed share of a fixed context, so its length
depends neither on the length of the original nor on the model.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.dataset import Example
from harmonixr_model.errors import CorpusError, HarmonixrError, PromptError
from harmonixr_model.evaluation.gap_shapes import SHAPES, Gap
from harmonixr_model.evaluation.metrics import Fills
from harmonixr_model.music.score import Bar, Note, Score
from harmonixr_model.music.song import DRUM_CHANNEL
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, NoteField
from harmonixr_model.notes.field_tokens import END, single_field_cell
from harmonixr_model.prompt.builder import build_prompt
from harmonixr_model.prompt.coordinates import PASSAGES
from harmonixr_model.prompt.fill_tokens import encode_fill, target_notes
from harmonixr_model.prompt.layout import InfillPrompt

# 2: prompts have similar passages and 0.6 of the context; gaps are repeated or novel.
# 3: each track has its own channel; new shapes are whole-track and scattered.
# 4: new shapes are phrase and one field of the notes.
VERSION = 4
CONTEXT_TOKENS = 1024
PREFIX_SHARE = 0.6
MIN_NOTES = 3  # a gap with fewer hidden notes measures little
_ATTEMPTS = 60


class ProtocolError(HarmonixrError):
    """The requested evaluation does not exist."""


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One gap of one piece.

    Attributes:
        number: identifies the item in its protocol, and seeds the samples of its fills.
        piece_id: intervals resample pieces, not gaps.
        shape: a name in SHAPES.
        bars: the bars of the piece.
        context: the piece without the hidden notes.
        prompt: the model's input, with the grammar of a valid fill.
        original: the hidden notes of each of the prompt's cells.
        fill: the tokens of the original.
        is_forced: the tokens of the fill that no model predicts.
        is_repeated: whether the piece plays the same onsets and pitches elsewhere as well.
        source: the piece's collection.
    """

    number: int
    piece_id: str
    shape: str
    bars: tuple[Bar, ...]
    context: EncodedScore
    prompt: InfillPrompt
    original: tuple[tuple[Note, ...], ...]
    fill: npt.NDArray[np.int32]
    is_forced: npt.NDArray[np.bool_]
    is_repeated: bool
    source: str = ""

    @property
    def field(self) -> NoteField | None:
        """The only hidden field of the notes; None where whole notes are hidden."""
        return self.prompt.cells[0].field

    @property
    def notes(self) -> int:
        """The number of hidden notes."""
        return sum(map(len, self.original))

    @property
    def drums(self) -> list[int]:
        """The numbers of the drum tracks."""
        return [number for number, track in enumerate(self.context.tracks) if track.is_drum]

    def bar_of(self, cell: GridCell) -> Bar:
        """Return the bar in which a cell starts."""
        return next(bar for bar in self.bars if bar.start <= cell.start < bar.end)

    def example(self) -> Example:
        """Return prompt and fill as one sequence, as in training."""
        prompt = self.prompt
        return Example(
            tokens=np.concatenate([prompt.prefix, self.fill]),
            coordinates=np.concatenate([prompt.coordinates, prompt.fill_coordinates(self.fill)]),
            prefix_length=len(prompt.prefix),
            loss_mask=np.concatenate([np.zeros(len(prompt.prefix), dtype=bool), ~self.is_forced]),
        )

    def predicted_runs(self) -> list[tuple[int, list[int]]]:
        """Return the track and the predicted tokens of each cell; END is last if it is predicted."""
        runs: list[list[int]] = [[]]
        for token, forced in zip(self.fill.tolist(), self.is_forced.tolist(), strict=True):
            if not forced:
                runs[-1].append(token)
            if token == END:
                runs.append([])
        return [(cell.track, run) for cell, run in zip(self.prompt.cells, runs[:-1], strict=True)]

    def predicted_tokens(self) -> list[int]:
        """Return the predicted tokens of all cells."""
        return [token for _, run in self.predicted_runs() for token in run]

    def with_prompt(self, prompt: InfillPrompt) -> EvaluationItem:
        """Return the item with another prompt for the same notes."""
        fill, is_forced = encode_fill(prompt, self.original)
        return replace(self, prompt=prompt, fill=fill, is_forced=is_forced)


def hide_future(item: EvaluationItem, *, context_tokens: int = CONTEXT_TOKENS) -> EvaluationItem:
    """Return the item without the music after the gap, around it and among the similar passages."""
    cells = item.prompt.cells
    context = EncodedScore(_until(item.context, max(cell.end for cell in cells)))
    prompt = build_prompt(
        context,
        cells,
        max_prefix_tokens=round(context_tokens * PREFIX_SHARE),
        max_fill_tokens=item.prompt.tables.max_tokens,
    )
    return replace(item.with_prompt(prompt), context=context)


def evaluation_items(
    corpus: Corpus,
    *,
    split: str,
    count: int,
    seed: int = 0,
    shapes: Sequence[str] = (),
    sources: Sequence[str] = (),
    passages: int = PASSAGES,
    context_tokens: int = CONTEXT_TOKENS,
    least_tracks: int = 1,
) -> Iterator[EvaluationItem]:
    """Yield `count` items of a split: the shapes in turn, the pieces in a random order.

    Items of a shape that fits no piece are missing.

    Args:
        sources: take pieces of these collections only.
        least_tracks: take pieces with at least so many tracks that have notes.
        passages: number of similar passages in a prompt.

    Raises:
        ProtocolError: for an unknown shape.
        CorpusError: if the split is empty, or if no shape fits.
    """
    names = list(shapes or SHAPES)
    unknown = sorted(set(names) - set(SHAPES))
    if unknown:
        raise ProtocolError(f"there is no shape {', '.join(unknown)}; choose from {', '.join(SHAPES)}")
    pieces = _pieces(corpus, split, sources=sources, least_tracks=least_tracks)
    impossible: set[str] = set()
    for number in range(count):
        first = number % len(names)
        if names[first] in impossible:
            continue
        # Each round of shapes has another order of the pieces, so that each shape meets all of them.
        order = np.roll(np.random.default_rng((seed, number // len(names), 1)).permutation(pieces), -first)
        rng = np.random.default_rng((seed, number))
        for attempt in range(_ATTEMPTS):
            piece = int(order[attempt // 4 % len(order)])
            full = EncodedScore(with_separate_channels(corpus.score(piece)))
            item = make_item(
                full,
                SHAPES[names[first]](full, rng),
                shape=names[first],
                piece_id=corpus.piece(piece).piece_id,
                source=corpus.piece(piece).source,
                number=number,
                passages=passages,
                context_tokens=context_tokens,
            )
            if item is not None:
                yield item
                break
        else:
            impossible.add(names[first])
    if impossible == set(names):
        raise CorpusError(
            f"no gap of {' or '.join(names)} fits {context_tokens} tokens in the {split} pieces of {corpus.folder}; "
            "choose other shapes, or ingest more music"
        )


def _pieces(corpus: Corpus, split: str, *, sources: Sequence[str], least_tracks: int) -> list[int]:
    pieces = [piece for piece in corpus.split(split) if not sources or corpus.piece(piece).source in sources]
    if least_tracks > 1:
        pieces = [piece for piece in pieces if sum(bool(t.notes) for t in corpus.score(piece).tracks) >= least_tracks]
    if not pieces:
        of = f" of {' or '.join(sources)}" if sources else ""
        of += f" with {least_tracks} tracks or more" if least_tracks > 1 else ""
        raise CorpusError(f"{corpus.folder} has no {split} pieces{of}; ingest more music, or evaluate on another split")
    return pieces


def make_item(
    full: EncodedScore,
    gap: Gap,
    *,
    shape: str,
    piece_id: str,
    number: int,
    source: str = "",
    passages: int = PASSAGES,
    context_tokens: int = CONTEXT_TOKENS,
) -> EvaluationItem | None:
    """Return the item of a gap, or None if the gap hides too few notes or does not fit the context."""
    if not gap.cells:
        return None
    if not gap.has_future:
        full = EncodedScore(_until(full, max(cell.end for cell in gap.cells)))
    if not gap.has_rest:
        full = EncodedScore(_only_within(full, gap.cells))
    context = full.without(gap.cells, gap.locks)
    cells = gap.cells
    if gap.field:
        cells = tuple(single_field_cell(cell, gap.field, full.hidden(cell, gap.locks)) for cell in cells)
        cells = tuple(cell for cell in cells if cell.known)
    if not cells:
        return None
    prefix_tokens = round(context_tokens * PREFIX_SHARE)
    try:
        prompt = build_prompt(
            context,
            cells,
            max_prefix_tokens=prefix_tokens,
            max_fill_tokens=context_tokens - prefix_tokens,
            passages=passages,
        )
    except PromptError:
        return None
    original = tuple(target_notes(prompt, full, gap.locks))
    fill, is_forced = encode_fill(prompt, original)
    if sum(map(len, original)) < MIN_NOTES or len(fill) > context_tokens - prefix_tokens:
        return None
    bars = full.score.bars_until(max(full.end, *(cell.end for cell in gap.cells)))
    is_repeated = _is_repeated(context, prompt.cells, original, bars)
    return EvaluationItem(
        number, piece_id, shape, bars, context, prompt, original, fill, is_forced, is_repeated, source
    )


def _is_repeated(context: EncodedScore, cells: Sequence[GridCell], original: Fills, bars: Sequence[Bar]) -> bool:
    """Return whether the piece plays the original of every cell at one distance in whole bars."""
    starts = [bar.start for bar in bars]
    numbers = [bisect_right(starts, cell.start) - 1 for cell in cells]
    hidden = [
        {(note.onset - cell.start, note.pitch) for note in notes} for cell, notes in zip(cells, original, strict=True)
    ]
    return any(
        all(
            _shifted(context, cell, starts[number + shift] - starts[number]) == notes
            for cell, number, notes in zip(cells, numbers, hidden, strict=True)
        )
        for shift in range(-numbers[0], len(bars) - numbers[-1])
        if shift
    )


def _shifted(context: EncodedScore, cell: GridCell, shift: int) -> set[tuple[int, int]]:
    """Return the notes of the cell's track `shift` steps later, as (step within the cell, pitch)."""
    start = cell.start + shift
    notes = context.notes(cell.track, start, cell.end + shift)
    return {(note.onset - start, note.pitch) for note in notes if cell.low <= note.pitch <= cell.high}


def _until(full: EncodedScore, end: int) -> Score:
    return full.score.replace_notes({t: full.notes(t, 0, end) for t in range(len(full.tracks))})


def _only_within(full: EncodedScore, cells: Sequence[GridCell]) -> Score:
    """Return the score; the cells' tracks are silent outside the cells."""
    return full.score.replace_notes(
        {
            track: [note for cell in cells if cell.track == track for note in full.notes(track, cell.start, cell.end)]
            for track in {cell.track for cell in cells}
        }
    )


PITCHED_CHANNELS = tuple(channel for channel in range(16) if channel != DRUM_CHANNEL)


def with_separate_channels(score: Score) -> Score:
    """Return the score with a separate channel for each track; channels repeat after 15 pitched tracks.

    Collections such as POP909 store all tracks on one channel, and MIDI cannot hold two notes of one pitch there at the
    same time. More than half of POP909's own gaps could not be encoded then.
    """
    tracks, used = [], 0
    for track in score.tracks:
        channel = DRUM_CHANNEL if track.is_drum else PITCHED_CHANNELS[used % len(PITCHED_CHANNELS)]
        used += bool(track.notes) and not track.is_drum
        tracks.append(replace(track, channel=channel))
    return replace(score, tracks=tuple(tracks))
