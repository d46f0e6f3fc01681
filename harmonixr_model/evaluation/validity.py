"""Checks that every fill must pass: it satisfies the grammar, and its file preserves the context."""

from __future__ import annotations

from collections.abc import Sequence

from harmonixr_model.errors import TokenError
from harmonixr_model.evaluation.metrics import Fills, Ratio, notes_by_track
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.evaluation.single_field import field_round_trip
from harmonixr_model.grammar.fill_grammar import check_fill
from harmonixr_model.music.region import Cell, NoteKey, Region
from harmonixr_model.music.score import Note, Score
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import splice
from harmonixr_model.music.write import write_midi
from harmonixr_model.prompt.fill_tokens import encode_fill

VALID, PRESERVED, PLACED = PERCENT = ("valid fills", "context preserved", "notes placed")


def validity_measures(item: EvaluationItem, fill: Fills) -> dict[str, Ratio]:
    """Return VALID, PRESERVED and PLACED of one fill."""
    preserved, placed = round_trip(item, fill)
    return {VALID: Ratio(is_valid(item, fill), 1), PRESERVED: Ratio(preserved, 1), PLACED: placed}


def is_valid(item: EvaluationItem, fill: Fills) -> bool:
    """Return whether the tokens of the fill satisfy the grammar of its prompt."""
    try:
        check_fill(item.prompt.tables, encode_fill(item.prompt, fill)[0])
    except TokenError:
        return False
    return True


def round_trip(item: EvaluationItem, fill: Fills) -> tuple[bool, Ratio]:
    """Write the piece as a file, replace the original by the fill, and read the file back.

    Returns whether every note outside the gap, each locked note, the tempos and the time signatures are unchanged, and
    the share of the fill's notes that fit into the file.
    """
    full = with_notes(item, item.original)
    song = Song.parse(write_midi(full))
    number = {track: at for at, track in enumerate(t for t, content in enumerate(full.tracks) if content.notes)}
    if item.field:
        return field_round_trip(item, song, fill, number)
    region = _region(item, number)
    # The file has no chunk for a track that is silent except for the fill.
    added = {
        number[track]: notes
        for track, notes in notes_by_track(item.prompt.cells, fill).items()
        if notes and track in number
    }
    result = splice(song, region, added)
    after = Song.parse(result.midi)
    preserved = (
        _outside(song, region, song.chunks) == _outside(after, region, song.chunks)
        and song.score.tempos == after.score.tempos
        and song.score.time_signatures == after.score.time_signatures
    )
    count = sum(map(len, added.values()))
    return preserved, Ratio(count - result.dropped, count)


def with_notes(item: EvaluationItem, fill: Fills) -> Score:
    """Return the context with these notes in the gap."""
    score = item.context.score
    added = notes_by_track(item.prompt.cells, fill)
    return score.replace_notes({track: (*score.tracks[track].notes, *notes) for track, notes in added.items()})


def _region(item: EvaluationItem, number: dict[int, int]) -> Region:
    cells = [cell for cell in item.prompt.cells if cell.track in number]
    locks = {
        NoteKey(number[cell.track], note.onset, note.pitch) for cell in cells for note in item.context.hidden(cell)
    }
    return Region(
        tuple(Cell(number[cell.track], cell.start, cell.end) for cell in cells),
        pitch_low=min((cell.low for cell in cells), default=0),
        pitch_high=max((cell.high for cell in cells), default=127),
        locks=frozenset(locks),
    )


def _outside(song: Song, region: Region, chunks: Sequence[int]) -> dict[int, list[Note]]:
    """Return the notes outside the region by chunk; `chunks` has the chunk of each of the region's tracks."""
    outside: dict[int, list[Note]] = {}
    for chunk, track in zip(song.chunks, song.score.tracks, strict=True):
        number = chunks.index(chunk)
        notes = [note for note in track.notes if not region.contains(number, note)]
        if notes:
            outside[chunk] = sorted(notes)
    return outside
