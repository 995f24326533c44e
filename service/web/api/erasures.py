"""Erase the content of a task, or of all tasks with some labels, such as those of a person."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.events import rfc3339
from service.domain.validation import Schema
from service.flows.retention import erase
from service.store import erasures as erasure_store
from service.store.erasures import Progress
from service.web.api import erasure_models
from service.web.api.lookup import existing, path_id
from service.web.api.models import ref
from service.web.api.route import (
    ID_SCHEMA,
    MAX_SMALL_BODY,
    ApiRequest,
    Endpoint,
    Parameter,
    ResponseSpec,
    address_of,
    invalid,
    json_response,
)
from service.web.api.tasks import ID, TAG, find
from service.web.problems import Problem

_REQUEST: Final = Schema(erasure_models.REQUEST)


async def erase_task(request: ApiRequest) -> Response:
    """Erase a task."""
    task = await find(request)
    request_id = await erase.request_one(request.context, task, with_cancel=request.query.get("cancel") == "true")
    return await _answer(request, request_id, task.client)


async def erase_labelled(request: ApiRequest) -> Response:
    """Erase, or count, the tasks with some labels."""
    document = await request.read_json(MAX_SMALL_BODY)
    mistakes = _REQUEST.mistakes(document)
    if mistakes:
        raise invalid(mistakes)
    client = _client(request, document)
    labels: Mapping[str, str] = document["labels"]
    if document.get("dry_run"):
        async with request.context.database.reading() as connection:
            count, open_tasks = await erasure_store.count_labelled(connection, labels, client)
        return json_response(_counted(count, open_tasks))
    with_cancel = bool(document.get("cancel"))
    request_id = await erase.request_labelled(request.context, labels, client, with_cancel=with_cancel)
    return await _answer(request, request_id, client)


async def get(request: ApiRequest) -> Response:
    """Return how far an erasure has come."""
    request_id = path_id(request, "erasure")
    async with request.context.database.reading() as connection:
        found = existing(await erasure_store.progress(connection, request_id, request.sees_only), "erasure")
    return json_response(_render(request_id, found))


async def _answer(request: ApiRequest, request_id: UUID, client: str | None) -> Response:
    """Return a request: 200 when the content of every task is removed, else 202."""
    async with request.context.database.reading() as connection:
        found = await erasure_store.progress(connection, request_id, client)
    if found is None:
        return json_response({**_counted(0, 0), "state": "complete"})
    if found.erased == found.tasks:
        return json_response(_render(request_id, found))
    return json_response(_render(request_id, found), 202, {"Location": address_of(request, f"erasures/{request_id}")})


def _client(request: ApiRequest, document: Mapping[str, Any]) -> str | None:
    """Return whose tasks are erased: the caller's, or those of the client that an operator names."""
    named: str | None = document.get("client", request.sees_only)
    if request.sees_only not in {None, named}:
        raise Problem(403, "forbidden", f"a key with the scope `{Scope.ADMIN}` is required for tasks of other clients")
    return named


def _counted(count: int, open_tasks: int) -> dict[str, Any]:
    numbers = {"tasks": count, "open": open_tasks, "erased": 0, "complete": 0}
    provider = {"deleted_at_provider": 0, "failed_at_provider": 0}
    return {"id": None, "state": "counted", "requested_at": None, **numbers, **provider}


def _render(request_id: UUID, found: Progress) -> dict[str, Any]:
    return {
        "id": str(request_id),
        "state": "complete" if found.complete == found.tasks else "pending",
        "requested_at": rfc3339(found.requested_at),
        "tasks": found.tasks,
        "open": found.tasks - found.erased,
        "erased": found.erased,
        "complete": found.complete,
        "deleted_at_provider": found.deleted_at_provider,
        "failed_at_provider": found.failed_at_provider,
    }


_DONE: Final = ResponseSpec(
    description="The content is removed from the database. `state` tells whether anything is left to do elsewhere.",
    schema=ref("Erasure"),
)
_STORED: Final = ResponseSpec(
    description="Stored. Open tasks are erased when they have ended.",
    schema=ref("Erasure"),
    headers={"Location": "The address of the erasure, which shows its progress."},
)

ENDPOINTS = (
    Endpoint(
        method="DELETE",
        path="/v1/tasks/{id}",
        handler=erase_task,
        scope=Scope.SUBMIT,
        name="eraseTask",
        tag=TAG,
        summary="Erase a task's content",
        description=(
            "Removes input, results, labels, callbacks, message bodies and kept copies, and asks the provider to delete the job "
            "where it can. The task stays with its state, times, ids and costs, and no later report brings content back. A task that has not ended is erased after its end; `cancel=true` cancels it."
        ),
        parameters=(
            ID,
            Parameter(
                name="cancel",
                place="query",
                schema={"type": "string", "enum": ["true", "false"]},
                description="Whether to cancel the task if it is open.",
            ),
        ),
        responses={200: _DONE, 202: _STORED},
        problems=(404, 422),
    ),
    Endpoint(
        method="POST",
        path="/v1/erasures",
        handler=erase_labelled,
        scope=Scope.SUBMIT,
        name="eraseTasks",
        tag=TAG,
        summary="Erase the content of all tasks with some labels",
        description=(
            "To erase the data of a person later, label each task with a pseudonym of that person. `dry_run` counts the tasks first. The erasure runs in the background."
        ),
        body=ref("ErasureRequest"),
        example={"labels": {"person": "p-1842"}, "dry_run": True},
        responses={200: _DONE, 202: _STORED},
        problems=(400, 413, 415, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/erasures/{id}",
        handler=get,
        scope=Scope.READ,
        name="getErasure",
        tag=TAG,
        summary="Get the progress of an erasure",
        parameters=(Parameter(name="id", place="path", schema=ID_SCHEMA, description="The request's id."),),
        responses={
            200: ResponseSpec(description="How far the erasure has come.", schema=ref("Erasure")),
        },
        problems=(404, 422),
    ),
)
