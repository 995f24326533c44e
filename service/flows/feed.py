"""What a client is told, page by page: the same news in the pull feed, in streams and in webhooks."""

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from service.domain.events import rfc3339
from service.domain.task import State
from service.flows.context import Context
from service.flows.render import show_task_briefly
from service.flows.signals import feed_of
from service.store import feed as feed_store
from service.store.feed import FeedItem

HELD_BACK: Final = 0.05
"""Seconds until another look where a transaction under way holds news back."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of what a client is told, in order."""

    told: Sequence[FeedItem]
    next: int
    """The cursor to go on from. Nothing will ever appear at or before it."""
    more: bool = False
    """Whether there is more already."""
    held_back: bool = False
    """Whether news are written already that must wait for others which come before them."""
    state: State | None = None
    """In which the task is over: nothing more is to be expected. None while there is."""


async def of_client(context: Context, client: str, *, after: int, most: int, types: Sequence[str] = ()) -> Page:
    """Read a page of a client's feed."""
    async with context.database.reading() as connection:
        until = await feed_store.horizon(connection)
        found = await feed_store.of_client(connection, client, after=after, most=most, types=types)
    told = [each for each in found if each.id <= until]
    full = len(told) == most
    return Page(told=told, next=told[-1].id if full else max(after, until), more=full, held_back=len(told) < len(found))


async def of_task(context: Context, task_id: UUID, client: str | None, *, after: int, most: int) -> Page | None:
    """Read a page of what is told of a task; None where there is none, or where it is not the client's that is named."""
    async with context.database.reading() as connection:
        # The state first: what ended the task is then among what is read afterwards.
        state = await feed_store.state_of(connection, task_id, client)
        if state is None:
            return None
        told = await feed_store.of_task(connection, task_id, after=after, most=most)
    full = len(told) == most
    return Page(
        told=told,
        next=told[-1].id if told else after,
        more=full,
        state=state if state.ended and not full else None,
    )


async def wait_for_client(
    context: Context, client: str, *, after: int, most: int, types: Sequence[str], seconds: float
) -> Page:
    """Read a page of a client's feed; where there is none yet, wait for it, at most for some seconds."""
    until = asyncio.get_running_loop().time() + seconds
    with context.signals.watching(feed_of(client)) as changed:
        while True:
            changed.clear()
            page = await of_client(context, client, after=after, most=most, types=types)
            left = until - asyncio.get_running_loop().time()
            if page.told or left <= 0 or context.signals.closed:
                return page
            after = page.next
            try:
                await asyncio.wait_for(changed.wait(), min(left, HELD_BACK) if page.held_back else left)
            except TimeoutError:
                continue


async def now(context: Context) -> int:
    """Give the cursor behind everything that clients have been told so far."""
    async with context.database.reading() as connection:
        return await feed_store.horizon(connection)


def show_told(told: FeedItem, *, at: dt.datetime) -> dict[str, Any]:
    """Write one piece of news as the feed and the streams show it."""
    return {
        "id": str(told.id),
        "type": told.type,
        "timestamp": rfc3339(told.at),
        "sequence": told.sequence,
        "task_id": str(told.task.id),
        "data": show_task_briefly(told.task, now=at, truncated=told.truncated),
    }
