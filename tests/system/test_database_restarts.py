"""The database crashes under load, again and again. The processes recover, and nothing is lost or paid twice."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.cli.practice import SANDBOX_KEY
from service.cli.processes import ProcessGroup, Served
from service.sandbox import Receiver, Sandbox, running
from tests.conftest import migrated
from tests.support.cluster import Cluster
from tests.support.fleet import Accounts, Clients, client_of, dovecote, left_over, pass_time, until, with_sandboxes
from tests.support.world import WEBHOOK_SECRET

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("demo")]

WORDS = ["[slow=0.3]"] * 50 + ["[drop]"] * 10 + [""] * 90
CRASHES = (30, 80)
"""After so many jobs the database dies."""
HURT = 115
"""After so many jobs one of its processes is killed, and it recovers by itself."""
AT_ONCE = 12
JOB_SECONDS = 1.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster.running() as cluster:
        yield cluster


async def say(status: int, *served: Served) -> None:
    """Wait until each process reports the expected health."""
    for each in served:
        async with client_of(each) as client:
            await until(lambda client=client: says(client, status), each.tail)


async def says(client: httpx.AsyncClient, status: int) -> bool:
    return (await client.get("/readyz")).status_code == status


async def nothing_left(database_url: str) -> bool:
    return not any((await left_over(database_url)).values())


async def test_database_crash_under_load_loses_nothing(cluster: Cluster, tmp_path: Path) -> None:
    await migrated(cluster.url)
    sandbox, receiver = Sandbox(seconds=JOB_SECONDS, key=SANDBOX_KEY), Receiver(WEBHOOK_SECRET)
    accounts = Accounts(receiver, [lambda: sandbox.ledger.jobs])
    wanted = [f"{word} dove {number}".strip() for number, word in enumerate(WORDS)]
    random.Random(4).shuffle(wanted)
    async with running(sandbox) as upstream, running(receiver) as hook:
        settings = with_sandboxes(JOB_SECONDS, elkapi=upstream)
        web = dovecote(tmp_path, cluster.url, "web", role="web", **settings)
        worker = dovecote(tmp_path, cluster.url, "worker", role="worker", public=web.url, **settings)
        with ProcessGroup() as group:
            for served in (web, worker):
                group.start(served)
            for served in (web, worker):
                await asyncio.to_thread(served.wait_ready)
            async with client_of(web) as client, asyncio.TaskGroup() as load:
                clients = Clients(client, hook, wanted)
                load.create_task(clients.run(AT_ONCE))
                for jobs in CRASHES:
                    await paid(sandbox, jobs)
                    await asyncio.to_thread(cluster.crash)
                    await say(503, web, worker)
                    await asyncio.to_thread(cluster.start)
                    await say(200, web, worker)
                await paid(sandbox, HURT)
                await asyncio.to_thread(cluster.kill_one_connection)
            async with client_of(web) as client:
                await accounts.settle(client, clients)
            await pass_time(cluster.url)  # work that was in flight at the crash is claimed again when its lease ends
            await until(lambda: nothing_left(cluster.url))
            assert (web.alive, worker.alive) == (True, True)
        accounts.close(clients)
    assert {task["state"] for task in accounts.tasks} == {"succeeded"}
    assert clients.turned_away > 0, "nobody was told that the database was away"


async def paid(sandbox: Sandbox, jobs: int) -> None:
    async def there() -> bool:
        return len(sandbox.ledger.jobs) >= jobs

    await until(there, lambda: len(sandbox.ledger.jobs), pause=0.005)
