"""Calls too short to be carried to another process: the caller's process answers them itself. Knows no Ray.

A call through Serve costs more than reading a window's prompt or putting a fill into its song. Only calls of small
files are answered here: a large one would keep everybody else of this process waiting, and goes where it always went.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from harmonixr_platform.serving.transport.stages import Call, LocalCall

SHORT = frozenset({("Tokenization", "window"), ("Decoding", "finish")})


class InProcessCall:
    """Answers short calls of the stages in `near`, and leaves the rest to `far`."""

    def __init__(self, far: Call, near: Mapping[str, object], *, max_midi_bytes: int) -> None:
        self._far = far
        self._near = LocalCall(near)
        self._stages = frozenset(near)
        self._max_midi_bytes = max_midi_bytes

    async def __call__(self, stage: str, method: str, *args: Any) -> Any:
        """Return what the stage's method returns."""
        # The first argument of every short call is the file.
        is_near = stage in self._stages and (stage, method) in SHORT and len(args[0]) <= self._max_midi_bytes
        call = self._near if is_near else self._far
        return await call(stage, method, *args)

    def stream(self, stage: str, method: str, *args: Any) -> AsyncIterator[Any]:
        """Give what the stage's method gives."""
        return self._far.stream(stage, method, *args)
