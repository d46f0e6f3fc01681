"""A line from an ingress straight to the Model stage of the same machine: a Unix socket in a folder of our own.

Through Serve a call passes some ten threads of two processes, 5 to 7 ms on a small machine; over the line it takes one.
Whatever the line cannot do goes the old way: it is broken, the stage is elsewhere, or has several replicas among which
Serve must choose. A frame is its length in four bytes and a pickle, which is what Ray's calls are made of, too. Knows
neither Ray nor what is said.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import os
import pickle
import shutil
import struct
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from harmonixr_platform.serving.transport.stages import Call

_log = logging.getLogger("ray.serve")
_LENGTH = struct.Struct(">I")
_BUFFER = 1 << 20
_PREFIX = "harmonixr-line-"
# After a line could not be had, calls go the old way for so long before one is asked for again.
_PAUSE_S = 2.0
# What a frame of the server is to the call whose number it carries; the last is the client's own word for a lost line.
_ITEM, _VALUE, _ERROR, _END, _BROKEN = range(5)
_Heard: TypeAlias = "asyncio.Queue[tuple[int, Any]]"


class LineBroken(Exception):
    """The other end is gone; what was asked may be asked again another way."""


class LineServer:
    """Answers calls of some of an object's methods, any number at once."""

    def __init__(self, target: object, methods: frozenset[str]) -> None:
        self._target = target
        self._methods = methods
        self._opening = asyncio.Lock()
        self._folder: Path | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def address(self) -> str:
        """Return where it listens, which only this user may enter; it begins to when first asked."""
        async with self._opening:
            if self._folder is None:
                _sweep()
                folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
                self._server = await asyncio.start_unix_server(self._serve, folder / "line", limit=_BUFFER)
                self._folder = folder
            return str(self._folder / "line")

    def close(self) -> None:
        """Hang up. Whoever waits for an answer asks elsewhere."""
        if self._server is None or self._folder is None:
            return
        with suppress(RuntimeError):  # the event loop has ended, and the connections with it
            self._server.get_loop().call_soon_threadsafe(self._hang_up)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _hang_up(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running: dict[int, asyncio.Task[None]] = {}
        self._open.add(writer)
        try:
            while True:
                number, *said = await _read(reader)
                if not said:  # given up
                    if number in running:
                        running[number].cancel()
                    continue
                running[number] = task = asyncio.create_task(self._answer(writer, number, *said))
                task.add_done_callback(partial(_forget, running, number))
        except (EOFError, OSError):
            pass
        finally:
            self._open.discard(writer)
            for task in list(running.values()):
                task.cancel()
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, number: int, method: str, args: tuple[Any, ...]) -> None:
        try:
            if method not in self._methods:
                raise AttributeError(f"the line carries no {method}")
            found = getattr(self._target, method)
            if inspect.isasyncgenfunction(found):
                async with aclosing(found(*args)) as items:
                    async for item in items:
                        _write(writer, (number, _ITEM, item))
                        await writer.drain()
                _write(writer, (number, _END, None))
            else:
                _write(writer, (number, _VALUE, await found(*args)))
        except Exception as error:
            _write(writer, (number, _ERROR, _portable(error)))


class LineCall:
    """Carries some calls of one stage over its line, and all others by `far`, as it does these where there is no line.

    The stage's method `line` returns the address, or None.
    """

    def __init__(self, far: Call, stage: str, methods: frozenset[str]) -> None:
        self._far = far
        self._stage = stage
        self._methods = methods
        self._line: _Line | None = None
        self._opening: asyncio.Task[None] | None = None
        self._not_before = float("-inf")

    async def __call__(self, stage: str, method: str, *args: Any) -> Any:
        """Return what the stage's method returns."""
        line = await self._line_for(stage, method)
        if line is not None:
            with suppress(LineBroken):
                return await line.call(method, args)
        return await self._far(stage, method, *args)

    async def stream(self, stage: str, method: str, *args: Any) -> AsyncGenerator[Any]:
        """Give what the stage's method gives; when the line breaks, all of it again from elsewhere."""
        line = await self._line_for(stage, method)
        if line is not None:
            with suppress(LineBroken):
                async with aclosing(line.stream(method, args)) as items:
                    async for item in items:
                        yield item
                return
        async with aclosing(self._far.stream(stage, method, *args)) as items:  # type: ignore[type-var]
            async for item in items:
                yield item

    async def _line_for(self, stage: str, method: str) -> _Line | None:
        if stage != self._stage or method not in self._methods:
            return None
        if self._line is None or self._line.is_broken:
            if self._opening is None:
                if time.monotonic() < self._not_before:
                    return None
                self._opening = asyncio.ensure_future(self._open())
            await asyncio.shield(self._opening)
        return self._line

    async def _open(self) -> None:
        try:
            address = await self._far(self._stage, "line")
            is_here = bool(address) and await asyncio.to_thread(os.path.exists, address)
            self._line = await _Line.open(address) if is_here else None
        except Exception as error:
            _log.warning("no line to the %s stage, its calls go through Serve: %s", self._stage, error)
            self._line = None
        finally:
            self._opening = None
        if self._line is None:
            self._not_before = time.monotonic() + _PAUSE_S


class _Line:
    """One open connection, shared by any number of calls."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.is_broken = False
        self._reader = reader
        self._writer = writer
        self._heard: dict[int, _Heard] = {}
        self._numbers = itertools.count()
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def open(cls, address: str) -> _Line:
        return cls(*await asyncio.open_unix_connection(address, limit=_BUFFER))

    async def call(self, method: str, args: tuple[Any, ...]) -> Any:
        with self._ask(method, args) as heard:
            kind, value = await heard.get()
            if kind == _VALUE:
                return value
            raise value

    async def stream(self, method: str, args: tuple[Any, ...]) -> AsyncGenerator[Any]:
        with self._ask(method, args) as heard:
            while True:
                kind, value = await heard.get()
                if kind == _END:
                    return
                if kind != _ITEM:
                    raise value
                yield value

    @contextmanager
    def _ask(self, method: str, args: tuple[Any, ...]) -> Iterator[_Heard]:
        if self.is_broken:
            raise LineBroken
        number, heard = next(self._numbers), asyncio.Queue[tuple[int, Any]]()
        self._heard[number] = heard
        try:
            _write(self._writer, (number, method, args))
            yield heard
        finally:
            # Answered calls are forgotten already: this one was given up.
            if self._heard.pop(number, None) is not None:
                _write(self._writer, (number,))

    async def _listen(self) -> None:
        try:
            while True:
                number, kind, value = await _read(self._reader)
                heard = self._heard.get(number) if kind == _ITEM else self._heard.pop(number, None)
                if heard is not None:
                    heard.put_nowait((kind, value))
        except (EOFError, OSError):
            pass
        finally:
            self.is_broken = True
            for heard in self._heard.values():
                heard.put_nowait((_BROKEN, LineBroken()))
            self._heard.clear()
            self._writer.close()


def _sweep() -> None:
    """Remove the folders of processes that ended without a word: Ray kills replicas when it stops."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        if not owner.isdecimal():
            continue
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            # What is another user's stays: it cannot be removed.
            shutil.rmtree(folder, ignore_errors=True)
        except (OSError, OverflowError):
            continue


def _forget(running: dict[int, asyncio.Task[None]], number: int, task: asyncio.Task[None]) -> None:
    if running.get(number) is task:
        del running[number]


async def _read(reader: asyncio.StreamReader) -> tuple[Any, ...]:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    frame: tuple[Any, ...] = pickle.loads(await reader.readexactly(length))
    return frame


def _write(writer: asyncio.StreamWriter, frame: tuple[Any, ...]) -> None:
    packed = pickle.dumps(frame, pickle.HIGHEST_PROTOCOL)
    if not writer.is_closing():
        writer.write(_LENGTH.pack(len(packed)) + packed)


def _portable(error: Exception) -> Exception:
    """Return the error, or its text where it cannot be carried to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
