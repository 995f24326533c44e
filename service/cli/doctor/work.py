"""Check that a worker is alive, and that the queues are worked off."""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Final

from service.cli.doctor.finding import Finding, ok, warning
from service.domain.flows import DESCRIPTIONS, FLOWS, Flow
from service.store import health
from service.store.clock import read_database_time
from service.store.database import Database

WORKER_SILENT: Final = 60.0
"""Seconds after its last heartbeat from which on a worker does not count as alive."""


async def check_work(opened: Database | None, *, stores_files: bool) -> list[Finding]:
    """Report the last heartbeat of a worker, flows without any, and the queues whose oldest row has been due for too long.

    :param opened: the database, where it can be read
    :param stores_files: whether there is a place for files, so that the flow results has work
    """
    if opened is None:
        return []
    async with opened.reading() as connection:
        now = dt.datetime.now(dt.UTC)
        if not opened.sqlite:  # heartbeats and due times follow the database's clock
            now = dt.datetime.fromtimestamp(await read_database_time(connection), dt.UTC)
        seen = await health.last_workers(connection)
        ages = await health.queue_ages(connection, now=now)
    return [_worker(seen, now, stores_files=stores_files), *_queues(ages)]


def _worker(seen: Mapping[Flow, dt.datetime], now: dt.datetime, *, stores_files: bool) -> Finding:
    advice = "nothing is submitted, polled or delivered without one: start `dovecote serve`, or `dovecote serve --role worker`"
    if not seen:
        return warning("worker", "none has worked on this database in the last day", advice)
    silent = max((now - max(seen.values())).total_seconds(), 0.0)
    if silent > WORKER_SILENT:
        return warning("worker", f"none has been alive for {silent:.0f} s", advice)
    needed = [flow for flow in FLOWS if flow != "results" or stores_files]
    missing = [flow for flow in needed if flow not in seen or (now - seen[flow]).total_seconds() > WORKER_SILENT]
    if missing:
        works = "; ".join(f"{flow} {DESCRIPTIONS[flow]}" for flow in missing)
        return warning(
            "worker",
            f"missing for {', '.join(missing)}: no process works on {'it' if len(missing) == 1 else 'them'}",
            f"{works}. Start `dovecote serve --role worker --flows {','.join(missing)}`",
        )
    return ok("worker", f"was alive {silent:.0f} s ago")


def _queues(ages: Mapping[str, float]) -> Iterator[Finding]:
    late = health.queue_warnings(ages)
    for message in late:
        yield warning("queues", message, "is the worker overloaded, or stopped? Its log names rounds that failed")
    if not late:
        yield ok("queues", f"nothing has been due for more than {health.MAX_QUEUE_AGE:.0f} s")
