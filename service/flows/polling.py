"""The polling journey: claim due tasks, query the provider, apply the answer, and end tasks at their deadline."""

import asyncio
import dataclasses
import datetime as dt
import enum
import math
from collections import Counter, defaultdict
from collections.abc import Generator, Mapping, Sequence
from typing import Final, Literal, TypeVar
from uuid import UUID

from service.domain.changes import Change, CheckFailed, CheckPostponed, Ended, JobMissing, StatusReported
from service.domain.errors import AccountProblem, NotFound, Unavailable, UpstreamError
from service.domain.schedules import LEASE, RETRY_AFTER_CAP, counts_as_missing, may_be_invisible
from service.domain.task import ENDED, OPEN, TO_SUBMIT, Failure, Source, State, Task, Update
from service.domain.text import storable
from service.flows.apply import Applied, settle, settle_surely
from service.flows.concurrency import TaskPool
from service.flows.context import Context, Upstream, log
from service.flows.conversation import run_exchange, tokens_of
from service.flows.metrics.process import UNKNOWN
from service.flows.submission.cancel import cancel_if_pending
from service.flows.submission.reconcile import reconcile
from service.flows.upstreams import poll_rate
from service.logs import about
from service.providers.capabilities import CanPollMany
from service.providers.dialect import Dialect
from service.providers.wire import Call, ManyExchange, Reply
from service.store import queue
from service.store.database import StoreUnavailable
from service.store.history import Poll, record_polls

MAX_CONCURRENT = 100
ASK_WITHIN = LEASE / 2
"""Seconds after their claim within which tasks are polled; later another process may have claimed them."""
SLOT_WAIT = 2.0
"""Seconds, at least, until a task is polled again whose upstream had no free slot."""

SINGLY_FOR = 600.0
"""Seconds for which tasks are polled singly after the batch query of their upstream failed."""


class _AtOnce(enum.Enum):
    AT_ONCE = enum.auto()


AT_ONCE: Final = _AtOnce.AT_ONCE
"""The task was not asked about, and is to be polled singly at once."""
_MAY_BE_POLLED: Final = OPEN - TO_SUBMIT
Found = Update | UpstreamError | Literal[_AtOnce.AT_ONCE] | None
"""The provider's report, the error of the query, or None where no query was needed."""
Answer = TypeVar("Answer")


async def run_due(context: Context, pool: TaskPool) -> int:
    """Claim the tasks that are due and start to poll them; return how many were claimed."""
    room = min(pool.free, MAX_CONCURRENT)
    if not room:
        return 0
    now, claimed_at = context.now(), context.monotonic()
    until = now + dt.timedelta(seconds=LEASE)
    claimed = await context.writers.journeys.run(queue.claim_tasks, "poll", now=now, until=until, most=room)
    groups: dict[tuple[str, str], list[Task]] = defaultdict(list)
    for task in claimed:
        groups[task.upstream or "", task.dialect or ""].append(task)
    batches = [batch for tasks in groups.values() for batch in _batches(context, tasks)]
    try:
        allowed = await poll_rate.take(context, Counter(batch[0].upstream or "" for batch in batches))
    except StoreUnavailable:
        pool.start(_release(context, claimed))
        raise
    for batch in batches:
        upstream = context.upstreams.get(batch[0].upstream or "")
        if upstream is None:
            pool.start(poll(context, batch))
            continue
        fits, wait = allowed.get(upstream.name, (len(batches), 0.0))
        allowed[upstream.name] = (fits - 1, wait)
        if fits < 1:
            pool.start(_postpone(context, batch, (1 - fits) * wait))
        elif upstream.polls.try_acquire():
            pool.start(_poll_in_slot(context, upstream, batch, ask_before=claimed_at + ASK_WITHIN))
        else:
            wait = upstream.postponed.wait(context.monotonic(), least=SLOT_WAIT)
            pool.start(_postpone(context, batch, wait))
    return len(claimed)


async def _poll_in_slot(context: Context, upstream: Upstream, tasks: list[Task], *, ask_before: float) -> None:
    try:
        if context.monotonic() <= ask_before:
            await poll(context, tasks)
        else:  # the process was paused, and another may poll them by now
            await _release(context, tasks)
    except StoreUnavailable as error:
        log.warning("poll cannot be written and is repeated upstream=%s error=%s", upstream.name, error)
        await _release(context, tasks)
    except asyncio.CancelledError:
        await _release(context, tasks)
        raise
    finally:
        upstream.polls.release()


async def _release(context: Context, tasks: list[Task]) -> None:
    """Make claimed tasks due as soon as the database is back, instead of at the end of their lease."""
    now = context.now()
    changes = (CheckPostponed(task_id=task.id, attempt=task.attempts, until=now) for task in tasks)
    await asyncio.gather(*(settle_surely(context, each) for each in changes))


async def _postpone(context: Context, tasks: list[Task], wait: float) -> None:
    """Poll tasks a little later: their upstream is asked as often as it may be."""
    later = context.now() + dt.timedelta(seconds=wait)
    changes = (CheckPostponed(task_id=task.id, attempt=task.attempts, until=later) for task in tasks)
    await asyncio.gather(*(settle(context, each) for each in changes))


def _batches(context: Context, tasks: list[Task]) -> list[list[Task]]:
    upstream, dialect = context.upstreams.get(tasks[0].upstream or ""), context.dialect(tasks[0])
    size = 1
    if upstream is not None and isinstance(dialect, CanPollMany) and not _polls_singly(context, upstream, dialect):
        size = dialect.facts.batch_size
    known = [task for task in tasks if task.external_id is not None]
    unknown = [[task] for task in tasks if task.external_id is None]
    return unknown + [known[start : start + size] for start in range(0, len(known), size)]


async def poll(context: Context, tasks: list[Task]) -> None:
    """Poll claimed tasks of one upstream and dialect, and write the results."""
    if tasks[0].state is State.UNCONFIRMED and tasks[0].external_id is None:
        await asyncio.gather(*(_reconcile(context, task) for task in tasks))
        return
    began = context.monotonic()
    found = await _ask(context, tasks)
    seconds = context.monotonic() - began
    recorded = [_record(context, task, found[task.id], seconds) for task in tasks]
    await asyncio.gather(*(_write(context, task, found[task.id]) for task in tasks), *recorded)


async def poll_now(context: Context, task: Task, *, client: str) -> Applied:
    """Poll one task outside its schedule, because a client asked for it.

    :param client: the one that asks
    :raises PolledTooOften: when the upstream is asked as often as it may be, or by this client
    """
    upstream = context.upstreams.get(task.upstream or "")
    if upstream is None or task.external_id is None:
        found: Mapping[UUID, Found] = {task.id: None}
    else:
        await poll_rate.take_for_client(context, upstream, client)
        if not upstream.polls.try_acquire():
            raise poll_rate.PolledTooOften(upstream.name, SLOT_WAIT)
        try:
            found = await _ask(context, [task])
        finally:
            upstream.polls.release()
    _count(context, task, found[task.id])
    return await settle(context, _change(context, task, found[task.id], attempt=None))


async def ask_again(context: Context, task: Task) -> Update | None:
    """Ask the provider about an ended task once more, and return its report; nothing is written.

    :returns: None where it was not asked, because its upstream is asked as often as it may be, or did not answer
    """
    upstream = context.upstreams.get(task.upstream or "")
    if upstream is None or task.external_id is None:
        return None
    fits, _ = (await poll_rate.take(context, {upstream.name: 1})).get(upstream.name, (1, 0.0))
    if not fits or not upstream.polls.try_acquire():
        return None
    try:
        found = (await _ask(context, [task]))[task.id]
    finally:
        upstream.polls.release()
    _count(context, task, found)
    return found if isinstance(found, Update) else None


async def _reconcile(context: Context, task: Task) -> None:
    """Search for the job of a task without an id; at the deadline for the last time."""
    try:
        await reconcile(context, task)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - a search that fails must not keep the task from its deadline
        log.exception("search for a job failed task=%s", task.id)
        words = f"the search for the job failed: {type(error).__name__}"
        await settle(context, CheckFailed(task_id=task.id, attempt=task.attempts, error=words))
    if context.now() >= task.deadline_at:
        await settle(context, _expiry(context, task))


def _count(context: Context, task: Task, found: Found) -> None:
    """Count a poll by the provider's answer."""
    match found:
        case Update():
            result = "answered"
        case NotFound():
            result = "not_found"
        case UpstreamError():
            result = "failed"
        case _:  # the provider was not asked about this task
            return
    context.metrics.polls.labels(task.upstream or UNKNOWN, result).inc()


async def _write(context: Context, task: Task, found: Found) -> None:
    _count(context, task, found)
    try:
        applied = await settle(context, _change(context, task, found, attempt=task.attempts))
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - an answer that cannot be written must not keep the task from its deadline
        log.exception("poll cannot be written task=%s", task.id)
        words = f"the answer cannot be kept: {type(error).__name__}"
        applied = await settle(context, CheckFailed(task_id=task.id, attempt=task.attempts, error=words))
    if applied.task is not None:
        await cancel_if_pending(context, applied.task)
    if context.now() >= task.deadline_at and task.state not in ENDED:
        await settle(context, _expiry(context, task))


async def _record(context: Context, task: Task, found: Found, seconds: float) -> None:
    """Write a poll into the task's history. It is for readers: nothing depends on it, and it may be missing."""
    outcome = _outcome(found)
    if outcome is None:
        return
    now = context.now()
    poll = Poll(
        task_id=task.id,
        sequence=task.sequence,
        outcome=outcome,
        progress=found.progress if isinstance(found, Update) else None,
        first_at=now,
        last_at=now,
        duration_ms=round(seconds * 1000),
    )
    try:
        await context.writers.journeys.batch(record_polls, poll)
    except StoreUnavailable as error:
        log.debug("poll not recorded task=%s error=%s", task.id, error)


def _outcome(found: Found) -> str | None:
    """Return what a poll found, in few words; None where nothing was asked."""
    match found:
        case Update():
            word = found.unknown_word
            unknown = None if word is None else f"unknown status {storable(word)[:40]!r}"
            return unknown or str(found.state or "nothing new")
        case UpstreamError():
            return f"error: {found.code}"
        case _:
            return None


async def _ask(context: Context, tasks: list[Task]) -> Mapping[UUID, Found]:
    first = tasks[0]
    upstream, dialect = context.upstreams.get(first.upstream or ""), context.dialect(first)
    if upstream is None or dialect is None or first.external_id is None:
        return dict.fromkeys((task.id for task in tasks), None)
    if len(tasks) == 1 or not isinstance(dialect, CanPollMany):
        return {task.id: await _ask_one(context, upstream, dialect, task) for task in tasks}
    found = dict(
        await _ask_many(context, upstream, dialect, dialect.poll_many([*map(upstream.in_its_names, tasks)]), tasks)
    )
    for task in tasks:
        # The batch query may be stale or broken: no task expires on its word alone.
        if context.now() >= task.deadline_at and not _is_end(found[task.id]):
            found[task.id] = await _ask_one(context, upstream, dialect, task)
    return found


def _is_end(found: Found) -> bool:
    return isinstance(found, Update) and found.state in ENDED


async def _ask_one(context: Context, upstream: Upstream, dialect: Dialect, task: Task) -> Found:
    exchange = dialect.poll(upstream.in_its_names(task))
    with about(task.id):
        return await _answer_to(context, upstream, dialect, exchange, hidden=tokens_of(context, task))


async def _answer_to(
    context: Context,
    upstream: Upstream,
    dialect: Dialect,
    exchange: Generator[Call, Reply, Answer],
    *,
    hidden: Sequence[str] = (),
) -> Answer | UpstreamError:
    """Run an exchange and return its answer, or why there is none.

    :param hidden: see :func:`run_exchange`
    """
    try:
        return await run_exchange(context, upstream, dialect, exchange, hidden=hidden)
    except UpstreamError as error:
        return error


async def _ask_many(
    context: Context, upstream: Upstream, dialect: Dialect, query: ManyExchange, tasks: list[Task]
) -> Mapping[UUID, Found]:
    """Poll in one request; poll an id that is missing from the answer singly before that counts."""
    answers = await _answer_to(context, upstream, dialect, query)
    if isinstance(answers, UpstreamError):
        return await _without_batch(context, upstream, dialect, tasks, answers)
    found: dict[UUID, Found] = {}
    for task in tasks:
        answer = answers.get(task.external_id or "")
        found[task.id] = answer if answer is not None else await _ask_one(context, upstream, dialect, task)
    return found


async def _without_batch(
    context: Context, upstream: Upstream, dialect: Dialect, tasks: list[Task], error: UpstreamError
) -> Mapping[UUID, Found]:
    """Poll one task singly after a batch query failed. If that works, poll the others singly, too.

    Single polls then go on for a while: a gateway without the batch query, or one bad id, must not hide all tasks.
    """
    first, *others = tasks
    answer = await _ask_one(context, upstream, dialect, first)
    single_works = not isinstance(answer, UpstreamError) or isinstance(answer, NotFound)
    if not single_works and isinstance(error, Unavailable | AccountProblem):
        return {first.id: answer, **dict.fromkeys((task.id for task in others), error)}
    if not _polls_singly(context, upstream, dialect):
        log.warning(
            "batch query failed; polling singly upstream=%s dialect=%s error=%s",
            upstream.name,
            dialect.facts.key,
            error,
        )
    upstream.batch_retry_at[dialect.facts.key] = context.monotonic() + SINGLY_FOR
    return {first.id: answer, **dict.fromkeys((task.id for task in others), AT_ONCE)}


def _polls_singly(context: Context, upstream: Upstream, dialect: Dialect) -> bool:
    """Return whether the batch query of a dialect failed a short while ago, and single polls are used instead."""
    return context.monotonic() < upstream.batch_retry_at.get(dialect.facts.key, -math.inf)


def _change(context: Context, task: Task, found: Found, *, attempt: int | None) -> Change:
    """Return the change that a poll's result means. Pure except for the clock."""
    now = context.now()
    match found:
        case None:
            return CheckPostponed(task_id=task.id, attempt=attempt)
        case _AtOnce():
            return CheckPostponed(task_id=task.id, attempt=attempt, until=now)
        case NotFound():
            return _not_found(task, found, attempt, now)
        case UpstreamError():
            error = f"{task.upstream}: {found.message or found.code}"
            wait = min(found.retry_after or 0.0, RETRY_AFTER_CAP)
            later = now + dt.timedelta(seconds=wait) if wait else None
            return CheckFailed(task_id=task.id, attempt=attempt, error=error, not_before=later)
        case Update():
            return _report(task, found, attempt)


def _report(task: Task, update: Update, attempt: int | None) -> StatusReported:
    """Return what a provider says of the job that a task had when it was polled."""
    return StatusReported(
        task_id=task.id, attempt=attempt, source=Source.POLL, update=update, submission_id=task.submission_id
    )


def _not_found(task: Task, error: NotFound, attempt: int | None, now: dt.datetime) -> Change:
    words = f"{task.upstream} does not know job {task.external_id}"
    if task.cancel_requested_at is not None and not may_be_invisible(task, now=now):
        cancelled = Update(state=State.CANCELLED, failure=Failure("cancelled", error.message))
        return _report(task, cancelled, attempt)
    since = task.missing_since or now
    if not counts_as_missing(dataclasses.replace(task, missing_since=since), now=now):
        return JobMissing(task_id=task.id, attempt=attempt, since=since, error=f"{words} (yet)")
    # The provider reported no failure, only that it cannot find the job: this is our own conclusion.
    failure = Failure("not_found", f"{words}: {error.message or error.code}")
    return Ended(task_id=task.id, attempt=attempt, state=State.FAILED, failure=failure, expects=_MAY_BE_POLLED)


def _expiry(context: Context, task: Task) -> Ended:
    waited = round((context.now() - task.created_at).total_seconds())
    failure = Failure("provider_timeout", f"no result within {waited} s", retryable=task.state is not State.UNCONFIRMED)
    return Ended(task_id=task.id, attempt=task.attempts, state=State.EXPIRED, failure=failure)
