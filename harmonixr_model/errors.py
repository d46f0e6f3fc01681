"""Everything that can be wrong with what a user hands the library.

HarmonixrError
├── MidiError          the bytes are not a MIDI file we can read, or exceed a limit
├── RegionError        the region lies outside the song, or names a track that does not exist
├── ControlError       what is asked for contradicts itself or is out of range
├── PromptError        the region and its context do not fit the model
├── TokenError         tokens or token text that break the vocabulary, the layout or the grammar
├── CheckpointError    the weights cannot be read, or were made for another vocabulary
├── CorpusError        a corpus on disk is missing, damaged or of another version
├── EngineBusy         more waits to be decoded than the engine takes, or it is closing
├── DeadlinePassed     a fill was not ready in the time it was given
└── FillCancelled      a fill was given up before it was ready
"""


class HarmonixrError(ValueError):
    """A user's mistake: the message says what is wrong, where, and what would work."""


class MidiError(HarmonixrError):
    """The bytes are not a MIDI file that can be read, or exceed a limit."""


class RegionError(HarmonixrError):
    """The region lies outside the song or names a track that does not exist."""


class ControlError(HarmonixrError):
    """What is asked for contradicts itself or is out of range."""


class PromptError(HarmonixrError):
    """The region and its context do not fit the model."""


class TokenError(HarmonixrError):
    """Tokens or token text break the vocabulary, the layout or the grammar."""


class CheckpointError(HarmonixrError):
    """The weights cannot be read, or were made for another vocabulary."""


class CorpusError(HarmonixrError):
    """A corpus on disk is missing, damaged or of another version."""


class EngineBusy(HarmonixrError):
    """More waits to be decoded than the engine takes, or it is closing: ask again later."""


class DeadlinePassed(HarmonixrError):
    """A fill was not ready in the time it was given."""


class FillCancelled(HarmonixrError):
    """A fill was given up before it was ready."""
