"""Lists and claims: pages are complete and never repeat, and an index serves every filter."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from service.domain.destination_slots import DestinationSlots
from service.domain.task import State, Task
from service.store import asset_claims, feed, overview, queue
from service.store import callbacks as callback_store
from service.store import endings as ending_store
from service.store import inbox as inbox_store
from service.store import tasks as task_store
from service.store.database import Database
from service.store.tasks import Filter
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import claim as claim_module
from service.store.webhooks import endpoints
from service.store.webhooks import messages as message_store
from tests.support.cases import case
from tests.support.query_plans import FILLED, REST, Act, fill, fill_the_rest, plan_of, uses
from tests.support.values import NOW, a_task, keep, later, opened


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as found:
        yield found


# ── pages ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def pages(database: Database, wanted: dict[str, Any], *, meanwhile: Callable[[], Awaitable[None]]) -> list[Task]:
    found: list[Task] = []
    for _ in range(100):
        before = found[-1].id if found else None
        async with database.reading() as connection:
            more = await task_store.page(connection, Filter(**wanted, before=before), most=7)
        found += more
        if len(more) < 7:
            return found
        await meanwhile()
    raise AssertionError("the pages have no end")


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"client": "default"},
        {"client": "default", "states": (State.QUEUED, State.FAILED)},
        {"client": "default", "family": "suno"},
        {"client": "default", "family": "suno", "states": (State.QUEUED,)},
        {"client": "default", "labels": {"project": "a"}},
        {"client": "default", "labels": {"project": "a", "shot": "1"}, "states": (State.QUEUED,)},
        {"client": "nobody"},
        {"labels": {"shot": "1"}},
        {"labels": {"shot": "1", "project": "b"}, "family": "suno"},
        {"labels": {"project": "a"}, "states": (State.QUEUED, State.RUNNING)},
        {"client": "default", "labels": {"project": "a", "shot": "1"}, "states": (State.QUEUED, State.FAILED)},
        {"client": "default", "labels": {"project": "b", "shot": "2"}},
        {"client": "nobody", "labels": {"project": "a"}},
    ],
)
@pytest.mark.parametrize("counted", [task_store.MAX_COUNTED, 3])
async def test_pages_are_complete_while_rows_are_added(
    database: Database, wanted: dict[str, Any], counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_store, "MAX_COUNTED", counted)
    kinds = itertools.product(
        ("default", "another"),
        ("runway", "suno"),
        (State.QUEUED, State.FAILED, State.RUNNING),
        ({}, {"project": "a"}, {"project": "a", "shot": "1"}, {"project": "b", "shot": "1"}),
    )
    tasks = [
        a_task(client=client, family=family, state=state, labels=labels) for client, family, state, labels in kinds
    ]
    await keep(database, *tasks)

    async def more_come() -> None:
        await keep(database, *(a_task(family=task.family, labels=task.labels) for task in tasks[:12]))

    found = await pages(database, wanted, meanwhile=more_come)
    expected = [task for task in reversed(tasks) if matches(task, wanted)]
    assert [task.id for task in found] == [task.id for task in expected]


def matches(task: Task, wanted: dict[str, Any]) -> bool:
    same = all(getattr(task, name) == wanted[name] for name in ("client", "family") if name in wanted)
    labelled = wanted.get("labels", {}).items() <= dict(task.labels).items()
    return same and labelled and task.state in wanted.get("states", tuple(State))


async def test_time_filter_is_an_id_range(database: Database) -> None:
    tasks = [a_task() for _ in range(5)]
    await keep(database, *tasks)
    async with database.reading() as connection:
        window = Filter(after=tasks[0].id, before=tasks[4].id)
        assert [task.id for task in await task_store.page(connection, window, most=9)] == [
            task.id for task in reversed(tasks[1:4])
        ]


# ── indexes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def listing(**wanted: Any) -> Act:
    return lambda connection: task_store.page(connection, Filter(client="default", **wanted), most=51)


def listing_all(**wanted: Any) -> Act:
    return lambda connection: task_store.page(connection, Filter(**wanted), most=51)


def claiming(journey: str) -> Act:
    claim: Any = queue.claim_tasks if journey in {"submit", "poll"} else queue.claim_rows
    if journey == "webhook_messages":
        return lambda connection: queue.claim_messages(
            connection, now=NOW, until=later(60), most=50, slots=DestinationSlots()
        )
    return lambda connection: claim(connection, journey, now=NOW, until=later(60), most=50)


def messages(**wanted: Any) -> Act:
    return lambda connection: message_store.list_messages(
        connection, message_store.Filter(client="default", **wanted), most=51
    )


def inbox(**wanted: Any) -> Act:
    return lambda connection: inbox_store.page(connection, inbox_store.Filter(**wanted), most=51)


def replaying() -> Act:
    wanted = message_store.Filter(client="default", states=("exhausted", "discarded"), types=("task.failed",))
    return lambda connection: message_store.replayable(connection, wanted, most=1001)


# Of two indexes that both lead to a few rows, PostgreSQL may choose either: such a pattern names both.
READS: list[tuple[str, Act]] = [
    ("ix_tasks_client", listing()),
    ("ix_tasks_(?:client|upstream|family)", listing(after=UUID(int=0), before=a_task().id)),
    ("ix_tasks_(?:client_)?state", listing(states=(State.AWAITING_INPUT,))),
    ("ix_tasks_(?:client_)?state", listing(states=(State.AWAITING_INPUT, State.FAILED), before=a_task().id)),
    ("ix_tasks_client_family", listing(family="nobody")),
    ("ix_tasks_client_family_state", listing(family="nobody", states=(State.RUNNING,))),
    ("pk_task_labels", listing(labels={"project": "a"})),
    ("pk_task_labels", listing(labels={"project": "a"}, states=(State.RUNNING,), family="runway")),
    ("ix_tasks_state", listing_all(states=(State.AWAITING_INPUT,))),
    ("ix_tasks_state", listing_all(states=(State.AWAITING_INPUT, State.FAILED), before=a_task().id)),
    ("ix_tasks_due_submit", listing_all(states=(State.SUBMITTING,))),
    ("ix_tasks_family", listing_all(family="nobody")),
    ("ix_tasks_upstream", listing_all(upstream="nothing")),
    ("ix_tasks_state", lambda connection: overview.may_need_somebody(connection, None, now=NOW)),
    ("uq_tasks_idempotency", lambda connection: task_store.find_by_key(connection, "default", "key-7")),
    ("ix_tasks_due_submit", claiming("submit")),
    ("ix_tasks_due_poll", claiming("poll")),
    ("ix_tasks_finished", lambda connection: ending_store.recent_endings(connection, since=NOW, most=100)),
    ("ix_callbacks_due", claiming("callbacks")),
    ("uq_callbacks_submission", lambda connection: callback_store.of_submissions(connection, [UUID(int=1)])),
    ("ix_webhook_messages_due", claiming("webhook_messages")),
    ("ix_webhook_messages_client", messages()),
    ("ix_webhook_messages_client_type", messages(types=("task.failed", "task.expired"), before=a_task().id)),
    ("ix_webhook_messages_client_type", messages(types=("task.failed",), states=("delivered", "discarded"))),
    ("ix_webhook_messages_client(?:_state)?", messages(states=("delivered",))),
    ("ix_webhook_messages_(?:endpoint|client)_type", messages(types=("task.failed",), endpoint_id=UUID(int=1))),
    ("ix_webhook_messages_(?:endpoint|client_state)", messages(states=("exhausted",), endpoint_id=UUID(int=1))),
    ("ix_callbacks_decision", inbox(decisions=("forged", "parked"))),
    ("ix_callbacks_upstream", inbox(upstream="nothing")),
    ("ix_callbacks_upstream", inbox(upstream="nothing", decisions=("applied", "forged"), before=a_task().id)),
    ("uq_callbacks_submission", inbox(task_id=UUID(int=1), client="default", decisions=("applied",))),
    ("ix_callbacks_(?:upstream|decision)", lambda connection: inbox_store.complete(connection, most=50)),
    ("ix_webhook_messages_client_state", messages(states=("exhausted",))),
    ("ix_webhook_messages_client_state", messages(states=("exhausted", "discarded"), before=a_task().id)),
    ("ix_webhook_messages_endpoint", messages(endpoint_id=UUID(int=1))),
    ("uq_webhook_messages_task", messages(task_id=UUID(int=1))),
    ("ix_webhook_messages_client_type", replaying()),
    (
        "ix_webhook_messages_(?:destination|due)",
        lambda connection: connection.execute(claim_module._WAITING, {"now": NOW}),
    ),
    ("ix_webhook_endpoints_client", lambda connection: endpoints.enabled_of(connection, ["default", "another"])),
    (
        "uq_webhook_messages_progress",
        lambda connection: message_store.insert_progress(connection, [], ended=[UUID(int=1)]),
    ),
    ("uq_webhook_attempts_message", lambda connection: attempt_store.of_message(connection, UUID(int=1))),
    ("uq_webhook_messages_task", lambda connection: message_store.of_task(connection, UUID(int=1))),
]


BY_LABEL: list[dict[str, Any]] = [
    {"labels": {"project": "a"}},
    {"labels": {"project": "nothing"}},
    {"labels": {"project": "a", "shot": "1"}},
    {"labels": {"project": "a"}, "states": (State.SUCCEEDED,)},
    {"labels": {"project": "a"}, "family": "runway", "states": (State.RUNNING, State.FAILED)},
]


async def test_rare_label_is_read_by_its_own_key_and_not_by_all_tasks_of_the_client(sqlite_url: str) -> None:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    async with opened(sqlite_url) as database:
        async with database.writing() as connection:
            await fill(connection)
        for wanted, client in itertools.product(BY_LABEL, ("default", None)):
            async with database.reading() as connection:
                raw = await connection.get_raw_connection()
                driver: Any = raw.driver_connection
                steps = 0
                await driver.set_progress_handler(count, 100)
                try:
                    await task_store.page(connection, Filter(client=client, **wanted), most=51)
                finally:
                    await driver.set_progress_handler(None, 0)
            with case(wanted, client):
                assert steps < 100, "instructions of SQLite, in hundreds: there are 4,000 tasks"


async def test_every_filter_and_claim_uses_its_index(database: Database) -> None:
    async with database.writing() as connection:
        await fill(connection)
    without = []
    for index, act in READS:
        async with database.writing() as connection:
            plan = await plan_of(connection, act)
        if not uses(plan, index):
            without.append(f"not by {index}:\n{plan}")
    assert not without, "\n\n".join(without)


# The same for the queues and the feed that no row of READS reads.
MORE_READS: list[tuple[str, Act]] = [
    ("ix_submissions_due", claiming("submissions")),
    ("ix_erasures_due", claiming("erasures")),
    ("ix_assets_lasting", lambda connection: asset_claims.claim_assets(connection, now=NOW, until=later(60), most=50)),
    (
        "ix_assets_deleting",
        lambda connection: asset_claims.claim_deletions(connection, now=NOW, until=later(60), most=50),
    ),
    ("ix_events_feed", lambda connection: feed.of_client(connection, "nobody", after=0, most=51)),
    (
        "ix_events_feed_type",
        lambda connection: feed.of_client(
            connection, "nobody", after=0, most=51, types=["task.failed", "task.expired"]
        ),
    ),
    ("uq_events_task", lambda connection: feed.of_task(connection, UUID(int=1), after=0, most=51)),
]


@pytest.mark.parametrize("dropped", [False, True], ids=["with-indexes", "without"])
async def test_other_claims_and_the_feed_use_their_index_and_a_lost_index_is_noticed(
    database: Database, *, dropped: bool
) -> None:
    async with database.writing() as connection:
        await fill(connection)
        await fill_the_rest(connection)
        droppable = {index for index, _ in MORE_READS if index.startswith("ix_")}
        for index in droppable if dropped else ():
            await connection.execute(text(f"DROP INDEX {index}"))
        for index, act in MORE_READS:
            plan = await plan_of(connection, act)
            assert uses(plan, index, FILLED + REST) is not (dropped and index in droppable), f"{index}:\n{plan}"
        await connection.rollback()  # other tests use the same database, with all its indexes
