"""List webhook messages and replay them."""

from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.operator_events import OPERATOR_TYPES
from service.domain.validation import Mistake, Schema
from service.flows.webhooks import replay
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import messages as message_store
from service.store.webhooks.messages import Filter, Message
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
    first_id_at,
    invalid,
    json_response,
)
from service.web.api.webhook_models import MESSAGE_STATE, MESSAGE_TYPE
from service.web.api.webhook_rendering import render_message, render_whole_message
from service.web.problems import Problem

_REPLAY = Schema(replay.REQUEST)


async def list_messages(request: ApiRequest) -> Response:
    """Return a page of messages."""
    query = request.query
    size = page_size(request)
    wanted = Filter(
        client=request.client,
        types=tuple(query.get("type", ())),
        states=tuple(query.get("state", ())),
        endpoint_id=optional_id(query.get("endpoint")),
        task_id=optional_id(query.get("task")),
        before=optional_id(query.get("cursor")),
    )
    async with request.context.database.reading() as connection:
        found = await message_store.list_messages(connection, wanted, most=size + 1)
    return page("messages", found, size, render_message)


async def get(request: ApiRequest) -> Response:
    """Return a message with every attempt to deliver it."""
    return await _render(request)


async def replay_one(request: ApiRequest) -> Response:
    """Deliver a message again."""
    message = await _find(request)
    try:
        await replay.replay_one(request.context, message)
    except replay.NotReplayable as error:
        raise Problem(409, "not_replayable", str(error)) from None
    except replay.Disabled as error:
        raise Problem(409, "endpoint_disabled", str(error)) from None
    return await _render(request, 202)


async def replay_many(request: ApiRequest) -> Response:
    """Deliver many messages again."""
    document = await request.read_json(MAX_SMALL_BODY)
    mistakes = _REPLAY.mistakes(document)
    if mistakes:
        raise invalid(mistakes)
    wanted = _wanted(request, document)
    dry = bool(document.get("dry_run"))
    count, following = await (replay.count_replayable if dry else replay.replay_many)(
        request.context, wanted, most=int(document.get("limit", replay.MAX_REPLAYED))
    )
    return json_response({"replayed": count, "next": None if following is None else str(following)}, 202)


def _wanted(request: ApiRequest, document: dict[str, Any]) -> Filter:
    mistakes: list[Mistake] = []
    after, before = (first_id_at(document.get(name), name, mistakes) for name in ("after", "before"))
    if mistakes:
        raise invalid(mistakes)
    cursor = optional_id(document.get("cursor"))
    return Filter(
        client=request.client,
        types=tuple(document.get("type", replay.REPLAYED)),
        states=tuple(document.get("state", replay.UNDELIVERED)),
        endpoint_id=optional_id(document.get("endpoint")),
        after=max(filter(None, (after, cursor)), default=None),
        before=before,
    )


async def _render(request: ApiRequest, status: int = 200) -> Response:
    message = await _find(request)
    async with request.context.database.reading() as connection:
        made = await attempt_store.of_message(connection, message.id)
    return json_response(render_whole_message(message, made), status)


async def _find(request: ApiRequest) -> Message:
    message_id = path_id(request, "message")
    async with request.context.database.reading() as connection:
        message = existing(await message_store.find(connection, message_id, request.client), "message")
    if message.type in OPERATOR_TYPES and Scope.ADMIN not in request.caller.scopes:
        raise Problem(403, "forbidden", f"a key with the scope `{Scope.ADMIN}` is required for messages to operators")
    return message


_ID: Final = Parameter(name="id", place="path", schema=ID_SCHEMA, description="The message's id.")
_TAG: Final = "Messages"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/messages",
        handler=list_messages,
        name="listMessages",
        scope=Scope.READ,
        tag=_TAG,
        summary="List messages",
        description="Newest first. `next` is the cursor of the next page.",
        parameters=(
            Parameter(
                name="type",
                place="query",
                schema=MESSAGE_TYPE,
                description="Only of this type. May be repeated.",
                many=True,
            ),
            Parameter(
                name="state",
                place="query",
                schema=MESSAGE_STATE,
                description="Only in this state. May be repeated.",
                many=True,
            ),
            Parameter(
                name="endpoint",
                place="query",
                schema=ID_SCHEMA,
                description="Only to this endpoint.",
            ),
            Parameter(
                name="task",
                place="query",
                schema=ID_SCHEMA,
                description="Only about this task.",
            ),
            LIMIT,
            CURSOR,
        ),
        responses={200: ResponseSpec(description="A page of messages.", schema=ref("MessageList"))},
        problems=(422,),
    ),
    Endpoint(
        method="POST",
        path="/v1/messages/replay",
        handler=replay_many,
        name="replayMessages",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Deliver many messages again",
        description=(
            f"Oldest first, at most {replay.MAX_REPLAYED} for each request. Messages to disabled endpoints are skipped. `next` is "
            "the `cursor` of the next request."
        ),
        body=ref("ReplayRequest"),
        example={"state": ["exhausted"], "dry_run": True},
        responses={202: ResponseSpec(description="The messages are due.", schema=ref("ReplayResult"))},
        problems=(400, 413, 415, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/messages/{id}",
        handler=get,
        name="getMessage",
        scope=Scope.READ,
        tag=_TAG,
        summary="Get a message with its deliveries",
        parameters=(_ID,),
        responses={200: ResponseSpec(description="The message.", schema=ref("MessageWithDeliveries"))},
        problems=(404, 422),
    ),
    Endpoint(
        method="POST",
        path="/v1/messages/{id}/replay",
        handler=replay_one,
        name="replayMessage",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Deliver a message again",
        description=(
            "With the same `webhook-id`, signed with the current secret, and with the whole retry schedule again. A pending "
            "message becomes due. The endpoint's record of failures does not change."
        ),
        parameters=(_ID,),
        responses={202: ResponseSpec(description="The message is due.", schema=ref("MessageWithDeliveries"))},
        problems=(404, 409, 422),
    ),
)
