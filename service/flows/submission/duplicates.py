"""Look after jobs that were made besides the one that serves their task: stop them where that can be done, and keep
what they cost in the books.
"""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import NotFound, UpstreamError
from service.domain.schedules import LEASE
from service.domain.task import Source, State, Submission, Task, Update
from service.flows.apply import News, apply, settle, unserved
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
LONGEST_WAIT = 600.0
GIVEN_UP_AFTER = 86_400.0
"""Seconds after which a job that never ends is left to itself."""


async def run_due(context: Context, pool: TaskPool) -> int:
    """Take the extra jobs that are due and start to look after them; answer how many were taken."""
    room = min(pool.free, MAX_CONCURRENT)
    if not room:
        return 0
    now = context.now()
    claimed = await context.writer.do(_claim, (now, now + dt.timedelta(seconds=LEASE), room))
    for row in claimed:
        pool.start(look_after(context, submissions.submission_of(row)))
    return len(claimed)


async def _claim(
    connection: AsyncConnection, wishes: Sequence[tuple[dt.datetime, dt.datetime, int]]
) -> list[Sequence[Row[Any]]]:
    return [
        await queue.claim_rows(connection, "submissions", now=now, until=until, most=most)
        for now, until, most in wishes
    ]


async def look_after(context: Context, extra: Submission) -> None:
    """Stop an extra job, or see where it stands."""
    async with context.database.reading() as connection:
        task = await task_store.find(connection, extra.task_id)
    wanted = task is not None and unserved(task)
    upstream, dialect = context.upstreams.get(extra.upstream), DIALECTS.get(extra.dialect)
    update: Update | None = None
    error: str | None = None
    if task is not None and upstream is not None and dialect is not None:
        try:
            update = await _ask(context, task, extra, upstream, dialect, wanted=wanted)
        except NotFound:
            update = Update(state=State.CANCELLED)  # whatever it was, it is no more
        except UpstreamError as problem:
            error = str(problem)
        except Exception as problem:  # noqa: BLE001 - a mistake of ours while reading: it is looked at again
            log.exception("extra job %s cannot be looked after", extra.external_id)
            error = type(problem).__name__
    if wanted and update is not None and update.state not in {None, State.FAILED, State.CANCELLED}:
        named = dataclasses.replace(update, external_id=update.external_id or extra.external_id)
        await settle(context, News(task_id=extra.task_id, source=Source.POLL, update=named, proves=extra))
    else:
        await context.writer.do(context.once(_write), (extra, update, error))


async def _ask(
    context: Context, task: Task, extra: Submission, upstream: Upstream, dialect: Dialect, *, wanted: bool
) -> Update:
    """Ask as if the task were served by the extra job. A cancel looks first: it must not destroy what has been paid.

    :param wanted: whether nothing else serves the task by now, so that the job must not be stopped
    """
    stand_in = dataclasses.replace(
        task, upstream=extra.upstream, dialect=extra.dialect, external_id=extra.external_id, results=()
    )
    asked = dialect.cancel(stand_in) if isinstance(dialect, CanCancel) and not wanted else dialect.poll(stand_in)
    return await run_exchange(context, upstream, dialect, asked)


async def _write(
    context: Context, connection: AsyncConnection, found: Sequence[tuple[Submission, Update | None, str | None]]
) -> list[None]:
    await task_store.lock(connection, [extra.task_id for extra, _, _ in found])
    known = await submissions.by_id(connection, [extra.id for extra, _, _ in found])
    for asked, update, error in found:
        extra = known[asked.id]
        if extra.superseded_at is None or extra.attempts != asked.attempts:
            continue  # it serves its task by now, or another looks after it
        state = str(update.state) if update is not None and update.state is not None else extra.job_state
        ended = update is not None and update.state is not None and update.state.ended
        after = dataclasses.replace(
            extra,
            job_state=state,
            cost=None if update is None else update.cost,
            refunded=None if update is None else update.refunded,
            due_at=None if ended else _next_look(context, extra),
        )
        details: dict[str, Any] = {
            "upstream": extra.upstream,
            "external_id": extra.external_id,
            "job_state": state,
            "error": error,
        }
        if update is not None and update.results:
            details["job_results"] = [result.as_json() for result in update.results]
        remark = "extra_job_ended" if ended or after.due_at is None else None
        news = News(task_id=extra.task_id, source=Source.POLL, settles=after, remark=remark, details=details)
        await apply(context, connection, [news])
    return [None] * len(found)


def _next_look(context: Context, extra: Submission) -> dt.datetime | None:
    now = context.now()
    age = (now - (extra.superseded_at or extra.sent_at)).total_seconds()
    if age > GIVEN_UP_AFTER:
        return None
    return now + dt.timedelta(seconds=min(max(age / 2, FIRST_WAIT), LONGEST_WAIT))
