"""After a restore: a task that was not sent in the backup may have been sent since, so it is not sent again by itself."""

import dataclasses
from collections.abc import Awaitable, Callable
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.operator_events import BACKUP_RESTORED, Occurrence
from service.domain.submission_changes import RESTORED, DatabaseRestored
from service.domain.task import Outcome, Submission
from service.flows.apply import Applied, announce, apply
from service.flows.context import Context, log
from service.flows.feed import begin_epoch
from service.flows.webhooks.operator import report
from service.store import restoration, secrets, submissions

NONE = UUID(int=0)
"""Older than every submission."""
MAX_TASKS = 200
"""Tasks that are settled in one transaction."""


async def settle_if_restored(context: Context) -> int:
    """Detect a restore at the start of a worker, and settle what may have been submitted since the backup.

    :returns: how many tasks were settled
    """
    reason = await context.writers.journeys.run(_detect, context)
    if reason is None:
        return 0
    log.error("database was restored or set back; queued tasks are not submitted by themselves reason=%s", reason)
    return await settle_restored(context, reason)


async def settle_restored(context: Context, reason: str = "an operator reported it") -> int:
    """Leave every queued and submitting task unconfirmed, so that its policy decides; return how many there were."""
    # First those that are unconfirmed already: what the second step leaves unconfirmed keeps its policy.
    settled = await _settle_all(context, _withdraw_resubmissions) + await _settle_all(context, _settle_unsent)
    await context.writers.journeys.run(_remember, context)
    await report(context, Occurrence(BACKUP_RESTORED, "", {"reason": reason, "unconfirmed_tasks": settled}))
    if settled:
        log.error("tasks left unconfirmed after a restore tasks=%d", settled)
    return settled


async def _detect(connection: AsyncConnection, context: Context) -> str | None:
    """Return how it shows that the database was set back; None where nothing shows."""
    if context.mark is not None:
        marked, newest = context.mark.read(), await restoration.newest_submission(connection) or NONE
        if marked is not None and newest < marked:
            return "its newest submission is older than the mark beside it"
        context.mark.write(newest)
        return None
    here = await restoration.location(connection)
    if here is None:
        return None
    kept = await secrets.keep(connection, restoration.LOCATION, here, now=context.now())
    return None if kept == here else f"it moved from {kept} to {here} (cluster/timeline/database/table)"


async def _remember(connection: AsyncConnection, context: Context) -> None:
    """Note the state that is known from now on, and refuse the cursors that were issued since the backup."""
    await begin_epoch(connection, now=context.now())
    if context.mark is not None:
        context.mark.write(await restoration.newest_submission(connection) or NONE)
        return
    here = await restoration.location(connection)
    if here is not None:
        await secrets.replace(connection, restoration.LOCATION, here, now=context.now())


async def _settle_all(context: Context, step: Callable[[AsyncConnection, Context], Awaitable[list[Applied]]]) -> int:
    """Repeat a step until no task is left; return how many tasks there were."""
    settled = 0
    while True:
        applied = await context.writers.journeys.run(step, context)
        announce(context, applied)
        settled += len(applied)
        if len(applied) < MAX_TASKS:
            return settled


async def _withdraw_resubmissions(connection: AsyncConnection, context: Context) -> list[Applied]:
    """Make tasks wait for their deadline whose one resubmission may have been used since the backup."""
    ids = await restoration.resubmittable(connection, most=MAX_TASKS)
    return await apply(context, connection, [DatabaseRestored(task_id=each, was_unconfirmed=True) for each in ids])


async def _settle_unsent(connection: AsyncConnection, context: Context) -> list[Applied]:
    """Leave tasks unconfirmed that may have been submitted since the backup."""
    ids = await restoration.to_submit(connection, most=MAX_TASKS)
    histories = await submissions.of_tasks(connection, ids)
    changes = [DatabaseRestored(task_id=each, submission=_in_flight(context, histories[each])) for each in ids]
    return await apply(context, connection, changes)


def _in_flight(context: Context, history: list[Submission]) -> Submission | None:
    sending = next((each for each in history if each.outcome is Outcome.SENDING), None)
    if sending is None:
        return None
    return dataclasses.replace(
        sending, outcome=Outcome.UNCERTAIN, code="unknown", message=RESTORED, settled_at=context.now()
    )
