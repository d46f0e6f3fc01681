"""Short calls of small files, made in the caller's own process instead of through Serve (decision 0007)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from harmonixr_platform.serving.transport.stages import Call, LocalCall

# Their first argument is the MIDI file.
SHORT_CALLS = frozenset({("Tokenization", "window"), ("Decoding", "finish")})


class InProcessCall:
    """Makes short calls to the stages in `local`, on a thread, and passes all others to `remote`.

    A file of more than `max_midi_bytes` goes to `remote`, since it would delay all other requests of this process.
    """

    def __init__(self, remote: Call, local: Mapping[str, object], *, max_midi_bytes: int) -> None:
        self._remote = remote
        self._local = LocalCall(local)
        self._stages = frozenset(local)
        self._max_midi_bytes = max_midi_bytes

    async def __call__(self, stage: str, method: str, *args: Any) -> Any:
        """Return the method's result."""
        is_short = stage in self._stages and (stage, method) in SHORT_CALLS and len(args[0]) <= self._max_midi_bytes
        return await (self._local if is_short else self._remote)(stage, method, *args)

    def stream(self, stage: str, method: str, *args: Any) -> AsyncIterator[Any]:
        """Yield the method's items."""
        return self._remote.stream(stage, method, *args)
