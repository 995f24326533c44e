"""Endpoints: check what a client wants, make and change them, and try one."""

import base64
import datetime as dt
import secrets
from typing import Any

import orjson

from service.domain.events import rfc3339
from service.domain.schedules import LEASE
from service.domain.validation import Invalid, Schema
from service.domain.webhook_events import TEST, TYPES
from service.flows.context import Context
from service.flows.webhooks.attempt import Claimed
from service.flows.webhooks.dispatch import deliver
from service.flows.webhooks.enqueue import lane_of
from service.flows.webhooks.url_check import url_mistakes
from service.store.webhooks import endpoints
from service.store.webhooks import messages as message_store
from service.store.webhooks.endpoints import Endpoint
from service.store.webhooks.messages import Message

MAX_ENDPOINTS = 50
"""Endpoints that a client may have: every change of its tasks is held against all of them."""
OLD_SECRET_SIGNS = 24 * 3600.0
"""Seconds for which a secret still signs after its rotation."""

_FIELDS: dict[str, Any] = {
    "url": {
        "type": "string",
        "maxLength": 2048,
        "pattern": r"^[^\x00-\x20\x7f]*$",
        "description": "Where messages are posted.",
        "examples": ["https://example.com/dovecote"],
    },
    "description": {
        "type": "string",
        "maxLength": 256,
        "pattern": r"^[^\x00]*$",
        "description": "Your own words for it.",
    },
    "events": {
        "type": "array",
        "uniqueItems": True,
        "items": {"type": "string", "enum": list(TYPES)},
        "description": "The messages that it wants; empty: all but `task.progress`, which has to be named.",
    },
    "format": {
        "type": "string",
        "enum": ["standard", "cloudevents"],
        "description": "`cloudevents`: each body is a structured CloudEvent 1.0.",
    },
}
WISH: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url"],
    "properties": _FIELDS,
}
"""JSON Schema of the body of ``POST /v1/endpoints``."""
CHANGE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        **_FIELDS,
        "enabled": {
            "type": "boolean",
            "description": "`false`: no messages are written for it, and those that wait are discarded when their time comes.",
        },
    },
}
"""JSON Schema of the body of ``PATCH /v1/endpoints/{id}``."""
_WISH, _CHANGE = Schema(WISH), Schema(CHANGE)


class TooMany(Exception):
    """The client has as many endpoints as it may have."""


def new_secret() -> str:
    """Make a secret that signs messages."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


async def register(context: Context, document: Any, *, client: str) -> Endpoint:
    """Make an endpoint of what a client sent.

    :raises Invalid: with every mistake
    :raises TooMany: when there is no room for another
    """
    _check(context, _WISH, document)
    now = context.now()
    endpoint = Endpoint(
        id=context.new_id(),
        client=client,
        url=document["url"],
        description=document.get("description", ""),
        events=tuple(document.get("events", ())),
        format=document.get("format", "standard"),
        secret=new_secret(),
        created_at=now,
        updated_at=now,
    )
    if not await context.writers.requests.run(endpoints.register, endpoint, most=MAX_ENDPOINTS):
        raise TooMany(f"{MAX_ENDPOINTS} endpoints are allowed: delete one, or let one listen to more")
    return endpoint


async def change(context: Context, endpoint: Endpoint, document: Any) -> Endpoint | None:
    """Change what a client wants changed of its endpoint; None when it is gone meanwhile.

    To enable one that was disabled gives it a new start: its failures are forgotten.

    :raises Invalid: with every mistake
    """
    _check(context, _CHANGE, document)
    now = context.now()
    values = {name: document[name] for name in _FIELDS if name in document}
    match document.get("enabled"):
        case True:
            values |= {"disabled_at": None, "disabled_reason": None, "failing_since": None, "failed_at": None}
        case False if endpoint.disabled_at is None:
            values |= {"disabled_at": now, "disabled_reason": "client"}
    values["updated_at"] = now
    return await context.writers.requests.run(endpoints.change, endpoint.id, endpoint.client, values)


async def rotate(context: Context, endpoint: Endpoint) -> Endpoint | None:
    """Give an endpoint a new secret; the one it has signs as well for a day. None when it is gone meanwhile."""
    now = context.now()
    until = now + dt.timedelta(seconds=OLD_SECRET_SIGNS)
    return await context.writers.requests.run(
        endpoints.rotate, endpoint.id, endpoint.client, secret=new_secret(), until=until, now=now
    )


async def remove(context: Context, endpoint: Endpoint) -> Endpoint | None:
    """Delete an endpoint; None when it is gone already. What waits for it is discarded when its time comes."""
    return await context.writers.requests.run(endpoints.remove, endpoint.id, endpoint.client)


async def try_out(context: Context, endpoint: Endpoint) -> Message:
    """Send an endpoint a message to try it with, at once if it has a place; give the message as it was written."""
    now, lane = context.now(), lane_of(endpoint.id)
    at_once = context.destination_slots.free(lane) > 0
    data = {"endpoint_id": str(endpoint.id), "url": endpoint.url, "description": endpoint.description}
    message = Message(
        id=context.new_id(),
        client=endpoint.client,
        task_id=None,
        endpoint_id=endpoint.id,
        destination=lane,
        sequence=0,
        type=TEST,
        url=endpoint.url,
        body=orjson.dumps({"type": TEST, "timestamp": rfc3339(now), "sequence": 0, "data": data}).decode(),
        created_at=now,
        due_at=now + dt.timedelta(seconds=LEASE) if at_once else now,
        attempts=int(at_once),  # it is claimed as it is written
    )
    await context.writers.requests.run(message_store.owe, [message])
    if at_once:
        context.destination_slots.acquire(lane)
        await deliver(context, Claimed(message, endpoint))
    else:
        context.signals.wake("webhooks")
    return message


def _check(context: Context, schema: Schema, document: Any) -> None:
    mistakes = schema.mistakes(document)
    if isinstance(document, dict):
        mistakes += url_mistakes(context.settings.webhook_rules, document.get("url"), field="url")
    if mistakes:
        raise Invalid(mistakes)
