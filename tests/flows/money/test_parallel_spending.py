"""Four processes and one budget: however many tasks are submitted at once, the limit holds and none is lost."""

import asyncio
import contextlib
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from service.store.money import counters
from tests.support.prices import prices_file
from tests.support.world import JOB_SECONDS, TASK_REQUEST, World

pytestmark = pytest.mark.long

PROCESSES = 4
SUBMITS = 200
AFFORDABLE = 50


async def test_200_submits_from_four_processes_buy_what_the_budget_allows(postgresql_url: str, tmp_path: Path) -> None:
    prices = prices_file(tmp_path, rate="3")
    budget = f"all limit={3 * AFFORDABLE} unit=points period=month"
    settings = {"DOVECOTE_MONEY__PRICES_FILE": str(prices), "DOVECOTE_MONEY__BUDGETS": budget}
    async with contextlib.AsyncExitStack() as stack:
        worlds = [await stack.enter_async_context(World.opened(postgresql_url, **settings)) for _ in range(PROCESSES)]
        submits = [submit(worlds[number % PROCESSES], number) for number in range(SUBMITS)]
        answers = Counter(await asyncio.gather(*submits))
        assert answers == {202: SUBMITS}
        await asyncio.gather(*(world.work() for world in worlds))
        paid = sum(len(world.sandbox.ledger.jobs) for world in worlds)
        assert paid == AFFORDABLE
        async with worlds[0].context.database.reading() as connection:
            period = f"{worlds[0].clock.now:%Y-%m}"
            [counter] = (await counters.of_budgets(connection, ["all"], [period])).values()
        assert (counter.held, counter.spent) == (Decimal(3 * AFFORDABLE), Decimal(0))
        for world in worlds:
            await world.until(JOB_SECONDS / 2)
        states = Counter(
            [
                task["state"]
                for state in ("succeeded", "failed", "running", "submitted", "queued", "submitting", "unconfirmed")
                for task in await _all(worlds[0], state)
            ]
        )
        assert sum(states.values()) == SUBMITS
        assert states["failed"] == SUBMITS - AFFORDABLE
        assert sum(len(world.sandbox.ledger.jobs) for world in worlds) == AFFORDABLE


async def submit(world: World, number: int) -> int:
    """Submit a task as clients do, and return the status: on a busy machine the answer may be that it cannot be done now."""
    while True:
        headers = {"Idempotency-Key": f"task {number}"}
        answer = await world.client.post("/v1/tasks", json=TASK_REQUEST, headers=headers)
        if answer.status_code != 503:
            return answer.status_code


async def _all(world: World, state: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    cursor = ""
    while True:
        page = (await world.client.get(f"/v1/tasks?limit=100&state={state}{cursor}")).json()
        found += page["tasks"]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"
