"""The worker: APScheduler ticks, signals wake it in between, and each journey processes its queue in rounds.

A stop never cancels a round. It starts no new rounds, waits for the running ones and their work, and records the outcome so
far of work that does not end in time.
"""

import asyncio
import contextlib
import datetime as dt
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any, Final, Literal
from uuid import UUID

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from service.clock import JUMP
from service.domain.flows import FLOWS, Flow
from service.flows import polling
from service.flows.assets import keep, uploads
from service.flows.callbacks import process
from service.flows.callbacks.process import complete_due
from service.flows.concurrency import TaskPool
from service.flows.context import Context, log
from service.flows.metrics.ping import ping
from service.flows.metrics.process import Metrics
from service.flows.money import balances, charge_log, sums, sweep
from service.flows.retention import erase
from service.flows.retention import sweep as retention_sweep
from service.flows.signals.handoff import Handoff
from service.flows.statistics import LEARN_EVERY, update_statistics
from service.flows.submission import duplicates
from service.flows.submission import run as submission_run
from service.flows.upstreams import credit
from service.flows.webhooks import dispatch
from service.http.client import CONNECT_TIMEOUT, WRITE_TIMEOUT
from service.store import handed as handed_store
from service.store.database import StoreUnavailable

TICK: Final = 1.0
"""Seconds between two rounds of a journey that no signal wakes."""
ROUND_EVERY: Final = 0.02
"""Seconds from the start of a round to the next one of the same journey. What comes meanwhile shares the next round: a round
costs about the same for one row as for twenty."""
EXPIRE_EVERY: Final = 60.0
DRAIN_MARGIN: Final = 15.0
RESULTS_WITHIN: Final = 1.0
"""Seconds that files which are being fetched get at a stop."""

Round = Callable[[], Awaitable[int]]
"""Does what is due, and returns how much it was."""

_UNLIMITED = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}


class Worker:
    """Runs the journeys of a process."""

    def __init__(self, context: Context, flows: Collection[Flow] = FLOWS) -> None:
        """Prepare the journeys; :meth:`start` begins to work.

        :param flows: the work of this process
        """
        signals = context.signals.journeys
        self._context = context
        self._stopping = asyncio.Event()
        self._scheduler = AsyncIOScheduler(timezone=dt.UTC)
        submits = TaskPool(submission_run.MAX_CONCURRENT, when_free=signals["submit"].set)
        polls = TaskPool(polling.MAX_CONCURRENT, when_free=signals["poll"].set)
        messages = TaskPool(dispatch.MAX_CONCURRENT, when_free=signals["webhooks"].set)
        duplicate_jobs = TaskPool(duplicates.MAX_CONCURRENT, when_free=signals["duplicates"].set)
        erasures = TaskPool(erase.MAX_CONCURRENT, when_free=signals["erasures"].set)
        results = TaskPool(context.settings.results.concurrency + keep.DELETIONS, when_free=signals["results"].set)
        self._pools = (submits, polls, messages, duplicate_jobs, erasures)
        self._results = results
        """Fetching a file is given up at a stop: it is fetched again after the start."""
        watched = context.settings.observability
        journey = functools.partial(_Journey, metrics=context.metrics)
        journeys: tuple[tuple[Flow | None, _Journey], ...] = (
            ("submit", journey("submit", signals["submit"], lambda: submission_run.run_due(context, submits))),
            ("poll", journey("poll", signals["poll"], lambda: polling.run_due(context, polls))),
            ("callbacks", journey("callbacks", signals["callbacks"], lambda: process.run_due(context))),
            ("callbacks", journey("inbox", asyncio.Event(), lambda: complete_due(context), EXPIRE_EVERY)),
            ("webhooks", journey("webhooks", signals["webhooks"], lambda: dispatch.run_due(context, messages))),
            (
                "duplicates",
                journey("duplicates", signals["duplicates"], lambda: duplicates.run_due(context, duplicate_jobs)),
            ),
            ("erasures", journey("erasures", signals["erasures"], lambda: erase.run_due(context, erasures))),
            ("money", journey("money", asyncio.Event(), lambda: sweep.run_due(context), sweep.EVERY)),
            (
                "money",
                journey("charge log", asyncio.Event(), lambda: _once(charge_log.run_due(context)), charge_log.EVERY),
            ),
            ("money", journey("balances", asyncio.Event(), lambda: _once(balances.run_due(context)), balances.EVERY)),
            ("money", journey("sums", asyncio.Event(), lambda: sums.run_due(context), sums.EVERY)),
            ("results", journey("results", signals["results"], lambda: keep.run_due(context, results))),
            ("results", journey("sweep", asyncio.Event(), lambda: _once(keep.sweep(context)), keep.SWEEP_EVERY)),
            (None, journey("learn", asyncio.Event(), lambda: _once(update_statistics(context)), LEARN_EVERY)),
            ("results", journey("uploads", asyncio.Event(), lambda: uploads.expire_due(context), EXPIRE_EVERY)),
            ("credit", journey("credit", asyncio.Event(), self._credit_round(), credit.EVERY)),
            ("retention", journey("retention", asyncio.Event(), self._retention_round(), retention_sweep.EVERY)),
            (None, journey("ping", asyncio.Event(), lambda: _once(ping(context)), watched.ping_every)),
        )
        self._journeys = tuple(
            each
            for flow, each in journeys
            if (flow is None or flow in flows) and (each.name != "ping" or watched.ping_url)
        )
        self._running: list[asyncio.Task[None]] = []
        handoffs: tuple[tuple[Flow, Handoff[Any]], ...] = (
            ("submit", context.handed_tasks),
            ("callbacks", context.handed_callbacks),
            ("webhooks", context.handed_messages),
        )
        self._handoffs = [handoff for flow, handoff in handoffs if flow in flows]

    async def start(self) -> None:
        """Read the statistics once, then let the clock tick and the journeys run."""
        await _attempt("learn", update_statistics(self._context), self._context.metrics)
        for journey in self._journeys:
            trigger = IntervalTrigger(seconds=journey.every, timezone=dt.UTC)
            self._scheduler.add_job(journey.tick, trigger, id=journey.name, **_UNLIMITED)
        self._scheduler.start()
        for handoff in self._handoffs:
            handoff.start()
        self._running = [asyncio.create_task(each.run(self._stopping), name=each.name) for each in self._journeys]
        self._running.append(asyncio.create_task(self._watch_clock(), name="scheduler guard"))
        for journey in self._journeys:
            if journey.name == "credit":
                journey.wake.set()

    def stop(self) -> None:
        """Start no more rounds."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        for handoff in self._handoffs:
            handoff.stop()
        if self._scheduler.running:
            self._scheduler.pause()
        for journey in self._journeys:
            journey.wake.set()

    async def finish(self, within: float) -> None:
        """Wait until all rounds and their work have ended; cancel the work that has not ended in time.

        :param within: seconds
        """
        self.stop()
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        late = [each for each in self._running if not each.done()]
        if late:
            _, pending = await asyncio.wait(late, timeout=within)
            for task in pending:
                log.warning("round cancelled at the end of the drain journey=%s", task.get_name())
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await _attempt("release", _release_handed(self._context), self._context.metrics)
        left = max(end - loop.time(), 0.0)
        *cancelled, _ = await asyncio.gather(
            *(each.finish(within=left) for each in self._pools), self._results.finish(within=min(left, RESULTS_WITHIN))
        )
        if sum(cancelled):
            log.warning("work cancelled at the end of the drain count=%d", sum(cancelled))
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def plan_again(self) -> None:
        """Make every job of the scheduler due now: it plans by a clock that has jumped."""
        if not self._stopping.is_set() and self._scheduler.running:
            now = dt.datetime.now(dt.UTC)
            for job in self._scheduler.get_jobs():
                job.modify(next_run_time=now)

    async def _watch_clock(self) -> None:
        """Plan every job again after this machine's clock has jumped. It waits by the monotonic clock."""
        loop = asyncio.get_running_loop()
        offset = time.time() - loop.time()
        while not await _is_set_within(self._stopping, TICK):
            before, offset = offset, time.time() - loop.time()
            if abs(offset - before) > JUMP:
                self.plan_again()

    def _credit_round(self) -> Round:
        """Request the credit of accounts; the first time also where another process has asked recently."""
        after = iter([credit.AT_START])
        return lambda: _once(credit.ask_due(self._context, after=next(after, credit.DUE)))

    def _retention_round(self) -> Round:
        """Remove what is too old, in one process at a time."""
        sweep = retention_sweep.Sweep()
        return lambda: retention_sweep.run_due(self._context, sweep)


class _Journey:
    """One journey: the event that wakes it, and its rounds."""

    def __init__(self, name: str, wake: asyncio.Event, work: Round, every: float = TICK, *, metrics: Metrics) -> None:
        self._metrics = metrics
        self.name = name
        self.wake = wake
        self.every = every
        self._work = work

    async def tick(self) -> None:
        """Wake the journey. A coroutine, so that the scheduler runs it in the event loop and not in a thread."""
        self.wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Do rounds when woken, one after the other, until the worker stops."""
        loop = asyncio.get_running_loop()
        while not stopping.is_set():
            await self.wake.wait()
            self.wake.clear()
            began = loop.time()
            if not stopping.is_set() and await _attempt(self.name, self._work(), self._metrics):
                self.wake.set()  # there may be more
            await asyncio.sleep(began + ROUND_EVERY - loop.time())


@contextlib.asynccontextmanager
async def working(context: Context, flows: Collection[Flow] = FLOWS) -> AsyncIterator[Worker]:
    """Run a worker for the length of a ``with``, and end it in order."""
    worker = Worker(context, flows)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.finish(within=drain_timeout(context))


def drain_timeout(context: Context) -> float:
    """Return the seconds that work in flight gets at a stop: the setting, else as long as a submit may take."""
    if context.settings.shutdown_timeout is not None:
        return context.settings.shutdown_timeout
    dialects = [dialect for upstream in context.upstreams.values() for dialect in upstream.dialects]
    longest = max((each.facts.read_timeout(name) for each in dialects for name in each.facts.operations), default=0.0)
    return CONNECT_TIMEOUT + WRITE_TIMEOUT + longest + DRAIN_MARGIN


async def _attempt(journey: str, work: Awaitable[int], metrics: Metrics) -> int:
    """Do one round. A failure is counted and logged, and the next tick tries again."""
    try:
        return await work
    except StoreUnavailable as error:
        log.warning("round failed; it is tried again journey=%s error=%s", journey, error)
    except Exception:  # noqa: BLE001 - the loop goes on, whatever a round meets
        log.exception("round failed; it is tried again journey=%s", journey)
    metrics.round_failures.labels(journey).inc()
    return 0


async def _release_handed(context: Context) -> int:
    """Make the rows due that no round has taken: another process need not wait for the end of their leases."""
    handed: dict[Literal["tasks", "callbacks", "webhook_messages"], list[UUID]] = {
        "tasks": [task.id for task in context.handed_tasks.waiting()],
        "callbacks": [callback.id for callback in context.handed_callbacks.waiting()],
        "webhook_messages": [claimed.message.id for claimed in context.handed_messages.waiting()],
    }
    for table, ids in handed.items():
        if ids:
            await context.writers.journeys.run(handed_store.release, table, ids, now=context.now())
    return 0


async def _once(work: Awaitable[object]) -> int:
    """Do work that leaves nothing behind for another round at once."""
    await work
    return 0


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
