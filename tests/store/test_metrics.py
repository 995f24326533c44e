"""The statement behind the metrics: it groups and counts alike on both databases, and reads no table whole that grows."""

import functools

import pytest
from sqlalchemy import text, update

from service.domain.task import State
from service.store import circuits, health, metrics
from service.store import tasks as task_store
from service.store import upstreams as upstream_store
from service.store.metrics import Number, read_numbers
from service.store.tables import tasks
from service.store.webhooks import endpoints
from service.store.webhooks.endpoints import Endpoint
from tests.support.query_plans import fill, plan_of, uses
from tests.support.values import NOW, a_task, later, new_id
from tests.support.world import World


def an_endpoint(**more: object) -> Endpoint:
    plain = {"id": new_id(), "client": "shop", "url": "http://x", "secret": "s", "created_at": NOW, "updated_at": NOW}
    return Endpoint(**{**plain, **more})  # type: ignore[arg-type]


async def test_numbers_are_grouped_alike_on_both_databases(database_url: str) -> None:
    async with World.opened(database_url) as world, world.context.database.writing() as connection:
        waiting = [
            *(a_task(state=State.QUEUED, due_at=later(-30), created_at=NOW) for _ in range(2)),
            a_task(state=State.RUNNING, upstream="elkapi", due_at=later(60)),
        ]
        for task in waiting:
            await task_store.accept(connection, [task])
        await health.beat(connection, "worker a", "worker", now=later(-9))
        await health.beat(connection, "web a", "web", now=later(-1))
        [known] = await upstream_store.claim_credit(connection, ["elkapi"], now=NOW, before=NOW)
        known = type(known)(name="elkapi", credit=2.5, credit_unit="USD", credit_at=NOW)
        await upstream_store.save_credit(connection, [known])
        await circuits.record_failures(connection, [("elkapi", "runway/aggregator", NOW)] * 5)
        for reason in ("gone", "gone", "client"):
            await endpoints.register(connection, an_endpoint(disabled_at=NOW, disabled_reason=reason), most=9)
        await endpoints.register(connection, an_endpoint(failing_since=NOW, failed_at=NOW), most=9)
        await endpoints.register(connection, an_endpoint(), most=9)
        found = {(each.group, each.first, each.second): each.value for each in await read_numbers(connection, now=NOW)}
    assert found.pop(("circuit", "elkapi", "runway/aggregator")) > NOW.timestamp()
    counted = {key: value for key, value in found.items() if value}
    assert counted == {
        ("oldest", "submissions", ""): pytest.approx(later(-30).timestamp()),
        ("due", "submissions", ""): 2,
        ("oldest", "polls", ""): pytest.approx(later(60).timestamp()),
        ("open", "queued", ""): 2,
        ("open", "running", ""): 1,
        ("worker", "", ""): pytest.approx(later(-9).timestamp()),
        ("credit", "elkapi", "USD"): 2.5,
        ("endpoints", "gone", ""): 2,
        ("endpoints", "client", ""): 1,
        ("endpoints", "now", ""): 1,
    }


async def test_empty_database_has_no_group_but_the_queues(database_url: str) -> None:
    async with World.opened(database_url) as world, world.context.database.reading() as connection:
        found = await read_numbers(connection, now=NOW)
    assert found == [Number("due", name, "", 0.0) for name in metrics.QUEUES]


async def test_ended_rows_are_not_read(database_url: str) -> None:
    async with World.opened(database_url) as world, world.context.database.writing() as connection:
        await fill(connection)
        ended = {"state": "succeeded", "finished_at": NOW, "decided_by": "provider", "due_at": None}
        await connection.execute(update(tasks).where(tasks.c.idempotency_key != "seed").values(ended))
        if connection.dialect.name == "postgresql":
            await connection.execute(text("ANALYZE"))
        plan = await plan_of(connection, functools.partial(read_numbers, now=NOW))
    for index in (
        "ix_tasks_due_submit",
        "ix_tasks_due_poll",
        "ix_callbacks_due",
        "ix_webhook_messages_due",
        "ix_tasks_waiting",
    ):
        assert uses(plan, index), plan
