"""Go out and look for tasks: claim what is due, ask the provider, take in what it says, and end what has run out of time."""

import asyncio
import dataclasses
import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import AccountProblem, NotFound, Unavailable, UpstreamError
from service.domain.rate_limit import Rate
from service.domain.schedules import LEASE, RETRY_AFTER_CAP, counts_as_missing, may_be_invisible
from service.domain.task import ENDED, Failure, Source, State, Task, Update
from service.flows.apply import Applied, News, settle, settle_surely
from service.flows.concurrency import TaskPool
from service.flows.context import Context, Upstream, log
from service.flows.conversation import run_exchange
from service.flows.submission.cancel import follow_up
from service.flows.submission.reconcile import reconcile
from service.providers.capabilities import CanPollMany
from service.providers.dialect import Dialect
from service.providers.wire import ManyExchange
from service.store import queue
from service.store import upstreams as upstream_store
from service.store.database import StoreUnavailable

MAX_CONCURRENT = 100
PLACE_WAIT = 2.0
"""Seconds until a task looks again for a place at an upstream that has none."""


async def run_due(context: Context, pool: TaskPool) -> int:
    """Take the tasks that are due and start to ask about them; answer how many were taken."""
    room = min(pool.free, MAX_CONCURRENT)
    if not room:
        return 0
    now = context.now()
    claimed: list[Task] = await context.writer.do(_claim, (now, now + dt.timedelta(seconds=LEASE), room))
    groups: dict[tuple[str, str], list[Task]] = defaultdict(list)
    for task in claimed:
        groups[task.upstream or "", task.dialect or ""].append(task)
    batches = [asked for tasks in groups.values() for asked in _batches(context, tasks)]
    allowed = await _allowance(context, batches)
    for asked in batches:
        upstream = context.upstreams.get(asked[0].upstream or "")
        if upstream is None:
            pool.start(look(context, asked))
            continue
        fits, wait = allowed.get(upstream.name, (len(batches), 0.0))
        allowed[upstream.name] = (fits - 1, wait)
        if fits < 1:
            pool.start(_put_back(context, asked, (1 - fits) * wait))
        elif upstream.polls.try_acquire():
            pool.start(_look_in_place(context, upstream, asked))
        else:
            pool.start(_put_back(context, asked, PLACE_WAIT))
    return len(claimed)


async def _allowance(context: Context, batches: list[list[Task]]) -> dict[str, tuple[int, float]]:
    """Take what may be asked now of upstreams that are asked so often in a second and no more.

    :returns: how many questions fit, and the seconds between those that do not, by upstream
    """
    wanted = Counter(asked[0].upstream or "" for asked in batches)
    rates = {
        name: each.settings.polls_per_second
        for name, each in context.upstreams.items()
        if each.settings.polls_per_second is not None and wanted[name]
    }
    if not rates:
        return {}
    wish = [(name, rate, wanted[name]) for name, rate in rates.items()]
    fits: dict[str, int] = await context.writer.do(context.once(_take_slots), wish)
    return {name: (fits[name], 1 / rate) for name, rate in rates.items()}


async def _take_slots(
    context: Context, connection: AsyncConnection, wishes: Sequence[list[tuple[str, float, int]]]
) -> list[dict[str, int]]:
    now = context.now()
    known = await upstream_store.lock(connection, {name for wish in wishes for name, *_ in wish})
    slots = {name: each.poll_slot_at for name, each in known.items()}
    answers: list[dict[str, int]] = []
    for wish in wishes:
        taken: dict[str, int] = {}
        for name, per_second, count in wish:
            rate = Rate(per_second, slots[name])
            taken[name] = min(rate.free(now), count)
            slots[name] = rate.taken(now, taken[name]).slot_at
        answers.append(taken)
    for name, slot_at in slots.items():
        if slot_at is not None:
            await upstream_store.move_poll_slot(connection, name, slot_at)
    return answers


async def _look_in_place(context: Context, upstream: Upstream, tasks: list[Task]) -> None:
    try:
        await look(context, tasks)
    except StoreUnavailable as error:
        log.warning("what was asked of %s could not be written and is asked again: %s", upstream.name, error)
        await _let_go(context, tasks)
    finally:
        upstream.polls.release()


async def _let_go(context: Context, tasks: list[Task]) -> None:
    """Leave claimed tasks to whoever looks next, once the database is back, instead of until their lease ends."""
    now = context.now()
    news = (News(task_id=task.id, source=Source.POLL, attempt=task.attempts, look_at=now) for task in tasks)
    await asyncio.gather(*(settle_surely(context, each) for each in news))


async def _put_back(context: Context, tasks: list[Task], wait: float) -> None:
    """Leave tasks for a moment: their upstream is asked as much as it may be."""
    later = context.now() + dt.timedelta(seconds=wait)
    await asyncio.gather(
        *(
            settle(context, News(task_id=task.id, source=Source.POLL, attempt=task.attempts, look_at=later))
            for task in tasks
        )
    )


async def _claim(
    connection: AsyncConnection, wishes: Sequence[tuple[dt.datetime, dt.datetime, int]]
) -> list[list[Task]]:
    return [await queue.claim_tasks(connection, "poll", now=now, until=until, most=most) for now, until, most in wishes]


def _batches(context: Context, tasks: list[Task]) -> list[list[Task]]:
    dialect = context.dialect(tasks[0])
    size = dialect.facts.batch_size if dialect is not None and isinstance(dialect, CanPollMany) else 1
    known = [task for task in tasks if task.external_id is not None]
    unknown = [[task] for task in tasks if task.external_id is None]
    return unknown + [known[start : start + size] for start in range(0, len(known), size)]


async def look(context: Context, tasks: list[Task]) -> None:
    """Ask about claimed tasks of one upstream and dialect, and write what came of it."""
    if tasks[0].state is State.UNCONFIRMED and tasks[0].external_id is None:
        await asyncio.gather(*(_look_for(context, task) for task in tasks))
        return
    found = await _ask(context, tasks)
    await asyncio.gather(*(_take_in(context, task, found[task.id]) for task in tasks))


async def _look_for(context: Context, task: Task) -> None:
    """Look for the job of a task that has no id; at its deadline for the last time."""
    await reconcile(context, task)
    if context.now() >= task.deadline_at:
        await settle(context, _expiry(context, task))


async def _take_in(context: Context, task: Task, found: "Found") -> None:
    try:
        applied = await settle(context, _news(context, task, found, attempt=task.attempts))
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the deadline still counts
        # What cannot be written must not keep the task from its deadline.
        log.exception("what was found of task %s cannot be written", task.id)
        unwritten = {"last_error": f"the answer cannot be kept: {type(error).__name__}"}
        news = News(task_id=task.id, source=Source.POLL, attempt=task.attempts, set=unwritten)
        applied = await settle(context, news)
    if applied.task is not None:
        await follow_up(context, applied.task)
    if context.now() >= task.deadline_at and task.state not in ENDED:
        await settle(context, _expiry(context, task))


async def look_now(context: Context, task: Task) -> Applied:
    """Ask about one task outside its schedule, because a client wants to know."""
    found = await _ask(context, [task])
    return await settle(context, _news(context, task, found[task.id], attempt=None))


Found = Update | UpstreamError | None
"""What the provider said, why it said nothing, or None: there was nobody to ask."""


async def _ask(context: Context, tasks: list[Task]) -> Mapping[UUID, Found]:
    first = tasks[0]
    upstream, dialect = context.upstreams.get(first.upstream or ""), context.dialect(first)
    if upstream is None or dialect is None or first.external_id is None:
        return {task.id: None for task in tasks}
    try:
        if len(tasks) > 1 and isinstance(dialect, CanPollMany):
            return await _ask_many(context, upstream, dialect, dialect.poll_many(tasks), tasks)
        return {first.id: await run_exchange(context, upstream, dialect, dialect.poll(first))}
    except UpstreamError as error:
        if len(tasks) > 1 and not isinstance(error, Unavailable | AccountProblem):
            return await _ask_each(
                context, tasks
            )  # one bad id, or a gateway without the route, must not blind us for all
        return {task.id: error for task in tasks}
    except Exception as error:  # noqa: BLE001 - a mistake of ours while reading: the task is asked about again
        log.exception("the answer about task %s could not be read", first.id)
        failed = UpstreamError("unreadable", f"the answer could not be read: {error!r}"[:300])
        return {task.id: failed for task in tasks}


async def _ask_each(context: Context, tasks: list[Task]) -> Mapping[UUID, Found]:
    found: dict[UUID, Found] = {}
    for task in tasks:
        found |= await _ask(context, [task])
    return found


async def _ask_many(
    context: Context, upstream: Upstream, dialect: Dialect, query: ManyExchange, tasks: list[Task]
) -> Mapping[UUID, Found]:
    """Ask in one request; an id that is missing from the answer is confirmed by a question of its own before it counts."""
    answers = await run_exchange(context, upstream, dialect, query)
    found: dict[UUID, Found] = {}
    for task in tasks:
        answer = answers.get(task.external_id or "")
        found |= {task.id: answer} if answer is not None else await _ask(context, [task])
    return found


def _news(context: Context, task: Task, found: Found, *, attempt: int | None) -> News:
    """Turn what was found into news; pure but for the clock."""
    news = News(task_id=task.id, source=Source.POLL, attempt=attempt)
    now = context.now()
    match found:
        case None:
            return news
        case NotFound():
            return _not_found(task, found, news, now)
        case UpstreamError():
            error = f"{task.upstream}: {found.message or found.code}"
            wait = min(found.retry_after or 0.0, RETRY_AFTER_CAP)
            later = now + dt.timedelta(seconds=wait) if wait else None
            return dataclasses.replace(news, set={"last_error": error}, not_before=later)
        case Update():
            seen: dict[str, Any] = {"last_error": None, "missing_since": None}
            return dataclasses.replace(news, update=found, set=seen)


def _not_found(task: Task, error: NotFound, news: News, now: dt.datetime) -> News:
    words = f"{task.upstream} does not know job {task.external_id}"
    if task.cancel_requested_at is not None and not may_be_invisible(task, now=now):
        cancelled = Update(state=State.CANCELLED, failure=Failure("cancelled", error.message))
        return dataclasses.replace(news, update=cancelled)
    missing = dataclasses.replace(task, missing_since=task.missing_since or now)
    seen = {"missing_since": missing.missing_since, "last_error": f"{words} (yet)"}
    if not counts_as_missing(missing, now=now):
        return dataclasses.replace(news, set=seen)
    # Ours, not the provider's: it has not said that the job failed, only that it cannot find it.
    lost = Update(state=State.FAILED, failure=Failure("not_found", f"{words}: {error.message or error.code}"))
    return dataclasses.replace(news, source=Source.SWEEP, set=seen, update=lost)


def _expiry(context: Context, task: Task) -> News:
    waited = round((context.now() - task.created_at).total_seconds())
    failure = Failure("provider_timeout", f"no result within {waited} s", retryable=task.state is not State.UNCONFIRMED)
    expired = Update(state=State.EXPIRED, failure=failure)
    return News(task_id=task.id, source=Source.SWEEP, update=expired, attempt=task.attempts)
