"""Read the feed of a client or of a task, page by page. The pull feed and the streams show the same items."""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.events import rfc3339
from service.domain.task import State
from service.flows.context import Context
from service.flows.render import show_task_briefly
from service.flows.signals import feed_of
from service.store import feed as feed_store
from service.store.feed import FeedItem

HELD_BACK: Final = 0.05
"""Seconds until the next read where an open transaction holds items back."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some items of a feed, in order."""

    items: Sequence[FeedItem]
    next: int
    """The cursor after this page. Nothing will ever appear at or before it."""
    more: bool = False
    """Whether there are more items already."""
    held_back: bool = False
    """Whether items are written already that must wait for items before them."""
    state: State | None = None
    """The state in which the task has ended, once no more items are expected; else None."""


class CursorAhead(Exception):
    """A cursor is above the newest event: this history of the database did not issue it."""

    def __init__(self, newest: int) -> None:
        """Keep the newest cursor."""
        super().__init__(f"the cursor is ahead of the newest event, {newest}")
        self.newest = newest


async def check_cursor(connection: AsyncConnection, after: int) -> None:
    """Check that this history of the database can have issued a cursor. After a restore an old cursor may be ahead.

    :raises CursorAhead: when it cannot
    """
    newest = await feed_store.newest(connection)
    if after > newest:
        raise CursorAhead(newest)


async def of_client(context: Context, client: str, *, after: int, most: int, types: Sequence[str] = ()) -> Page:
    """Read a page of a client's feed.

    :raises CursorAhead: when the cursor is from another history
    """
    async with context.database.reading() as connection:
        until = await feed_store.horizon(connection)
        if after > until:
            await check_cursor(connection, after)
        found = await feed_store.of_client(connection, client, after=after, most=most, types=types)
    items = [each for each in found if each.id <= until]
    full = len(items) == most
    return Page(
        items=items, next=items[-1].id if full else max(after, until), more=full, held_back=len(items) < len(found)
    )


async def of_task(context: Context, task_id: UUID, client: str | None, *, after: int, most: int) -> Page | None:
    """Read a page of a task's feed. Return None when the task does not exist or belongs to another client."""
    async with context.database.reading() as connection:
        # The state is read first, so that the item that ended the task is among those read afterwards.
        state = await feed_store.state_of(connection, task_id, client)
        if state is None:
            return None
        items = await feed_store.of_task(connection, task_id, after=after, most=most)
    full = len(items) == most
    return Page(
        items=items,
        next=items[-1].id if items else after,
        more=full,
        state=state if state.ended and not full else None,
    )


async def wait_for_client(
    context: Context, client: str, *, after: int, most: int, types: Sequence[str], seconds: float
) -> Page:
    """Read a page of a client's feed; wait for the first item for at most some seconds."""
    until = asyncio.get_running_loop().time() + seconds
    with context.signals.watching(feed_of(client)) as changed:
        while True:
            changed.clear()
            page = await of_client(context, client, after=after, most=most, types=types)
            left = until - asyncio.get_running_loop().time()
            if page.items or left <= 0 or context.signals.closed:
                return page
            after = page.next
            try:
                await asyncio.wait_for(changed.wait(), min(left, HELD_BACK) if page.held_back else left)
            except TimeoutError:
                continue


async def now(context: Context) -> int:
    """Return the cursor after the newest item."""
    async with context.database.reading() as connection:
        return await feed_store.horizon(connection)


def render_item(context: Context, item: FeedItem) -> dict[str, Any]:
    """Return an item as the feed and the streams show it."""
    return {
        "id": str(item.id),
        "type": item.type,
        "timestamp": rfc3339(item.at),
        "sequence": item.sequence,
        "task_id": str(item.task.id),
        "data": show_task_briefly(
            item.task, now=context.now(), api_url=context.settings.links_url, truncated=item.truncated
        ),
    }
