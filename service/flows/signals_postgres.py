"""Signals between processes: on PostgreSQL by LISTEN and NOTIFY. Hints only; whoever misses one looks a second later."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from service.flows.context import Context, log
from service.store.database import StoreUnavailable
from service.store.notify import Listener

RECONNECT = 1.0


@contextlib.asynccontextmanager
async def listening(context: Context) -> AsyncIterator[None]:
    """Tell the other processes of a PostgreSQL database what rings here, and hear what rings there."""
    if context.database.sqlite:
        yield
        return
    waiting: set[str] = set()
    wake = asyncio.Event()

    def tell(hint: str) -> None:
        waiting.add(hint)
        wake.set()

    context.signals.publish = tell
    task = asyncio.create_task(_stay_connected(context, waiting, wake), name="abroad")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _stay_connected(context: Context, waiting: set[str], wake: asyncio.Event) -> None:
    while True:
        try:
            async with Listener(context.database.url).connected(context.signals.received) as listener:
                context.signals.notify_all()  # who waits may have missed something meanwhile
                while True:
                    await wake.wait()
                    wake.clear()
                    hints = sorted(waiting)
                    waiting.clear()
                    await listener.notify(hints)
        except StoreUnavailable as error:
            log.info("no signals to and from other processes for now: %s", error)
            await asyncio.sleep(RECONNECT)
