"""Fill a database with any number of tasks, and a submission, an event, a callback and a message for each, by SQL alone."""

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.events import Event
from service.domain.task import Outcome, Source, State, Submission, Task
from service.store import callbacks, events, submissions, tables
from service.store.callbacks import Received
from service.store.database import Database
from service.store.migrate import migrate
from service.store.tasks import row_of
from service.store.webhooks import messages
from service.store.webhooks.messages import Message

NOW: Final = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)
FIRST: Final = UUID(int=0)
"""The id of the row that the others are copied from."""
DUE: Final = 500
"""Tasks that are due to be submitted, and tasks that are due to be polled, at every size; ten times as many are open."""
FILLED: Final = (
    tables.tasks,
    tables.submissions,
    tables.events,
    tables.callbacks,
    tables.webhook_messages,
    tables.money_entries,
)
NUMBERED: Final = frozenset({"events", "money_entries"})
"""Tables whose rows the database numbers."""
MAX_AT_ONCE: Final = 250_000
_MILLISECONDS: Final = 1_764_000_000_000
"""The time of the first id."""
_FAILURE: Final = json.dumps({"code": "provider_error", "message": "the provider failed"})
_OPEN: Final = f"n <= {12 * DUE}"


async def make_schema(url: str) -> None:
    """Make the tables in an empty database."""
    database = Database(url)
    await migrate(database)
    await database.close()


async def fill(url: str, count: int, *, whole: bool) -> None:
    """Make the rows.

    :param whole: whether all tables of :data:`FILLED` are filled; else only tasks
    """
    database = Database(url, command_timeout=None)
    some = FILLED if whole else FILLED[:1]
    async with database.writing() as connection:
        await _insert_templates(connection)
    changes = _changes(sqlite=database.sqlite)
    key = f"'{FIRST.hex if database.sqlite else FIRST}'"
    copies = {
        table: Copies(f"{'task_id' if table.name in NUMBERED else 'id'} = {key}", changes[table.name]) for table in some
    }
    await multiply(database, copies, count - 1)
    await database.close()


@dataclasses.dataclass(frozen=True, slots=True)
class Copies:
    """How the rows of a table are copied."""

    which: str
    """The condition of the rows that are copied."""
    changes: Mapping[str, str]
    """The expressions of the columns that differ from the copied row. ``n`` is the number of the copy."""


async def multiply(database: Database, copies: Mapping[Table, Copies], count: int) -> None:
    """Copy rows of some tables many times, and build their indexes afterwards, as that is several times faster."""
    indexes = [index for table in copies for index in table.indexes if not index.unique]
    async with database.writing() as connection:
        for index in indexes:
            await connection.execute(text(f"DROP INDEX {index.name}"))
    for start in range(1, count + 1, MAX_AT_ONCE):
        for table, how in copies.items():
            async with database.writing() as connection:
                await _make_fast(connection)
                await _copy(connection, table, how, start, min(start + MAX_AT_ONCE, count + 1))
    for index in indexes:
        async with database.writing() as connection:
            await _make_fast(connection)
            await connection.run_sync(index.create)
    await _finish(database, tuple(copies))


async def _make_fast(connection: AsyncConnection) -> None:
    if connection.dialect.name == "postgresql":  # no look-up for each foreign key, and no wait for the disk
        for setting in (
            "session_replication_role = replica",
            "synchronous_commit = off",
            "maintenance_work_mem = '256MB'",
        ):
            await connection.execute(text(f"SET LOCAL {setting}"))


async def _finish(database: Database, some: tuple[Table, ...]) -> None:
    """Collect statistics on PostgreSQL, as its autovacuum does. SQLite plans without, here as in use."""
    if not database.sqlite:
        async with database.writer.connect() as connection:
            plain = await connection.execution_options(isolation_level="AUTOCOMMIT")
            for table in some:
                await plain.execute(text(f"VACUUM ANALYZE {table.name}"))


async def _insert_templates(connection: AsyncConnection) -> None:
    await connection.execute(tables.tasks.insert(), [row_of(_task())])
    await submissions.begin(connection, [_submission()])
    happened = Event(
        task_id=FIRST,
        client="big",
        sequence=1,
        type="succeeded",
        message="task.succeeded",
        source=Source.CALLBACK,
        at=NOW,
        data={},
    )
    await events.record(connection, [happened])
    received = Received(
        id=FIRST,
        submission_id=FIRST,
        headers={},
        body=b"{}",
        dedupe_key=b"",
        received_at=NOW,
        decision="applied",
        decided_at=NOW,
        upstream="elkapi",
        due_at=None,
    )
    await callbacks.receive(connection, [received])
    await messages.insert(connection, [_message()])
    await connection.execute(tables.money_entries.insert(), [_entry()])


def _task() -> Task:
    return Task(
        id=FIRST,
        client="big",
        family="runway",
        operation="text_to_video",
        input={"prompt": "a dove", "duration": 5},
        request_hash="",
        route=("elkapi",),
        state=State.SUCCEEDED,
        upstream="elkapi",
        dialect="runway/aggregator",
        external_id="job",
        decided_by="provider",
        outcome_source=Source.CALLBACK,
        callback_expected=True,
        sequence=3,
        created_at=NOW,
        updated_at=NOW,
        submitted_at=NOW,
        finished_at=NOW,
        deadline_at=NOW + dt.timedelta(days=1),
        due_at=None,
    )


def _submission() -> Submission:
    return Submission(
        id=FIRST,
        task_id=FIRST,
        upstream="elkapi",
        dialect="runway/aggregator",
        outcome=Outcome.TAKEN,
        external_id="job",
        sent_at=NOW,
        settled_at=NOW,
    )


def _message() -> Message:
    return Message(
        id=FIRST,
        client="big",
        task_id=FIRST,
        endpoint_id=FIRST,
        destination="endpoint:1",
        sequence=1,
        type="task.succeeded",
        url="https://client.example/hook",
        body="{}",
        state="delivered",
        created_at=NOW,
        delivered_at=NOW,
        due_at=None,
    )


def _entry() -> dict[str, Any]:
    return {
        "key": f"set:{FIRST}",
        "submission_id": FIRST,
        "task_id": FIRST,
        "client": "big",
        "family": "runway",
        "operation": "text_to_video",
        "model": "gen4_turbo",
        "upstream": "elkapi",
        "dialect": "runway/aggregator",
        "external_id": "job",
        "labels": {},
        "verdict": "charged",
        "basis": "provider",
        "amount": Decimal(160),
        "gross": Decimal(160),
        "unit": "points",
        "change": Decimal(160),
        "computed": False,
        "delivered": True,
        "reason": "",
        "source": "callback",
        "evidence": {},
        "purchased_at": NOW,
        "booked_at": NOW,
    }


async def _copy(connection: AsyncConnection, table: Table, how: Copies, start: int, end: int) -> None:
    """Copy the rows of a table, with the numbers from ``start`` to before ``end``."""
    names = [
        column.name
        for column in table.columns
        if not (table.name in NUMBERED and column.name == "id") or "id" in how.changes
    ]
    values = ", ".join(how.changes.get(name, f"{table.name}.{name}") for name in names)
    series = (
        "(WITH RECURSIVE series(n) AS (SELECT :start UNION ALL SELECT n + 1 FROM series WHERE n < :end - 1) SELECT n FROM series)"
        if connection.dialect.name == "sqlite"
        else "(SELECT generate_series(CAST(:start AS bigint), CAST(:end AS bigint) - 1) AS n)"
    )
    statement = (
        f"INSERT INTO {table.name} ({', '.join(names)}) "  # noqa: S608 - names of ours
        f"SELECT {values} FROM {table.name}, {series} AS series WHERE {table.name}.{how.which}"
    )
    await connection.execute(text(statement), {"start": start, "end": end})


def _changes(*, sqlite: bool) -> dict[str, dict[str, str]]:
    """Return the expressions of the columns that differ from the first row, by table. ``n`` is the number of the row."""
    if sqlite:
        identity = f"printf('%012x', {_MILLISECONDS} + n) || printf('70008000%012x', n)"
        now = str(int(NOW.timestamp() * 1_000_000))
        at = f"{now} + n * 1000"
        soon, late = f"{now} - n", f"{now} + 86400000000"
    else:
        stamp = f"lpad(to_hex({_MILLISECONDS} + n), 12, '0')"
        identity = f"({stamp} || '70008000' || lpad(to_hex(n), 12, '0'))::uuid"
        now = f"timestamptz '{NOW.isoformat()}'"
        at = f"{now} + n * interval '1 millisecond'"
        soon, late = f"{now} - n * interval '1 microsecond'", f"{now} + interval '1 day'"
    failed = f"CASE WHEN NOT ({_OPEN}) AND n % 20 = 0 THEN '{_FAILURE}'{'' if sqlite else '::json'} END"
    client = "CASE WHEN n % 10 < 8 THEN 'big' ELSE 'client-' || n % 1000 END"
    return {
        "tasks": {
            "id": identity,
            "client": client,
            "family": "CASE n % 3 WHEN 0 THEN 'suno' ELSE 'runway' END",
            "state": f"CASE WHEN n <= {DUE} THEN 'queued' WHEN {_OPEN} THEN 'running' WHEN n % 20 = 0 THEN 'failed' ELSE 'succeeded' END",
            "failure": failed,
            "decided_by": f"CASE WHEN {_OPEN} THEN NULL ELSE 'provider' END",
            "outcome_source": f"CASE WHEN {_OPEN} THEN NULL ELSE 'callback' END",
            "finished_at": f"CASE WHEN {_OPEN} THEN NULL ELSE {at} END",
            "due_at": f"CASE WHEN n <= {2 * DUE} THEN {soon} WHEN {_OPEN} THEN {late} END",
            "idempotency_key": "'key-' || n",
        },
        "submissions": {
            "id": identity,
            "task_id": identity,
            "external_id": "'job-' || n",
            "sent_at": at,
            "settled_at": at,
        },
        "events": {"task_id": identity, "client": client},
        "callbacks": {"id": identity, "submission_id": identity, "received_at": at, "decided_at": at},
        "webhook_messages": {
            "id": identity,
            "task_id": identity,
            "client": client,
            "created_at": at,
            "delivered_at": at,
        },
        "money_entries": {
            "key": "'set:' || n",
            "submission_id": identity,
            "task_id": identity,
            "client": client,
            "upstream": "CASE n % 2 WHEN 0 THEN 'elkapi' ELSE 'cometapi' END",
            # As many were given back as failed, and one of fifty is owed.
            "verdict": "CASE WHEN n % 20 = 0 THEN 'refunded' ELSE 'charged' END",
            "delivered": "n % 20 <> 0 AND n % 50 > 1",
            "purchased_at": at,
            "booked_at": at,
        },
    }
