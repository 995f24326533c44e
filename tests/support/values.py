"""Valid values that tests of the store start with. A test changes the fields that it is about."""

import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid_utils

from service.domain.task import Failure, State, Submission, Task
from service.flows.webhooks.enqueue import callback_destination
from service.store import callbacks as callback_store
from service.store import tasks as task_store
from service.store.database import Database
from service.store.webhooks import messages as message_store

NOW = dt.datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=dt.UTC)


def later(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def new_id() -> UUID:
    return uuid_utils.uuid7()


def unicode_escaped(text: str) -> str:
    """Return a text in which JSON escapes every character."""
    return "".join(f"\\u{ord(each):04X}" for each in text)


def a_task(**more: Any) -> Task:
    """Return a queued task, or one in another state with the fields that this state needs."""
    state = more.get("state", State.QUEUED)
    fitting: dict[str, Any] = {} if state is State.QUEUED else {"upstream": "elkapi", "dialect": "runway/aggregator"}
    if state.ended:
        fitting |= {"finished_at": NOW, "decided_by": "provider", "due_at": None}
    if state is State.FAILED:
        fitting |= {"failure": Failure("unknown")}
    plain: dict[str, Any] = {
        "id": new_id(),
        "client": "default",
        "family": "runway",
        "operation": "text_to_video",
        "input": {"prompt": "a dove"},
        "sequence": 1,
        "created_at": NOW,
        "updated_at": NOW,
        "deadline_at": later(3600),
        "due_at": NOW,
    }
    return Task(**{**plain, **fitting, **more})


def a_submission(task: Task, **more: Any) -> Submission:
    plain = {"id": new_id(), "task_id": task.id, "upstream": "elkapi", "dialect": "runway/aggregator", "sent_at": NOW}
    return Submission(**{**plain, **more})


def a_callback(**more: Any) -> callback_store.Received:
    plain = {"id": new_id(), "submission_id": new_id(), "headers": {}, "body": b"{}", "dedupe_key": b"key"}
    return callback_store.Received(**{**plain, "received_at": NOW, "due_at": NOW, **more})


def a_message(task: Task, **more: Any) -> message_store.Message:
    plain = {
        "id": new_id(),
        "client": task.client,
        "task_id": task.id,
        "destination": callback_destination(more.get("url", "http://x")),
        "sequence": 2,
        "type": "task.succeeded",
        "url": "http://x",
        "body": '{"type":"task.succeeded"}',
    }
    return message_store.Message(**{**plain, "created_at": NOW, "due_at": NOW, **more})


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Open a database while the block runs. On a busy machine a statement may take longer than the product allows."""
    database = Database(url, command_timeout=None)
    try:
        yield database
    finally:
        await database.close()


async def keep(database: Database, *tasks: Task) -> None:
    """Insert tasks."""
    async with database.writing() as connection:
        await task_store.accept(connection, tasks)
