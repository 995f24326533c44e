"""Signals between processes: on PostgreSQL by LISTEN and NOTIFY. They are hints; a lost one costs a second or two."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from service.flows.context import Context, log
from service.store.database import StoreUnavailable
from service.store.notify import Listener

RECONNECT = 1.0
MAX_UNSENT = 10_000
"""Hints that wait for a connection. More are dropped: the other processes find the changes by their queries."""
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
    unsent = Hints()
    context.signals.publish = unsent.add
    task = asyncio.create_task(stay_connected(context, unsent), name="signals-postgres")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Hints:
    """Hints that wait to be sent: each of them once, and a bounded number."""

    def __init__(self) -> None:
        """Start with none."""
        self.wake = asyncio.Event()
        self._waiting: set[str] = set()

    def add(self, hint: str) -> None:
        """Add a hint; drop it where too many wait already."""
        if len(self._waiting) < MAX_UNSENT:
            self._waiting.add(hint)
        self.wake.set()

    def take(self) -> list[str]:
        """Remove and return all of them."""
        self.wake.clear()
        taken, self._waiting = sorted(self._waiting), set()
        return taken


async def stay_connected(context: Context, unsent: Hints) -> None:
    """Send hints and receive those of others, and connect again whenever the connection is lost."""
    while True:
        try:
            url = context.settings.database_listen_url or context.settings.database_url
            async with Listener(url).connected(context.signals.received, unsent.wake.set) as listener:
                context.signals.notify_all()  # signals may have been lost meanwhile
                while True:
                    await unsent.wake.wait()
                    await listener.notify(unsent.take())
                    await asyncio.sleep(SEND_EVERY)
        except StoreUnavailable as error:
            log.info("LISTEN/NOTIFY connection lost; retrying error=%s", error)
        except Exception:  # noqa: BLE001 - other processes depend on it
            log.exception("LISTEN/NOTIFY connection failed; retrying")
        await asyncio.sleep(RECONNECT)
