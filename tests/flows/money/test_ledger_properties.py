"""Properties of the ledger over random runs: it agrees with the account, with its events and with the budgets."""

import random
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select

from service.sandbox import Job
from service.store.tables import money_entries
from tests.support.money import faults_in_ledger
from tests.support.prices import prices_file
from tests.support.world import JOB_SECONDS, World

FAULTS = (
    "",
    "",
    "[drop]",
    "[twice][disorder]",
    "[early]",
    "[fail]",
    "[drop][fail]",
    "[moderate]",
    "[429]",
    "[refuse]",
    "[slow=2]",
)
TASKS = 14


def lost(job: Job) -> int:
    """Return what the account has lost for a job: the gateway gives the price of a failed one back."""
    return 0 if job.faults.fail or job.faults.moderate else job.points


@pytest.mark.parametrize(
    ("database_url", "seed"),
    [
        ("sqlite", 1),
        ("postgresql", 2),
        *(
            pytest.param(kind, seed, marks=pytest.mark.long)
            for kind in ("sqlite", "postgresql")
            for seed in range(3, 9)
        ),
    ],
    indirect=["database_url"],
)
async def test_random_run_leaves_a_right_ledger(database_url: str, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    prices = prices_file(tmp_path, rate="160")
    settings = {
        "DOVECOTE_MONEY__PRICES_FILE": str(prices),
        "DOVECOTE_MONEY__BUDGETS": "day limit=99999 unit=points period=day",
    }
    async with World.opened(database_url, **settings) as world:
        for number in range(TASKS):
            terms = chance.choice([{}, {"on_moderated": "retry", "moderated_retries": 2}])
            task = await world.submit(f"{chance.choice(FAULTS)} dove {number}", **terms)
            await world.pass_time(chance.uniform(0, JOB_SECONDS))
            if chance.random() < 0.2:
                await world.client.post(f"/v1/tasks/{task.id}/cancel")
            assert await faults_in_ledger(world) == []
        await world.until(JOB_SECONDS * 30)
        assert await faults_in_ledger(world) == []
        async with world.context.database.reading() as connection:
            entries = list(
                await connection.execute(select(money_entries).where(money_entries.c.superseded_at.is_(None)))
            )
        sure = sum((each.amount for each in entries if each.verdict == "charged"), Decimal(0))
        perhaps = sum((each.gross for each in entries if each.verdict.startswith("probably")), Decimal(0))
        account = sum(lost(job) for job in world.sandbox.ledger.jobs)
        assert sure <= account <= sure + perhaps, (sure, account, perhaps)
        stated = [each for each in entries if each.basis == "provider" and each.verdict == "charged"]
        by_id = {job.id: job for job in world.sandbox.ledger.jobs}
        assert [each.amount for each in stated] == [lost(by_id[each.external_id]) for each in stated]
