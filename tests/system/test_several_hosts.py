"""A database URL with several hosts, on two real servers: the one that accepts writes is used, in any state of the other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from service.cli.processes import ProcessGroup
from service.store import postgresql
from service.store.database import Database
from service.store.migrate import migrate
from tests.support.cluster import Cluster
from tests.support.processes import client_of, dovecote, started
from tests.support.waiting import LIMIT

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("several hosts")]

WELL_SECONDS = 10.0
"""Within which requests are served again after another host takes writes."""
ANSWER_SECONDS = 8.0
TASK = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "[stuck] a dove", "duration": 5}}


@pytest.fixture
async def clusters() -> AsyncIterator[tuple[Cluster, Cluster]]:
    with Cluster.running() as one, Cluster.running() as other:
        for each in (one, other):
            database = Database(each.url)
            await migrate(database)
            await database.close()
        yield one, other


def url_of(*clusters: Cluster, query: str = "") -> str:
    """Return one URL with the hosts of several servers."""
    hosts = ",".join(parse_qs(urlsplit(each.url).query)["host"][0] for each in clusters)
    return f"postgresql://{urlsplit(clusters[0].url).netloc.partition('@')[0]}@/dovecote?host={hosts}{query}"


async def set_read_only(cluster: Cluster, value: str) -> None:
    """Make a server behave as a standby does for new sessions, or as a primary."""
    connection = await asyncpg.connect(cluster.url)
    try:
        await connection.execute("SET transaction_read_only = off")
        await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        await connection.execute("SELECT pg_reload_conf()")
        async with asyncio.timeout(LIMIT):
            while await connection.fetchval("SELECT current_setting('default_transaction_read_only')") != value:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def directory_of(url: str) -> str:
    """Return the folder of the server that a URL leads to."""
    async with asyncio.timeout(ANSWER_SECONDS):
        session = await postgresql.connect(postgresql.parse(url), command_timeout=4.5, cached_statements=True)
    try:
        return str(await session.fetchval("SELECT current_setting('data_directory')"))
    finally:
        session.terminate()


async def test_host_that_takes_writes_is_used_whatever_the_other_does(clusters: tuple[Cluster, Cluster]) -> None:
    one, other = clusters
    expected = await directory_of(one.url)
    await set_read_only(other, "on")
    for order in ((one, other), (other, one)):
        assert await directory_of(url_of(*order)) == expected
    with other.frozen():
        for order in ((one, other), (other, one)):
            for query in ("", "&connect_timeout=2", "&target_session_attrs=read-write"):
                assert await directory_of(url_of(*order, query=query)) == expected
    other.crash()
    for order in ((one, other), (other, one)):
        assert await directory_of(url_of(*order)) == expected
    other.start()


async def test_server_follows_the_primary_to_another_host(clusters: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    one, other = clusters
    await set_read_only(other, "on")
    served = dovecote(tmp_path, url_of(other, one), "http://127.0.0.1:9")
    with ProcessGroup() as group:
        await started(group, served)
        async with client_of(served) as client:
            assert (await client.post("/v1/tasks", json=TASK)).status_code == 202
            with one.frozen():
                await set_read_only(other, "off")
                async with asyncio.timeout(WELL_SECONDS):
                    while (await client.post("/v1/tasks", json=TASK)).status_code != 202:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
                assert (await client.get("/readyz")).status_code == 200
                assert len((await client.get("/v1/tasks")).json()["tasks"]) >= 1
