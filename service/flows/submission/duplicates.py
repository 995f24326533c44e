"""Check jobs that were created besides the one that serves their task: cancel them where possible, and record their cost."""

import asyncio
import dataclasses
import datetime as dt
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.changes import DuplicateChecked, StatusReported
from service.domain.errors import NotFound, UpstreamError
from service.domain.evidence import has_no_job
from service.domain.schedules import LEASE
from service.domain.task import WITHOUT_RESULT, Source, State, Submission, Task, Update
from service.flows.apply import Applied, announce, apply, settle
from service.flows.concurrency import TaskPool
from service.flows.context import Context, Upstream, log
from service.flows.conversation import run_exchange
from service.providers.capabilities import CanCancel
from service.providers.dialect import Dialect
from service.providers.registry import DIALECTS
from service.store import queue, submissions
from service.store import tasks as task_store

MAX_CONCURRENT = 20
FIRST_WAIT = 10.0
MAX_WAIT = 600.0
ASK_WITHIN = LEASE / 2
"""Seconds after their claim within which duplicates are checked; later another process may have claimed them."""
GIVE_UP_AFTER = 86_400.0
"""Seconds after which a job that never ends is no longer checked."""


async def run_due(context: Context, pool: TaskPool) -> int:
    """Claim the duplicates that are due and start to check them; return how many were claimed."""
    room = min(pool.free, MAX_CONCURRENT)
    if not room:
        return 0
    now, claimed_at = context.now(), context.monotonic()
    until = now + dt.timedelta(seconds=LEASE)
    claimed = await context.writers.journeys.run(queue.claim_rows, "submissions", now=now, until=until, most=room)
    for row in claimed:
        pool.start(_check_in_time(context, submissions.submission_of(row), ask_before=claimed_at + ASK_WITHIN))
    return len(claimed)


async def _check_in_time(context: Context, duplicate: Submission, *, ask_before: float) -> None:
    """Check a duplicate unless its claim is too old: the task may have adopted it meanwhile, and a cancel would lose it."""
    if context.monotonic() <= ask_before:
        await check(context, duplicate)
    else:
        log.warning("duplicate job not checked in time external_id=%s", duplicate.external_id)


async def check(context: Context, duplicate: Submission) -> None:
    """Cancel a duplicate, or poll it. Where nothing serves the task any more, the duplicate is adopted."""
    async with context.database.reading() as connection:
        task = await task_store.find(connection, duplicate.task_id)
    wanted = task is not None and has_no_job(task)
    upstream, dialect = context.upstreams.get(duplicate.upstream), DIALECTS.get(duplicate.dialect)
    update: Update | None = None
    error: str | None = None
    if task is not None and upstream is not None and dialect is not None:
        try:
            update = await _ask(context, task, duplicate, upstream, dialect, wanted=wanted)
        except NotFound:
            update = Update(state=State.CANCELLED)  # the job is gone
        except UpstreamError as problem:
            error = str(problem)
        except asyncio.CancelledError:
            error = "Dovecote stopped before the answer arrived"
    if wanted and update is not None and update.state not in {None, *WITHOUT_RESULT}:
        named = dataclasses.replace(update, external_id=update.external_id or duplicate.external_id)
        reported = StatusReported(task_id=duplicate.task_id, source=Source.POLL, update=named, submission=duplicate)
        await settle(context, reported)
    else:
        announce(context, await context.writers.journeys.run(_write, context, duplicate, update, error))


async def _ask(
    context: Context, task: Task, duplicate: Submission, upstream: Upstream, dialect: Dialect, *, wanted: bool
) -> Update:
    """Poll as if the duplicate served the task. A cancel polls first: it must not destroy a paid result.

    :param wanted: whether nothing else serves the task, so that the job must not be cancelled
    """
    stand_in = dataclasses.replace(
        upstream.in_its_names(task),
        upstream=duplicate.upstream,
        dialect=duplicate.dialect,
        external_id=duplicate.external_id,
        results=(),
    )
    exchange = dialect.cancel(stand_in) if isinstance(dialect, CanCancel) and not wanted else dialect.poll(stand_in)
    return await run_exchange(context, upstream, dialect, exchange)


async def _write(
    connection: AsyncConnection, context: Context, checked: Submission, update: Update | None, error: str | None
) -> list[Applied]:
    await task_store.lock(connection, [checked.task_id])
    duplicate = (await submissions.by_id(connection, [checked.id]))[checked.id]
    if duplicate.superseded_at is not None and duplicate.attempts == checked.attempts:
        return await apply(context, connection, [_change(context, duplicate, update, error)])
    return []  # it serves its task by now, or another process checks it


def _change(context: Context, duplicate: Submission, update: Update | None, error: str | None) -> DuplicateChecked:
    state = str(update.state) if update is not None and update.state is not None else duplicate.job_state
    ended = update is not None and update.state is not None and update.state.ended
    after = dataclasses.replace(
        duplicate,
        job_state=state,
        cost=None if update is None else update.cost,
        refunded=None if update is None else update.refunded,
        due_at=None if ended else _next_check(context, duplicate),
    )
    details: dict[str, Any] = {
        "upstream": duplicate.upstream,
        "external_id": duplicate.external_id,
        "job_state": state,
        "error": error,
    }
    if update is not None and update.results:
        details["job_results"] = [result.as_json() for result in update.results]
    return DuplicateChecked(
        task_id=duplicate.task_id, submission=after, ended=ended or after.due_at is None, details=details
    )


def _next_check(context: Context, duplicate: Submission) -> dt.datetime | None:
    now = context.now()
    age = (now - (duplicate.superseded_at or duplicate.sent_at)).total_seconds()
    if age > GIVE_UP_AFTER:
        return None
    return now + dt.timedelta(seconds=min(max(age / 2, FIRST_WAIT), MAX_WAIT))
