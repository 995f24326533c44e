"""Quotes of tasks: what a client learns before anything is bought, and the upstreams that its terms leave."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.support.world import TASK_REQUEST, World

PRICES = """
schema = 1
[unit.elkapi]
points = { usd = "0.01", checked = "2026-11-27" }
[[price]]
id = "elk"
upstream = "elkapi"
unit = "points"
per = "second"
rate = "10"
quantity = { field = "duration", default = 5, max = 10 }
checked = 2026-11-27
[[price]]
id = "second"
upstream = "second"
unit = "USD"
rate = "0.20"
checked = 2026-11-27
"""
SECOND: Mapping[str, str] = {
    "DOVECOTE_UPSTREAMS__SECOND__BASE_URL": "http://sandbox.test",
    "DOVECOTE_UPSTREAMS__SECOND__KEY": "sandbox-key-2",
    "DOVECOTE_UPSTREAMS__SECOND__DIALECTS": "runway/aggregator",
}


@pytest.fixture
async def world(sqlite_url: str, tmp_path: Path) -> AsyncIterator[World]:
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES, encoding="utf-8")
    async with World.opened(sqlite_url, DOVECOTE_MONEY__PRICES_FILE=str(prices), **SECOND) as opened:
        yield opened


def cost(amount: str, unit: str = "USD") -> dict[str, str]:
    return {"amount": amount, "unit": unit}


async def test_quote_shows_every_upstream_and_buys_nothing(world: World) -> None:
    answer = await world.client.post("/v1/quote", json=TASK_REQUEST)
    assert answer.status_code == 200
    shown = answer.json()
    assert [(each["upstream"], each["max"], each["unit"], each["usd_max"]) for each in shown["quotes"]] == [
        ("elkapi", "50", "points", "0.5"),
        ("second", "0.2", "USD", "0.2"),
    ]
    assert (await world.client.get("/v1/tasks")).json()["tasks"] == []
    assert world.sandbox.ledger.jobs == []


async def test_quote_reports_the_mistakes_of_a_request(world: World) -> None:
    answer = await world.client.post("/v1/quote", json={**TASK_REQUEST, "input": {}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == "input.prompt"


async def test_task_has_the_quotes_of_its_acceptance(world: World) -> None:
    task = (await world.client.post("/v1/tasks", json=TASK_REQUEST)).json()
    assert [each["max"] for each in task["quote"]] == ["50", "0.2"]


async def test_upstream_above_the_limit_is_skipped(world: World) -> None:
    task = (await world.client.post("/v1/tasks", json={**TASK_REQUEST, "max_cost": cost("0.3")})).json()
    assert task["route"] == ["second"]
    assert "0.5 USD" in task["skipped_upstreams"]["elkapi"]
    assert task["max_cost"] == cost("0.3")


async def test_request_without_a_fitting_upstream_is_refused(world: World) -> None:
    answer = await world.client.post("/v1/tasks", json={**TASK_REQUEST, "max_cost": cost("0.1")})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == "max_cost"
    assert (await world.client.get("/v1/tasks")).json()["tasks"] == []


@pytest.mark.parametrize(
    "stated", [{"amount": "-1"}, {"amount": "1e400"}, {"amount": 5}, {"unit": "USD"}, "5"], ids=repr
)
async def test_limit_that_is_no_amount_is_refused(world: World, stated: object) -> None:
    answer = await world.client.post("/v1/tasks", json={**TASK_REQUEST, "max_cost": stated})
    assert answer.status_code == 422


async def test_cheapest_upstream_comes_first(world: World) -> None:
    task = (await world.client.post("/v1/tasks", json={**TASK_REQUEST, "prefer": "cheapest"})).json()
    assert task["route"] == ["second", "elkapi"]
    assert [each["upstream"] for each in task["quote"]] == ["second", "elkapi"]


async def test_unknown_price_is_shown_as_unknown(sqlite_url: str) -> None:
    async with World.opened(sqlite_url) as world:
        task = (await world.client.post("/v1/tasks", json=TASK_REQUEST)).json()
        assert task["quote"][0]["bound"] == "none"
        assert task["quote"][0]["max"] is None
        refused = await world.client.post("/v1/tasks", json={**TASK_REQUEST, "max_cost": cost("5")})
        assert refused.status_code == 422
