"""Erasure: remove a task's content everywhere, because somebody asks for it.

The database is erased at once, in one transaction, as soon as the task has ended. What lies outside of it follows, and is
tried again until it is done. A second pass removes what was on its way during the first: the response of a receiver, or a
callback that was being read.
"""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Final, Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.changes import ContentErased
from service.domain.errors import NotFound, UpstreamError
from service.domain.media_references import references_in, upload_id
from service.domain.schedules import LEASE
from service.domain.task import Task
from service.flows.apply import Applied, announce, apply
from service.flows.assets import uploads
from service.flows.concurrency import TaskPool
from service.flows.context import Context, log
from service.flows.conversation import run_exchange
from service.flows.submission.cancel import cancel
from service.providers.capabilities import CanDelete
from service.providers.registry import DIALECTS
from service.store import erasures as erasure_store
from service.store import queue, sqlite_space, submissions
from service.store import tasks as task_store
from service.store import uploads as upload_store
from service.store.database import StoreUnavailable
from service.store.erasures import Erasure

MAX_CONCURRENT: Final = 10
PAGE: Final = 200
"""Tasks of a request that are noted in one transaction."""
SECOND_PASS: Final = 2 * LEASE
"""Seconds after the first pass: by then nothing that had been claimed before it is still under way."""
OPEN_WAIT: Final = 5.0
MAX_WAIT: Final = 300.0
"""Seconds until an open task is looked at again: the first wait, which doubles, and the longest."""
PROVIDER_WAITS: Final = (10.0, 60.0, 300.0, 1800.0, 7200.0, 21600.0, 43200.0, 86400.0)
"""Seconds until a provider is asked again that could not delete a job."""
Provider = Literal["deleted", "not_possible", "failed"]
_NO_ID: Final = UUID(int=0)


async def request_one(context: Context, task: Task, *, with_cancel: bool) -> UUID:
    """Erase a task, and return the id of the request. An open task is erased when it has ended.

    A repetition continues the same request: its id is that of the task.

    :param with_cancel: whether to cancel an open task
    """
    await context.writers.requests.run(
        erasure_store.request_one, task.id, task.client, cancel=with_cancel, now=context.now()
    )
    for erasure in await context.writers.journeys.run(_claim, context, MAX_CONCURRENT, task.id):
        await _attempt(context, erasure)
    return task.id


async def request_labelled(
    context: Context, labels: Mapping[str, str], client: str | None, *, with_cancel: bool
) -> UUID:
    """Note the erasure of every task that has all of some labels, and return the id of the request.

    :param client: whose tasks; None for those of all clients
    """
    request_id, after = context.new_id(), _NO_ID
    while True:
        following = await context.writers.requests.run(
            erasure_store.request_labelled,
            request_id,
            labels,
            client,
            cancel=with_cancel,
            after=after,
            most=PAGE,
            now=context.now(),
        )
        if following is None:
            context.signals.wake("erasures")
            return request_id
        after = following


async def run_due(context: Context, pool: TaskPool) -> int:
    """Claim the erasures that are due and start them; return how many were claimed."""
    room = min(pool.free, MAX_CONCURRENT)
    if not room:
        return 0
    claimed = await context.writers.journeys.run(_claim, context, room)
    for erasure in claimed:
        pool.start(_attempt(context, erasure))
    return len(claimed)


async def _claim(
    connection: AsyncConnection, context: Context, most: int, request_id: UUID | None = None
) -> list[Erasure]:
    """Claim erasures that are due: of one request, or of all."""
    now = context.now()
    until = now + dt.timedelta(seconds=LEASE)
    if request_id is None:
        rows = await queue.claim_rows(connection, "erasures", now=now, until=until, most=most)
    else:
        rows = await queue.claim_erasures_of(connection, request_id, now=now, until=until)
    return [erasure_store.erasure_of(row) for row in rows]


async def _attempt(context: Context, erasure: Erasure) -> None:
    """Do what can be done of an erasure now, and note how far it has come. Without that its lease brings it back."""
    try:
        after = await _advance_erasure(context, erasure)
        row = {"of_row": erasure.id, "of_attempt": erasure.attempts}
        row |= {name: getattr(after, name) for name in ("erased_at", "provider", "error", "due_at")}
        await context.writers.journeys.run(queue.settle_erasures, [row])
    except StoreUnavailable as error:
        log.warning("erasure is tried again task=%s error=%s", erasure.task_id, error)
    except Exception:  # noqa: BLE001 - it is tried again at the end of its lease
        log.exception("erasure is tried again task=%s", erasure.task_id)


async def _advance_erasure(context: Context, erasure: Erasure) -> Erasure:
    """Do the next part of an erasure; return it with the time of the part after that."""
    now = context.now()
    if erasure.erased_at is None:
        task = await _find(context, erasure.task_id)
        if task is not None and not task.state.ended and erasure.cancel and task.cancel_requested_at is None:
            task = await _cancelled(context, task)
        if task is not None and not task.state.ended:
            wait = min(OPEN_WAIT * 2 ** min(erasure.attempts - 1, 10), MAX_WAIT)
            return dataclasses.replace(erasure, due_at=now + dt.timedelta(seconds=wait))
        applied, uploaded = await context.writers.journeys.run(_erase, context, erasure.task_id, now)
        announce(context, applied)
        context.signals.wake("results")
        await uploads.delete(context, uploaded)
        log.info("content erased task=%s client=%s", erasure.task_id, erasure.client)
        erasure = dataclasses.replace(erasure, erased_at=now)
    again: dt.datetime | None = None
    if erasure.provider is None:
        erasure, again = await _delete_at_provider(context, erasure)
    second_pass = (erasure.erased_at or now) + dt.timedelta(seconds=SECOND_PASS)
    if now < second_pass:
        return dataclasses.replace(erasure, due_at=min(second_pass, again or second_pass))
    await context.writers.journeys.run(_remove_again, erasure.task_id, now=now)
    if context.database.sqlite and not await sqlite_space.empty_log(context.database):
        again = now + dt.timedelta(seconds=OPEN_WAIT)
    return dataclasses.replace(erasure, due_at=again)


async def _find(context: Context, task_id: UUID) -> Task | None:
    async with context.database.reading() as connection:
        return await task_store.find(connection, task_id)


async def _cancelled(context: Context, task: Task) -> Task | None:
    """Cancel an open task, as far as that is possible now."""
    try:
        await cancel(context, task)
    except UpstreamError as error:
        log.warning("task to erase cannot be cancelled yet task=%s error=%s", task.id, error.code)
    return await _find(context, task.id)


async def _erase(
    connection: AsyncConnection, context: Context, task_id: UUID, now: dt.datetime
) -> tuple[list[Applied], list[UUID]]:
    """Remove the content of a task that has ended, and write that into its history and the feed.

    The deletion of its uploads is begun in the same transaction: it is completed later where this process dies.

    :returns: what to announce, and the uploads to delete
    """
    task = (await task_store.lock(connection, [task_id])).get(task_id)
    if task is None or not task.state.ended or task.erased_at is not None:
        return [], []
    whole = await task_store.with_whole_input(connection, task)
    named = (upload_id(each.name) for each in references_in(whole.input) if each.source == "upload")
    uploaded = {*filter(None, named), *await upload_store.of_tasks(connection, [task_id])}
    own = [each.id for each in (await upload_store.by_id(connection, uploaded)).values() if each.client == task.client]
    if own:
        await upload_store.claim(connection, own, now=now)
    applied = await apply(context, connection, [ContentErased(task_id=task_id, at=now)])
    await erasure_store.remove_content(connection, task_id, now=now)
    return applied, own


async def _remove_again(connection: AsyncConnection, task_id: UUID, *, now: dt.datetime) -> None:
    task = (await task_store.lock(connection, [task_id])).get(task_id)
    if task is not None and task.erased_at is not None:
        await erasure_store.remove_content(connection, task_id, now=now)


# ── at the provider ────────────────────────────────────────────────────────────────────────────────────────────


async def _delete_at_provider(context: Context, erasure: Erasure) -> tuple[Erasure, dt.datetime | None]:
    """Ask the providers of a task's jobs to delete them, where they can; return when to ask again, too."""
    task = await _find(context, erasure.task_id)
    async with context.database.reading() as connection:
        history = (await submissions.of_tasks(connection, [erasure.task_id]))[erasure.task_id]
    outcomes: list[Provider] = []
    for submission in history:
        if task is None or submission.external_id is None:
            continue
        stand_in = dataclasses.replace(
            task, upstream=submission.upstream, dialect=submission.dialect, external_id=submission.external_id
        )
        try:
            outcomes.append(await _delete(context, stand_in))
        except UpstreamError as error:
            return _refused(context, erasure, error)
    provider: Provider = "deleted" if outcomes and all(each == "deleted" for each in outcomes) else "not_possible"
    return dataclasses.replace(erasure, provider=provider, error=None), None


async def _delete(context: Context, task: Task) -> Provider:
    upstream, dialect = context.upstreams.get(task.upstream or ""), DIALECTS.get(task.dialect or "")
    if upstream is None or not isinstance(dialect, CanDelete) or task.operation in dialect.facts.synchronous:
        return "not_possible"
    try:
        await run_exchange(context, upstream, dialect, dialect.delete(task))
    except NotFound:
        log.info("job is gone already upstream=%s external_id=%s", task.upstream, task.external_id)
    return "deleted"


def _refused(context: Context, erasure: Erasure, error: UpstreamError) -> tuple[Erasure, dt.datetime | None]:
    """Return an erasure whose provider has not deleted a job, and when to ask again; None: no more."""
    erased_at = erasure.erased_at or context.now()
    age = (context.now() - erased_at).total_seconds()
    later = next((each for each in PROVIDER_WAITS if each > age), None)
    log.warning("job not deleted task=%s error=%s again=%s", erasure.task_id, error.code, later is not None)
    if later is None:
        return dataclasses.replace(erasure, provider="failed", error=error.code), None
    return dataclasses.replace(erasure, error=error.code), erased_at + dt.timedelta(seconds=later)
