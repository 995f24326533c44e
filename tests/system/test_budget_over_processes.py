"""200 parallel submits from four real processes against a budget for 50, with kill -9 in the middle: never more than 50 are paid."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cli.practice import SANDBOX_KEY
from service.cli.processes import ProcessGroup, Served
from service.sandbox import Sandbox, running
from tests.support.fleet import all_tasks, client_of, dovecote, pass_time, until, with_sandboxes
from tests.support.money import faults_in_database
from tests.support.prices import prices_file

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("demo")]

PROCESSES = 4
SUBMITS = 200
AFFORDABLE = 50
PRICE = 160
"""What the sandbox charges for a job."""
JOB_SECONDS = 0.5
OPEN = {"submitted", "running", "submitting"}


@contextlib.asynccontextmanager
async def fleet(url: str, folder: Path) -> AsyncIterator[tuple[Sandbox, list[Served]]]:
    """Start the processes over one database, with one budget and one provider."""
    prices = prices_file(folder, rate=str(PRICE))
    sandbox = Sandbox(seconds=JOB_SECONDS, key=SANDBOX_KEY)
    async with running(sandbox) as provider:
        settings = {
            **with_sandboxes(JOB_SECONDS, elkapi=provider),
            "DOVECOTE_MONEY__PRICES_FILE": str(prices),
            "DOVECOTE_MONEY__BUDGETS": f"all limit={PRICE * AFFORDABLE} unit=points",
        }
        names = [f"process-{number}" for number in range(PROCESSES)]
        with ProcessGroup() as group:
            first = dovecote(folder, url, names[0], **settings)
            group.start(first)
            await asyncio.to_thread(first.wait_ready)
            others = [dovecote(folder, url, name, public=first.url, **settings) for name in names[1:]]
            for served in others:
                group.start(served)
            for served in others:
                await asyncio.to_thread(served.wait_ready)
            yield sandbox, [first, *others]


async def submit(clients: list[httpx.AsyncClient], number: int) -> tuple[int, str]:
    """Submit one task, again and again until there is an answer; return its status and its id."""
    document = {
        "family": "runway",
        "operation": "text_to_video",
        "input": {"prompt": f"dove {number}", "duration": 5},
        "when_over_budget": "wait" if number % 4 == 0 else "refuse",
    }
    for attempt in itertools.count():
        client = clients[(number + attempt) % PROCESSES]
        with contextlib.suppress(httpx.NetworkError, httpx.RemoteProtocolError):
            answer = await client.post("/v1/tasks", json=document, headers={"Idempotency-Key": f"key {number}"})
            if answer.status_code != 503:
                return answer.status_code, answer.json().get("id") or answer.json()["code"]
        await asyncio.sleep(0.02)
    raise AssertionError("unreachable")


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
async def test_200_submits_to_four_processes_buy_what_the_budget_allows(
    postgresql_url: str, tmp_path: Path, *, killed: bool
) -> None:
    async with fleet(postgresql_url, tmp_path) as (sandbox, processes), contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_of(each)) for each in processes]
        submits = [asyncio.create_task(submit(clients, number)) for number in range(SUBMITS)]
        if killed:
            await until(lambda: at_least(sandbox, AFFORDABLE // 3))
            for served in processes:
                served.kill()
            await pass_time(postgresql_url)
            for served in processes:
                served.start()
            for served in processes:
                await asyncio.to_thread(served.wait_ready)
        answers = await asyncio.gather(*submits)
        accepted = [key for status, key in answers if status == 202]
        refused = [key for status, key in answers if status != 202]
        assert set(refused) <= {"budget_exceeded"}
        found: list[dict[str, Any]] = []

        async def settled() -> bool:
            found[:] = await all_tasks(clients[0])
            assert len(sandbox.ledger.jobs) <= AFFORDABLE
            states = Counter(each["state"] for each in found)
            queued = [each for each in found if each["state"] == "queued" and "budget" not in each["explanation"]]
            return len(found) == len(accepted) and not queued and not any(states[each] for each in OPEN)

        await until(settled, lambda: Counter((each["state"], each["explanation"][:60]) for each in found))
        assert sorted(each["id"] for each in found) == sorted(accepted), "a task is lost, or there twice"
        states = Counter(each["state"] for each in found)
        codes = {each["failure"]["code"] for each in found if each["state"] == "failed"}
        jobs = [job.prompt for job in sandbox.ledger.jobs]
        assert len(jobs) == len(set(jobs)), "a task was paid twice"
        assert codes <= {"budget_exceeded"}
        assert len(jobs) <= AFFORDABLE <= len(jobs) + states["unconfirmed"]
        assert killed or (len(jobs), states["succeeded"], states["unconfirmed"]) == (AFFORDABLE, AFFORDABLE, 0)
        [row] = (await clients[0].get("/v1/budgets")).json()["budgets"]
        assert Decimal(row["spent"]) + Decimal(row["held"]) <= PRICE * AFFORDABLE
        assert Decimal(row["held"]) == PRICE * states["unconfirmed"]
        assert await faults_in_database(postgresql_url) == []


async def at_least(sandbox: Sandbox, jobs: int) -> bool:
    return len(sandbox.ledger.jobs) >= jobs
