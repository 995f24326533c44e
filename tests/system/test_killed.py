"""A real worker is killed with -9 under load, four times. Every task then has one job or is truly unconfirmed."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.cli.practice import SANDBOX_KEY
from service.cli.processes import ProcessGroup
from service.sandbox import Receiver, Sandbox, running
from tests.support.fleet import (
    Accounts,
    Clients,
    client_of,
    dovecote,
    left_over,
    pass_time,
    prompts,
    until,
    with_sandboxes,
)
from tests.support.world import WEBHOOK_SECRET

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("demo")]

TASKS = 200
AT_ONCE = 24
ROUNDS = 4
JOB_SECONDS = 1.0
LIMITS = {
    "DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS": "40",
    "DOVECOTE_UPSTREAMS__ELKAPI__SUBMITS_PER_SECOND": "40",
    "DOVECOTE_UPSTREAMS__ELKAPI__WHEN_FULL": "next",
}


@contextlib.asynccontextmanager
async def outside() -> AsyncIterator[tuple[dict[str, str], Accounts, str]]:
    """Open two upstreams and a receiver."""
    elk, comet = (Sandbox(seconds=JOB_SECONDS, key=SANDBOX_KEY) for _ in range(2))
    receiver = Receiver(WEBHOOK_SECRET)
    async with running(elk) as first, running(comet) as second, running(receiver) as hook:
        upstreams = {**with_sandboxes(JOB_SECONDS, elkapi=first, cometapi=second), **LIMITS}
        yield upstreams, Accounts(receiver, [lambda: elk.ledger.jobs, lambda: comet.ledger.jobs]), hook


def moments(chance: random.Random) -> list[int]:
    """Return the number of jobs after which each kill comes: one in each part of the load."""
    part = TASKS // (ROUNDS + 1)
    return [number * part + chance.randrange(part) for number in range(ROUNDS)]


async def reached(accounts: Accounts, jobs: int, chance: random.Random) -> None:
    """Wait until this number of jobs has been paid, and a random time more."""

    async def there() -> bool:
        return sum(map(len, accounts.jobs.values())) >= jobs

    await until(there, lambda: (jobs, sum(map(len, accounts.jobs.values()))), pause=0.002)
    await asyncio.sleep(chance.uniform(0, 0.05))


@pytest.mark.parametrize("seed", [20])
async def test_repeatedly_killed_worker_loses_nothing_and_pays_once(
    database_url: str, tmp_path: Path, seed: int
) -> None:
    chance, under_way = random.Random(seed), 0
    async with outside() as (upstreams, accounts, hook):
        web = worker = dovecote(tmp_path, database_url, "web", role="all", **upstreams)
        if not database_url.startswith("sqlite"):
            web = dovecote(tmp_path, database_url, "web", role="web", **upstreams)
            worker = dovecote(tmp_path, database_url, "worker", role="worker", public=web.url, **upstreams)
        with ProcessGroup() as group:
            for served in {web.name: web, worker.name: worker}.values():
                group.start(served)
                await asyncio.to_thread(served.wait_ready)
            async with client_of(web) as client, asyncio.TaskGroup() as load:
                clients = Clients(client, hook, prompts(TASKS, chance))
                load.create_task(clients.run(AT_ONCE))
                for jobs in moments(chance):
                    await reached(accounts, jobs, chance)
                    worker.kill()
                    under_way += await pass_time(database_url)
                    worker.start()
                    await asyncio.to_thread(worker.wait_ready)
            async with client_of(web) as client:
                await accounts.settle(client, clients)
        accounts.close(clients)
    assert under_way > 0, "no kill came while something was being bought"
    assert sum(task["state"] == "succeeded" for task in accounts.tasks) > TASKS / 4
    assert await left_over(database_url) == {"undecided": 0, "sending": 0, "owed": 0}
