"""Acts of a visitor on tasks: cancel, poll now, submit again, send input. Each is the same as in the API."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.responses import Response

from service.domain.task import State, Task
from service.domain.validation import Mistake
from service.providers.registry import FAMILIES
from service.store import overview
from service.store import tasks as task_store
from service.web.api.route import invalid
from service.web.api.task_actions import cancel_found, refresh_found, retry_found, send_input_of
from service.web.dashboard.schema_form import input_from
from service.web.dashboard.task_query import as_id, query_of
from service.web.dashboard.tasks import PAGE
from service.web.dashboard.visit import Visit
from service.web.problems import Problem

MAX_AT_ONCE: Final = 8
"""Tasks on which a bulk act works at once."""


async def find_task(visit: Visit) -> Task:
    """Return the task that the address names.

    :raises Problem: 404 when there is none, or when it belongs to another client
    """
    task_id = as_id(visit.http.path_params["id"])
    async with visit.context.database.reading() as connection:
        found = None if task_id is None else await task_store.find(connection, task_id, visit.sees_only)
    if found is None:
        raise Problem(404, "not_found", "no task of yours has this id: it is not in this database, or another client's")
    return found


async def cancel_task(visit: Visit) -> Response:
    """Cancel a task."""
    task = await find_task(visit)
    if task.state is not State.CANCELLED:
        await cancel_found(visit.context, task)
    return visit.redirect(f"/tasks/{task.id}")


async def refresh_task(visit: Visit) -> Response:
    """Poll a task now."""
    task = await find_task(visit)
    await refresh_found(visit.context, task, client=visit.caller.client)
    return visit.redirect(f"/tasks/{task.id}")


async def retry_task(visit: Visit) -> Response:
    """Submit an unconfirmed task again."""
    task = await find_task(visit)
    if visit.field("confirm_double_payment") != "true":
        detail = "tick that you accept a possible second charge: the job may exist already"
        raise invalid([Mistake("confirm_double_payment", detail)])
    await retry_found(visit.context, task)
    return visit.redirect(f"/tasks/{task.id}")


async def send_input(visit: Visit) -> Response:
    """Send the input that a task waits for."""
    task = await find_task(visit)
    schema = awaited_by(task)
    given = {} if schema is None else input_from(schema, visit.form)
    await send_input_of(visit.context, task, given)
    return visit.redirect(f"/tasks/{task.id}")


def awaited_by(task: Task) -> Mapping[str, Any] | None:
    """Return the schema of the input that a task's operation may ask for."""
    family = FAMILIES.get(task.family)
    operation = None if family is None else family.operations.get(task.operation)
    return None if operation is None else operation.answer


async def bulk(visit: Visit) -> Response:
    """Act on picked tasks. To cancel them, a page asks first."""
    ids = {found for text in visit.form.get("task", [])[:PAGE] if (found := as_id(text)) is not None}
    act = visit.field("act")
    if act not in {"refresh", "cancel"}:
        raise invalid([Mistake("act", "must be refresh or cancel")])
    if not ids:
        raise invalid([Mistake("task", "pick at least one task")])
    async with visit.context.database.reading() as connection:
        tasks = await overview.by_ids(connection, ids, visit.sees_only)
    fitting = [task for task in tasks if not task.state.ended]
    if act == "cancel" and visit.field("confirmed") != "true":
        return visit.page(
            "bulk.html",
            title="Cancel tasks",
            tasks=fitting,
            left_out=len(tasks) - len(fitting),
            following=visit.field("next"),
        )
    failed = await _for_each(visit, act, fitting)
    if failed:
        return visit.page(
            "bulk_done.html", title="Some tasks were left as they are", failed=failed, done=len(fitting) - len(failed)
        )
    query = query_of(parse_qsl(visit.field("next").partition("?")[2])[:40])
    return visit.redirect(f"/tasks{query.address(cursor=query.before).rstrip('?')}")


async def _for_each(visit: Visit, act: str, tasks: list[Task]) -> list[tuple[Task, str]]:
    """Act on each task, and return those that it failed for, with the reason."""
    room = asyncio.Semaphore(MAX_AT_ONCE)

    async def one(task: Task) -> tuple[Task, str] | None:
        async with room:
            try:
                if act == "cancel":
                    await cancel_found(visit.context, task)
                else:
                    await refresh_found(visit.context, task, client=visit.caller.client)
            except Problem as problem:
                return task, problem.detail
        return None

    outcomes = await asyncio.gather(*(one(task) for task in tasks))
    return [outcome for outcome in outcomes if outcome is not None]
