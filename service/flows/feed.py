"""Read the feed of a client or of a task, page by page. The pull feed and the streams show the same items."""

import asyncio
import dataclasses
import datetime as dt
import secrets
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.events import rfc3339
from service.domain.feed_cursor import BEGINNING, KEY_SIZE, Epoch, History, UnknownCursor, read_history
from service.domain.task import State
from service.flows.context import Context
from service.flows.render import show_task_briefly
from service.flows.signals.local import feed_of
from service.store import feed as feed_store
from service.store import secrets as secret_store
from service.store.feed import FeedItem

FROM_BEGINNING: Final = -1
"""The position before the oldest event that is kept."""
HELD_BACK: Final = 0.05
"""Seconds until the next read where an open transaction holds items back."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some items of a feed, in order."""

    items: Sequence[FeedItem]
    next: int
    """The position after this page. Nothing will ever appear at or before it."""
    history: History
    """Makes cursors of positions."""
    more: bool = False
    """Whether there are more items already."""
    held_back: bool = False
    """Whether items are written already that must wait for items before them."""
    state: State | None = None
    """The state in which the task has ended, once no more items are expected; else None."""


class CursorRefused(Exception):
    """A cursor is not one that this history of the database issued to this client."""

    def __init__(self, reason: str, newest: str) -> None:
        """Keep the reason, and the client's newest cursor."""
        super().__init__(reason)
        self.reason = reason
        self.newest = newest


class CursorExpired(Exception):
    """Events after a cursor were removed, as retention requires."""

    def __init__(self, newest: str) -> None:
        """Keep the client's newest cursor."""
        super().__init__("events after the cursor were removed")
        self.newest = newest


async def _history(context: Context, kept: str | None) -> History:
    """Return the epochs of the cursors. The first cursor that is needed begins the first epoch."""
    if kept is None:
        made = History((Epoch(secrets.token_bytes(KEY_SIZE)),)).text
        kept = await context.writers.requests.run(secret_store.keep, feed_store.HISTORY, made, now=context.now())
    return read_history(kept)


async def begin_epoch(connection: AsyncConnection, *, now: dt.datetime) -> None:
    """Begin a new history after a restore: cursors that were issued since the backup are refused from now on."""
    kept = await secret_store.find(connection, feed_store.HISTORY)
    if kept is None:
        return
    newest = await feed_store.newest(connection)
    following = read_history(kept).restored(secrets.token_bytes(KEY_SIZE), newest)
    await secret_store.replace(connection, feed_store.HISTORY, following.text, now=now)


async def position_of(context: Context, cursor: str, client: str) -> int:
    """Return the position of a client's cursor.

    :raises NotACursor: for any other text
    :raises CursorRefused: when this history of the database cannot have issued it
    """
    async with context.database.reading() as connection:
        until, kept = await feed_store.horizon_and_history(connection)
    history = await _history(context, kept)
    try:
        position = history.decode(cursor, client)
    except UnknownCursor as error:
        raise await _refused(context, str(error), history, client) from None
    if position > until:
        async with context.database.reading() as connection:
            assigned = await feed_store.newest(connection)
        if position > assigned:
            reason = "it is ahead of the newest event, as after a restore from a backup"
            raise await _refused(context, reason, history, client)
    return position


async def _newest(context: Context, history: History, client: str) -> str:
    """Return a client's newest cursor."""
    async with context.database.reading() as connection:
        until = await feed_store.horizon(connection)
        newest = await feed_store.newest_of_client(connection, client, until=until)
    return history.encode(newest, client) if newest else BEGINNING


async def _refused(context: Context, reason: str, history: History, client: str) -> CursorRefused:
    return CursorRefused(reason, await _newest(context, history, client))


async def of_client(context: Context, client: str, *, after: int, most: int, types: Sequence[str] = ()) -> Page:
    """Read a page of a client's feed.

    The next position is that of an item of this client: it does not move with the events of others.

    :param after: a position, or :data:`FROM_BEGINNING`
    :raises CursorExpired: when events after the position were removed
    """
    async with context.database.reading() as connection:
        until, kept = await feed_store.horizon_and_history(connection)
        found = await feed_store.of_client(connection, client, after=after, most=most, types=types)
        items = [each for each in found if each.id <= until]
        full = len(items) == most
        following = items[-1].id if items else after
        if types and not full:
            following = max(following, await feed_store.newest_of_client(connection, client, until=until))
        # Read after the items: what was removed before they were read shows in it.
        pruned = FROM_BEGINNING if after == FROM_BEGINNING else await feed_store.pruned_to(connection, client)
    if after < pruned:
        raise CursorExpired(await _newest(context, await _history(context, kept), client))
    return Page(
        items=items,
        next=following,
        history=await _history(context, kept),
        more=full,
        held_back=len(items) < len(found),
    )


async def owner_of(context: Context, task_id: UUID) -> str | None:
    """Return the client of a task; None where there is no such task."""
    async with context.database.reading() as connection:
        about = await feed_store.about_task(connection, task_id, None)
    return None if about is None else about.client


async def of_task(context: Context, task_id: UUID, client: str | None, *, after: int, most: int) -> Page | None:
    """Read a page of a task's feed. Return None when the task does not exist or belongs to another client.

    :raises CursorExpired: when events of the task after the position were removed
    """
    async with context.database.reading() as connection:
        # The state is read first, so that the item that ended the task is among those read afterwards.
        about = await feed_store.about_task(connection, task_id, client)
        if about is None:
            return None
        items = await feed_store.of_task(connection, task_id, after=after, most=most)
        expired = (
            not items
            and about.state.ended
            and after != FROM_BEGINNING
            and await _expired(connection, task_id, about.client, after)
        )
    if expired:
        raise CursorExpired(await _newest(context, await _history(context, about.history), about.client))
    full = len(items) == most
    return Page(
        items=items,
        next=items[-1].id if items else after,
        history=await _history(context, about.history),
        more=full,
        state=about.state if about.state.ended and not full else None,
    )


async def _expired(connection: AsyncConnection, task_id: UUID, client: str, after: int) -> bool:
    """Return whether items of a task were removed that may be after a position."""
    return after < await feed_store.pruned_to(connection, client) and not await feed_store.has_items(
        connection, task_id
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


async def now(context: Context, client: str) -> tuple[int, str]:
    """Return the position after a client's newest item, and its cursor."""
    async with context.database.reading() as connection:
        until, kept = await feed_store.horizon_and_history(connection)
        position = await feed_store.newest_of_client(connection, client, until=until)
    return position, (await _history(context, kept)).encode(position, client)


def render_item(context: Context, item: FeedItem, history: History) -> dict[str, Any]:
    """Return an item as the feed and the streams show it."""
    return {
        "id": history.encode(item.id, item.task.client),
        "type": item.type,
        "timestamp": rfc3339(item.at),
        "sequence": item.sequence,
        "task_id": str(item.task.id),
        "data": show_task_briefly(
            item.task, now=context.now(), api_url=context.settings.links_url, truncated=item.truncated
        ),
    }
