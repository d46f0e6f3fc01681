"""How often one rater may ask and answer: a person listens, a flood does not. Knows no HTTP."""

from __future__ import annotations

import math
from datetime import datetime
from importlib.resources import files
from typing import Literal

from harmonixr_platform.feedback.errors import TooMany
from harmonixr_platform.stores.streams import RecordStream

Kind = Literal["comparison", "judgment"]


class RaterLimit:
    """A bucket a rater and kind of request, kept beside the stream so that every replica sees the same one."""

    def __init__(self, stream: RecordStream, *, per_minute: int) -> None:
        self._stream = stream
        self._per_minute = per_minute
        self._script = files("harmonixr_platform.feedback.studies").joinpath("rater_limit.lua").read_text()

    def spend(self, kind: Kind, rater: str, *, now: datetime) -> None:
        """Count one request; raise TooMany, which says when to come back, once a minute's worth was used up."""
        if not self._per_minute:
            return
        key = f"{self._stream.name}:limit:{kind}:{rater}"
        now_ms = str(round(now.timestamp() * 1000))
        (wait_ms,) = self._stream.run_script(self._script, [key], [str(self._per_minute), now_ms])
        if wait_ms == "0":
            return
        wait_s = max(1, math.ceil(int(wait_ms) / 1000))
        error = TooMany(f"one listener may send {self._per_minute} of these a minute; try again in {wait_s} s")
        error.retry_after_s = wait_s
        raise error
