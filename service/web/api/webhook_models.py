"""What the API shows of endpoints and messages, as JSON Schema, and how it is written."""

from typing import Any

import orjson

from service.domain.events import rfc3339
from service.domain.webhook_events import TEST, TYPES
from service.flows.webhooks import endpoints, replay
from service.store.webhooks.attempts import Delivery
from service.store.webhooks.endpoints import Endpoint
from service.store.webhooks.messages import Message

_TEXT: dict[str, Any] = {"type": "string"}
_ID: dict[str, Any] = {"type": "string", "format": "uuid"}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_ID_OR_NONE: dict[str, Any] = {"type": ["string", "null"], "format": "uuid"}
_TIME_OR_NONE: dict[str, Any] = {"type": ["string", "null"], "format": "date-time"}
_TEXT_OR_NONE: dict[str, Any] = {"type": ["string", "null"]}
_NUMBER_OR_NONE: dict[str, Any] = {"type": ["integer", "null"]}
MESSAGE_TYPE: dict[str, Any] = {"type": "string", "enum": [*TYPES, TEST]}
MESSAGE_STATE: dict[str, Any] = {"type": "string", "enum": ["pending", "delivered", "exhausted", "discarded"]}


def _object(title: str, properties: dict[str, Any], *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    required = [name for name in properties if name not in without]
    return {"type": "object", "title": title, "required": required, "properties": properties}


_ENDPOINT: dict[str, Any] = {
    "id": _ID,
    "url": _TEXT,
    "description": _TEXT,
    "events": {"type": "array", "items": _TEXT, "description": "Empty: all but `task.progress`."},
    "format": {"type": "string", "enum": ["standard", "cloudevents"]},
    "enabled": {"type": "boolean"},
    "disabled_at": _TIME_OR_NONE,
    "disabled_reason": {
        "type": ["string", "null"],
        "enum": ["client", "gone", "failing", None],
        "description": "`client`: by `PATCH`; `gone`: it answered 410; `failing`: nothing but failures for 120 hours.",
    },
    "failing_since": {**_TIME_OR_NONE, "description": "The first failure since the last success."},
    "previous_secret_until": {
        **_TIME_OR_NONE,
        "description": "Until when the secret before the last rotation signs, too.",
    },
    "created_at": _TIME,
    "updated_at": _TIME,
}
_MESSAGE: dict[str, Any] = {
    "id": {**_ID, "description": "Also its `webhook-id`."},
    "type": MESSAGE_TYPE,
    "state": MESSAGE_STATE,
    "task_id": _ID_OR_NONE,
    "endpoint_id": {**_ID_OR_NONE, "description": "null: it goes to the task's `callback_url`."},
    "url": _TEXT,
    "sequence": {"type": "integer", "description": "Of the task, as it was then."},
    "attempts": {"type": "integer"},
    "last_status": _NUMBER_OR_NONE,
    "last_error": {**_TEXT_OR_NONE, "description": "Why it was not taken; of a discarded one, why it never will be."},
    "created_at": _TIME,
    "delivered_at": _TIME_OR_NONE,
    "replayed_at": _TIME_OR_NONE,
    "next_attempt_at": _TIME_OR_NONE,
}
_DELIVERY: dict[str, Any] = {
    "attempt": {"type": "integer", "description": "A number that is missing was under way when its process died."},
    "at": _TIME,
    "status": {**_NUMBER_OR_NONE, "description": "HTTP status; null: none came."},
    "duration_ms": {"type": "integer"},
    "answer": {**_TEXT_OR_NONE, "description": "The first 2 kB of what the receiver said."},
    "error": _TEXT_OR_NONE,
}

COMPONENTS: dict[str, Any] = {
    "EndpointWish": {"title": "EndpointWish", **endpoints.REQUEST},
    "EndpointChange": {"title": "EndpointChange", **endpoints.CHANGES},
    "Endpoint": _object("Endpoint", _ENDPOINT),
    "EndpointWithSecret": _object(
        "EndpointWithSecret",
        {**_ENDPOINT, "secret": {**_TEXT, "description": "Verifies its messages. Shown here, and never again."}},
    ),
    "ReplayWish": {"title": "ReplayWish", **replay.REQUEST},
    "Message": _object("Message", _MESSAGE),
    "MessageWithDeliveries": _object(
        "MessageWithDeliveries",
        {
            **_MESSAGE,
            "body": {"type": "object", "description": "What is sent, before an endpoint's format is applied."},
            "deliveries": {"type": "array", "items": {"$ref": "#/components/schemas/Delivery"}},
        },
    ),
    "Delivery": _object("Delivery", _DELIVERY),
}


def show_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    """Write an endpoint as the API shows it: without its secrets."""
    return {
        "id": str(endpoint.id),
        "url": endpoint.url,
        "description": endpoint.description,
        "events": list(endpoint.events),
        "format": endpoint.format,
        "enabled": endpoint.disabled_at is None,
        "disabled_at": rfc3339(endpoint.disabled_at),
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": rfc3339(endpoint.failing_since),
        "previous_secret_until": rfc3339(endpoint.previous_until),
        "created_at": rfc3339(endpoint.created_at),
        "updated_at": rfc3339(endpoint.updated_at),
    }


def show_message(message: Message) -> dict[str, Any]:
    """Write a message as the API lists it."""
    return {
        "id": str(message.id),
        "type": message.type,
        "state": message.state,
        "task_id": None if message.task_id is None else str(message.task_id),
        "endpoint_id": None if message.endpoint_id is None else str(message.endpoint_id),
        "url": message.url,
        "sequence": message.sequence,
        "attempts": message.attempts,
        "last_status": message.last_status,
        "last_error": message.last_error,
        "created_at": rfc3339(message.created_at),
        "delivered_at": rfc3339(message.delivered_at),
        "replayed_at": rfc3339(message.replayed_at),
        "next_attempt_at": rfc3339(message.due_at),
    }


def show_whole_message(message: Message, made: list[Delivery]) -> dict[str, Any]:
    """Write a message with its body and every attempt to deliver it."""
    return {
        **show_message(message),
        "body": orjson.loads(message.body),
        "deliveries": [
            {
                "attempt": each.attempt,
                "at": rfc3339(each.at),
                "status": each.status,
                "duration_ms": each.duration_ms,
                "answer": each.answer,
                "error": each.error,
            }
            for each in made
        ],
    }
