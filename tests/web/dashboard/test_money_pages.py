"""The pages about money: usage, budgets, claims and the money of a task; who sees them, and what operators do there."""

import datetime as dt
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from service.domain.money.quotes import Quote, unknown
from service.store.money.usage import Sum
from service.store.tables import money_entries, tasks
from service.web.dashboard.budgets import row_of
from service.web.dashboard.money import charts_of, round_up
from service.web.dashboard.task_money import booked, offered
from tests.support.clients import ALICE, BOB, submit_as_alice
from tests.support.pages import OPERATOR, inline_code, visitor
from tests.support.prices import prices_file
from tests.support.values import NOW
from tests.support.world import JOB_SECONDS, World


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    prices = prices_file(tmp_path, rate="75", in_usd=True, id="elk-row")
    settings = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB},ops={OPERATOR}", "DOVECOTE_OPERATORS": "ops"}
    async with World.opened(database_url, DOVECOTE_MONEY__PRICES_FILE=str(prices), **settings) as opened:
        yield opened


async def charged_and_not_delivered(world: World) -> None:
    """Leave one failed job of alice's whose price was kept."""
    await submit_as_alice(world, "[fail] a dove")
    await world.until(5 * JOB_SECONDS)
    kept = {"verdict": "charged", "basis": "price", "amount": Decimal(75), "gross": Decimal(75), "unit": "points"}
    async with world.context.database.writing() as connection:
        [stored] = (await connection.execute(select(tasks.c.settlements).where(tasks.c.state == "failed"))).scalars()
        said = [{**stored[0], **kept, "amount": "75", "gross": "75", "computed": True}]
        await connection.execute(update(tasks).where(tasks.c.state == "failed").values(settlements=said))
        failed = money_entries.c.key == stored[0]["key"]
        await connection.execute(update(money_entries).where(failed).values(**kept, computed=True))


async def test_usage_is_shown_by_every_group_and_as_csv(world: World) -> None:
    await submit_as_alice(world, "a dove", labels={"project": "<b>x"})
    await world.until(5 * JOB_SECONDS)
    async with visitor(world, OPERATOR) as ops:
        for by in ("upstream", "family", "model", "client", "day", "label", "nonsense"):
            page = await ops.get(f"/ui/money?by={by}&label=project&period=7d")
            assert page.status == 200
            assert "points" in page.text
            assert inline_code(page) == []
            assert any(each.get("class") == "chart" for each in page.attributes("svg"))
        by_label = await ops.get("/ui/money?by=label&label=project")
        assert "<b>x" in by_label.text, "the value of a label is text"
        table = (await ops.client.get("/ui/money.csv?by=client")).text.splitlines()
    assert table[0].startswith("client,unit,charged,")
    assert table[1].startswith("alice,points,")


async def test_client_sees_its_own_money_only(world: World) -> None:
    await submit_as_alice(world, "a dove")
    await charged_and_not_delivered(world)
    await world.client.put(
        "/v1/budgets/each",
        json={"limit": "900", "unit": "points", "client": "*"},
        headers={"Authorization": f"Bearer {OPERATOR}"},
    )
    await submit_as_alice(world, "a dove")
    await world.work()
    async with visitor(world, BOB) as bob, visitor(world, ALICE) as alice:
        assert "Nothing was booked" in (await bob.get("/ui/money")).text
        assert "alice" not in (await bob.get("/ui/money/budgets")).text
        assert (await bob.client.get("/ui/money.csv?by=client")).text.count("\n") == 1
        assert "points" in (await alice.get("/ui/money?by=client")).text
        budgets = await alice.get("/ui/money/budgets")
        assert "each alice each client by itself" in budgets.text
        assert not budgets.has_button()
        for address in ("/ui/money/claims", "/ui/money/claims.csv"):
            assert (await alice.get(address)).status == 403
        for address, fields in (
            ("/ui/money/budgets", {"name": "x", "limit": "5"}),
            ("/ui/money/budgets/remove", {"name": "each"}),
            ("/ui/money/claims/01a1fdfb-6590-78b2-9217-c49a4ce509c0", {"state": "paid"}),
        ):
            assert (await alice.post(address, **fields)).status == 403


async def test_operator_sets_changes_and_removes_a_budget_without_a_script(world: World) -> None:
    async with visitor(world, OPERATOR) as ops:
        page = await ops.post("/ui/money/budgets", name="shop", limit="150", unit="points", client="alice", soft="70")
        assert page.status == 200
        assert "shop client alice" in page.text
        assert "150 points" in page.text
        await submit_as_alice(world, "a dove")
        await world.work()
        page = await ops.get("/ui/money/budgets?change=shop")
        assert "75 points" in page.text
        assert "50 %" in page.text
        values = {each.get("name"): each.get("value") for each in page.attributes("input")}
        assert (values["limit"], values["client"], values["soft"]) == ("150", "alice", "70")
        page = await ops.post("/ui/money/budgets", name="shop", limit="60", unit="points", client="alice")
        assert "15 over" in page.text
        page = await ops.post("/ui/money/budgets/remove", name="shop")
        assert "No budget is set" in page.text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"name": "a b", "limit": "5"}, "name", id="name"),
        pytest.param({"name": "a", "limit": ""}, "limit", id="no-limit"),
        pytest.param({"name": "a", "limit": "-1"}, "limit", id="negative"),
        pytest.param({"name": "a", "limit": "5", "unit": "<script>"}, "unit", id="unit"),
        pytest.param({"name": "a", "limit": "5", "period": "week"}, "period", id="period"),
        pytest.param({"name": "a", "limit": "5", "soft": "much"}, "soft", id="soft"),
    ],
)
async def test_budget_with_a_mistake_is_shown_with_what_was_typed(
    world: World, fields: dict[str, str], words: str
) -> None:
    async with visitor(world, OPERATOR) as ops:
        page = await ops.post("/ui/money/budgets", **fields)
        assert page.status == 422
        assert "Nothing was changed: 1 field needs attention." in page.text.replace("1 field need ", "1 field needs ")
        values = {each.get("name"): each.get("value") for each in page.attributes("input")}
        assert values["name"] == fields["name"]
        assert words
        assert "No budget is set" in (await ops.get("/ui/money/budgets")).text


async def test_forms_about_money_need_the_token_of_the_session(world: World) -> None:
    async with visitor(world, OPERATOR) as ops:
        for address, fields in (
            ("/ui/money/budgets", {"name": "x", "limit": "5"}),
            ("/ui/money/budgets/remove", {"name": "x"}),
            ("/ui/money/claims/01a1fdfb-6590-78b2-9217-c49a4ce509c0", {"state": "paid"}),
        ):
            assert (await ops.post(address, token="of another", **fields)).status == 403


async def test_claim_is_shown_with_evidence_marked_and_settled(world: World) -> None:
    await charged_and_not_delivered(world)
    async with visitor(world, OPERATOR) as ops:
        page = await ops.get("/ui/money/claims")
        assert "75 points" in page.text
        assert "medium confidence" in page.text
        assert '"ending"' in page.text
        assert inline_code(page) == []
        target = next(
            str(each["action"]) for each in page.attributes("form") if "/money/claims/" in str(each.get("action"))
        )
        page = await ops.post(target, state="filed", note="ticket <4711>")
        assert "ticket <4711>" in page.text
        table = (await ops.client.get("/ui/money/claims.csv")).text
        assert re.search(r"elkapi,.*,75,points,.*filed,ticket <4711>", table)
        assert (await ops.post(target, state="denied")).status == 200
        assert "Nothing to claim" in (await ops.get("/ui/money/claims")).text
        assert "denied" in (await ops.get("/ui/money/claims?show=all")).text
        assert (await ops.post(target, state="won")).status == 422
        assert (await ops.post(target, state="paid")).status == 200
        assert "Nothing to claim" in (await ops.get("/ui/money/claims?show=all")).text
        assert (await ops.post(target, state="paid")).status == 404
        for cursor in ("x", "0", "9" * 30, "-1"):
            assert (await ops.get(f"/ui/money/claims?before={cursor}")).status == 200


async def test_task_page_shows_quote_reservation_and_bookings(world: World) -> None:
    ops_key = {"Authorization": f"Bearer {OPERATOR}"}
    await world.client.put("/v1/budgets/all", json={"limit": "900", "unit": "points"}, headers=ops_key)
    await submit_as_alice(world, "[drop] a dove", max_cost={"amount": "80", "unit": "points"})
    listed = await world.client.get("/v1/tasks", headers={"Authorization": f"Bearer {ALICE}"})
    task = listed.json()["tasks"][0]["id"]
    await world.work()
    async with visitor(world, ALICE) as alice:
        page = await alice.get(f"/ui/tasks/{task}")
        assert "at most 80 points" in page.text
        assert "Reserved 75 points at elkapi" in page.text
        assert "75 points of all" in page.text
        assert "elk-row, read on 2026-11-27: 75 points per job" in page.text
        await world.until(5 * JOB_SECONDS)
        page = await alice.get(f"/ui/tasks/{task}")
        assert "Booked charged" in page.text
        assert "Quoted: at most 75 points" in page.text
        assert "Reserved" not in page.text


def test_quote_without_a_price_is_shown_as_unknown() -> None:
    assert offered(unknown("elkapi"), "").amount == "not known"
    ranged = Quote(upstream="x", bound="upper", low=Decimal(1), expected=Decimal(2), high=Decimal(3), unit="credits")
    assert offered(ranged, "").amount == "1 to 3\N{NO-BREAK SPACE}credits"


def test_correction_is_shown_with_its_change() -> None:
    entry = {
        "key": "cor:x", "kind": "correction", "upstream": "x", "verdict": "refunded", "amount": "0", "unit": "credits", "change": "-5",
        "basis": "record", "reason": None, "quoted_max": None, "booked_at": "2026-11-27T05:00:00.000Z",
    }  # fmt: skip
    shown = booked(entry)
    assert (shown.correction, shown.change, shown.tone, shown.at) == (
        True,
        "-5\N{NO-BREAK SPACE}credits",
        "calm",
        "2026-11-27 05:00:00",
    )


def a_sum(**more: Any) -> Sum:
    plain = {
        "group": (f"{NOW:%Y-%m-%d}",), "unit": "credits", "verdict": "charged", "usd": None, "delivered": True, "computed": False,
        "count": 1, "amount": Decimal("0.05"), "gross": Decimal("0.05"),
    }  # fmt: skip
    return Sum(**{**plain, **more})


def test_each_unit_has_a_chart_of_its_own_the_most_used_first() -> None:
    since = (NOW - dt.timedelta(days=6)).replace(hour=0, minute=0, second=0, microsecond=0)
    sums = [
        a_sum(),
        a_sum(unit="points", count=5, amount=Decimal(7000)),
        a_sum(unit="points", verdict="probably_charged", amount=Decimal(1)),
        a_sum(unit="zero", amount=Decimal(0)),
        a_sum(unit=None),
    ]
    [(first, points), (second, credits_)] = charts_of(sums, since=since, now=NOW)
    assert (first, second) == ("points", "credits")
    assert [bar.tone for bar in points.bars] == ["work", "doubt"]
    assert min(bar.height for bar in points.bars) == 3
    assert len(credits_.bars) == 1
    assert [words for _, words in credits_.lines] == ["0", "0.02", "0.04", "0.06"]
    assert "0.05 in all" in credits_.label


@pytest.mark.parametrize(
    ("value", "highest"),
    [("0", "3"), ("0.000001", "0.0000015"), ("0.05", "0.06"), ("1", "1.5"), ("3", "3"), ("7", "15"), ("16", "30"), ("99", "150")],
)  # fmt: skip
def test_scale_has_round_thirds(value: str, highest: str) -> None:
    assert round_up(Decimal(value)) == Decimal(highest)


@pytest.mark.parametrize(
    ("spent", "held", "tone", "share"),
    [("0", "0", "work", 0), ("40", "45", "doubt", 85), ("100", "0", "bad", 100), ("250", "0", "bad", 100)],
)
def test_budget_is_coloured_by_its_use(spent: str, held: str, tone: str, share: int) -> None:
    row = {
        "budget": "x", "scope": "", "client": None, "label": None, "upstream": None, "limit": "100", "soft": "80", "unit": "USD",
        "spent": spent, "held": held, "left": "0", "overrun": "0", "renews_at": "2026-12-01T00:00:00.000Z", "over": "wait",
        "editable": True,
    }  # fmt: skip
    found = row_of(row)
    assert (found.tone, found.share) == (tone, share)
