"""Register, change, rotate, test and delete the endpoints of clients."""

import base64
import datetime as dt
import secrets
from typing import Any

import orjson

from service.domain.destination_slots import Destination
from service.domain.events import rfc3339
from service.domain.operator_events import OPERATOR_TYPES
from service.domain.schedules import LEASE
from service.domain.validation import Invalid, Mistake, Schema
from service.domain.webhook_events import TEST, TYPES
from service.flows.context import Context
from service.flows.webhooks.claimed import Claimed
from service.flows.webhooks.dispatch import deliver
from service.flows.webhooks.enqueue import endpoint_destination
from service.flows.webhooks.formats import DOVECOTE, FORMATS
from service.flows.webhooks.url_check import url_mistakes
from service.store.webhooks import endpoints
from service.store.webhooks import messages as message_store
from service.store.webhooks.claim import host_of
from service.store.webhooks.endpoints import Endpoint, Scope
from service.store.webhooks.messages import Message

MAX_ENDPOINTS = 50
"""Endpoints of one client. Every change of its tasks is compared with all of them."""
OVERLAP = 24 * 3600.0
"""Seconds for which the previous secret still signs after a rotation."""

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
        "description": "Your own description.",
    },
    "events": {
        "type": "array",
        "uniqueItems": True,
        "items": {"type": "string", "enum": [*TYPES, *OPERATOR_TYPES]},
        "description": (
            "The types of messages to receive. Empty: all types except `task.progress`; with the scope `admin`, all `operator` types."
        ),
    },
    "format": {
        "type": "string",
        "enum": ["standard", "cloudevents"],
        "description": "`cloudevents`: each body is a structured CloudEvent 1.0.",
    },
    "callback_format": {
        "type": "string",
        "enum": list(FORMATS),
        "description": (
            "The form of the messages about tasks: Dovecote's own, or that of another API. In the form of another API, an endpoint "
            "without `events` receives the end of each task and late results only."
        ),
    },
}
REQUEST: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url"],
    "properties": {
        **_FIELDS,
        "scope": {
            "type": "string",
            "enum": ["client", "admin"],
            "description": (
                "`client`, the default: messages about the tasks of the client. `admin`: messages to operators about the "
                "installation, and none about tasks; this needs an API key with the scope `admin`."
            ),
        },
    },
}
"""JSON Schema of the body of ``POST /v1/endpoints``."""
CHANGES: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        **_FIELDS,
        "enabled": {
            "type": "boolean",
            "description": "`false`: no messages are written for the endpoint, and pending ones are discarded when they are due.",
        },
    },
}
"""JSON Schema of the body of ``PATCH /v1/endpoints/{id}``."""
_REQUEST, _CHANGES = Schema(REQUEST), Schema(CHANGES)


FOR_OPERATORS = "an endpoint with the scope `admin` needs an API key with the scope `admin`"


class NotAllowed(Exception):
    """The scope of the endpoint needs a key with the scope ``admin``."""


class TooMany(Exception):
    """The client has the maximum number of endpoints."""


def new_secret() -> str:
    """Return a new secret for signing messages."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


async def register(context: Context, document: Any, *, client: str, is_operator: bool = False) -> Endpoint:
    """Register an endpoint.

    :param document: the body of the request
    :param is_operator: whether the key has the scope ``admin``

    :raises Invalid: with every mistake
    :raises NotAllowed: when the endpoint is for operators and the key is not
    :raises TooMany: when the client has the maximum number of endpoints
    """
    scope: Scope = document.get("scope", "client") if isinstance(document, dict) else "client"
    _check(context, _REQUEST, document, scope)
    if scope == "admin" and not is_operator:
        raise NotAllowed(FOR_OPERATORS)
    now = context.now()
    endpoint = Endpoint(
        id=context.new_id(),
        client=client,
        url=document["url"],
        description=document.get("description", ""),
        events=tuple(document.get("events", ())),
        format=document.get("format", "standard"),
        scope=scope,
        callback_format=document.get("callback_format", DOVECOTE),
        secret=new_secret(),
        created_at=now,
        updated_at=now,
    )
    if not await context.writers.requests.run(endpoints.register, endpoint, most=MAX_ENDPOINTS):
        raise TooMany(f"{MAX_ENDPOINTS} endpoints are allowed: delete one, or add event types to another")
    return endpoint


def may_change(endpoint: Endpoint, *, is_operator: bool) -> bool:
    """Return whether a key of an endpoint's client may change it: one without the scope ``admin`` could direct operators' messages elsewhere."""
    return endpoint.scope != "admin" or is_operator


async def change(context: Context, endpoint: Endpoint, document: Any) -> Endpoint | None:
    """Change an endpoint and return it; None when it was deleted meanwhile.

    Enabling a disabled endpoint resets its failures.

    :raises Invalid: with every mistake
    """
    _check(context, _CHANGES, document, endpoint.scope)
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
    """Set a new secret and return the endpoint; None when it was deleted meanwhile. The old secret still signs for a day."""
    now = context.now()
    until = now + dt.timedelta(seconds=OVERLAP)
    return await context.writers.requests.run(
        endpoints.rotate, endpoint.id, endpoint.client, secret=new_secret(), until=until, now=now
    )


async def remove(context: Context, endpoint: Endpoint) -> Endpoint | None:
    """Delete an endpoint and return it; None when it was deleted already. Its pending messages are discarded when due."""
    return await context.writers.requests.run(endpoints.remove, endpoint.id, endpoint.client)


async def send_test(context: Context, endpoint: Endpoint) -> Message:
    """Send a test message to an endpoint, at once when it has a free slot. Return the message as it was written."""
    now, claimed_at = context.now(), context.monotonic()
    destination = Destination(endpoint.client, endpoint_destination(endpoint.id), host_of(endpoint.url))
    at_once = context.destination_slots.is_free(destination)
    data = {"endpoint_id": str(endpoint.id), "url": endpoint.url, "description": endpoint.description}
    message = Message(
        id=context.new_id(),
        client=endpoint.client,
        task_id=None,
        endpoint_id=endpoint.id,
        destination=destination.name,
        sequence=0,
        type=TEST,
        url=endpoint.url,
        body=orjson.dumps({"type": TEST, "timestamp": rfc3339(now), "sequence": 0, "data": data}).decode(),
        created_at=now,
        due_at=now + dt.timedelta(seconds=LEASE) if at_once else now,
        attempts=int(at_once),  # a message that is sent at once is claimed as it is written
    )
    await context.writers.requests.run(message_store.insert, [message])
    if at_once:
        context.destination_slots.acquire(destination)
        await deliver(context, Claimed(message, endpoint), claimed_at=claimed_at)
    else:
        context.signals.wake("webhooks")
    return message


def _check(context: Context, schema: Schema, document: Any, scope: Scope) -> None:
    mistakes = schema.mistakes(document)
    if isinstance(document, dict):
        mistakes += _misplaced(document.get("events"), scope)
        if scope == "admin" and document.get("callback_format", DOVECOTE) != DOVECOTE:
            mistakes.append(Mistake("callback_format", "messages to operators have Dovecote's own form"))
        mistakes += url_mistakes(context.settings.webhook_rules, document.get("url"), field="url")
    if mistakes:
        raise Invalid(mistakes)


def _misplaced(events: Any, scope: Scope) -> list[Mistake]:
    """Return a mistake for each type of event that an endpoint of this scope never gets."""
    if not isinstance(events, list):
        return []
    other = TYPES if scope == "admin" else OPERATOR_TYPES
    return [
        Mistake(f"events.{number}", f"an endpoint with the scope {scope} gets no {each} messages")
        for number, each in enumerate(events)
        if each in other
    ]
