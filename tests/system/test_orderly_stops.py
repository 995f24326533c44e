"""Orderly stops under load, again and again: nothing stays claimed, and no unsent submission is `sending`."""

import asyncio
import random
import signal
from pathlib import Path

import pytest
from sqlalchemy import text

from service.cli.practice import SANDBOX_KEY
from service.cli.processes import ProcessGroup, Served
from service.sandbox import Receiver, Sandbox, running
from service.store.database import Database
from service.store.tables import UtcTime
from tests.support.fleet import Accounts, Clients, client_of, dovecote, left_over, with_sandboxes
from tests.support.world import WEBHOOK_SECRET

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("demo")]

STOPS = 20
AT_ONCE = 24
JOB_SECONDS = 1.0
SLOW = "[slow=0.3]"
"""The fault that makes an upstream answer a submit late, so that some are in flight at each stop."""
LONGEST_WAIT = 25.0
"""Seconds: no schedule of such young tasks waits for longer, and a lease lasts for 60."""

CLAIMED = {
    "submits": "SELECT due_at FROM tasks WHERE state = 'submitting'",
    "polls": "SELECT due_at FROM tasks WHERE state NOT IN ('queued', 'submitting') AND finished_at IS NULL",
    "callbacks": "SELECT due_at FROM callbacks WHERE decision IS NULL",
    "webhooks": "SELECT due_at FROM webhook_messages WHERE state = 'pending'",
    "duplicates": "SELECT due_at FROM submissions WHERE due_at IS NOT NULL",
}


async def claimed(database_url: str) -> dict[str, int]:
    """Count the rows of each queue whose due time is beyond every schedule: those under a lease."""
    database, found = Database(database_url), {}
    async with database.reading() as connection:
        now = (await connection.execute(text("SELECT max(at) AS at FROM events").columns(at=UtcTime))).scalar_one()
        for name, statement in CLAIMED.items():
            due = (await connection.execute(text(statement).columns(due_at=UtcTime))).scalars().all()
            found[name] = sum((each - now).total_seconds() > LONGEST_WAIT for each in due)
    await database.close()
    return found


async def unsent(database_url: str, sandbox: Sandbox) -> list[str]:
    """Return the tasks that count as perhaps bought although their upstream has no such job."""
    bought = {job.prompt for job in sandbox.ledger.jobs}
    database = Database(database_url)
    statement = "SELECT CAST(input AS text) FROM tasks WHERE state IN ('unconfirmed', 'submitting')"
    async with database.reading() as connection:
        inputs = (await connection.execute(text(statement))).scalars().all()
    await database.close()
    return [each for each in inputs if not any(prompt and prompt in each for prompt in bought)]


async def stop(served: Served) -> None:
    assert served.process is not None
    served.process.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(served.process.wait, 60)
    assert code == 0, served.tail()


@pytest.mark.parametrize("seed", [7])
async def test_orderly_stop_under_load_leaves_nothing_claimed_or_unsent(
    database_url: str, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    elk, receiver = Sandbox(seconds=JOB_SECONDS, key=SANDBOX_KEY), Receiver(WEBHOOK_SECRET)
    async with running(elk) as upstream, running(receiver) as hook:
        settings = with_sandboxes(JOB_SECONDS, elkapi=upstream)
        accounts = Accounts(receiver, [lambda: elk.ledger.jobs])
        web = worker = dovecote(tmp_path, database_url, "web", role="all", **settings)
        if not database_url.startswith("sqlite"):
            web = dovecote(tmp_path, database_url, "web", role="web", **settings)
            worker = dovecote(tmp_path, database_url, "worker", role="worker", public=web.url, **settings)
        wanted = [f"{SLOW if number % 3 == 0 else ''} dove {number}".strip() for number in range(STOPS * 20)]
        with ProcessGroup() as group:
            for served in {web.name: web, worker.name: worker}.values():
                group.start(served)
                await asyncio.to_thread(served.wait_ready)
            async with client_of(web) as client, asyncio.TaskGroup() as load:
                clients = Clients(client, hook, wanted)
                work = load.create_task(clients.run(AT_ONCE))
                for number in range(STOPS):
                    bought = len(elk.ledger.jobs)
                    while len(elk.ledger.jobs) < min(bought + 8, len(wanted)) and not work.done():  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
                    await asyncio.sleep(chance.uniform(0, 0.1))
                    await stop(worker)
                    assert await left_over(database_url) | {"undecided": 0, "owed": 0} == {
                        "undecided": 0, "sending": 0, "owed": 0,
                    }, number  # fmt: skip
                    assert await claimed(database_url) == dict.fromkeys(CLAIMED, 0), number
                    assert await unsent(database_url, elk) == [], number
                    worker.start()
                    await asyncio.to_thread(worker.wait_ready)
            async with client_of(web) as client:
                await accounts.settle(client, clients)
        accounts.close(clients)
    assert {task["state"] for task in accounts.tasks} == {"succeeded"}
    assert elk.ledger.paid() == len(wanted)
    assert await left_over(database_url) == {"undecided": 0, "sending": 0, "owed": 0}
