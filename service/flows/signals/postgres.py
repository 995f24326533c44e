"""Signals between processes: on PostgreSQL by LISTEN and NOTIFY. They are hints; a lost one costs a second or two."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from service.flows.context import Context, log
from service.store.database import StoreUnavailable
from service.store.notify import Listener

RECONNECT = 1.0
SEND_EVERY = 0.02
"""Seconds from one notification to the next. The hints that come meanwhile share it: its round trip costs more than they do."""


def has_channel(context: Context) -> bool:
    """Return whether other processes can be signalled: not on SQLite, and not through a pooler."""
    database = context.database
    return not database.sqlite and (not database.pooled or context.settings.database_listen_url is not None)


@contextlib.asynccontextmanager
async def listening(context: Context) -> AsyncIterator[None]:
    """Publish signals to the other processes of a PostgreSQL database, and receive theirs, for the length of a ``with``."""
    if not has_channel(context):
        if not context.database.sqlite:
            log.info("no LISTEN through a pooler; signals take up to a second: set database_listen_url")
        yield
        return
    unsent: set[str] = set()
    wake = asyncio.Event()

    def publish(hint: str) -> None:
        unsent.add(hint)
        wake.set()

    context.signals.publish = publish
    task = asyncio.create_task(_stay_connected(context, unsent, wake), name="signals-postgres")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _stay_connected(context: Context, unsent: set[str], wake: asyncio.Event) -> None:
    while True:
        try:
            url = context.settings.database_listen_url or context.settings.database_url
            async with Listener(url).connected(context.signals.received, wake.set) as listener:
                context.signals.notify_all()  # signals may have been lost meanwhile
                while True:
                    await wake.wait()
                    wake.clear()
                    hints = sorted(unsent)
                    unsent.clear()
                    await listener.notify(hints)
                    await asyncio.sleep(SEND_EVERY)
        except StoreUnavailable as error:
            log.info("LISTEN/NOTIFY connection lost; retrying error=%s", error)
            await asyncio.sleep(RECONNECT)
