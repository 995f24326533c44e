"""Fill a database with ended tasks of many days, each with everything that a task has, by SQL alone."""

import dataclasses
import datetime as dt
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.growth.filling import Copies, multiply
from service.domain.events import Event
from service.domain.task import Outcome, Result, Source, State, Submission, Task
from service.store import callbacks, events, submissions, tables
from service.store import tasks as task_store
from service.store.database import Database
from service.store.webhooks import attempts, messages

DAYS: Final = 200
EVENTS: Final = 5
SUBMISSION: Final = UUID(int=2)
PROTOTYPE: Final = UUID(int=1)
"""The task that is multiplied."""


@dataclasses.dataclass(frozen=True, slots=True)
class Numbers:
    """The ids and times of numbered tasks, which are spread evenly over :data:`DAYS`."""

    count: int
    start: dt.datetime

    @property
    def first_ms(self) -> int:
        """The Unix milliseconds of number 0."""
        return int(self.start.timestamp() * 1000)

    @property
    def step_ms(self) -> int:
        """The milliseconds between two tasks."""
        return DAYS * 86_400_000 // self.count


def numbers(count: int, now: dt.datetime) -> Numbers:
    """Return the numbering of a database that is filled on a day."""
    return Numbers(count, dt.datetime.combine(now.date(), dt.time(), dt.UTC) - dt.timedelta(days=DAYS))


async def fill(database: Database, numbered: Numbers) -> None:
    """Insert one task with everything, and multiply it."""
    async with database.writing() as connection:
        await _insert_prototype(connection, numbered.start)
    await multiply(database, _copies(numbered, sqlite=database.sqlite), numbered.count)
    if not database.sqlite:
        async with database.writing() as connection:
            await connection.execute(text(f"SELECT setval('events_id_seq', {(numbered.count + 20) * EVENTS})"))
            await connection.execute(text(f"SELECT setval('webhook_attempts_id_seq', {numbered.count + 100})"))


def _copies(numbered: Numbers, *, sqlite: bool) -> dict[tables.Table, Copies]:
    """Return how the rows of each table follow from those of the prototype."""
    stamp = f"({numbered.first_ms} + {'n' if sqlite else 'n::bigint'} * {numbered.step_ms})"

    def uuid(kind: int) -> str:
        if sqlite:
            return f"printf('%012x7{kind:03x}8%015x', {stamp}, n)"
        return f"(lpad(to_hex({stamp}), 12, '0') || '7{kind:03x}8' || lpad(to_hex(n), 15, '0'))::uuid"

    at = f"{stamp} * 1000" if sqlite else f"to_timestamp({stamp}::float8 / 1000)"
    of_task = f"task_id = '{PROTOTYPE.hex}'"
    label = "'user-' || (n % 1000)"
    moments = dict.fromkeys(("created_at", "updated_at", "submitted_at", "finished_at"), at)
    job = {"external_id": "'job-' || n"}
    return {
        tables.tasks: Copies(f"id = '{PROTOTYPE.hex}'", {"id": uuid(1), "submission_id": uuid(2), **job, **moments}),
        tables.submissions: Copies(
            of_task, {"id": uuid(2), "task_id": uuid(1), **job, "sent_at": at, "settled_at": at}
        ),
        tables.task_labels: Copies(of_task, {"task_id": uuid(1), "value": label}),
        tables.events: Copies(of_task, {"id": f"events.sequence + 10 + n * {EVENTS}", "task_id": uuid(1), "at": at}),
        tables.callbacks: Copies(
            f"id = '{UUID(int=3).hex}'",
            {"id": uuid(3), "submission_id": uuid(2), "received_at": at, "decided_at": at},
        ),
        tables.webhook_messages: Copies(
            of_task, {"id": uuid(4), "task_id": uuid(1), "created_at": at, "delivered_at": at}
        ),
        tables.webhook_attempts: Copies(
            f"message_id = '{UUID(int=4).hex}'", {"id": "n + 10", "message_id": uuid(4), "at": at}
        ),
    }


async def _insert_prototype(connection: AsyncConnection, now: dt.datetime) -> None:
    """Insert the rows of one ended task."""
    await task_store.accept(connection, [dataclasses.replace(_task(now), sequence=1)])
    await submissions.begin(connection, [_submission(now)])
    await events.record(connection, [_event(number, now) for number in range(2, EVENTS + 1)])
    await callbacks.receive(connection, [_callback(now)])
    message = _message(now)
    await messages.insert(connection, [message])
    delivery = attempts.Delivery(
        message_id=message.id, attempt=1, at=now, status=200, duration_ms=20, answer="ok", error=None
    )
    await attempts.record(connection, [delivery])


def _task(now: dt.datetime) -> Task:
    return Task(
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
        submission_id=SUBMISSION,
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


def _submission(now: dt.datetime) -> Submission:
    return Submission(
        id=SUBMISSION,
        task_id=PROTOTYPE,
        upstream="elkapi",
        dialect="runway/aggregator",
        outcome=Outcome.TAKEN,
        external_id="job-0",
        sent_at=now,
        settled_at=now,
    )


def _event(number: int, now: dt.datetime) -> Event:
    return Event(
        task_id=PROTOTYPE,
        client="bench",
        sequence=number,
        type="progress",
        message="task.progress",
        source=Source.CALLBACK,
        at=now,
        data={"progress": number},
    )


def _callback(now: dt.datetime) -> callbacks.Received:
    return callbacks.Received(
        id=UUID(int=3),
        submission_id=SUBMISSION,
        headers={"content-type": "application/json"},
        body=b"x" * 1000,
        dedupe_key=b"k" * 32,
        received_at=now,
        decision="applied",
        decided_at=now,
        due_at=None,
    )


def _message(now: dt.datetime) -> messages.Message:
    return messages.Message(
        id=UUID(int=4),
        client="bench",
        task_id=PROTOTYPE,
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
