"""Where messages may go: to public addresses, in whatever disguise the others come, over the real guarded transport."""

import contextlib
import dataclasses
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from service.domain.task import State
from service.flows import outbox as journey
from service.flows.http import ForbiddenAddress, Http, PublicOnly, is_public, public_socket
from service.flows.underway import Underway
from service.store import outbox
from service.store.outbox import Message
from tests.breakage import Server, answering
from tests.values import a_message, a_task, keep
from tests.world import World


@contextlib.asynccontextmanager
async def guarded(sqlite_url: str, *, allow: bool) -> AsyncIterator[World]:
    """Open a world whose messages really go out."""
    async with World.opened(sqlite_url, DOVECOTE_ALLOW_PRIVATE_WEBHOOKS=str(allow)) as world:
        http = Http.real(allow_private=allow)
        world.runtime.http = dataclasses.replace(world.runtime.http, messages=http.messages)
        yield world
        await http.close()


async def tell(world: World, url: str) -> Message:
    """Owe a message to a URL, past the door that would have refused it, and try to deliver it once."""
    task = a_task(state=State.SUCCEEDED)
    await keep(world.runtime.database, task)
    async with world.runtime.database.writing() as connection:
        await outbox.owe(connection, [a_message(task, url=url, due_at=world.clock())])
    underway = Underway(1)
    await journey.run_due(world.runtime, underway)
    await underway.finish()
    [message] = await world.messages(task)
    return message


DISGUISES = [
    "127.0.0.1",
    "127.1",
    "0x7f000001",
    "0x7f.0.0.1",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "0.0.0.0",  # noqa: S104 - to connect to it is to connect to this machine
    "0",
    "localhost",
    "LocalHost.",
    "a.localhost",
    "user:password@127.0.0.1",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]",
    "[0:0:0:0:0:0:0:1]",
    "[fe80::1%25lo]",
    "[fd00::1]",
    "169.254.169.254",  # where clouds hand out credentials
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
]


REFUSALS = re.compile("is not a public address|is this machine|Invalid (IPv4|IDNA)|is not a canonical IPv4 address")


@pytest.mark.parametrize("host", DISGUISES)
async def test_a_message_never_reaches_this_machine(sqlite_url: str, host: str) -> None:
    async with Server.running(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as canary:
        async with guarded(sqlite_url, allow=False) as world:
            message = await tell(world, canary.url.replace("127.0.0.1", host))
        assert canary.connections == 0
    assert (message.state, message.due_at) == ("discarded", None)
    assert REFUSALS.search(message.last_error or "")


@pytest.mark.parametrize("name", [socket.gethostname(), f"{socket.gethostname().upper()}."])
async def test_a_message_never_comes_to_this_machine_by_its_own_name(sqlite_url: str, name: str) -> None:
    """Where that name leads differs from machine to machine: what counts is that nobody comes."""
    async with Server.running(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as canary:
        async with guarded(sqlite_url, allow=False) as world:
            assert (await tell(world, canary.url.replace("127.0.0.1", name))).state != "delivered"
        assert canary.connections == 0


async def test_it_does_where_an_operator_allows_it(sqlite_url: str) -> None:
    async with Server.running(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as canary:
        async with guarded(sqlite_url, allow=True) as world:
            assert (await tell(world, canary.url)).state == "delivered"
        assert canary.connections == 1


async def test_a_redirect_leads_nowhere(sqlite_url: str) -> None:
    async with Server.running(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as canary:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {canary.url}\r\nContent-Length: 0\r\n\r\n".encode()
        async with Server.running(answering(moved)) as server, guarded(sqlite_url, allow=True) as world:
            message = await tell(world, server.url)
        assert (canary.connections, server.connections) == (0, 1)
    assert (message.state, message.last_status) == ("pending", 307)


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "xn--a", "999.999.999.999"])
async def test_a_name_that_nobody_can_have_is_given_up_at_once(sqlite_url: str, host: str) -> None:
    async with guarded(sqlite_url, allow=False) as world:
        message = await tell(world, f"http://{host}/")
    assert (message.state, message.due_at) == ("discarded", None)
    assert message.last_error


async def test_a_name_that_leads_nowhere_today_follows_the_schedule(sqlite_url: str) -> None:
    async with guarded(sqlite_url, allow=False) as world:
        message = await tell(world, "http://nothing.invalid/")
        assert message.state == "pending"
        assert message.due_at is not None
        assert 4 <= (message.due_at - world.clock()).total_seconds() <= 6


PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::1.1.1.1", "::ffff:1.1.1.1", "2002:101:101::"]
PRIVATE = """
    127.0.0.1 127.8.8.8 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 0.1.2.3 224.0.0.1
    239.1.1.1 240.0.0.1 255.255.255.255 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 192.0.0.1 :: ::1 fe80::1
    fe80::1%eth0 fc00::1 fd12::1 fec0::1 ff02::1 ::ffff:10.0.0.1 ::10.0.0.1 64:ff9b::10.0.0.1 64:ff9b:1::1
    2002:a00:1:: 2001:db8::1 2001:0:0:0:0:0:f5ff:fffe 100::1
""".split()  # noqa: SIM905 - a table


@pytest.mark.parametrize(
    ("address", "public"), [*((each, True) for each in PUBLIC), *((each, False) for each in PRIVATE)]
)
def test_what_is_public(address: str, public: bool) -> None:  # noqa: FBT001 - a column of the table
    assert is_public(address) is public
    if not public:
        with pytest.raises(ForbiddenAddress):
            public_socket((2, 1, 6, "", (address, 80)))


async def test_a_name_is_judged_by_what_it_leads_to() -> None:
    resolver = PublicOnly()
    with pytest.raises(ForbiddenAddress, match="localhost leads to"):
        await resolver.resolve("localhost", 80)
    await resolver.close()


async def test_the_door_refuses_them_already(sqlite_url: str) -> None:
    wish: dict[str, Any] = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"}}
    async with World.opened(sqlite_url, DOVECOTE_ALLOW_PRIVATE_WEBHOOKS="false") as world:
        for url in (
            "http://127.0.0.1/x",
            "http://[::1]/",
            "http://localhost/",
            "ftp://a.example/",
            "http://u:p@a.example/",
        ):
            answer = await world.client.post("/v1/tasks", json={**wish, "callback_url": url})
            assert answer.status_code == 422
            assert [each["path"] for each in orjson.loads(answer.content)["errors"]] == ["callback_url"]
        assert (
            await world.client.post("/v1/tasks", json={**wish, "callback_url": "https://client.example/"})
        ).status_code == 202
