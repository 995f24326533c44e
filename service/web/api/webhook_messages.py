"""Look at the messages that clients are owed, and have some delivered again."""

from typing import Any
from uuid import UUID

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.validation import Mistake, Schema
from service.flows.webhooks import replay
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import messages as message_store
from service.store.webhooks.messages import Filter, Message
from service.web.api.models import ref
from service.web.api.route import Answers, Asked, Endpoint, Parameter, answer_json, invalid
from service.web.api.tasks import MAX_ON_PAGE, first_id_at
from service.web.api.webhook_models import MESSAGE_STATE, MESSAGE_TYPE, show_message, show_whole_message
from service.web.problems import Problem
from service.web.request_body import read_json

BODY_CAP = 64 * 1024
_REPLAY = Schema(replay.REQUEST)


async def page(asked: Asked) -> Response:
    """List messages."""
    query = asked.query
    most = query.get("limit", 50)
    wanted = Filter(
        client=asked.client,
        types=tuple(query.get("type", ())),
        states=tuple(query.get("state", ())),
        endpoint_id=_id(query.get("endpoint")),
        task_id=_id(query.get("task")),
        before=_id(query.get("cursor")),
    )
    async with asked.context.database.reading() as connection:
        found = await message_store.list_messages(connection, wanted, most=most + 1)
    shown = found[:most]
    following = str(shown[-1].id) if len(found) > most else None
    return answer_json({"messages": [show_message(message) for message in shown], "next": following})


async def get(asked: Asked) -> Response:
    """Show a message with every attempt to deliver it."""
    return await _show(asked, (await _find(asked)).id)


async def replay_one(asked: Asked) -> Response:
    """Deliver a message again."""
    message = await _find(asked)
    try:
        await replay.replay_one(asked.context, message)
    except replay.NotReplayable as error:
        raise Problem(409, "not_replayable", str(error)) from None
    except replay.Disabled as error:
        raise Problem(409, "endpoint_disabled", str(error)) from None
    return await _show(asked, message.id, 202)


async def replay_many(asked: Asked) -> Response:
    """Deliver many messages again."""
    document = await read_json(asked.request, BODY_CAP)
    mistakes = _REPLAY.mistakes(document)
    if mistakes:
        raise invalid(mistakes)
    wanted = _wanted(asked, document)
    count, following = await replay.replay_many(
        asked.context, wanted, most=int(document.get("limit", replay.MAX_REPLAYED))
    )
    return answer_json({"replayed": count, "next": None if following is None else str(following)}, 202)


def _wanted(asked: Asked, document: dict[str, Any]) -> Filter:
    mistakes: list[Mistake] = []
    after, before = (first_id_at(document.get(name), name, mistakes) for name in ("after", "before"))
    if mistakes:
        raise invalid(mistakes)
    cursor = _id(document.get("cursor"))
    return Filter(
        client=asked.client,
        types=tuple(document.get("type", replay.REPLAYED)),
        states=tuple(document.get("state", replay.UNDELIVERED)),
        endpoint_id=_id(document.get("endpoint")),
        after=max(filter(None, (after, cursor)), default=None),
        before=before,
    )


async def _show(asked: Asked, message_id: UUID, status: int = 200) -> Response:
    async with asked.context.database.reading() as connection:
        message = _there(await message_store.find(connection, message_id, asked.client))
        made = await attempt_store.of_message(connection, message_id)
    return answer_json(show_whole_message(message, made), status)


async def _find(asked: Asked) -> Message:
    try:
        message_id = UUID(asked.request.path_params["id"])
    except ValueError:
        return _there(None)
    async with asked.context.database.reading() as connection:
        return _there(await message_store.find(connection, message_id, asked.client))


def _there(message: Message | None) -> Message:
    if message is None:
        raise Problem(404, "not_found", "there is no message with this id")
    return message


def _id(stated: str | None) -> UUID | None:
    return None if stated is None else UUID(stated)


_ID = Parameter(name="id", place="path", schema={"type": "string", "format": "uuid"}, description="The message's id.")
_TAG = "Messages"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/messages",
        handler=page,
        name="listMessages",
        scope=Scope.READ,
        tag=_TAG,
        summary="List messages",
        description="Newest first. `next` is the cursor of the following page.",
        parameters=(
            Parameter(
                name="type",
                place="query",
                schema=MESSAGE_TYPE,
                description="Only of this type; may be repeated.",
                many=True,
            ),
            Parameter(
                name="state",
                place="query",
                schema=MESSAGE_STATE,
                description="Only in this state; may be repeated.",
                many=True,
            ),
            Parameter(
                name="endpoint",
                place="query",
                schema={"type": "string", "format": "uuid"},
                description="Only to this endpoint.",
            ),
            Parameter(
                name="task",
                place="query",
                schema={"type": "string", "format": "uuid"},
                description="Only about this task.",
            ),
            Parameter(
                name="limit",
                place="query",
                schema={"type": "integer", "minimum": 1, "maximum": MAX_ON_PAGE, "default": 50},
                description="How many at most.",
            ),
            Parameter(
                name="cursor",
                place="query",
                schema={"type": "string", "format": "uuid"},
                description="`next` of the page before.",
            ),
        ),
        answers={
            200: Answers(
                description="A page of messages.",
                schema={
                    "type": "object",
                    "required": ["messages", "next"],
                    "properties": {
                        "messages": {"type": "array", "items": ref("Message")},
                        "next": {"type": ["string", "null"]},
                    },
                },
            )
        },
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
            f"Oldest first, at most {replay.MAX_REPLAYED} at a time; those to disabled endpoints are left out. `next` is the "
            "`cursor` to go on with."
        ),
        body=ref("ReplayWish"),
        answers={
            202: Answers(
                description="They are due now.",
                schema={
                    "type": "object",
                    "required": ["replayed", "next"],
                    "properties": {"replayed": {"type": "integer"}, "next": {"type": ["string", "null"]}},
                },
            )
        },
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
        answers={200: Answers(description="The message.", schema=ref("MessageWithDeliveries"))},
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
            "Under the same `webhook-id`, signed by the secret of now, by the whole schedule anew. One that waits for its "
            "turn goes now. The endpoint's health is left alone."
        ),
        parameters=(_ID,),
        answers={202: Answers(description="It is due now.", schema=ref("MessageWithDeliveries"))},
        problems=(404, 409, 422),
    ),
)
