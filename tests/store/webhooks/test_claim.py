"""Claims of messages: fair among clients and destinations, within the slots of each."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from service.domain.destination_slots import (
    MAX_DELIVERIES,
    MAX_REMEMBERED,
    MAX_TROUBLED_DELIVERIES,
    PER_CLIENT,
    PER_DESTINATION,
    PER_HOST,
    TROUBLED,
    TROUBLED_PER_CLIENT,
    Destination,
    DestinationSlots,
)
from service.domain.task import State
from service.flows.concurrency import TaskPool
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


async def enqueue(
    database: Database, destination: str, many: int, *, due: float = 0.0, client: str = "default", host: str = ""
) -> None:
    """Store messages to a destination, all due at once."""
    task = a_task(state=State.SUCCEEDED)
    await keep(database, task)
    messages = [
        a_message(
            task,
            client=client,
            destination=destination,
            url=f"http://{host or destination.replace(' ', '-')}/",
            sequence=n,
            due_at=later(due),
        )
        for n in range(many)
    ]
    async with database.writing() as connection:
        await message_store.insert(connection, messages)


async def claim(
    database: Database, *, most: int = 100, slots: DestinationSlots | None = None, at: float = 1.0
) -> list[Any]:
    async with database.writing() as connection:
        claimed = await queue.claim_messages(
            connection, now=later(at), until=later(at + 60), most=most, slots=slots or DestinationSlots()
        )
    return list(claimed)


def shares(claimed: list[Any], of: str = "destination") -> dict[str, int]:
    return dict(Counter(getattr(row, of) for row in claimed))


def named(name: str, *, client: str = "default", host: str = "") -> Destination:
    return Destination(client, name, host or name)


def busy(**running: int) -> DestinationSlots:
    """Return slots of which some are in use."""
    slots = DestinationSlots()
    for name, count in running.items():
        for _ in range(count):
            slots.acquire(named(name))
    return slots


async def test_longest_due_messages_are_claimed_first(database: Database) -> None:
    for destination, due in (("late", -1), ("early", -9), ("not yet", 5)):
        await enqueue(database, destination, 3, due=due)
    assert shares(await claim(database)) == {"early": 3, "late": 3}
    assert await claim(database) == []
    assert shares(await claim(database, at=6)) == {"not yet": 3}


async def test_destinations_of_a_client_get_slots_in_turn(database: Database) -> None:
    for destination, due in (("late", -1), ("early", -9)):
        await enqueue(database, destination, 30, due=due)
    assert shares(await claim(database, most=1)) == {"early": 1}
    assert shares(await claim(database, most=4)) == {"early": 2, "late": 2}


async def test_destination_gets_no_more_than_its_slots(database: Database) -> None:
    for destination in ("a", "b", "c"):
        await enqueue(database, destination, 30)
    assert shares(await claim(database, slots=busy(b=8, c=10))) == {"a": 10, "b": 2}
    claimed = await claim(database, most=5)
    assert len(claimed) == 5
    assert all(row.attempts == 1 and row.due_at == later(61) for row in claimed)


async def test_host_of_many_endpoints_gets_no_more_than_its_slots(database: Database) -> None:
    for number in range(50):
        await enqueue(database, f"endpoint {number}", 5, host="one.example")
    await enqueue(database, "endpoint other", 5, due=1, host="other.example")
    claimed = await claim(database, most=200, at=2)
    assert shares(claimed)["endpoint other"] == 5
    assert len(claimed) == PER_HOST + 5


@pytest.mark.parametrize("most", [MAX_DELIVERIES, 50])
async def test_client_with_many_destinations_leaves_room_for_another(database: Database, most: int) -> None:
    for number in range(60):
        await enqueue(database, f"endpoint {number}", 10, client="many", due=-100)
    for number in range(3):
        await enqueue(database, f"single {number}", 1, client="few")
    claimed = await claim(database, most=most)
    assert shares(claimed, "client") == {"many": min(PER_CLIENT, most - 3), "few": 3}
    if most == 50:
        assert max(shares(claimed).values()) == 1


async def test_slots_go_to_the_client_with_the_fewest_deliveries(database: Database) -> None:
    slots = DestinationSlots()
    for number in range(30):
        slots.acquire(named(f"other {number}", client="a"))
    for client in ("a", "b", "c"):
        for number in range(4):
            await enqueue(database, f"{client} {number}", 9, client=client)
    assert shares(await claim(database, most=20, slots=slots), "client") == {"b": 10, "c": 10}


async def test_troubled_destinations_together_get_a_bounded_part(database: Database) -> None:
    slots = DestinationSlots()
    for client in ("a", "b", "c"):
        for number in range(50):
            await enqueue(database, f"{client} {number}", 5, client=client)
            slots.answered(named(f"{client} {number}", client=client, host=f"{client}-{number}"), in_time=False)
    await enqueue(database, "well", 5, client="a")
    claimed = shares(await claim(database, most=MAX_DELIVERIES, slots=slots))
    assert claimed.pop("well") == 5
    assert sum(claimed.values()) == MAX_TROUBLED_DELIVERIES
    by_client = Counter(name[0] for name, count in claimed.items() for _ in range(count))
    assert max(by_client.values()) <= TROUBLED_PER_CLIENT


async def test_message_behind_a_backlog_of_another_destination_is_claimed(database: Database) -> None:
    """20,000 rows of one destination are due before those of others. The claim does not read them all."""
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
    await enqueue(database, "few", 3, client="another")
    assert shares(await claim(database)) == {"flooded": 10, "few": 3, "single": 1}
    assert shares(await claim(database, slots=busy(flooded=10))) == {}


async def test_concurrent_claims_never_share_a_message(database: Database, database_url: str) -> None:
    for destination in ("a", "b", "c", "d"):
        await enqueue(database, destination, 25)
    async with opened(database_url) as other:
        rounds = [claim(each, most=9) for each in (database, other) for _ in range(8)]
        claimed = [row.id for found in await asyncio.gather(*rounds) for row in found]
    assert len(set(claimed)) == len(claimed) > 50


def test_slots_are_released() -> None:
    a, b = named("a"), named("b")
    slots = busy(a=PER_DESTINATION, b=1)
    assert (slots.free(a), slots.free(b), slots.is_free(a)) == (0, PER_DESTINATION - 1, False)
    slots.release(a)
    assert slots.try_acquire(a)
    assert not slots.try_acquire(a)
    slots.answered(a, in_time=False)
    for _ in range(PER_DESTINATION):
        slots.release(a)
    slots.release(b)
    assert (slots.idle, slots.free(a)) == (True, TROUBLED)
    slots.answered(a, in_time=True)
    assert slots.free(a) == PER_DESTINATION


def test_copy_of_slots_changes_nothing() -> None:
    slots = busy(a=1)
    copied = slots.copy()
    copied.acquire(named("a"))
    copied.answered(named("a"), in_time=False)
    assert (slots.free(named("a")), slots.is_troubled(named("a"))) == (PER_DESTINATION - 1, False)


def test_troubled_destinations_are_remembered_up_to_a_limit() -> None:
    slots = DestinationSlots()
    for number in range(2 * MAX_REMEMBERED):
        slots.answered(named(str(number)), in_time=False)
    assert not slots.is_troubled(named("0"))
    assert slots.is_troubled(named(str(2 * MAX_REMEMBERED - 1)))


class Hanging:
    """A receiver that answers nothing until the test releases it."""

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
    """500 messages to a hanging receiver come before 30 to a working one. All 30 are delivered meanwhile."""
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
    assert (answered["quick.test"], hanging.most_at_once) == (30, PER_DESTINATION)
    hanging_destination = Destination(task.client, "http://hanging.test", "hanging.test")
    assert world.context.destination_slots.free(hanging_destination) == 0
    hanging.let_go.set()
    await pool.finish()
    hanging.let_go.clear()
    hanging.most_at_once = 0
    await dispatch.run_due(world.context, pool)  # now it is known to hang
    async with asyncio.timeout(LIMIT):
        while hanging.at_once < TROUBLED:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.005)
    await dispatch.run_due(world.context, pool)
    await asyncio.sleep(0.02)
    assert hanging.most_at_once == TROUBLED
    hanging.let_go.set()
    await pool.finish()
    assert world.context.destination_slots.free(hanging_destination) == TROUBLED
