"""Check that a worker is alive, and that the queues are worked off."""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Final

from service.cli.doctor.finding import Finding, ok, warning
from service.store import health
from service.store.clock import read_database_time
from service.store.database import Database

WORKER_SILENT: Final = 60.0
"""Seconds after its last heartbeat from which on a worker does not count as alive."""


async def check_work(opened: Database | None) -> list[Finding]:
    """Report the last heartbeat of a worker, and the queues whose oldest row has been due for too long.

    :param opened: the database, where it can be read
    """
    if opened is None:
        return []
    async with opened.reading() as connection:
        now = dt.datetime.now(dt.UTC)
        if not opened.sqlite:  # heartbeats and due times follow the database's clock
            now = dt.datetime.fromtimestamp(await read_database_time(connection), dt.UTC)
        seen = await health.last_worker(connection)
        ages = await health.queue_ages(connection, now=now)
    return [_worker(seen, now), *_queues(ages)]


def _worker(seen: dt.datetime | None, now: dt.datetime) -> Finding:
    advice = "nothing is submitted, polled or delivered without one: start `dovecote serve`, or `dovecote serve --role worker`"
    if seen is None:
        return warning("worker", "none has worked on this database in the last day", advice)
    silent = max((now - seen).total_seconds(), 0.0)
    if silent > WORKER_SILENT:
        return warning("worker", f"none has been alive for {silent:.0f} s", advice)
    return ok("worker", f"was alive {silent:.0f} s ago")


def _queues(ages: Mapping[str, float]) -> Iterator[Finding]:
    late = health.queue_warnings(ages)
    for message in late:
        yield warning("queues", message, "is the worker overloaded, or stopped? Its log names rounds that failed")
    if not late:
        yield ok("queues", f"nothing has been due for more than {health.MAX_QUEUE_AGE:.0f} s")
