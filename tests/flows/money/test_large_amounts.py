"""Amounts beyond what a price can be: no request and no answer with one keeps a task from its end."""

from decimal import Decimal
from pathlib import Path

import pytest

from service.domain.money.amounts import LIMIT
from service.domain.task import State
from service.store.money import counters, entries
from tests.support.prices import prices_file
from tests.support.world import JOB_SECONDS, World

SECONDS = 999_999_999
"""The largest number that a field may state."""


def by_second(folder: Path, **fields: str) -> str:
    """Write a price for each of the seconds that a request states."""
    prices = prices_file(folder, rate="999999999", per="second", **fields)
    prices.write_text(prices.read_text("utf-8") + 'quantity = { field = "seconds" }\n', encoding="utf-8")
    return str(prices)


@pytest.mark.parametrize(
    "budget",
    ["", "all period=day limit=1000 unit=points unpriced=allow"],
    ids=["no-budget", "budget-that-allows-unknown-prices"],
)
@pytest.mark.parametrize("prompt", ["a dove", "[fail] a dove"], ids=["success", "failure"])
async def test_request_with_an_enormous_quantity_ends(
    database_url: str, tmp_path: Path, prompt: str, budget: str
) -> None:
    settings = {"DOVECOTE_MONEY__PRICES_FILE": by_second(tmp_path), "DOVECOTE_MONEY__BUDGETS": budget}
    async with World.opened(database_url, **settings) as world:
        answer = await world.client.post(
            "/v1/tasks",
            json={
                "family": "runway",
                "operation": "text_to_video",
                "input": {"prompt": prompt},
                "options": {"seconds": SECONDS},
            },
        )
        assert answer.status_code == 202, answer.text
        await world.until(5 * JOB_SECONDS)
        found = (await world.client.get(f"/v1/tasks/{answer.json()['id']}")).json()
        assert found["state"] == (State.SUCCEEDED if prompt == "a dove" else State.FAILED)


async def test_counter_beyond_every_limit_is_stored_as_the_largest(database_url: str) -> None:
    key = ("all", "", "2026-11")
    async with World.opened(database_url) as world:
        async with world.context.database.writing() as connection:
            [counter] = (await counters.lock(connection, {key: "points"})).values()
            counter.spent = Decimal(10) ** 12
            await counters.save(connection, {key: counter})
        async with world.context.database.reading() as connection:
            assert (await counters.read(connection, [key]))[key].spent > LIMIT


async def test_entries_with_high_numbers_are_removed_too(database_url: str) -> None:
    async with World.opened(database_url) as world, world.context.database.writing() as connection:
        after = (world.clock.now, 2**40)
        found = await entries.remove_old(connection, before=world.clock.now, after=after, most=10)
        assert found == (0, 0, after)
