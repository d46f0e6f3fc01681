"""Several callers share one task; caches of tasks; the drain latch."""

import asyncio

import pytest

from harmonixr_platform.serving.errors import KeyReused, Unavailable
from harmonixr_platform.serving.http.drain_latch import DrainLatch
from harmonixr_platform.serving.infill.response_cache import ResponseCache
from harmonixr_platform.serving.infill.shared_task import SharedTask


class Work:
    """Emits three events and returns once `release` is set; counts its starts and cancellations."""

    def __init__(self):
        self.started = self.cancelled = 0
        self.release = asyncio.Event()

    async def __call__(self, emit):
        self.started += 1
        try:
            for event in "abc":
                emit(event)
                await asyncio.sleep(0)
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "result"


async def collect(task):
    return [event async for event in task.follow()]


def test_every_follower_gets_all_events_also_a_late_one():
    async def run():
        work = Work()
        task = SharedTask(work)
        early = asyncio.create_task(collect(task))
        await asyncio.sleep(0.01)
        late, waiting = asyncio.create_task(collect(task)), asyncio.create_task(task.result())
        await asyncio.sleep(0.01)
        work.release.set()
        assert await early == await late == ["a", "b", "c", "result"]
        assert await waiting == "result"
        assert await collect(task) == ["a", "b", "c", "result"]
        assert (work.started, work.cancelled) == (1, 0)

    asyncio.run(run())


def test_it_is_cancelled_when_the_last_caller_leaves_and_not_before():
    async def run():
        work = Work()
        task = SharedTask(work)
        callers = [asyncio.create_task(task.result()), asyncio.create_task(collect(task))]
        await asyncio.sleep(0.01)
        callers[0].cancel()
        await asyncio.sleep(0.01)
        assert work.cancelled == 0
        callers[1].cancel()
        await asyncio.sleep(0.01)
        assert work.cancelled == 1

    asyncio.run(run())


def test_an_abandoned_key_starts_again():
    async def run():
        cache, work = ResponseCache(4), Work()
        first = asyncio.create_task(cache.get_or_start("key", "d", lambda: SharedTask(work)).result())
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.01)
        again = cache.get_or_start("key", "d", lambda: SharedTask(work))
        work.release.set()
        assert await again.result() == "result"
        assert cache.get_or_start("key", "d", lambda: SharedTask(work)) is again
        with pytest.raises(KeyReused):
            cache.get_or_start("key", "other", lambda: SharedTask(work))
        assert (work.started, work.cancelled) == (2, 1)

    asyncio.run(run())


def test_the_cache_is_limited_in_number_and_size():
    async def run():
        cache = ResponseCache(3, max_bytes=10, size_of=len)
        for key in ("four", "fours", "a", "b"):

            async def work(emit, key=key):
                return key

            await cache.get_or_start(key, "d", lambda work=work: SharedTask(work)).result()
            await asyncio.sleep(0.01)
        assert list(cache._cached) == ["fours", "a", "b"]

        async def large(emit):
            return "much too large"

        await cache.get_or_start("large", "d", lambda: SharedTask(large)).result()
        await asyncio.sleep(0.01)
        assert not cache._cached

    asyncio.run(run())


def test_all_callers_get_an_error_and_it_is_not_cached():
    async def fail(emit):
        raise OutOfTune

    class OutOfTune(Exception):
        pass

    async def run():
        cache = ResponseCache(4)
        task = cache.get_or_start("key", "d", lambda: SharedTask(fail))
        results = await asyncio.gather(task.result(), collect(task), return_exceptions=True)
        assert [type(result) for result in results] == [OutOfTune] * 2
        assert cache.get_or_start("key", "d", lambda: SharedTask(fail)) is not task
        await asyncio.sleep(0.01)

    asyncio.run(run())


def test_a_draining_latch_refuses_requests_and_waits_for_those_in_progress():
    async def run():
        latch, finish = DrainLatch(), asyncio.Event()

        async def request():
            with latch.enter():
                await finish.wait()

        in_progress = asyncio.create_task(request())
        await asyncio.sleep(0)
        draining = asyncio.create_task(latch.drain())
        await asyncio.sleep(0.01)
        with pytest.raises(Unavailable), latch.enter():
            pass
        assert not draining.done()
        finish.set()
        await in_progress
        await draining

    asyncio.run(run())
