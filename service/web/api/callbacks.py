"""List the stored callbacks of providers, and process them again."""

from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.validation import Mistake, Schema
from service.flows.callbacks.preview import preview
from service.flows.callbacks.rerun import MAX_AT_ONCE, rerun
from service.store import inbox
from service.store.inbox import Entry, Filter
from service.store.tables import DECISIONS
from service.web.api.callback_models import render_callback
from service.web.api.lookup import existing, optional_id, page, page_size, path_id
from service.web.api.models import ref
from service.web.api.route import (
    CURSOR,
    ID_SCHEMA,
    LIMIT,
    MAX_SMALL_BODY,
    ApiRequest,
    Endpoint,
    Parameter,
    ResponseSpec,
    invalid,
    json_response,
)

RERUN: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["decision"],
    "properties": {
        "decision": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": "string", "enum": list(DECISIONS)},
            "description": "The decisions on the callbacks to run again, such as `unreadable` and `unmatched`.",
        },
        "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_AT_ONCE,
            "description": f"Maximum number of callbacks, newest first; default: {MAX_AT_ONCE}.",
        },
    },
}
"""JSON Schema of the body of ``POST /v1/callbacks/rerun``."""
_RERUN = Schema(RERUN)


async def list_callbacks(request: ApiRequest) -> Response:
    """Return a page of callbacks."""
    query, size = request.query, page_size(request)
    if request.sees_only is not None and "task" not in query:
        detail = f"is required: name a task of yours, or use a key with the scope `{Scope.ADMIN}` for all callbacks"
        raise invalid([Mistake("task", detail)])
    wanted = Filter(
        client=request.sees_only,
        decisions=tuple(query.get("decision", ())),
        upstream=query.get("upstream"),
        task_id=optional_id(query.get("task")),
        before=optional_id(query.get("cursor")),
    )
    async with request.context.database.reading() as connection:
        found = await inbox.page(connection, wanted, most=size + 1)
    return page("callbacks", found, size, render_callback)


async def get(request: ApiRequest) -> Response:
    """Return a callback with its body, and what this version reads in it."""
    entry = await _find(request)
    return json_response(_whole(request, entry))


async def rerun_one(request: ApiRequest) -> Response:
    """Process a callback again, as this version reads it."""
    entry = await _find(request)
    await rerun(request.context, [entry.id])
    return json_response(_whole(request, await _find(request)), 202)


async def rerun_many(request: ApiRequest) -> Response:
    """Process every callback with some decisions again."""
    document = await request.read_json(MAX_SMALL_BODY)
    mistakes: list[Mistake] = _RERUN.mistakes(document)
    if mistakes:
        raise invalid(mistakes)
    wanted = Filter(decisions=tuple(document["decision"]))
    async with request.context.database.reading() as connection:
        found = await inbox.page(connection, wanted, most=int(document.get("limit", MAX_AT_ONCE)))
    return json_response({"rerun": await rerun(request.context, [each.id for each in found])}, 202)


def _whole(request: ApiRequest, entry: Entry) -> dict[str, Any]:
    read = preview(request.context, entry.received, entry.submission)
    return {
        **render_callback(entry),
        "headers": dict(entry.received.headers),
        "body": entry.received.body.decode("utf-8", "replace"),
        "reads_as": read.says or None,
        "reading_error": read.error,
    }


async def _find(request: ApiRequest) -> Entry:
    callback_id = path_id(request, "callback")
    async with request.context.database.reading() as connection:
        return existing(await inbox.find(connection, callback_id, request.sees_only), "callback")


_ID: Final = Parameter(name="id", place="path", schema=ID_SCHEMA, description="The callback's id.")
_TAG: Final = "Callbacks"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/callbacks",
        handler=list_callbacks,
        name="listCallbacks",
        scope=Scope.READ,
        tag=_TAG,
        summary="List callbacks",
        description=(
            "The stored callbacks of providers, newest first. `next` is the cursor of the next page. A key without the scope "
            "`admin` must name one of its own tasks."
        ),
        parameters=(
            Parameter(
                name="decision",
                place="query",
                schema={"type": "string", "enum": list(DECISIONS)},
                description="Only with this decision. May be repeated.",
                many=True,
            ),
            Parameter(
                name="upstream",
                place="query",
                schema={"type": "string", "maxLength": 200},
                description="Only of this upstream.",
            ),
            Parameter(name="task", place="query", schema=ID_SCHEMA, description="Only about this task."),
            LIMIT,
            CURSOR,
        ),
        responses={200: ResponseSpec(description="A page of callbacks.", schema=ref("CallbackList"))},
        problems=(422,),
    ),
    Endpoint(
        method="POST",
        path="/v1/callbacks/rerun",
        handler=rerun_many,
        name="rerunCallbacks",
        scope=Scope.ADMIN,
        tag=_TAG,
        summary="Process callbacks again, as this version reads them",
        description=(
            "For callbacks that were not understood when they came, for example by an older version. Each is read and applied "
            "like a new one. One that was applied before changes nothing."
        ),
        body=RERUN,
        example={"decision": ["unreadable", "unmatched"], "limit": 100},
        responses={202: ResponseSpec(description="The callbacks are due.", schema=ref("RerunResult"))},
        problems=(400, 413, 415, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/callbacks/{id}",
        handler=get,
        name="getCallback",
        scope=Scope.READ,
        tag=_TAG,
        summary="Get a callback with its body",
        parameters=(_ID,),
        responses={200: ResponseSpec(description="The callback.", schema=ref("WholeCallback"))},
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/callbacks/{id}/rerun",
        handler=rerun_one,
        name="rerunCallback",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Process a callback again, as this version reads it",
        description="It is read and applied like a new one. `decision` is null until that has happened.",
        parameters=(_ID,),
        responses={202: ResponseSpec(description="The callback is due.", schema=ref("WholeCallback"))},
        problems=(404,),
    ),
)
