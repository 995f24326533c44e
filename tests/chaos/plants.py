"""Bugs that chaos must find. They are patched into a started server, and none of this is in ``service/``."""

import asyncio
import contextlib
import dataclasses
import importlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from sqlalchemy import bindparam, update

THAWED_AFTER = 2.0
"""Seconds longer than a submit may take, after which the planted bug takes its process for one that was frozen."""
SKIPPED_EVERY = 60
"""One of so many transactions is rolled back."""


class _SkippedError(Exception):
    """Ends a transaction without its commit."""


def early_acknowledgement() -> None:
    """Acknowledge callbacks before their commit."""
    writer: Any = importlib.import_module("service.store.writer").Writer
    receive = importlib.import_module("service.store.callbacks").receive
    batch, running = writer.batch, set()

    async def planted(self: Any, function: Any, item: Any) -> Any:
        if function is not receive:
            return await batch(self, function, item)
        task = asyncio.ensure_future(batch(self, function, item))
        running.add(task)
        task.add_done_callback(lambda done: (running.discard(done), done.cancelled() or done.exception()))
        return None

    writer.batch = planted


def lost_lease_check() -> None:
    """Write the outcome of a delivery and of a change although another process has claimed the row meanwhile."""
    queue: Any = importlib.import_module("service.store.queue")
    table = importlib.import_module("service.store.tables").webhook_messages
    names = ["state", "delivered_at", "last_status", "last_error", "due_at", "schedule_from"]
    stale_too = (table.c.id == bindparam("of_row"), table.c.attempts >= bindparam("of_attempt"))
    statement = update(table).where(*stale_too).values({name: bindparam(name) for name in names})

    async def settle_messages(connection: Any, settled: Sequence[dict[str, Any]]) -> None:
        if settled:
            await connection.execute(statement, list(settled))

    queue.settle_messages = settle_messages
    apply: Any = importlib.import_module("service.flows.apply")
    decide = apply.decide

    def planted(task: Any, change: Any, facts: Any, **more: Any) -> Any:
        if change.attempt is not None:
            change = dataclasses.replace(change, attempt=task.attempts)
        return decide(task, change, facts, **more)

    apply.decide = planted


def double_submission() -> None:
    """Send a submission once more when the process was frozen while it waited for the answer."""
    send: Any = importlib.import_module("service.flows.submission.send")
    once = send._send

    async def planted(context: Any, handover: Any, *more: Any) -> Any:
        began = context.monotonic()
        try:
            return await once(context, handover, *more)
        finally:
            timeout = handover.dialect.facts.read_timeout(handover.task.operation)
            if context.monotonic() - began > timeout + THAWED_AFTER:
                await once(context, dataclasses.replace(handover, claimed_at=context.monotonic()), *more)

    send._send = planted


def skipped_commit() -> None:
    """Roll back one of many transactions, and report it as committed."""
    database: Any = importlib.import_module("service.store.database").Database
    writing, numbers = database.writing, itertools.count(1)

    @contextlib.asynccontextmanager
    async def planted(self: Any, **more: Any) -> AsyncIterator[Any]:
        with contextlib.suppress(_SkippedError):
            async with writing(self, **more) as connection:
                yield connection
                if next(numbers) % SKIPPED_EVERY == 0:
                    raise _SkippedError

    database.writing = planted


PLANTS: dict[str, Callable[[], None]] = {
    "early-acknowledgement": early_acknowledgement,
    "lost-lease-check": lost_lease_check,
    "double-submission": double_submission,
    "skipped-commit": skipped_commit,
}


def plant(name: str) -> None:
    """Patch a bug into this process."""
    PLANTS[name]()
