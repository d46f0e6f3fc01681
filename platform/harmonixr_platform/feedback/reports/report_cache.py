"""Reports of a store, computed once for each state of the store."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from harmonixr_platform.feedback.records.mover import MANIFESTS
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.reports.report import report
from harmonixr_platform.stores.objects import ObjectStore

_CAPACITY = 16


class ReportCache:
    """Reports of a store; thread-safe. A report includes everything that was moved to the store before the call."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._mutex = threading.Lock()
        self._reports: OrderedDict[tuple[tuple[str, ...], str | None], dict[str, Any]] = OrderedDict()

    def read(self, study: str | None = None) -> dict[str, Any]:
        """Return the report of a study, a pool or everything."""
        # Concurrent calls for the same report compute it once.
        with self._mutex:
            key = (self._store.list(MANIFESTS), study)
            if key not in self._reports:
                self._reports[key] = report(read_feedback(self._store), study=study)
            self._reports.move_to_end(key)
            while len(self._reports) > _CAPACITY:
                self._reports.popitem(last=False)
            return self._reports[key]
