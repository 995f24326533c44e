"""Check reservations that nothing has settled: an older process may have ended their tasks without booking the price."""

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.changes import CostDue
from service.flows.apply import Applied, announce, apply
from service.flows.context import Context
from service.flows.money.allowance import CHECK_EVERY
from service.store import submissions
from service.store.money import reservations

EVERY = 60.0
"""Seconds between two rounds."""
MAX_CHECKED = 200


async def run_due(context: Context) -> int:
    """Check the reservations that are due, and settle those whose submission has ended; return how many were checked."""
    now = context.now()
    async with context.database.reading() as connection:
        due = await reservations.due(connection, now=now, most=MAX_CHECKED)
        known = await submissions.by_id(connection, [submission for submission, _ in due]) if due else {}
    if not due:
        return 0
    changes = [CostDue(task_id=task, submission=known[submission]) for submission, task in due if submission in known]
    applied = await context.writers.journeys.run(_settle, context, changes)
    announce(context, applied)
    return len(due)


async def _settle(connection: AsyncConnection, context: Context, changes: list[CostDue]) -> list[Applied]:
    """Settle what has ended, and check the others again later."""
    applied = await apply(context, connection, changes)
    until = context.now() + CHECK_EVERY
    await reservations.postpone(connection, [change.submission.id for change in changes], until=until)
    return applied
