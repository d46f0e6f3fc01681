"""The library's errors, each of which a caller can act on.

HarmonixrError
├── MidiError          the bytes are not a readable MIDI file, or exceed a limit
├── RegionError        the region lies outside the song, or names a track that does not exist
├── ControlError       a control or constraint is out of range, or contradicts another
├── PromptError        the region and its context do not fit the model
├── TokenError         tokens or token text break the vocabulary, the layout or the grammar
├── CheckpointError    the weights cannot be read, or belong to another vocabulary
├── CorpusError        a corpus on disk is missing, damaged or of another version
├── EngineBusy         the engine's queue is full, or the engine is closing
├── DeadlinePassed     a fill was not ready before its deadline
└── FillCancelled      a fill was cancelled before it was ready
"""


class HarmonixrError(ValueError):
    """A user's mistake: the message says what is wrong, where, and what would work."""


class MidiError(HarmonixrError):
    """The bytes are not a readable MIDI file, or exceed a limit."""


class RegionError(HarmonixrError):
    """The region lies outside the song, or names a track that does not exist."""


class ControlError(HarmonixrError):
    """A control or constraint is out of range, or contradicts another."""


class PromptError(HarmonixrError):
    """The region and its context do not fit the model."""


class TokenError(HarmonixrError):
    """Tokens or token text break the vocabulary, the layout or the grammar."""


class CheckpointError(HarmonixrError):
    """The weights cannot be read, or belong to another vocabulary."""


class CorpusError(HarmonixrError):
    """A corpus on disk is missing, damaged or of another version."""


class EngineBusy(HarmonixrError):
    """The engine's queue is full, or the engine is closing; try again later."""


class DeadlinePassed(HarmonixrError):
    """A fill was not ready before its deadline."""


class FillCancelled(HarmonixrError):
    """A fill was cancelled before it was ready."""
