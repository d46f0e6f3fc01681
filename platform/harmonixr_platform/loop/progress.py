"""Where the loop stands and how long it will still take. Knows no stage's inside."""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds of each stage on two idle cores, measured; only their proportions matter once some are done.
STAGES = {
    "fills": 180,
    "judging": 200,
    "reward": 120,
    "ranking": 60,
    "best of n": 60,
    "DPO": 300,
    "after DPO": 60,
    "a worse model": 5,
    "the gate's pairs": 150,
    "the gate's judging": 60,
    "the gate": 120,
    "report": 2,
}
_MIN_PAUSE_S = 2.0
_QUICKEST = 0.5


class LoopProgress:
    """Says a line where something changed, with the time left; within a stage at most one in a few seconds."""

    def __init__(self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._started = self._stage_started = clock()
        self._names = list(STAGES)
        self._stage = 0
        self._share = 0.0
        # Time really spent and time expected for it, of the stages that were done and not found done.
        self._spent = self._expected = 0.0
        self._last_said = float("-inf")

    def begin(self, stage: str) -> None:
        """Name the stage that begins; the one before is done."""
        self._finish()
        self._stage, self._share, self._stage_started = self._names.index(stage), 0.0, self._clock()
        self._line("", force=True)

    def at(self, done: int, total: int, what: str) -> None:
        """Say how far the stage is."""
        self._share = done / max(1, total)
        self._line(f" {done} of {total} {what}", force=done == total)

    def note(self, text: str) -> None:
        """Say something that happened."""
        self._line(f" {text}", force=True)

    def seconds_left(self) -> float:
        """Return the time left, by how the stages so far compare with what was measured."""
        costs = list(STAGES.values())
        took = self._clock() - self._stage_started
        spent, expected = self._spent + took, self._expected + costs[self._stage] * self._share
        # What an earlier run had begun goes quicker than what is to come.
        pace = max(_QUICKEST, (spent + 60) / (expected + 60))
        return pace * (costs[self._stage] * (1 - self._share) + sum(costs[self._stage + 1 :]))

    def _finish(self) -> None:
        took = self._clock() - self._stage_started
        if took > 1:
            self._spent += took
            self._expected += list(STAGES.values())[self._stage]

    def _line(self, text: str, *, force: bool) -> None:
        now = self._clock()
        if not force and now - self._last_said < _MIN_PAUSE_S:
            return
        self._last_said = now
        self._say(
            f"[{now - self._started:5.0f} s, about {max(1, round(self.seconds_left() / 60))} min left] "
            f"{self._stage + 1}/{len(self._names)} {self._names[self._stage]}{':' if text else ''}{text}"
        )
