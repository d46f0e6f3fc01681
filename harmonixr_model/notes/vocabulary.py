"""The vocabulary: all tokens, laid out in blocks.

Some blocks are reserved for later use, so that checkpoints stay readable. Each checkpoint stores the hash of all names,
which is checked when it is loaded.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from harmonixr_model.errors import TokenError

SPECIALS = (
    *("PAD", "BOS", "EOS", "SEP", "MASK", "FILL", "END", "REF", "HOLD", "BAR", "FROM", "UNTIL", "LOW", "HIGH"),
    *("HIDDEN_PITCH", "HIDDEN_VEL", "HIDDEN_DUR", "HIDDEN_ONSET", "RANGE_LOW", "RANGE_HIGH", "VEL_LOW", "VEL_HIGH"),
    *("LOCK", "GRACE", "PSEUDO_BAR", "TEXT", "UNKNOWN", "SECTION"),
)
NUMERATORS = range(1, 25)
DENOMINATORS = (1, 2, 4, 8, 16, 32)
PITCH_CLASSES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
CHORD_QUALITIES = ("maj", "min", "dim", "aug", "sus2", "sus4", "7", "maj7", "min7", "hdim7", "dim7", "5")
MAX_TRACKS = 32
MAX_BAR_STEPS = 288  # 12 quarters of 24 steps: music.score.MAX_BAR_QUARTERS
# Every step up to two quarters, then coarser: sixths, thirds, halves and wholes of a quarter, then whole bars.
DURATIONS: tuple[int, ...] = (
    *range(1, 49),
    *range(52, 97, 4),
    *range(104, 193, 8),
    *range(204, 385, 12),
    *range(408, 769, 24),
    *(864, 960, 1056, 1152, 1344, 1536),
)
MAX_DURATION: int = DURATIONS[-1]
# Append only: the index of a style or composer gives its token, which checkpoints depend on.
STYLES: tuple[str, ...] = (
    *("pop", "lied", "game", "classical", "folk", "chorale"),
    *("rock", "funk", "jazz", "latin", "hiphop", "soul", "afrobeat", "afrocuban", "country", "dance", "gospel"),
    *("highlife", "middleeastern", "neworleans", "punk", "reggae", "blues"),
)
COMPOSERS: tuple[str, ...] = (
    *("Schumann", "Lang", "Holmes", "Brahms", "Kinkel", "Reichardt", "Schubert", "Chaminade", "Cornelius", "Franz"),
    *("Hensel", "Faisst", "Schroter", "Lehmann", "Bizet", "Warlock", "Wolf", "Boulanger", "Debussy", "Faure"),
    *("Munktell", "Bridge", "Gonzaga", "Jaell", "Viardot", "Beethoven", "Chausson", "Haydn", "Parratt", "Satie"),
    *("Arne", "Beach", "Kralik", "Mendelssohn", "Paradis", "Somervell", "Zumsteeg", "Bach", "Chopin", "Handel"),
    *("Liszt", "Mozart", "Hummel", "Byrd", "Bartok", "Rachmaninoff", "Sullivan", "Tchaikovsky", "Scriabin", "Ravel"),
    *("Grieg", "Albeniz", "Stravinsky", "Corelli", "Scarlatti", "Vivaldi", "Shostakovich", "Verdi"),
)
VELOCITY_BINS = 32
TEMPO_BINS = 32
SLOWEST_QUARTERS_PER_MINUTE = 30.0
TEMPO_BINS_PER_OCTAVE = 9  # 30 to 327 quarters a minute; 120 falls on the middle of a bin


@dataclass(frozen=True, slots=True)
class Block:
    """The ids [start, start + size) of tokens of one kind; `block[i]` is the id of its i-th token."""

    start: int
    size: int

    @property
    def stop(self) -> int:
        """The id after the block."""
        return self.start + self.size

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.size:
            raise IndexError(f"the block has {self.size} tokens, not a token {index}")
        return self.start + index

    def __contains__(self, token: int) -> bool:
        return self.start <= token < self.start + self.size

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def index(self, token: int) -> int:
        """Return which token of the block `token` is, counted from 0."""
        if token not in self:
            raise TokenError(f"token {token} is not within {self.start}-{self.stop - 1}")
        return token - self.start


def velocity_of(bin_index: int) -> int:
    """Return the MIDI velocity that represents a velocity bin: the third value of its four."""
    return 4 * bin_index + 2


def velocity_bin(velocity: int) -> int:
    """Return the bin of a MIDI velocity, 1-127."""
    return velocity // 4


def tempo_of(bin_index: int) -> int:
    """Return the microseconds a quarter that represent a tempo bin; bins are evenly spaced on a log scale."""
    return round(60e6 / (SLOWEST_QUARTERS_PER_MINUTE * math.exp2(bin_index / TEMPO_BINS_PER_OCTAVE)))


_TEMPOS = tuple(tempo_of(b) for b in range(TEMPO_BINS))
# The edge between two bins is their geometric mean.
_TEMPO_EDGES = tuple(-((slower * faster) ** 0.5) for slower, faster in pairwise(_TEMPOS))


def tempo_bin(us_per_quarter: int) -> int:
    """Return the nearest tempo bin; tempos past the ends take the outermost bin."""
    return bisect_right(_TEMPO_EDGES, -us_per_quarter)


_DURATION_EDGES = tuple((shorter + longer) / 2 for shorter, longer in pairwise(DURATIONS))


def duration_bin(steps: int) -> int:
    """Return the nearest duration bin, half way going up as with onsets; longer durations take the longest."""
    return bisect_right(_DURATION_EDGES, steps)


def duration_floor(steps: int) -> int:
    """Return the longest duration of the vocabulary that is not longer than `steps` (at least 1)."""
    return DURATIONS[bisect_right(DURATIONS, steps) - 1]


class Vocabulary:
    """All tokens: blocks as attributes, ids by name, names by id. Immutable; `VOCAB` is the only one.

    The order of the blocks and of the names in them gives the ids, which checkpoints depend on.
    """

    def __init__(self) -> None:
        names: list[str] = []

        def block(*block_names: str) -> Block:
            names.extend(block_names)
            return Block(len(names) - len(block_names), len(block_names))

        def numbered(name: str, count: int) -> Block:
            return block(*(f"{name}_{i}" for i in range(count)))

        self.special = block(*SPECIALS)
        self.time_signature = block(*(f"TS_{n}/{d}" for n in NUMERATORS for d in DENOMINATORS))
        self.tempo = numbered("TEMPO", TEMPO_BINS)
        self.key = block(*(f"KEY_{c}_{m}" for m in ("major", "minor") for c in PITCH_CLASSES), "KEY_none")
        self.style = numbered("STYLE", 32)
        self.composer = numbered("COMPOSER", 64)
        self.chord = block(*(f"CHORD_{c}_{q}" for c in PITCH_CLASSES for q in CHORD_QUALITIES), "CHORD_none")
        self.track = numbered("TRACK", MAX_TRACKS)
        self.program = block(*(f"PROG_{i}" for i in range(128)), "DRUMS")
        self.bar_index = numbered("BARIDX", 128)
        self.position = numbered("POS", MAX_BAR_STEPS + 1)
        self.pitch = numbered("PITCH", 128)
        self.duration = block(*(f"DUR_{d}" for d in DURATIONS))
        self.velocity = block(*(f"VEL_{velocity_of(b)}" for b in range(VELOCITY_BINS)))
        # Reserved: offsets from the grid (docs/decisions/0011-micro.md).
        self.micro = block(*(f"MICRO_{i:+d}" for i in range(-12, 13)))
        self.density = numbered("DENSITY", 16)
        self.polyphony = numbered("POLYPHONY", 16)
        self.velocity_range = numbered("VELRANGE", 16)
        self.scale = numbered("SCALE", 64)
        self.tag = numbered("TAG", 64)
        self.match = numbered("MATCH", 8)
        self.spare = numbered("SPARE", 56)
        self.drums = self.program.stop - 1  # replaces a program
        self.names = tuple(names)
        self.size = len(names)
        self.hash = hashlib.sha256("\n".join(names).encode()).hexdigest()
        self._ids = {name: i for i, name in enumerate(names)}

    def name(self, token: int) -> str:
        """Return the name of a token id."""
        if not 0 <= token < self.size:
            raise TokenError(f"there is no token {token}; ids run from 0 to {self.size - 1}")
        return self.names[token]

    def id(self, name: str) -> int:
        """Return the id of a token name."""
        try:
            return self._ids[name]
        except KeyError:
            raise TokenError(f"there is no token named {name!r}; names look like BAR, TS_4/4 or PITCH_60") from None


VOCAB = Vocabulary()
