"""Cross over to pretty_midi, the type other Python programs speak, and back. Knows nothing of regions or fills.

pretty_midi keeps less than a file holds (aftertouch, sysex and most meta events go), so bytes are the lossless path:
give a Song the file's bytes where they are at hand.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from harmonixr_model.errors import MidiError
from harmonixr_model.music.score import Score
from harmonixr_model.music.song import Song
from harmonixr_model.music.write import write_midi

if TYPE_CHECKING:
    from pretty_midi import PrettyMIDI


def from_pretty_midi(pretty: PrettyMIDI) -> Song:
    """Return the song that `pretty` writes; its instruments become tracks in their order."""
    buffer = io.BytesIO()
    pretty.write(buffer)
    return Song.parse(buffer.getvalue())


def to_pretty_midi(music: bytes | Score) -> PrettyMIDI:
    """Return a file's bytes, or a score, as pretty_midi reads it.

    Raises:
        MidiError: pretty_midi cannot read the file, though the lossless reader can.
    """
    from pretty_midi import PrettyMIDI

    data = write_midi(music) if isinstance(music, Score) else music
    try:
        with warnings.catch_warnings():
            # It warns of tempo changes on later tracks, which it then ignores; the score above keeps them.
            warnings.simplefilter("ignore", RuntimeWarning)
            return PrettyMIDI(io.BytesIO(data))
    except Exception as error:
        # mido raises OSError, EOFError, ValueError, KeyError and IndexError for what it cannot read.
        raise MidiError(
            f"pretty_midi cannot read this file ({type(error).__name__}: {error}); "
            "pass its score instead, which is written anew"
        ) from error
