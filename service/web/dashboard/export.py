"""The list of tasks as CSV, for a spreadsheet."""

import dataclasses
from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response, StreamingResponse

from service.domain.events import rfc3339
from service.domain.explanation import explain
from service.domain.task import Task
from service.store.search import search
from service.web.dashboard.paid import cost_of
from service.web.dashboard.task_query import query_of
from service.web.dashboard.visit import Visit
from service.web.spreadsheet import line

MAX_ROWS: Final = 100_000
"""Tasks of a file."""
_AT_ONCE: Final = 500
COLUMNS: Final = (
    "id", "state", "family", "operation", "model", "client", "upstream", "external_id", "cost", "created_at", "finished_at",
    "explanation",
)  # fmt: skip


async def tasks_csv(visit: Visit) -> Response:
    """Return the tasks that fit the filters, newest first."""
    headers = {"Content-Disposition": 'attachment; filename="tasks.csv"'}
    return StreamingResponse(_lines(visit), headers=headers, media_type="text/csv; charset=utf-8")


async def _lines(visit: Visit) -> AsyncIterator[str]:
    yield line(COLUMNS)
    wanted, left = query_of(visit.http.query_params.multi_items()).as_filter(visit.sees_only, now=visit.now), MAX_ROWS
    while left > 0:
        async with visit.context.database.reading() as connection:
            found = await search(connection, wanted, most=min(_AT_ONCE, left))
        yield "".join(line(_cells(task, visit)) for task in found.tasks)
        following = found.tasks[-1].id if len(found.tasks) == _AT_ONCE else found.searched_to
        if following is None:
            return
        wanted, left = dataclasses.replace(wanted, before=following), left - len(found.tasks)


def _cells(task: Task, visit: Visit) -> tuple[object, ...]:
    texts = (task.id, task.state, task.family, task.operation, task.model, task.client, task.upstream, task.external_id)
    times = (rfc3339(task.created_at), rfc3339(task.finished_at))
    return (*texts, cost_of(task), *times, explain(task, now=visit.now))
