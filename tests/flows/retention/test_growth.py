"""Every table has a bound: rows go with a task, by a setting, after a fixed time, or there is one for each of a few names."""

import datetime as dt
from decimal import Decimal

import pytest
from sqlalchemy import select

from service.flows.retention import sweep as retention
from service.store import tables
from service.store.money import usage
from service.store.tables import metadata
from tests.support.retention import DAY, ended, keep, newest, sweep
from tests.support.world import World

BY_AGE = {
    "tasks": "tasks",
    "callbacks": "callbacks",
    "webhook_messages": "messages",
    "events": "events",
    "ledger_entries": "ledger",
    "money_entries": "ledger",
    "claims": "ledger",
}
"""Tables whose rows go by a setting of retention, with its name."""
BY_THEIR_OWN_RULE = {
    "assets": "goes when its task or its results go, and its file is deleted",
    "balances": "two for each upstream",
    "budget_counters": "goes two months after its period",
    "operator_occurrences": "goes when the state that it reports ends",
    "label_sums": "goes after 1,100 days",
    "money_sums": "goes after 1,100 days",
    "submission_sums": "goes after 1,100 days",
    "sum_changes": "goes when its period is summed again, or after 1,100 days",
    "sum_periods": "goes after 1,100 days",
    "processes": "goes when the process was not seen for a while",
    "uploads": "expires",
}
BY_NAMES = {
    "api_keys": "keys that an operator creates",
    "budgets": "budgets that an operator sets",
    "circuits": "upstreams and dialects",
    "feeds": "clients",
    "held_upstreams": "upstreams",
    "leases": "journeys",
    "secrets": "purposes",
    "served_clients": "upstreams and clients",
    "sum_watches": "subjects",
    "upstreams": "upstreams",
    "webhook_endpoints": "endpoints that clients create, up to a limit",
    "webhook_secrets": "clients",
}


def goes_with_its_parent(name: str) -> bool:
    """Return whether rows are deleted with a row of a table that has a bound."""
    return any(
        key.ondelete == "CASCADE" and (key.column.table.name in BY_AGE or goes_with_its_parent(key.column.table.name))
        for key in metadata.tables[name].foreign_keys
    )


def test_every_table_has_a_bound() -> None:
    named = BY_AGE.keys() | BY_THEIR_OWN_RULE.keys() | BY_NAMES.keys()
    assert named <= metadata.tables.keys()
    without = [name for name in metadata.tables if name not in named and not goes_with_its_parent(name)]
    assert not without, "say what removes their rows"


async def test_claim_goes_with_the_entries_of_its_submission(world: World) -> None:
    old = await ended(world)
    world.clock.forward(10 * DAY)
    young = await newest(world)
    marked = [(await world.submissions(task))[0].id for task in (old, young)]
    async with world.context.database.writing() as connection:
        for each in marked:
            await usage.mark(connection, each, state="filed", note="by mail", at=world.clock())
    keep(world, tasks="1d", ledger="5d")
    await sweep(world)
    async with world.context.database.reading() as connection:
        left = list(await connection.scalars(select(tables.claims.c.submission_id)))
    assert left == [marked[1]]


@pytest.mark.parametrize("most", [1, 500])
async def test_counters_of_budgets_go_two_months_after_their_period(
    world: World, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(retention, "MAX_COUNTERS", most)
    world.clock.now = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)
    counters = {
        "2025-12": 0,
        "2026-08": 0,
        "2026-08-31": 0,
        "2026-08-30": 5,  # something is still held of it
        "2026-09": 0,
        "2026-09-01": 0,
        "2026-11": 0,
        "2026-11-27": 7,
    }
    rows = [
        {"budget": "all", "scope": "", "period": period, "unit": "usd", "held": Decimal(held), "spent": Decimal(1)}
        for period, held in counters.items()
    ]
    async with world.context.database.writing() as connection:
        await connection.execute(tables.budget_counters.insert(), [{**row, "soft_noted": False} for row in rows])
    await sweep(world)
    async with world.context.database.reading() as connection:
        left = set(await connection.scalars(select(tables.budget_counters.c.period)))
    assert left == counters.keys() - {"2025-12", "2026-08", "2026-08-31"}
