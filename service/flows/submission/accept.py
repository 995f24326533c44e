"""Accept a client's request: make its task, or find the task that the same request has made before."""

import asyncio
import dataclasses
import datetime as dt
import functools
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from service.domain.schedules import claimed_as_written
from service.domain.task import Task
from service.domain.uploads import Upload
from service.domain.validation import Invalid, Mistake
from service.flows.assets.media_links import MARGIN
from service.flows.context import Context
from service.flows.metrics.tracing import Traces, incoming
from service.flows.money.allowance import NoRoom, require_room
from service.flows.submission.adoption import adopt
from service.flows.submission.references import uploads_named
from service.flows.submission.request import request_hash, task_of_request
from service.flows.upstreams.models import warned
from service.store import tasks as task_store
from service.store import uploads as upload_store


class KeyReused(Exception):
    """The idempotency key belongs to another request."""

    def __init__(self, task: Task) -> None:
        """Keep the task that has the key."""
        super().__init__(
            f"this Idempotency-Key already belongs to task {task.id}, which was submitted with another body"
        )
        self.task = task


async def accept(
    context: Context, request: Any, *, client: str, idempotency_key: str | None = None, large: bool = False
) -> task_store.Accepted:
    """Store the task of a request, or return the one that the same request with the same key has made before.

    :param request: the document that a client sent
    :param large: whether to check it in a thread, so that the event loop is not blocked
    :raises Invalid: with every mistake
    :raises NoRoom: when the client's budgets have no room for it
    :raises JobTaken: when another client follows the job that it names
    :raises KeyReused: when the key came with another body before
    :raises StoreUnavailable: when it could not be written; nothing has been accepted
    """
    began = context.now()
    try:
        parent = await _find_parent(context, request, client)
        uploads = await _find_uploads(context, request)
        task_id = context.new_id()
        check = functools.partial(
            task_of_request,
            context,
            request,
            client=client,
            idempotency_key=idempotency_key,
            parent=parent,
            uploads=uploads,
            task_id=task_id,
        )
        task = await asyncio.to_thread(check) if large else check()
        if not task.adopted:
            await require_room(context, task)
    except (Invalid, NoRoom):
        # A request that was accepted once stays accepted, even if its deadline has passed or its upstream is gone.
        known = await _find_by_key(context, client, idempotency_key)
        if known is None or (known.erased_at is None and known.request_hash != request_hash(request)):
            raise
        return task_store.Accepted(known, new=False)
    if context.traces is not None:
        task = _traced(context, context.traces, task, began)
    if uploads:
        await _keep_uploads(context, task, uploads)
    if not task.adopted:
        task = await warned(context, task)
    accepted = await (adopt(context, task) if task.adopted else _store(context, task))
    if accepted.new:
        context.metrics.accepted.labels(task.family, task.operation).inc()
        if task.adopted:
            context.signals.wake("poll")
    elif _has_key(accepted.task, idempotency_key) and not _is_same(accepted.task, task):
        raise KeyReused(accepted.task)
    return accepted


async def _store(context: Context, task: Task) -> task_store.Accepted:
    """Store a task, and hand it to the journey of this process; where there is none, or others are due, wake the journeys."""
    is_claimed = context.handed_tasks.admits()
    written = claimed_as_written(task, at=task.created_at) if is_claimed else task
    accepted = await context.writers.requests.batch(task_store.accept, written)
    if not accepted.new:
        return accepted
    if not is_claimed:
        context.signals.wake("submit")
        return accepted
    context.handed_tasks.put(accepted.task)
    return dataclasses.replace(accepted, task=task_store.stored(task))


async def preview(context: Context, request: Any, *, client: str, large: bool = False) -> Task:
    """Return the task that a request would become. Nothing is stored.

    :raises Invalid: with every mistake
    """
    if isinstance(request, dict) and "external_id" in request:
        raise Invalid([Mistake("external_id", "leave it out: a job that was bought elsewhere has no quote")])
    parent = await _find_parent(context, request, client)
    uploads = await _find_uploads(context, request)
    check = functools.partial(
        task_of_request,
        context,
        request,
        client=client,
        idempotency_key=None,
        parent=parent,
        uploads=uploads,
        task_id=context.new_id(),
    )
    return await asyncio.to_thread(check) if large else check()


def _is_same(accepted: Task, requested: Task) -> bool:
    """Return whether a task may come from the same request. Of an erased task that is not known, and it is not bought again."""
    return accepted.erased_at is not None or accepted.request_hash == requested.request_hash


def _traced(context: Context, traces: Traces, task: Task, began: dt.datetime) -> Task:
    """Return a task with the context of its trace, which goes on from that of the request."""
    own = traces.record(
        "accept",
        incoming.get(),
        began,
        context.now(),
        task=str(task.id),
        client=task.client,
        family=task.family,
        operation=task.operation,
    )
    return task.changed(traceparent=own)


def _has_key(task: Task, idempotency_key: str | None) -> bool:
    """Return whether a task has the request's key. One that follows the same job may have another key, or none."""
    return idempotency_key is not None and task.idempotency_key == idempotency_key


async def _find_parent(context: Context, request: Any, client: str) -> Task | None:
    """Return the task that a follow-up continues, if it is the client's."""
    try:
        parent_id = UUID(request["parent_id"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    async with context.database.reading() as connection:
        return await task_store.find(connection, parent_id, client)


async def _find_uploads(context: Context, request: Any) -> dict[UUID, Upload]:
    """Return the uploads that a request refers to, of whatever client."""
    ids = uploads_named(request.get("input")) if isinstance(request, dict) else set()
    if not ids:
        return {}
    async with context.database.reading() as connection:
        return await upload_store.by_id(connection, ids)


async def _keep_uploads(context: Context, task: Task, uploads: Mapping[UUID, Upload]) -> None:
    """Keep the uploads of a task for as long as its job may fetch them.

    :raises Invalid: when one has expired meanwhile
    """
    until = task.deadline_at + MARGIN
    kept = await context.writers.requests.run(
        upload_store.keep_until, tuple(uploads), task.client, until=until, now=context.now()
    )
    if not kept:
        raise Invalid([Mistake("input", "an upload that it refers to has expired: upload the file again")])


async def _find_by_key(context: Context, client: str, idempotency_key: str | None) -> Task | None:
    if idempotency_key is None:
        return None
    async with context.database.reading() as connection:
        return await task_store.find_by_key(connection, client, idempotency_key)
