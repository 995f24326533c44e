"""Callbacks that are signed by keys which the provider publishes: the keys are fetched, kept, and fetched again when they change."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.domain.task import Source, State
from service.sandbox import Faults, Sandbox
from tests.support.dialects import DIALECTS, example_of
from tests.support.world import World

FIRST, SECOND = (Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number in (1, 2))
URL = "https://keys.test/.well-known/jwks.json"


def key_set(*keys: Ed25519PrivateKey) -> bytes:
    texts = [base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).decode().rstrip("=") for key in keys]
    return json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": text} for text in texts]}).encode()


class KeyHost(httpx.AsyncBaseTransport):
    """The provider's host for its public keys."""

    def __init__(self, body: bytes) -> None:
        self.body, self.status, self.requests = body, 200, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        return httpx.Response(self.status, stream=httpx.ByteStream(self.body), request=request)


@asynccontextmanager
async def opened(url: str, host: KeyHost, **more: str) -> AsyncIterator[World]:
    settings = {
        "DIALECTS": "fal/queue",
        "BASE_URL": f"http://sandbox.test{Sandbox.base_paths()['fal/queue']}",
        "CALLBACK_KEYS_URL": URL,
        **more,
    }
    upstream = {f"DOVECOTE_UPSTREAMS__ELKAPI__{key}": value for key, value in settings.items()}
    async with World.opened(url, faults=Faults.named(("drop",)), **upstream) as world:
        world.edge.hosts["keys.test"] = host
        yield world


async def submitted(world: World) -> tuple[UUID, Callable[[Ed25519PrivateKey], Any]]:
    """Submit a task; return its id, and a function that sends its callback signed by a key."""
    task = await world.submit(**example_of(DIALECTS["fal/queue"]))
    await world.work()
    job = world.sandbox.ledger.jobs[-1]
    path = urlsplit(job.callback_url or "").path
    body = json.dumps({"request_id": job.id, "status": "OK", "payload": {"images": [{"url": "https://f.test/a.png"}]}})

    async def send(key: Ed25519PrivateKey) -> list[Any]:
        at = str(int(world.clock.seconds()))
        message = f"{job.id}\nuser\n{at}\n{hashlib.sha256(body.encode()).hexdigest()}".encode()
        headers = {"request-id": job.id, "user-id": "user", "timestamp": at, "signature": key.sign(message).hex()}
        named = {f"x-fal-webhook-{name}": value for name, value in headers.items()}
        assert (await world.client.post(path, content=body, headers=named)).status_code == 200
        await world.work()
        return [each.decision for each in await world.callbacks(task)]

    return task, send


async def test_keys_are_fetched_once_and_used_for_every_callback(database_url: str) -> None:
    host = KeyHost(key_set(SECOND, FIRST))
    async with opened(database_url, host) as world:
        for _ in range(2):
            task, send = await submitted(world)
            assert await send(FIRST) == ["applied"]
            ended = await world.task(task)
            assert (ended.state, ended.outcome_source) == (State.SUCCEEDED, Source.CALLBACK)
        assert host.requests == 1
        world.clock.forward(25 * 3600)
        _, send = await submitted(world)
        assert await send(FIRST) == ["applied"]
        assert host.requests == 2


async def test_callback_that_no_known_key_has_signed_is_checked_with_the_keys_of_now(sqlite_url: str) -> None:
    host = KeyHost(key_set(FIRST))
    async with opened(sqlite_url, host) as world:
        _, send = await submitted(world)
        assert await send(FIRST) == ["applied"]
        host.body = key_set(SECOND)
        world.clock.forward(120)
        task, send = await submitted(world)
        assert await send(SECOND) == [None]
        world.clock.forward(30)
        await world.work()
        [decision] = [each.decision for each in await world.callbacks(task)]
        assert decision in {"applied", "duplicate"}, "a poll may have been faster"
        assert host.requests == 2


async def test_forged_callbacks_cause_one_request_a_minute(sqlite_url: str) -> None:
    host = KeyHost(key_set(FIRST))
    async with opened(sqlite_url, host) as world:
        task, send = await submitted(world)
        await send(SECOND)
        world.clock.forward(61)
        for _ in range(5):
            await send(SECOND)
            world.clock.forward(5)
        for _ in range(4):
            world.clock.forward(15)
            await world.work()
        assert {each.decision for each in await world.callbacks(task)} == {"forged"}
        assert host.requests <= 3


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, b"busy"), (200, b"<html>"), (200, b'{"keys": []}'), (200, b"[" * 5000), (200, b"x" * 100_000)],
    ids=["503", "html", "no-keys", "nested", "large"],
)
async def test_callback_only_hastens_a_poll_while_the_keys_cannot_be_had(
    sqlite_url: str, status: int, body: bytes
) -> None:
    host = KeyHost(body)
    host.status = status
    async with opened(sqlite_url, host) as world:
        task, send = await submitted(world)
        assert await send(FIRST) == ["hastened"]
        assert (await world.task(task)).outcome_source is not Source.CALLBACK
        assert set(await send(SECOND)) == {"hastened"}
        assert host.requests == 1, "a host in trouble is left alone for a minute"


async def test_last_good_keys_are_used_while_their_host_is_down(sqlite_url: str) -> None:
    host = KeyHost(key_set(FIRST))
    async with opened(sqlite_url, host) as world:
        _, send = await submitted(world)
        await send(FIRST)
        world.clock.forward(30 * 3600)
        host.status = 500
        _, send = await submitted(world)
        assert await send(FIRST) == ["applied"]


async def test_configured_key_is_used_in_place_of_the_published_ones(sqlite_url: str) -> None:
    host = KeyHost(key_set(SECOND))
    async with opened(sqlite_url, host, CALLBACK_KEY=key_set(FIRST).decode()) as world:
        _, send = await submitted(world)
        assert await send(FIRST) == ["applied"]
        assert host.requests == 0
