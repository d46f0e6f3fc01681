"""One answer, made once for everybody who waits for it, and for nobody else."""

import asyncio

import pytest

from harmonixr_platform.serving.errors import KeyReused, Unavailable
from harmonixr_platform.serving.http.drain_latch import DrainLatch
from harmonixr_platform.serving.infill.response_cache import ResponseCache
from harmonixr_platform.serving.infill.shared_task import SharedTask


class Work:
    """Tells three events, then answers when it is let; counts how often it was begun and cancelled."""

    def __init__(self):
        self.begun = self.cancelled = 0
        self.let = asyncio.Event()

    async def __call__(self, tell):
        self.begun += 1
        try:
            for event in "abc":
                tell(event)
                await asyncio.sleep(0)
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "answer"


async def collect(making):
    return [event async for event in making.follow()]


def test_all_who_follow_hear_everything_even_those_who_come_late():
    async def run():
        work = Work()
        making = SharedTask(work)
        early = asyncio.create_task(collect(making))
        await asyncio.sleep(0.01)
        late, waiting = asyncio.create_task(collect(making)), asyncio.create_task(making.answer())
        await asyncio.sleep(0.01)
        work.let.set()
        assert await early == await late == ["a", "b", "c", "answer"]
        assert await waiting == "answer"
        assert await collect(making) == ["a", "b", "c", "answer"]
        assert (work.begun, work.cancelled) == (1, 0)

    asyncio.run(run())


def test_it_ends_when_the_last_who_waits_leaves_and_not_before():
    async def run():
        work = Work()
        making = SharedTask(work)
        tasks = [asyncio.create_task(making.answer()), asyncio.create_task(collect(making))]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        await asyncio.sleep(0.01)
        assert work.cancelled == 0
        tasks[1].cancel()
        await asyncio.sleep(0.01)
        assert work.cancelled == 1

    asyncio.run(run())


def test_a_key_whose_making_was_given_up_begins_anew():
    async def run():
        memory, work = ResponseCache(4), Work()
        first = asyncio.create_task(memory.get_or_begin("key", "d", lambda: SharedTask(work)).answer())
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.01)
        again = memory.get_or_begin("key", "d", lambda: SharedTask(work))
        work.let.set()
        assert await again.answer() == "answer"
        assert memory.get_or_begin("key", "d", lambda: SharedTask(work)) is again
        with pytest.raises(KeyReused):
            memory.get_or_begin("key", "other", lambda: SharedTask(work))
        assert (work.begun, work.cancelled) == (2, 1)

    asyncio.run(run())


def test_only_so_much_is_remembered():
    async def run():
        memory = ResponseCache(3, max_weight=10, weigh=len)
        made = {}
        for key in ("four", "fours", "a", "b"):

            async def make(tell, key=key):
                return key

            made[key] = memory.get_or_begin(key, "d", lambda make=make: SharedTask(make))
            await made[key].answer()
            await asyncio.sleep(0.01)
        assert list(memory._held) == ["fours", "a", "b"]

        async def make(tell):
            return "much too heavy"

        await memory.get_or_begin("heavy", "d", lambda: SharedTask(make)).answer()
        await asyncio.sleep(0.01)
        assert not memory._held

    asyncio.run(run())


def test_failures_are_told_to_all_and_not_remembered():
    async def fail(tell):
        raise OutOfTune

    class OutOfTune(Exception):
        pass

    async def run():
        memory = ResponseCache(4)
        making = memory.get_or_begin("key", "d", lambda: SharedTask(fail))
        answers = await asyncio.gather(making.answer(), collect(making), return_exceptions=True)
        assert [type(answer) for answer in answers] == [OutOfTune] * 2
        assert memory.get_or_begin("key", "d", lambda: SharedTask(fail)) is not making
        await asyncio.sleep(0.01)

    asyncio.run(run())


def test_a_door_that_closes_lets_nobody_in_and_waits_for_those_inside():
    async def run():
        door, left = DrainLatch(), asyncio.Event()

        async def stay():
            with door.enter():
                await left.wait()

        inside = asyncio.create_task(stay())
        await asyncio.sleep(0)
        draining = asyncio.create_task(door.drain())
        await asyncio.sleep(0.01)
        with pytest.raises(Unavailable), door.enter():
            pass
        assert not draining.done()
        left.set()
        await inside
        await draining

    asyncio.run(run())
