"""The engine of a service: one owner of the model, and requests that join and leave its batch between two steps.

First come, first served, within a budget of tokens that the cache may hold and bounds per owner. A long prefix is read
a layer at a time, so that running rows wait for a layer at most. Knows nothing of MIDI, HTTP or Ray.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from harmonixr_model.engine.batch import DecodeBatch, check_fits
from harmonixr_model.engine.engine import GeneratedFill, Job, Sampling
from harmonixr_model.engine.prefix_cache import PrefixCache
from harmonixr_model.engine.request import CandidateFinished, CellFinished, Failed, Finished, RequestHandle
from harmonixr_model.engine.row import Row
from harmonixr_model.engine.runner import Prefix
from harmonixr_model.engine.selection import open_batch
from harmonixr_model.errors import DeadlinePassed, EngineBusy, FillCancelled
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.prompt.layout import InfillPrompt

_log = logging.getLogger(__name__)
# While no prompt is being read and nobody follows what is said, a batch may draw so many tokens of each row at a time.
UNWATCHED_STEPS = 4


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What the engine takes. Tokens are counted as what a prompt and its fills may hold at most.

    Attributes:
        rows: candidates decoded at once; a guided one counts as two.
        tokens: tokens that the cache may hold, at least one model length.
        waiting_tokens: tokens of requests that wait; one more request is refused with EngineBusy.
        owner_rows: candidates of one owner decoded at once.
        owner_waiting_tokens: tokens of one owner's requests that wait.
        kept_tokens: tokens of prompts read lately that are kept beside, for whoever asks the same again.

    """

    rows: int = 32
    tokens: int = 1 << 16
    waiting_tokens: int = 1 << 18
    owner_rows: int = 16
    owner_waiting_tokens: int = 1 << 17
    kept_tokens: int = 1 << 14


@dataclass(frozen=True, slots=True)
class EngineStats:
    """How the engine does: what it holds now, and what it has done since it began; a step draws up to a few tokens."""

    running: int
    waiting: int
    reading: int
    held_tokens: int
    token_budget: int
    steps: int
    tokens: int
    candidates: int
    failures: int
    read_tokens: int


@dataclass(slots=True, eq=False)
class _Request:
    """A ticket and what the engine knows of it. `next` is the first candidate that has not joined."""

    ticket: RequestHandle
    prompt: InfillPrompt
    seeds: tuple[int, ...]
    sampling: Sampling
    owner: str
    deadline: float | None
    readers: int  # of the model's rows, for each candidate: two where it is guided
    reading: Generator[None, None, Prefix] | None = None
    prefix: Prefix = None
    has_begun: bool = False
    next: int = 0
    rows: dict[Row, int] = field(default_factory=dict)

    @property
    def prefix_tokens(self) -> int:
        return len(self.prompt.prefix)

    @property
    def fill_tokens(self) -> int:
        return self.readers * self.prompt.tables.max_tokens

    @property
    def all_tokens(self) -> int:
        return self.prefix_tokens + self.fill_tokens * len(self.seeds)

    @property
    def held_tokens(self) -> int:
        return (self.prefix_tokens if self.has_begun else 0) + self.fill_tokens * len(self.rows)


class EngineLoop:
    """Takes requests from any thread and answers them in the one that runs `run_forever`, or `turn` by `turn`."""

    def __init__(self, batch: DecodeBatch, *, max_length: int, limits: EngineLimits | None = None) -> None:
        self.limits = limits or EngineLimits()
        self.max_length = max_length
        if self.limits.tokens < max_length:
            raise ValueError(f"a budget of {self.limits.tokens} tokens cannot hold one prompt of {max_length}")
        self._batch = batch
        self._waiting: deque[_Request] = deque()  # those with candidates that have not joined, oldest first
        self._running: dict[Row, _Request] = {}
        self._wake = threading.Condition()
        self._is_closing = False
        self._drains = True
        self._steps = self._tokens = self._candidates = self._failures = self._read_tokens = 0
        self._prefixes = PrefixCache(self.limits.kept_tokens)

    @classmethod
    def open(cls, model: InfillTransformer, *, limits: EngineLimits | None = None, compiled: bool = True) -> EngineLoop:
        """Return a loop that owns the model. Compiling, if it must, is over when this returns; see `open_batch`."""
        limits = limits or EngineLimits()
        # One guided candidate takes two rows.
        batch = open_batch(model.eval(), rows=max(2, limits.rows), compiled=compiled)
        return cls(batch, max_length=model.config.max_length, limits=limits)

    def submit(
        self,
        prompt: InfillPrompt,
        seeds: Sequence[int],
        sampling: Sampling,
        *,
        owner: str = "",
        deadline: float | None = None,
    ) -> RequestHandle:
        """Queue a prompt, one candidate a seed.

        Args:
            prompt: what to answer; read once for all its candidates.
            seeds: the same seed gives the same fill, alone or beside any others.
            sampling: of these candidates alone.
            owner: who asks, for the bounds per owner; the empty owner has none.
            deadline: `time.monotonic()` by which the whole answer must be there.

        Raises:
            PromptError: prompt and fill may outgrow the model.
            ControlError: guidance is given, and nothing is asked that it could lean to.
            EngineBusy: too much waits already, or the engine is closing.

        """
        check_fits(prompt, self.max_length)
        readers = 1 if sampling.guidance_of(prompt) == 1 else 2
        request = _Request(RequestHandle(len(seeds)), prompt, tuple(seeds), sampling, owner, deadline, readers)
        if not seeds:
            request.ticket.emit(Finished())
            return request.ticket
        with self._wake:
            self._check_room(request)
            self._waiting.append(request)
            self._wake.notify()
        return request.ticket

    def generate(self, prompt: InfillPrompt, *, seeds: Sequence[int], sampling: Sampling) -> list[GeneratedFill]:
        """Return one fill a seed, in order, as `Engine` promises; waits for the thread that runs the loop."""
        return self.submit(prompt, seeds, sampling).result()

    def generate_each(self, jobs: Sequence[Job], *, sampling: Sampling) -> list[GeneratedFill]:
        """Return one fill a (prompt, seed), in order; neighbours that share a prompt are one request."""
        tickets = [
            self.submit(sharing[0][0], [seed for _, seed in sharing], sampling)
            for sharing in (list(group) for _, group in groupby(jobs, key=lambda job: id(job[0])))
        ]
        return [generated for ticket in tickets for generated in ticket.result()]

    def run_forever(self) -> None:
        """Answer requests until `close`; run it in a thread of its own."""
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._running or self._is_closing)
                if self._is_closing and not (self._drains and (self._waiting or self._running)):
                    break
            self.turn()
        for request in self._requests():
            self._fail(request, FillCancelled("the engine was closed before the fill was ready; ask again"))

    def start(self) -> threading.Thread:
        """Run the loop in a new thread and return it."""
        thread = threading.Thread(target=self.run_forever, name="engine", daemon=True)
        thread.start()
        return thread

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests and let the loop end: after all that it has taken, or at once."""
        with self._wake:
            self._is_closing, self._drains = True, drain
            self._wake.notify_all()

    def stats(self) -> EngineStats:
        """Return what the engine holds and has done."""
        with self._wake:
            requests = self._requests()
            return EngineStats(
                running=len(self._running),
                waiting=sum(len(request.seeds) - request.next for request in self._waiting),
                reading=sum(request.reading is not None for request in requests),
                held_tokens=sum(request.held_tokens for request in requests),
                token_budget=self.limits.tokens,
                steps=self._steps,
                tokens=self._tokens,
                candidates=self._candidates,
                failures=self._failures,
                read_tokens=self._read_tokens,
            )

    def turn(self) -> None:
        """Do one round: drop what is cancelled or late, let waiting candidates join, read one layer, step once."""
        self._drop()
        self._admit()
        self._step()

    def _requests(self) -> list[_Request]:
        return list(dict.fromkeys([*self._running.values(), *self._waiting]))

    def _check_room(self, request: _Request) -> None:
        if self._is_closing:
            raise EngineBusy("the engine is closing and takes no more requests; ask again")
        waiting = sum(other.all_tokens for other in self._waiting)
        if self._waiting and waiting + request.all_tokens > self.limits.waiting_tokens:
            raise EngineBusy(f"requests of {waiting} tokens wait already; ask again in a few seconds")
        own = sum(other.all_tokens for other in self._waiting if other.owner == request.owner)
        if request.owner and own and own + request.all_tokens > self.limits.owner_waiting_tokens:
            raise EngineBusy(f"your requests of {own} tokens wait already; ask again when they are answered")

    def _drop(self) -> None:
        now = time.monotonic()
        with self._wake:
            requests = self._requests()
        for request in requests:
            if request.ticket.is_cancelled:
                self._fail(request, FillCancelled("the fill was given up"))
            elif request.deadline is not None and now > request.deadline:
                self._fail(request, DeadlinePassed("the fill was not ready in time; ask for less, or allow more time"))

    def _admit(self) -> None:
        """Let candidates join, oldest request first; one that does not fit lets no younger one pass.

        Owners at their bound are passed by. Reading takes one turn a layer while rows run, and no turn where none do.
        """
        if not self._waiting:
            return
        with self._wake:
            waiting = list(self._waiting)
            rows_of = Counter(request.owner for request in self._running.values())
            readers = sum(request.readers for request in self._running.values())
            held = sum(request.held_tokens for request in self._requests())
        for request in waiting:
            while request.next < len(request.seeds):
                if request.owner and rows_of[request.owner] >= self.limits.owner_rows:
                    break
                needed = request.fill_tokens + (0 if request.has_begun else request.prefix_tokens)
                is_full = readers + request.readers > self.limits.rows or held + needed > self.limits.tokens
                # One that runs alone may go past the budget by prefixes read ahead; else nothing might ever join.
                if self._running and is_full:
                    return
                try:
                    if not self._has_read(request):
                        return
                    self._join(request)
                except Exception as error:
                    _log.exception("a candidate could not begin")
                    self._fail(request, error)
                    break
                rows_of[request.owner] += 1
                held += needed
                readers += request.readers

    def _has_read(self, request: _Request) -> bool:
        """Read on, a layer if rows are waiting; return whether the prefix is there."""
        if request.prefix is not None:
            return True
        try:
            request.has_begun = True
            if request.reading is None:
                request.prefix = self._prefixes.get(request.prompt)
                if request.prefix is not None:
                    return True
                request.reading = self._batch.read(request.prompt)
            while True:
                next(request.reading)
                if self._running:
                    return False
        except StopIteration as end:
            request.prefix, request.reading = end.value, None
            self._prefixes.put(request.prompt, request.prefix)
            self._read_tokens += request.prefix_tokens
            return True

    def _join(self, request: _Request) -> None:
        row = Row(request.prompt, request.seeds[request.next], request.sampling)
        self._batch.join(row, request.prefix)
        with self._wake:
            request.rows[row] = request.next
            self._running[row] = request
            request.next += 1
            if request.next == len(request.seeds):
                self._waiting.remove(request)
                request.prefix = None  # whoever runs holds what it needs of it

    def _step(self) -> None:
        if not self._running:
            return
        try:
            closed = self._batch.step(most=self._most())
        except Exception as error:
            # Whose row it was cannot be told: all that run fail, and the engine goes on with what waits.
            _log.exception("a step failed")
            for request in dict.fromkeys(self._running.values()):
                self._fail(request, error)
            return
        self._steps += 1
        for row in closed:
            self._report(row)

    def _most(self) -> int:
        """Return how many tokens of each row may be drawn before others are thought of."""
        with self._wake:
            is_reading = any(request.reading is not None for request in self._waiting)
        has_listeners = any(request.ticket.has_listeners for request in self._running.values())
        return 1 if is_reading or has_listeners else UNWATCHED_STEPS

    def _report(self, row: Row) -> None:
        request = self._running[row]
        candidate = request.rows[row]
        for cell in range(row.told, row.cell):
            said = row.said(cell)
            self._tokens += len(said)
            request.ticket.emit(CellFinished(candidate, cell, said))
        row.told = row.cell
        if not row.is_finished:
            return
        with self._wake:
            del self._running[row], request.rows[row]
        self._candidates += 1
        request.ticket.emit(CandidateFinished(candidate, row.generated))
        if request.next == len(request.seeds) and not request.rows:
            request.ticket.emit(Finished())

    def _fail(self, request: _Request, error: Exception) -> None:
        with self._wake:
            if request in self._waiting:
                self._waiting.remove(request)
            for row in request.rows:
                del self._running[row]
        for row in request.rows:
            if row in self._batch.rows:
                self._batch.leave(row)
        request.rows.clear()
        request.prefix = request.reading = None
        self._failures += 1
        request.ticket.emit(Failed(error))
