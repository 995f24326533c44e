"""Large tables, and the plans by which a database reads them."""

import re

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.growth.plans import Act, plans_of, statements_of
from service.domain.task import State
from service.store import callbacks as callback_store
from service.store import tables
from service.store import tasks as task_store
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import endpoints
from service.store.webhooks import messages as message_store
from service.store.webhooks.attempts import Delivery
from service.store.webhooks.endpoints import Endpoint
from tests.support.values import NOW, a_callback, a_message, a_task, later, new_id

MANY = 4000
FILLED = ("tasks", "submissions", "callbacks", "webhook_messages")
"""The tables that have many rows after :func:`fill`."""
REST = ("events", "erasures", "assets")
"""Those that have many rows after :func:`fill_the_rest`, too."""


async def fill(connection: AsyncConnection) -> None:
    """Fill tables so that no planner prefers to read them whole: thousands of rows, and few of them due."""
    sqlite = connection.dialect.name == "sqlite"
    random_id = "lower(hex(randomblob(16)))" if sqlite else "gen_random_uuid()"
    task = a_task(state=State.RUNNING, due_at=later(10_000), idempotency_key="seed", labels={"project": "a"})
    await task_store.accept(connection, [task])
    await callback_store.receive(connection, [a_callback(due_at=later(10_000))])
    await message_store.insert(connection, [a_message(task, due_at=later(10_000))])
    endpoint = Endpoint(id=new_id(), client="seed", url="http://x", secret="s", created_at=NOW, updated_at=NOW)
    await endpoints.register(connection, endpoint, most=9)
    [message] = await message_store.of_task(connection, task.id)
    await attempt_store.record(
        connection,
        [Delivery(message_id=message.id, attempt=1, at=NOW, status=200, duration_ms=1, answer=None, error=None)],
    )
    spread = {
        tables.tasks: {
            "idempotency_key": "'key-' || n",
            "family": "CASE n % 2 WHEN 0 THEN 'runway' ELSE 'suno' END",
            "client": "CASE n % 10 WHEN 0 THEN 'another' ELSE 'default' END",
        },
        tables.webhook_messages: {
            "sequence": "n + 10",
            "state": "'delivered'",
            "delivered_at": "created_at",
            "due_at": "NULL",
        },
    }
    spread |= {
        tables.webhook_endpoints: {"client": "'client-' || n"},
        tables.webhook_attempts: {"id": "-n", "attempt": "n + 10"},
    }
    for table, changes in spread.items():
        names = [column.name for column in table.columns]
        values = ", ".join({"id": random_id, **changes}.get(name, name) for name in names)
        series = "WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < :many)"
        copies = f"{series} SELECT {values} FROM {table.name}, series"  # noqa: S608 - names of ours
        await connection.execute(text(f"INSERT INTO {table.name} ({', '.join(names)}) {copies}"), {"many": MANY})
    for statement in _JOBS:
        await connection.execute(text(statement.replace(":random_id", random_id)))
    label = "INSERT INTO task_labels (client, name, value, task_id) SELECT client, 'project', id, id FROM tasks"
    await connection.execute(text(label if sqlite else label.replace("id, id", "id::text, id")))
    if not sqlite:  # its own autovacuum does it; SQLite plans without statistics, here as in use
        await connection.execute(text("ANALYZE"))


# A job of each task, and a callback of each job.
_JOBS = (
    (
        "INSERT INTO submissions (id, task_id, upstream, dialect, outcome, external_id, sent_at, settled_at)"
        " SELECT :random_id, id, 'elkapi', 'suno/newapi', 'taken', 'job', created_at, created_at FROM tasks"
    ),
    (
        "INSERT INTO callbacks"
        " (id, submission_id, headers, body, dedupe_key, copies, received_at, decision, decided_at, upstream, attempts)"
        " SELECT :random_id, jobs.id, headers, body, dedupe_key, copies, received_at, 'applied', received_at, 'elkapi', 0"
        " FROM callbacks, submissions AS jobs"
    ),
)
_OF_EACH_TASK = (
    "UPDATE submissions SET due_at = (SELECT due_at FROM tasks WHERE tasks.id = submissions.task_id)",
    (
        "INSERT INTO events (task_id, client, sequence, type, message, source, at, data)"
        " SELECT id, client, 99, 'succeeded', 'task.succeeded', 'poll', created_at, '{}' FROM tasks"
    ),
    (
        "INSERT INTO erasures (request_id, task_id, client, cancel, requested_at, due_at, attempts)"
        " SELECT id, id, client, false, created_at, due_at, 0 FROM tasks"
    ),
    "INSERT INTO assets (id, task_id, state, created_at, due_at) SELECT id, id, 'pending', created_at, due_at FROM tasks",
)


async def fill_the_rest(connection: AsyncConnection) -> None:
    """Add to :func:`fill` a due time of its submission, an event, an erasure and a copy of a result for each task."""
    for statement in _OF_EACH_TASK:
        await connection.execute(text(statement))
    if connection.dialect.name == "postgresql":
        await connection.execute(text("ANALYZE"))


async def plan_of(connection: AsyncConnection, act: Act) -> str:
    """Run a function, and return the database's plan of its last statement."""
    ran = await statements_of(connection, act)
    return await plans_of(connection, ran[-1:])


def uses(plan: str, index: str, large: tuple[str, ...] = FILLED) -> bool:
    """Return whether a plan finds rows by an index, and reads none of the large tables whole."""
    tables_read = rf"({'|'.join(large)})\b"
    whole = re.search(rf"Seq Scan on {tables_read}|SCAN {tables_read}(?! USING (COVERING )?INDEX ix_)", plan)
    unique = re.sub(r"^uq_([a-z]+).*|^pk_([a-z_]+)", r"sqlite_autoindex_\1\2", index)
    return whole is None and re.search(rf"\b{index}\b|\b{index}_|{unique}_", plan) is not None
