"""Webhook endpoints, the messages that are delivered to them, and the webhook secret."""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A registered receiver of webhooks."""

    id: str
    url: str
    description: str = ""
    events: tuple[str, ...] = ()
    """Types of the events that it receives; empty: all but ``task.progress``."""
    format: str = "standard"
    scope: str = "client"
    """``client``: messages about your tasks; ``admin``: messages to operators."""
    callback_format: str = "dovecote"
    """The form of the messages about tasks: Dovecote's own, or that of another API, such as ``replicate``."""
    enabled: bool = True
    disabled_at: dt.datetime | None = None
    disabled_reason: str | None = None
    failing_since: dt.datetime | None = None
    previous_secret_until: dt.datetime | None = None
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None
    secret: str | None = dataclasses.field(default=None, repr=False)
    """The signing secret: returned once, when the endpoint is created and when its secret is rotated."""
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSecret:
    """The secret that signs the messages to the ``callback_url`` of your tasks."""

    secret: str = dataclasses.field(repr=False)
    previous_secret_until: dt.datetime | None = None
    """Until when the previous secret signs as well; None: only this one signs."""
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One attempt to deliver a message."""

    attempt: int
    at: dt.datetime | None = None
    status: int | None = None
    """The HTTP status of the response; None where no response came."""
    duration_ms: int | None = None
    answer: str | None = None
    """The beginning of the receiver's response."""
    error: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A webhook that Dovecote delivers, or has delivered."""

    id: str
    """The value of its ``webhook-id`` header."""
    type: str
    state: str
    """``pending``, ``delivered``, ``exhausted`` or ``discarded``."""
    task_id: str | None = None
    endpoint_id: str | None = None
    """None: the message goes to the task's ``callback_url``."""
    url: str = ""
    sequence: int = 0
    attempts: int = 0
    last_status: int | None = None
    last_error: str | None = None
    created_at: dt.datetime | None = None
    delivered_at: dt.datetime | None = None
    replayed_at: dt.datetime | None = None
    next_attempt_at: dt.datetime | None = None
    body: Mapping[str, Any] | None = None
    """The body. Only a single message has it; messages of lists do not."""
    deliveries: tuple[Delivery, ...] = ()
    """Every attempt; only a single message has them, lists do not."""
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
