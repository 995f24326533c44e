"""A connection to a checked address uses the URL's host name: its SNI, and a certificate for this name only."""

import asyncio
import contextlib
import dataclasses
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.http.client import build, guarded, send
from service.http.ssrf.guard import Guard
from service.http.ssrf.policy import Rules
from service.http.transport import NEVER_SENT
from tests.support.breakage import request_of
from tests.support.certificates import Authority
from tests.support.edges import OK, Names


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder: Path = tmp_path_factory.mktemp("authority")
    return Authority(folder)


@dataclasses.dataclass
class Secure:
    """A TLS server that records its requests."""

    port: int = 0
    names: list[str | None] = dataclasses.field(default_factory=list)
    requests: list[bytes] = dataclasses.field(default_factory=list)


@contextlib.asynccontextmanager
async def secure(context: ssl.SSLContext) -> AsyncIterator[Secure]:
    seen = Secure()

    def keep_name(_: Any, name: str | None, __: Any) -> None:
        seen.names.append(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            seen.requests.append(await request_of(reader))
            writer.write(OK)
        writer.close()

    context.sni_callback = keep_name
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    seen.port = server.sockets[0].getsockname()[1]
    async with server:
        yield seen


async def post(host: str, server: Secure, names: Names, tls: ssl.SSLContext | None) -> int:
    """Post to a host by the guarded client. The name server returns the test server's address, which is allowed."""
    rules = Rules(ports=frozenset({server.port}), networks=(ipaddress.ip_network("127.0.0.1"),))
    async with guarded(Guard(rules, names), tls=tls) as client:
        url = f"https://{host}:{server.port}/"
        return (await send(client, build(client, "POST", url, headers={}, content=b"{}", read_timeout=5))).status


@pytest.mark.parametrize(
    ("host", "certified", "shown"),
    [
        ("hooks.example", "DNS:hooks.example", "hooks.example"),
        ("Hooks.Example.", "DNS:hooks.example", "hooks.example"),
        ("a.hooks.example", "DNS:*.hooks.example", "a.hooks.example"),
        ("bücher.example", "DNS:xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("☃.example", "DNS:xn--n3h.example", "xn--n3h.example"),  # which httpx by itself would not send to
        ("xn--99999.example", "DNS:xn--99999.example", "xn--99999.example"),
        ("127.0.0.1", "IP:127.0.0.1", None),
    ],
)
async def test_tls_uses_the_name_of_the_url_at_the_checked_address(
    authority: Authority, host: str, certified: str, shown: str | None
) -> None:
    names = Names({host: ["127.0.0.1"]})
    async with secure(authority.serving(certified)) as server:
        assert await post(host, server, names, authority.trusted()) == 200
    assert server.names == [shown]
    assert f"host: {shown or host}:{server.port}\r\n".encode() in server.requests[0].lower()
    assert names.asked == ([shown] if shown else [])


@pytest.mark.parametrize(
    ("host", "certified"),
    [
        ("hooks.example", "DNS:other.example"),
        ("hooks.example", "IP:127.0.0.1"),  # the address belongs to another server than the name
        ("127.0.0.1", "DNS:hooks.example"),
        ("127.0.0.1", "IP:127.0.0.2"),
    ],
)
async def test_certificate_for_another_host_is_refused(authority: Authority, host: str, certified: str) -> None:
    names = Names({host: ["127.0.0.1"]})
    async with secure(authority.serving(certified)) as server:
        with pytest.raises(NEVER_SENT, match=r"(?i)certificate verify failed"):
            await post(host, server, names, authority.trusted())
    assert server.requests == []


@pytest.mark.parametrize("host", ["hooks.example", "127.0.0.1"])
async def test_certificate_of_an_unknown_authority_is_refused(authority: Authority, host: str) -> None:
    """This also holds where the operator allows private addresses."""
    names = Names({"hooks.example": ["127.0.0.1"]})
    async with secure(authority.serving("DNS:hooks.example", "IP:127.0.0.1")) as server:
        with pytest.raises(NEVER_SENT, match=r"(?i)certificate verify failed"):
            await post(host, server, names, None)
    assert server.requests == []


async def test_host_header_omits_the_default_port() -> None:
    async with guarded(Guard(Rules())) as client:
        for url in ("https://Hooks.Example.", "https://hooks.example:443/"):
            request = client.build_request("POST", url, headers={"a": "b", "Host": "other.example"})
            assert (request.headers["host"], request.headers["a"]) == ("hooks.example", "b")
            assert str(request.url) == "https://hooks.example/"
