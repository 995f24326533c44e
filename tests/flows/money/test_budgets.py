"""Budgets: what is reserved before a purchase, refused, released and booked."""

import asyncio
import dataclasses
import datetime as dt
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.domain.money.budgets import Counter
from service.domain.task import State
from service.flows.metrics.rows import RowMetrics
from service.store.money import counters, reservations
from tests.support.prices import prices_file
from tests.support.world import JOB_SECONDS, TASK_REQUEST, World


def opened(url: str, folder: Path, *budgets: str, **more: str) -> Any:
    prices = prices_file(folder, rate="75", in_usd=True, failed="refunded")
    settings = {"DOVECOTE_MONEY__PRICES_FILE": str(prices), "DOVECOTE_MONEY__BUDGETS": ",".join(budgets), **more}
    return World.opened(url, **settings)


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with opened(database_url, tmp_path, "month client=default limit=5 period=month") as found:
        yield found


async def counter(world: World) -> Counter:
    async with world.context.database.reading() as connection:
        found = await counters.of_budgets(connection, ["month"], [f"{world.clock.now:%Y-%m}"])
    assert len(found) <= 1
    return next(iter(found.values()), Counter())


async def states(world: World) -> list[str]:
    return sorted(each["state"] for each in (await world.client.get("/v1/tasks?limit=100")).json()["tasks"])


async def test_parallel_submits_never_pass_the_limit(world: World) -> None:
    """Twenty tasks of 0.75 USD against 5 USD: exactly six are bought."""
    answers = await asyncio.gather(*(world.client.post("/v1/tasks", json=TASK_REQUEST) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {202}
    await world.work()
    assert len(world.sandbox.ledger.jobs) == 6
    assert (await counter(world)).held == Decimal("4.5")
    await world.until(3 * JOB_SECONDS)
    assert await states(world) == ["failed"] * 14 + ["succeeded"] * 6
    failed = (await world.client.get("/v1/tasks?state=failed")).json()["tasks"]
    assert {each["failure"]["code"] for each in failed} == {"budget_exceeded"}
    assert len(world.sandbox.ledger.jobs) == 6


async def test_submit_beyond_the_budget_is_refused_with_what_is_left(world: World) -> None:
    for _ in range(6):
        assert (await world.client.post("/v1/tasks", json=TASK_REQUEST)).status_code == 202
    await world.work()
    answer = await world.client.post("/v1/tasks", json=TASK_REQUEST)
    assert answer.status_code == 402
    problem = answer.json()
    assert (problem["code"], problem["needed"], problem["left"], problem["held"]) == (
        "budget_exceeded",
        "0.75",
        "0.5",
        "4.5",
    )
    assert dt.datetime.fromisoformat(problem["renews_at"]).day == 1
    [row] = (await world.client.get("/v1/budgets")).json()["budgets"]
    assert (row["limit"], row["held"], row["left"], row["spent"]) == ("5", "4.5", "0.5", "0")


async def test_repeated_request_of_an_accepted_task_is_answered_beyond_the_budget(world: World) -> None:
    headers = {"Idempotency-Key": "mine"}
    first = await world.client.post("/v1/tasks", json=TASK_REQUEST, headers=headers)
    for _ in range(5):
        await world.client.post("/v1/tasks", json=TASK_REQUEST)
    await world.work()
    again = await world.client.post("/v1/tasks", json=TASK_REQUEST, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])


async def test_hold_becomes_the_real_price(world: World) -> None:
    task = await world.submit()
    await world.until(3 * JOB_SECONDS)
    [entry] = (await world.task(task)).settlements
    assert entry["verdict"] == "charged"
    found = await counter(world)
    assert found.held == 0
    assert found.spent == Decimal(entry["amount"]) * Decimal("0.01")


async def test_refused_submission_releases_its_hold(world: World) -> None:
    task = await world.submit("[refuse] a dove")
    await world.work()
    assert dataclasses.astuple(await counter(world))[:2] == (Decimal(0), Decimal(0))
    [entry] = (await world.task(task)).settlements
    assert (entry["verdict"], entry["amount"]) == ("free", "0")


async def test_hold_of_a_lost_answer_stays_until_the_task_ends(world: World) -> None:
    task = await world.submit("[cut][drop] a dove", deadline=300)
    await world.work()
    assert (await counter(world)).held == Decimal("0.75")
    await world.until(200)
    assert (await counter(world)).held == Decimal("0.75")
    await world.until(400)
    found = await world.task(task)
    assert found.state is State.EXPIRED
    [entry] = found.settlements
    assert (entry["verdict"], entry["amount"], entry["unit"]) == ("probably_charged", "75", "points")
    assert dataclasses.astuple(await counter(world))[:2] == (Decimal(0), Decimal("0.75"))


async def test_waiting_task_is_bought_when_the_period_renews(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path, "day limit=1 period=day over=wait") as world:
        world.clock.now = world.clock.now.replace(hour=23, minute=50, second=0)
        first, second = await world.submit(deadline=7200), await world.submit(deadline=7200)
        await world.until(120)
        assert (await world.task(first)).state is State.SUCCEEDED
        waiting = await world.task(second)
        assert waiting.state is State.QUEUED
        assert "budget" in (waiting.last_error or "")
        await world.until(900)
        assert (await world.task(second)).state is State.SUCCEEDED


async def test_unknown_price_is_refused_where_a_budget_applies(database_url: str) -> None:
    async with World.opened(database_url, DOVECOTE_MONEY__BUDGETS="all limit=5") as world:
        answer = await world.client.post("/v1/tasks", json=TASK_REQUEST)
        assert answer.status_code == 402
        assert "not known" in answer.json()["detail"]


async def test_unknown_price_counts_when_it_is_allowed_and_stated(database_url: str, tmp_path: Path) -> None:
    async with World.opened(
        database_url, DOVECOTE_MONEY__BUDGETS="month limit=5000 unit=points unpriced=allow"
    ) as world:
        task = await world.submit()
        await world.until(3 * JOB_SECONDS)
        [entry] = (await world.task(task)).settlements
        assert (await counter(world)).spent == Decimal(entry["amount"]) > 0


async def test_limit_of_a_task_counts_every_submission_that_may_be_charged(database_url: str, tmp_path: Path) -> None:
    """The first answer was lost: a second purchase would be above the limit of the task."""
    async with opened(database_url, tmp_path) as world:
        most = {"amount": "1", "unit": "USD"}
        task = await world.submit("[cut][drop] a dove", on_uncertain="resubmit_once", max_cost=most)
        await world.until(7200)
        assert len(world.sandbox.ledger.jobs) == 1
        assert len(await world.submissions(task)) == 1


async def test_settlement_of_an_older_process_is_made_up_for(world: World) -> None:
    """The task ended, and nothing was booked: as an older version leaves it."""
    from sqlalchemy import delete, update

    from service.flows.money import sweep
    from service.store.tables import budget_counters, money_entries, tasks
    from service.store.tables import reservations as table

    task = await world.submit()
    await world.until(3 * JOB_SECONDS)
    async with world.context.database.writing() as connection:
        await connection.execute(delete(money_entries))
        await connection.execute(update(tasks).values(settlements=[]))
        await connection.execute(update(table).values(settled_at=None, check_at=world.clock.now))
        await connection.execute(update(budget_counters).values(held=Decimal("0.75"), spent=Decimal(0)))
    assert await sweep.run_due(world.context) == 1
    [entry] = (await world.task(task)).settlements
    found = await counter(world)
    assert (found.held, found.spent) == (Decimal(0), Decimal(entry["amount"]) / 100)
    async with world.context.database.reading() as connection:
        assert await reservations.due(connection, now=world.clock.now + dt.timedelta(days=1), most=9) == []


async def test_metrics_show_what_a_budget_holds_and_has_spent(world: World) -> None:
    await world.submit("[drop] a dove")
    await world.work()
    families = {each.name: each for each in await RowMetrics(world.context).families()}
    values = {
        name: [sample.value for sample in families[f"dovecote_budget_{name}"].samples]
        for name in ("limit", "held", "spent")
    }
    assert values == {"limit": [5.0], "held": [0.75], "spent": [0.0]}
