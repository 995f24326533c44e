"""Odd values in forms and in stored callbacks: the page says what is wrong, and is no error of the server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.domain.task import Task
from service.store import submissions
from service.web.dashboard.bodies import body_of
from tests.support.clients import ALICE
from tests.support.pages import OPERATOR, visitor
from tests.support.world import World

DEEP = "[" * 300 + "]" * 300
DEEPER = '{"a":' * 900 + "1" + "}" * 900
PRICE = """
schema = 1
[[price]]
id = "elkapi"
upstream = "elkapi"
unit = "usd"
rate = "75"
checked = 2026-11-27
"""
KEYS = {"DOVECOTE_API_KEYS": f"alice={ALICE},root={OPERATOR}", "DOVECOTE_OPERATORS": "root"}


@pytest.fixture
async def world(sqlite_url: str) -> AsyncIterator[World]:
    async with World.opened(sqlite_url, **KEYS) as opened:
        yield opened


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"options": f'{{"a":{DEEP}}}'}, "nested too deeply"),
        ({"options": DEEPER}, "nested too deeply"),
        ({"options": "{"}, "is no JSON"),
        ({"input.duration": "9" * 40}, "duration"),
        ({"input.duration": "nan"}, "duration"),
        ({"input.duration": DEEP}, "duration"),
        ({"labels": "no equals sign"}, "name=value"),
    ],
    ids=["deep", "deeper", "no JSON", "huge number", "no number", "deep number", "labels"],
)
async def test_odd_value_in_a_submit_is_a_mistake_beside_its_field(
    world: World, fields: dict[str, str], said: str
) -> None:
    form = {"family": "runway", "operation": "text_to_video", "input.prompt": "a dove", **fields}
    async with visitor(world, OPERATOR) as operator:
        page = await operator.post("/ui/submit", **form)
    assert page.status == 422, page.text[:300]
    assert said in page.text


@pytest.mark.parametrize("seed", ["9" * 40, "1e999", "-1e400"])
async def test_number_that_no_database_holds_is_never_an_error_of_the_server(world: World, seed: str) -> None:
    form = {"family": "runway", "operation": "text_to_video", "input.prompt": "a dove", "input.seed": seed}
    async with visitor(world, OPERATOR) as operator:
        page = await operator.post("/ui/submit", **form)
    assert page.status in {200, 422}, page.text[:300]


@pytest.mark.parametrize(
    ("following", "leads_to"),
    [
        ("http://[", "/ui/tasks"),
        ("/ui/tasks?path=1&self=2&query=3", "/ui/tasks"),
        ("/ui/tasks?state=failed&x=y", "/ui/tasks?state=failed"),
        ("https://evil.example/?family=runway", "/ui/tasks?family=runway"),
    ],
)
async def test_act_on_picked_tasks_leads_back_to_a_list_of_ours(world: World, following: str, leads_to: str) -> None:
    task = await world.submit_as("alice")
    async with visitor(world, OPERATOR) as operator:
        page = await operator.post("/ui/tasks/bulk", follow=False, act="refresh", task=str(task.id), next=following)
    assert (page.status, page.response.headers["location"]) == (303, leads_to)


async def bought(world: World) -> tuple[Task, str]:
    """Return a submitted task, and the token of its callbacks."""
    task = await world.submit_as("alice")
    await world.work()
    async with world.context.database.reading() as connection:
        (made,) = (await submissions.of_tasks(connection, [task.id]))[task.id]
    return task, world.context.tokens.make(made.id)


@pytest.mark.parametrize("body", [DEEP, DEEPER, "[" * 5000], ids=["deep", "deeper", "open"])
async def test_callback_of_any_depth_is_shown(world: World, body: str) -> None:
    task, token = await bought(world)
    assert (await world.client.post(f"/callbacks/{token}", content=body)).status_code == 200
    await world.work()
    async with visitor(world, OPERATOR) as operator:
        for address in ("/ui/callbacks", f"/ui/tasks/{task.id}"):
            page = await operator.get(address)
            assert (page.status, body[0] in page.text) == (200, True), page.text[:300]


def test_body_is_indented_as_far_as_it_can_be_walked() -> None:
    assert body_of("", '{"a":[1]}').text == '{\n  "a": [\n    1\n  ]\n}'
    for depth in (100, 200, 253, 254, 255, 300, 1000, 1100):
        assert body_of("", "[" * depth + "]" * depth).text.startswith("[")


async def test_submit_without_room_in_the_budget_says_so(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(PRICE, encoding="utf-8")
    money = {
        "DOVECOTE_MONEY__PRICES_FILE": str(tmp_path / "prices.toml"),
        "DOVECOTE_MONEY__BUDGETS": "month client=root limit=5 period=month",
    }
    form = {"family": "runway", "operation": "text_to_video", "input.prompt": "a dove", "input.duration": "5"}
    async with World.opened(sqlite_url, **KEYS, **money) as world, visitor(world, OPERATOR) as operator:
        page = await operator.post("/ui/submit", **form)
        assert (page.status, "Nothing was bought" in page.text) == (402, True), page.text[:300]
