"""Convert MIDI bytes and scores to pretty_midi, the interchange type of other Python programs.

pretty_midi loses part of a file (aftertouch, sysex and most meta events). Parse a Song from the file's bytes where you
have them.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from harmonixr_model.errors import MidiError
from harmonixr_model.music.score import Score
from harmonixr_model.music.write import write_midi

if TYPE_CHECKING:
    from pretty_midi import PrettyMIDI


def to_pretty_midi(music: bytes | Score) -> PrettyMIDI:
    """Return a MIDI file, given as bytes or as a score, as pretty_midi reads it.

    Raises:
        MidiError: pretty_midi cannot read the file, though the lossless reader can.
    """
    from pretty_midi import PrettyMIDI

    data = write_midi(music) if isinstance(music, Score) else music
    try:
        with warnings.catch_warnings():
            # pretty_midi ignores tempo changes on later tracks and warns of them.
            warnings.simplefilter("ignore", RuntimeWarning)
            return PrettyMIDI(io.BytesIO(data))
    except Exception as error:
        # mido raises OSError, EOFError, ValueError, KeyError or IndexError for a file it cannot read.
        raise MidiError(
            f"pretty_midi cannot read this file ({type(error).__name__}: {error}); "
            "pass its score instead, which is written to a new file"
        ) from error
