"""A whole score as one sequence of tokens, and back.

    BOS TEMPO  TRACK_0 PROG_0  TRACK_1 DRUMS …
    BAR TS_4/4 [UNTIL POS]  [POS TEMPO]*  TRACK_0 POS PITCH DUR VEL …  TRACK_1 …
    BAR …
    EOS

UNTIL POS gives the length of a bar that a change of metre shortens. POS TEMPO is a change of tempo. A silent track has
no tokens in a bar.
`decode(encode(x)) == plain(quantize(x))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from harmonixr_model.errors import TokenError
from harmonixr_model.music.score import Bar, Note, Score, Tempo, TimeSignature, Track
from harmonixr_model.notes.encoded_score import EncodedScore, decode_notes, metre_tokens
from harmonixr_model.notes.grid import GRID, bar_steps, plain, quantize
from harmonixr_model.notes.vocabulary import DENOMINATORS, MAX_TRACKS, VOCAB, tempo_bin, tempo_of

BOS, EOS, BAR, UNTIL = (VOCAB.id(name) for name in ("BOS", "EOS", "BAR", "UNTIL"))


def encode(score: Score) -> list[int]:
    """Return the tokens of a score in any resolution. Raises TokenError where it has more tracks than tokens name."""
    if len(score.tracks) > MAX_TRACKS:
        raise TokenError(f"the score has {len(score.tracks)} tracks, tokens name {MAX_TRACKS}; merge or leave out some")
    grid = EncodedScore(quantize(score))
    first, *changes = grid.score.tempos
    tokens = [BOS, tempo_token(first)]
    for slot, track in enumerate(grid.tracks):
        tokens += (VOCAB.track.start + slot, sound_token(track))
    ticks = [tempo.tick for tempo in grid.score.tempos] + [metre.tick for metre in grid.score.time_signatures]
    end = max(grid.end, max(ticks) + 1)
    for bar in grid.score.bars_until(end):
        tokens += metre_tokens(bar)
        while changes and changes[0].tick < bar.end:
            change = changes.pop(0)
            tokens += (VOCAB.position[change.tick - bar.start], tempo_token(change))
        for slot in range(len(grid.tracks)):
            if run := grid.run(slot, bar):
                tokens.append(VOCAB.track.start + slot)
                tokens += run
    return [*tokens, EOS]


def decode(tokens: Sequence[int]) -> Score:
    """Return the grid score of the tokens. Raises TokenError, with the place, where they are not one."""
    ids = list(tokens)
    if not ids or ids[0] != BOS or ids[-1] != EOS:
        raise TokenError("a score begins with BOS and closes with EOS")
    starts = [i for i, token in enumerate(ids) if token == BAR]
    if not starts:
        raise TokenError("the score has no BAR")
    pace, sounds = _decode_header(ids[1 : starts[0]])
    notes: list[list[Note]] = [[] for _ in sounds]
    tempos, metres = [Tempo(0, pace)], list[TimeSignature]()
    here, was_cut = 0, True
    for number, (start, stop) in enumerate(pairwise([*starts, len(ids) - 1]), start=1):
        try:
            bar, body = _decode_metre(ids[start:stop], here, number)
            if was_cut or metres[-1][1:] != (bar.numerator, bar.denominator):
                metres.append(TimeSignature(here, bar.numerator, bar.denominator))
            _decode_bar(body, bar, tempos, notes)
        except TokenError as error:
            raise TokenError(f"bar {number}: {error}") from None
        here, was_cut = bar.end, bar.end - bar.start != bar_steps(bar.numerator, bar.denominator)
    tracks = tuple(
        Track(notes=tuple(sorted(found, key=lambda n: (n.onset, n.pitch))), program=program, is_drum=is_drum)
        for found, (program, is_drum) in zip(notes, sounds, strict=True)
    )
    return plain(Score(GRID, tracks, tuple(tempos), tuple(metres)))


def tempo_token(tempo: Tempo) -> int:
    """Return the token of a tempo."""
    return VOCAB.tempo[tempo_bin(tempo.us_per_quarter)]


def sound_token(track: Track) -> int:
    """Return the token of a track's program, or DRUMS."""
    return VOCAB.drums if track.is_drum else VOCAB.program[track.program]


def _decode_header(tokens: Sequence[int]) -> tuple[int, list[tuple[int, bool]]]:
    """Return the first tempo and each track's (program, is_drum)."""
    if len(tokens) % 2 == 0 or tokens[0] not in VOCAB.tempo:
        raise TokenError("the header is BOS TEMPO, then TRACK and PROG or DRUMS for each track")
    sounds: list[tuple[int, bool]] = []
    for track, sound in zip(tokens[1::2], tokens[2::2], strict=True):
        if track != VOCAB.track.start + len(sounds) or sound not in VOCAB.program:
            raise TokenError(
                f"the header has {VOCAB.name(track)} {VOCAB.name(sound)} where TRACK_{len(sounds)} and PROG or "
                "DRUMS belong"
            )
        is_drum = sound == VOCAB.drums
        sounds.append((0 if is_drum else VOCAB.program.index(sound), is_drum))
    return tempo_of(VOCAB.tempo.index(tokens[0])), sounds


def _decode_metre(tokens: Sequence[int], here: int, number: int) -> tuple[Bar, Sequence[int]]:
    """Return the bar that BAR TS [UNTIL POS] opens at step `here`, and the tokens after that."""
    if len(tokens) < 2 or tokens[1] not in VOCAB.time_signature:
        raise TokenError("BAR is followed by its metre, such as TS_4/4")
    numerator, place = divmod(VOCAB.time_signature.index(tokens[1]), len(DENOMINATORS))
    metre = numerator + 1, DENOMINATORS[place]
    length, body = bar_steps(*metre), tokens[2:]
    if body and body[0] == UNTIL:
        if len(body) < 2 or not VOCAB.position.start < body[1] < VOCAB.position.start + length:
            raise TokenError(f"UNTIL is followed by the bar's length, POS_1 to POS_{length - 1}")
        length, body = VOCAB.position.index(body[1]), body[2:]
    return Bar(number - 1, here, here + length, *metre), body


def _decode_bar(tokens: Sequence[int], bar: Bar, tempos: list[Tempo], notes: list[list[Note]]) -> None:
    """Append a bar's changes of tempo to `tempos` and its notes to the tracks of `notes`."""
    at = 0
    while at < len(tokens) and tokens[at] not in VOCAB.track:
        pair = tokens[at : at + 2]
        if len(pair) < 2 or pair[0] not in VOCAB.position or pair[1] not in VOCAB.tempo:
            raise TokenError(f"{VOCAB.name(tokens[at])} occurs where TRACK, or POS and TEMPO, belong")
        tempos.append(Tempo(bar.start + VOCAB.position.index(pair[0]), tempo_of(VOCAB.tempo.index(pair[1]))))
        at += 2
    starts = [i for i in range(at, len(tokens)) if tokens[i] in VOCAB.track]
    for start, stop in pairwise([*starts, len(tokens)]):
        track = VOCAB.track.index(tokens[start])
        if track >= len(notes):
            raise TokenError(f"TRACK_{track} is not in the header, which names {len(notes)} tracks")
        found = decode_notes(tokens[start + 1 : stop], bar.start)
        if any(note.onset >= bar.end for note in found):
            raise TokenError(f"TRACK_{track} has a note past the bar's end, POS_{bar.end - bar.start}")
        notes[track] += found
