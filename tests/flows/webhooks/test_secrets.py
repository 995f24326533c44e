"""Each client has its own webhook secret. Only its key reads it, it signs only its messages, and it can be rotated."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from service.domain.webhook_secret import MAX_OVERLAP, derive_secret
from tests.support.clients import ALICE, BOB, bearer
from tests.support.contract import CONTRACT
from tests.support.world import INSTALLATION_SECRET, JOB_SECONDS, TASK_REQUEST, World


@pytest.fixture
async def keyed(database_url: str) -> AsyncIterator[World]:
    async with World.opened(database_url, DOVECOTE_API_KEYS=f"alice={ALICE},bob={BOB}") as world:
        world.client.event_hooks["response"].append(CONTRACT.check)
        yield world


async def secret_of(world: World, key: str) -> dict[str, Any]:
    answer = await world.client.get("/v1/webhook-secret", headers=bearer(key))
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def rotate(world: World, key: str, **body: Any) -> httpx.Response:
    return await world.client.post("/v1/webhook-secret/rotate", headers=bearer(key), json=body)


async def nothing() -> AsyncIterator[bytes]:
    yield b""


async def message_to(world: World, key: str) -> httpx.Request:
    """Return the request that announces the end of a task to a client."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, content=nothing())

    world.edge.hosts["client.test"] = httpx.MockTransport(answer)
    document = {**TASK_REQUEST, "callback_url": "http://client.test/"}
    assert (await world.client.post("/v1/tasks", json=document, headers=bearer(key))).status_code == 202
    await world.until(JOB_SECONDS * 3)
    [request] = requests
    return request


def verifies(request: httpx.Request, secret: str) -> bool:
    try:
        Webhook(secret).verify(request.content, dict(request.headers))
    except WebhookVerificationError:
        return False
    return True


async def test_message_is_signed_by_the_secret_of_its_client_only(keyed: World) -> None:
    alice, bob = [(await secret_of(keyed, key))["secret"] for key in (ALICE, BOB)]
    assert alice != bob
    for key, own, other in ((ALICE, alice, bob), (BOB, bob, alice)):
        request = await message_to(keyed, key)
        assert verifies(request, own)
        assert not verifies(request, other)
        assert not verifies(request, INSTALLATION_SECRET)


async def test_both_secrets_sign_during_the_overlap(keyed: World) -> None:
    before = (await secret_of(keyed, ALICE))["secret"]
    bob = await secret_of(keyed, BOB)
    rotated = (await rotate(keyed, ALICE, overlap=90)).json()
    assert rotated["secret"] != before
    assert rotated == await secret_of(keyed, ALICE)
    assert await secret_of(keyed, BOB) == bob
    request = await message_to(keyed, ALICE)
    assert (verifies(request, before), verifies(request, rotated["secret"])) == (True, True)
    keyed.clock.forward(90)
    assert (await secret_of(keyed, ALICE))["previous_secret_until"] is None
    request = await message_to(keyed, ALICE)
    assert (verifies(request, before), verifies(request, rotated["secret"])) == (False, True)


async def test_rotation_without_an_overlap_ends_the_previous_secret_at_once(keyed: World) -> None:
    before = (await secret_of(keyed, ALICE))["secret"]
    first = (await rotate(keyed, ALICE)).json()
    assert first["previous_secret_until"] is not None
    second = (await rotate(keyed, ALICE, overlap=0)).json()
    assert second["previous_secret_until"] is None
    request = await message_to(keyed, ALICE)
    assert [verifies(request, each) for each in (before, first["secret"], second["secret"])] == [False, False, True]


@pytest.mark.parametrize(
    "body", [{"overlap": -1}, {"overlap": MAX_OVERLAP + 1}, {"overlap": 1.5}, {"overlap": "1"}, {"x": 1}, []]
)
async def test_invalid_rotation_is_refused(sqlite_url: str, body: Any) -> None:
    async with World.opened(sqlite_url) as world:
        before = (await world.client.get("/v1/webhook-secret")).json()
        answer = await world.client.post("/v1/webhook-secret/rotate", json=body)
        assert (answer.status_code, (await world.client.get("/v1/webhook-secret")).json()) == (422, before)


@given(st.text(min_size=1), st.text(min_size=1), st.integers(1, 9), st.integers(1, 9))
def test_secrets_of_clients_and_versions_differ(client: str, other: str, version: int, following: int) -> None:
    secret = derive_secret(INSTALLATION_SECRET, client, version)
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    same = (client, version) == (other, following)
    assert (secret == derive_secret(INSTALLATION_SECRET, other, following)) == same
    assert secret != derive_secret(INSTALLATION_SECRET + "x", client, version)
