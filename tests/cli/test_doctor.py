"""The doctor over real sockets: a healthy installation, and each usual mistake of a new operator."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import json
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from click.testing import CliRunner, Result

from service.app import application, opened
from service.cli import exits, main
from service.cli.doctor import database as database_checks
from service.cli.practice import SANDBOX_KEY, plug, plug_account
from service.domain.callback_token import Tokens
from service.domain.flows import FLOWS
from service.domain.task import Result as TaskResult
from service.domain.task import Source, State
from service.sandbox import Sandbox, running
from service.sandbox.account import QUERY_KEY, TOKEN
from service.settings.load import load
from service.store import circuits as circuit_store
from service.store import health as store_health
from service.store import queue
from service.store.migrate import newest
from tests.support.breakage import Server, answering, close_at_once, nowhere
from tests.support.values import a_task, keep
from tests.support.values import opened as database_at

KEY = "5f0a9c1e7b3d8246aa41"
SECRETS = (KEY, SANDBOX_KEY, QUERY_KEY, TOKEN, "wrong-key-of-the-test", "hunter2")


async def doctor(environment: dict[str, str], *arguments: str) -> Result:
    result = await asyncio.to_thread(CliRunner().invoke, main, ["doctor", *arguments], env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    for secret in SECRETS:
        assert secret not in result.output
    return result


async def found(environment: dict[str, str], topic: str | None = None) -> list[tuple[str, str, str | None]]:
    """Return the finding about a topic: status, text, advice."""
    result = await doctor(environment, "--json")
    document = json.loads(result.stdout)
    assert result.stderr == ""
    assert result.exit_code == (exits.OK if document["ok"] else exits.NOT_SUCCEEDED)
    assert document["ok"] is all(each["status"] != "error" for each in document["findings"])
    return [
        (each["status"], each["message"], each["advice"])
        for each in document["findings"]
        if topic is None or each["check"] == topic
    ]


def says(findings: list[tuple[str, str, str | None]], status: str, *words: str) -> None:
    """Assert that a finding contains these words."""
    texts = [f"{said} → {advice}" for found_status, said, advice in findings if found_status == status]
    assert any(all(word in text for word in words) for text in texts), (status, words, findings)


@contextlib.asynccontextmanager
async def installation(database_url: str, sandbox: Sandbox | None = None) -> AsyncIterator[dict[str, str]]:
    """Run Dovecote and its providers, and yield the environment that it was started with."""
    async with running(sandbox or Sandbox(key=SANDBOX_KEY)) as upstream:
        environment = {
            "DOVECOTE_DATABASE_URL": database_url,
            "DOVECOTE_API_KEYS": f"app={KEY}",
            **plug(upstream, 1.0, "elkapi", "runwayml"),
            **plug_account(upstream, "elkapi"),
        }
        async with opened(load(environment)) as context, running(_Served(application(context))) as url:
            environment |= {"DOVECOTE_PUBLIC_URL": url, "DOVECOTE_PORT": url.rpartition(":")[2]}
            yield environment


class _Served:
    def __init__(self, app: Any) -> None:
        self.app = app


async def test_working_installation_has_no_errors(database_url: str) -> None:
    async with installation(database_url) as environment:
        result = await doctor(environment)
        assert result.exit_code == exits.OK, result.output
        lines = result.stdout.splitlines()
        assert {line[0] for line in lines} <= {"✓", "!", " "}
        for words in (
            "no mistakes",
            "1 in the settings",
            f"answers, schema {newest()}",
            "accepts the key (GET /v1/models)",
            "accepts the key (GET /v1/organization)",
            "500 USD left",
            "100000 credits left",
            "is served by this Dovecote",
            "agrees with those of the upstreams",
            "callbacks are on (apply)",
            "`dovecote secret webhook` prints it",
            "server          answers at",
        ):
            assert words in result.stdout, words
        assert "127.0.0.1 is not a public address" in result.stdout


# ── settings, keys, server ─────────────────────────────────────────────────────────────────────────────────────────


async def test_all_mistakes_in_settings_are_reported() -> None:
    environment = {"DOVECOTE_PORT": "high", "DOVECOTE_HOSTT": "x", "DOVECOTE_DATABASE_URL": "mysql://me:hunter2@db/x"}
    mistakes = await found(environment, "settings")
    assert [status for status, *_ in mistakes] == ["error"] * 3
    says(mistakes, "error", "did you mean DOVECOTE_HOST?")
    says(mistakes, "error", "neither sqlite nor postgresql")


async def test_new_installation_lacks_only_an_upstream(tmp_path: Path) -> None:
    """The only finding is the missing upstream. The doctor creates nothing."""
    everything = await found(
        {"DOVECOTE_DATABASE_URL": f"sqlite:///{tmp_path / 'deep' / 'new.db'}", "DOVECOTE_PORT": "1"}
    )
    says(everything, "error", "none is configured", "ELKAPI_KEY")
    says(everything, "warning", "does not exist yet", "`dovecote serve` creates it")
    says(everything, "warning", "every program on this machine is the client 'default'", "DOVECOTE_API_KEYS")
    says(everything, "warning", "not set: providers cannot call back", "DOVECOTE_PUBLIC_URL")
    says(everything, "warning", "none answers at http://127.0.0.1:1", "dovecote serve")
    says(everything, "warning", "none yet", "dovecote serve")
    assert [status for status, *_ in everything].count("error") == 1
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - pathlib blocks, as ruff has it


@pytest.mark.parametrize("key", ["aaaaaaaaaaaaaaaaaaaaaaaa", "my-secret-password-12", "abcabcabcabcabcabc"])
async def test_weak_api_key_is_a_warning(tmp_path: Path, key: str) -> None:
    environment = {"DOVECOTE_DATABASE_URL": f"sqlite:///{tmp_path / 'new.db'}", "DOVECOTE_API_KEYS": f"shop={key}"}
    result = await found(environment, "API keys")
    says(result, "warning", "easily guessed: shop", "openssl rand")
    assert key not in str(result)


async def test_keys_in_the_database_are_counted(tmp_path: Path) -> None:
    environment = {"DOVECOTE_DATABASE_URL": f"sqlite:///{tmp_path / 'kept.db'}"}
    async with opened(load(environment)):
        pass
    says(await found(environment, "API keys"), "warning", "none: every program on this machine")
    made = await asyncio.to_thread(CliRunner().invoke, main, ["keys", "create", "shop", "--json"], env=environment)
    assert made.exit_code == 0, made.output
    says(await found(environment, "API keys"), "ok", "1 in the database")
    revoked = await asyncio.to_thread(
        CliRunner().invoke, main, ["keys", "revoke", json.loads(made.stdout)["prefix"]], env=environment
    )
    assert revoked.exit_code == 0, revoked.output
    says(await found(environment, "API keys"), "error", "revoked or expired", "dovecote keys create")


async def test_public_host_without_a_key_is_an_error(tmp_path: Path) -> None:
    environment = {"DOVECOTE_DATABASE_URL": f"sqlite:///{tmp_path / 'new.db'}", "DOVECOTE_HOST": "0.0.0.0"}  # noqa: S104
    says(await found(environment, "API keys"), "error", "can be reached by others", "DOVECOTE_API_KEYS")


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, True), (0o600, False)])
async def test_database_file_that_others_can_read_is_a_warning(tmp_path: Path, mode: int, *, warned: bool) -> None:
    file = tmp_path / "shared.db"
    environment = {"DOVECOTE_DATABASE_URL": f"sqlite:///{file}"}
    async with opened(load(environment)):
        pass
    file.chmod(mode)
    messages = [message for status, message, _ in await found(environment, "database") if status == "warning"]
    assert [message for message in messages if "can read shared.db" in message] != [] if warned else messages == []


async def test_route_without_key_and_private_webhooks_are_warnings(sqlite_url: str) -> None:
    environment = {
        "DOVECOTE_DATABASE_URL": sqlite_url,
        "DOVECOTE_ROUTES__RUNWAY": "cometapi,runwayml",
        "DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": "true",
    }
    everything = await found(environment)
    says(
        everything,
        "warning",
        "runway names cometapi, runwayml, which has no key",
        "COMETAPI_KEY, RUNWAYML_API_SECRET",
    )
    says(everything, "warning", "private addresses")


async def test_other_program_on_the_port_is_an_error(sqlite_url: str) -> None:
    page = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhey!")
    async with Server.running(page) as server:
        environment = {"DOVECOTE_DATABASE_URL": sqlite_url, "DOVECOTE_PORT": server.url.rpartition(":")[2]}
        says(await found(environment, "server"), "error", "another program answers")


async def test_server_with_wrong_schema_is_an_error(sqlite_url: str) -> None:
    async with installation(sqlite_url) as environment:
        path = sqlite_url.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM alembic_version")
        says(await found(environment, "server"), "error", "run dovecote migrate")
        says(await found(environment, "database"), "warning", "has no tables of Dovecote", "migrates it when it starts")


# ── database and disk ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.long
async def test_unusable_database_is_an_error(empty_postgresql_url: str, tmp_path: Path) -> None:
    says(
        await found({"DOVECOTE_DATABASE_URL": empty_postgresql_url}, "database"),
        "error",
        "has no tables of Dovecote",
        "run `dovecote migrate`",
    )
    away = await found({"DOVECOTE_DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:1/none"}, "database")
    says(away, "error", "postgresql://me:***@127.0.0.1:1/none", "nothing listens", "check host and port")
    file = tmp_path / "no.db"
    file.write_text("this is no database, but a text that is longer than the head of one " * 9)
    says(await found({"DOVECOTE_DATABASE_URL": f"sqlite:///{file}"}, "database"), "error", "")


@pytest.mark.long
async def test_read_only_postgresql_is_an_error(postgresql_url: str) -> None:
    owner = await asyncpg.connect(postgresql_url, server_settings={"default_transaction_read_only": "off"})
    try:
        await owner.execute("ALTER DATABASE dovecote SET default_transaction_read_only = on")
        result = await found({"DOVECOTE_DATABASE_URL": postgresql_url}, "database")
    finally:
        await owner.execute("ALTER DATABASE dovecote RESET default_transaction_read_only")
        await owner.close()
    says(result, "error", "cannot be written", "read-only")


async def test_locked_sqlite_is_an_error(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.database.BUSY_TIMEOUT", 0.1)
    with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        says(await found({"DOVECOTE_DATABASE_URL": sqlite_url}, "database"), "error", "cannot be written", "locked")


@pytest.mark.parametrize(
    ("free", "status"),
    [(database_checks.NO_SPACE - 1, "error"), (database_checks.LITTLE_SPACE - 1, "warning"), (1 << 40, "ok")],
)
async def test_little_disk_space_is_reported(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, free: int, status: str
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    says(await found({"DOVECOTE_DATABASE_URL": sqlite_url}, "disk"), status, f"{free >> 20} MiB free")


# ── work ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("seconds", "status", "words"),
    [(None, "warning", "none has worked"), (3, "ok", "was alive"), (3600, "warning", "none has been alive for 36")],
)
async def test_last_heartbeat_of_a_worker_is_reported(
    database_url: str, seconds: float | None, status: str, words: str
) -> None:
    if seconds is not None:
        async with database_at(database_url) as database, database.writing() as connection:
            seen = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)
            await store_health.beat(connection, "worker there:1", "worker", now=seen)
    says(await found({"DOVECOTE_DATABASE_URL": database_url}, "worker"), status, words)


async def test_flow_without_a_worker_is_a_warning_that_says_how_to_start_one(database_url: str) -> None:
    async with database_at(database_url) as database, database.writing() as connection:
        now = dt.datetime.now(dt.UTC)
        others = [flow for flow in FLOWS if flow not in {"poll", "results"}]
        await store_health.beat(connection, "worker there:1", "worker", now=now, flows=others)
        late = now - dt.timedelta(seconds=600)
        await store_health.beat(connection, "worker there:2", "worker", now=late, flows=["poll"])
    missing = "poll, results" if database_url.startswith("sqlite") else "poll"  # no files without storage
    environment = {"DOVECOTE_DATABASE_URL": database_url}
    says(await found(environment, "worker"), "warning", f"missing for {missing}: ")


async def test_queue_that_is_not_worked_off_is_a_warning(database_url: str) -> None:
    environment = {"DOVECOTE_DATABASE_URL": database_url}
    now = dt.datetime.now(dt.UTC)
    async with database_at(database_url) as database:
        await keep(database, a_task(state=State.QUEUED, due_at=now - dt.timedelta(seconds=20)))
        says(await found(environment, "queues"), "ok", "nothing has been due")
        await keep(database, a_task(state=State.QUEUED, due_at=now - dt.timedelta(seconds=600)))
    says(await found(environment, "queues"), "warning", "the oldest of the due submissions has waited for 6")


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://new-api:3000/mj/image/7", True),
        ("http://127.0.0.2:9000/a.png", True),
        ("https://cdn.example.com/a.png", False),
        ("http://[", False),
    ],
)
async def test_results_that_lead_nowhere_are_a_warning(sqlite_url: str, url: str, *, warned: bool) -> None:
    now = dt.datetime.now(dt.UTC)
    task = a_task(
        state=State.SUCCEEDED,
        upstream="elkapi",
        dialect="midjourney/proxy",
        results=(TaskResult("image", url=url),),
        finished_at=now,
        decided_by="provider",
        outcome_source=Source.POLL,
        due_at=None,
    )
    async with database_at(sqlite_url) as database:
        await keep(database, task)
    async with running(Sandbox(key=SANDBOX_KEY)) as upstream:
        result = await at(upstream, sqlite_url)
    assert any("internal address" in said and str(task.id) in said for _, said, _ in result) is warned


# ── the public address ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_public_url_of_another_dovecote_is_an_error(sqlite_url: str, tmp_path: Path) -> None:
    async with installation(sqlite_url) as here, installation(f"sqlite:///{tmp_path / 'other.db'}") as there:
        environment = {**here, "DOVECOTE_PUBLIC_URL": there["DOVECOTE_PUBLIC_URL"]}
        says(await found(environment, "public_url"), "error", "another Dovecote", "callback_secret")


async def test_callback_secret_of_the_settings_is_used(sqlite_url: str) -> None:
    async with installation(sqlite_url) as environment:
        given = {**environment, "DOVECOTE_CALLBACK_SECRET": "another-secret-of-callbacks"}
        says(await found(given, "public_url"), "error", "another Dovecote")


ADDRESSES = {
    "404": (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "is not served by Dovecote (HTTP 404)"),
    "page": (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "is not served by Dovecote (HTTP 200)"),
    "list": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "is not served by Dovecote"),
    "liar": (b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"dovecote":"yes"}', "another Dovecote"),
    "moved": (
        b"HTTP/1.1 301 M\r\nLocation: https://www.loft.example/callbacks/x\r\nContent-Length: 0\r\n\r\n",
        "answers with a redirect → providers may not follow it: set public_url to its target (https://www.loft.example)",
    ),
    "moved to nowhere": (
        b"HTTP/1.1 301 M\r\nLocation: https://[\r\nContent-Length: 0\r\n\r\n",
        "answers with a redirect",
    ),
}


@pytest.mark.parametrize("how", ADDRESSES)
async def test_public_url_served_by_another_program_is_an_error(sqlite_url: str, how: str) -> None:
    answer, words = ADDRESSES[how]
    async with installation(sqlite_url) as environment, Server.running(answering(answer)) as server:
        result = await found({**environment, "DOVECOTE_PUBLIC_URL": server.url}, "public_url")
        says(result, "error", words)


@pytest.mark.parametrize("how", ["refused", "unresolvable", "TLS with a plain server"])
async def test_unreachable_public_url_is_an_error(sqlite_url: str, how: str) -> None:
    async with installation(sqlite_url) as environment, nowhere(how) as url:
        says(
            await found({**environment, "DOVECOTE_PUBLIC_URL": url}, "public_url"),
            "error",
            "cannot be reached from here",
        )


async def test_plain_http_or_private_public_url_is_a_warning(sqlite_url: str) -> None:
    async with installation(sqlite_url) as environment:
        plain = await found({**environment, "DOVECOTE_PUBLIC_URL": "http://loft.invalid"}, "public_url")
        says(plain, "warning", "plain http", "https")
        near = await found({**environment, "DOVECOTE_PUBLIC_URL": "https://loft.local"}, "public_url")
        says(near, "warning", "loft.local is not a public address")


# ── upstreams ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def at(url: str, database_url: str, upstream: str = "elkapi", **more: str) -> list[tuple[str, str, str | None]]:
    environment = {"DOVECOTE_DATABASE_URL": database_url, **plug(url, 1.0, upstream), **more}
    return await found(environment, upstream)


@pytest.mark.parametrize(("upstream", "variable"), [("elkapi", "ELKAPI_KEY"), ("runwayml", "RUNWAYML_API_SECRET")])
async def test_rejected_key_is_an_error(sqlite_url: str, upstream: str, variable: str) -> None:
    async with running(Sandbox(key="another")) as url:
        result = await at(url, sqlite_url, upstream, **{variable: "wrong-key-of-the-test"})
        says(result, "error", "rejects the key", variable)


def http(status: str, body: bytes = b"", *headers: bytes) -> bytes:
    head = b"".join(header + b"\r\n" for header in (*headers, b"Content-Length: %d" % len(body)))
    return f"HTTP/1.1 {status}\r\n".encode() + head + b"\r\n" + body


PAGE = "with a web page, so it is not an API → base_url is the bare host"
MOVED = "with a redirect, so it is not an API (to https://www.elk.example)"
HOSTS = {
    "page": (http("200 OK", b"<html>"), "error", PAGE, "for ElkAPI it is https://api.elkapi.com"),
    "moved": (
        http("301 M", b"", b"Location: https://www.elk.example/v1/models?key=sandbox-key"),
        "error",
        MOVED,
        "bare host",
    ),
    "moved to nowhere": (http("301 M", b"", b"Location: https://["), "error", "with a redirect", "bare host"),
    "plain 404": (http("404 N", b"not found"), "error", "with a web page", "bare host"),
    "no such route": (
        http("404 N", b'{"error":{"message":"Invalid URL (GET /v1/models)"}}'),
        "warning",
        "does not know GET /v1/models",
        "first task",
    ),
    "no credit": (
        http("403 N", b'{"error":{"code":"insufficient_user_quota"}}'),
        "error",
        "refuses the account",
        "its credit",
    ),
    "busy": (http("429 B", b"{}"), "warning", "is unavailable", "try again"),
    "broken": (http("502 B"), "warning", "is unavailable", "try again"),
    "odd": (http("200 OK", b"{}"), "error", "unreadable answer", "is http"),
}


@pytest.mark.parametrize("how", HOSTS)
async def test_unexpected_answer_of_an_upstream_is_reported(sqlite_url: str, how: str) -> None:
    answer, status, *words = HOSTS[how]
    async with Server.running(answering(answer)) as server:
        says(await at(server.url, sqlite_url), status, *words)


@pytest.mark.parametrize("how", ["refused", "unresolvable", "TLS with a plain server", "TLS cut short"])
async def test_unreachable_upstream_is_an_error(sqlite_url: str, how: str) -> None:
    async with nowhere(how) as url:
        says(await at(url, sqlite_url), "error", "no connection", "DNS and firewall")


async def test_upstream_that_closes_the_connection_is_an_error(sqlite_url: str) -> None:
    async with Server.running(close_at_once) as server:
        says(await at(server.url, sqlite_url), "error", "no usable answer came", "firewall")


async def test_credit_is_reported(sqlite_url: str) -> None:
    async with running(Sandbox(key=SANDBOX_KEY)) as url:
        account = plug_account(url, "elkapi")
        low = {"DOVECOTE_UPSTREAMS__ELKAPI__LOW_CREDIT": "501"}
        says(await at(url, sqlite_url, **account, **low), "warning", "only 500 USD left", "top up the account")
        says(await at(url, sqlite_url), "ok", "credit is not checked: that needs a query_key")
        wrong = {**account, "DOVECOTE_UPSTREAMS__ELKAPI__QUERY_KEY": "wrong-key-of-the-test"}
        says(await at(url, sqlite_url, **wrong), "error", "does not report the credit", "query_url and query_key")
        wrong = {**account, "DOVECOTE_UPSTREAMS__ELKAPI__ACCOUNT_TOKEN": "wrong-key-of-the-test"}
        says(await at(url, sqlite_url, **wrong), "error", "list of jobs", "account_token and account_user")
        async with nowhere("refused") as away:
            wrong = {**account, "DOVECOTE_UPSTREAMS__ELKAPI__QUERY_URL": away}
            says(await at(url, sqlite_url, **wrong), "warning", "does not report the credit", "no connection")


async def test_missing_callbacks_and_open_circuits_are_warnings(database_url: str) -> None:
    sandbox = Sandbox(key=SANDBOX_KEY)
    async with installation(database_url, sandbox) as environment:
        off = {**environment, "DOVECOTE_UPSTREAMS__ELKAPI__CALLBACKS": "off"}
        says(await found(off, "elkapi"), "ok", "switched off")
        says(await found({**environment, "DOVECOTE_PUBLIC_URL": ""}, "elkapi"), "ok", "there is no public_url")
        says(await found(environment, "runwayml"), "ok", "has no callbacks")
        await store_failures(database_url)
        result = await found(environment, "elkapi")
        says(result, "warning", "callbacks hardly arrive: 0%", "runway/aggregator", "/callbacks/")
        says(result, "warning", "keeps failing in runway/aggregator", "tries it again by itself")


async def store_failures(database_url: str) -> None:
    """Store a bad day of an upstream: no task ended by callback, and submits kept failing."""
    now = dt.datetime.now(dt.UTC)
    async with database_at(database_url) as database:
        tasks = [a_task(created_at=now, updated_at=now) for _ in range(12)]
        await keep(database, *tasks)
        ended = {
            "state": State.SUCCEEDED, "upstream": "elkapi", "dialect": "runway/aggregator", "callback_expected": True,
            "outcome_source": Source.POLL, "decided_by": "provider", "finished_at": now, "submitted_at": now, "due_at": None,
        }  # fmt: skip
        async with database.writing() as connection:
            await queue.settle_tasks(connection, [(task, dataclasses.replace(task, **ended)) for task in tasks])
            await circuit_store.record_failures(connection, [("elkapi", "runway/aggregator", now)] * 5)


@pytest.mark.parametrize(
    ("seconds", "status", "words"),
    [(90, "warning", "s ahead of this"), (-90, "warning", "s behind"), (4000, "error", "ahead"), (0, "ok", "agrees")],
)
async def test_clock_skew_of_an_upstream_is_reported(sqlite_url: str, seconds: float, status: str, words: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        now = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").encode()
        body = b'{"data":[]}'
        await answering(b"HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Length: %d\r\n\r\n%s" % (date, len(body), body))(
            reader, writer
        )

    async with Server.running(answer) as server:
        environment = {"DOVECOTE_DATABASE_URL": sqlite_url, **plug(server.url, 1.0, "elkapi")}
        says(await found(environment, "clock"), status, words)


# ── the proof ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_callback_proof_is_not_a_token(sqlite_url: str) -> None:
    """The proof answers nothing but a nonce, and is not a valid token."""
    tokens = Tokens("secret")
    assert tokens.prove("a" * 32) != tokens.prove("b" * 32)
    assert tokens.prove("a" * 32) != Tokens("other").prove("a" * 32)
    assert tokens.read(tokens.prove("a" * 32)) is None
    async with (
        installation(sqlite_url) as environment,
        httpx.AsyncClient(base_url=environment["DOVECOTE_PUBLIC_URL"], trust_env=False) as client,
    ):
        for path in ("x", "A" * 32, "a" * 31, "a" * 33, "a" * 32 + "%0a"):
            assert (await client.get(f"/callbacks/{path}")).status_code == 405
        answer = await client.get("/callbacks/" + "a" * 32)
        assert answer.json().keys() == {"dovecote"}
        assert (await client.post("/callbacks/" + "a" * 32, json={})).status_code == 404


@pytest.mark.parametrize(
    ("seconds", "status", "words"),
    [(90, "warning", "90 s behind the database's"), (-90, "warning", "90 s ahead of"), (0, "ok", "agrees")],
    ids=["behind", "ahead", "equal"],
)
async def test_clock_skew_of_the_database_is_reported(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, seconds: float, status: str, words: str
) -> None:
    async def database_time(_: object) -> float:
        return dt.datetime.now(dt.UTC).timestamp() + seconds

    monkeypatch.setattr("service.cli.doctor.clock.read_database_time", database_time)
    says(await found({"DOVECOTE_DATABASE_URL": postgresql_url}, "clock"), status, words)


async def test_storage_is_written_and_read(sqlite_url: str, tmp_path: Path) -> None:
    environment = {"DOVECOTE_DATABASE_URL": sqlite_url}
    says(await found(environment, "storage"), "ok", "does not exist yet")
    folder = Path(sqlite_url.removeprefix("sqlite:///")).parent / "dovecote-objects"
    assert not folder.exists()
    folder.mkdir()
    says(await found(environment, "storage"), "ok", "can be written and read")
    assert [each for each in folder.rglob("*") if each.is_file()] == []
    broken = {"DOVECOTE_STORAGE__URL": "s3://kept", "DOVECOTE_STORAGE__ENDPOINT": "http://127.0.0.1:9"}
    keys = {
        "DOVECOTE_STORAGE__REGION": "us-east-1",
        "DOVECOTE_STORAGE__ACCESS_KEY_ID": "id",
        "DOVECOTE_STORAGE__SECRET_ACCESS_KEY": "secret-of-s3",
    }
    says(await found(environment | broken | keys, "storage"), "error", "s3://kept does not work", "storage.url")
