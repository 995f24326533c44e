"""Every case of delivery over real sockets. docs/webhooks.md lists the outcome for the message and the endpoint."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import email.utils
import errno
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from service.domain.task import State
from service.flows.concurrency import TaskPool
from service.flows.webhooks import dispatch
from service.flows.webhooks.enqueue import endpoint_destination
from service.http.client import Http
from service.http.ssrf.guard import Guard
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import endpoints
from service.store.webhooks import messages as message_store
from service.store.webhooks.attempts import Delivery
from service.store.webhooks.endpoints import Endpoint
from service.store.webhooks.messages import Message
from tests.support.breakage import Handle, Server, answering, hang, nowhere, reset
from tests.support.values import a_message, a_task, keep, new_id
from tests.support.waiting import LIMIT
from tests.support.world import World

PAGE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text(encoding="utf-8")
ATTEMPT_SECONDS = 0.8
"""Seconds that an attempt may take here."""


def decisions() -> dict[str, tuple[str, str]]:
    """Return the table of the page: the outcome for the message and the endpoint, by the receiver's behaviour."""
    table = PAGE.partition("| the receiver | the message | the endpoint |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "`" in line]
    return {case.strip("`"): (message, endpoint) for case, message, endpoint in rows}


DECISIONS = decisions()


def status(line: str, *headers: str, body: bytes = b"said") -> bytes:
    head = [f"HTTP/1.1 {line}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


async def talk_without_end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        await writer.drain()


def dripping(piece: bytes) -> Handle:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)

    return drip


def in_half_an_hour() -> str:
    return email.utils.format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1800), usegmt=True)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
SERVERS: dict[str, Callable[[], Handle]] = {
    "2xx": lambda: answering(status("201 Created")),
    "2xx, then a body without end": lambda: answering(CHUNKED, then=talk_without_end),
    "2xx, then a body byte by byte": lambda: answering(LONG, then=dripping(b"x")),
    "2xx, then a reset": lambda: answering(LONG + b"sa", then=reset),
    "3xx": lambda: answering(status("307 Temporary Redirect", "Location: http://127.0.0.1:1/")),
    "4xx": lambda: answering(status("404 Not Found")),
    "410": lambda: answering(status("410 Gone")),
    "429 with Retry-After": lambda: answering(status("429 Too Many Requests", "Retry-After: 1800")),
    "5xx": lambda: answering(status("500 Internal Server Error")),
    "503 with a date in Retry-After": lambda: answering(status("503 No", f"Retry-After: {in_half_an_hour()}")),
    "no answer in time": lambda: answering(then=hang),
    "2xx, then headers byte by byte": lambda: answering(b"HTTP/1.1 200 OK\r\n", then=dripping(b"X-More: yes\r\n")),
    "a reset": lambda: answering(then=reset),
}
PLACES = {
    "nobody listens": "refused",
    "a TLS error": "TLS with a plain server",
    "no such name": "unresolvable",
    "a name that cannot be one": "no possible name",
}
GUARDED = "an address that is not public"
STATUSES = {"2xx": 201, "3xx": 307, "4xx": 404, "410": 410, "429": 429, "5xx": 500, "503": 503}
STATES = {"delivered": "delivered", "tried again": "pending", "discarded": "discarded"}


@contextlib.asynccontextmanager
async def receiver(case: str) -> AsyncIterator[tuple[str, Server | None]]:
    """Open a receiver with the behaviour that the table names, or return a URL without a receiver."""
    if case in PLACES:
        async with nowhere(PLACES[case]) as url:
            yield url, None
    else:
        handle = SERVERS[case]() if case in SERVERS else answering(status("200 OK"))
        async with Server.running(handle) as server:
            yield server.url, server


@contextlib.asynccontextmanager
async def outgoing(sqlite_url: str, *, allow: bool, **settings: str) -> AsyncIterator[World]:
    """Open a world whose messages leave over real connections."""
    more = {"DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": str(allow), "DOVECOTE_ALLOW_HTTP_WEBHOOKS": "true", **settings}
    async with World.opened(sqlite_url, **more) as world:
        http = Http.real(Guard(world.context.settings.webhook_rules))
        world.context.http = dataclasses.replace(world.context.http, messages=http.messages)
        yield world
        await http.close()


async def sent(world: World, url: str, *, registered: bool) -> tuple[Message, list[Delivery], Endpoint | None]:
    """Enqueue one message for a callback_url or an endpoint, try to deliver it once, and return the stored state."""
    task, now = a_task(state=State.SUCCEEDED), world.clock()
    endpoint = Endpoint(id=new_id(), client="default", url=url, secret="whsec_QUFB", created_at=now, updated_at=now)
    where: dict[str, Any] = (
        {"endpoint_id": endpoint.id, "destination": endpoint_destination(endpoint.id)} if registered else {}
    )
    await keep(world.context.database, task)
    async with world.context.database.writing() as connection:
        await endpoints.register(connection, endpoint, most=9)
        await message_store.insert(connection, [a_message(task, url=url, due_at=now, **where)])
    pool = TaskPool(1)
    await dispatch.run_due(world.context, pool)
    await pool.finish()
    [message] = await world.messages(task)
    async with world.context.database.reading() as connection:
        made = await attempt_store.of_message(connection, message.id)
        found = await endpoints.find(connection, endpoint.id, "default")
    return message, made, found if registered else None


def test_every_case_is_in_the_documented_table() -> None:
    assert set(DECISIONS) == {*SERVERS, *PLACES, GUARDED}


@pytest.mark.parametrize("registered", [False, True], ids=["callback_url", "endpoint"])
@pytest.mark.parametrize("case", DECISIONS)
async def test_message_and_endpoint_end_as_documented(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, case: str, *, registered: bool
) -> None:
    monkeypatch.setattr(dispatch, "ATTEMPT_TIMEOUT", ATTEMPT_SECONDS)
    decision, health = DECISIONS[case]
    async with (
        asyncio.timeout(LIMIT),
        receiver(case) as (url, server),
        outgoing(sqlite_url, allow=case != GUARDED) as world,
    ):
        message, made, endpoint = await sent(world, url, registered=registered)
        now = world.clock()
        visits = 0 if server is None else server.connections
    assert visits == int(server is not None and case != GUARDED)
    word = next(word for word in STATES if decision.startswith(word))
    expected = STATUSES.get(re.split(r"[ ,]", case)[0])
    assert (message.state, message.attempts) == (STATES[word], 1)
    assert (message.last_error is None) == (word == "delivered")
    if message.due_at is not None:
        waited = (message.due_at - now).total_seconds()
        asked = 1790 if "not before" in decision else 4
        assert asked <= waited <= (1801 if asked > 4 else 6)
    [delivery] = made
    assert (delivery.attempt, delivery.at, delivery.error) == (1, now, message.last_error)
    assert delivery.status == message.last_status == (200 if "," in case else expected)
    assert delivery.duration_ms <= (ATTEMPT_SECONDS + 1) * 1000
    assert delivery.answer is None  # these receivers are private
    if endpoint is not None:
        assert {"well": None, "failing": now}.get(health, endpoint.failing_since) == endpoint.failing_since
        assert endpoint.disabled_reason == ("gone" if health == "disabled at once" else None)


async def test_stored_answer_is_cut_and_without_unstorable_characters(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.ssrf.guard.is_public", lambda _: True)
    loud = answering(status("500 Oh", body=b"\x00\xff" + b"a" * 5000))
    async with Server.running(loud) as server, outgoing(sqlite_url, allow=True) as world:
        _, [delivery], _ = await sent(world, server.url, registered=False)
    assert delivery.answer == "\ufffd" + "a" * 2046
    assert delivery.status == 500


@pytest.mark.parametrize("setting", ["allow_private_webhooks", "webhook_allow"])
async def test_of_a_private_receiver_only_the_status_is_kept(sqlite_url: str, setting: str) -> None:
    internal = answering(status("403 No", "X-Internal: canary", body=b"canary of an internal page"))
    more = {"DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": str(setting == "allow_private_webhooks")}
    async with Server.running(internal) as server:
        port = server.url.rpartition(":")[2]
        more |= {"DOVECOTE_WEBHOOK_ALLOW": "127.0.0.0/8", "DOVECOTE_WEBHOOK_PORTS": port}
        async with outgoing(sqlite_url, allow=False, **more) as world:
            message, [delivery], _ = await sent(world, server.url, registered=True)
            shown = await world.client.get(f"/v1/messages/{message.id}")
    assert (delivery.status, delivery.answer, delivery.error) == (403, None, "HTTP 403")
    assert (message.last_status, "canary" in shown.text) == (403, False)


async def test_lack_of_descriptors_does_not_count_against_an_endpoint(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async with outgoing(sqlite_url, allow=True) as world:
        monkeypatch.setattr("aiohappyeyeballs.start_connection", fail)
        message, attempts, endpoint = await sent(world, "http://127.0.0.1:9/", registered=True)
    assert endpoint is not None
    assert (message.state, endpoint.failing_since, attempts) == ("pending", None, [])


@pytest.mark.parametrize(
    "stated",
    ["soon", "-5", "1e9", "", "Wed, 99 Foo 2026 00:00:00 GMT", "²", "9" * 400, "Mon, 01 Jan 0001 00:00:00 -2359"],
)
async def test_unreadable_retry_after_keeps_the_schedule(sqlite_url: str, stated: str) -> None:
    """The schedule goes on. A very large number counts as one hour at most."""
    busy = answering(status("429 No", f"Retry-After: {stated}").decode().encode("latin-1", "replace"))
    async with Server.running(busy) as server, outgoing(sqlite_url, allow=True) as world:
        message, _, _ = await sent(world, server.url, registered=False)
        assert message.due_at is not None
        waited = (message.due_at - world.clock()).total_seconds()
    assert waited == 3600 if stated.startswith("9") else 4 <= waited <= 6


async def test_message_to_a_deleted_or_disabled_endpoint_is_discarded_unsent(sqlite_url: str) -> None:
    async with Server.running(answering(status("200 OK"))) as server, outgoing(sqlite_url, allow=True) as world:
        task, now = a_task(state=State.SUCCEEDED), world.clock()
        off = Endpoint(
            id=new_id(),
            client="default",
            url=server.url,
            secret="whsec_QUFB",
            created_at=now,
            updated_at=now,
            disabled_at=now,
            disabled_reason="client",
        )
        await keep(world.context.database, task)
        async with world.context.database.writing() as connection:
            await endpoints.register(connection, off, most=9)
            for sequence, to in ((2, off.id), (3, new_id())):
                message = a_message(
                    task,
                    endpoint_id=to,
                    destination=endpoint_destination(to),
                    url=server.url,
                    due_at=now,
                    sequence=sequence,
                )
                await message_store.insert(connection, [message])
        pool = TaskPool(9)
        await dispatch.run_due(world.context, pool)
        await pool.finish()
        found = await world.messages(task)
        assert [(each.state, each.last_error) for each in found] == [
            ("discarded", "the endpoint was disabled (client) when the message was due"),
            ("discarded", "the endpoint was deleted"),
        ]
        async with world.context.database.reading() as connection:
            assert [await attempt_store.of_message(connection, each.id) for each in found] == [[], []]
        assert server.connections == 0
        assert world.context.destination_slots.idle
