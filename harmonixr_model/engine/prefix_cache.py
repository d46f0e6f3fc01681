"""What a model has read lately, so that a gap that is asked for again is not read again. Knows no queue and no model.

A prefix depends on its tokens and where they stand alone: seeds, settings and limits of a fill may differ.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from harmonixr_model.engine.runner import Prefix
from harmonixr_model.prompt.layout import InfillPrompt


class PrefixCache:
    """Prefixes of one runner, those used last, up to so many tokens. One thread at a time."""

    def __init__(self, tokens: int) -> None:
        """Keep prefixes of at most `tokens` tokens together; with 0 none is kept."""
        self._room = tokens
        self._held: OrderedDict[bytes, tuple[int, Prefix]] = OrderedDict()

    @property
    def tokens(self) -> int:
        """How many tokens are kept."""
        return sum(length for length, _ in self._held.values())

    def get(self, prompt: InfillPrompt) -> Prefix:
        """Return the prefix of a prompt, None where it is not known."""
        key = _name(prompt)
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][1]

    def put(self, prompt: InfillPrompt, prefix: Prefix) -> None:
        """Keep a prefix; those that were not used for longest go."""
        if len(prompt.prefix) > self._room:
            return
        self._held[_name(prompt)] = len(prompt.prefix), prefix
        while self.tokens > self._room:
            self._held.popitem(last=False)


def _name(prompt: InfillPrompt) -> bytes:
    digest = hashlib.sha256(prompt.prefix.tobytes())
    digest.update(prompt.coordinates.tobytes())
    return digest.digest()
