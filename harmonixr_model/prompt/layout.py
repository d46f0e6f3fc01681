"""The layout of one gap: what stands before SEP, what the answer looks like, and back to notes.

Knows nothing of models, files or randomness. Bars are said outer, tracks inner; the prefix holds the bars around the
gap that fit, the gap's own bars always; before them stand passages of the same song in surroundings like the gap's.
"""

# P prefix tokens, F fill tokens, K coordinates, C cells in fill order

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import PromptError, TokenError
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.fill_tables import FillTables, build_fill_tables
from harmonixr_model.music.region import NoteKey
from harmonixr_model.music.score import Bar, Note, Score
from harmonixr_model.notes.encoded_score import (
    EncodedScore,
    GridCell,
    decode_notes,
    encode_notes,
    hold_tokens,
    metre_tokens,
    split_at_bars,
)
from harmonixr_model.notes.field_tokens import HIDDEN, decode_field, encode_field, field_length, hidden_field_tokens
from harmonixr_model.notes.vocabulary import MAX_TRACKS, VOCAB, tempo_bin
from harmonixr_model.prompt.coordinates import PASSAGES, CoordinateState, coordinates_of_tokens
from harmonixr_model.prompt.copy_pointer import MAX_COPY_SOURCES, CopySource, copy_sources
from harmonixr_model.prompt.similar_passages import Passage, passage_tokens, similar_passages

__all__ = [
    "CoordinateState",
    "EncodedScore",
    "GridCell",
    "InfillLayout",
    "InfillPrompt",
    "build_layout",
    "build_prompt",
    "coordinates_of",
    "decode_cell",
    "decode_fill",
    "encode_fill",
    "fill_length",
    "split_at_bars",
    "target_notes",
]

BOS, EOS, SEP, MASK = (VOCAB.id(name) for name in ("BOS", "EOS", "SEP", "MASK"))
FILL, END = VOCAB.id("FILL"), VOCAB.id("END")
FROM, UNTIL, LOW, HIGH = (VOCAB.id(name) for name in ("FROM", "UNTIL", "LOW", "HIGH"))
MAX_GAP_BARS = VOCAB.bar_index.size
# Passages may take this much of what the header and the gap's own bars leave over: in pop, the same place of another
# verse tells more than the bars beside the gap (note F1 of a copy 0.80 against 0.44).
MEMORY_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class InfillLayout:
    """A gap and its context as tokens; all that training needs.

    Attributes:
        prefix: int32 [P], BOS … SEP.
        coordinates: int16 [P, K] of the prefix, see `coordinates`.
        cells: the cells in fill order: bars outer, tracks inner.
        headers: for each cell its forced tokens FILL BARIDX TRACK [HIDDEN_…] [controls] [HOLD PITCH DUR]*.
        bar_starts: for each cell the absolute step at which its bar begins.
        gap_bar: bars of the prefix before the gap's first bar.
        slots: score track of each TRACK_j, in order.
    """

    prefix: npt.NDArray[np.int32]
    coordinates: npt.NDArray[np.int16]
    cells: tuple[GridCell, ...]
    headers: tuple[tuple[int, ...], ...]
    bar_starts: tuple[int, ...]
    gap_bar: int
    slots: tuple[int, ...]

    @property
    def cell_steps(self) -> tuple[int, ...]:
        """The lengths of the cells."""
        return tuple(cell.end - cell.start for cell in self.cells)


@dataclass(frozen=True, slots=True)
class InfillPrompt(InfillLayout):
    """A layout, the tables its fill must keep, and the passages a pointer may follow; all that decoding needs.

    `is_drums` says whether drums alone are asked for.
    """

    tables: FillTables
    copy_sources: tuple[CopySource, ...] = ()
    is_drums: bool = False

    @property
    def is_conditional(self) -> bool:
        """Whether anything but notes is asked: a soft control, or one field of notes that are known."""
        return any(cell.field or cell.controls for cell in self.cells)


def build_prompt(
    context: Score | EncodedScore,
    cells: Sequence[GridCell],
    *,
    max_prefix_tokens: int,
    constraints: Constraints | None = None,
    max_fill_tokens: int = 1 << 30,
    passages: int = PASSAGES,
) -> InfillPrompt:
    """Return the prompt that asks for `cells`; `context` is a grid score that no longer holds the notes to replace.

    Notes the context still has inside a cell are kept (locked) and said before its MASK. Pointers recall nothing
    without `passages`, where soft controls ask for something else than the song has, and where one field of known notes
    is asked for. Raises PromptError where the gap does not fit, ControlError where `limits` cannot be kept.
    """
    encoded = context if isinstance(context, EncodedScore) else EncodedScore(context)
    ordered, bars = _ordered(encoded, cells)
    # Found once, for the prompt to remember and for pointers to follow.
    found = similar_passages(encoded, ordered, bars, count=max(passages, MAX_COPY_SOURCES)) if passages else []
    layout = _layout(encoded, ordered, bars, max_prefix_tokens=max_prefix_tokens, passages=found[:passages])
    is_conditional = any(cell.field or cell.controls for cell in ordered)
    tables = build_fill_tables(
        encoded,
        layout.cells,
        bars=_gap_bars(bars, layout.cells),
        slots=layout.slots,
        headers=layout.headers,
        constraints=constraints or Constraints(),
        max_fill_tokens=max_fill_tokens,
    )
    return InfillPrompt(
        prefix=layout.prefix,
        coordinates=layout.coordinates,
        cells=layout.cells,
        headers=layout.headers,
        bar_starts=layout.bar_starts,
        gap_bar=layout.gap_bar,
        slots=layout.slots,
        tables=tables,
        copy_sources=() if is_conditional else copy_sources(encoded, ordered, found[:MAX_COPY_SOURCES], bars=bars),
        is_drums=all(encoded.tracks[cell.track].is_drum for cell in ordered),
    )


def build_layout(
    context: EncodedScore,
    cells: Sequence[GridCell],
    *,
    max_prefix_tokens: int,
    passages: int = PASSAGES,
) -> InfillLayout:
    """Return the layout alone, without the grammar's tables: the quick path, for training.

    It remembers up to `passages` passages of the song, each only where it leaves most of the room to the bars around
    the gap.
    """
    ordered, bars = _ordered(context, cells)
    found = similar_passages(context, ordered, bars, count=passages) if passages else []
    return _layout(context, ordered, bars, max_prefix_tokens=max_prefix_tokens, passages=found)


def _layout(
    context: EncodedScore,
    ordered: tuple[GridCell, ...],
    bars: tuple[Bar, ...],
    *,
    max_prefix_tokens: int,
    passages: Sequence[Passage],
) -> InfillLayout:
    """Return the layout of cells in fill order that remembers `passages`, each as far as there is room."""
    gap = _gap_bars(bars, ordered)
    slots = _choose_slots(context, ordered)
    slot_of = {track: slot for slot, track in enumerate(slots)}
    head = _header(context, slots, gap[0].start)
    cells_at: dict[tuple[int, int], list[GridCell]] = {}
    cell_bars = [_bar_at(bars, cell.start) for cell in ordered]
    for cell, bar in zip(ordered, cell_bars, strict=True):
        cells_at.setdefault((bar.index, cell.track), []).append(cell)
    gap_tokens = [_bar_tokens(context, bar, slots, cells_at) for bar in gap]
    room = max_prefix_tokens - len(head) - 1 - sum(map(len, gap_tokens))
    if room < 0:
        raise PromptError(
            f"the gap's {len(gap)} bars and {len(slots)} tracks take {max_prefix_tokens - room} tokens, the model "
            f"reads {max_prefix_tokens}; choose fewer bars"
        )
    memory = _memory(context, ordered, bars, slots=slots, passages=passages, room=round(MEMORY_SHARE * room))
    before, after = _surroundings(context, bars, gap, slots, room - len(memory))
    prefix = np.array([*head, *memory, *chain(*before, *gap_tokens, *after), SEP], dtype=np.int32)
    headers = tuple(
        (
            FILL,
            VOCAB.bar_index.start + bar.index - gap[0].index,
            VOCAB.track.start + slot_of[cell.track],
            *((HIDDEN[cell.field],) if cell.field else ()),
            *cell.controls,
            *hold_tokens(context.held(cell.track, cell.start), cell.start),
        )
        for cell, bar in zip(ordered, cell_bars, strict=True)
    )
    return InfillLayout(
        prefix=prefix,
        coordinates=coordinates_of_tokens(prefix, gap_bar=len(before)),
        cells=ordered,
        headers=headers,
        bar_starts=tuple(bar.start for bar in cell_bars),
        gap_bar=len(before),
        slots=slots,
    )


def fill_length(full: EncodedScore, cells: Iterable[GridCell], locks: Collection[NoteKey] = ()) -> int:
    """Return how many tokens say the true answer of these cells, EOS included."""
    tokens = 1
    for cell in cells:
        hidden = full.hidden(cell, locks)
        said = field_length(cell, notes=len(hidden)) + 1 if cell.field else len(encode_notes(hidden, 0)) + 1
        tokens += 3 + len(cell.controls) + 3 * len(full.held(cell.track, cell.start)) + said
    return tokens


def target_notes(layout: InfillLayout, full: EncodedScore, locks: Collection[NoteKey] = ()) -> list[tuple[Note, ...]]:
    """Return the notes of the full score that each cell hides: the true answer, in fill order."""
    return [full.hidden(cell, locks) for cell in layout.cells]


def encode_fill(
    layout: InfillLayout, notes_by_cell: Sequence[Iterable[Note]]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Return the fill int32 [F] that says these notes, and which of its tokens are forced, bool [F].

    Raises TokenError where a note lies outside its cell. Whether the notes keep the grammar is `check_fill`'s matter.
    """
    tokens: list[int] = []
    is_forced: list[bool] = []
    for cell, header, bar_start, notes in zip(
        layout.cells, layout.headers, layout.bar_starts, notes_by_cell, strict=True
    ):
        # The notes of an attribute-only cell are told apart by their order.
        ordered = list(notes) if cell.field else sorted(notes, key=_by_onset_and_pitch)
        for note in ordered:
            if not cell.contains(note):
                raise TokenError(f"{note} lies outside its cell, {cell}")
        if cell.field:
            said, is_known = encode_field(cell, ordered, bar_start)
        else:
            said = [*encode_notes(ordered, bar_start), END]
            is_known = [False] * len(said)
        tokens += (*header, *said)
        is_forced += (*(True,) * len(header), *is_known)
    return np.array([*tokens, EOS], dtype=np.int32), np.array([*is_forced, True], dtype=bool)


def decode_fill(prompt: InfillPrompt, tokens: Sequence[int] | npt.NDArray[np.integer]) -> list[tuple[Note, ...]]:
    """Return the notes of each cell, in absolute steps, velocities clamped to the limits.

    `tokens` is a whole fill, forced tokens and EOS included. Raises TokenError where it is not one of this prompt.
    """
    ids = [int(token) for token in tokens]
    fills: list[tuple[Note, ...]] = []
    at = 0
    for header in prompt.headers:
        if tuple(ids[at : at + len(header)]) != header:
            raise TokenError(f"token {at + 1} of the fill does not begin the header of cell {len(fills) + 1}")
        at += len(header)
        try:
            end = ids.index(END, at)
        except ValueError:
            raise TokenError(f"cell {len(fills) + 1} of the fill has no END") from None
        fills.append(decode_cell(prompt, len(fills), ids[at:end]))
        at = end + 1
    if ids[at:] != [EOS]:
        raise TokenError("the fill does not close with EOS after its last cell")
    return fills


def decode_cell(prompt: InfillPrompt, number: int, tokens: Sequence[int]) -> tuple[Note, ...]:
    """Return the notes that the answer to one cell says, its header and END left out; see `decode_fill`."""
    cell, bar_start = prompt.cells[number], prompt.bar_starts[number]
    notes = decode_field(cell, tokens, bar_start) if cell.field else decode_notes(tokens, bar_start)
    is_kept = cell.field not in (None, "velocity")
    return tuple(notes if is_kept else (_clamped(note, prompt.tables) for note in notes))


def coordinates_of(layout: InfillLayout, fill_tokens: npt.ArrayLike) -> npt.NDArray[np.int16]:
    """Return the coordinates int16 [F, K] of a fill; SEP, which comes before it, forgets all earlier ones."""
    return coordinates_of_tokens(fill_tokens, gap_bar=layout.gap_bar, cell_steps=layout.cell_steps)


def _by_onset_and_pitch(note: Note) -> tuple[int, int]:
    return note.onset, note.pitch


def _clamped(note: Note, tables: FillTables) -> Note:
    return note._replace(velocity=min(max(note.velocity, tables.velocity_min), tables.velocity_max))


def _bars(context: EncodedScore, cells: Sequence[GridCell]) -> tuple[Bar, ...]:
    return context.score.bars_until(max(context.end, max(cell.end for cell in cells)))


def _bar_at(bars: Sequence[Bar], step: int) -> Bar:
    return bars[bisect_right(bars, step, key=lambda bar: bar.start) - 1]


def _gap_bars(bars: Sequence[Bar], cells: Sequence[GridCell]) -> Sequence[Bar]:
    """Return the bars from the first to the last that has a cell."""
    return bars[_bar_at(bars, cells[0].start).index : _bar_at(bars, cells[-1].start).index + 1]


def _ordered(context: EncodedScore, cells: Sequence[GridCell]) -> tuple[tuple[GridCell, ...], tuple[Bar, ...]]:
    """Return the cells in fill order and the song's bars. Raises PromptError where a cell cannot be asked for."""
    if not cells:
        raise PromptError("nothing is to be filled; give at least one cell")
    for cell in cells:
        if not 0 <= cell.track < len(context.tracks):
            raise PromptError(f"a cell names track {cell.track + 1}; the score has {len(context.tracks)} tracks")
        if not 0 <= cell.start < cell.end or not 0 <= cell.low <= cell.high <= 127:
            raise PromptError(f"{cell} is empty or out of range; give 0 <= start < end and 0 <= low <= high <= 127")
        if cell.field and not cell.known:
            raise PromptError(f"{cell} asks for the {cell.field} of no note; leave it out")
    bars = _bars(context, cells)
    ordered = tuple(sorted(cells, key=lambda c: (_bar_at(bars, c.start).index, c.track, c.start)))
    for cell in ordered:
        if cell.end > _bar_at(bars, cell.start).end:
            raise PromptError(f"{cell} crosses a barline; split it with split_at_bars")
    for one, two in pairwise(ordered):
        if one.track == two.track and two.start < one.end and one.start < two.end:
            raise PromptError(f"{one} and {two} overlap; merge them")
    count = len(_gap_bars(bars, ordered))
    if count > MAX_GAP_BARS:
        raise PromptError(f"the gap spans {count} bars, one prompt holds {MAX_GAP_BARS}; fill it in parts")
    return ordered, bars


def _choose_slots(context: EncodedScore, cells: Sequence[GridCell]) -> tuple[int, ...]:
    """Return the tracks to name, in file order: those of the cells, then others that have notes, 32 at most."""
    chosen = {cell.track for cell in cells}
    if len(chosen) > MAX_TRACKS:
        raise PromptError(f"the gap spans {len(chosen)} tracks, one prompt holds {MAX_TRACKS}; fill it in parts")
    for track, content in enumerate(context.tracks):
        if len(chosen) == MAX_TRACKS:
            break
        if content.notes:
            chosen.add(track)
    return tuple(sorted(chosen))


def _header(context: EncodedScore, slots: Sequence[int], start: int) -> list[int]:
    tempos = context.score.tempos
    pace = tempos[max(0, bisect_right(tempos, start, key=lambda t: t.tick) - 1)].us_per_quarter if tempos else 500_000
    tokens = [BOS, VOCAB.tempo.start + tempo_bin(pace)]
    for slot, track in enumerate(slots):
        content = context.tracks[track]
        sound = VOCAB.drums if content.is_drum else VOCAB.program.start + content.program
        tokens += (VOCAB.track.start + slot, sound)
    return tokens


def _memory(
    context: EncodedScore,
    cells: Sequence[GridCell],
    bars: Sequence[Bar],
    *,
    slots: Sequence[int],
    passages: Sequence[Passage],
    room: int,
) -> list[int]:
    """Return the tokens of the passages that fit, the most alike first."""
    tokens: list[int] = []
    for passage in passages:
        tokens += passage_tokens(context, passage, cells, bars=bars, slots=slots, room=room - len(tokens))
    return tokens


def _surroundings(
    context: EncodedScore, bars: Sequence[Bar], gap: Sequence[Bar], slots: Sequence[int], room: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the tokens of the bars before and after the gap that fit, widened a bar at a time on either side."""
    before: list[list[int]] = []
    after: list[list[int]] = []
    behind, ahead = reversed(bars[: gap[0].index]), iter(bars[gap[-1].index + 1 :])
    sides: list[tuple[list[list[int]], Iterator[Bar]]] = [(before, behind), (after, ahead)]
    while sides:
        side, farther = sides.pop(0)
        bar = next(farther, None)
        if bar is None:
            continue
        tokens = _bar_tokens(context, bar, slots, {})
        if len(tokens) > room:
            continue
        side.append(tokens)
        room -= len(tokens)
        sides.append((side, farther))
    return before[::-1], after


def _bar_tokens(
    context: EncodedScore, bar: Bar, slots: Sequence[int], cells_at: dict[tuple[int, int], list[GridCell]]
) -> list[int]:
    tokens = metre_tokens(bar)
    for slot, track in enumerate(slots):
        run = context.run(track, bar)
        cells = cells_at.get((bar.index, track), ())
        if run or cells:
            tokens.append(VOCAB.track.start + slot)
            tokens += run
            for cell in cells:
                tokens += _mask_tokens(cell, bar)
    return tokens


def _mask_tokens(cell: GridCell, bar: Bar) -> list[int]:
    tokens = [MASK]
    position, pitch = VOCAB.position.start, VOCAB.pitch.start
    if (cell.start, cell.end) != (bar.start, bar.end):
        tokens += (FROM, position + cell.start - bar.start, UNTIL, position + cell.end - bar.start)
    if (cell.low, cell.high) != (0, 127):
        tokens += (LOW, pitch + cell.low, HIGH, pitch + cell.high)
    return tokens + hidden_field_tokens(cell, bar.start)
