"""Messages about money to operators: soft and hard budgets, a changed price, and credit that will not last the day."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.domain.money.amounts import Amount
from service.flows.upstreams import credit
from service.providers.wire import Balance
from tests.support.operators import listen, reported
from tests.support.prices import prices_file
from tests.support.world import JOB_SECONDS, TASK_REQUEST, World

COST = 160
"""What the sandbox charges for a job."""


@contextlib.asynccontextmanager
async def opened(url: str, folder: Path, rate: int, **settings: str) -> AsyncIterator[World]:
    prices = prices_file(folder, rate=str(rate))
    async with World.opened(url, DOVECOTE_MONEY__PRICES_FILE=str(prices), **settings) as world:
        await listen(world)
        yield world


@pytest.fixture
async def limited(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    budget = f"all limit={3 * COST} soft={2 * COST} unit=points"
    async with opened(database_url, tmp_path, COST, DOVECOTE_MONEY__BUDGETS=budget) as world:
        yield world


async def data_of(world: World, kind: str) -> list[dict[str, Any]]:
    return [each["data"] for each in await reported(world) if each["type"] == f"operator.{kind}"]


async def bought(world: World, number: int = 1) -> None:
    for _ in range(number):
        assert (await world.client.post("/v1/tasks", json=TASK_REQUEST)).status_code in {202, 402}
    await world.until(3 * JOB_SECONDS)


async def test_soft_limit_is_reported_once_in_a_period(limited: World) -> None:
    await bought(limited)
    assert await data_of(limited, "soft_budget") == []
    await bought(limited, 2)
    [shown] = await data_of(limited, "soft_budget")
    assert (shown["budget"], shown["limit"], shown["unit"]) == ("all", str(3 * COST), "points")
    assert int(shown["used"]) >= 2 * COST
    await bought(limited)
    assert len(await data_of(limited, "soft_budget")) == 1


async def test_task_without_room_is_reported_once_a_day(limited: World) -> None:
    for _ in range(5):
        await limited.submit(callback_url=None)
    await limited.work()
    [shown] = await data_of(limited, "hard_budget")
    assert (shown["budget"], shown["needed"], shown["left"]) == ("all", str(COST), "0")
    for _ in range(2):
        await limited.submit(callback_url=None, when_over_budget="wait")
    await limited.work()
    assert len(await data_of(limited, "hard_budget")) == 1


@pytest.mark.parametrize(("rate", "reports"), [(COST, 0), (100, 1)], ids=["as-quoted", "dearer"])
async def test_price_that_differs_three_times_is_reported_once(
    database_url: str, tmp_path: Path, rate: int, reports: int
) -> None:
    async with opened(database_url, tmp_path, rate) as world:
        await bought(world, 2)
        assert await data_of(world, "price_changed") == []
        await bought(world, 3)
        found = await data_of(world, "price_changed")
        assert len(found) == reports
        assert [(each["upstream"], each["price"], each["quoted"], each["charged"]) for each in found] == [
            ("elkapi", "elk", "100", str(COST))
        ] * reports


@pytest.mark.parametrize(("left", "reports"), [(2.5 * COST, 0), (1.5 * COST, 1)], ids=["lasts", "does-not-last"])
async def test_credit_that_will_not_last_the_day_is_reported_once(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: float, reports: int
) -> None:
    billed = {"DOVECOTE_UPSTREAMS__ELKAPI__BILLING": "true"}
    async with opened(database_url, tmp_path, COST, **billed) as world:
        await bought(world, 2)

        async def ask(*_: object) -> Balance:
            return Balance(left, "points")

        monkeypatch.setattr(credit, "ask", ask)
        for _ in range(2):
            await credit.ask_due(world.context, after=0)
            world.clock.forward(700)
        found = await data_of(world, "credit_short")
        assert len(found) == reports
        assert [Amount(each["credit"], each["unit"]) for each in found] == [Amount(f"{left:g}", "points")] * reports  # type: ignore[arg-type]
        assert [each["used_in_a_day"] for each in found] == [str(2 * COST)] * reports
