"""Plan how a region is filled, window by window, and put the answers back into the song.

The three stages that the infiller runs in one process and the served graph in three: plan (the session), generate (an
engine answers `next_prompt`), finish (`result`). Knows no model and draws nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

from harmonixr_model.errors import ControlError, PromptError, RegionError
from harmonixr_model.fill.single_field import SelectedNotes, ask_about, check_controls, wishes
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.fill_grammar import check_fill
from harmonixr_model.music.edit_field import edit_notes
from harmonixr_model.music.estimate import ChordSpan
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Bar, Note, Score, Track
from harmonixr_model.music.song import DRUM_CHANNEL, Song
from harmonixr_model.music.splice import splice
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, NoteField, split_at_bars
from harmonixr_model.notes.field_tokens import field_length, hidden_field_tokens
from harmonixr_model.notes.grid import GRID, in_ticks, quantize
from harmonixr_model.prompt.builder import build_prompt
from harmonixr_model.prompt.controls import (
    AttributeControls,
    asked_tokens,
    chord_spans,
    split_at_chords,
)
from harmonixr_model.prompt.fill_tokens import decode_fill
from harmonixr_model.prompt.layout import InfillPrompt

# A window takes at most so many bars, and its fill is expected to take at most this share of what the model holds.
MAX_WINDOW_BARS = 8
FILL_SHARE = 0.45
# What a fill is expected to take per cell: its frame, and at least this many notes' worth of tokens.
_CELL_TOKENS, _LEAST_NOTES_TOKENS = 6, 24
# What a cell's held notes and controls may take besides.
_HELD_TOKENS = 16


@dataclass(frozen=True, slots=True)
class FilledSong:
    """A song with its fill.

    Attributes:
        midi: the whole song with the fill in it.
        notes: the notes that went in, in the song's ticks, by track (a new track counts on past the song's).
        dropped: notes that could not be placed, or changed, without touching another.
        tokens: the fill's token ids, one tuple a window: enough to make it again exactly.
    """

    midi: bytes
    notes: dict[int, tuple[Note, ...]]
    dropped: int
    tokens: tuple[tuple[int, ...], ...]


class FillSession:
    """One region of one song being filled by one candidate.

    Ask for `next_prompt`, hand the answer to `accept`, until `next_prompt` gives None; then take the `result`. A region
    too large for one prompt is split into windows of whole bars, in order, each of which sees the answers before it.
    `windows` is the plan; it grows when a window proves too large, so ask for prompts until there is none.
    """

    def __init__(
        self,
        song: Song,
        region: Region,
        *,
        max_length: int,
        limits: Constraints | None = None,
        controls: AttributeControls | None = None,
        only: NoteField | None = None,
        new_track: Track | None = None,
    ) -> None:
        """Plan the windows.

        Args:
            song: the song.
            region: what may change; with `new_track`, its cells may name the track after the song's last one.
            max_length: the most tokens a prompt and its fill may take together.
            limits: what every fill must keep to.
            controls: what is asked for softly, of every cell alike.
            only: the one field of the region's notes that may change; all else of them stays as it is.
            new_track: an empty track to add, with its program, drum flag and name.

        Raises:
            RegionError: the region names no such track, is shorter than a step of the grid, or has no notes for `only`.
            ControlError: a control or limit says nothing about `only`.
            PromptError, ControlError: when a prompt is asked for that cannot be built.

        """
        self.song = song
        self.region = region
        self.controls = controls or AttributeControls()
        self.limits = self.controls.limits(limits or Constraints())
        self.max_length = max_length
        self.only = only
        self.new_track = new_track
        self.tokens: list[tuple[int, ...]] = []
        self._notes: dict[int, list[Note]] = {}
        self._answers: list[tuple[GridCell, tuple[Note, ...]]] = []
        context = _with_track(region_context(song.score, region), new_track)
        region.check(context)
        self._context = EncodedScore(quantize(context))
        cells = _grid_cells(self._context.score, region, song.score)
        self._chords = self._asked_chords(cells)
        if self.controls.chord_tones_only:
            cells = [part for cell in cells for part in split_at_chords(cell, self._chords_of(cell))]
            self.limits = replace(self.limits, chords=self._chords)
        self._asked = self._ask(cells) if only and cells else None
        self.windows = _plan(self._context, self._asked.cells if self._asked else cells, max_length)
        if not self.windows and not region.is_empty:
            raise RegionError("the region is shorter than a step of the grid, a 24th of a quarter; make it longer")
        self._prompt: InfillPrompt | None = None

    def fork(self) -> FillSession:
        """Return a session at the same place that goes on by itself, as another candidate does."""
        other = copy(self)
        other.tokens, other.windows = list(self.tokens), list(self.windows)
        other._notes = {track: list(notes) for track, notes in self._notes.items()}
        other._answers = list(self._answers)
        return other

    def next_prompt(self) -> InfillPrompt | None:
        """Return the prompt of the next window, None when all are answered."""
        if len(self.tokens) == len(self.windows):
            return None
        if self._prompt is None:
            self._prompt = self._fitting_prompt(len(self.tokens))
        return self._prompt

    def accept(self, tokens: Sequence[int], *, is_drawn: bool = False) -> None:
        """Take the answer to the current prompt; raises TokenError when it breaks the prompt's grammar.

        Of what an engine has drawn under that grammar (`is_drawn`) only the frame is looked at, and not each token.
        """
        prompt = self.next_prompt()
        if prompt is None:
            raise PromptError("every window of the region is filled already")
        if not is_drawn:
            check_fill(prompt.tables, tokens)
        fills = decode_fill(prompt, tokens)
        grown: dict[int, list[Note]] = {}
        for cell, notes in zip(prompt.cells, fills, strict=True):
            self._notes.setdefault(cell.track, []).extend(notes)
            self._answers.append((cell, notes))
            grown.setdefault(cell.track, []).extend(notes)
        self.tokens.append(tuple(int(token) for token in tokens))
        self._prompt = None
        if len(self.tokens) == len(self.windows):
            return  # no prompt will see this answer
        score = self._context.score
        self._context = EncodedScore(
            score.replace_notes({track: [*score.tracks[track].notes, *new] for track, new in grown.items()})
        )

    def result(self) -> FilledSong:
        """Return the song with every window's answer in it; an empty region gives the input byte for byte."""
        if self.next_prompt() is not None:
            raise PromptError(f"{len(self.windows) - len(self.tokens)} windows of the region are not filled yet")
        if self.region.is_empty:
            return FilledSong(self.song.midi.source, {}, 0, ())
        if self._asked:
            return self._retouched(self._asked)
        known = len(self.song.score.tracks)
        placed = {track: self._in_ticks(track, notes) for track, notes in self._notes.items()}
        fill = {track: notes for track, notes in placed.items() if track < known}
        added = [replace(self.new_track, notes=tuple(placed.get(known, ())))] if self.new_track else []
        inside = replace(self.region, cells=tuple(cell for cell in self.region.cells if cell.track < known))
        spliced = splice(self.song, inside, fill, new_tracks=added)
        return FilledSong(spliced.midi, spliced.notes, spliced.dropped, tuple(self.tokens))

    def _ask(self, cells: Sequence[GridCell]) -> SelectedNotes:
        """Return the notes an attribute-only fill is about; raises ControlError, RegionError."""
        assert self.only is not None
        if self.new_track is not None:
            raise ControlError(f"a new track has no notes whose {self.only} could change; leave one of the two out")
        self.limits.check_field(self.only)
        check_controls(self.controls, self.only)
        return ask_about(self.song, self.region, cells, only=self.only)

    def _retouched(self, asked: SelectedNotes) -> FilledSong:
        bounds = self.limits.velocity_min, self.limits.velocity_max
        changes = wishes(self.song, self.region, asked, self._answers, velocities=bounds)
        made = edit_notes(self.song, changes)
        return FilledSong(made.midi, made.notes, made.dropped, tuple(self.tokens))

    def _fitting_prompt(self, number: int) -> InfillPrompt:
        """Return a window's prompt; a window that does not fit the model is cut in two first.

        The plan cannot foresee that: an earlier answer may hold notes that sound far into this window.
        """
        while True:
            window = self.windows[number]
            try:
                return self._build(window)
            except PromptError:
                if len(window) == 1:
                    return self._build(window, reserve=self.max_length // 2)
                self.windows[number : number + 1] = _halves(self._context, window)

    def _build(self, cells: Sequence[GridCell], *, reserve: int | None = None) -> InfillPrompt:
        """Return the prompt of `cells` that leaves `reserve` tokens to the fill, by default what it should need."""
        if reserve is None:
            expected = _expected_tokens(self._context, cells)
            if self.only:  # nothing of an answer's length is open
                expected = sum(_CELL_TOKENS + _HELD_TOKENS + field_length(c, notes=len(c.known)) for c in cells)
            reserve = min(self.max_length // 2, max(round(1.5 * expected), self.max_length // 4))
        prompt = build_prompt(
            self._context,
            [self._said(cell) for cell in cells] if self.controls.asked else cells,
            max_prefix_tokens=self.max_length - reserve,
            constraints=self.limits,
            max_fill_tokens=reserve,
        )
        # What the context leaves over is the fill's.
        return replace(prompt, tables=replace(prompt.tables, max_tokens=self.max_length - len(prompt.prefix)))

    def _asked_chords(self, cells: Sequence[GridCell]) -> tuple[ChordSpan, ...]:
        """Return the chords asked for, in steps, from the region's first bar on; raises ControlError."""
        if not self.controls.chords or not cells:
            return ()
        if all(self._context.tracks[cell.track].is_drum for cell in cells):
            raise ControlError("chords say nothing about drums, and only drums are to be filled; leave them out")
        first, last = min(cell.start for cell in cells), max(cell.end for cell in cells)
        bars = [bar for bar in self._context.score.bars_until(last) if bar.end > first and bar.start < last]
        return chord_spans(self.controls.chords, bars)

    def _chords_of(self, cell: GridCell) -> tuple[ChordSpan, ...]:
        return () if self._context.tracks[cell.track].is_drum else self._chords

    def _said(self, cell: GridCell) -> GridCell:
        """Return the cell with what is asked of it."""
        bars = self._context.score.bars_until(cell.end)
        start = next(bar.start for bar in bars if bar.start <= cell.start < bar.end)
        return replace(cell, controls=asked_tokens(self.controls, cell, chords=self._chords_of(cell), bar_start=start))

    def _in_ticks(self, track: int, notes: Sequence[Note]) -> list[Note]:
        """Return grid notes in the song's ticks, each inside the cell it was made for."""
        per_quarter = self.song.score.ticks_per_quarter
        cells = [cell for cell in self.region.cells if cell.track == track]
        placed = []
        for note in notes:
            cell = next(
                c for c in cells if _first_step(c.start, per_quarter) <= note.onset < _first_step(c.end, per_quarter)
            )
            began, end = in_ticks(note, per_quarter)
            onset = min(max(began, cell.start), cell.end - 1)
            placed.append(Note(onset, max(end - onset, 1), note.pitch, note.velocity))
        return placed


def region_context(score: Score, region: Region) -> Score:
    """Return the score less what the region lets a fill delete; cells of tracks still to be added delete nothing."""
    known = tuple(cell for cell in region.cells if cell.track < len(score.tracks))
    return replace(region, cells=known).without(score)


def _with_track(score: Score, new_track: Track | None) -> Score:
    if new_track is None:
        return score
    used = {track.channel for track in score.tracks}
    free = [channel for channel in range(16) if channel not in used and channel != DRUM_CHANNEL]
    if not new_track.is_drum and not free:
        raise RegionError("no MIDI channel is free for a new track; remove a track, or fill one that exists")
    channel = DRUM_CHANNEL if new_track.is_drum else free[0]
    return replace(score, tracks=(*score.tracks, replace(new_track, notes=(), channel=channel)))


def _first_step(tick: int, ticks_per_quarter: int) -> int:
    """Return the first grid step at or after a tick."""
    return -(-tick * GRID // ticks_per_quarter)


def _grid_cells(grid: Score, region: Region, score: Score) -> list[GridCell]:
    """Return the region's cells in steps, cut at the barlines."""
    cells: list[GridCell] = []
    for cell in region.cells:
        start = _first_step(cell.start, score.ticks_per_quarter)
        end = _first_step(cell.end, score.ticks_per_quarter)
        if start < end:
            whole = GridCell(cell.track, start, end, region.pitch_low, region.pitch_high)
            cells += split_at_bars(whole, grid.bars_until(end))
    return cells


def _plan(context: EncodedScore, cells: Sequence[GridCell], max_length: int) -> list[tuple[GridCell, ...]]:
    """Return the cells in windows of whole bars, each expected to fit the model."""
    if not cells:
        return []
    windows: list[tuple[GridCell, ...]] = []
    first_bar, room = 0, 0.0
    expected = _expected_by_track(context, cells)
    for bar, inside in _by_bar(context, cells):
        cost = sum(_cost(cell, expected) for cell in inside) + _kept_tokens(context, bar)
        if not windows or cost > room or bar.index - first_bar >= MAX_WINDOW_BARS:
            windows.append(())
            first_bar, room = bar.index, max_length * FILL_SHARE * 1.6
        windows[-1] += inside
        room -= cost
    return windows


def _halves(context: EncodedScore, window: Sequence[GridCell]) -> list[tuple[GridCell, ...]]:
    """Return a window cut in two, between bars where it has several."""
    bars = [inside for _, inside in _by_bar(context, window)]
    parts = bars if len(bars) > 1 else [(cell,) for cell in window]
    middle = len(parts) // 2
    return [tuple(cell for part in half for cell in part) for half in (parts[:middle], parts[middle:])]


def _by_bar(context: EncodedScore, cells: Sequence[GridCell]) -> list[tuple[Bar, tuple[GridCell, ...]]]:
    """Return the cells of each bar that has some."""
    found = []
    for bar in context.score.bars_until(max(cell.end for cell in cells)):
        inside = tuple(cell for cell in cells if bar.start <= cell.start < bar.end)
        if inside:
            found.append((bar, inside))
    return found


def _expected_tokens(context: EncodedScore, cells: Sequence[GridCell]) -> int:
    """Guess the tokens of a fill from what the same tracks say elsewhere in a bar."""
    expected = _expected_by_track(context, cells)
    return sum(_cost(cell, expected) for cell in cells)


def _cost(cell: GridCell, expected: dict[int, int]) -> int:
    """Return what a cell is expected to take, of prompt and fill together."""
    if not cell.field:
        return expected[cell.track]
    return _CELL_TOKENS + len(hidden_field_tokens(cell, cell.start)) + field_length(cell, notes=len(cell.known))


def _expected_by_track(context: EncodedScore, cells: Sequence[GridCell]) -> dict[int, int]:
    """Return what a cell of each track is expected to take."""
    bars = context.score.bars
    return {track: _CELL_TOKENS + _tokens_a_bar(context, track, bars) for track in {cell.track for cell in cells}}


def _tokens_a_bar(context: EncodedScore, track: int, bars: Sequence[Bar]) -> int:
    """Return four fifths up the range of what a track says in the bars where it plays."""
    runs = sorted(len(run) for bar in bars if (run := context.run(track, bar)))
    return max(_LEAST_NOTES_TOKENS, runs[len(runs) * 4 // 5] if runs else 0)


def _kept_tokens(context: EncodedScore, bar: Bar) -> int:
    return 2 + sum(len(context.run(track, bar)) + 1 for track in range(len(context.tracks)))
