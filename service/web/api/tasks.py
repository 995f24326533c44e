"""Submit tasks, read them, list them, and wait for them."""

import asyncio
import dataclasses
import functools
import re
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.task import State, Task
from service.domain.validation import Mistake, quote
from service.flows.context import Context
from service.flows.render import show_event, show_task
from service.flows.submission import accept
from service.flows.submission.adoption import forwarding_url
from service.flows.submission.request import MAX_LABELS
from service.flows.upstreams import status as upstream_status
from service.store import events as event_store
from service.store import tasks as task_store
from service.web.api.lookup import existing, page, page_size, path_id
from service.web.api.models import STATE, TASK_EXAMPLE, ref
from service.web.api.refusals import refusals
from service.web.api.route import (
    CURSOR,
    ID_SCHEMA,
    LIMIT,
    ApiRequest,
    Endpoint,
    Parameter,
    ResponseSpec,
    address_of,
    first_id_at,
    invalid,
    json_response,
)
from service.web.problems import Problem
from service.web.waiting import wait_for_end

MAX_WAIT: Final = 60
"""Seconds that a request may ask to wait."""
LONGEST_WAIT: Final = 55.0
"""Seconds after which a request that waits is answered. Proxies usually give up after 60."""
MAX_KEY: Final = 255
"""Characters of an idempotency key."""


async def submit(request: ApiRequest) -> Response:
    """Accept a task."""
    key = _idempotency_key(request)
    wait = _preferred_wait(request)
    document = await request.read_json()
    with refusals():
        accepted = await accept.accept(
            request.context, document, client=request.client, idempotency_key=key, large=request.lease.size > 0
        )
    del document
    await request.lease.end_turn()
    request.lease.release()
    task = accepted.task if not wait else await wait_for_end(request.context, accepted.task, min(wait, LONGEST_WAIT))
    headers = {"Location": address_of(request, f"tasks/{task.id}")}
    if not accepted.new:
        headers["Idempotency-Replayed"] = "true"
    return json_response({**render(request, task), **_forwarding(request.context, task)}, 202, headers)


async def get(request: ApiRequest) -> Response:
    """Return a task."""
    task = await find(request)
    wait = request.query.get("wait", 0)
    if wait:
        task = await wait_for_end(request.context, task, min(wait, LONGEST_WAIT))
    if task.large_input:
        return await _get_large(request, task)
    shown = {**render(request, task), **_forwarding(request.context, task)}
    position = await upstream_status.queue_position(request.context, task)
    return json_response(shown if position is None else {**shown, "queue_position": position})


async def _get_large(request: ApiRequest, task: Task) -> Response:
    """Return a task with its whole input, one large task at a time."""
    await request.lease.wait_for_turn()
    async with request.context.database.reading() as connection:
        whole = await task_store.with_whole_input(connection, task)
    shown = {**render(request, dataclasses.replace(whole, large_input=False)), **_forwarding(request.context, task)}
    position = await upstream_status.queue_position(request.context, task)
    return await asyncio.to_thread(json_response, shown if position is None else {**shown, "queue_position": position})


async def list_tasks(request: ApiRequest) -> Response:
    """Return a page of tasks."""
    wanted = _filter(request)
    size = page_size(request)
    async with request.context.database.reading() as connection:
        found = await task_store.page(connection, wanted, most=size + 1)
    return page("tasks", found, size, functools.partial(render, request))


async def list_events(request: ApiRequest) -> Response:
    """Return the history of a task."""
    task = await find(request)
    after = request.query.get("after", 0)
    async with request.context.database.reading() as connection:
        found = await event_store.of_task(connection, task.id, after=after)
    return json_response({"events": [show_event(event) for event in found]})


async def find(request: ApiRequest) -> Task:
    """Return the task that the path names.

    :raises Problem: 404 when there is none, or when it belongs to another client
    """
    task_id = path_id(request, "task")
    async with request.context.database.reading() as connection:
        return existing(await task_store.find(connection, task_id, request.sees_only), "task")


def render(request: ApiRequest, task: Task) -> dict[str, Any]:
    """Return a task as the caller sees it: an operator also sees the client."""
    owner = {"client": task.client} if request.sees_only is None else {}
    return {**show_task(task, now=request.context.now(), api_url=request.context.settings.links_url), **owner}


def _forwarding(context: Context, task: Task) -> dict[str, str]:
    """Return the URL for forwarded callbacks of an adopted task that has not ended."""
    url = None if task.state.ended else forwarding_url(context, task)
    return {} if url is None else {"forward_callbacks_to": url}


def _idempotency_key(request: ApiRequest) -> str | None:
    key = request.http.headers.get("idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise invalid([Mistake("Idempotency-Key", f"must have 1 to {MAX_KEY} printable characters")])
    return key


def _preferred_wait(request: ApiRequest) -> int:
    """Return the seconds of ``Prefer: wait=N`` (RFC 7240). An unknown preference is ignored."""
    found = re.search(r"(?:^|[,;\s])wait=([0-9]{1,4})(?:$|[,;\s])", request.http.headers.get("prefer", ""))
    return min(int(found[1]), MAX_WAIT) if found else 0


def _filter(request: ApiRequest) -> task_store.Filter:
    query = request.query
    mistakes: list[Mistake] = []
    labels: dict[str, str] = {}
    if len(query.get("label", [])) > MAX_LABELS:
        raise invalid([Mistake("label", f"is repeated too often: a task has at most {MAX_LABELS} labels")])
    for label in query.get("label", []):
        name, equals, value = label.partition("=")
        if not equals:
            mistakes.append(Mistake("label", f"must have the form name=value (got {quote(label)})"))
        labels[name] = value
    after = first_id_at(query.get("created_after"), "created_after", mistakes)
    before = first_id_at(query.get("created_before"), "created_before", mistakes)
    if "cursor" in query:
        cursor = UUID(query["cursor"])
        before = cursor if before is None else min(before, cursor)
    if mistakes:
        raise invalid(mistakes)
    return task_store.Filter(
        client=_listed_client(request),
        states=tuple(State(state) for state in query.get("state", [])),
        family=query.get("family"),
        labels=labels,
        after=after,
        before=before,
    )


def _listed_client(request: ApiRequest) -> str | None:
    """Return the client whose tasks are listed: the caller, or the one that an operator names."""
    named: str | None = request.query.get("client", request.sees_only)
    if request.sees_only not in {None, named}:
        raise Problem(403, "forbidden", f"a key with the scope `{Scope.ADMIN}` is required for tasks of other clients")
    return named


_NAME: Final = {"type": "string", "maxLength": 200}
_TIME: Final = {"type": "string", "format": "date-time"}
ID: Final = Parameter(name="id", place="path", schema=ID_SCHEMA, description="The task's id.")
LATEST: Final = ResponseSpec(description="The task in its latest version.", schema=ref("Task"))
TAG: Final = "Tasks"

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/tasks",
        handler=submit,
        scope=Scope.SUBMIT,
        name="submitTask",
        tag=TAG,
        summary="Submit a task",
        description=(
            "Stores the task and answers. Dovecote submits it to an upstream in the background, once. With an "
            "`Idempotency-Key` the request can be repeated: the same body returns the same task, and another body is "
            "refused. A repetition waits while the first request is still being stored. When that takes too long, it gets "
            "503 with `Retry-After` and can be sent again.\n\n"
            "With `external_id` Dovecote **adopts** a job that was bought elsewhere: it follows the job to its end, and never "
            "submits it. The same `upstream` and `external_id` return the same task; a job that another client follows is "
            "refused (409)."
        ),
        parameters=(
            Parameter(
                name="Idempotency-Key",
                place="header",
                schema={"type": "string", "minLength": 1, "maxLength": MAX_KEY},
                description="Your identifier of this request. It is valid as long as the task is kept.",
            ),
            Parameter(
                name="Prefer",
                place="header",
                schema={"type": "string", "examples": ["wait=30"]},
                description=(
                    f"`wait=N`: answer when the task has ended, or after N seconds (after {LONGEST_WAIT:.0f} s at most)."
                ),
            ),
        ),
        body=ref("TaskRequest"),
        example=TASK_EXAMPLE,
        responses={
            202: ResponseSpec(
                description="Accepted: the new task, or the task that has the idempotency key.",
                schema=ref("Task"),
                headers={
                    "Location": "The task's address: relative to this request, or absolute with the setting `api_url`.",
                    "Idempotency-Replayed": "`true` when a task already had the key.",
                },
            )
        },
        problems=(400, 402, 409, 413, 415, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/tasks",
        handler=list_tasks,
        scope=Scope.READ,
        name="listTasks",
        tag=TAG,
        summary="List tasks",
        description="Newest first. `next` is the cursor of the next page. A cursor does not expire.",
        parameters=(
            Parameter(
                name="state", place="query", schema=STATE, description="Only in this state. May be repeated.", many=True
            ),
            Parameter(name="family", place="query", schema=_NAME, description="Only of this family."),
            Parameter(
                name="client",
                place="query",
                schema=_NAME,
                description="Only of this client. Keys without the scope `admin` may name their own client only.",
            ),
            Parameter(
                name="label",
                place="query",
                schema={"type": "string", "maxLength": 400, "examples": ["project=intro"]},
                description="Only with this label, as `name=value`. May be repeated: then all labels must match.",
                many=True,
            ),
            Parameter(
                name="created_after", place="query", schema=_TIME, description="Only accepted at or after this time."
            ),
            Parameter(
                name="created_before", place="query", schema=_TIME, description="Only accepted before this time."
            ),
            LIMIT,
            CURSOR,
        ),
        responses={200: ResponseSpec(description="A page of tasks.", schema=ref("TaskList"))},
        problems=(422,),
    ),
    Endpoint(
        method="GET",
        path="/v1/tasks/{id}",
        handler=get,
        scope=Scope.READ,
        name="getTask",
        tag=TAG,
        summary="Get a task, or wait for its end",
        parameters=(
            ID,
            Parameter(
                name="wait",
                place="query",
                schema={"type": "integer", "minimum": 0, "maximum": MAX_WAIT},
                description=(
                    f"Seconds to wait for the end of the task. The answer comes after {LONGEST_WAIT:.0f} s at most."
                ),
            ),
        ),
        responses={200: LATEST},
        problems=(404, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/tasks/{id}/events",
        handler=list_events,
        scope=Scope.READ,
        name="listTaskEvents",
        tag=TAG,
        summary="List a task's events",
        parameters=(
            ID,
            Parameter(
                name="after",
                place="query",
                schema={"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
                description="Only events with a higher sequence number.",
            ),
        ),
        responses={200: ResponseSpec(description="Events, oldest first, at most 1000.", schema=ref("EventList"))},
        problems=(404, 422),
    ),
)
