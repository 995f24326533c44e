"""Budgets that operators set: every process follows, amounts stay, and those of the settings cannot be changed."""

from pathlib import Path
from typing import Any

import pytest

from service.domain.money.budgets import Budget, budget_of
from tests.support.clients import ALICE, BOB
from tests.support.pages import OPERATOR
from tests.support.prices import prices_file
from tests.support.world import JOB_SECONDS, TASK_REQUEST, World

OF_ONE = {"limit": "75", "unit": "points"}


def opened(url: str, folder: Path, **more: str) -> Any:
    prices = prices_file(folder, rate="75")
    return World.opened(url, DOVECOTE_MONEY__PRICES_FILE=str(prices), **more)


async def rows(world: World, **headers: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await world.client.get("/v1/budgets", headers=headers)).json()["budgets"]
    return found


async def test_budget_bounds_the_next_submit_of_every_process(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as first, opened(database_url, tmp_path) as second:
        assert await rows(second) == []
        answer = await first.client.put("/v1/budgets/all", json=OF_ONE)
        assert answer.status_code == 200, answer.text
        [row] = answer.json()["budgets"]
        assert (row["budget"], row["left"], row["every"], row["editable"]) == ("all", "75", "month", True)
        tasks = [await second.submit("a dove", callback_url=None) for _ in range(2)]
        await second.work()
        assert len(second.sandbox.ledger.jobs) == 1
        assert [row["held"] for row in await rows(first)] == ["75"]
        codes = {(found := await second.task(each)).failure and found.failure.code for each in tasks}
        assert codes == {None, "budget_exceeded"}


async def test_changed_limit_keeps_what_is_spent_and_removed_budget_bounds_nothing(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(database_url, tmp_path) as world:
        await world.client.put("/v1/budgets/all", json=OF_ONE)
        await world.submit("a dove", callback_url=None)
        await world.until(4 * JOB_SECONDS)
        [before] = await rows(world)
        assert float(before["spent"]) > 0
        await world.client.put("/v1/budgets/all", json={**OF_ONE, "limit": "500"})
        [after] = await rows(world)
        assert (after["spent"], after["limit"]) == (before["spent"], "500")
        await world.client.put("/v1/budgets/all", json={**OF_ONE, "limit": "1"})
        assert (await world.client.post("/v1/tasks", json=TASK_REQUEST)).status_code == 402
        assert (await world.client.delete("/v1/budgets/all")).status_code == 200
        assert (await world.client.post("/v1/tasks", json=TASK_REQUEST)).status_code == 202
        assert (await world.client.delete("/v1/budgets/all")).status_code == 404


async def test_hold_of_a_removed_budget_is_released_when_the_task_ends(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as world:
        await world.client.put("/v1/budgets/all", json=OF_ONE)
        await world.submit("a dove", callback_url=None)
        await world.work()
        await world.client.delete("/v1/budgets/all")
        await world.until(4 * JOB_SECONDS)
        await world.client.put("/v1/budgets/all", json=OF_ONE)
        [row] = await rows(world)
        assert row["held"] == "0"
        assert float(row["spent"]) > 0, "what was bought in the period still counts"


async def test_task_that_waits_is_submitted_after_the_budget_grew(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as world:
        await world.client.put("/v1/budgets/all", json={**OF_ONE, "over": "wait"})
        for _ in range(2):
            await world.submit("[stuck] a dove", callback_url=None)
        await world.work()
        assert len(world.sandbox.ledger.jobs) == 1
        await world.client.put("/v1/budgets/all", json={**OF_ONE, "over": "wait", "limit": "150"})
        await world.pass_time(61)
        assert len(world.sandbox.ledger.jobs) == 2


async def test_budget_of_the_settings_cannot_be_changed(sqlite_url: str, tmp_path: Path) -> None:
    async with opened(sqlite_url, tmp_path, DOVECOTE_MONEY__BUDGETS="all limit=5") as world:
        for answer in (
            await world.client.put("/v1/budgets/all", json=OF_ONE),
            await world.client.delete("/v1/budgets/all"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (409, "budget_fixed")
        [row] = await rows(world)
        assert (row["limit"], row["editable"]) == ("5", False)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"limit": 5},
        {"limit": "-5"},
        {"limit": "1e9"},
        {"limit": "5", "unit": "9"},
        {"limit": "5", "period": "week"},
        {"limit": "5", "client": ""},
        {"limit": "5", "label": "=x"},
        {"limit": "5", "colour": "red"},
        {"limit": "5", "soft": "much"},
    ],
    ids=str,
)
async def test_budget_with_a_mistake_is_refused(sqlite_url: str, tmp_path: Path, document: dict[str, Any]) -> None:
    async with opened(sqlite_url, tmp_path) as world:
        assert (await world.client.put("/v1/budgets/all", json=document)).status_code == 422
        assert (await world.client.put("/v1/budgets/a b", json={"limit": "5"})).status_code == 422
        assert await rows(world) == []


async def test_only_operators_set_budgets_and_clients_see_their_own(database_url: str, tmp_path: Path) -> None:
    keys = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB},ops={OPERATOR}", "DOVECOTE_OPERATORS": "ops"}
    async with opened(database_url, tmp_path, **keys) as world:
        alice, ops = ({"Authorization": f"Bearer {key}"} for key in (ALICE, OPERATOR))
        for name, client in (("each", "*"), ("bobs", "bob"), ("all", None)):
            document = {"limit": "900", "unit": "points", "client": client}
            answer = await world.client.put(f"/v1/budgets/{name}", json=document, headers=alice)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert (await world.client.put(f"/v1/budgets/{name}", json=document, headers=ops)).status_code == 200
        assert (await world.client.delete("/v1/budgets/each", headers=alice)).status_code == 403
        for key in (ALICE, BOB):
            bearer = {"Authorization": f"Bearer {key}"}
            assert (await world.client.post("/v1/tasks", json=TASK_REQUEST, headers=bearer)).status_code == 202
        await world.work()
        assert [(row["budget"], row["scope"]) for row in await rows(world, **alice)] == [("each", "alice")]
        assert {(row["budget"], row["scope"]) for row in await rows(world, **ops)} == {
            ("each", "alice"),
            ("each", "bob"),
            ("bobs", ""),
            ("all", ""),
        }


def test_scopes_of_names_with_slashes_are_never_the_same() -> None:
    budget = budget_of("each", {"limit": "5", "client": "*", "label": "project"})
    scopes = [budget.scope("a", {"project": "b/c"}, "x"), budget.scope("a/b", {"project": "c"}, "x")]
    assert len(set(scopes)) == 2
    assert [budget.is_of("a", str(scope)) for scope in scopes] == [True, False]
    assert [budget.is_of("a/b", str(scope)) for scope in scopes] == [False, True]


def test_fields_of_a_budget_are_kept() -> None:
    budget = budget_of(
        "x", {"limit": "5.5", "soft": "0", "client": "a b", "label": "p=q", "over": "wait", "period": "day"}
    )
    assert isinstance(budget, Budget)
    assert budget_of("x", budget.as_json()) == budget
