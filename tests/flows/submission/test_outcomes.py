"""Every way in which an upstream can fail to answer, over real sockets: the outcome of a purchase and of a query.

The whole journey runs, from the queued task to the rows in the database. Only the time-outs are shortened.
"""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from service.domain.errors import Unavailable, Uncertain
from service.domain.task import State
from service.flows import polling
from service.flows.concurrency import TaskPool
from service.flows.submission import run as submission_run
from service.http.client import MAX_ANSWER, Http
from service.http.network_errors import FAILURES, meaning_of, named
from service.http.single import SingleTransport
from service.http.transport import NEVER_SENT, PooledTransport
from service.sandbox import InProcessTransport
from service.store import circuits as circuit_store
from tests.support.breakage import (
    ANSWER,
    CHUNKED,
    HEAD,
    PERHAPS_SENT,
    Handle,
    Server,
    answering,
    hang,
    http,
    nowhere,
    read_nothing,
    request_of,
)
from tests.support.waiting import LIMIT
from tests.support.world import World

SOON = 0.15
"""Seconds until silence counts, where a server is silent."""
LARGE = 12_000_000
"""Bytes that the buffers of a connection do not hold."""


class Impatient(httpx.AsyncBaseTransport):
    """The real connections, with shorter time-outs than those of a purchase."""

    def __init__(self, *, soon: bool, reuse: bool = False) -> None:
        self._real = PooledTransport() if reuse else SingleTransport()
        self._limit = SOON if soon else LIMIT

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        names = ("connect", "write", "read") if self._limit is SOON else ("read",)
        request.extensions["timeout"] = {**request.extensions["timeout"], **dict.fromkeys(names, self._limit)}
        return await self._real.handle_async_request(request)

    async def aclose(self) -> None:
        await self._real.aclose()


@contextlib.asynccontextmanager
async def real_network(world: World, *, soon: bool) -> AsyncIterator[None]:
    """Send the requests of a world over real connections."""
    clients = [
        httpx.AsyncClient(transport=Impatient(soon=soon, reuse=reuse), trust_env=False, timeout=LIMIT)
        for reuse in (False, True)
    ]
    pretended = world.context.http
    world.context.http = Http(purchases=clients[0], questions=clients[1], messages=clients[0], files=clients[0])
    try:
        yield
    finally:
        world.context.http = pretended
        for client in clients:
            await client.aclose()


async def say_continue_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if b"content-length" in head.lower():
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
    writer.write(HEAD + ANSWER)


GATEWAY_PAGE = b"<html><head><title>Bad Gateway</title></head><body>nginx</body></html>"
MOVED = b"Location: http://127.0.0.1:1/elsewhere"
JSON = b"Content-Type: application/json"
GZIP = b"Content-Encoding: gzip"

Verdict = tuple[State, str, str | None, bool]
"""The task's state, the submission's outcome and code, and whether the circuit counts it."""

TAKEN: Verdict = (State.SUBMITTED, "taken", None, False)
NOT_SENT: Verdict = (State.QUEUED, "unavailable", "overloaded", True)
SILENT: Verdict = (State.UNCONFIRMED, "uncertain", "provider_timeout", True)
UNREADABLE: Verdict = (State.UNCONFIRMED, "uncertain", "unreadable", True)
PERHAPS: Verdict = (State.UNCONFIRMED, "uncertain", "provider_error", True)
MISPLACED: Verdict = (State.FAILED, "account", "not_found", False)

BROKEN: dict[str, tuple[Handle, Verdict]] = {
    **{how: (handle, SILENT if "hang" in how else UNREADABLE) for how, (handle, _) in PERHAPS_SENT.items()},
    "reset in the headers": (answering(HEAD[:20], then=PERHAPS_SENT["accept and reset"][0]), UNREADABLE),
    "hang in the headers": (answering(HEAD[:20], then=hang), SILENT),
    "hang while it is written": (read_nothing, SILENT),
    "502 page": (answering(http("502 Bad Gateway", GATEWAY_PAGE)), PERHAPS),
    "503 page": (answering(http("503 Service Unavailable", GATEWAY_PAGE)), PERHAPS),
    "503 with a reason": (
        answering(http("503 Service Unavailable", b'{"error":{"message":"no channel"}}', JSON)),
        (State.QUEUED, "unavailable", "overloaded", True),
    ),
    "504 page": (answering(http("504 Gateway Timeout", GATEWAY_PAGE)), (*SILENT[:2], "provider_timeout", True)),
    "524 page": (answering(http("524 A timeout occurred", GATEWAY_PAGE)), (*SILENT[:2], "provider_timeout", True)),
    "429": (
        answering(http("429 Too Many Requests", b'{"error":{"message":"slow down"}}', JSON)),
        (State.QUEUED, "unavailable", "rate_limited", False),
    ),
    "400": (
        answering(http("400 Bad Request", b'{"error":{"message":"no such ratio"}}', JSON)),
        (State.FAILED, "refused", "invalid_input", False),
    ),
    "401": (
        answering(http("401 Unauthorized", b'{"error":{"message":"Invalid Token"}}', JSON)),
        (State.FAILED, "account", "unauthorized", False),
    ),
    "200 page": (answering(http("200 OK", GATEWAY_PAGE)), UNREADABLE),
    "200 without an id": (answering(http("200 OK", b'{"code":200,"data":{}}', JSON)), UNREADABLE),
    "200 with half a document": (answering(http("200 OK", ANSWER[:-9], JSON)), UNREADABLE),
    "200 with nothing": (answering(http("200 OK")), UNREADABLE),
    "204": (answering(b"HTTP/1.1 204 No Content\r\n\r\n"), UNREADABLE),
    "301": (answering(http("301 Moved Permanently", b"", MOVED)), MISPLACED),
    "302": (answering(http("302 Found", b"", MOVED)), MISPLACED),
    "307": (answering(http("307 Temporary Redirect", b"", MOVED)), MISPLACED),
    "101": (answering(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), UNREADABLE),
    "100 and nothing more": (answering(b"HTTP/1.1 100 Continue\r\n\r\n"), UNREADABLE),
    "100 and silence": (answering(b"HTTP/1.1 100 Continue\r\n\r\n", then=hang), SILENT),
    "103 and then the answer": (answering(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", HEAD, ANSWER), TAKEN),
    "100 before the body was read": (say_continue_first, TAKEN),
    "more than the cap": (answering(http("200 OK", bytes(MAX_ANSWER + 1))), UNREADABLE),
    "a chunk that lies about its size": (answering(CHUNKED[:-1] + b"zz\r\n"), UNREADABLE),
    "gzip cut short": (answering(http("200 OK", b"\x1f\x8b\x08\x00\x00", GZIP)), UNREADABLE),
    "two lengths": (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: 35\r\n\r\n" + ANSWER),
        TAKEN,
    ),
    "an answer": (answering(HEAD, ANSWER), TAKEN),
}


async def bought(url: str, base: str, *, soon: bool, size: int = 1) -> tuple[Verdict, str | None]:
    """Submit a task to an upstream at a URL. Return the outcome, and the task's last error."""
    more = {"DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": base, "DOVECOTE_ROUTES__RUNWAY": "elkapi"}
    async with World.opened(url, **more) as world, real_network(world, soon=soon):
        task = await world.submit(callback_url=None, options={"note": "a" * size})
        pool = TaskPool(1)
        await submission_run.run_due(world.context, pool)
        await pool.finish()
        after = await world.task(task)
        [submission] = await world.submissions(task)
        async with world.context.database.reading() as connection:
            circuits = await circuit_store.all_known(connection)
    counted = len(circuits["elkapi", "runway/aggregator"].failures) if circuits else 0
    assert counted in {0, 1}
    assert "sandbox-key" not in str(after.last_error)
    return (after.state, submission.outcome, submission.code, counted == 1), after.last_error


@pytest.mark.parametrize("how", BROKEN)
async def test_creating_request_is_classified_by_its_answer(sqlite_url: str, how: str) -> None:
    handle, expected = BROKEN[how]
    silent = "hang" in how or "silence" in how
    async with Server.running(handle) as server:
        verdict, error = await bought(
            sqlite_url, server.url, soon=silent, size=LARGE if how == "hang while it is written" else 1
        )
        assert server.connections == 1, "a purchase is sent once"
    assert verdict == expected
    assert (error is None) == (expected == TAKEN) or expected[0] is State.FAILED


@pytest.mark.parametrize(
    "how", ["refused", "unresolvable", "TLS with a plain server", "TLS cut short", "TLS never answered"]
)
async def test_unsent_creating_request_is_retried_later(sqlite_url: str, how: str) -> None:
    async with nowhere(how) as url:
        verdict, error = await bought(sqlite_url, url, soon="never" in how)
    assert verdict == NOT_SENT
    assert "no connection: Connect" in str(error)
    assert "127.0.0.1" not in str(error)
    assert (urlsplit(url).hostname or "") not in str(error)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """Return a certificate for this host from an untrusted authority."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is needed to make a certificate")
    return _certificate(openssl, tmp_path_factory.mktemp("certificate"))


def _certificate(openssl: str, folder: Path) -> ssl.SSLContext:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *words.split(), *names], check=True, capture_output=True)  # noqa: S603 - words of ours
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_creating_request_is_not_sent_to_an_unverified_host(sqlite_url: str, stranger: ssl.SSLContext) -> None:
    asked: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            asked.append(await request_of(reader))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=stranger)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        verdict, error = await bought(sqlite_url, url, soon=False)
    assert verdict == NOT_SENT
    assert "certificate" in str(error).lower()
    assert asked == []


# Questions ---------------------------------------------------------------------------------------------------------


def _still(error: str | None) -> bool:
    return error is not None and "sandbox-key" not in error


@contextlib.asynccontextmanager
async def somewhere(how: str) -> AsyncIterator[str]:
    if how in BROKEN:
        async with Server.running(BROKEN[how][0]) as server:
            yield server.url
    else:
        async with nowhere(how) as url:
            yield url


QUESTIONS = [
    *(how for how in PERHAPS_SENT if how not in {"close in the headers", "reset in the body", "close in a chunk"}),
    *("502 page", "524 page", "401", "200 page", "200 with half a document", "204", "301", "more than the cap"),
    *("100 and silence", "refused", "TLS cut short"),
]


@pytest.mark.parametrize("how", QUESTIONS)
async def test_failed_poll_ends_nothing_and_is_repeated(sqlite_url: str, how: str) -> None:
    async with somewhere(how) as url:
        host = httpx.URL(url).host
        async with World.opened(sqlite_url, DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL=url) as world:
            world.edge.hosts[host] = InProcessTransport(world.sandbox.app)
            task = await world.submit("[drop] a dove", callback_url=None)
            await world.work()
            assert (await world.task(task)).state is State.SUBMITTED
            world.clock.forward(100)
            async with real_network(world, soon="hang" in how or "silence" in how):
                pool = TaskPool(1)
                assert await polling.run_due(world.context, pool) == 1
                await pool.finish()
            after = await world.task(task)
            async with world.context.database.reading() as connection:
                assert await circuit_store.all_known(connection) == {}, "only what is bought counts"
            assert (after.state, _still(after.last_error)) == (State.SUBMITTED, True)
            assert after.due_at is not None
            assert after.due_at > world.clock.now
            await world.until(300)
            assert (await world.task(task)).state is State.SUCCEEDED


# The table ---------------------------------------------------------------------------------------------------------


def _kinds(root: type[Exception]) -> set[type[Exception]]:
    below = {each for kind in root.__subclasses__() for each in _kinds(kind)}
    return below or {root}


def test_every_network_error_has_its_row() -> None:
    rows = {row.error for row in FAILURES}
    assert _kinds(httpx.TransportError) <= rows
    assert {row.error for row in FAILURES if not row.sent} == set(NEVER_SENT)
    assert all(row.counts for row in FAILURES if row.sent), "whatever is uncertain counts"


@pytest.mark.parametrize("row", FAILURES, ids=lambda row: row.error.__name__)
def test_network_error_row_decides_by_type(row: Any) -> None:
    error = row.error(200, 7) if row.error.__name__ == "AnswerTooLarge" else row.error("words")
    assert meaning_of(error) is row
    bought, asked = (named(error, creating=creating) for creating in (True, False))
    assert (type(bought), type(asked)) == (row.submit, Unavailable)
    assert (bought.code, asked.code, bought.broken) == (row.code, row.code, row.counts)


@pytest.mark.parametrize("make", [lambda: ValueError("what?"), lambda: httpx.TooManyRedirects("round"), KeyError])
def test_unlisted_network_error_is_uncertain(make: Callable[[], Exception]) -> None:
    assert type(named(make(), creating=True)) is Uncertain
