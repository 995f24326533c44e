"""What retention costs for a task does not grow with what waits to be processed."""

import datetime as dt
import functools
import re

from sqlalchemy import update

from bench.growth.plans import plans_of, statements_of
from service.domain.task import State
from service.store import tables
from service.store.retention import STEPS, Limits
from tests.support.query_plans import fill
from tests.support.values import NOW
from tests.support.world import World

OLD = NOW - dt.timedelta(days=100)
LIMITS = Limits(before=NOW - dt.timedelta(days=90), keys_before=NOW, now=NOW)
ENDED = {"finished_at": OLD, "created_at": OLD, "due_at": None, "state": str(State.SUCCEEDED), "decided_by": "provider"}
BACKLOGS = r"ix_callbacks_due|ix_submissions_due|ix_reservations_check|ix_erasures_due"
MESSAGES = "ix_webhook_messages_client_state"
"""The messages by their state. Messages themselves are found by their ids, for which a planner may take any index of a small table."""


async def test_step_reads_no_backlog(database_url: str) -> None:
    async with World.opened(database_url) as world, world.context.database.writing() as connection:
        await fill(connection)
        await connection.execute(update(tables.tasks).values(**ENDED))
        if connection.dialect.name == "postgresql":  # the backlog comes later: the statistics do not know it
            await connection.exec_driver_sql("ANALYZE")
        for kind in ("tasks", "inputs", "results", "callbacks", "messages"):
            step = functools.partial(STEPS[kind], limits=LIMITS, after=None, most=50)
            ran = [each for each in await statements_of(connection, step) if not isinstance(each[1], list)]
            plan = await plans_of(connection, ran)  # without the updates of many rows
            waiting = BACKLOGS if kind == "messages" else f"{BACKLOGS}|{MESSAGES}"
            assert re.search(waiting, plan) is None, plan
