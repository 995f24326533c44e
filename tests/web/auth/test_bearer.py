"""Access: every endpoint needs a key, a client sees only its tasks, and without keys only this machine is served."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.domain.api_key import Scope
from service.web.api import ENDPOINTS
from tests.support.cases import case
from tests.support.clients import ALICE, BOB, bearer
from tests.support.contract import CONTRACT
from tests.support.world import TASK_REQUEST, World


@pytest.fixture
async def keyed(database_url: str) -> AsyncIterator[World]:
    async with World.opened(database_url, DOVECOTE_API_KEYS=f"alice={ALICE},bob={BOB}") as world:
        world.client.event_hooks["response"].append(CONTRACT.check)
        yield world


async def test_endpoint_refuses_missing_and_foreign_keys(keyed: World) -> None:
    task = await keyed.client.post("/v1/tasks", json=TASK_REQUEST, headers=bearer(ALICE))
    for endpoint in ENDPOINTS:
        with case(endpoint.name):
            await check_refusals(keyed, endpoint, task.json()["id"])


async def check_refusals(keyed: World, endpoint: Any, task_id: str) -> None:
    path = endpoint.path.replace("{id}", task_id)
    for headers in ({}, bearer("wrong"), {"Authorization": ALICE}, {"Authorization": f"Basic {ALICE}"}, bearer("")):
        answer = await keyed.client.request(endpoint.method, path, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert ALICE not in answer.text
    if "{id}" in endpoint.path:
        answer = await keyed.client.request(endpoint.method, path, headers=bearer(BOB), json={})
        expected = (403, "forbidden") if endpoint.scope is Scope.ADMIN else (404, "not_found")
        assert (answer.status_code, answer.json()["code"]) == expected
        nowhere = endpoint.path.replace("{id}", str(uuid4()))
        assert (
            await keyed.client.request(endpoint.method, nowhere, headers=bearer(BOB), json={})
        ).json() == answer.json()
    assert (await keyed.client.get("/v1/tasks", headers=bearer(BOB))).json() == {"tasks": [], "next": None}
    assert (
        len((await keyed.client.get("/v1/tasks", headers={"authorization": f"bearer  {ALICE}"})).json()["tasks"]) == 1
    )


async def test_key_belongs_to_one_client(keyed: World) -> None:
    ids = set()
    for key in (ALICE, BOB):
        answer = await keyed.client.post(
            "/v1/tasks", json=TASK_REQUEST, headers={**bearer(key), "Idempotency-Key": "same"}
        )
        assert "idempotency-replayed" not in answer.headers
        ids.add(answer.json()["id"])
    assert len(ids) == 2


@pytest.mark.parametrize(
    "host", ["evil.example", "dovecote.test", "localhost.evil.example", "127.0.0.1.evil.example:80", "[::2]:80", ""]
)
async def test_keyless_access_refuses_foreign_host_names(api: httpx.AsyncClient, host: str) -> None:
    for endpoint in ENDPOINTS:
        answer = await api.request(endpoint.method, endpoint.path.replace("{id}", str(uuid4())), headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (421, "misdirected")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "[::1]"])
async def test_loopback_names_are_served(api: httpx.AsyncClient, host: str) -> None:
    assert (await api.get("/v1/tasks", headers={"Host": host})).status_code == 200
