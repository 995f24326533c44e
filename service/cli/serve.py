"""Run Dovecote as a server: ``dovecote serve``."""

import asyncio
import contextlib
import dataclasses
import logging
import socket
from collections.abc import Callable, Collection, Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from service.app import (
    NoKey,
    Role,
    WrongSchema,
    application,
    at_work,
    callback_application,
    learning,
    metrics_application,
    opened,
    require_key,
    watching_workers,
)
from service.cli import exits
from service.cli.installation import database_fault, give_up, shown_database
from service.cli.listening import describe, listen, raise_descriptor_limit, reason_of, waiting_connections
from service.cli.stopping import Stop
from service.clock import warn_if_wrong
from service.domain.flows import FLOWS, Flow, stored
from service.flows.context import Context
from service.flows.metrics.tracing import NoOpenTelemetry
from service.flows.signals.local import Signals
from service.logs import log_to_standard_error
from service.memory import collect_rarely, return_large_blocks
from service.object_errors import StorageAway, StorageError
from service.providers.registry import PROVIDERS
from service.settings.model import Settings
from service.settings.values import address_of
from service.store.database import AlreadyRunning, Database, StoreUnavailable
from service.store.migrate import NewerSchema, migrate
from service.web.server_protocol import HttpProtocol

REQUESTS_TIMEOUT: Final = 10
"""Seconds that requests in flight get at a stop."""
ARRIVAL_TIMEOUT: Final = 0.05
"""Seconds that open connections get at a stop for a request that is on its way."""

log = logging.getLogger("dovecote")


@dataclasses.dataclass(frozen=True, slots=True)
class Listeners:
    """The sockets that this process listens on, as far as it does."""

    main: socket.socket | None
    callbacks: socket.socket | None
    metrics: socket.socket | None


class _Server(uvicorn.Server):
    """A uvicorn that leaves signals to us: its own handling ends the process before work in flight could end."""

    def __init__(self, config: uvicorn.Config, signals: Signals) -> None:
        super().__init__(config)
        self._signals = signals

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End streams and waiting requests, which uvicorn would wait for. Serve the requests that have arrived, and shut down."""
        self._signals.close()
        await self._accept_last(sockets or [])
        await super().shutdown(sockets)

    async def _accept_last(self, listeners: list[socket.socket]) -> None:
        """Accept the connections of the backlog and stop listening. The system then resets the rest of the backlog."""
        accepted = [connection for listener in listeners for connection in waiting_connections(listener)]
        for server in self.servers:
            server.close()
        for connection in accepted:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        # uvicorn closes a connection whose request has not been read yet.
        await asyncio.sleep(ARRIVAL_TIMEOUT)

    def _protocol(self) -> HttpProtocol:
        return HttpProtocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: Settings, role: Role, stop: Stop, *, flows: Collection[Flow] = FLOWS, listens: bool = True) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is in flight.

    :param stop: handles the signals already
    :param flows: the work of a worker
    :param listens: whether to listen; a worker can do without, and goes on where its port is in use
    """
    log_to_standard_error(settings.log_level, settings.log_format)
    raise_descriptor_limit()
    return_large_blocks()
    with contextlib.ExitStack() as open_sockets:
        # Before anything is opened: a second server on the same port would otherwise begin to work, and then stop.
        main = callbacks = scraped = None
        if listens:
            main = _listen(settings.host, settings.port, needed=role != "worker")
        if main is not None:
            open_sockets.enter_context(main)
        if settings.callback_port is not None and role in {"all", "web"}:
            callbacks = _listen(settings.callback_host or settings.host, settings.callback_port)
            open_sockets.enter_context(callbacks or contextlib.nullcontext())
        if settings.observability.metrics_listen is not None:
            scraped = _listen(*address_of(settings.observability.metrics_listen))
            open_sockets.enter_context(scraped or contextlib.nullcontext())
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_serve(settings, role, stop, Listeners(main, callbacks, scraped), flows))
        except (NoKey, NoOpenTelemetry) as error:
            give_up(str(error), exits.SETTINGS)
        except StorageError as error:
            give_up(f"storage: {error}", exits.UNAVAILABLE if isinstance(error, StorageAway) else exits.SETTINGS)
        except StoreUnavailable as error:
            give_up(database_fault(settings, error), error.fault.exit_code)
        except NewerSchema as error:
            give_up(str(error), exits.SETTINGS)
        except (AlreadyRunning, WrongSchema) as error:
            give_up(str(error))


def _listen(host: str, port: int, *, needed: bool = True) -> socket.socket | None:
    try:
        return listen(host, port)
    except OSError as error:
        if needed:
            give_up(describe(error, host, port))
        log.warning("port not available, no health is served host=%s port=%d error=%s", host, port, reason_of(error))
        return None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return None
    return uvloop.new_event_loop


async def _serve(
    settings: Settings,
    role: Role,
    stop: Stop,
    listeners: Listeners,
    flows: Collection[Flow],
) -> None:
    """Start everything, serve until a stop is requested, and end everything in order. A stop cuts the start short."""
    loop, requested = asyncio.get_running_loop(), asyncio.Event()
    stop.when_requested(lambda: _set_soon(loop, requested))
    starting = asyncio.current_task()
    watch = asyncio.create_task(_cancel_when(requested, starting))
    try:
        async with contextlib.AsyncExitStack() as stack:
            context = await stack.enter_async_context(opened(settings))
            if role in {"all", "web"}:
                await require_key(context)
            if role == "web":
                await stack.enter_async_context(watching_workers(context))
                await stack.enter_async_context(learning(context))
            works = role in {"all", "worker"}
            worker = await stack.enter_async_context(at_work(context, flows)) if works else None
            watch.cancel()
            servers = list(_servers(context, role, listeners))
            _log_start(context, role, listeners, flows)
            collect_rarely()
            async with asyncio.TaskGroup() as serving:
                for server, sock in servers:
                    serving.create_task(server.serve(sockets=[sock]))
                await requested.wait()
                log.info("stopping role=%s", role)
                if worker is not None:
                    worker.stop()
                for server, _ in servers:
                    server.should_exit = True
        log.info("stopped role=%s", role)
    except asyncio.CancelledError:
        if not requested.is_set():
            raise
    finally:
        watch.cancel()


def _set_soon(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)


async def _cancel_when(requested: asyncio.Event, task: asyncio.Task[None] | None) -> None:
    await requested.wait()
    if task is not None:
        task.cancel()


def _servers(context: Context, role: Role, listeners: Listeners) -> Iterator[tuple[_Server, socket.socket]]:
    keep_alive = context.settings.keep_alive
    if listeners.main is not None:
        yield _server(application(context, role), context.signals, keep_alive), listeners.main
    if listeners.callbacks is not None:
        yield _server(callback_application(context), context.signals, keep_alive), listeners.callbacks
    if listeners.metrics is not None:
        yield _server(metrics_application(context), context.signals, keep_alive), listeners.metrics


def _server(app: ASGIApp, signals: Signals, keep_alive: int = 75) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            access_log=False,  # paths hold callback tokens; see service.web.access_log
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=REQUESTS_TIMEOUT,
            timeout_keep_alive=keep_alive,
        ),
        signals,
    )


def _address(host: str, listener: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def _log_start(context: Context, role: Role, listeners: Listeners, flows: Collection[Flow]) -> None:
    settings = context.settings
    url = None if listeners.main is None else _address(settings.host, listeners.main)
    log.info("started role=%s url=%s database=%s", role, url, shown_database(settings))
    warn_if_wrong(context.now())
    if len(flows) < len(FLOWS):
        log.info("worker has chosen flows flows=%s", stored(flows))
    if listeners.callbacks is not None:
        at = _address(settings.callback_host or settings.host, listeners.callbacks)
        log.info("callback port open url=%s", at)
    if settings.observability.metrics_listen is not None and listeners.metrics is not None:
        at = _address(address_of(settings.observability.metrics_listen)[0], listeners.metrics)
        log.info("metrics port open url=%s", f"{at}/metrics")
    if context.upstreams:
        log.info("upstreams configured names=%s", ",".join(context.upstreams))
    else:
        variables = ", ".join(provider.key_variable for provider in PROVIDERS.values())
        log.warning("no upstream is configured; set one, or try `dovecote demo` variables=%s", variables)
    if settings.public_url is None:
        log.warning(
            "no public_url: providers cannot call back, so Dovecote polls. Set DOVECOTE_PUBLIC_URL for callbacks"
        )
    else:
        log.info("callbacks expected url=%s", f"{settings.public_url}/callbacks/…")


def run_migrations(settings: Settings) -> tuple[str | None, str]:
    """Bring the database to this version's schema; return the revision before and after."""

    async def go() -> tuple[str | None, str]:
        database = Database(settings.database_url, command_timeout=None)
        try:
            with database.held():
                return await migrate(database)
        finally:
            await database.close()

    try:
        return asyncio.run(go())
    except StoreUnavailable as error:
        give_up(database_fault(settings, error), error.fault.exit_code)
    except NewerSchema as error:
        give_up(str(error), exits.SETTINGS)
    except AlreadyRunning as error:
        give_up(str(error))
