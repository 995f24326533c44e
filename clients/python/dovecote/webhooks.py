"""Verify the webhooks that Dovecote sends."""

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from standardwebhooks import Webhook as StandardWebhook
from standardwebhooks import WebhookVerificationError

from dovecote.errors import InvalidWebhook
from dovecote.tasks import Task
from dovecote.values import read


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook whose signature has been verified."""

    id: str
    """The same for every attempt to deliver it: process each id once."""
    type: str
    timestamp: dt.datetime | None
    sequence: int
    task: Task | None
    """None for a webhook that is not about a task, such as ``endpoint.test``."""
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    """The whole body as JSON."""


def verify_webhook(headers: Mapping[str, str], body: bytes | str, secret: str | Sequence[str]) -> Webhook:
    """Verify the signature of a webhook (Standard Webhooks) and return its content.

    :param headers: of the request; the case of the names does not matter
    :param body: the raw body, exactly as it was received
    :param secret: ``whsec_…``; during a rotation, the old and the new secret
    :raises InvalidWebhook: when none of the secrets signed it, when it is more than five minutes old, or when its content is
        not that of Dovecote
    :raises ValueError: when a secret does not have the form ``whsec_…``
    """
    verifiers = [_verifier(each) for each in ([secret] if isinstance(secret, str) else secret)]
    given = {name.lower(): value for name, value in headers.items()}
    for verifier in verifiers:
        try:
            return _webhook(given["webhook-id"], verifier.verify(body, given))
        except WebhookVerificationError:
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidWebhook(f"the body is not that of a webhook of Dovecote ({type(error).__name__})") from error
    raise InvalidWebhook("the signature does not match this secret, or the webhook is too old")


def _verifier(secret: str) -> StandardWebhook:
    try:
        return StandardWebhook(secret)
    except Exception as error:  # the library's message may repeat the secret
        raise ValueError("the webhook secret does not have the form whsec_…") from error


def _webhook(webhook_id: str, document: Mapping[str, Any]) -> Webhook:
    """Build a webhook from a body in the standard format or from a CloudEvent."""
    kind: str = document["type"]
    task = read(Task, document["data"]) if kind.startswith("task.") else None
    if task is not None and document.get("truncated"):
        task = dataclasses.replace(task, truncated=True)
    timestamp = document.get("timestamp", document.get("time"))
    return Webhook(
        id=webhook_id,
        type=kind,
        timestamp=None if timestamp is None else dt.datetime.fromisoformat(timestamp),
        sequence=int(document.get("sequence", 0 if task is None else task.sequence)),
        task=task,
        document=document,
    )
