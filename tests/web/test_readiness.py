"""Readiness: a write is possible, writes commit, a worker is alive. The response names each failed check."""

import asyncio
from collections.abc import Sequence

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.flows import FLOWS, Flow
from service.flows.webhooks.watch import WORKER_SILENT
from service.store import callbacks as callback_store
from service.store import health as store_health
from service.store.database import Database
from service.store.webhooks import messages as message_store
from service.store.webhooks.messages import Message
from service.web import health
from tests.support.values import a_callback, a_message
from tests.support.world import World


async def keep_message(database: Database, message: Message) -> None:
    async with database.writing() as connection:
        await message_store.insert(connection, [message])


async def readiness(api: httpx.AsyncClient) -> tuple[int, str | None]:
    answer = await api.get("/readyz")
    return answer.status_code, answer.json().get("detail")


async def test_process_is_ready_before_any_worker_could_start(api: httpx.AsyncClient) -> None:
    assert await readiness(api) == (200, None)


async def test_process_is_not_ready_when_no_worker_has_been_alive(world: World, api: httpx.AsyncClient) -> None:
    world.clock.forward(WORKER_SILENT + 1)
    assert await readiness(api) == (503, "no worker has been alive for 61 s")
    async with world.context.database.writing() as connection:
        await store_health.beat(connection, "worker elsewhere", "worker", now=world.clock())
    assert await readiness(api) == (200, None)
    world.clock.forward(WORKER_SILENT)
    assert await readiness(api) == (200, None)
    world.clock.forward(1)
    assert await readiness(api) == (503, "no worker has been alive for 61 s")


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        (["poll"], "no worker of the flow poll has been alive for 61 s"),
        (["webhooks", "callbacks"], "no worker of the flows callbacks, webhooks has been alive for 61 s"),
    ],
    ids=["one", "two"],
)
async def test_process_is_not_ready_when_a_flow_has_no_worker(
    world: World, api: httpx.AsyncClient, missing: list[Flow], sentence: str
) -> None:
    world.clock.forward(WORKER_SILENT + 1)
    for number, flow in enumerate(set(FLOWS) - set(missing)):
        async with world.context.database.writing() as connection:
            await store_health.beat(connection, f"worker {number}", "worker", now=world.clock(), flows=[flow])
    assert await readiness(api) == (503, sentence)


@pytest.mark.parametrize("queue", ["submissions", "polls", "callbacks", "webhooks"])
async def test_queue_that_is_not_worked_off_is_a_warning(world: World, api: httpx.AsyncClient, queue: str) -> None:
    task = await world.submit("[drop] a dove")
    if queue == "polls":
        await world.work()
    elif queue == "callbacks":
        await world.work()
        row = a_callback(submission_id=world.context.new_id(), due_at=world.clock())
        await world.context.writers.requests.batch(callback_store.receive, row)
    elif queue == "webhooks":
        await keep_message(world.context.database, a_message(task, due_at=world.clock()))
    assert (await api.get("/readyz")).json() == {"status": "ok"}
    world.clock.forward(4000)
    async with world.context.database.writing() as connection:
        await store_health.beat(connection, "worker elsewhere", "worker", now=world.clock())
    answer = await api.get("/readyz")
    assert answer.status_code == 200
    assert any(
        warning.startswith(f"the oldest of the due {queue} has waited for ") for warning in answer.json()["warnings"]
    )


async def test_process_is_not_ready_when_no_write_can_be_made(postgresql_url: str) -> None:
    async with World.opened(postgresql_url) as world:
        async with world.context.database.writing() as connection:
            await connection.execute(text("ALTER DATABASE dovecote SET default_transaction_read_only = on"))
        await world.context.database.writer.dispose()
        try:
            assert await readiness(world.client) == (503, "the database is read-only")
        finally:
            async with world.context.database.writer.connect() as connection:
                await connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"))
                await connection.commit()
                await connection.execute(text("ALTER DATABASE dovecote RESET default_transaction_read_only"))
                await connection.commit()
            await world.context.database.writer.dispose()
        assert await readiness(world.client) == (200, None)


async def test_process_is_not_ready_while_nothing_commits(
    world: World, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "MAX_COMMIT_WAIT", -1.0)
    monkeypatch.setattr(health, "ANSWER_WITHIN", 0.5)
    begun, never = asyncio.Event(), asyncio.Event()

    async def stuck(_: AsyncConnection, items: Sequence[int]) -> list[int]:
        begun.set()
        await never.wait()
        return list(items)

    writing = asyncio.create_task(world.context.writers.journeys.batch(stuck, 1))
    await begun.wait()
    status, detail = await readiness(api)
    assert status == 503
    assert detail is not None
    assert detail.startswith("no commit for 0 s")
    never.set()
    await writing


async def test_database_that_does_not_answer_is_named_within_its_time(
    world: World, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(health, "revision", hang)
    monkeypatch.setattr(health, "ANSWER_WITHIN", 0.05)
    assert await readiness(api) == (503, "the database does not answer within 0.05 s")
    assert (await api.get("/healthz")).status_code == 200
