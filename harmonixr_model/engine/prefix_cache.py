"""Cache the prefixes that a model has read, so that a repeated request skips the prefill.

A prefix depends on its tokens and their coordinates alone: requests with other seeds, sampling or constraints share it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from harmonixr_model.engine.runner import Prefix
from harmonixr_model.prompt.layout import InfillPrompt


class PrefixCache:
    """The least recently used cache of one runner's prefixes. Use it from one thread."""

    def __init__(self, max_tokens: int) -> None:
        """Hold prefixes of at most `max_tokens` tokens together; 0 holds none."""
        self._max_tokens = max_tokens
        self._held: OrderedDict[bytes, tuple[int, Prefix]] = OrderedDict()

    @property
    def tokens(self) -> int:
        """How many tokens the cache holds."""
        return sum(length for length, _ in self._held.values())

    def get(self, prompt: InfillPrompt) -> Prefix:
        """Return the prefix of a prompt; None where it is not held."""
        key = _digest(prompt)
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][1]

    def put(self, prompt: InfillPrompt, prefix: Prefix) -> None:
        """Hold a prefix, and drop the least recently used ones that no longer fit."""
        if len(prompt.prefix) > self._max_tokens:
            return
        self._held[_digest(prompt)] = len(prompt.prefix), prefix
        while self.tokens > self._max_tokens:
            self._held.popitem(last=False)


def _digest(prompt: InfillPrompt) -> bytes:
    digest = hashlib.sha256(prompt.prefix.tobytes())
    digest.update(prompt.coordinates.tobytes())
    return digest.digest()
