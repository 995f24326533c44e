"""Storage: columns equal the fields of values, invalid rows are refused, and a claim has one owner."""

import asyncio
import dataclasses
import random
import string
from collections.abc import AsyncIterator
from typing import Any, get_args, get_type_hints
from uuid import UUID

import pytest
from sqlalchemy import Table, insert, select
from sqlalchemy.exc import IntegrityError

from service.domain.destination_slots import DestinationSlots
from service.domain.events import Event
from service.domain.task import (
    Action,
    Failure,
    Outcome,
    Result,
    Source,
    State,
    Submission,
    Task,
    TaskWarning,
    WaitingFor,
)
from service.providers.read import MAX_ID
from service.store import callbacks as callback_store
from service.store import queue, submissions, tables
from service.store import tasks as task_store
from service.store.database import Database
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import endpoints
from service.store.webhooks import messages as message_store
from tests.support.values import NOW, a_callback, a_message, a_submission, a_task, keep, later, new_id, opened
from tests.support.waiting import LIMIT


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as found:
        yield found


# ── values and columns ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("table", "value", "ours"),
    [
        (tables.tasks, Task, set()),
        (tables.submissions, Submission, set()),
        (tables.callbacks, callback_store.Received, set()),
        (tables.webhook_messages, message_store.Message, set()),
        (tables.webhook_attempts, attempt_store.Delivery, {"id"}),
        (tables.webhook_endpoints, endpoints.Endpoint, set()),
        (tables.events, Event, {"id"}),
    ],
)
def test_columns_match_the_fields_of_their_values(table: Table, value: Any, ours: set[str]) -> None:
    fields = {field.name: field for field in dataclasses.fields(value)}
    columns = {column.name: column for column in table.columns if column.name not in ours}
    assert list(columns) == list(fields)
    hints = get_type_hints(value)
    optional = {name for name in fields if type(None) in get_args(hints[name])}
    assert {name for name, column in columns.items() if column.nullable} == optional


FULL = a_task(
    state=State.FAILED,
    options={"a": [1, 2.5, None, True, "ü🕊"]},
    labels={"project": "intro"},
    callback_url="http://x",
    callback_events=("task.progress",),
    idempotency_key="k",
    request_hash="h",
    route=("elkapi", "cometapi"),
    external_id="7",
    progress=40,
    results=(Result("video", url="https://example.com/v.mp4"), Result("text", text="words", role="extra", item="1")),
    failure=Failure("provider_error", "broken", retryable=True),
    next_actions=(Action("u1", "Upscale"),),
    cost=2.5,
    outcome_source=Source.CALLBACK,
    cancel_requested_at=later(1),
    answered_at=later(1.5),
    callback_expected=True,
    missing_since=later(2),
    last_error="elkapi: no",
    skipped_upstreams={"runwayml": "input.style: Runway has nothing like it"},
    on_uncertain="fail",
    warnings=(TaskWarning("model_not_listed", "elkapi does not list it"),),
    submission_id=UUID(int=8),
    cost_unit="quota",
    usage={"tokens": 5.0},
    settlements=({"key": "set:1", "amount": "5"},),
    refunded=True,
    waits_for=WaitingFor("elkapi"),
    unconfirmed_since=later(3),
    submitted_at=later(0.000001),
    inherited={"external_id": "6"},
    input_removed_at=later(4),
    results_removed_at=later(5),
    erased_at=later(6),
    job_host="https://eu.example.com",
    traceparent="00-1-2-01",
)


async def test_task_round_trips_through_the_database(database: Database) -> None:
    await keep(database, FULL)
    async with database.reading() as connection:
        assert await task_store.find(connection, FULL.id) == FULL
        assert await task_store.find(connection, FULL.id, "somebody else") is None
        assert await task_store.find_by_key(connection, "default", "k") == FULL
    unset = {field.name for field in dataclasses.fields(Task) if getattr(FULL, field.name) in (None, (), {}, 0)}
    assert unset == {"parent_id", "due_at", "attempts", "large_input", "adopted", "quotes"}  # what this test cannot see


async def test_settle_writes_every_mutable_field(database: Database) -> None:
    task = a_task(id=FULL.id)
    await keep(database, task)
    async with database.writing() as connection:
        await queue.settle_tasks(connection, [(task, FULL)])
        found = await task_store.find(connection, task.id)
    given = ("client", "family", "operation", "input", "options", "labels", "callback_url", "idempotency_key")
    once = (
        *given,
        "callback_events",
        "request_hash",
        "route",
        "skipped_upstreams",
        "adopted",
        "parent_id",
        "inherited",
        "created_at",
        "deadline_at",
        "attempts",
        "traceparent",
        "input_removed_at",
        "results_removed_at",
        "erased_at",
    )
    assert found == dataclasses.replace(FULL, **{name: getattr(task, name) for name in once})


async def test_settle_of_several_tasks_writes_the_changes_of_each(database: Database) -> None:
    first, second, third = (a_task(last_error=word) for word in ("first", "second", "third"))
    await keep(database, first, second, third)
    after = (first.changed(progress=40), second.changed(last_error=None, sequence=9), third)
    async with database.writing() as connection:
        await queue.settle_tasks(connection, list(zip((first, second, third), after, strict=True)))
        found = await task_store.lock(connection, [first.id, second.id, third.id])
    assert tuple(found[each.id] for each in after) == after


async def test_settle_writes_only_columns_that_differ(database: Database) -> None:
    task = a_task()
    await keep(database, task)
    async with database.writing() as connection:
        await connection.execute(tables.tasks.update().values(last_error="of another writer"))
        await queue.settle_tasks(connection, [(task, task.changed(progress=40))])
        await queue.settle_tasks(connection, [(task, task)])
        found = await task_store.find(connection, task.id)
    assert found == task.changed(progress=40, last_error="of another writer")


async def test_settle_that_the_schema_refuses_changes_no_task(database: Database) -> None:
    first, second = a_task(), a_task()
    await keep(database, first, second)
    wrong = second.changed(progress=101)
    with pytest.raises(IntegrityError):
        async with database.writing() as connection:
            await queue.settle_tasks(connection, [(first, first.changed(progress=40)), (second, wrong)])
    async with database.reading() as connection:
        assert await task_store.find(connection, first.id) == first
        assert await task_store.find(connection, second.id) == second


# ── what the schema refuses ────────────────────────────────────────────────────────────────────────────────────────

REFUSED = [
    ({"state": "asleep"}, "state"),
    ({"progress": 101}, "progress"),
    ({"outcome_source": "rumour"}, "outcome_source"),
    ({"due_at": None}, "open_requires_due_at"),
    ({"finished_at": NOW}, "ended_requires_finished_at"),
    ({"decided_by": "provider", "due_at": None}, "ended_requires_decided_by"),
    ({"state": "succeeded", "decided_by": "provider", "due_at": None}, "ended_requires_finished_at"),
    ({"state": "succeeded", "finished_at": NOW}, "ended_requires_decided_by"),
    ({"state": "succeeded", "finished_at": NOW, "decided_by": "luck"}, "decided_by"),
    ({"state": "succeeded", "finished_at": NOW, "decided_by": "provider"}, "provider_outcome_forbids_due_at"),
    ({"state": "failed", "finished_at": NOW, "decided_by": "dovecote"}, "failed_requires_failure"),
    ({"state": "submitted"}, "submitted_requires_upstream"),
    ({"state": "running"}, "submitted_requires_upstream"),
    ({"state": "awaiting_input"}, "submitted_requires_upstream"),
]


@pytest.mark.parametrize(("changes", "rule"), REFUSED)
async def test_task_that_violates_a_check_is_refused(database: Database, changes: dict[str, Any], rule: str) -> None:
    await refuses(database, tables.tasks, {**task_store.row_of(a_task()), **changes}, f"ck_tasks_{rule}")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"outcome": "lost", "settled_at": NOW}, "ck_submissions_outcome"),
        ({"outcome": "taken"}, "ck_submissions_settled_requires_settled_at"),
        ({"settled_at": NOW}, "ck_submissions_settled_requires_settled_at"),
        ({"task_id": UUID(int=9)}, "FOREIGN KEY"),
    ],
)
async def test_submission_that_violates_a_check_is_refused(
    database: Database, changes: dict[str, Any], rule: str
) -> None:
    task = a_task()
    await keep(database, task)
    await refuses(database, tables.submissions, {**dataclasses.asdict(a_submission(task)), **changes}, rule)


@pytest.mark.parametrize("first", ["sending", "taken", "uncertain"])
@pytest.mark.parametrize("second", ["sending", "taken", "uncertain"])
async def test_task_has_at_most_one_submission_that_may_have_created_a_job(
    database: Database, first: str, second: str
) -> None:
    task = a_task()
    await keep(database, task)
    for outcome in ("unavailable", "refused", "account", first):
        settled = None if outcome == "sending" else NOW
        async with database.writing() as connection:
            await submissions.begin(connection, [a_submission(task, outcome=outcome, settled_at=settled)])
    again = a_submission(task, outcome=second, settled_at=None if second == "sending" else NOW)
    await refuses(database, tables.submissions, dataclasses.asdict(again), "submissions")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"decision": "maybe", "due_at": None}, "ck_callbacks_decision"),
        ({"due_at": None}, "ck_callbacks_undecided_requires_due_at"),
        ({"decision": "applied"}, "ck_callbacks_undecided_requires_due_at"),
    ],
)
async def test_callback_that_violates_a_check_is_refused(
    database: Database, changes: dict[str, Any], rule: str
) -> None:
    await refuses(database, tables.callbacks, {**dataclasses.asdict(a_callback()), **changes}, rule)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"state": "lost"}, "ck_webhook_messages_"),
        ({"due_at": None}, "ck_webhook_messages_pending_requires_due_at"),
        ({"state": "exhausted"}, "ck_webhook_messages_pending_requires_due_at"),
        ({"state": "delivered", "due_at": None}, "ck_webhook_messages_delivered_requires_delivered_at"),
        ({"delivered_at": NOW}, "ck_webhook_messages_delivered_requires_delivered_at"),
        ({"task_id": UUID(int=9)}, "FOREIGN KEY"),
    ],
)
async def test_message_that_violates_a_check_is_refused(database: Database, changes: dict[str, Any], rule: str) -> None:
    task = a_task()
    await keep(database, task)
    await refuses(database, tables.webhook_messages, {**dataclasses.asdict(a_message(task)), **changes}, rule)


async def test_unique_rows_cannot_be_inserted_twice(database: Database) -> None:
    task, callback = a_task(idempotency_key="k"), a_callback()
    await keep(database, task)
    async with database.writing() as connection:
        await connection.execute(insert(tables.callbacks), dataclasses.asdict(callback))
        await message_store.insert(connection, [a_message(task)])
    again = task_store.row_of(a_task(idempotency_key="k"))
    same_event = {"task_id": task.id, "sequence": 1, "type": "x", "source": "poll", "at": NOW, "data": {}}
    copy = {**dataclasses.asdict(callback), "id": new_id()}
    for table, row in (
        (tables.tasks, again),
        (tables.events, same_event),
        (tables.callbacks, copy),
        (tables.webhook_messages, dataclasses.asdict(a_message(task))),
    ):
        await refuses(database, table, row, table.name)
    await keep(database, a_task(idempotency_key="k", client="another"))


async def refuses(database: Database, table: Table, row: dict[str, Any], rule: str) -> None:
    """Expect the database to refuse a row by a named constraint."""
    with pytest.raises(IntegrityError, match=f"(?i){rule}"):
        async with database.writing() as connection:
            await connection.execute(insert(table), row)


# ── claim and settle ───────────────────────────────────────────────────────────────────────────────────────────────


async def claim(database: Database, at: float, *, most: int = 10, lease: float = 60) -> list[Task]:
    async with database.writing() as connection:
        return await queue.claim_tasks(connection, "submit", now=later(at), until=later(at + lease), most=most)


async def test_concurrent_claims_return_distinct_rows(database: Database, database_url: str) -> None:
    tasks = [a_task() for _ in range(60)]
    await keep(database, *tasks)
    async with opened(database_url) as other:
        rounds = [claim(each, 0, most=7) for each in (database, other) for _ in range(6)]
        claimed = [task.id for found in await asyncio.gather(*rounds) for task in found]
    assert sorted(claimed) == sorted(task.id for task in tasks)


async def test_claim_skips_locked_rows(postgresql_url: str) -> None:
    async with opened(postgresql_url) as database, opened(postgresql_url) as other:
        await keep(database, *(a_task() for _ in range(10)))
        async with database.writing() as connection:
            mine = await queue.claim_tasks(connection, "submit", now=NOW, until=later(60), most=6)
            async with asyncio.timeout(LIMIT):
                theirs = await claim(other, 0)
        assert (len(mine), len(theirs)) == (6, 4)
        assert not {task.id for task in mine} & {task.id for task in theirs}


async def test_claim_returns_due_rows_longest_due_first(database: Database) -> None:
    early, late, not_yet = a_task(due_at=later(-9)), a_task(due_at=later(-1)), a_task(due_at=later(1))
    await keep(database, late, not_yet, early, a_task(state=State.RUNNING), a_task(state=State.SUCCEEDED))
    assert [task.id for task in await claim(database, 0, most=1)] == [early.id]
    assert [task.id for task in await claim(database, 0)] == [late.id]
    assert await claim(database, 0) == []


async def test_row_is_claimable_again_after_its_lease(database: Database) -> None:
    await keep(database, a_task())
    first = await claim(database, 0, lease=60)
    assert await claim(database, 59) == []
    again = await claim(database, 60)
    assert [each.attempts for each in (*first, *again)] == [1, 2]
    assert again[0].due_at == later(120)


async def test_settle_with_an_old_attempt_changes_nothing(database: Database) -> None:
    task, callback = a_task(), a_callback()
    await keep(database, task)
    async with database.writing() as connection:
        await callback_store.receive(connection, [callback])
        await message_store.insert(connection, [a_message(task)])
        for table in ("callbacks", "webhook_messages"):
            for seconds in (0, 60):  # the first claimer falls asleep, a second takes over
                [row] = await take(connection, table, seconds)
            await settle(connection, table, row.id, attempt=1)
            assert await undecided(connection, table) == 1
            await settle(connection, table, row.id, attempt=2)
            assert await undecided(connection, table) == 0


async def take(connection: Any, table: str, seconds: float) -> Any:
    span = {"now": later(seconds), "until": later(seconds + 60), "most": 5}
    if table == "callbacks":
        return await queue.claim_rows(connection, table, **span)
    return await queue.claim_messages(connection, **span, slots=DestinationSlots())


async def settle(connection: Any, table: str, row: UUID, *, attempt: int) -> None:
    which = {"of_row": row, "of_attempt": attempt, "due_at": None}
    if table == "callbacks":
        decided = {"decision": "applied", "detail": None, "decided_at": NOW, "upstream": "elkapi"}
        await queue.settle_callbacks(connection, [{**which, **decided}])
    else:
        done = {"state": "delivered", "delivered_at": NOW, "last_status": 200, "last_error": None, "schedule_from": 0}
        await queue.settle_messages(connection, [{**which, **done}])


async def undecided(connection: Any, table: str) -> int:
    column = tables.metadata.tables[table].c.due_at
    return len((await connection.scalars(select(column).where(column.is_not(None)))).all())


async def test_late_answer_can_prove_a_job_but_not_unprove_it(database: Database) -> None:
    task = a_task()
    await keep(database, task)
    sent = a_submission(task)

    async def settled(outcome: str, external_id: str | None = None) -> Submission:
        news = dataclasses.replace(sent, outcome=Outcome(outcome), external_id=external_id, settled_at=NOW)
        async with database.writing() as connection:
            await submissions.settle(connection, [news])
            return (await submissions.by_id(connection, [sent.id]))[sent.id]

    async with database.writing() as connection:
        await submissions.begin(connection, [sent])
    assert (await settled("uncertain")).outcome == "uncertain"
    assert (await settled("unavailable")).outcome == "uncertain"
    assert (await settled("taken", "7")).external_id == "7"
    assert (await settled("taken", "8")).external_id == "7"
    assert (await settled("unavailable")).outcome == "taken"


async def test_other_submissions_of_several_tasks_are_superseded_at_once(database: Database) -> None:
    made = []
    for _ in range(3):
        task = a_task()
        refused, sent = (
            a_submission(task, outcome=Outcome.REFUSED, settled_at=NOW),
            a_submission(task, outcome=Outcome.UNCERTAIN, settled_at=NOW),
        )
        await keep(database, task)
        async with database.writing() as connection:
            await submissions.begin(connection, [refused, sent])
        made.append((refused, sent))
    async with database.writing() as connection:
        await submissions.supersede_others(connection, [refused for refused, _ in made[:2]], at=NOW)
    async with database.reading() as connection:
        found = await submissions.by_id(connection, [each.id for pair in made for each in pair])
    superseded = [[found[each.id].superseded_at for each in pair] for pair in made]
    assert superseded == [[None, NOW], [None, NOW], [None, None]]


async def test_longest_id_of_a_job_is_stored(database: Database) -> None:
    task = a_task()
    external_id = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=MAX_ID))
    taken = a_submission(task, outcome=Outcome.TAKEN, settled_at=NOW, external_id=external_id, upstream="u" * 60)
    await keep(database, task)
    async with database.writing() as connection:
        await submissions.begin(connection, [taken])
    async with database.reading() as connection:
        assert (await submissions.by_id(connection, [taken.id]))[taken.id].external_id == external_id
