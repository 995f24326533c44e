"""Servers with certificates of a private authority: receivers and gateways, with and without ``ca_file``."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.app import opened as opened_installation
from service.domain.task import State
from service.flows.concurrency import TaskPool
from service.flows.submission import run as submission_run
from service.flows.submission.accept import accept
from service.flows.webhooks import dispatch
from service.http.tls import trusting
from service.store.webhooks import messages as message_store
from tests.support.breakage import ANSWER, HEAD, request_of
from tests.support.certificates import Authority
from tests.support.values import a_message, a_task, keep
from tests.support.world import TASK_REQUEST, settings_for


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder: Path = tmp_path_factory.mktemp("authority")
    return Authority(folder)


@contextlib.asynccontextmanager
async def secure_server(context: ssl.SSLContext) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve over TLS. Yield the URL and the list of received requests."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            requests.append(await request_of(reader))
            writer.write(HEAD + ANSWER)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests


@pytest.mark.parametrize("how", ["no file", "ca_file", "SSL_CERT_FILE"])
async def test_receiver_with_its_own_authority_needs_its_file(
    sqlite_url: str, authority: Authority, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    more = {"DOVECOTE_WEBHOOK_CA_FILE": str(authority.file)} if how == "ca_file" else {}
    if how == "SSL_CERT_FILE":
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with (
        secure_server(authority.serving("IP:127.0.0.1")) as (url, requests),
        opened_installation(settings_for(sqlite_url, **more)) as context,
    ):
        task = a_task(state=State.SUCCEEDED)
        await keep(context.database, task)
        async with context.database.writing() as connection:
            await message_store.insert(connection, [a_message(task, url=f"{url}/", due_at=context.now())])
        pool = TaskPool(1)
        await dispatch.run_due(context, pool)
        await pool.finish()
        async with context.database.reading() as connection:
            [message] = await message_store.of_task(connection, task.id)
    if how == "no file":
        assert (message.state, requests) == ("pending", [])
        assert "certificate verify failed" in (message.last_error or "")
    else:
        assert (message.state, len(requests)) == ("delivered", 1)


@pytest.mark.parametrize("how", ["no file", "ca_file", "SSL_CERT_FILE"])
async def test_upstream_with_its_own_authority_needs_its_file(
    sqlite_url: str, authority: Authority, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "SSL_CERT_FILE":
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with secure_server(authority.serving("IP:127.0.0.1")) as (url, requests):
        more = {"DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": url}
        more |= {"DOVECOTE_UPSTREAMS__ELKAPI__CA_FILE": str(authority.file)} if how == "ca_file" else {}
        async with opened_installation(settings_for(sqlite_url, **more)) as context:
            await accept(context, TASK_REQUEST, client="default")
            pool = TaskPool(1)
            await submission_run.run_due(context, pool)
            await pool.finish()
    assert len(requests) == (0 if how == "no file" else 1)


def test_file_is_trusted_besides_the_usual_authorities(authority: Authority) -> None:
    usual = len(trusting().get_ca_certs())
    assert len(trusting(authority.file).get_ca_certs()) == usual + 1
    assert trusting(authority.file).verify_mode is ssl.CERT_REQUIRED
