"""Plan the windows of a region, build their prompts, and insert the fills into the song.

The infiller runs the three stages in one process, the service in three: plan (a session), generate (an engine fills
`next_prompt`), finish (`result`).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from harmonixr_model.errors import ControlError, PromptError, RegionError
from harmonixr_model.fill.grid_cells import grid_cells
from harmonixr_model.fill.method import fill_method
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.fill_grammar import check_fill
from harmonixr_model.music.estimate import ChordSpan
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Bar, Note, Track, bar_at
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import EditedSong, new_channels
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, NoteField
from harmonixr_model.notes.grid import quantize
from harmonixr_model.prompt.builder import build_prompt
from harmonixr_model.prompt.chords import chord_spans, split_at_chords
from harmonixr_model.prompt.controls import AttributeControls, attribute_tokens
from harmonixr_model.prompt.fill_tokens import decode_fill
from harmonixr_model.prompt.layout import InfillPrompt

MAX_WINDOW_BARS = 8
# The fill of a window is expected to take at most this share of the model's length; the window's own bars in the prompt
# take about 0.6 times as much.
FILL_SHARE = 0.45


class FillSession:
    """One region of one song, filled by one candidate.

        while (prompt := session.next_prompt()) is not None:
            session.accept(engine.generate(prompt, seeds=[seed])[0].tokens)
        edited = session.result()

    A region that is too large for one prompt is split into windows of whole bars. Each window's prompt contains the
    fills of the windows before it. `windows` is the plan and `tokens` the accepted fills; the plan may grow, because a
    window that does not fit the model is split when its turn comes.
    """

    def __init__(
        self,
        song: Song,
        region: Region,
        *,
        max_length: int,
        constraints: Constraints | None = None,
        controls: AttributeControls | None = None,
        field: NoteField | None = None,
        new_track: Track | None = None,
    ) -> None:
        """Plan the windows; `max_length` is the most tokens of a prompt and its fill together.

        All other arguments are those of `Infiller.fill`. Raises RegionError and ControlError as it does.
        """
        self.song = song
        self.region = region
        self.max_length = max_length
        self.controls = controls or AttributeControls()
        self.constraints = self.controls.constraints(constraints or Constraints())
        self.tokens: list[tuple[int, ...]] = []
        self._fills: list[tuple[GridCell, tuple[Note, ...]]] = []
        context = region.without(song.score)
        if new_track is not None:
            (channel,) = new_channels(song, [new_track])
            context = replace(context, tracks=(*context.tracks, replace(new_track, notes=(), channel=channel)))
        region.check(context)
        self._context = EncodedScore(quantize(context))
        cells = grid_cells(region, song.score.ticks_per_quarter, self._context.score)
        if not cells and not region.is_empty:
            raise RegionError("the region is shorter than a step of the grid, a 24th of a quarter; make it longer")
        self._chords = self._chord_spans(cells)
        if self.controls.chord_tones_only:
            cells = [part for cell in cells for part in split_at_chords(cell, self._chords_of(cell))]
            self.constraints = replace(self.constraints, chords=self._chords)
        self._method = fill_method(
            song, region, field=field, constraints=self.constraints, controls=self.controls, new_track=new_track
        )
        self.windows = self._plan(self._method.select_cells(cells))
        self._prompt: InfillPrompt | None = None

    def fork(self) -> FillSession:
        """Return an independent copy of this session, for another candidate."""
        other = copy(self)
        other.tokens, other.windows, other._fills = list(self.tokens), list(self.windows), list(self._fills)
        return other

    def next_prompt(self) -> InfillPrompt | None:
        """Return the prompt of the next window, None when all are filled; raises PromptError, ControlError."""
        if self._prompt is None and len(self.tokens) < len(self.windows):
            self._prompt = self._fitting_prompt(len(self.tokens))
        return self._prompt

    def accept(self, tokens: Sequence[int], *, check_grammar: bool = True) -> None:
        """Take the fill of the current prompt; raises TokenError where it breaks the prompt's grammar.

        Without `check_grammar` only the layout is checked: an engine samples under the grammar.
        """
        prompt = self.next_prompt()
        if prompt is None:
            raise PromptError("every window of the region is filled already")
        if check_grammar:
            check_fill(prompt.tables, tokens)
        fills = list(zip(prompt.cells, decode_fill(prompt, tokens), strict=True))
        self._fills += fills
        self.tokens.append(tuple(int(token) for token in tokens))
        self._prompt = None
        if len(self.tokens) == len(self.windows):
            return  # no later prompt needs the context
        score = self._context.score
        notes = {cell.track: list(score.tracks[cell.track].notes) for cell, _ in fills}
        for cell, cell_notes in fills:
            notes[cell.track] += cell_notes
        self._context = EncodedScore(score.replace_notes(notes))

    def result(self) -> EditedSong:
        """Return the song with every window's fill; with an empty region its bytes equal the input's."""
        if self.next_prompt() is not None:
            raise PromptError(f"{len(self.windows) - len(self.tokens)} windows of the region are not filled yet")
        if self.region.is_empty:
            return EditedSong(self.song.midi.source, {}, 0)
        return self._method.insert(self._fills)

    def _plan(self, cells: Sequence[GridCell]) -> list[tuple[GridCell, ...]]:
        """Return the cells in windows of whole bars, each expected to fit the model."""
        windows: list[tuple[GridCell, ...]] = []
        first_bar, room = 0, 0.0
        lengths = self._method.expected_lengths(self._context, cells)
        for bar, inside in self._by_bar(cells):
            context_length = 2 + sum(len(self._context.run(i, bar)) + 1 for i in range(len(self._context.tracks)))
            length = sum(lengths[cell] for cell in inside) + context_length
            if not windows or length > room or bar.index - first_bar >= MAX_WINDOW_BARS:
                windows.append(())
                first_bar, room = bar.index, self.max_length * FILL_SHARE * 1.6
            windows[-1] += inside
            room -= length
        return windows

    def _by_bar(self, cells: Sequence[GridCell]) -> list[tuple[Bar, tuple[GridCell, ...]]]:
        """Return the bars that have cells, each with its cells."""
        bars = self._context.score.bars_until(max((cell.end for cell in cells), default=0))
        by_bar = ((bar, tuple(cell for cell in cells if bar.start <= cell.start < bar.end)) for bar in bars)
        return [(bar, inside) for bar, inside in by_bar if inside]

    def _fitting_prompt(self, number: int) -> InfillPrompt:
        """Return a window's prompt; split the window first where it does not fit the model.

        The plan cannot foresee that: an earlier fill may hold notes that sound far into this window.
        """
        while True:
            window = self.windows[number]
            fill_length = self._method.expected_fill_length(self._context, window)
            reserve = min(self.max_length // 2, max(round(1.5 * fill_length), self.max_length // 4))
            try:
                return self._build_prompt(window, reserve)
            except PromptError:
                if len(window) == 1:
                    return self._build_prompt(window, self.max_length // 2)
                self.windows[number : number + 1] = self._halves(window)

    def _halves(self, window: Sequence[GridCell]) -> list[tuple[GridCell, ...]]:
        """Return a window cut in two, between bars where it has several."""
        bars = [inside for _, inside in self._by_bar(window)]
        parts = bars if len(bars) > 1 else [(cell,) for cell in window]
        middle = len(parts) // 2
        return [tuple(cell for part in half for cell in part) for half in (parts[:middle], parts[middle:])]

    def _build_prompt(self, cells: Sequence[GridCell], reserve: int) -> InfillPrompt:
        """Return the prompt of `cells`, with at least `reserve` of the model's tokens left for the fill."""
        prompt = build_prompt(
            self._context,
            [self._with_controls(cell) for cell in cells] if self.controls.conditioning else cells,
            max_prefix_tokens=self.max_length - reserve,
            constraints=self.constraints,
            max_fill_tokens=reserve,
        )
        return replace(prompt, tables=replace(prompt.tables, max_tokens=self.max_length - len(prompt.prefix)))

    def _chord_spans(self, cells: Sequence[GridCell]) -> tuple[ChordSpan, ...]:
        """Return the requested chords in steps, from the region's first bar on; raises ControlError."""
        if not self.controls.chords or not cells:
            return ()
        if all(self._context.tracks[cell.track].is_drum for cell in cells):
            raise ControlError("chords do not apply to drums, and only drums are to be filled; leave them out")
        first, last = min(cell.start for cell in cells), max(cell.end for cell in cells)
        bars = [bar for bar in self._context.score.bars_until(last) if bar.end > first and bar.start < last]
        return chord_spans(self.controls.chords, bars)

    def _chords_of(self, cell: GridCell) -> tuple[ChordSpan, ...]:
        return () if self._context.tracks[cell.track].is_drum else self._chords

    def _with_controls(self, cell: GridCell) -> GridCell:
        """Return the cell with its control tokens."""
        bar = bar_at(self._context.score.bars_until(cell.end), cell.start)
        values = self.controls.conditioning
        chords = self._chords_of(cell) if "chords" in values else ()
        tokens = attribute_tokens(values, cell, chords=chords, bar_start=bar.start)
        return replace(cell, controls=tokens)
