"""Render webhook endpoints and messages as the API shows them."""

import datetime as dt
from typing import Literal, cast

import orjson

from service.domain.events import rfc3339
from service.domain.webhook_secret import SecretVersion
from service.store.webhooks.attempts import Delivery
from service.store.webhooks.endpoints import Endpoint
from service.store.webhooks.messages import Message
from service.web.api import webhook_models as models


def render_endpoint(endpoint: Endpoint) -> models.Endpoint:
    """Return an endpoint without its secrets."""
    return {
        "id": str(endpoint.id),
        "url": endpoint.url,
        "description": endpoint.description,
        "events": list(endpoint.events),
        "format": endpoint.format,
        "callback_format": endpoint.callback_format,
        "scope": endpoint.scope,
        "enabled": endpoint.disabled_at is None,
        "disabled_at": rfc3339(endpoint.disabled_at),
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": rfc3339(endpoint.failing_since),
        "previous_secret_until": rfc3339(endpoint.previous_until),
        "created_at": _time(endpoint.created_at),
        "updated_at": _time(endpoint.updated_at),
    }


def render_secret(secret: str, version: SecretVersion, *, now: dt.datetime) -> models.WebhookSecret:
    """Return a client's secret."""
    until = version.previous_until
    return {"secret": secret, "previous_secret_until": None if until is None or until <= now else rfc3339(until)}


def render_message(message: Message) -> models.Message:
    """Return a message as lists show it."""
    return {
        "id": str(message.id),
        "type": message.type,
        "state": cast("Literal['pending', 'delivered', 'exhausted', 'discarded']", message.state),
        "task_id": None if message.task_id is None else str(message.task_id),
        "endpoint_id": None if message.endpoint_id is None else str(message.endpoint_id),
        "url": message.url,
        "sequence": message.sequence,
        "attempts": message.attempts,
        "last_status": message.last_status,
        "last_error": message.last_error,
        "created_at": _time(message.created_at),
        "delivered_at": rfc3339(message.delivered_at),
        "replayed_at": rfc3339(message.replayed_at),
        "next_attempt_at": rfc3339(message.due_at),
    }


def render_whole_message(message: Message, deliveries: list[Delivery]) -> models.MessageWithDeliveries:
    """Return a message with its body and every delivery."""
    return {
        **render_message(message),
        "body": orjson.loads(message.body),
        "deliveries": [
            {
                "attempt": each.attempt,
                "at": _time(each.at),
                "status": each.status,
                "duration_ms": each.duration_ms,
                "answer": each.answer,
                "error": each.error,
            }
            for each in deliveries
        ],
    }


def _time(at: dt.datetime) -> str:
    return rfc3339(at) or ""
