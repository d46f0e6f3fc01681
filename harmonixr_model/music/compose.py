"""Compose small songs by rule: melody, chords, bass and drums in a repeating form.

`compose` returns a Score, `compose_song` a MIDI file that also holds events a fill must not change: controllers, pitch
bends, markers, lyrics. The same seed gives the same music on any machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import TypeVar

from harmonixr_model.music.estimate import ChordSpan
from harmonixr_model.music.harmony import Chord, Key, chord_of, scale_of
from harmonixr_model.music.score import Note, Score, Tempo, TimeSignature, Track
from harmonixr_model.music.song import DRUM_CHANNEL
from harmonixr_model.music.write import Chunk, smf_bytes, track_chunk

TPQ = 480
_SIXTEENTH = TPQ // 4
_FORMS = "AABA", "AABA", "ABAB", "AABB", "ABAC"
_METRES = (4, 4), (4, 4), (4, 4), (3, 4), (6, 8)
_PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 0), (5, 3, 0, 4), (0, 2, 3, 4), (1, 4, 0, 5)),
    "minor": ((0, 5, 2, 6), (0, 3, 4, 0), (0, 6, 5, 4), (0, 3, 6, 2), (5, 6, 0, 0), (0, 5, 3, 4)),
}
# Rhythms of one beat in sixteenths; negative is a rest. Triplet eighths are 4/3 of a sixteenth.
_QUARTER_CELLS = ((4,), (4,), (2, 2), (2, 2), (3, 1), (2, 1, 1), (1, 2, 1), (1, 3), (-2, 2), (4 / 3, 4 / 3, 4 / 3))
_DOTTED_CELLS = ((6,), (4, 2), (4, 2), (2, 2, 2), (3, 1, 2), (-2, 4), (2, 4))
_MELODY_PROGRAMS = 0, 24, 40, 56, 65, 68, 73, 80
_CHORD_PROGRAMS = 0, 4, 16, 24, 25, 48
_BASS_PROGRAMS = 32, 33, 34, 38
_SYLLABLES = "la", "dee", "oh", "morn", "ing", "light", "a", "way", "we", "go"

_Change = TypeVar("_Change", Tempo, TimeSignature)
# (start, chord) of each bar of a section.
_Harmony = list[tuple[int, Chord]]

KICK, SNARE, CLOSED_HAT, OPEN_HAT, CRASH, RIDE = 36, 38, 42, 46, 49, 51
_TOMS = 50, 48, 45, 43


@dataclass(frozen=True, slots=True)
class _Section:
    """One section of the form: `bars` bars from tick `start` on."""

    letter: str
    start: int
    bars: int
    key: Key
    metre: tuple[int, int]
    us_per_quarter: int
    loudness: int
    is_last: bool

    @property
    def bar_ticks(self) -> int:
        return self.metre[0] * 4 * TPQ // self.metre[1]

    @property
    def beat_ticks(self) -> int:
        """The length of a felt beat: a dotted quarter in 6/8."""
        return TPQ * 3 // 2 if self.metre[1] == 8 else TPQ

    @property
    def end(self) -> int:
        return self.start + self.bars * self.bar_ticks

    @property
    def bar_starts(self) -> range:
        return range(self.start, self.end, self.bar_ticks)

    def is_closing(self, bar_start: int) -> bool:
        """Whether the bar that starts there is the song's last."""
        return self.is_last and bar_start == self.end - self.bar_ticks


def compose(seed: int, *, bars: int = 32) -> Score:
    """Compose a song of exactly `bars` bars: tracks Melody, Chords, Bass and Drums, 480 ticks a quarter."""
    if bars < 1:
        raise ValueError(f"cannot compose {bars} bars; give at least 1")
    return _score(seed, _plan(seed, bars))


def compose_song(seed: int, *, bars: int = 32) -> bytes:
    """Compose a format-1 MIDI file: `compose(seed, bars=bars)` with the events of a performance.

    It holds tempo changes, metres, a key signature, markers, lyrics, track names, sustain and expression controllers
    and pitch bends.
    """
    sections = _plan(seed, bars)
    score = _score(seed, sections)
    rng = Random(f"{seed} performance")
    chunks = [_conductor(seed, sections, score)]
    for track in score.tracks:
        chunks.append(track_chunk(track, volume=rng.randint(84, 112), pan=rng.choice((40, 52, 64, 76, 88))))
    _perform_melody(rng, chunks[1], score.tracks[0])
    _pedal(chunks[2], score.tracks[1].channel, sections)
    return smf_bytes(chunks, TPQ)


@dataclass(frozen=True, slots=True)
class ComposedHarmony:
    """The harmony of a composed song, in ticks: its chords, and (start, end, key) of its sections."""

    chords: tuple[ChordSpan, ...]
    keys: tuple[tuple[int, int, Key], ...]


def composed_harmony(seed: int, *, bars: int = 32) -> ComposedHarmony:
    """Return the harmony of `compose` with the same arguments: the true labels for estimates from the notes."""
    sections = _plan(seed, bars)
    chords = [
        ChordSpan(start, start + section.bar_ticks, chord)
        for section in sections
        for start, chord in _harmony(seed, section)
    ]
    return ComposedHarmony(tuple(chords), tuple((section.start, section.end, section.key) for section in sections))


def _plan(seed: int, bars: int) -> tuple[_Section, ...]:
    rng = Random(f"{seed} plan")
    home = Key(rng.randrange(12), rng.choice(("major", "major", "minor")))
    metre = rng.choice(_METRES)
    away_metre = rng.choice(_METRES) if rng.random() < 0.4 else metre
    away = rng.choice((home, home.relative, home.moved(5), home.moved(7)))
    form, lift, pace = rng.choice(_FORMS), rng.choice((0, 0, 0, 1, 2)), rng.randint(72, 148)
    length = 8 if bars >= 16 else 4
    sections: list[_Section] = []
    start = done = 0
    while done < bars:
        letter = form[len(sections) % len(form)]
        count = min(length, bars - done)
        last = done + count == bars
        is_away = letter != "A"
        key = away if is_away else home.moved(lift if last and len(sections) >= 3 else 0)
        tempo = round(60e6 / (pace + (rng.randint(-6, 10) if is_away else 0)))
        loudness = 6 * is_away + rng.randint(-6, 6)
        section = _Section(letter, start, count, key, away_metre if is_away else metre, tempo, loudness, last)
        sections.append(section)
        start, done = section.end, done + count
    return tuple(sections)


def _score(seed: int, sections: tuple[_Section, ...]) -> Score:
    players, touch = Random(f"{seed} players"), Random(f"{seed} touch")
    harmonies = [_harmony(seed, section) for section in sections]
    tracks = []
    for name, part, programs, channel in (
        ("Melody", _melody, _MELODY_PROGRAMS, 0),
        ("Chords", _accompaniment, _CHORD_PROGRAMS, 1),
        ("Bass", _bass, _BASS_PROGRAMS, 2),
        ("Drums", _drums, (0,), DRUM_CHANNEL),
    ):
        notes: list[Note] = []
        for section, harmony in zip(sections, harmonies, strict=True):
            # One generator for each letter and part: every A has the same notes, with other velocities.
            notes += part(Random(f"{seed} {section.letter} {name.lower()}"), section, harmony)
        program, is_drum = players.choice(programs), channel == DRUM_CHANNEL
        tracks.append(Track(_finish(notes, touch), program, is_drum, name, channel))
    metres = _without_repeats([TimeSignature(section.start, *section.metre) for section in sections])
    return Score(TPQ, tuple(tracks), _tempos(sections), tuple(metres))


def _harmony(seed: int, section: _Section) -> _Harmony:
    """Return (start, chord) of each bar, in phrases of four bars; the last section ends on its tonic."""
    rng, progressions = Random(f"{seed} {section.letter} harmony"), _PROGRESSIONS[section.key.mode]
    first, second = rng.choice(progressions), rng.choice(progressions)
    degrees = [(first, first, second, first)[bar // 4 % 4][bar % 4] for bar in range(section.bars)]
    if section.is_last:
        degrees[-1] = 0
    chords = (chord_of(section.key, degree, seventh=degree in (1, 4)) for degree in degrees)
    return list(zip(section.bar_starts, chords, strict=True))


def _rhythm(rng: Random, section: _Section) -> list[tuple[int, int]]:
    """Return (offset, duration) of one bar's notes in ticks; some notes are tied over a beat."""
    cells = _DOTTED_CELLS if section.metre[1] == 8 else _QUARTER_CELLS
    steps = [step for _ in range(section.bar_ticks // section.beat_ticks) for step in rng.choice(cells)]
    notes: list[tuple[int, int]] = []
    at = 0
    for step in steps:
        ticks = round(abs(step) * _SIXTEENTH)
        on_beat = at % section.beat_ticks == 0
        if step > 0 and notes and on_beat and sum(notes[-1]) == at and rng.random() < 0.25:
            notes[-1] = notes[-1][0], notes[-1][1] + ticks
        elif step > 0:
            notes.append((at, ticks))
        at += ticks
    return notes or [(0, section.bar_ticks)]


def _melody(rng: Random, section: _Section, harmony: _Harmony) -> Iterator[Note]:
    """Yield a melody: chord tones on beats, steps between, rhythms in the pattern a b a c."""
    motifs = [_rhythm(rng, section) for _ in range(3)]
    ladder = [p for p in range(58, 85) if p % 12 in scale_of(section.key)]
    here = len(ladder) // 2
    for bar, (start, chord) in enumerate(harmony):
        rhythm = [(0, section.bar_ticks)] if section.is_closing(start) else motifs[(0, 1, 0, 2)[bar % 4]]
        for offset, duration in rhythm:
            here = min(len(ladder) - 1, max(0, here + rng.choice((-2, -1, -1, 0, 1, 1, 2))))
            pitch = ladder[here]
            if offset % section.beat_ticks == 0:
                pitch = chord.nearest(pitch)
                here = min(range(len(ladder)), key=lambda i: abs(ladder[i] - pitch))
            sounding = max(_SIXTEENTH // 2, round(duration * 0.92))
            yield Note(start + offset, sounding, pitch, _accent(section, offset, 84))


def _accompaniment(rng: Random, section: _Section, harmony: _Harmony) -> Iterator[Note]:
    pattern = rng.choice(("block", "off-beat", "arpeggio", "pulse"))
    beat = section.beat_ticks
    for start, chord in harmony:
        voicing = chord.voicing(55)
        if section.is_closing(start) or pattern == "block":
            hits = [(0, section.bar_ticks, voicing)]
        elif pattern == "pulse":
            hits = [(at, beat * 3 // 4, voicing) for at in range(0, section.bar_ticks, beat)]
        elif pattern == "off-beat":
            hits = [(at + beat // 2, beat // 2, voicing) for at in range(0, section.bar_ticks - beat // 2, beat)]
        else:
            eighths = range(0, section.bar_ticks, TPQ // 2)
            order = (*voicing, *voicing[-2:0:-1])
            hits = [(at, TPQ // 2, (order[i % len(order)],)) for i, at in enumerate(eighths)]
        for offset, duration, pitches in hits:
            yield from (Note(start + offset, duration, p, _accent(section, offset, 66)) for p in pitches)


def _bass(rng: Random, section: _Section, harmony: _Harmony) -> Iterator[Note]:
    walks, anticipates = rng.random() < 0.5, rng.random() < 0.4
    beat = section.beat_ticks
    for start, chord in harmony:
        root = chord.low(36)
        if section.is_closing(start):
            yield Note(start, section.bar_ticks, root, 84 + section.loudness)
            continue
        last = section.bar_ticks - beat
        steps = [root, chord.low(36, 2), root + 12, chord.low(36, 1)] if walks else [root, root, chord.low(36, 2), root]
        for index, offset in enumerate(range(0, section.bar_ticks, beat)):
            # The last beat may sound half a beat early, as in much popular music, and cut the one before.
            early = beat // 2 if anticipates and offset == last else 0
            length = beat // 2 - 20 if anticipates and offset == last - beat else beat * 9 // 10
            pitch = steps[index % len(steps)]
            yield Note(start + offset - early, length, pitch, _accent(section, offset, 84))


def _drums(rng: Random, section: _Section, _: _Harmony) -> Iterator[Note]:
    cymbal, extra_kick = rng.choice((CLOSED_HAT, CLOSED_HAT, RIDE)), rng.choice((3, 5, 6, 7))

    def hit(at: int, pitch: int, velocity: int) -> Note:
        return Note(at, _SIXTEENTH, pitch, velocity + section.loudness)

    for start in section.bar_starts:
        if section.is_closing(start):
            yield hit(start, CRASH, 104)
            yield hit(start, KICK, 100)
            continue
        if start == section.start > 0:
            yield hit(start, CRASH, 102)
        end = start + section.bar_ticks
        fill = end - 2 * TPQ if end == section.end else end
        for at in range(start, fill, TPQ // 2):
            yield hit(at, OPEN_HAT if at + TPQ // 2 == fill else cymbal, 74 if (at - start) % TPQ else 84)
        for index, at in enumerate(range(start, fill, section.beat_ticks)):
            yield hit(at, SNARE if index % 2 else KICK, 96)
        if start + extra_kick * TPQ // 2 < fill:
            yield hit(start + extra_kick * TPQ // 2, KICK, 82)
        for index, at in enumerate(range(fill, end, _SIXTEENTH)):
            yield hit(at, (SNARE, *_TOMS)[min(4, index * 5 // 8)], 78 + 4 * index)


def _accent(section: _Section, offset: int, base: int) -> int:
    stress = 10 if offset == 0 else 5 if offset % section.beat_ticks == 0 else 0
    return base + stress + section.loudness


def _finish(notes: list[Note], touch: Random) -> tuple[Note, ...]:
    """Return the notes sorted, with varied velocities, each cut at the next note of its pitch."""
    played: dict[tuple[int, int], Note] = {}
    upcoming: dict[int, int] = {}
    for note in sorted(notes, key=lambda n: (-n.onset, n.pitch)):
        if (note.onset, note.pitch) in played:
            continue
        end = min(note.end, upcoming.get(note.pitch, note.end))
        velocity = min(127, max(1, note.velocity + touch.randint(-5, 5)))
        played[note.onset, note.pitch] = Note(note.onset, end - note.onset, note.pitch, velocity)
        upcoming[note.pitch] = note.onset
    return tuple(note for _, note in sorted(played.items()))


def _tempos(sections: tuple[_Section, ...]) -> tuple[Tempo, ...]:
    tempos = _without_repeats([Tempo(section.start, section.us_per_quarter) for section in sections])
    last = sections[-1]
    if last.bars > 1:
        # A ritardando over the last two bars.
        steps = range(last.end - 2 * last.bar_ticks, last.end, last.beat_ticks)
        slower = [Tempo(tick, round(last.us_per_quarter * (1 + 0.06 * i))) for i, tick in enumerate(steps, 1)]
        tempos = [t for t in tempos if t.tick < steps.start] + slower
    return tuple(tempos)


def _without_repeats(changes: list[_Change]) -> list[_Change]:
    """Return the changes of tempo or metre that differ from the one before."""
    return changes[:1] + [change for before, change in pairwise(changes) if change[1:] != before[1:]]


def _conductor(seed: int, sections: tuple[_Section, ...], score: Score) -> Chunk:
    chunk = Chunk(f"Song {seed}")
    chunk.timeline(score)
    for section in sections:
        chunk.key_signature(section.start, section.key.sharps, is_minor=section.key.mode == "minor")
        chunk.text(section.start, "marker", section.letter)
    return chunk


def _perform_melody(rng: Random, chunk: Chunk, track: Track) -> None:
    for index, note in enumerate(track.notes):
        chunk.text(note.onset, "lyric", _SYLLABLES[index % len(_SYLLABLES)])
        if note.duration >= TPQ:
            for step in range(4):
                chunk.control(note.onset + step * note.duration // 4, track.channel, 11, 84 + 12 * step)
        if note is track.notes[-1] or (note.duration >= TPQ and rng.random() < 0.5):
            # A bend up to the note within a sixteenth.
            for step, bend in enumerate((-2048, -1024, -400, 0)):
                chunk.bend(note.onset + step * _SIXTEENTH // 4, track.channel, bend)


def _pedal(chunk: Chunk, channel: int, sections: tuple[_Section, ...]) -> None:
    for section in sections:
        for start in section.bar_starts:
            chunk.control(start + 10, channel, 64, 127)
            chunk.control(start + section.bar_ticks - 30, channel, 64, 0)
