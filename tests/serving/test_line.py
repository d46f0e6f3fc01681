"""The line past Serve: it answers as the stage does, gives up what is given up, and what it loses goes the old way."""

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from harmonixr_model.errors import EngineBusy
from harmonixr_platform.serving.transport import line as lines
from harmonixr_platform.serving.transport.line import LineCall, LineServer

METHODS = frozenset({"double", "count", "wait", "fail", "fail_oddly"})


class Stage:
    def __init__(self):
        self.cancelled = 0
        self.waiting = asyncio.Event()

    async def double(self, number):
        await asyncio.sleep(0.001 * (number % 3))
        return 2 * number

    async def count(self, most):
        for i in range(most):
            yield i
            await asyncio.sleep(0)
        if most == 3:
            raise EngineBusy("three is too many")

    async def wait(self):
        self.waiting.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def fail(self):
        raise EngineBusy("full")

    async def fail_oddly(self):
        error = ValueError("odd")
        error.held = lambda: None  # what no pickle takes
        raise error

    async def secret(self):
        raise AssertionError("this is no method of the line")


class Far:
    """What is called where there is no line; it knows the address of one."""

    def __init__(self, server):
        self.server = server
        self.asked = []

    async def __call__(self, stage, method, *args):
        self.asked.append(method)
        if method == "line":
            return None if self.server is None else await self.server.address()
        return "far"

    async def stream(self, stage, method, *args):
        self.asked.append(method)
        for item in ("far", "away"):
            yield item


@asynccontextmanager
async def open_line():
    stage = Stage()
    server = LineServer(stage, METHODS)
    far = Far(server)
    try:
        yield stage, server, far, LineCall(far, "Model", METHODS)
    finally:
        server.close()
        await asyncio.sleep(0.01)


def test_many_calls_at_once_get_each_its_own_answer():
    async def main():
        async with open_line() as (_, _, far, call):
            assert await asyncio.gather(*(call("Model", "double", i) for i in range(100))) == list(range(0, 200, 2))
            assert [item async for item in call.stream("Model", "count", 5)] == [0, 1, 2, 3, 4]
            assert far.asked == ["line"]

    asyncio.run(main())


def test_a_frame_of_megabytes_arrives_whole():
    class Echo:
        async def double(self, data):
            return data

    async def main():
        server = LineServer(Echo(), METHODS)
        data = os.urandom(5 << 20)
        assert await LineCall(Far(server), "Model", METHODS)("Model", "double", data) == data
        server.close()

    asyncio.run(main())


def test_errors_arrive_as_they_are_and_those_that_cannot_as_their_text():
    async def main():
        async with open_line() as (_, _, far, call):
            with pytest.raises(EngineBusy, match="full"):
                await call("Model", "fail")
            with pytest.raises(RuntimeError, match="ValueError: odd"):
                await call("Model", "fail_oddly")
            stream = call.stream("Model", "count", 3)
            assert [await anext(stream) for _ in range(3)] == [0, 1, 2]
            with pytest.raises(EngineBusy, match="three"):
                await anext(stream)
            assert far.asked == ["line"]

    asyncio.run(main())


def test_only_the_methods_it_was_opened_for_are_called():
    async def main():
        async with open_line() as (_, _, far, call):
            assert await call("Model", "secret") == "far"
            assert await call("Decoding", "double", 1) == "far"
            assert far.asked == ["secret", "double"]
            wide = LineCall(far, "Model", frozenset({"secret"}))
            with pytest.raises(AttributeError, match="secret"):
                await wide("Model", "secret")

    asyncio.run(main())


def test_a_call_that_is_given_up_is_cancelled_at_the_stage():
    async def main():
        async with open_line() as (stage, _, _, call):
            task = asyncio.create_task(call("Model", "wait"))
            await stage.waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(5):
                while not stage.cancelled:
                    await asyncio.sleep(0.001)
            assert await call("Model", "double", 4) == 8

    asyncio.run(main())


def test_what_a_lost_line_leaves_unanswered_is_asked_the_old_way_and_a_new_line_is_found():
    async def main():
        async with open_line() as (stage, server, far, call):
            task = asyncio.create_task(call("Model", "wait"))
            stream = call.stream("Model", "count", 10**9)
            assert await anext(stream) == 0
            await stage.waiting.wait()
            far.server = LineServer(Stage(), METHODS)
            server.close()
            assert await task == "far"
            # All of it again: whoever listens knows what it has heard.
            assert "away" in [item async for item in stream]
            assert stage.cancelled == 1
            assert await call("Model", "double", 4) == 8
            assert far.asked.count("line") == 2
            far.server.close()

    asyncio.run(main())


def test_where_there_is_no_line_it_is_not_asked_for_at_every_call(monkeypatch):
    async def main():
        far = Far(None)
        call = LineCall(far, "Model", METHODS)
        assert [await call("Model", "double", 1) for _ in range(3)] == ["far"] * 3
        assert [item async for item in call.stream("Model", "count", 1)] == ["far", "away"]
        assert far.asked.count("line") == 1
        server = far.server = LineServer(Stage(), METHODS)
        monkeypatch.setattr(lines, "_PAUSE_S", 0)
        call = LineCall(far, "Model", METHODS)
        far.server = None
        assert await call("Model", "double", 1) == "far"
        far.server = server
        assert await call("Model", "double", 1) == 2
        server.close()

    asyncio.run(main())


def test_a_stage_on_another_machine_or_out_of_reach_is_asked_the_old_way():
    class Elsewhere(Far):
        async def __call__(self, stage, method, *args):
            if method == "line" and self.server == "unreachable":
                raise ConnectionError("the stage is being restarted")
            return "/nowhere/line" if method == "line" else "far"

    async def main():
        assert await LineCall(Elsewhere("remote"), "Model", METHODS)("Model", "double", 1) == "far"
        assert await LineCall(Elsewhere("unreachable"), "Model", METHODS)("Model", "double", 1) == "far"

    asyncio.run(main())


def test_nobody_else_may_enter_and_nothing_is_left_behind():
    async def main():
        server = LineServer(Stage(), METHODS)
        address = Path(await server.address())
        assert await server.address() == str(address)
        assert stat.S_IMODE(address.parent.stat().st_mode) == 0o700
        server.close()
        assert not address.parent.exists()
        LineServer(Stage(), METHODS).close()

    asyncio.run(main())


def test_folders_of_processes_that_are_gone_are_removed_and_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    gone, mine, odd = (
        tmp_path / f"harmonixr-line-{name}" for name in (f"{int(ended.stdout)}-a", f"{os.getpid()}-b", "what-c")
    )
    for folder in (gone, mine, odd):
        folder.mkdir()

    async def main():
        server = LineServer(Stage(), METHODS)
        await server.address()
        server.close()

    asyncio.run(main())
    assert (gone.exists(), mine.exists(), odd.exists()) == (False, True, True)
