"""What every model is asked: gaps of known shapes in held-out pieces, the same for everybody. Knows nothing of models.

A item is a function of (corpus, split, seed, number). Its prompt has a fixed share of a fixed context, so that
neither the length of the true answer nor the model decides what is shown.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.dataset import Example
from harmonixr_model.data.phrases import phrases
from harmonixr_model.errors import CorpusError, HarmonixrError, PromptError
from harmonixr_model.music.region import NoteKey
from harmonixr_model.music.score import Bar, Note, Score
from harmonixr_model.music.song import DRUM_CHANNEL
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, NoteField
from harmonixr_model.notes.field_tokens import END, NOTE_FIELDS, single_field_cell
from harmonixr_model.prompt.builder import build_prompt
from harmonixr_model.prompt.coordinates import PASSAGES
from harmonixr_model.prompt.fill_tokens import encode_fill, target_notes
from harmonixr_model.prompt.layout import InfillPrompt

# 2: prompts remember passages and take six tenths of the context; gaps are told apart by repetition.
# 3: tracks have channels of their own; whole tracks and scattered cells are asked for.
# 4: phrases, and one field of the notes alone.
VERSION = 4
CONTEXT_TOKENS = 1024
PREFIX_SHARE = 0.6
LEAST_NOTES = 3  # a gap that hides less says little about a model
_ATTEMPTS = 60
_BEAT = 24


class ProtocolError(HarmonixrError):
    """What is to be measured does not exist."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What is hidden: cells, and notes within them that stay.

    `has_future` says whether the music after the cells is shown, `has_rest` whether their tracks are shown elsewhere.
    With `only`, one field of the cells' notes is hidden and all else of them is shown.
    """

    cells: tuple[GridCell, ...]
    locks: frozenset[NoteKey] = frozenset()
    has_future: bool = True
    has_rest: bool = True
    only: NoteField | None = None


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One gap of one piece.

    Attributes:
        number: names it within its protocol, and seeds what is sampled for it.
        piece_id: intervals are drawn over pieces, not over gaps.
        shape: a name of SHAPES.
        bars: of the piece.
        context: the piece without what is hidden.
        prompt: what a model is shown, and the rules of a valid fill.
        original: the hidden notes of each of the prompt's cells.
        fill: the answer's tokens.
        is_forced: which of them no model has to predict.
        is_repeated: whether the piece plays the very same notes (onset and pitch) at another place as well.
        source: the collection the piece is from.
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
    def only(self) -> NoteField | None:
        """The one field of the notes that is hidden; None where they are hidden whole."""
        return self.prompt.cells[0].field

    @property
    def notes(self) -> int:
        """How many notes are hidden."""
        return sum(len(notes) for notes in self.original)

    def example(self) -> Example:
        """Return prompt and answer as one sequence, as in training."""
        prompt = self.prompt
        return Example(
            tokens=np.concatenate([prompt.prefix, self.fill]),
            coordinates=np.concatenate([prompt.coordinates, prompt.fill_coordinates(self.fill)]),
            prefix_length=len(prompt.prefix),
            loss_mask=np.concatenate([np.zeros(len(prompt.prefix), dtype=bool), ~self.is_forced]),
        )

    def predicted_runs(self) -> list[tuple[int, list[int]]]:
        """Return for each cell its track and the tokens to be predicted, END last where it is one of them."""
        runs: list[list[int]] = [[]]
        for token, forced in zip(self.fill.tolist(), self.is_forced.tolist(), strict=True):
            if not forced:
                runs[-1].append(token)
            if token == END:
                runs.append([])
        return [(cell.track, run) for cell, run in zip(self.prompt.cells, runs[:-1], strict=True)]


def hide_future(item: EvaluationItem, *, context_tokens: int = CONTEXT_TOKENS) -> EvaluationItem:
    """Return the same item with nothing shown after the gap: neither around it nor among remembered passages."""
    cells = item.prompt.cells
    context = EncodedScore(_until(item.context, max(cell.end for cell in cells)))
    prompt = build_prompt(
        context,
        cells,
        max_prefix_tokens=round(context_tokens * PREFIX_SHARE),
        max_fill_tokens=item.prompt.tables.max_tokens,
    )
    fill, is_forced = encode_fill(prompt, item.original)
    return replace(item, context=context, prompt=prompt, fill=fill, is_forced=is_forced)


Shape = Callable[[EncodedScore, np.random.Generator], Gap]


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
    """Yield `count` items, shape after shape in turn, over the pieces of a split in an order of chance.

    `sources` limits them to pieces of those collections, `least_tracks` to pieces with so many tracks that play;
    `passages` is how many a prompt remembers.

    A shape that fits no piece is left out and its items are missing. Raises ProtocolError for a shape there is
    none of, CorpusError where the split is empty or no shape fits.
    """
    names = list(shapes or SHAPES)
    unknown = sorted(set(names) - set(SHAPES))
    if unknown:
        raise ProtocolError(f"there is no shape {', '.join(unknown)}; choose from {', '.join(SHAPES)}")
    pieces = [piece for piece in corpus.split(split) if not sources or corpus.piece(piece).source in sources]
    if least_tracks > 1:
        pieces = [piece for piece in pieces if sum(bool(t.notes) for t in corpus.score(piece).tracks) >= least_tracks]
    if not pieces:
        of = f" of {' or '.join(sources)}" if sources else ""
        of += f" with {least_tracks} tracks or more" if least_tracks > 1 else ""
        raise CorpusError(f"{corpus.folder} has no {split} pieces{of}; ingest more music, or evaluate on another split")
    hopeless: set[str] = set()
    for number in range(count):
        first = number % len(names)
        if names[first] in hopeless:
            continue
        rng = np.random.default_rng((seed, number))
        # Each round of shapes goes through the pieces in another order, so that no shape keeps to a few of them.
        order = np.roll(np.random.default_rng((seed, number // len(names), 1)).permutation(pieces), -first)
        item = _first_item(
            corpus,
            order,
            names[first],
            rng,
            number=number,
            passages=passages,
            context_tokens=context_tokens,
        )
        if item is None:
            hopeless.add(names[first])
        else:
            yield item
    if hopeless == set(names):
        raise CorpusError(
            f"no gap of {' or '.join(names)} fits {context_tokens} tokens in the {split} pieces of {corpus.folder}; "
            "choose other shapes, or ingest more music"
        )


def _first_item(
    corpus: Corpus,
    order: npt.NDArray[np.int64],
    shape: str,
    rng: np.random.Generator,
    *,
    number: int,
    passages: int,
    context_tokens: int,
) -> EvaluationItem | None:
    for attempt in range(_ATTEMPTS):
        piece = int(order[attempt // 4 % len(order)])
        full = EncodedScore(with_separate_channels(corpus.score(piece)))
        item = make_item(
            full,
            SHAPES[shape](full, rng),
            shape=shape,
            piece_id=corpus.piece(piece).piece_id,
            source=corpus.piece(piece).source,
            number=number,
            passages=passages,
            context_tokens=context_tokens,
        )
        if item is not None:
            return item
    return None


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
    """Return the item that this gap makes, or None when it hides too little or does not fit."""
    if not gap.cells:
        return None
    if not gap.has_future:
        full = EncodedScore(_until(full, max(cell.end for cell in gap.cells)))
    if not gap.has_rest:
        full = EncodedScore(_only_within(full, gap.cells))
    context = full.without(gap.cells, gap.locks)
    cells = gap.cells
    if gap.only:
        cells = tuple(single_field_cell(cell, gap.only, full.hidden(cell, gap.locks)) for cell in cells)
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
    answer = tuple(target_notes(prompt, full, gap.locks))
    fill, is_forced = encode_fill(prompt, answer)
    if sum(map(len, answer)) < LEAST_NOTES or len(fill) > context_tokens - prefix_tokens:
        return None
    bars = full.score.bars_until(max(full.end, *(cell.end for cell in gap.cells)))
    is_repeated = _is_repeated(context, prompt.cells, answer, bars)
    return EvaluationItem(number, piece_id, shape, bars, context, prompt, answer, fill, is_forced, is_repeated, source)


def _is_repeated(
    context: EncodedScore, cells: Sequence[GridCell], answer: Sequence[Sequence[Note]], bars: Sequence[Bar]
) -> bool:
    """Return whether one shift by whole bars leads every cell to its very answer."""
    starts = [bar.start for bar in bars]
    places = [bisect_right(starts, cell.start) - 1 for cell in cells]
    truth = [
        {(note.onset - cell.start, note.pitch) for note in notes} for cell, notes in zip(cells, answer, strict=True)
    ]
    return any(
        all(
            _played(context, cell, bars[at + shift].start - bars[at].start) == notes
            for cell, at, notes in zip(cells, places, truth, strict=True)
        )
        for shift in range(-places[0], len(bars) - places[-1])
        if shift
    )


def _played(context: EncodedScore, cell: GridCell, shift: int) -> set[tuple[int, int]]:
    """Return what the cell's track plays `shift` steps away, as (step within the cell, pitch)."""
    start = cell.start + shift
    notes = context.notes(cell.track, start, cell.end + shift)
    return {(note.onset - start, note.pitch) for note in notes if cell.low <= note.pitch <= cell.high}


def _until(full: EncodedScore, end: int) -> Score:
    return full.score.replace_notes({t: full.notes(t, 0, end) for t in range(len(full.tracks))})


def _only_within(full: EncodedScore, cells: Sequence[GridCell]) -> Score:
    """Return the score with the cells' tracks silent outside the cells."""
    return full.score.replace_notes(
        {
            track: [note for cell in cells if cell.track == track for note in full.notes(track, cell.start, cell.end)]
            for track in {cell.track for cell in cells}
        }
    )


PITCHED_CHANNELS = tuple(channel for channel in range(16) if channel != DRUM_CHANNEL)


def with_separate_channels(score: Score) -> Score:
    """Return the score with a channel of its own for each track, as far as there are any.

    A collection may keep all its tracks on one channel, where MIDI cannot hold two notes of one pitch at a time: more
    than half of POP909's own gaps could not be said then.
    """
    tracks, used = [], 0
    for track in score.tracks:
        channel = DRUM_CHANNEL if track.is_drum else PITCHED_CHANNELS[used % len(PITCHED_CHANNELS)]
        used += bool(track.notes) and not track.is_drum
        tracks.append(replace(track, channel=channel))
    return replace(score, tracks=tuple(tracks))


# ---- shapes ---------------------------------------------------------------------------------------------------------


def _stretch(full: EncodedScore, rng: np.random.Generator, bars: int) -> Sequence[Bar]:
    """Draw consecutive bars, the first of the piece left out: with it hidden there is nothing to go by.

    A piece that is too short has none.
    """
    firsts = len(full.score.bars) - bars
    if firsts < 1:
        return ()
    first = int(rng.integers(1, firsts + 1))
    return full.score.bars[first : first + bars]


def _track(full: EncodedScore, rng: np.random.Generator, bars: Sequence[Bar]) -> list[int]:
    """Draw one of the tracks that play in these bars."""
    playing = [t for t in range(len(full.tracks)) if bars and full.notes(t, bars[0].start, bars[-1].end)]
    return [int(rng.choice(playing))] if playing else []


def _cells(tracks: Sequence[int], bars: Sequence[Bar]) -> tuple[GridCell, ...]:
    return tuple(GridCell(track, bar.start, bar.end) for bar in bars for track in tracks)


def _one_track(count: int) -> Shape:
    def draw(full: EncodedScore, rng: np.random.Generator) -> Gap:
        bars = _stretch(full, rng, count)
        return Gap(_cells(_track(full, rng, bars), bars))

    return draw


def _all_tracks(count: int) -> Shape:
    def draw(full: EncodedScore, rng: np.random.Generator) -> Gap:
        return Gap(_cells(range(len(full.tracks)), _stretch(full, rng, count)))

    return draw


def _part_of_a_bar(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """Two beats of one track."""
    bars = _stretch(full, rng, 1)
    if not bars or bars[0].end - bars[0].start < 3 * _BEAT:
        return Gap(())
    start = bars[0].start + _BEAT * int(rng.integers(0, (bars[0].end - bars[0].start) // _BEAT - 1))
    return Gap(tuple(GridCell(track, start, start + 2 * _BEAT) for track in _track(full, rng, bars)))


def _pitch_band(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """What one track plays at or above one of its pitches, or at or below, in two bars."""
    bars = _stretch(full, rng, 2)
    tracks = _track(full, rng, bars)
    if not tracks:
        return Gap(())
    pitch = int(rng.choice([note.pitch for note in full.notes(tracks[0], bars[0].start, bars[-1].end)]))
    low, high = (pitch, 127) if rng.random() < 0.5 else (0, pitch)
    return Gap(tuple(replace(cell, low=low, high=high) for cell in _cells(tracks, bars)))


def _half_locked(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """Two bars of one track, each note of which stays with a chance of a half."""
    bars = _stretch(full, rng, 2)
    cells = _cells(_track(full, rng, bars), bars)
    keys = [NoteKey(cell.track, note.onset, note.pitch) for cell in cells for note in full.hidden(cell)]
    return Gap(cells, frozenset(key for key in keys if rng.random() < 0.5))


def _whole_track(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """Eight bars of a track that is shown nowhere else; the other tracks are."""
    bars = _stretch(full, rng, 8)
    return Gap(_cells(_track(full, rng, bars), bars), has_rest=False) if len(full.tracks) > 1 else Gap(())


def _scattered(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """Some of the cells of all tracks in four bars, each with a chance of four in ten."""
    cells = _cells(range(len(full.tracks)), _stretch(full, rng, 4))
    return Gap(tuple(cell for cell in cells if rng.random() < 0.4))


def _continuation(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """Two bars of all tracks with nothing after them."""
    return Gap(_cells(range(len(full.tracks)), _stretch(full, rng, 2)), has_future=False)


def _phrase(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """A phrase of all tracks, found by the piece's self-similarity; not its first one."""
    found = [phrase for phrase in phrases(full, full.score.bars) if phrase[0] > 0]
    if not found:
        return Gap(())
    first, count = found[int(rng.integers(len(found)))]
    return Gap(_cells(range(len(full.tracks)), full.score.bars[first : first + count]))


def _one_field(only: NoteField) -> Shape:
    def draw(full: EncodedScore, rng: np.random.Generator) -> Gap:
        """One field of the notes of two bars of one track."""
        bars = _stretch(full, rng, 2)
        return Gap(_cells(_track(full, rng, bars), bars), only=only)

    return draw


SHAPES: dict[str, Shape] = {
    "track-1": _one_track(1),
    "track-2": _one_track(2),
    "track-4": _one_track(4),
    "track-8": _one_track(8),
    "all-1": _all_tracks(1),
    "all-2": _all_tracks(2),
    "all-4": _all_tracks(4),
    "sub-bar": _part_of_a_bar,
    "band": _pitch_band,
    "half-locked": _half_locked,
    "continuation": _continuation,
    "whole-track": _whole_track,
    "scattered": _scattered,
    "phrase": _phrase,
    **{f"{only}-only": _one_field(only) for only in NOTE_FIELDS},
}
