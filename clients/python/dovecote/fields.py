"""The optional arguments that several calls share."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict
from uuid import UUID

from dovecote.messages import Endpoint
from dovecote.tasks import Task


class SubmitFields(TypedDict, total=False):
    """The optional fields of a new task."""

    options: Mapping[str, Any] | None
    """Fields that go to the provider unchanged."""
    callback_url: str | None
    """The URL that gets a signed webhook when the task ends."""
    callback_events: Sequence[str] | None
    """The event types that go to the ``callback_url``; default: the end of the task, and a late result."""
    callback_when: str | None
    """When the end goes to the ``callback_url``: ``ended``, or ``kept``: once every file is kept or lost."""
    callback_format: str | None
    """The form of the messages to the ``callback_url``: ``dovecote``, or that of another API, such as ``replicate`` or ``openai``."""
    labels: Mapping[str, str] | None
    """Names of your own, to find the task by."""
    parent_id: Task | str | UUID | None
    """The task that this one continues."""
    upstream: str | None
    """The only upstream that may serve it."""
    route: Sequence[str] | None
    """The upstreams that may serve it, in order."""
    external_id: str | None
    """The provider's id of a job that was bought elsewhere; :meth:`Client.adopt` sets it."""
    dialect: str | None
    """With ``external_id``: the protocol in which the job was bought."""
    on_uncertain: str | None
    """The policy when it stays unknown whether a submission was executed: ``hold``, ``fail`` or ``resubmit_once``."""
    max_cost: Mapping[str, str] | None
    """The most that it may cost: ``{"amount": "0.50", "unit": "USD"}``."""
    prefer: str | None
    """The order of the upstreams: ``route``, ``cheapest`` or ``fastest``."""
    on_moderated: str | None
    """The reaction to a withheld output: ``fail``, ``retry`` or ``next_upstream``."""
    moderated_retries: int | None
    when_over_budget: str | None
    """The behaviour when your budget has no room for it: ``refuse`` or ``wait``."""
    deadline: float | str | None
    """When to stop waiting for it: seconds from now, or a time in RFC 3339."""


class AdoptFields(TypedDict, total=False):
    """The optional fields of a task that follows a job which was bought elsewhere."""

    dialect: str | None
    """The protocol in which the job was bought; default: the first of the upstream that has the operation."""
    input: Mapping[str, Any] | None
    """The input of the purchase; some providers are asked by parts of it, such as the model."""
    options: Mapping[str, Any] | None
    callback_url: str | None
    """The URL that gets a signed webhook when the task ends."""
    callback_events: Sequence[str] | None
    callback_format: str | None
    labels: Mapping[str, str] | None
    deadline: float | str | None
    """When to stop waiting for it: seconds from now, or a time in RFC 3339."""


class TaskFilters(TypedDict, total=False):
    """Which tasks a list contains."""

    state: str | Sequence[str] | None
    family: str | None
    labels: Mapping[str, str] | None
    """Only tasks with all of these labels."""
    created_after: str | None
    """In RFC 3339, as ``created_before``."""
    created_before: str | None
    client: str | None
    """Only tasks of this client; for API keys with the scope ``admin``."""


class MessageFilters(TypedDict, total=False):
    """Which messages a list contains."""

    state: str | Sequence[str] | None
    type: str | Sequence[str] | None
    endpoint: Endpoint | str | UUID | None
    task: Task | str | UUID | None


class CallbackFilters(TypedDict, total=False):
    """Which callbacks a list contains."""

    decision: str | Sequence[str] | None
    upstream: str | None
    task: Task | str | UUID | None


class ReplayFilters(TypedDict, total=False):
    """Which messages are delivered again."""

    after: str | None
    """Only messages written since; in RFC 3339, as ``before``."""
    before: str | None
    state: Sequence[str] | None
    """Default: ``exhausted`` and ``discarded``."""
    type: Sequence[str] | None
    endpoint: Endpoint | str | UUID | None
    limit: int | None
    """Messages of one request, at most 1000."""
    dry_run: bool | None
    """Whether to count the messages only."""


class BudgetFields(TypedDict, total=False):
    """The optional fields of a budget."""

    unit: str | None
    """Default: ``USD``."""
    period: str | None
    """``day`` or ``month``, in UTC."""
    client: str | None
    """The client that it is for; ``*``: each client for itself; default: all together."""
    label: str | None
    """``project=intro``, or ``project``: each value for itself."""
    upstream: str | None
    soft: str | None
    """The amount from which operators are told."""
    over: str | None
    """``refuse`` or ``wait``."""
    unpriced: str | None
    """``refuse`` or ``allow``."""


class EndpointSettings(TypedDict, total=False):
    """The optional fields of an endpoint."""

    events: Sequence[str] | None
    """The event types that it gets; default: all but ``task.progress``."""
    description: str | None
    format: str | None
    """``standard`` or ``cloudevents``."""
    callback_format: str | None
    """The form of the messages about tasks: ``dovecote``, or that of another API, such as ``replicate`` or ``openai``."""


class EndpointFields(EndpointSettings, total=False):
    """The optional fields of a new endpoint."""

    scope: str | None
    """``admin``: it gets messages to operators; for API keys with the scope ``admin``."""


class EndpointChanges(EndpointSettings, total=False):
    """The fields of an endpoint that can change."""

    url: str | None
    enabled: bool | None
