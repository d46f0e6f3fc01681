"""The Feedback stage: comparisons and judgments, and the mover that copies them to the object store."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.feedback.reports.report_cache import ReportCache
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.schemas import (
    ComparisonRequest,
    ComparisonView,
    ErasureReceipt,
    ErasureRequest,
    JudgmentReceipt,
    JudgmentRequest,
    Pair,
    RetractionReceipt,
    RetractionRequest,
)
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.transport.messages import Excerpt
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store
from harmonixr_platform.stores.streams import Backlog

_log = logging.getLogger("ray.serve")


class Feedback:
    """FeedbackService on the stores that the environment names, off the event loop."""

    def __init__(self, args: ServingArgs, *, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self._service = FeedbackService.open(settings)
        self._live = ReportCache(open_object_store(settings))
        self._mover = Mover.open(settings)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._mover.run_forever,
            args=(self._stop,),
            kwargs={"interval_s": args.mover_interval_s},
            name="mover",
            daemon=True,
        )
        self._thread.start()

    async def admit(self, rater_key: str) -> None:
        """Count a request for two fills of the rater's own gap; raises TooMany."""
        await asyncio.to_thread(self._service.admit, rater_key)

    async def compare(self, request: ComparisonRequest, own: Pair | None) -> ComparisonView:
        """Present a pair of the pool, or `own`."""
        return await asyncio.to_thread(self._service.create_comparison, request, own=own)

    async def judge(self, request: JudgmentRequest) -> JudgmentReceipt:
        """Record a judgment; it is on disk when this returns."""
        return await asyncio.to_thread(self._service.record_judgment, request)

    async def retract(self, request: RetractionRequest) -> RetractionReceipt:
        """Retract a judgment; the retraction is on disk when this returns."""
        duplicate = await asyncio.to_thread(self._service.retract, request.judgment_id, rater_key=request.rater_key)
        return RetractionReceipt(judgment_id=request.judgment_id, retracted=True, duplicate=duplicate)

    async def erase(self, request: ErasureRequest) -> ErasureReceipt:
        """Erase a rater; the request is on disk when this returns."""
        await asyncio.to_thread(self._service.erase, request.rater_key)
        return ErasureReceipt(accepted=True)

    async def excerpt(self, token: str) -> Excerpt:
        """Return the excerpt that an audio token names."""
        source = await asyncio.to_thread(self._service.audio, token)
        return Excerpt(source.midi, source.start_s, source.end_s, source.beside)

    async def backlog(self) -> Backlog:
        """Return how many judgments wait to be moved to the object store."""
        return await asyncio.to_thread(self._service.backlog)

    async def leaderboard(self, study: str | None = None) -> dict[str, Any]:
        """Return the models ranked by their judgments, in one study or pool or in all."""
        return await asyncio.to_thread(self._live.read, study)

    def stop(self) -> None:
        """End the mover and close the stores."""
        self._stop.set()
        self._thread.join(timeout=10)
        self._mover.close()
        self._service.close()

    def __del__(self) -> None:
        # Serve calls this when it stops a replica.
        self.stop()
