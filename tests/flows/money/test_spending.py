"""Usage and claims: sums in each unit, what was charged and not delivered, and refunds that only the balance shows."""

import csv
import datetime as dt
import io
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.domain.task import State
from service.flows.money import balances, charge_log
from service.providers.newapi.charge_log import LogRow
from service.providers.wire import Balance
from tests.support.prices import prices_file
from tests.support.world import JOB_SECONDS, World


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    prices = prices_file(tmp_path, rate="75", in_usd=True)
    settings = {"DOVECOTE_MONEY__PRICES_FILE": str(prices), "DOVECOTE_UPSTREAMS__ELKAPI__BILLING": "true"}
    async with World.opened(database_url, **settings) as opened:
        yield opened


async def usage(world: World, query: str = "") -> list[dict[str, Any]]:
    answer = await world.client.get(f"/v1/usage{query}")
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows


async def claims(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await world.client.get("/v1/claims")).json()["claims"]
    return found


async def test_usage_sums_each_unit_by_group(world: World) -> None:
    for project in ("a", "a", "b"):
        await world.submit(labels={"project": project})
    await world.submit("[fail] a dove", labels={"project": "b"})
    await world.until(3 * JOB_SECONDS)
    [row] = await usage(world)
    entries = [
        each for task in [*(await world.client.get("/v1/tasks")).json()["tasks"]] for each in task["settlements"]
    ]
    charged = sum(Decimal(each["amount"]) for each in entries if each["verdict"] == "charged")
    assert (row["upstream"], row["unit"], Decimal(row["charged"]), row["submissions"]) == (
        "elkapi",
        "points",
        charged,
        4,
    )
    by_label = await usage(world, "?group=label:project,client")
    assert {(each["label:project"], each["submissions"]) for each in by_label} == {("a", 2), ("b", 2)}
    day = f"{world.clock.now:%Y-%m-%d}"
    assert {each["day"] for each in await usage(world, "?group=day")} == {day}
    later = (world.clock.now + dt.timedelta(days=1)).isoformat().replace("+00:00", "Z")
    assert await usage(world, f"?from={later}") == []


async def test_usage_is_written_as_csv(world: World) -> None:
    await world.submit(labels={"project": "=1+1"})
    await world.until(3 * JOB_SECONDS)
    answer = await world.client.get("/v1/usage?group=label:project&format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    [row] = csv.DictReader(io.StringIO(answer.text))
    assert (row["label:project"], row["unit"]) == ("'=1+1", "points")


@pytest.mark.parametrize(
    "group",
    ["", "price", "label", "label:", "labels", "client:x", "day:,upstream", ":", "client,client", "a,b,c,d,e,f,g"],
)
async def test_unknown_group_is_refused(world: World, group: str) -> None:
    assert (await world.client.get(f"/v1/usage?group={group}&from=2026-01-01T00:00:00Z")).status_code == 422


async def failed_job(world: World) -> Any:
    """Return a failed task of which the provider does not say whether it gave the price back."""
    from sqlalchemy import update

    from service.store.tables import money_entries, tasks

    task = await world.submit("[fail] a dove")
    await world.until(3 * JOB_SECONDS)
    found = await world.task(task)
    assert found.state is State.FAILED
    [entry] = found.settlements
    unsaid = {**entry, "verdict": "probably_charged", "basis": "price", "amount": "75", "gross": "75", "computed": True}
    async with world.context.database.writing() as connection:
        await connection.execute(update(tasks).values(settlements=[unsaid]))
        values = {"verdict": "probably_charged", "basis": "price", "amount": Decimal(75), "gross": Decimal(75)}
        await connection.execute(update(money_entries).values(**values, unit="points", computed=True, usd="0.01"))
    return found


class Account:
    """Answers with a balance."""

    def __init__(self, left: float | None) -> None:
        self.left = left

    async def ask(self, *_: Any) -> Balance:
        return Balance(self.left, "USD")


@pytest.mark.parametrize(("left", "verdict"), [(9.25, "charged"), (10.0, "refunded")], ids=["kept", "given-back"])
async def test_balance_tells_whether_a_failed_job_was_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch, left: float, verdict: str
) -> None:
    account = Account(10.0)
    monkeypatch.setattr(balances.credit, "ask", account.ask)
    for _ in range(2):  # the second reading confirms the first
        assert await balances.run_due(world.context) == 0
    world.clock.forward(1)
    task = await failed_job(world)
    assert [each["verdict"] for each in await claims(world)] == ["probably_charged"]
    account.left = left
    world.clock.forward(300)
    assert await balances.run_due(world.context) == 0
    assert await balances.run_due(world.context) == 1
    [entry] = (await world.task(task)).settlements
    assert (entry["verdict"], entry["basis"]) == (verdict, "balance")
    assert [each["confidence"] for each in await claims(world)] == ([] if verdict == "refunded" else ["medium"])
    assert await balances.run_due(world.context) == await balances.run_due(world.context) == 0


async def test_busy_account_is_not_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.submit("[drop] a dove")
    await world.work()
    monkeypatch.setattr(balances.credit, "ask", None)
    world.clock.forward(300)
    assert await balances.run_due(world.context) == 0


async def test_paid_claim_is_a_refund(world: World) -> None:
    task = await failed_job(world)
    [claim] = await claims(world)
    answer = await world.client.post(
        f"/v1/claims/{claim['submission']}", json={"state": "filed", "note": "ticket 4711"}
    )
    assert (answer.status_code, answer.json()["state"], answer.json()["note"]) == (200, "filed", "ticket 4711")
    answer = await world.client.post(f"/v1/claims/{claim['submission']}", json={"state": "paid"})
    assert answer.status_code == 200
    [entry] = (await world.task(task)).settlements
    assert (entry["verdict"], entry["basis"], entry["change"]) == ("refunded", "operator", "-75")
    assert [event.type for event in await world.events(task)][-1] == "cost_corrected"
    assert await claims(world) == []


async def test_claim_of_no_job_is_not_found(world: World) -> None:
    answer = await world.client.post("/v1/claims/01a1fdfb-6590-78b2-9217-c49a4ce509c0", json={"state": "paid"})
    assert answer.status_code == 404


async def test_log_of_charges_proves_a_refund(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    task = await failed_job(world)
    row = {"kind": "refund", "quota": 416666.0, "task_id": task.external_id, "at": 1.0}
    asked: list[str] = []

    async def log(_: object, upstream: Any, *__: object) -> list[LogRow]:
        asked.append(upstream.name)
        return [LogRow(**{**row, "task_id": "another"}), LogRow(**row)]  # type: ignore[arg-type]

    monkeypatch.setattr(charge_log, "run_exchange", log)
    assert (await charge_log.run_due(world.context), asked) == (0, []), "the setting is off"
    settings = world.context.upstreams["elkapi"].settings
    object.__setattr__(settings, "charge_log", True)
    assert await charge_log.run_due(world.context) == 1
    [entry] = (await world.task(task)).settlements
    assert (entry["verdict"], entry["basis"], entry["amount"], entry["change"]) == ("refunded", "record", "0", "-75")
    assert await claims(world) == []
    world.clock.forward(100)
    assert await charge_log.run_due(world.context) == 0
