"""Account balances: one process queries them; they are stored, shown, and warned about once; no key is disclosed."""

import asyncio
import contextlib
import dataclasses
import logging
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from service.flows.upstreams import credit
from service.http.client import Http
from service.http.ssrf.guard import Guard
from service.http.ssrf.policy import Rules
from service.providers.capabilities import CanTellBalance
from service.sandbox.account import QUERY_KEY
from service.worker import working
from tests.support.breakage import Server, answering, close_at_once, nowhere, request_of, reset
from tests.support.dialects import DIALECTS, world_of
from tests.support.operators import listen, reported
from tests.support.waiting import LIMIT
from tests.support.world import World, settings_for

QUOTA = "GET /user/quota"
GATEWAY = {
    "DOVECOTE_UPSTREAMS__ELKAPI__QUERY_URL": "http://query.test",
    "DOVECOTE_UPSTREAMS__ELKAPI__QUERY_KEY": QUERY_KEY,
}
OTHERS = {
    "RUNWAYML_API_SECRET": "sandbox-key",
    "DOVECOTE_UPSTREAMS__RUNWAYML__BASE_URL": "http://sandbox.test",
    "SUNOAPI_KEY": "sandbox-key",
    "DOVECOTE_UPSTREAMS__SUNOAPI__BASE_URL": "http://sandbox.test",
}


@contextlib.asynccontextmanager
async def world_with(url: str, **more: str) -> AsyncIterator[World]:
    async with World.opened(url, **more) as world:
        world.edge.hosts["query.test"] = world.edge.hosts["sandbox.test"]
        yield world


async def shown(world: World) -> dict[str, Any]:
    """Return the credit of each upstream as clients see it."""
    listed = (await world.client.get("/v1/upstreams")).json()["upstreams"]
    return {each["name"]: each["credit"] for each in listed}


def summary(credit_: dict[str, Any]) -> tuple[Any, ...]:
    return credit_["left"], credit_["unit"], credit_["low"], credit_["error"]


async def test_credit_is_read_from_every_kind_of_upstream(database_url: str) -> None:
    async with world_with(database_url, **GATEWAY, **OTHERS) as world:
        assert set((await shown(world)).values()) == {None}
        assert await credit.ask_due(world.context) == 3
        left = {name: summary(each) for name, each in (await shown(world)).items()}
        assert left == {
            "elkapi": (500.0, "USD", False, None),
            "runwayml": (100_000.0, "credits", False, None),
            "sunoapi": (1000.0, "credits", False, None),
        }
        await world.submit(upstream="runwayml", operation="text_to_video")
        await world.work()
        world.clock.forward(credit.EVERY)
        await credit.ask_due(world.context)
        assert summary((await shown(world))["runwayml"])[0] == 99_975.0


async def test_credit_is_not_requested_without_a_query_key(database_url: str) -> None:
    async with world_with(database_url) as world:
        assert await credit.ask_due(world.context) == 0
        assert (await shown(world)) == {"elkapi": None}
        assert world.edge.requests == []


async def test_billing_routes_are_used_when_configured(database_url: str) -> None:
    async with world_with(database_url, DOVECOTE_UPSTREAMS__ELKAPI__BILLING="true") as world:
        await credit.ask_due(world.context)
        assert summary((await shown(world))["elkapi"]) == (500.0, "USD", False, None)


async def test_balance_host_receives_the_query_key_only(database_url: str) -> None:
    async with world_with(database_url, **GATEWAY) as world:
        await credit.ask_due(world.context)
        [request] = world.edge.requests
        assert (request.url.host, str(request.url)) == ("query.test", "http://query.test/user/quota")
        assert "authorization" not in request.headers
        assert QUERY_KEY not in repr(request) + str(request.headers)


async def test_one_process_requests_credit(database_url: str) -> None:
    async with world_with(database_url, **GATEWAY) as world:
        asked = await asyncio.gather(*(credit.ask_due(world.context) for _ in range(5)))
        assert sorted(asked) == [0, 0, 0, 0, 1]
        world.clock.forward(credit.EVERY / 2)
        assert await credit.ask_due(world.context) == 0
        assert await credit.ask_due(world.context, after=credit.AT_START) == 1
        world.clock.forward(credit.EVERY)
        assert await credit.ask_due(world.context) == 1
        assert world.sandbox.ledger.requests[QUOTA] == 3


async def test_low_credit_is_logged_once_per_drop(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    more = {"DOVECOTE_UPSTREAMS__RUNWAYML__LOW_CREDIT": "99990"}
    async with world_with(database_url, **OTHERS, **more) as world:
        seen = []
        for spend in (False, True, False):
            if spend:
                await world.submit(upstream="runwayml")
                await world.work()
            await credit.ask_due(world.context)
            world.clock.forward(credit.EVERY)
            low = summary((await shown(world))["runwayml"])[2]
            seen.append((low, sum("credit is low" in line for line in caplog.messages)))
        assert seen == [(False, 0), (True, 1), (True, 1)]
        world.sandbox.ledger.clear()
        await credit.ask_due(world.context)
        await world.submit(upstream="runwayml")
        await world.work()
        world.clock.forward(credit.EVERY)
        await credit.ask_due(world.context)
        assert [line for line in caplog.messages if "credit is low" in line][1:] == [
            "credit is low upstream=runwayml left=99975 unit=credits"
        ]


async def test_known_credit_is_kept_while_requests_fail(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with world_with(database_url, **GATEWAY) as world:
        await credit.ask_due(world.context)
        world.edge.down.add("query.test")
        for _ in range(2):
            world.clock.forward(credit.EVERY)
            await credit.ask_due(world.context)
        left, unit, _, error = summary((await shown(world))["elkapi"])
        assert (left, unit) == (500.0, "USD")
        assert "no connection" in error
        assert "query.test" not in error
        assert sum("credit not reported" in line for line in caplog.messages) == 1
        world.edge.down.clear()
        world.clock.forward(credit.EVERY)
        await credit.ask_due(world.context)
        assert summary((await shown(world))["elkapi"])[3] is None


async def test_worker_requests_credit_at_start_without_blocking(database_url: str) -> None:
    async with world_with(database_url, **GATEWAY) as world, working(world.context), asyncio.timeout(LIMIT):
        while world.sandbox.ledger.requests[QUOTA] == 0:  # noqa: ASYNC110 - the sandbox tells no event
            await asyncio.sleep(0.01)
        while (await shown(world))["elkapi"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# ── no key is ever told ────────────────────────────────────────────────────────────────────────────────────────────

CANARY = "canary/query+key=7"
QUOTED = "canary%2Fquery%2Bkey%3D7"
ECHO = b"HTTP/1.1 401 No\r\nContent-Type: text/html\r\n\r\nno such key: " + CANARY.encode() + b" in /user/quota?key="
MOVED = b"HTTP/1.1 301 Moved\r\nLocation: https://other.example/user/quota?key=" + QUOTED.encode()
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"


async def echo_in_json(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse, and repeat the first line of the request as proxies do."""
    asked = (await request_of(reader)).split(b"\r\n")[0]
    body = b'{"error":{"message":"cannot ' + asked + b'"}}'
    writer.write(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


BREAKAGE = {
    "echo": answering(ECHO + QUOTED.encode()),
    "echo in JSON": echo_in_json,
    "redirect": answering(MOVED + b"\r\nContent-Length: 0\r\n\r\n"),
    "not HTTP": answering(b"220 " + CANARY.encode() + b"\r\n"),
    "half an answer": answering(HALF),
    "a header that cannot be": answering(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"),
    "cookie": answering(b"HTTP/1.1 200 OK\r\nSet-Cookie: " + CANARY.encode() + b"\r\nContent-Length: 0\r\n\r\n"),
    "close": close_at_once,
    "reset": answering(then=reset),
    "no gzip": answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
}
NOWHERE = ["refused", "unresolvable", "no possible name", "no such scheme", "TLS with a plain server", "TLS cut short"]


def assert_silent(words: str) -> None:
    for secret in (CANARY, QUOTED, "canary", "sandbox-key"):
        assert secret not in words, words


@pytest.mark.parametrize("how", [*BREAKAGE, *NOWHERE])
async def test_query_key_is_not_leaked(
    sqlite_url: str, how: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """After any fault and with every logger at its lowest level, the key is in no log, text, row or exception."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "aiohttp", "aiohttp.client", "asyncio", "dovecote"):
        caplog.set_level(logging.DEBUG, logger=name)
    seen: list[bytes] = []
    async with contextlib.AsyncExitStack() as stack:
        if how in BREAKAGE:

            async def watched(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await BREAKAGE[how](_Tap(reader, seen), writer)  # type: ignore[arg-type]

            url = (await stack.enter_async_context(Server.running(watched))).url
        else:
            url = await stack.enter_async_context(nowhere(how))
        world = await stack.enter_async_context(World.opened(sqlite_url))
        context = world.context
        context.settings = settings_for(sqlite_url)
        asking = {
            "query_url": url,
            "query_key": SecretStr(CANARY),
        }  # the settings themselves would refuse some of these
        elkapi = context.settings.upstreams["elkapi"].model_copy(update=asking)
        context.upstreams = {"elkapi": dataclasses.replace(context.upstreams["elkapi"], settings=elkapi)}
        context.http = Http.real(Guard(Rules(private=True)))
        await credit.ask_due(context)
        [kept] = (await world.client.get("/v1/upstreams")).json()["upstreams"]
        assert kept["credit"]["error"]
        assert_silent(str(kept))
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whichever it is, it keeps the secret
            await credit.ask(context, context.upstreams["elkapi"])
        assert_silent("".join(traceback.format_exception(caught.value)))
        assert_silent(everything(caught.value))
        await context.http.close()
        await asyncio.sleep(0)
    if how in BREAKAGE and how != "close":
        assert QUOTED.encode() in b"".join(seen), "it was asked with the key"
    assert_silent(caplog.text + "".join(map(str, (record.args for record in caplog.records))))
    assert_silent("".join(capsys.readouterr()))
    for path in Path(sqlite_url.removeprefix("sqlite:///")).parent.iterdir():
        assert CANARY.encode() not in path.read_bytes()
        assert QUOTED.encode() not in path.read_bytes()


class _Tap:
    """A reader that keeps the data that it reads."""

    def __init__(self, reader: asyncio.StreamReader, seen: list[bytes]) -> None:
        self._reader, self._seen = reader, seen

    async def readuntil(self, separator: bytes) -> bytes:
        self._seen.append(await self._reader.readuntil(separator))
        return self._seen[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def everything(error: BaseException | None, depth: int = 0) -> str:
    """Return the text of an exception, its request, and all its causes."""
    if error is None or depth > 10:
        return ""
    request = getattr(error, "_request", None)
    parts = [repr(error), str(error), repr(vars(error)), repr(request), str(getattr(request, "url", ""))]
    return "".join(parts) + everything(error.__cause__, depth + 1) + everything(error.__context__, depth + 1)


async def test_secret_query_keeps_the_class_of_network_errors() -> None:
    http = Http.real(Guard(Rules(private=True)))
    try:
        async with nowhere("refused") as url:
            with pytest.raises(httpx.ConnectError):
                await http.questions.get(url, extensions={"dovecote.query": "key=s"})
        async with Server.running(answering(then=reset)) as server:
            with pytest.raises(httpx.ReadError):
                await http.questions.get(server.url, extensions={"dovecote.query": "key=s"})
    finally:
        await http.close()


async def test_low_credit_is_reported_once_until_it_was_enough(database_url: str) -> None:
    more = {"DOVECOTE_UPSTREAMS__RUNWAYML__LOW_CREDIT": "99990"}
    async with world_with(database_url, **OTHERS, **more) as world:
        await listen(world)
        await world.submit(upstream="runwayml")
        await world.work()
        for _ in range(3):
            await credit.ask_due(world.context)
            world.clock.forward(credit.EVERY)
        low = [each["data"] for each in await reported(world)]
        assert low == [{"upstream": "runwayml", "credit": 99975.0, "unit": "credits", "limit": 99990.0}]
        world.sandbox.ledger.clear()
        await credit.ask_due(world.context)
        await world.submit(upstream="runwayml")
        await world.work()
        world.clock.forward(credit.EVERY)
        await credit.ask_due(world.context)
        assert len(await reported(world)) == 2


@pytest.mark.parametrize("name", [name for name, dialect in DIALECTS.items() if isinstance(dialect, CanTellBalance)])
async def test_sandbox_tells_the_credit_of_every_dialect_that_asks_for_it(sqlite_url: str, name: str) -> None:
    async with world_of(name, sqlite_url) as world:
        [upstream] = world.context.upstreams.values()
        balance = await credit.ask(world.context, upstream)
        assert balance is not None
        assert balance.left is None or balance.left > 0
