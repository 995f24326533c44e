"""What a message looks like on its way: signed as Standard Webhooks say, in the format that its endpoint wants."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from standardwebhooks import Webhook

from service.store.webhooks.endpoints import Endpoint
from service.store.webhooks.messages import Message

CLOUDEVENTS = "application/cloudevents+json"


def signed_headers(
    secret: str, message_id: str, at: dt.datetime, body: str, *, also: Sequence[str] = ()
) -> dict[str, str]:
    """Sign a message as Standard Webhooks say.

    :param also: other secrets that are still valid: each adds a signature
    """
    signatures = [Webhook(each).sign(message_id, at, body) for each in (secret, *also)]
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def dressed(
    message: Message, endpoint: Endpoint | None, *, at: dt.datetime, secret: str, source: str | None
) -> tuple[dict[str, str], str]:
    """Give the headers and the body of an attempt.

    :param secret: what signs where there is no endpoint
    :param source: where this Dovecote is reached, for whoever wants CloudEvents
    """
    if endpoint is None:
        return signed_headers(secret, str(message.id), at, message.body), message.body
    body = cloud_event(message, source) if endpoint.format == "cloudevents" else message.body
    headers = signed_headers(endpoint.secret, str(message.id), at, body, also=_previous(endpoint, at))
    if endpoint.format == "cloudevents":
        headers["Content-Type"] = CLOUDEVENTS
    return headers, body


def cloud_event(message: Message, source: str | None) -> str:
    """Write a message as a structured CloudEvent 1.0."""
    body: Mapping[str, Any] = orjson.loads(message.body)
    event = {
        "specversion": "1.0",
        "id": str(message.id),
        "source": source or "urn:dovecote",
        "type": message.type,
        "time": body["timestamp"],
        "datacontenttype": "application/json",
        "sequence": str(message.sequence),
        "data": body["data"],
    }
    if message.task_id is not None:
        event["subject"] = f"tasks/{message.task_id}"
    if body.get("truncated"):
        event |= {"truncated": True, "taskurl": body["url"]}  # names of extensions have no capitals and no dashes
    return orjson.dumps(event).decode()


def _previous(endpoint: Endpoint, at: dt.datetime) -> list[str]:
    if endpoint.previous_secret is None or endpoint.previous_until is None or endpoint.previous_until <= at:
        return []
    return [endpoint.previous_secret]
