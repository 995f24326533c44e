"""Destinations of messages through the whole of Dovecote, over real sockets, with a canary and false name servers."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import httpx
import orjson
import pytest

from service.domain.task import State
from service.flows.webhooks import dispatch
from service.http.client import guarded
from service.http.single import SingleTransport
from service.http.ssrf.guard import ForbiddenAddress, Guard, forbidden
from service.http.ssrf.policy import Rules
from service.http.ssrf.url import Destination, read_url
from service.store.webhooks import messages as message_store
from tests.support.breakage import Server, hang, request_of
from tests.support.disguises import LEADS_TO, ODD_HOSTS, PRIVATE_HOSTS, spellings
from tests.support.edges import (
    OK,
    Canary,
    ConnectionMonitor,
    Names,
    Slow,
    attempt,
    deliver_to,
    listening_ears,
    open_to_all_but_addresses,
    sending_to,
    singing_canary,
)
from tests.support.values import a_message, a_task, keep
from tests.support.waiting import LIMIT, until
from tests.support.world import World

TASK_REQUEST: dict[str, Any] = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"}}


@pytest.fixture
def monitor() -> Iterator[ConnectionMonitor]:
    with listening_ears() as listening:
        yield listening


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    async with singing_canary() as watching:
        yield watching


# ── nobody comes ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_refused_hosts_are_at_least_sixty() -> None:
    assert len(PRIVATE_HOSTS) + len(ODD_HOSTS) >= 60
    assert len(set(spellings(1))) == len(spellings(1))


async def test_task_with_a_private_callback_url_is_refused(
    sqlite_url: str, canary: Canary, monitor: ConnectionMonitor
) -> None:
    names = Names({})
    answered: dict[str, Any] = {}
    async with sending_to(sqlite_url, names, **open_to_all_but_addresses(canary)) as world:
        for url in spellings(canary.port):
            answer = await world.client.post("/v1/tasks", json={**TASK_REQUEST, "callback_url": url})
            paths = {each["path"] for each in answer.json().get("errors", ())}
            if (answer.status_code, paths) != (422, {"callback_url"}):
                answered[url] = answer.json()
        accepted = await world.client.post(
            "/v1/tasks", json={**TASK_REQUEST, "callback_url": "https://client.example/"}
        )
    assert answered == {}
    assert accepted.status_code == 202
    assert (canary.connections, monitor.connects, names.asked) == (0, [], [])


async def test_message_to_a_private_url_is_discarded_without_a_connection(
    sqlite_url: str, canary: Canary, monitor: ConnectionMonitor
) -> None:
    """The URL is already in the database. For a host name, the name server returns the canary's address."""
    reached: dict[str, Any] = {}
    names = Names(
        {host: ["127.0.0.1", "::1"] for host in ("public.example", "localhost", "a.localhost", "db", "nas.local")}
    )
    async with sending_to(sqlite_url, names, **open_to_all_but_addresses(canary)) as world:
        for url in spellings(canary.port):
            message = await deliver_to(world, url)
            if (message.state, message.due_at) != ("discarded", None) or not message.last_error:
                reached[url] = message
    assert reached == {}
    assert (canary.connections, monitor.connects, names.asked) == (0, [], [])


async def test_message_to_a_name_with_a_private_address_is_discarded(
    sqlite_url: str, canary: Canary, monitor: ConnectionMonitor
) -> None:
    reached: dict[str, Any] = {}
    names = Names(LEADS_TO)
    async with sending_to(sqlite_url, names, **open_to_all_but_addresses(canary)) as world:
        for name in LEADS_TO:
            url = f"http://{name}:{canary.port}/"
            answer = await world.client.post("/v1/tasks", json={**TASK_REQUEST, "callback_url": url})
            message = await deliver_to(world, url)
            refused = re.search(r"^\S+ does not lead to a public address$", message.last_error or "")
            if (answer.status_code, message.state, message.due_at) != (202, "discarded", None) or not refused:
                reached[name] = (answer.json(), message)
    assert reached == {}
    assert (canary.connections, monitor.connects, len(names.asked)) == (0, [], len(LEADS_TO))


async def test_connections_are_observed_when_private_addresses_are_allowed(
    sqlite_url: str, canary: Canary, monitor: ConnectionMonitor
) -> None:
    """This proves that the canary of the tests above sees connections."""
    async with sending_to(sqlite_url, Names(LEADS_TO), allow_private_webhooks="true") as world:
        for host in ("127.0.0.1", "localtest.me", "both.localtest.me"):
            assert (await deliver_to(world, f"http://{host}:{canary.port}/")).state == "delivered"
    assert canary.connections == 3
    assert [where[:2] for where in monitor.connects] == [("127.0.0.1", canary.port)] * 3


@pytest.mark.parametrize("name", [socket.gethostname(), f"{socket.gethostname().upper()}."])
async def test_message_to_the_own_host_name_is_not_delivered(sqlite_url: str, canary: Canary, name: str) -> None:
    """The real resolver is used. The name's address differs by machine, but no connection may arrive."""
    async with sending_to(sqlite_url, socket.getaddrinfo, **open_to_all_but_addresses(canary)) as world:
        assert (await deliver_to(world, f"http://{name}:{canary.port}/")).state != "delivered"
    assert canary.connections == 0


# ── names that change their mind ───────────────────────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def neighbour(canary: Canary, answer: bytes) -> AsyncIterator[list[bytes]]:
    """Serve on 127.0.0.2 and the canary's port: a receiver whose address may be allowed alone."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await request_of(reader))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.2", canary.port):
        yield requests


def taking_turns(*answers: Sequence[str]) -> Callable[[], Sequence[str]]:
    left = iter(answers)
    return lambda: next(left)


async def test_name_is_resolved_once_and_the_checked_address_is_used(
    sqlite_url: str, canary: Canary, monitor: ConnectionMonitor
) -> None:
    names = Names({"rebinding.example": taking_turns(["127.0.0.2"], ["127.0.0.1"])})
    settings = {**open_to_all_but_addresses(canary), "webhook_allow": "127.0.0.2"}
    async with sending_to(sqlite_url, names, **settings) as world, neighbour(canary, OK) as requests:
        message = await deliver_to(world, f"http://rebinding.example:{canary.port}/done")
    assert (message.state, len(requests), canary.connections) == ("delivered", 1, 0)
    assert (names.asked, monitor.connects) == (["rebinding.example"], [("127.0.0.2", canary.port)])
    assert requests[0].startswith(b"POST /done HTTP/1.1\r\n")
    assert f"host: rebinding.example:{canary.port}\r\n".encode() in requests[0].lower()


async def test_each_attempt_is_checked(sqlite_url: str, canary: Canary, monitor: ConnectionMonitor) -> None:
    names = Names({"rebinding.example": taking_turns(["127.0.0.2"], ["127.0.0.1"])})
    settings = {**open_to_all_but_addresses(canary), "webhook_allow": "127.0.0.2"}
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    async with sending_to(sqlite_url, names, **settings) as world, neighbour(canary, busy) as requests:
        task = a_task(state=State.SUCCEEDED)
        await keep(world.context.database, task)
        url = f"http://rebinding.example:{canary.port}/"
        async with world.context.database.writing() as connection:
            await message_store.insert(connection, [a_message(task, url=url, due_at=world.clock())])
        first = await attempt(world, task)
        world.clock.forward(10)
        second = await attempt(world, task)
    assert (first.state, first.last_status, len(requests)) == ("pending", 503, 1)
    assert (second.state, second.due_at, canary.connections) == ("discarded", None, 0)
    assert second.last_error == "rebinding.example does not lead to a public address"
    assert monitor.connects == [("127.0.0.2", canary.port)]


async def test_unresolvable_name_is_retried_by_the_schedule(sqlite_url: str) -> None:
    async with sending_to(sqlite_url, Names({})) as world:
        message = await deliver_to(world, "https://nothing.example/")
        assert message.state == "pending"
        assert message.due_at is not None
        assert 4 <= (message.due_at - world.clock()).total_seconds() <= 6


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_redirect_is_not_followed(
    sqlite_url: str, canary: Canary, monitor: ConnectionMonitor, status: int
) -> None:
    for where in ("http://169.254.169.254/latest/meta-data/", f"http://127.0.0.1:{canary.port}/"):
        monitor.connects.clear()
        moved = f"HTTP/1.1 {status} Moved\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode()
        settings = {**open_to_all_but_addresses(canary), "webhook_allow": "127.0.0.2"}
        async with sending_to(sqlite_url, Names({}), **settings) as world, neighbour(canary, moved) as requests:
            message = await deliver_to(world, f"http://127.0.0.2:{canary.port}/")
        assert (message.state, message.last_status, len(requests)) == ("pending", status, 1)
        assert (canary.connections, monitor.connects) == (0, [("127.0.0.2", canary.port)])


# ── what an operator allows ────────────────────────────────────────────────────────────────────────────────────────

HOOKS = {"hooks.internal": ["127.0.0.1"], "other.internal": ["127.0.0.1"], "far.internal": ["169.254.169.254"]}


@pytest.mark.parametrize(
    ("settings", "host", "state"),
    [
        ({"webhook_allow": "127.0.0.0/8"}, "127.0.0.1", "delivered"),
        ({"webhook_allow": "127.0.0.0/8"}, "hooks.internal", "delivered"),
        ({"webhook_allow": "127.0.0.0/8"}, "[::ffff:127.0.0.1]", "delivered"),
        ({"webhook_allow": "127.0.0.0/8"}, "[::1]", "discarded"),
        ({"webhook_allow": "127.0.0.2"}, "hooks.internal", "discarded"),
        ({"webhook_allow": "hooks.internal"}, "hooks.internal", "delivered"),
        ({"webhook_allow": "hooks.internal"}, "HOOKS.Internal.", "delivered"),
        ({"webhook_allow": "hooks.internal"}, "other.internal", "discarded"),
        ({"webhook_allow": "hooks.internal"}, "127.0.0.1", "discarded"),
        ({"webhook_allow": "hooks.internal,far.internal"}, "far.internal", "discarded"),
        ({"webhook_allow": "0.0.0.0/0"}, "far.internal", "discarded"),
        ({"webhook_allow": "0.0.0.0/0"}, "169.254.169.254", "discarded"),
        ({"allow_private_webhooks": "true"}, "hooks.internal", "delivered"),
        ({"allow_private_webhooks": "true"}, "169.254.169.254", "discarded"),
        ({"allow_private_webhooks": "true"}, "far.internal", "discarded"),
    ],
)
async def test_only_allowed_destinations_receive_messages(  # noqa: PLR0917 - fixtures, and the columns of the table
    sqlite_url: str, canary: Canary, monitor: ConnectionMonitor, settings: dict[str, str], host: str, state: str
) -> None:
    async with sending_to(sqlite_url, Names(HOOKS), **{**open_to_all_but_addresses(canary), **settings}) as world:
        message = await deliver_to(world, f"http://{host}:{canary.port}/")
    assert message.state == state
    assert (canary.connections, len(monitor.connects)) == ((1, 1) if state == "delivered" else (0, 0))


@pytest.mark.parametrize(
    ("settings", "url", "said"),
    [
        ({}, "http://client.example/", "https is wanted"),
        ({}, "https://client.example:9000/", "port 9000"),
        ({"allow_http_webhooks": "true"}, "http://client.example:9000/", "port 9000"),
    ],
)
async def test_scheme_and_port_are_checked_again_when_a_message_is_sent(
    sqlite_url: str, monitor: ConnectionMonitor, settings: dict[str, str], url: str, said: str
) -> None:
    names = Names({"client.example": ["127.0.0.1"]})
    async with sending_to(sqlite_url, names, **settings) as world:
        message = await deliver_to(world, url)
    assert message.state == "discarded"
    assert said in (message.last_error or "")
    assert (names.asked, monitor.connects) == ([], [])


@pytest.mark.parametrize(
    ("url", "hints"),
    [
        (
            "http://10.0.0.1:9000/",
            [
                "https is wanted; an operator can allow it with DOVECOTE_ALLOW_HTTP_WEBHOOKS",
                "port 9000 is not allowed for messages (allowed: 443, 8443); an operator can allow it with DOVECOTE_WEBHOOK_PORTS",
                "10.0.0.1 is not a public address; an operator can allow it with DOVECOTE_WEBHOOK_ALLOW or DOVECOTE_ALLOW_PRIVATE",
            ],
        ),
        ("https://169.254.169.254/", ["is not a public address: clouds serve credentials there"]),
        ("https://localhost/", ["localhost is this machine; an operator can"]),
        ("https://db/", ["db is a name in a private network; an operator can"]),
        ("https://me:secret@a.example/", ["user or password: put a secret into the path instead"]),
        ("https://127.1/", ["four numbers from 0 to 255"]),
    ],
)
async def test_error_names_the_setting_that_allows_a_url(sqlite_url: str, url: str, hints: list[str]) -> None:
    async with World.opened(sqlite_url, DOVECOTE_ALLOW_PRIVATE_WEBHOOKS="false") as world:
        answer = await world.client.post("/v1/tasks", json={**TASK_REQUEST, "callback_url": url})
    errors = orjson.loads(answer.content)["errors"]
    assert answer.status_code == 422
    assert [each["path"] for each in errors] == ["callback_url"] * len(hints)
    for hint, error in zip(hints, errors, strict=True):
        assert hint in error["message"]
    assert "secret@" not in answer.text
    if "169.254" in url:
        assert "operator" not in answer.text


# ── the gates, each on its own ─────────────────────────────────────────────────────────────────────────────────────


def test_socket_for_a_private_address_is_refused() -> None:
    guard = Guard(Rules())
    for address in ("127.0.0.1", "::1", "fe80::1%lo", "169.254.169.254"):
        with pytest.raises(ForbiddenAddress, match="is not a public address"):
            guard.open_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)))
    guard.open_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("1.1.1.1", 80))).close()


async def test_socket_is_limited_to_the_checked_host() -> None:
    guard = Guard(Rules(hosts=frozenset({"hooks.internal"})), Names({"evil.example": ["1.1.1.1"]}))
    private = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))
    with guard.towards("https://hooks.internal/"):
        guard.open_socket(private).close()
        with pytest.raises(ForbiddenAddress, match="is not the host that was checked"):
            await guard.resolver.resolve("evil.example", 443)
    with pytest.raises(ForbiddenAddress):
        guard.open_socket(private)
    with pytest.raises(ForbiddenAddress), guard.towards("https://a.example/"):
        guard.open_socket(private)
    await guard.resolver.close()


async def test_transport_checks_urls_without_the_guarded_client(canary: Canary, monitor: ConnectionMonitor) -> None:
    transport = SingleTransport(guard=Guard(Rules(), Names(LEADS_TO)))
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        for url in (f"http://127.0.0.1:{canary.port}/", "http://a.example/", f"https://localtest.me:{canary.port}/"):
            with pytest.raises(ForbiddenAddress):
                await client.get(url)
        with pytest.raises(httpx.ConnectError) as raised:
            await client.get("https://localtest.me:8443/")
        refused = forbidden(raised.value)
        assert refused is not None
        assert str(refused) == "localtest.me does not lead to a public address"
        assert refused.detail == "localtest.me resolves to 127.0.0.1"
    assert (canary.connections, monitor.connects) == (0, [])


class Lenient(Guard):
    """A guard whose first check is broken."""

    def admit(self, url: str) -> Destination:
        return read_url(url)


async def test_literal_address_is_refused_at_the_socket(canary: Canary, monitor: ConnectionMonitor) -> None:
    """The resolver is not used for a literal address."""
    async with guarded(Lenient(Rules(), Names({}))) as client:
        for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"):
            with pytest.raises(httpx.ConnectError) as raised:
                await client.get(f"http://{host}:{canary.port}/")
            assert "is not a public address" in str(forbidden(raised.value))
    assert (canary.connections, monitor.connects) == (0, [])


async def test_closed_client_stops_its_threads() -> None:
    guard = Guard(Rules(), Names({"a.example": ["1.1.1.1"]}))
    assert await guard.resolver.resolve("a.example", 443)
    await guarded(guard).aclose()
    with pytest.raises(RuntimeError, match="after shutdown"):
        await guard.resolver.resolve("a.example", 443)


def test_other_failure_is_no_refusal() -> None:
    assert forbidden(None) is None
    assert forbidden(OSError("refused")) is None
    wrapped = httpx.ConnectError("no")
    wrapped.__cause__ = refusal = ForbiddenAddress("here")
    assert forbidden(wrapped) is refusal


# ── name servers that are slow ─────────────────────────────────────────────────────────────────────────────────────


async def test_concurrent_lookups_of_one_name_share_a_thread() -> None:
    names = Slow("1.1.1.1")
    resolver = Guard(Rules(), names).resolver
    waiting = [asyncio.create_task(resolver.resolve("slow.example", 443)) for _ in range(100)]
    await until(lambda: names.asked)
    [found] = await asyncio.wait_for(resolver.resolve("quick.example", 8443), LIMIT)
    assert (found["host"], found["port"]) == ("1.1.1.1", 8443)
    assert not any(task.done() for task in waiting)
    waiting[0].cancel()  # one that gives up takes nothing from the others
    await asyncio.sleep(0)
    names.let_go.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [each[0]["host"] for each in answers[1:]] == ["1.1.1.1"] * 99  # type: ignore[index]
    assert names.asked == ["slow.example", "quick.example"]
    await resolver.close()


async def test_lookup_after_cancelled_ones_is_not_cancelled() -> None:
    names = Slow("1.1.1.1")
    resolver = Guard(Rules(), names).resolver
    first = asyncio.create_task(resolver.resolve("slow.example", 443))
    await until(lambda: names.asked)
    first.cancel()
    await asyncio.wait({first})
    again = asyncio.create_task(resolver.resolve("slow.example", 443))
    await until(lambda: len(names.asked) == 2)
    names.let_go.set()
    assert (await again)[0]["host"] == "1.1.1.1"
    assert names.asked == ["slow.example"] * 2
    assert resolver._running == {}
    await resolver.close()


async def test_lookup_without_waiters_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.http.ssrf.guard.RESOLVING_THREADS", 1)
    names = Slow("1.1.1.1")
    resolver = Guard(Rules(), names).resolver
    for name in ("slow.example", "in-the-queue.example"):
        waiting = asyncio.create_task(resolver.resolve(name, 443))
        await until(lambda: names.asked)
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait({waiting})
    names.let_go.set()
    assert await resolver.resolve("next.example", 443)
    assert names.asked == ["slow.example", "next.example"]
    await resolver.close()


async def test_attempt_ends_at_the_total_timeout(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit covers look-up, connection and answer together."""
    monkeypatch.setattr(dispatch, "ATTEMPT_TIMEOUT", 0.15)
    async with (
        Server.running(hang) as server,
        sending_to(sqlite_url, Names({}), allow_private_webhooks="true") as world,
    ):
        message = await deliver_to(world, server.url)
    assert message.state == "pending"
    assert "no answer within 0.15 s" in (message.last_error or "")
