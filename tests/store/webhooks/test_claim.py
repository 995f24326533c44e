"""Claims of messages: the longest due first, as far as their destinations have places, and nobody starves."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from service.domain.task import State
from service.flows.concurrency import EACH, TROUBLED, DestinationSlots, TaskPool
from service.flows.webhooks import dispatch
from service.store import queue
from service.store.database import Database
from service.store.webhooks import messages as message_store
from tests.support.values import NOW, a_message, a_task, keep, later, opened
from tests.support.waiting import LIMIT
from tests.support.world import World

BACKLOG = 20_000


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as found:
        yield found


async def enqueue(database: Database, destination: str, many: int, *, due: float = 0.0) -> None:
    """Owe messages to a destination, all due at once."""
    task = a_task(state=State.SUCCEEDED)
    await keep(database, task)
    messages = [a_message(task, destination=destination, sequence=n, due_at=later(due)) for n in range(many)]
    async with database.writing() as connection:
        await message_store.insert(connection, messages)


async def claim(
    database: Database, *, most: int = 100, each: int = 10, slots: Mapping[str, int] | None = None, at: float = 1.0
) -> list[Any]:
    async with database.writing() as connection:
        claimed = await queue.claim_messages(
            connection, now=later(at), until=later(at + 60), most=most, each=each, slots=slots or {}
        )
    return list(claimed)


def shares(claimed: list[Any]) -> dict[str, int]:
    return dict(Counter(row.destination for row in claimed))


async def test_longest_due_messages_are_claimed_first(database: Database) -> None:
    for destination, due in (("late", -1), ("early", -9), ("not yet", 5)):
        await enqueue(database, destination, 3, due=due)
    assert shares(await claim(database, most=4)) == {"early": 3, "late": 1}
    assert shares(await claim(database)) == {"late": 2}
    assert await claim(database) == []
    assert shares(await claim(database, at=6)) == {"not yet": 3}


async def test_destination_gets_no_more_than_its_slots(database: Database) -> None:
    for destination in ("a", "b", "c"):
        await enqueue(database, destination, 30)
    assert shares(await claim(database, slots={"b": 2, "c": 0})) == {"a": 10, "b": 2}
    claimed = await claim(database, most=5, each=10)
    assert len(claimed) == 5
    assert all(row.attempts == 1 and row.due_at == later(61) for row in claimed)


async def test_message_behind_a_backlog_of_another_destination_is_claimed(database: Database) -> None:
    """20,000 rows of one destination are due before the one of another: it is found, and without reading them all."""
    await enqueue(database, "flooded", 1, due=-100)
    copy = "WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < :many) "
    async with database.writing() as connection:
        new_id = "lower(hex(randomblob(16)))" if database.sqlite else "gen_random_uuid()"
        names = [column.name for column in message_store.webhook_messages.columns]
        values = ", ".join({"id": new_id, "sequence": "n + 10"}.get(name, name) for name in names)
        insert = (
            f"INSERT INTO webhook_messages ({', '.join(names)}) {copy} SELECT {values} FROM webhook_messages, series"  # noqa: S608
        )
        await connection.execute(text(insert), {"many": BACKLOG})
        if not database.sqlite:
            await connection.execute(text("ANALYZE webhook_messages"))
    await enqueue(database, "single", 1)
    await enqueue(database, "few", 3)
    assert shares(await claim(database)) == {"flooded": 10, "few": 3, "single": 1}
    assert shares(await claim(database, slots={"flooded": 0})) == {}


async def test_concurrent_claims_never_share_a_message(database: Database, database_url: str) -> None:
    for destination in ("a", "b", "c", "d"):
        await enqueue(database, destination, 25)
    async with opened(database_url) as other:
        rounds = [claim(each, most=9, each=4) for each in (database, other) for _ in range(8)]
        claimed = [row.id for found in await asyncio.gather(*rounds) for row in found]
    assert len(set(claimed)) == len(claimed) > 50


def test_slots_are_released() -> None:
    slots = DestinationSlots()
    for _ in range(EACH):
        slots.acquire("a")
    slots.acquire("b")
    assert slots.limits() == {"a": 0, "b": EACH - 1}
    slots.release("a")
    assert (slots.free("a"), slots.free("c")) == (1, EACH)
    slots.answered("a", in_time=False)
    assert slots.limits() == {"a": 0, "b": EACH - 1}
    for _ in range(EACH - 1):
        slots.release("a")
    slots.release("b")
    assert slots.limits() == {"a": TROUBLED}
    slots.answered("a", in_time=True)
    assert slots.limits() == {}


class Hanging:
    """A receiver that answers nothing until it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.at_once = self.most_at_once = 0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.let_go.wait()
        self.at_once -= 1
        raise httpx.ReadTimeout("no answer", request=request)


async def nothing() -> AsyncIterator[bytes]:
    yield b""


async def test_hanging_destination_with_a_backlog_does_not_slow_another(world: World) -> None:
    """500 messages for a receiver that hangs come before 30 for one that answers: those are all delivered meanwhile."""
    hanging, answered = Hanging(), Counter[str]()

    async def answer(request: httpx.Request) -> httpx.Response:
        answered[request.url.host] += 1
        return httpx.Response(200, content=nothing())

    world.edge.hosts |= {
        "hanging.test": httpx.MockTransport(hanging.answer),
        "quick.test": httpx.MockTransport(answer),
    }
    task = a_task(state=State.SUCCEEDED)
    await keep(world.context.database, task)
    async with world.context.database.writing() as connection:
        for host, many in (("hanging.test", 500), ("quick.test", 30)):
            url = f"http://{host}/"
            due = NOW if host == "hanging.test" else later(1)
            await message_store.insert(
                connection, [a_message(task, url=url, sequence=n, due_at=due) for n in range(many)]
            )
    pool = TaskPool(100)
    for _ in range(200):
        await dispatch.run_due(world.context, pool)
        await asyncio.sleep(0.005)
        if answered["quick.test"] == 30:
            break
    assert (answered["quick.test"], hanging.most_at_once) == (30, EACH)
    assert world.context.destination_slots.free("http://hanging.test") == 0
    hanging.let_go.set()
    await pool.finish()
    hanging.let_go.clear()
    hanging.most_at_once = 0
    await dispatch.run_due(world.context, pool)  # now it is known to hang
    async with asyncio.timeout(LIMIT):
        while hanging.at_once < TROUBLED:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.005)
    await dispatch.run_due(world.context, pool)
    await asyncio.sleep(0.02)
    assert hanging.most_at_once == TROUBLED
    hanging.let_go.set()
    await pool.finish()
    assert world.context.destination_slots.limits() == {"http://hanging.test": TROUBLED}
