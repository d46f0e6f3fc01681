"""Baselines: copies of a neighbouring bar or of a similar passage of the song, and Markov chains."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.splits import hashed_share
from harmonixr_model.evaluation.likelihood import bits_by_field
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.music.score import Bar, Note
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, NoteField
from harmonixr_model.notes.field_tokens import NOTE_FIELDS, single_field_cell
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.gap import open_gap
from harmonixr_model.prompt.similar_passages import passage_notes, similar_passages

END = VOCAB.id("END")
START = -1  # precedes the first token of a cell


def copy_bar(item: EvaluationItem, direction: Literal["previous", "next"]) -> list[tuple[Note, ...]]:
    """Fill each cell from the nearest bar before or after it that no cell of its track touches.

    Without such a bar on that side the cell stays empty. Notes that the context already has are not doubled.
    """
    return [_copied_from_bar(item, cell, direction) for cell in item.prompt.cells]


def _copied_from_bar(item: EvaluationItem, cell: GridCell, direction: Literal["previous", "next"]) -> tuple[Note, ...]:
    here = item.bar_of(cell).index
    hidden = [(other.start, other.end) for other in item.prompt.cells if other.track == cell.track]
    for bar in item.bars[here + 1 :] if direction == "next" else reversed(item.bars[:here]):
        if bar.start >= item.context.end:
            break
        if not any(start < bar.end and bar.start < end for start, end in hidden):
            return passage_notes(item.context, cell, bars=item.bars, offset=bar.index - here)
    return ()


def copy_passage(item: EvaluationItem) -> list[tuple[Note, ...]]:
    """Fill the gap with the passage of the whole song whose surroundings are most similar (see `similar_passages`).

    The context alone selects the passage. Without one the gap stays empty.
    """
    cells = item.prompt.cells
    found = similar_passages(open_gap(item.context, cells), count=1)
    if not found:
        return [() for _ in cells]
    return [passage_notes(item.context, cell, bars=item.bars, offset=found[0].offset) for cell in cells]


class Markov:
    """A Markov chain over the tokens of a cell with Witten–Bell smoothing, interpolated over all orders.

    Witten and Bell 1991; Chen and Goodman 1998, eq. 2: the weight of the next lower order is the number of distinct
    tokens after a history. Below order 0 is `base`, or the uniform distribution. Probabilities sum to one over the
    vocabulary.
    """

    def __init__(self, order: int, base: Markov | None = None) -> None:
        self.order = order
        self.base = base
        self._seen: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        self._totals: Counter[tuple[int, ...]] = Counter()

    def add(self, run: Sequence[int]) -> None:
        """Count the tokens of one cell, END included."""
        padded = (START,) * self.order + tuple(run)
        for at in range(self.order, len(padded)):
            for length in range(self.order + 1):
                history = padded[at - length : at]
                self._seen[history][padded[at]] += 1
                self._totals[history] += 1

    def probability(self, history: tuple[int, ...], token: int) -> float:
        """Return the probability of `token` after `history` (the tokens of the cell so far)."""
        probability = self.base.probability(history, token) if self.base else 1 / VOCAB.size
        padded = (START,) * self.order + history
        for length in range(self.order + 1):
            past = padded[len(padded) - length :]
            total = self._totals.get(past, 0)
            if not total:
                break
            seen = self._seen[past]
            probability = (seen.get(token, 0) + len(seen) * probability) / (total + len(seen))
        return probability

    def bits(self, run: Sequence[int]) -> list[float]:
        """Return the bits of each token of one cell, END included."""
        return [-math.log2(self.probability(tuple(run[:at]), token)) for at, token in enumerate(run)]


def training_pieces(corpus: Corpus, count: int) -> list[int]:
    """Return up to `count` training pieces, chosen by a hash of their piece_id."""
    pieces = sorted(corpus.split("train"), key=lambda i: hashed_share(f"markov {corpus.piece(i).piece_id}"))
    return pieces[:count]


class MarkovBaseline:
    """Markov chains over the tokens of one bar of one track, counted on training pieces.

    Drums and other tracks have separate chains, and so has each field that is hidden alone; None is whole notes.
    """

    def __init__(self, *, order: int = 2) -> None:
        self.chains = {(field, is_drum): Markov(order) for field in (None, *NOTE_FIELDS) for is_drum in (False, True)}

    @classmethod
    def fit(
        cls,
        corpus: Corpus,
        *,
        order: int = 2,
        max_pieces: int = 800,
        fields: Iterable[NoteField] = NOTE_FIELDS,
        progress: Callable[[int, int], None] = lambda done, pieces: None,
    ) -> MarkovBaseline:
        """Count bars of up to `max_pieces` training pieces, chosen by a hash of their piece_id.

        `fields` are the single fields that the items hide. `progress` receives (pieces done, all pieces).
        """
        fitted = cls(order=order)
        chosen = training_pieces(corpus, max_pieces)
        for done, index in enumerate(chosen, 1):
            score = EncodedScore(corpus.score(index))
            for number, track in enumerate(score.tracks):
                for field in (None, *fields):
                    for run in bar_runs(score, number, score.score.bars, field=field):
                        fitted.chains[field, track.is_drum].add(run)
            progress(done, len(chosen))
        return fitted

    def bits(self, item: EvaluationItem) -> dict[str, float]:
        """Return the bits of the original, in all and by field."""
        runs = item.predicted_runs()
        bits = [value for track, run in runs for value in self._chain(item, track).bits(run)]
        return bits_by_field((token for _, run in runs for token in run), bits)

    def bits_of_primed_ppm(self, item: EvaluationItem, *, order: int = 6) -> dict[str, float]:
        """Return the bits of an adaptive PPM that is primed on the visible part of the song, track by track.

        Prediction by partial matching (Cleary and Witten 1984), escape method C, all orders interpolated (Bunton 1997);
        the trained chain is its lowest order, and each cell is counted before the next is predicted. It is a copying
        baseline with probabilities. It reads the whole song, whereas a model reads only its prompt.
        """
        runs = item.predicted_runs()
        bits: list[float] = []
        chains: dict[int, Markov] = {}
        for track, run in runs:
            if track not in chains:
                chains[track] = Markov(order, base=self._chain(item, track))
                cells = [cell for cell in item.prompt.cells if cell.track == track]
                whole = [b for b in item.bars if not any(c.start < b.end and b.start < c.end for c in cells)]
                for visible in bar_runs(item.context, track, whole, field=item.field):
                    chains[track].add(visible)
            bits += chains[track].bits(run)
            chains[track].add(run)
        return bits_by_field((token for _, run in runs for token in run), bits)

    def _chain(self, item: EvaluationItem, track: int) -> Markov:
        return self.chains[item.field, item.context.tracks[track].is_drum]


def bar_runs(
    score: EncodedScore, track: int, bars: Iterable[Bar], *, field: NoteField | None = None
) -> list[list[int]]:
    """Return the tokens of each bar of a track with END, silent bars included.

    With `field`, return the predicted tokens of that field in each bar with notes, without known tokens and END.
    """
    if field is None:
        return [[*score.run(track, bar), END] for bar in bars]
    runs = []
    for bar in bars:
        notes = score.notes(track, bar.start, bar.end)
        if notes:
            cell = single_field_cell(GridCell(track, bar.start, bar.end), field, notes)
            encoded = zip(*cell.encode(notes, bar.start), strict=True)
            runs.append([token for token, forced in encoded if not forced])
    return runs
