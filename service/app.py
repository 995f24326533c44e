"""Assemble a process: database, secrets, writers, worker and web application."""

import asyncio
import base64
import contextlib
import datetime as dt
import functools
import secrets as chance
from collections.abc import AsyncIterator, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from service.clock import Clock, ClockGuard
from service.domain.callback_token import Tokens
from service.domain.flows import FLOWS, Flow
from service.flows.context import Context, log, upstreams_of
from service.flows.metrics.rows import RowMetrics
from service.flows.metrics.tracing import Traces
from service.flows.signals.catchup import catching_up
from service.flows.signals.postgres import listening
from service.flows.statistics import keep_learning
from service.flows.submission.repeats import Recent
from service.flows.submission.restored import settle_if_restored
from service.flows.webhooks.operator import report_clock
from service.flows.webhooks.watch import watch_workers
from service.http.client import Http
from service.http.ssrf.guard import Guard
from service.http.tls import trusting
from service.objects import Objects, open_objects
from service.settings.model import Settings
from service.settings.values import is_loopback
from service.store import api_keys as api_keys_module
from service.store import health as store_health
from service.store import queue, secrets
from service.store.database import Database, StoreUnavailable, parse_url
from service.store.migrate import check_known, migrate, named, newest, revision
from service.store.restoration import Mark
from service.store.writer import Writers
from service.web import callbacks, docs, facades, health, kept_files, metrics, try_page
from service.web.access_log import AccessLog
from service.web.api import ENDPOINTS
from service.web.auth.bearer import Authenticator
from service.web.callback_limits import CallbackLimits
from service.web.dashboard import routes as dashboard
from service.web.dashboard.live import Pace
from service.web.problems import HANDLERS
from service.web.request_body import BodyBudget
from service.web.security_headers import SecurityHeaders
from service.web.sse import Streams
from service.worker import Worker, working

HEARTBEAT = 10.0
"""Seconds between two heartbeats of a worker."""
Role = Literal["all", "web", "callbacks", "worker"]


class WrongSchema(Exception):
    """The schema of the database is not the one that this version needs."""


class NoKey(Exception):
    """The server listens on a public address and no API key is configured."""


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Context]:
    """Open the database, the network and the secrets, and yield the context of this process.

    :raises AlreadyRunning: when another process has the SQLite database
    :raises NoOpenTelemetry: when traces are on and the package is not installed
    :raises StoreUnavailable: when the database is out of reach
    :raises WrongSchema: when a PostgreSQL database has not been migrated
    :raises NewerSchema: when a newer version has migrated the database
    :raises StorageError: when the storage of files cannot be opened
    """
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    with database.held():
        writers = Writers(database)
        http = Http.real(
            Guard(settings.webhook_rules),
            files_guard=Guard(settings.results.rules),
            webhook_tls=trusting(settings.webhook_ca_file) if settings.webhook_ca_file else None,
        )
        objects: Objects | None = None
        try:
            await _prepare(database)
            objects = objects_of(settings)
            async with writers.running(), _tracing(settings) as traces:
                clock = Clock()
                context = Context(
                    settings=settings,
                    clock=clock,
                    database=database,
                    writers=writers,
                    http=http,
                    tokens=Tokens(await _secret(database, settings, "callback_secret")),
                    webhook_secret=await _secret(database, settings, "webhook_secret"),
                    upstreams=upstreams_of(settings),
                    objects=objects,
                    traces=traces,
                    mark=Mark(database.url.database or "") if database.sqlite else None,
                )
                guard = ClockGuard(clock, database, context.signals)
                guard.on_skew = functools.partial(report_clock, context)
                await guard.start()
                async with listening(context), catching_up(context), guard.running():
                    yield context
        finally:
            await http.close()
            await database.close()
            if objects is not None:
                objects.close()


def objects_of(settings: Settings) -> Objects | None:
    """Open the storage of files; None where there is none.

    :raises StorageError: when it cannot be opened
    """
    if not settings.stores_files:
        return None
    storage, file = settings.storage, parse_url(settings.database_url).database
    secret = storage.secret_access_key
    return open_objects(
        storage.url,
        Path(file or "").parent / "dovecote-objects",
        endpoint=storage.endpoint,
        region=storage.region,
        key_id=storage.access_key_id,
        secret=None if secret is None else secret.get_secret_value(),
        min_free=storage.min_free,
    )


@contextlib.asynccontextmanager
async def _tracing(settings: Settings) -> AsyncIterator[Traces | None]:
    """Open the traces where they are on. At the end, what has not been sent is sent in a thread."""
    if not settings.observability.traces:
        yield None
        return
    traces = Traces.exporting(instance=health.PROCESS)
    try:
        yield traces
    finally:
        await asyncio.to_thread(traces.close)


async def _prepare(database: Database) -> None:
    """Migrate a SQLite database; check that a PostgreSQL database has been migrated."""
    if database.sqlite:
        before, after = await migrate(database)
        if before != after:
            log.info("database migrated file=%s before=%s after=%s", database.url.database, before, after)
        return
    found = await revision(database)
    if found != newest():
        check_known(found)
        raise WrongSchema(
            f"the database has {named(found)}, this version needs schema {newest()}: run `dovecote migrate`"
        )


async def _secret(database: Database, settings: Settings, name: Literal["callback_secret", "webhook_secret"]) -> str:
    """Return a secret: from the settings, or the stored one. Generate and store it if there is none."""
    given = getattr(settings, name)
    if given is not None:
        value: str = given.get_secret_value()
        return value
    made = "whsec_" + base64.b64encode(chance.token_bytes(32)).decode()
    async with database.writing() as connection:
        return await secrets.keep(connection, name, made, now=_now())


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@contextlib.asynccontextmanager
async def at_work(context: Context, flows: Collection[Flow] = FLOWS) -> AsyncIterator[Worker]:
    """Run the worker, after ending the leases of a dead process.

    :param flows: the work of this process
    """
    if context.database.sqlite:
        async with context.database.writing() as connection:
            await queue.release_leases(connection, now=context.now())
    await settle_if_restored(context)
    async with context.database.writing() as connection:
        await queue.release_unknown_waits(connection, [each.key for each in context.waits], now=context.now())
    async with _beating(context, flows), working(context, flows) as worker:
        yield worker


@contextlib.asynccontextmanager
async def watching_workers(context: Context) -> AsyncIterator[None]:
    """Report to operators when no worker is alive, for the length of a ``with``."""
    async with _running(watch_workers(context), "watch workers"):
        yield


@contextlib.asynccontextmanager
async def learning(context: Context) -> AsyncIterator[None]:
    """Update the statistics of a process without a worker, for the length of a ``with``."""
    async with _running(keep_learning(context), "learn"):
        yield


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run something beside a ``with`` statement, until that ends."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _beating(context: Context, flows: Collection[Flow]) -> AsyncIterator[None]:
    """Write every :data:`HEARTBEAT` seconds that this worker is alive, for the length of a ``with``."""

    async def beat() -> None:
        while True:
            try:
                async with context.database.writing() as connection:
                    now = context.now()
                    await store_health.beat(connection, f"worker {health.PROCESS}", "worker", now=now, flows=flows)
            except StoreUnavailable as error:
                log.warning("heartbeat failed error=%s", error)
            await asyncio.sleep(HEARTBEAT)

    async with _running(beat(), "heartbeat"):
        yield


def application(context: Context, role: Role = "all") -> ASGIApp:
    """Build the web application over an open context.

    :param role: ``all``; ``web`` serves requests only; ``callbacks`` serves those of providers only; ``worker`` runs the journeys and serves health only
    """
    return _around(context, Starlette(routes=routes(context.settings, role), exception_handlers=HANDLERS))


def callback_application(context: Context) -> ASGIApp:
    """Build the application of the callback port: callbacks and ``/healthz`` only."""
    return _around(context, Starlette(routes=callbacks.ALONE, exception_handlers=HANDLERS))


def _around(context: Context, app: Starlette) -> ASGIApp:
    app.state.context = context
    app.state.row_metrics = RowMetrics(context)
    app.state.streams = Streams(context)
    app.state.callback_limits = CallbackLimits(context)
    app.state.recent = Recent()
    app.state.pace = Pace()
    app.state.counted = {}  # what needs somebody, for the dashboard's navigation
    app.state.bodies = BodyBudget(context.settings.max_body, context.large.turn)
    return AccessLog(SecurityHeaders(app), context.metrics, traced=context.traces is not None)


def metrics_application(context: Context) -> ASGIApp:
    """Build the application of the metrics port: ``/metrics`` and ``/healthz`` only."""
    return _around(context, Starlette(routes=metrics.ALONE, exception_handlers=HANDLERS))


async def require_key(context: Context) -> None:
    """Refuse to start a server on a public address without an API key.

    :raises NoKey: when the address that it listens at, or the address that callbacks share with the API, is public, and neither the settings nor the database have a valid key
    :raises StoreUnavailable: when the database is out of reach
    """
    settings = context.settings
    listens_publicly = not is_loopback(settings.host)
    if settings.api_keys or not (listens_publicly or _is_forwarded(settings)):
        return
    async with context.database.reading() as connection:
        if await api_keys_module.any_valid(connection, now=context.now()):
            return
    reached = f"host: {settings.host}" if listens_publicly else f"public_url: {settings.public_url}"
    instead = "keep host = 127.0.0.1" if listens_publicly else "give callbacks a port of their own (callback_port)"
    raise NoKey(
        f"{reached} can be reached by others and there is no API key: anyone could spend your credit. "
        f"Set DOVECOTE_API_KEYS=name=$(openssl rand -hex 24), make one with `dovecote keys create`, or {instead}"
    )


def _is_forwarded(settings: Settings) -> bool:
    """Return whether a proxy forwards a public address to the API's port. Such requests seem to come from this machine."""
    if settings.public_url is None or settings.callback_port is not None:
        return False
    return not is_loopback((urlsplit(settings.public_url).hostname or "").strip("[]"))


def routes(settings: Settings, role: Role = "all") -> Sequence[BaseRoute]:
    """Return the routes of a role."""
    if role == "worker":
        return health.ROUTES
    if role == "callbacks":
        return callbacks.ALONE
    authenticator = Authenticator(settings)
    api = [endpoint.route(authenticator) for endpoint in ENDPOINTS]
    with_callbacks = callbacks.ROUTES if settings.callback_port is None else []
    own = [
        *api,
        metrics.behind_a_key(authenticator),
        *kept_files.ROUTES,
        *health.ROUTES,
        *docs.ROUTES,
        *try_page.ROUTES,
        *dashboard.routes(authenticator),
        Route("/", _to_dashboard),
    ]
    return [*with_callbacks, *facades.around(own, settings, authenticator)]


async def _to_dashboard(_: Request) -> Response:
    return RedirectResponse("ui/tasks")  # relative: it keeps the path prefix of a proxy
