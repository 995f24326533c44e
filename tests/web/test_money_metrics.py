"""The metrics of money: what they count once, what they show of rows, and that their labels are bounded."""

import dataclasses
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from service.domain.money.settlement import Entry, Settlement
from service.flows.money.booking import is_second_payment
from service.sandbox import Faults
from service.store.tables import money_entries
from tests.support.metrics import number, scraped
from tests.support.prices import prices_file
from tests.support.routes import three_upstreams
from tests.support.values import NOW, new_id
from tests.support.world import JOB_SECONDS, World

PRICE = Decimal(75)
ELK = {"upstream": "elkapi", "unit": "points"}


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    prices = prices_file(tmp_path, rate="75")
    async with World.opened(database_url, DOVECOTE_MONEY__PRICES_FILE=str(prices)) as opened:
        yield opened


async def test_spend_is_counted_once_and_reserved_until_it_is_settled(world: World) -> None:
    task = await world.submit("[drop] a dove", callback_url=None)
    await world.work()
    found = await scraped(world)
    assert number(found, "reserved", **ELK) == 75
    assert number(found, "spend_total", **ELK, family="runway") == 0
    await world.until(5 * JOB_SECONDS)
    [entry] = (await world.task(task)).settlements
    found = await scraped(world)
    assert number(found, "reserved", **ELK) == 0
    assert number(found, "spend_total", **ELK, family="runway") == float(entry["amount"]) > 0
    assert number(found, "spend_returned_total", **ELK, family="runway") == 0
    assert number(found, "double_payments_total", upstream="elkapi") == 0
    assert number(found, "claims", upstream="elkapi", verdict="charged", state="open") == 0


async def test_claims_are_counted_until_they_are_settled(world: World) -> None:
    await world.submit("[fail] a dove", callback_url=None)
    await world.until(5 * JOB_SECONDS)
    async with world.context.database.writing() as connection:
        await connection.execute(
            update(money_entries).values(verdict="charged", basis="provider", amount=PRICE, gross=PRICE)
        )
    [claim] = (await world.client.get("/v1/claims")).json()["claims"]
    labels = {"upstream": "elkapi", "verdict": "charged"}
    found = await scraped(world)
    assert number(found, "claims", **labels, state="open") == 1
    assert number(found, "claims_amount", **labels, state="open", unit="points") == 75
    url = f"/v1/claims/{claim['submission']}"
    assert (await world.client.post(url, json={"state": "filed"})).status_code == 200
    found = await scraped(world)
    assert number(found, "claims", **labels, state="open") == 0
    assert number(found, "claims", **labels, state="filed") == 1
    assert (await world.client.post(url, json={"state": "denied"})).status_code == 200
    found = await scraped(world)
    assert not any(name == "dovecote_claims" and value for (name, _), value in found.items())


async def test_claim_that_is_lost_by_policy_or_of_a_removed_upstream_is_shown_apart(world: World) -> None:
    for _ in range(2):
        await world.submit("[fail] a dove", callback_url=None)
    await world.until(5 * JOB_SECONDS)
    async with world.context.database.writing() as connection:
        lost = {"verdict": "charged", "basis": "rule", "amount": PRICE, "gross": PRICE}
        await connection.execute(update(money_entries).values(**lost))
    assert number(await scraped(world), "claims", upstream="elkapi", verdict="charged", state="open") == 0
    async with world.context.database.writing() as connection:
        await connection.execute(update(money_entries).values(basis="record", upstream="gone"))
    assert number(await scraped(world), "claims", upstream="unknown", verdict="charged", state="open") == 2


async def test_second_job_of_a_task_is_a_probable_double_payment(database_url: str) -> None:
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi,cometapi,runwayml") as three:
        three.elk.faults = Faults.named(["cut", "late=300"])
        again = {"on_uncertain": "resubmit_once", "route": ["elkapi", "runwayml"]}
        await three.world.submit("bought twice", callback_url=None, **again)
        await three.world.work()
        three.elk.faults = Faults()
        await three.world.until(700)
        found = await scraped(three.world)
        counted = {each: number(found, "double_payments_total", upstream=each) for each in ("elkapi", "runwayml")}
        assert sum(counted.values()) == 1, counted


def entry(verdict: str, *, ending: str | None = "failed", earlier: str | None = None) -> tuple[Any, Any]:
    """Return an entry of a submission, and the settlement before it."""
    settlement = Settlement(verdict=verdict, basis="provider")  # type: ignore[arg-type]
    made = Entry(
        key="set:a",
        submission_id=new_id(),
        upstream="elkapi",
        dialect="x",
        settlement=settlement,
        change=None,
        purchased_at=NOW,
        booked_at=NOW,
        evidence={} if ending is None else {"ending": ending},
    )
    return made, None if earlier is None else dataclasses.replace(settlement, verdict=earlier)


def other(verdict: str, ending: str = "unknown") -> Mapping[str, Any]:
    return {"verdict": verdict, "evidence": {"ending": ending}}


@pytest.mark.parametrize(
    ("found", "others", "counted"),
    [
        pytest.param(entry("charged"), [other("charged")], True, id="both-charged"),
        pytest.param(entry("probably_charged"), [other("charged", "succeeded")], True, id="perhaps"),
        pytest.param(entry("charged"), [], False, id="the-only-one"),
        pytest.param(entry("charged"), [other("refunded")], False, id="other-given-back"),
        pytest.param(entry("free", ending="no_job"), [other("charged")], False, id="no-job"),
        pytest.param(entry("charged", earlier="probably_charged"), [other("charged")], False, id="counted-before"),
        pytest.param(entry("charged", earlier="refunded"), [other("charged")], True, id="refund-was-wrong"),
        pytest.param(entry("charged"), [other("charged", "moderated")], False, id="bought-again-on-purpose"),
        pytest.param(entry("charged", ending="moderated"), [other("charged")], False, id="withheld-after-another"),
        pytest.param(
            entry("charged"), [other("charged", "moderated"), other("charged")], True, id="twice-after-a-withheld-one"
        ),
    ],
)
def test_second_payment_is_noticed_once(found: tuple[Any, Any], others: list[Any], *, counted: bool) -> None:
    assert is_second_payment(*found, others) is counted


async def test_ending_of_a_job_stays_in_the_evidence_of_later_corrections(world: World) -> None:
    task = await world.submit("[fail] a dove", callback_url=None)
    await world.until(5 * JOB_SECONDS)
    async with world.context.database.writing() as connection:
        await connection.execute(update(money_entries).values(verdict="charged", amount=PRICE, gross=PRICE))
    [claim] = (await world.client.get("/v1/claims")).json()["claims"]
    await world.client.post(f"/v1/claims/{claim['submission']}", json={"state": "paid"})
    assert {each["evidence"]["ending"] for each in (await world.task(task)).settlements} == {"failed"}
