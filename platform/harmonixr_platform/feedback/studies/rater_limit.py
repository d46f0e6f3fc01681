"""A rate limit for each rater: a token bucket in Redis, shared by all replicas."""

from __future__ import annotations

import math
from datetime import datetime
from importlib.resources import files
from typing import Literal

from harmonixr_platform.feedback.errors import TooMany
from harmonixr_platform.stores.streams import RecordStream

Kind = Literal["comparison", "judgment"]


class RaterLimit:
    """One token bucket for each rater and kind of request."""

    def __init__(self, stream: RecordStream, *, per_minute: int) -> None:
        self._stream = stream
        self._per_minute = per_minute
        self._script = files("harmonixr_platform.feedback.studies").joinpath("rater_limit.lua").read_text()

    def spend(self, kind: Kind, rater: str, *, now: datetime) -> None:
        """Count one request; raise TooMany, with the time to wait, if the limit is reached."""
        if not self._per_minute:
            return
        key = f"{self._stream.name}:limit:{kind}:{rater}"
        now_ms = str(round(now.timestamp() * 1000))
        (wait_ms,) = self._stream.run_script(self._script, [key], [str(self._per_minute), now_ms])
        if wait_ms == "0":
            return
        wait_s = max(1, math.ceil(int(wait_ms) / 1000))
        error = TooMany(f"one listener may send {self._per_minute} of these requests a minute; try again in {wait_s} s")
        error.retry_after_s = wait_s
        raise error
