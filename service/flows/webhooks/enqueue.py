"""Enqueue webhook messages about changes of tasks, in the transaction of the change."""

import dataclasses
import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.kept import pending
from service.domain.task import Task
from service.domain.webhook_events import ENDS, LATE, PROGRESS, RESULTS_KEPT, callback_url_wants, endpoint_wants
from service.flows.context import Context
from service.flows.webhooks.claimed import Claimed, claim_new
from service.flows.webhooks.formats import DOVECOTE
from service.flows.webhooks.payload import payload_of
from service.store.webhooks import endpoints
from service.store.webhooks import messages as message_store
from service.store.webhooks.endpoints import Endpoint
from service.store.webhooks.messages import Message

MAX_DESTINATION = 200
"""Characters of a destination. It stands in an index, whose entries are bounded."""


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A change of a task that may be announced."""

    type: str
    task: Task
    """The task after the change, and after the settlements that belong to it."""
    sequence: int
    """The number of the change's event. The task is ahead of it where a settlement follows in the same transaction."""


@dataclasses.dataclass(frozen=True, slots=True)
class Enqueued:
    """The messages about some changes."""

    due: frozenset[UUID] = frozenset()
    """The tasks with a message that is due now."""
    claimed: Sequence[Claimed] = ()
    """Messages that this process has claimed. After the commit they are handed over."""


async def enqueue(
    context: Context,
    connection: AsyncConnection,
    changes: Sequence[Change],
    now: dt.datetime,
    *,
    hands_over: bool = False,
) -> Enqueued:
    """Write the messages about some changes.

    The endpoints of the clients are read once. A change without a receiver writes nothing.

    :param hands_over: whether the caller hands over the messages that are claimed as they are written
    """
    if not changes:
        return Enqueued()
    enabled: dict[str, list[Endpoint]] = {}
    for endpoint in await endpoints.enabled_of(connection, {each.task.client for each in changes}):
        enabled.setdefault(endpoint.client, []).append(endpoint)
    messages = [
        message for each in changes for message in _messages(context, each, enabled.get(each.task.client, ()), now)
    ]
    claimed: list[Claimed] = []
    if hands_over:
        receivers = [endpoint for each in enabled.values() for endpoint in each]
        messages, claimed = await claim_new(context, connection, messages, receivers)
    await message_store.insert(connection, [message for message in messages if message.type != PROGRESS])
    ended = {each.task.id for each in changes if each.type in ENDS and _wants_progress(each.task, enabled)}
    latest = {(each.task_id, each.destination): each for each in messages if each.type == PROGRESS}
    progress = [message for message in latest.values() if message.task_id not in ended]
    await message_store.insert_progress(connection, progress, ended=sorted(ended))
    ours = {each.message.id for each in claimed}
    due = {message.task_id for message in messages if message.task_id is not None and message.id not in ours}
    return Enqueued(frozenset(due), claimed)


def _messages(context: Context, change: Change, enabled: Collection[Endpoint], now: dt.datetime) -> Iterator[Message]:
    """Make a message for each receiver of a change, in the form that it gets. Those of one form have the same body."""
    task = change.task
    receivers: list[tuple[UUID | None, str, str, str, str]] = []
    kind = _type_for_callback_url(task, change.type)
    if task.callback_url is not None and kind is not None and callback_url_wants(task.callback_events, kind):
        receivers.append((None, callback_destination(task.callback_url), task.callback_url, kind, task.callback_format))
    receivers += [
        (each.id, endpoint_destination(each.id), each.url, change.type, each.callback_format)
        for each in enabled
        if endpoint_wants(each.events, change.type, own_form=each.callback_format == DOVECOTE)
    ]
    bodies: dict[tuple[str, str], str] = {}
    for endpoint_id, destination, url, kind, style in receivers:
        if (kind, style) not in bodies:
            links = context.settings.links_url
            bodies[kind, style] = payload_of(kind, task, now, sequence=change.sequence, api_url=links, style=style)
        yield Message(
            id=context.new_id(),
            client=task.client,
            task_id=task.id,
            endpoint_id=endpoint_id,
            destination=destination,
            sequence=change.sequence,
            type=kind,
            url=url,
            body=bodies[kind, style],
            created_at=now,
            due_at=now,
            traceparent=task.traceparent,
        )


def _type_for_callback_url(task: Task, kind: str) -> str | None:
    """Return the type of the message to the ``callback_url``; None where it is sent later.

    A client may want the message about the end once the results are kept or lost.
    """
    if task.callback_when != "kept":
        return kind
    if kind == RESULTS_KEPT:
        return f"task.{task.state}"
    return None if kind in ENDS and kind != LATE and pending(task) else kind


def _wants_progress(task: Task, enabled: Mapping[str, Sequence[Endpoint]]) -> bool:
    return PROGRESS in task.callback_events or any(PROGRESS in each.events for each in enabled.get(task.client, ()))


def endpoint_destination(endpoint_id: UUID) -> str:
    """Return the destination of messages to an endpoint."""
    return f"endpoint {endpoint_id}"


def callback_destination(url: str) -> str:
    """Return the destination of messages to a ``callback_url``: its scheme, host and port."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
        return f"{parts.scheme}://{parts.hostname}{port}"[:MAX_DESTINATION]
    except ValueError:  # an accepted URL has a host; any other is a destination of its own
        return url[:MAX_DESTINATION]
