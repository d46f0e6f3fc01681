"""Show the current stage of the loop and the remaining time."""

from __future__ import annotations

import sys
from typing import Any

# Seconds of each stage on two idle cores, measured. The remaining time follows from their proportions.
STAGES = {
    "fills": 180,
    "judgments": 200,
    "reward model": 120,
    "ranking": 60,
    "best of n": 60,
    "DPO": 300,
    "best of n after DPO": 60,
    "worse model": 5,
    "pairs for the promotion gate": 150,
    "judgments for the promotion gate": 60,
    "promotion gate": 120,
    "report": 2,
}


class LoopProgress:
    """Moves a tqdm bar over the seconds of all stages."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        bar.reset(total=sum(STAGES.values()))
        bar.smoothing = 0  # the mean pace of all stages, not of the last one
        bar.bar_format = "[{elapsed}, {remaining} left] {desc}{postfix}"
        self._start = self._cost = 0
        self._is_new = False

    def begin(self, stage: str) -> None:
        """Name the stage that starts; the stages before it are done."""
        names = list(STAGES)
        self._start = sum(list(STAGES.values())[: names.index(stage)])
        self._cost = STAGES[stage]
        if not self._is_new:
            # The stage before has a result of an earlier run: its time does not count.
            self._bar.initial += self._start - self._bar.n
        self._is_new = False
        self._bar.update(self._start - self._bar.n)
        self._bar.set_postfix_str("", refresh=False)
        self._bar.set_description_str(f"{names.index(stage) + 1}/{len(names)} {stage}")

    def at(self, done: int, total: int, unit: str) -> None:
        """Show that `done` of `total` units of the stage are done."""
        self._is_new = True
        self._bar.set_postfix_str(f"{done} of {total} {unit}", refresh=False)
        self._bar.update(self._start + self._cost * done / max(1, total) - self._bar.n)

    def note(self, text: str) -> None:
        """Print a message above the bar."""
        self._is_new = True
        self._bar.write(text, file=sys.stderr)
