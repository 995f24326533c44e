"""Learned prices and durations: bounds from real settlements, and the fastest upstream first."""

import dataclasses
from decimal import Decimal
from pathlib import Path

import pytest

from service.domain.money.amounts import Amount
from service.domain.money.learned import ENOUGH, Charge, Learned, bounds_of
from service.domain.money.quotes import Quote, unknown
from service.domain.statistics import Ending
from service.flows.statistics import update_statistics
from tests.support.world import JOB_SECONDS, TASK_REQUEST, World

KIND = ("elkapi", "runway", "text_to_video", None)
BASE_ONLY = """
schema = 1
[unit.elkapi]
points = { usd = "0.01", checked = "2026-11-27" }
[[price]]
id = "elk"
upstream = "elkapi"
unit = "points"
rate = "1"
base_only = true
checked = 2026-11-27
"""
SECOND = {
    "DOVECOTE_UPSTREAMS__SECOND__BASE_URL": "http://sandbox.test",
    "DOVECOTE_UPSTREAMS__SECOND__KEY": "sandbox-key",
    "DOVECOTE_UPSTREAMS__SECOND__DIALECTS": "runway/aggregator",
}


def charges(*values: str, unit: str = "points") -> list[Charge]:
    return [Charge(KIND, Amount(Decimal(value), unit)) for value in values]


def test_bound_is_a_quarter_above_the_99th_percentile() -> None:
    [(kind, found)] = bounds_of(charges(*map(str, range(1, 101)))).items()
    assert kind == KIND
    assert (found.low, found.expected, found.high, found.count) == (Decimal(1), Decimal(51), Decimal("123.75"), 100)


@pytest.mark.parametrize(
    "seen",
    [
        charges(*["5"] * (ENOUGH - 1)),
        [*charges(*["5"] * ENOUGH), *charges("5", unit="USD")],
        [],
    ],
    ids=["too-few", "two-units", "none"],
)
def test_no_bound_is_learned(seen: list[Charge]) -> None:
    assert bounds_of(seen) == {}


def test_learned_bound_keeps_the_row_and_says_where_it_comes_from() -> None:
    learned = Learned(low=Decimal(1), expected=Decimal(2), high=Decimal(3), unit="points", count=40)
    row = dataclasses.replace(unknown("x"), price_id="row", failed="refunded", rate=Decimal(9))
    quote = learned.quote(row, Decimal("0.5"))
    assert (quote.bound, quote.high, quote.price_id, quote.failed) == ("observed", Decimal(3), "row", "refunded")
    assert quote.bound_in("USD") == Decimal("1.5")
    assert "40 charges" in quote.why[-1]
    assert Quote.from_json(quote.as_json()) == quote


async def charged(world: World, number: int) -> None:
    for _ in range(number):
        await world.submit(callback_url=None)
    await world.until(JOB_SECONDS * 4)


@pytest.mark.parametrize("listed", [True, False], ids=["row-without-a-bound", "no-row"])
async def test_bound_of_a_quote_is_learned_from_charges(database_url: str, tmp_path: Path, *, listed: bool) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(BASE_ONLY if listed else "schema = 1", encoding="utf-8")
    async with World.opened(database_url, DOVECOTE_MONEY__PRICES_FILE=str(prices)) as world:
        await charged(world, ENOUGH)
        before = (await world.client.post("/v1/quote", json=TASK_REQUEST)).json()["quotes"][0]
        assert before["bound"] == "none"
        await update_statistics(world.context)
        quote = (await world.client.post("/v1/quote", json=TASK_REQUEST)).json()["quotes"][0]
        assert (quote["bound"], quote["expected"], quote["max"], quote["unit"]) == ("observed", "160", "200", "points")
        assert quote["usd_max"] == ("2" if listed else None)
        limit = {"amount": "199", "unit": "points"}
        refused = await world.client.post("/v1/tasks", json={**TASK_REQUEST, "max_cost": limit})
        assert refused.status_code == 422
        task = (
            await world.client.post("/v1/tasks", json={**TASK_REQUEST, "max_cost": {**limit, "amount": "200"}})
        ).json()
        assert task["quote"][0]["bound"] == "observed"
        await world.client.put("/v1/budgets/all", json={"limit": "500", "unit": "points"})
        await world.work()
        [row] = (await world.client.get("/v1/budgets")).json()["budgets"]
        assert row["held"] == "200", "the learned bound is reserved"


@pytest.mark.parametrize(("elk", "second", "first"), [(90.0, 20.0, "second"), (20.0, 90.0, "elkapi")])
async def test_fastest_upstream_by_learned_duration_comes_first(
    sqlite_url: str, elk: float, second: float, first: str
) -> None:
    async with World.opened(sqlite_url, **SECOND) as world:
        plain = {"family": "runway", "operation": "text_to_video", "model": None, "dialect": "runway/aggregator"}
        took = [
            Ending(**plain, upstream=name, seconds=seconds, by_callback=True, callback_expected=True)  # type: ignore[arg-type]
            for name, seconds in (("elkapi", elk), ("second", second))
            for _ in range(8)
        ]
        world.context.statistics.replace(took)
        for request, route in ((TASK_REQUEST, "elkapi"), ({**TASK_REQUEST, "prefer": "fastest"}, first)):
            task = (await world.client.post("/v1/tasks", json=request)).json()
            assert task["route"][0] == route
