"""Actions on a task, and the credit of an account, for several doors."""

from collections.abc import Sequence
from uuid import UUID

from service.domain.errors import UpstreamError
from service.domain.task import Task
from service.flows.retention import erase
from service.flows.submission import cancel as submission_cancel
from service.flows.upstreams import status as upstream_status
from service.store import erasures
from service.web.facades.door import DoorRequest
from service.web.problems import RETRY_AFTER, Problem


async def cancel(request: DoorRequest, task: Task) -> Task:
    """Cancel a task as far as possible now, and return it. One that has ended stays as it is.

    :raises Problem: 503 when the provider could not be asked; the request to cancel stays noted
    """
    if task.state.ended:
        return task
    try:
        await submission_cancel.cancel(request.context, task)
    except UpstreamError as error:
        detail = f"{task.upstream} could not be reached; the cancellation is stored, repeat the request"
        raise Problem(503, "upstream_unavailable", detail, headers={"Retry-After": RETRY_AFTER}) from error
    return await request.find_by_id(task.id) or task


async def delete(request: DoorRequest, task: Task) -> None:
    """Erase the content of a task; one that is open is cancelled, and erased when it has ended."""
    await erase.request_one(request.context, task, with_cancel=True)


async def find_undeleted(request: DoorRequest, named: str) -> Task:
    """Return the caller's task that an id names, if no client has deleted it.

    :raises Problem: 404 where there is none
    """
    task = await request.find(named)
    if await deleted_among(request, [task]):
        raise Problem(404, "not_found", "the task with this id is deleted")
    return task


async def deleted_among(request: DoorRequest, tasks: Sequence[Task]) -> set[UUID]:
    """Return those of some tasks that are erased, or will be as soon as their cancellation has ended them."""
    erased = {each.id for each in tasks if each.erased_at is not None}
    cancelled = [each.id for each in tasks if each.cancel_requested_at is not None and each.id not in erased]
    if not cancelled:
        return erased
    async with request.context.database.reading() as connection:
        return erased | await erasures.requested_among(connection, cancelled)


async def credit_of(request: DoorRequest, family: str, operation: str) -> float:
    """Return the credit of the first upstream that serves an operation and tells it; 0 to a client that sees only its own."""
    if request.caller.sees_only is not None:
        return 0
    known = await upstream_status.snapshot(request.context)
    for name, upstream in request.context.upstreams.items():
        credit = known[name].kept.credit
        if credit is not None and upstream.dialect_for(family, operation) is not None:
            return credit
    return 0
