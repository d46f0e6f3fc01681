"""The engine of the service: one owner of the model; requests join and leave its batch between two steps.

Requests are admitted first come, first served, within a budget of cached tokens and limits per owner. A prefix is read
one layer a turn, so that running rows wait for one layer at most.
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
from harmonixr_model.engine.engine import GeneratedFill, PromptSeed, Sampling
from harmonixr_model.engine.prefix_cache import PrefixCache
from harmonixr_model.engine.request import CandidateFinished, CellFinished, Failed, Finished, RequestHandle
from harmonixr_model.engine.row import Row
from harmonixr_model.engine.runner import Prefix
from harmonixr_model.engine.selection import open_batch
from harmonixr_model.errors import DeadlinePassed, EngineBusy, FillCancelled
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.prompt.layout import InfillPrompt

_log = logging.getLogger(__name__)
# Tokens a step for each row while no prefix is being read and no running request has listeners.
MAX_STEP_TOKENS = 4


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """The limits of an engine. A request counts as many tokens as its prompt and fills may have at most.

    Attributes:
        rows: candidates that decode at the same time; a guided one counts as two.
        tokens: tokens that the KV cache may hold, at least one model length.
        waiting_tokens: tokens of waiting requests; a request beyond them is refused with EngineBusy.
        owner_rows: candidates of one owner that decode at the same time.
        owner_waiting_tokens: tokens of one owner's waiting requests.
        prefix_cache_tokens: tokens of prefixes held for repeated requests, beside `tokens`.

    """

    rows: int = 32
    tokens: int = 1 << 16
    waiting_tokens: int = 1 << 18
    owner_rows: int = 16
    owner_waiting_tokens: int = 1 << 17
    prefix_cache_tokens: int = 1 << 14


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What the engine holds now, and what it has done since it started. A step samples up to a few tokens a row."""

    running: int
    waiting: int
    prefilling: int
    held_tokens: int
    token_budget: int
    steps: int
    tokens: int
    candidates: int
    failures: int
    prefilled_tokens: int


@dataclass(slots=True, eq=False)
class _Request:
    """A submitted request. `next` is the first candidate that has not joined the batch."""

    handle: RequestHandle
    prompt: InfillPrompt
    seeds: tuple[int, ...]
    sampling: Sampling
    owner: str
    deadline: float | None
    model_rows: int  # for each candidate; two where it is guided
    prefill: Generator[None, None, Prefix] | None = None
    prefix: Prefix = None
    has_begun: bool = False
    next: int = 0
    rows: dict[Row, int] = field(default_factory=dict)

    @property
    def prefix_tokens(self) -> int:
        return len(self.prompt.prefix)

    @property
    def fill_tokens(self) -> int:
        return self.model_rows * self.prompt.tables.max_tokens

    @property
    def all_tokens(self) -> int:
        return self.prefix_tokens + self.fill_tokens * len(self.seeds)

    @property
    def held_tokens(self) -> int:
        return (self.prefix_tokens if self.has_begun else 0) + self.fill_tokens * len(self.rows)


class EngineLoop:
    """Accept requests from any thread, and decode them in the thread that runs `run_forever` or calls `turn`."""

    def __init__(self, batch: DecodeBatch, *, max_length: int, limits: EngineLimits | None = None) -> None:
        self.limits = limits or EngineLimits()
        self.max_length = max_length
        if self.limits.tokens < max_length:
            raise ValueError(f"a budget of {self.limits.tokens} tokens cannot hold one prompt of {max_length}")
        self._batch = batch
        self._waiting: deque[_Request] = deque()  # with candidates that have not joined, oldest first
        self._running: dict[Row, _Request] = {}
        self._wake = threading.Condition()
        self._is_closing = False
        self._drains = True
        self._steps = self._tokens = self._candidates = self._failures = self._prefilled_tokens = 0
        self._prefixes = PrefixCache(self.limits.prefix_cache_tokens)

    @classmethod
    def open(cls, model: InfillTransformer, *, limits: EngineLimits | None = None, compiled: bool = True) -> EngineLoop:
        """Return an engine that owns the model; see `open_batch` for `compiled`."""
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
            prompt: the prompt; its prefix is read once for all candidates.
            seeds: the same seed gives the same fill, alone and in any batch.
            sampling: the sampling parameters of these candidates.
            owner: the caller, for the limits per owner; the empty owner has none.
            deadline: the `time.monotonic()` by which all candidates must be complete.

        Raises:
            PromptError: the prompt and its fill may exceed the model's length.
            ControlError: guidance is given for a prompt without attribute controls.
            EngineBusy: too many tokens wait already, or the engine is closing.

        """
        check_fits(prompt, self.max_length)
        model_rows = 1 if sampling.guidance_of(prompt) == 1 else 2
        request = _Request(RequestHandle(len(seeds)), prompt, tuple(seeds), sampling, owner, deadline, model_rows)
        if not seeds:
            request.handle.emit(Finished())
            return request.handle
        with self._wake:
            self._check_room(request)
            self._waiting.append(request)
            self._wake.notify()
        return request.handle

    def generate(self, prompt: InfillPrompt, *, seeds: Sequence[int], sampling: Sampling) -> list[GeneratedFill]:
        """Return one fill a seed, in order; see `Engine`. Waits for the thread that runs the loop."""
        return self.submit(prompt, seeds, sampling).result()

    def generate_each(self, jobs: Sequence[PromptSeed], *, sampling: Sampling) -> list[GeneratedFill]:
        """Return one fill a (prompt, seed), in order; consecutive jobs with one prompt are one request."""
        handles = [
            self.submit(sharing[0][0], [seed for _, seed in sharing], sampling)
            for sharing in (list(group) for _, group in groupby(jobs, key=lambda job: id(job[0])))
        ]
        return [generated for handle in handles for generated in handle.result()]

    def run_forever(self) -> None:
        """Decode requests until `close`; run it in a thread of its own."""
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._running or self._is_closing)
                if self._is_closing and not (self._drains and (self._waiting or self._running)):
                    break
            self.turn()
        for request in self._requests():
            self._fail(request, FillCancelled("the engine was closed before the fill was complete; try again"))

    def start(self) -> threading.Thread:
        """Run the loop in a new thread and return it."""
        thread = threading.Thread(target=self.run_forever, name="engine", daemon=True)
        thread.start()
        return thread

    def close(self, *, drain: bool = True) -> None:
        """Accept no more requests, and end the loop: after the accepted requests with `drain`, at once without."""
        with self._wake:
            self._is_closing, self._drains = True, drain
            self._wake.notify_all()

    def stats(self) -> EngineStats:
        """Return the current numbers."""
        with self._wake:
            requests = self._requests()
            return EngineStats(
                running=len(self._running),
                waiting=sum(len(request.seeds) - request.next for request in self._waiting),
                prefilling=sum(request.prefill is not None for request in requests),
                held_tokens=sum(request.held_tokens for request in requests),
                token_budget=self.limits.tokens,
                steps=self._steps,
                tokens=self._tokens,
                candidates=self._candidates,
                failures=self._failures,
                prefilled_tokens=self._prefilled_tokens,
            )

    def turn(self) -> None:
        """Do one round: fail cancelled and late requests, admit waiting candidates, prefill one layer, step once."""
        self._fail_ended()
        self._admit()
        self._step()

    def _requests(self) -> list[_Request]:
        return list(dict.fromkeys([*self._running.values(), *self._waiting]))

    def _check_room(self, request: _Request) -> None:
        if self._is_closing:
            raise EngineBusy("the engine is closing and accepts no more requests; try again")
        waiting = sum(other.all_tokens for other in self._waiting)
        if self._waiting and waiting + request.all_tokens > self.limits.waiting_tokens:
            raise EngineBusy(f"requests of {waiting} tokens wait already; try again in a few seconds")
        own = sum(other.all_tokens for other in self._waiting if other.owner == request.owner)
        if request.owner and own and own + request.all_tokens > self.limits.owner_waiting_tokens:
            raise EngineBusy(f"your requests of {own} tokens wait already; try again when they are complete")

    def _fail_ended(self) -> None:
        now = time.monotonic()
        with self._wake:
            requests = self._requests()
        for request in requests:
            if request.handle.is_cancelled:
                self._fail(request, FillCancelled("the fill was cancelled"))
            elif request.deadline is not None and now > request.deadline:
                self._fail(request, DeadlinePassed("the fill was late; choose a smaller region, or allow more time"))

    def _admit(self) -> None:
        """Let candidates join, oldest request first; no request overtakes one that does not fit.

        Requests of an owner at its limit are skipped. A prefill takes one turn a layer while rows run, else one turn.
        """
        if not self._waiting:
            return
        with self._wake:
            waiting = list(self._waiting)
            rows_of = Counter(request.owner for request in self._running.values())
            model_rows = sum(request.model_rows for request in self._running.values())
            held = sum(request.held_tokens for request in self._requests())
        for request in waiting:
            while request.next < len(request.seeds):
                if request.owner and rows_of[request.owner] >= self.limits.owner_rows:
                    break
                needed = request.fill_tokens + (0 if request.has_begun else request.prefix_tokens)
                is_full = model_rows + request.model_rows > self.limits.rows or held + needed > self.limits.tokens
                # A candidate that runs alone may exceed the budget by prefixes read ahead; else none might ever join.
                if self._running and is_full:
                    return
                try:
                    if not self._prefill(request):
                        return
                    self._join(request)
                except Exception as error:
                    _log.exception("a candidate could not begin")
                    self._fail(request, error)
                    break
                rows_of[request.owner] += 1
                held += needed
                model_rows += request.model_rows

    def _prefill(self, request: _Request) -> bool:
        """Read the prefix, only one layer of it where rows run; return whether it is complete."""
        if request.prefix is not None:
            return True
        try:
            request.has_begun = True
            if request.prefill is None:
                request.prefix = self._prefixes.get(request.prompt)
                if request.prefix is not None:
                    return True
                request.prefill = self._batch.prefill(request.prompt)
            while True:
                next(request.prefill)
                if self._running:
                    return False
        except StopIteration as end:
            request.prefix, request.prefill = end.value, None
            self._prefixes.put(request.prompt, request.prefix)
            self._prefilled_tokens += request.prefix_tokens
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
                request.prefix = None  # the running rows hold it

    def _step(self) -> None:
        if not self._running:
            return
        try:
            changed = self._batch.step(max_tokens=self._step_tokens())
        except Exception as error:
            # The error names no row: all running requests fail, and the engine continues with the waiting ones.
            _log.exception("a step failed")
            for request in dict.fromkeys(self._running.values()):
                self._fail(request, error)
            return
        self._steps += 1
        for row in changed:
            self._report(row)

    def _step_tokens(self) -> int:
        with self._wake:
            is_prefilling = any(request.prefill is not None for request in self._waiting)
        is_streamed = any(request.handle.has_listeners for request in self._running.values())
        return 1 if is_prefilling or is_streamed else MAX_STEP_TOKENS

    def _report(self, row: Row) -> None:
        request = self._running[row]
        candidate = request.rows[row]
        for cell in range(row.reported_cells, row.cell):
            tokens = row.cell_tokens(cell)
            self._tokens += len(tokens)
            request.handle.emit(CellFinished(candidate, cell, tokens))
        row.reported_cells = row.cell
        if not row.is_finished:
            return
        with self._wake:
            del self._running[row], request.rows[row]
        self._candidates += 1
        request.handle.emit(CandidateFinished(candidate, row.output))
        if request.next == len(request.seeds) and not request.rows:
            request.handle.emit(Finished())

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
        request.prefix = request.prefill = None
        self._failures += 1
        request.handle.emit(Failed(error))
