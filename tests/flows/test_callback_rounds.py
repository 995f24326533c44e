"""Rounds of callbacks: small while requests wait for a commit, and large otherwise."""

import asyncio
import datetime as dt
import itertools
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from service.flows.callbacks.process import MAX_CLAIMED, run_due
from service.flows.callbacks.receive import store_callback
from service.store import queue
from service.store.database import StoreLocked
from tests.support.world import World

STORED = MAX_CLAIMED + 10


async def stored(world: World) -> None:
    for number in range(STORED):
        await store_callback(world.context, "token", uuid4(), {}, b'{"number":%d}' % number)


async def test_round_without_waiting_requests_claims_more(world: World) -> None:
    await stored(world)
    assert await run_due(world.context) == STORED
    assert not world.context.writers.requests_wait


async def test_round_is_small_while_a_request_waits(postgresql_url: str) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def wait(_: AsyncConnection, items: Sequence[int]) -> Sequence[int]:
        entered.set()
        await leave.wait()
        return items

    async with World.opened(postgresql_url) as world:
        await stored(world)
        request = asyncio.create_task(world.context.writers.requests.batch(wait, 1))
        await entered.wait()
        assert await run_due(world.context) == MAX_CLAIMED
        leave.set()
        assert await request == 1


async def test_callbacks_of_a_transaction_that_failed_are_counted_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten, times = queue.hasten, itertools.count()

    async def locked_at_first(connection: AsyncConnection, ids: Sequence[UUID], *, now: dt.datetime) -> None:
        if next(times) == 0:
            raise StoreLocked("a row is locked")
        await hasten(connection, ids, now=now)

    monkeypatch.setattr(queue, "hasten", locked_at_first)
    for number in range(2):
        await store_callback(world.context, "token", uuid4(), {}, b'{"number":%d}' % number)
    await run_due(world.context)
    assert next(times) == 3
    [family] = world.context.metrics.callbacks.collect()
    assert sum(each.value for each in family.samples if each.name.endswith("_total")) == 2
