"""Leases by name: one holder at a time, until the lease ends or is released."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.store import clock, leases
from service.store.database import Database
from tests.support.values import NOW, later, opened


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as found:
        yield found


async def acquire(database: Database, holder: str, *, after: float = 0.0, name: str = "retention") -> bool:
    async with database.writing() as connection:
        return await leases.acquire(connection, name, holder, now=later(after), seconds=10)


async def test_lease_has_one_holder_until_it_ends(database: Database) -> None:
    assert await acquire(database, "a")
    assert not await acquire(database, "b", after=9.9)
    assert await acquire(database, "b", name="statistics")
    assert await acquire(database, "b", after=10)
    assert not await acquire(database, "a", after=10)


async def test_renewed_lease_ends_later(database: Database) -> None:
    assert await acquire(database, "a")
    assert await acquire(database, "a", after=9)
    assert not await acquire(database, "b", after=18)


async def test_only_the_holder_releases_a_lease(database: Database) -> None:
    await acquire(database, "a")
    for holder, free in (("b", False), ("a", True)):
        async with database.writing() as connection:
            await leases.release(connection, "retention", holder)
        assert await acquire(database, "c", after=1) is free


async def test_one_of_several_at_once_gets_the_lease(database: Database) -> None:
    got = await asyncio.gather(*(acquire(database, holder) for holder in "abcdef"))
    assert sum(got) == 1


async def test_lease_keeps_its_length_when_the_clock_jumps(database: Database) -> None:
    await acquire(database, "a")
    async with database.writing() as connection:
        await clock.shift(connection, before=NOW, after=later(-7200))
    assert not await acquire(database, "b", after=-7195)
    assert await acquire(database, "b", after=-7190)
