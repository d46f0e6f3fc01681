"""Fill the gap in a piece of MIDI: music, tokens, models and decoding. Knows nothing of Ray, Redis, S3 or HTTP."""

__version__ = "0.1.0"
