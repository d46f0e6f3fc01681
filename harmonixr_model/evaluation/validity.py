"""What every fill must hold, whoever made it: it keeps the grammar, and the file it goes into keeps all else.

Both must be 100 % for a model. Knows nothing of likelihoods or of how good a fill is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harmonixr_model.errors import TokenError
from harmonixr_model.evaluation.metrics import Fills, Ratio
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.evaluation.single_field import with_field_changed
from harmonixr_model.grammar.fill_grammar import check_fill
from harmonixr_model.music.region import Cell, NoteKey, Region
from harmonixr_model.music.score import Note, Score
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import splice
from harmonixr_model.music.write import write_midi
from harmonixr_model.prompt.fill_tokens import encode_fill

VALID, KEPT, PLACED = "valid fills", "fills that leave all else as it was", "notes that find room in the file"
PERCENT = (VALID, KEPT, PLACED)


def keeping(item: EvaluationItem, fill: Fills) -> dict[str, Ratio]:
    """Return the shares of PERCENT for one fill."""
    kept, placed = spliced(item, fill)
    return {VALID: Ratio(is_valid(item, fill), 1), KEPT: Ratio(kept, 1), PLACED: placed}


def is_valid(item: EvaluationItem, fill: Fills) -> bool:
    """Return whether the fill, said in tokens, keeps the grammar of its prompt."""
    try:
        check_fill(item.prompt.tables, encode_fill(item.prompt, fill)[0])
    except TokenError:
        return False
    return True


def spliced(item: EvaluationItem, fill: Fills) -> tuple[bool, Ratio]:
    """Put the fill where the answer was, in a real file, and read that file back.

    Returns whether every note outside the gap, each locked note and the tempo and metre maps are as they were, and
    which share of the fill's notes found room.
    """
    full = with_notes(item, item.original)
    song = Song.parse(write_midi(full))
    number = {track: at for at, track in enumerate(t for t, content in enumerate(full.tracks) if content.notes)}
    region = _region(item, number)
    if item.only:
        return with_field_changed(item, song, fill, number)
    by_track: dict[int, list[Note]] = {}
    for cell, notes in zip(item.prompt.cells, fill, strict=True):
        # A track that is silent but for the fill has no place in the file.
        if notes and cell.track in number:
            by_track.setdefault(number[cell.track], []).extend(notes)
    result = splice(song, region, by_track)
    after = Song.parse(result.midi)
    kept = _outside(song, region, song.chunks) == _outside(after, region, song.chunks)
    kept = kept and song.score.tempos == after.score.tempos
    kept = kept and song.score.time_signatures == after.score.time_signatures
    asked = sum(map(len, by_track.values()))
    return kept, Ratio(asked - result.dropped, asked)


def with_notes(item: EvaluationItem, fill: Fills) -> Score:
    """Return the context with these notes in the gap."""
    score = item.context.score
    added: dict[int, list[Note]] = {}
    for cell, notes in zip(item.prompt.cells, fill, strict=True):
        added.setdefault(cell.track, []).extend(notes)
    tracks = list(score.tracks)
    for track, notes in added.items():
        tracks[track] = replace(tracks[track], notes=tuple(sorted((*tracks[track].notes, *notes))))
    return replace(score, tracks=tuple(tracks))


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
    """Return the notes that are not the fill's, by the chunk they are in; `chunks` says which track each chunk is."""
    outside: dict[int, list[Note]] = {}
    for chunk, track in zip(song.chunks, song.score.tracks, strict=True):
        number = chunks.index(chunk)
        notes = [note for note in track.notes if not region.contains(number, note)]
        if notes:
            outside[chunk] = sorted(notes)
    return outside
