"""The backlog of judgments as metrics; without Redis all other metrics remain."""

import asyncio
import re
from pathlib import Path

import httpx
from prometheus_client import CollectorRegistry, generate_latest

from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.http.api import make_api
from harmonixr_platform.serving.http.metrics import BacklogGauges
from harmonixr_platform.serving.infill.service import Service
from harmonixr_platform.serving.stages.feedback import Feedback
from harmonixr_platform.serving.transport.stages import LocalCall, Stages
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.errors import StoreUnavailable
from harmonixr_platform.stores.streams import Backlog


def _read(text, name):
    return float(re.search(rf"^harmonixr:feedback_{name} (\S+)$", text, re.MULTILINE).group(1))


async def _away():
    raise StoreUnavailable("Redis does not answer")


class _Paused:
    """The Feedback stage of a service whose mover has stopped."""

    async def backlog(self):
        return Backlog(length=9, undelivered=3, pending=2, oldest_age_s=77.5)


def _scrape(feedback):
    args = ServingArgs()
    app = make_api(Service(Stages(LocalCall({"Feedback": feedback})), args), args)

    async def get():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            return await http.get("/metrics")

    return asyncio.run(get()).text


def test_lag_pending_and_oldest_age_are_read_at_each_scrape():
    text = _scrape(_Paused())
    names = ("stream_up", "stream_records", "lag_records", "pending_records", "oldest_record_age_seconds")
    assert [_read(text, name) for name in names] == [1, 9, 3, 2, 77.5]


def test_a_running_service_reads_its_redis(tmp_path):
    feedback = Feedback(ServingArgs(), settings=Settings(state_dir=tmp_path))
    try:
        text = _scrape(feedback)
    finally:
        feedback.stop()
    assert _read(text, "stream_up") == 1
    assert _read(text, "lag_records") == 0


def test_without_redis_up_is_zero_and_the_numbers_are_nan():
    registry = CollectorRegistry()
    gauges = BacklogGauges(registry)
    asyncio.run(gauges.refresh(_away))
    text = generate_latest(registry).decode()
    assert _read(text, "stream_up") == 0
    assert str(_read(text, "lag_records")) == "nan"


def test_the_operations_page_names_existing_metrics():
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    named = set(re.findall(r"harmonixr:\w+", page))
    assert len(named) >= 6
    assert named <= set(re.findall(r"harmonixr:\w+", _scrape(_Paused())))
