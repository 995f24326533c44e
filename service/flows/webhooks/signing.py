"""Sign webhook messages as Standard Webhooks define it, in the format that the endpoint has chosen."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import orjson
from standardwebhooks import Webhook

from service.domain.events import rfc3339
from service.store.webhooks.endpoints import Endpoint
from service.store.webhooks.messages import Message

CLOUDEVENTS = "application/cloudevents+json"


def signed_headers(
    secret: str, message_id: str, at: dt.datetime, body: str, *, also: Sequence[str] = ()
) -> dict[str, str]:
    """Return the headers of a signed message.

    :param also: other secrets that are still valid: each adds a signature
    """
    signatures = [Webhook(each).sign(message_id, at, body) for each in (secret, *also)]
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def signed_request(
    message: Message, endpoint: Endpoint | None, *, at: dt.datetime, secrets: Sequence[str], source: str | None
) -> tuple[dict[str, str], str]:
    """Return the headers and the body of an attempt.

    :param secrets: sign a message that goes to no endpoint, the current one first
    :param source: address of this installation, the ``source`` of CloudEvents
    """
    if endpoint is None:
        return signed_headers(secrets[0], str(message.id), at, message.body, also=secrets[1:]), message.body
    body = cloud_event(message, source) if endpoint.format == "cloudevents" else message.body
    headers = signed_headers(endpoint.secret, str(message.id), at, body, also=_previous(endpoint, at))
    if endpoint.format == "cloudevents":
        headers["Content-Type"] = CLOUDEVENTS
    return headers, body


def cloud_event(message: Message, source: str | None) -> str:
    """Return a message as a structured CloudEvent 1.0. A message in the form of another API is its data as it is."""
    body: Any = orjson.loads(message.body)
    is_own = isinstance(body, dict) and {"timestamp", "sequence", "data"} <= body.keys()
    event = {
        "specversion": "1.0",
        "id": str(message.id),
        "source": source or "urn:dovecote",
        "type": message.type,
        "time": body["timestamp"] if is_own else rfc3339(message.created_at),
        "datacontenttype": "application/json",
        "sequence": str(message.sequence),
        "data": body["data"] if is_own else body,
    }
    if message.task_id is not None:
        event["subject"] = f"tasks/{message.task_id}"
    return orjson.dumps(event).decode()


def _previous(endpoint: Endpoint, at: dt.datetime) -> list[str]:
    if endpoint.previous_secret is None or endpoint.previous_until is None or endpoint.previous_until <= at:
        return []
    return [endpoint.previous_secret]
