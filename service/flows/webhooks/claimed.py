"""Messages that this process holds: those that it has claimed, and those that it claims as it writes them."""

import dataclasses
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.schedules import claimed_as_written
from service.domain.webhook_events import PROGRESS
from service.domain.webhook_secret import SecretVersion
from service.flows.context import Context
from service.store.webhooks import secrets
from service.store.webhooks.claim import destination_of
from service.store.webhooks.endpoints import Endpoint
from service.store.webhooks.messages import Message


@dataclasses.dataclass(frozen=True, slots=True)
class Claimed:
    """A message that this process holds until its lease ends."""

    message: Message
    endpoint: Endpoint | None = None
    """The endpoint of the message; None when it goes to a ``callback_url``, or when the endpoint was deleted."""
    secret: SecretVersion | None = None
    """Which secret of the client signs; None: the endpoint's own."""


async def claim_new(
    context: Context, connection: AsyncConnection, messages: Sequence[Message], endpoints: Sequence[Endpoint]
) -> tuple[list[Message], list[Claimed]]:
    """Return new messages as they are to be written, and those of them that this process claims as it writes them.

    It claims a message only while less than half of the slots of its destination, host and client are in use. So no slot is
    missing for the messages that wait, which a claim chooses fairly.
    """
    handed = context.handed_messages
    if not handed.admits():
        return list(messages), []
    slots = context.destination_slots.copy()
    for waiting in handed.waiting():
        slots.acquire(destination_of(waiting.message))
    written: list[Message] = []
    chosen: list[Message] = []
    for message in messages:
        destination = destination_of(message)
        if message.type == PROGRESS or not slots.is_easy(destination):
            written.append(message)
            continue
        slots.acquire(destination)
        chosen.append(claimed_as_written(message, at=message.created_at))
    by_id = {each.id: each for each in endpoints}
    versions = await secrets.of_clients(connection, {each.client for each in chosen if each.endpoint_id is None})
    claimed = [
        Claimed(each, secret=versions[each.client])
        if each.endpoint_id is None
        else Claimed(each, by_id[each.endpoint_id])
        for each in chosen
    ]
    return [*written, *chosen], claimed
