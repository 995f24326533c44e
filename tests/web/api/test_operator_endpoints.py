"""A key without the scope admin changes no endpoint for operators, also where it is of the same client."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.domain.api_key import ALL, OWN, Scope
from service.flows.webhooks.operator import report_clock
from tests.support.clients import add_key, bearer
from tests.support.pages import visitor
from tests.support.world import World

URL = "http://receiver.test/operators"


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with World.opened(database_url) as opened:
        yield opened


async def endpoint_of(world: World, scope: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """Register an endpoint, and return its path and the headers of an operator and of another key of the same client."""
    operator = bearer(await add_key(world, client="ops", scopes=ALL))
    other = bearer(await add_key(world, client="ops", scopes=OWN))
    made = await world.client.post("/v1/endpoints", json={"url": URL, "scope": scope}, headers=operator)
    assert made.status_code == 201, made.text
    return f"/v1/endpoints/{made.json()['id']}", operator, other


CHANGES: list[tuple[str, str, Any]] = [
    ("PATCH", "", {"url": "http://receiver.test/elsewhere"}),
    ("PATCH", "", {"enabled": False}),
    ("POST", "/rotate", None),
    ("POST", "/test", None),
    ("DELETE", "", None),
]


@pytest.mark.parametrize(("method", "act", "body"), CHANGES, ids=["url", "off", "rotate", "test", "delete"])
async def test_endpoint_for_operators_is_changed_by_operators_only(
    world: World, method: str, act: str, body: Any
) -> None:
    path, operator, other = await endpoint_of(world, "admin")
    refused = await world.client.request(method, path + act, json=body, headers=other)
    assert (refused.status_code, refused.json()["code"], "secret" in refused.text) == (403, "forbidden", False)
    assert (await world.client.get(path, headers=operator)).json()["url"] == URL
    assert (await world.client.request(method, path + act, json=body, headers=operator)).is_success


@pytest.mark.parametrize(("method", "act", "body"), CHANGES, ids=["url", "off", "rotate", "test", "delete"])
async def test_endpoint_of_a_client_is_changed_by_each_of_its_keys(
    world: World, method: str, act: str, body: Any
) -> None:
    path, _, other = await endpoint_of(world, "client")
    assert (await world.client.request(method, path + act, json=body, headers=other)).is_success


async def test_message_to_operators_is_read_by_operators_only(world: World) -> None:
    _, operator, other = await endpoint_of(world, "admin")
    await report_clock(world.context, "jump", 60.0)
    listed = (await world.client.get("/v1/messages", headers=operator)).json()["messages"]
    told = [each["id"] for each in listed if each["type"] == "operator.clock_skew"]
    assert told
    for named in told:
        assert (await world.client.get(f"/v1/messages/{named}", headers=operator)).status_code == 200
        assert (await world.client.get(f"/v1/messages/{named}", headers=other)).status_code == 403
        assert (await world.client.post(f"/v1/messages/{named}/replay", headers=other)).status_code == 403


async def test_pages_change_no_endpoint_for_operators_without_the_scope(world: World) -> None:
    path, _, _ = await endpoint_of(world, "admin")
    named = path.rpartition("/")[2]
    key = await add_key(world, client="ops", scopes=frozenset({Scope.READ, Scope.SUBMIT}))
    async with visitor(world, key) as other:
        for act in ("", "/rotate", "/remove", "/test"):
            page = await other.post(f"/ui/webhooks/endpoints/{named}{act}", enabled="false")
            assert page.status == 403, act
        assert (await other.get(f"/ui/webhooks/endpoints/{named}")).status == 403
