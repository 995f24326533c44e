"""Who is told of a change: the task's ``callback_url`` and the client's endpoints, in the transaction of the change."""

import dataclasses
import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import Task
from service.domain.webhook_events import ENDS, PROGRESS, told_by_callback, told_to_endpoint
from service.flows.context import Context
from service.flows.webhooks.payload import body_of
from service.store.webhooks import endpoints
from service.store.webhooks import messages as message_store
from service.store.webhooks.endpoints import Endpoint
from service.store.webhooks.messages import Message

LONGEST_DESTINATION = 200
"""Characters: it stands in an index, whose entries are bounded."""


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A change that clients may be told of."""

    type: str
    task: Task
    """As it is after the change."""


async def tell(context: Context, connection: AsyncConnection, changes: Sequence[Change], now: dt.datetime) -> set[UUID]:
    """Write the messages that are owed, and give the tasks that they are about.

    The endpoints of the clients concerned are read once; where nobody listens nothing is written.
    """
    if not changes:
        return set()
    listening: dict[str, list[Endpoint]] = {}
    for endpoint in await endpoints.listening(connection, {each.task.client for each in changes}):
        listening.setdefault(endpoint.client, []).append(endpoint)
    owed = [
        message for each in changes for message in _messages(context, each, listening.get(each.task.client, ()), now)
    ]
    await message_store.owe(connection, [message for message in owed if message.type != PROGRESS])
    ended = {each.task.id for each in changes if each.type in ENDS and _wants_progress(each.task, listening)}
    latest = {(each.task_id, each.destination): each for each in owed if each.type == PROGRESS}
    waiting = [message for message in latest.values() if message.task_id not in ended]
    await message_store.owe_progress(connection, waiting, ended=sorted(ended))
    return {message.task_id for message in owed if message.task_id is not None}


def _messages(context: Context, change: Change, listening: Collection[Endpoint], now: dt.datetime) -> Iterator[Message]:
    """Make a message for each who is to be told, all with the same body."""
    task = change.task
    to: list[tuple[UUID | None, str, str]] = []
    if task.callback_url is not None and told_by_callback(task.callback_events, change.type):
        to.append((None, host_of(task.callback_url), task.callback_url))
    to += [(each.id, lane_of(each.id), each.url) for each in listening if told_to_endpoint(each.events, change.type)]
    body = body_of(change.type, task, now, public_url=context.settings.links_url) if to else ""
    for endpoint_id, destination, url in to:
        yield Message(
            id=context.new_id(),
            client=task.client,
            task_id=task.id,
            endpoint_id=endpoint_id,
            destination=destination,
            sequence=task.sequence,
            type=change.type,
            url=url,
            body=body,
            created_at=now,
            due_at=now,
        )


def _wants_progress(task: Task, listening: Mapping[str, Sequence[Endpoint]]) -> bool:
    return PROGRESS in task.callback_events or any(PROGRESS in each.events for each in listening.get(task.client, ()))


def lane_of(endpoint_id: UUID) -> str:
    """Name the destination that an endpoint is."""
    return f"endpoint {endpoint_id}"


def host_of(url: str) -> str:
    """Name the destination that a ``callback_url`` leads to: its scheme, host and port."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
        return f"{parts.scheme}://{parts.hostname}{port}"[:LONGEST_DESTINATION]
    except ValueError:  # one that was accepted has a host; whatever has none gets places of its own
        return url[:LONGEST_DESTINATION]
