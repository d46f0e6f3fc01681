"""Everything that can be wrong with what a user hands the library.

HarmonixrError
├── MidiError          the bytes are not a MIDI file we can read, or exceed a limit
├── RegionError        the region lies outside the song, or names a track that does not exist
├── ControlError       what is asked for contradicts itself or is out of range
├── PromptError        the region and its context do not fit the model
├── TokenError         tokens or token text that break the vocabulary, the layout or the grammar
├── CheckpointError    the weights cannot be read, or were made for another vocabulary
└── CorpusError        a corpus on disk is missing, damaged or of another version
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
