"""The report as a service gives it: worked out once for each state of the store. Knows no HTTP."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from harmonixr_platform.feedback.records.mover import MANIFESTS
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.reports.report import report
from harmonixr_platform.stores.objects import ObjectStore

_KEPT = 16


class LiveReport:
    """Reports of a store; safe to ask from several threads. What was moved since is seen at the next asking."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._mutex = threading.Lock()
        self._kept: OrderedDict[tuple[tuple[str, ...], str | None], dict[str, Any]] = OrderedDict()

    def read(self, study: str | None = None) -> dict[str, Any]:
        """Return the report of a study, a pool or everything."""
        # One at a time: whoever asks for the same meanwhile finds it made.
        with self._mutex:
            key = (self._store.list(MANIFESTS), study)
            if key not in self._kept:
                self._kept[key] = report(read_feedback(self._store), study=study)
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]
