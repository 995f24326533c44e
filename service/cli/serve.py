"""Run Dovecote as a server: ``dovecote serve``."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from starlette.types import ASGIApp

from service.app import NoKey, Role, WrongSchema, application, at_work, callback_application, opened, require_key
from service.cli import exits
from service.cli.installation import database_fault, give_up, shown_database
from service.flows.context import Context
from service.flows.signals import Signals
from service.logs import log_to_standard_error
from service.providers.registry import PROVIDERS
from service.settings.model import Settings
from service.store.database import AlreadyRunning, Database, StoreUnavailable
from service.store.migrate import NewerSchema, migrate
from service.web.server_protocol import HttpProtocol


class _Server(uvicorn.Server):
    """A uvicorn that leaves signals to us: its own handling ends the process before work under way could end."""

    def __init__(self, config: uvicorn.Config, signals: Signals) -> None:
        super().__init__(config)
        self._bells = signals

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Have streams and waiting requests end: uvicorn would wait for them."""
        self._bells.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: Settings, role: Role) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is under way."""
    log_to_standard_error(settings.log_level)
    # Before anything is opened: a second server on the same port would otherwise begin to work, and then stop.
    with contextlib.ExitStack() as open_doors:
        main = open_doors.enter_context(_listening(settings.host, settings.port))
        callbacks = None
        if settings.callback_port is not None and role != "worker":
            at = settings.callback_host or settings.host
            callbacks = open_doors.enter_context(_listening(at, settings.callback_port))
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_serve(settings, role, main, callbacks))
        except NoKey as error:
            give_up(str(error), exits.SETTINGS)
        except StoreUnavailable as error:
            give_up(database_fault(settings, error), error.fault.exit_code)
        except NewerSchema as error:
            give_up(str(error), exits.SETTINGS)
        except (AlreadyRunning, WrongSchema) as error:
            give_up(str(error))


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        give_up(f"cannot listen on {host}:{port}: {_reason(error)}")


def _reason(error: OSError) -> str:
    """Say why, without the address that Python adds."""
    return (error.strerror or str(error)).partition(" (")[0]


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return None
    return uvloop.new_event_loop


async def _serve(
    settings: Settings, role: Role, listener: socket.socket, callback_listener: socket.socket | None
) -> None:
    async with opened(settings) as context:
        if role != "worker":
            await require_key(context)
        doors = [(_server(application(context, role), context.signals, settings.keep_alive), listener)]
        if callback_listener is not None:
            server = _server(callback_application(context), context.signals, settings.keep_alive)
            doors.append((server, callback_listener))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _close, [server for server, _ in doors])
        _greet(context, role, listener, callback_listener)
        async with contextlib.AsyncExitStack() as work:
            if role != "web":
                await work.enter_async_context(at_work(context))
            async with asyncio.TaskGroup() as serving:
                for server, door in doors:
                    serving.create_task(server.serve(sockets=[door]))


def _server(app: ASGIApp, signals: Signals, keep_alive: int = 75) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            access_log=False,  # paths hold callback tokens
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=10,
            timeout_keep_alive=keep_alive,
        ),
        signals,
    )


def _close(servers: Sequence[_Server]) -> None:
    for server in servers:
        server.should_exit = True


def _address(host: str, listener: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def _greet(context: Context, role: Role, listener: socket.socket, callback_listener: socket.socket | None) -> None:
    log = logging.getLogger("dovecote")
    settings = context.settings
    log.info("%s on %s, docs at /docs, database %s", role, _address(settings.host, listener), shown_database(settings))
    if callback_listener is not None:
        log.info("callbacks alone on %s", _address(settings.callback_host or settings.host, callback_listener))
    if context.upstreams:
        log.info("upstreams: %s", ", ".join(context.upstreams))
    else:
        log.warning(
            "no upstream is configured: set one of %s (or try `dovecote demo`)",
            ", ".join(provider.key_variable for provider in PROVIDERS.values()),
        )
    if settings.public_url is None:
        log.warning(
            "no public_url: providers cannot call back, so Dovecote polls. Set DOVECOTE_PUBLIC_URL to get callbacks"
        )
    else:
        log.info("callbacks at %s/callbacks/…", settings.public_url)


def run_migrations(settings: Settings) -> tuple[str | None, str]:
    """Bring the database to this version's schema, and give the revision before and after."""

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
