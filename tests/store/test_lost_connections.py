"""A connection to PostgreSQL breaks during its use: a read is repeated, a write is reported."""

from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
from sqlalchemy import event, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.database import Database, StoreUnavailable
from tests.support.database_proxy import Proxy, socket_of, through
from tests.support.values import opened
from tests.support.world import World


@pytest.fixture
async def database(postgresql_url: str) -> AsyncIterator[Database]:
    async with opened(postgresql_url) as found:
        yield found


async def pid_of(connection: AsyncConnection) -> int:
    return int(await connection.scalar(text("SELECT pg_backend_pid()")) or 0)


async def end_session(url: str, pid: int) -> None:
    """End a session of the server, as an administrator or a time-out does."""
    other = await asyncpg.connect(url)
    assert await other.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
    await other.close()


async def test_read_goes_on_over_another_connection(database: Database, postgresql_url: str) -> None:
    async with database.reading() as connection:
        first = await pid_of(connection)
        await end_session(postgresql_url, first)
        second = await pid_of(connection)
    assert second not in {0, first}
    async with database.reading() as connection:
        assert await pid_of(connection) != first


async def test_read_is_repeated_once_only(database: Database, postgresql_url: str) -> None:
    async def lose(times: int) -> None:
        async with database.reading() as connection:
            for _ in range(times):
                await end_session(postgresql_url, await pid_of(connection))
            await pid_of(connection)

    await lose(1)
    with pytest.raises(StoreUnavailable):
        await lose(2)


async def test_read_is_unavailable_when_its_repetition_cannot_connect(postgresql_url: str) -> None:
    async with (
        Proxy.running(socket_of(postgresql_url)) as proxy,
        opened(through(postgresql_url, proxy.port)) as database,
    ):

        async def lose() -> None:
            async with database.reading() as connection:
                await pid_of(connection)
                await proxy.close()
                await pid_of(connection)

        with pytest.raises(StoreUnavailable):
            await lose()


async def test_database_that_takes_no_connections_is_unavailable(
    empty_postgresql_url: str, postgresql: Callable[[str], str]
) -> None:
    """An operator refuses connections while the server goes on, and ends those that there are."""
    name = make_url(empty_postgresql_url).database
    async with opened(empty_postgresql_url) as database:
        administrator = await asyncpg.connect(postgresql("postgres"))

        async def read_meanwhile() -> None:
            async with database.reading() as connection:
                await pid_of(connection)
                await administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
                await administrator.execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1", name
                )
                await pid_of(connection)  # it is lost, and none can be opened in its place

        with pytest.raises(StoreUnavailable, match="takes no connections"):
            await read_meanwhile()
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="takes no connections"):
                await database.ping()
            with pytest.raises(StoreUnavailable, match="takes no connections"):
                async with database.writing() as connection:
                    await connection.execute(text("SELECT 1"))
        await administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await administrator.close()
        await database.ping()


async def test_write_is_not_repeated(database: Database, postgresql_url: str) -> None:
    async def write() -> None:
        async with database.writing() as connection:
            await end_session(postgresql_url, await pid_of(connection))
            await pid_of(connection)

    with pytest.raises(StoreUnavailable):
        await write()


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/tasks?label=a=b", "/v1/events", "/v1/messages", "/v1/tasks/{task}"])
async def test_request_whose_connection_dies_in_use_is_served(postgresql_url: str, path: str) -> None:
    async with World.opened(postgresql_url) as world:
        task = await world.submit()
        ended: list[int] = []

        def end_once(dbapi_connection: object, cursor: object, statement: str, *_: object) -> None:
            from sqlalchemy.util import await_only

            if not ended and "pg_terminate" not in statement:
                session = dbapi_connection.connection.dbapi_connection.driver_connection  # type: ignore[attr-defined]
                ended.append(session.get_server_pid())
                await_only(end_session(postgresql_url, ended[0]))

        engine = world.context.database.reader.sync_engine
        event.listen(engine, "before_cursor_execute", end_once)
        answer = await world.client.get(path.format(task=task.id))
        event.remove(engine, "before_cursor_execute", end_once)
        assert (answer.status_code, len(ended)) == (200, 1)
