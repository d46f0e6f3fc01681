"""What a model must beat: copies of a bar beside or of a passage of the song, and Markov chains.

Knows nothing of neural networks.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.splits import hashed_share
from harmonixr_model.evaluation.likelihood import by_field
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.music.score import Bar, Note
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, NoteField
from harmonixr_model.notes.field_tokens import NOTE_FIELDS, single_field_cell
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.gap import open_gap
from harmonixr_model.prompt.similar_passages import passage_notes, similar_passages

END = VOCAB.id("END")
START = -1  # stands before the first token of a cell


def copy_bar(item: EvaluationItem, direction: Literal["previous", "next"]) -> list[tuple[Note, ...]]:
    """Fill each cell with what its track plays at the same place of the nearest bar that no cell of its track touches.

    Without such a bar on that side the cell stays empty. Notes that the context already has are not doubled.
    """
    return [_copied(item, cell, direction) for cell in item.prompt.cells]


def _copied(item: EvaluationItem, cell: GridCell, direction: Literal["previous", "next"]) -> tuple[Note, ...]:
    here = next(bar for bar in item.bars if bar.start <= cell.start < bar.end)
    source = _nearest_untouched(item, cell.track, here, step=-1 if direction == "previous" else 1)
    if source is None:
        return ()
    return passage_notes(item.context, cell, bars=item.bars, offset=source.index - here.index)


def copy_passage(item: EvaluationItem) -> list[tuple[Note, ...]]:
    """Fill the gap with the passage of the whole song whose surroundings are most like its own.

    The passage is chosen by `similar_passages`, from the context alone. Without one the gap stays empty.
    """
    cells = item.prompt.cells
    found = similar_passages(open_gap(item.context, cells), count=1)
    if not found:
        return [() for _ in cells]
    return [passage_notes(item.context, cell, bars=item.bars, offset=found[0].offset) for cell in cells]


def _nearest_untouched(item: EvaluationItem, track: int, here: Bar, *, step: int) -> Bar | None:
    touched = [(cell.start, cell.end) for cell in item.prompt.cells if cell.track == track]
    index = here.index + step
    while 0 <= index < len(item.bars):
        bar = item.bars[index]
        if bar.start >= item.context.end:
            return None
        if not any(start < bar.end and bar.start < end for start, end in touched):
            return bar
        index += step
    return None


class Markov:
    """A chain over the tokens of a cell: the next token given the last `order`, shorter histories mixed in.

    Witten and Bell 1991, interpolated (Chen and Goodman 1998, eq. 2): each history gives what it has not seen the
    weight of the number of different tokens it has seen. Below order 0 stands `base`, or every token alike.
    Probabilities sum to one over the vocabulary.
    """

    def __init__(self, order: int, base: Markov | None = None) -> None:
        self.order = order
        self.base = base
        self._seen: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        self._totals: Counter[tuple[int, ...]] = Counter()

    def add(self, run: Sequence[int]) -> None:
        """Count the tokens of one cell, END included."""
        said = (START,) * self.order + tuple(run)
        for at in range(self.order, len(said)):
            for length in range(self.order + 1):
                history = said[at - length : at]
                self._seen[history][said[at]] += 1
                self._totals[history] += 1

    def probability(self, history: tuple[int, ...], token: int) -> float:
        """Return the chance of `token` after `history` (the cell so far)."""
        chance = self.base.probability(history, token) if self.base else 1 / VOCAB.size
        said = (START,) * self.order + history
        for length in range(self.order + 1):
            past = said[len(said) - length :]
            total = self._totals.get(past, 0)
            if not total:
                break
            seen = self._seen[past]
            chance = (seen.get(token, 0) + len(seen) * chance) / (total + len(seen))
        return chance

    def bits(self, run: Sequence[int]) -> list[float]:
        """Return the bits of each token of one cell, END included."""
        return [-math.log2(self.probability(tuple(run[:at]), token)) for at, token in enumerate(run)]


def training_pieces(corpus: Corpus, count: int) -> list[int]:
    """Return up to `count` training pieces, chosen by a hash of their piece_id."""
    pieces = sorted(corpus.split("train"), key=lambda i: hashed_share(f"markov {corpus.piece(i).piece_id}"))
    return pieces[:count]


class MarkovBaseline:
    """Chains over the tokens of one bar of one track, one for drums and one for the rest, fitted on training pieces.

    For items about one field of the notes there is a pair of chains over that field's tokens alone.
    """

    def __init__(self, *, order: int = 2) -> None:
        self.pitched, self.drums = Markov(order), Markov(order)
        self._fields = {(only, is_drum): Markov(order) for only in NOTE_FIELDS for is_drum in (False, True)}

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

        `fields` are those that will be asked for alone. `progress` is told (pieces done, pieces in all).
        """
        fitted = cls(order=order)
        chosen = training_pieces(corpus, max_pieces)
        for done, index in enumerate(chosen, 1):
            score = EncodedScore(corpus.score(index))
            for number, track in enumerate(score.tracks):
                chain = fitted.drums if track.is_drum else fitted.pitched
                for run in bar_runs(score, number, score.score.bars):
                    chain.add(run)
                for only in fields:
                    for run in bar_runs(score, number, score.score.bars, only=only):
                        fitted._fields[only, track.is_drum].add(run)
            progress(done, len(chosen))
        return fitted

    def bits(self, item: EvaluationItem) -> dict[str, float]:
        """Return the bits this gives to the answer, in all and by field."""
        runs = item.predicted_runs()
        bits = [said for track, run in runs for said in self._chain(item, track).bits(run)]
        return by_field((token for _, run in runs for token in run), bits)

    def bits_of_primed_ppm(self, item: EvaluationItem, *, order: int = 6) -> dict[str, float]:
        """The same by an adaptive PPM, primed on all of the song that is not hidden, track by track.

        Prediction by partial matching (Cleary and Witten 1984) with escape method C, all orders interpolated (Bunton
        1997), over the trained chain as its lowest order; it learns from each cell before it predicts the next.
        Near-copies of bars become cheap: what a copying baseline amounts to when it must give probabilities. It reads
        the whole song, a model only its prompt.
        """
        runs = item.predicted_runs()
        bits: list[float] = []
        chains: dict[int, Markov] = {}
        for track, run in runs:
            if track not in chains:
                chains[track] = Markov(order, base=self._chain(item, track))
                cells = [cell for cell in item.prompt.cells if cell.track == track]
                whole = [b for b in item.bars if not any(c.start < b.end and b.start < c.end for c in cells)]
                for visible in bar_runs(item.context, track, whole, only=item.only):
                    chains[track].add(visible)
            bits += chains[track].bits(run)
            chains[track].add(run)
        return by_field((token for _, run in runs for token in run), bits)

    def _chain(self, item: EvaluationItem, track: int) -> Markov:
        if item.only:
            return self._fields[item.only, item.context.tracks[track].is_drum]
        return self.drums if item.context.tracks[track].is_drum else self.pitched


def bar_runs(score: EncodedScore, track: int, bars: Iterable[Bar], *, only: NoteField | None = None) -> list[list[int]]:
    """Return the tokens of a track's bars as cells say them, END last, silent bars included.

    With `only`, what an answer about that field says of the bars that have notes, known tokens and END left out.
    """
    if only is None:
        return [[*score.run(track, bar), END] for bar in bars]
    runs = []
    for bar in bars:
        notes = score.notes(track, bar.start, bar.end)
        if notes:
            cell = single_field_cell(GridCell(track, bar.start, bar.end), only, notes)
            said = zip(*cell.encode(notes, bar.start), strict=True)
            runs.append([token for token, forced in said if not forced])
    return runs
