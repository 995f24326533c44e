"""Run Dovecote as a server: ``dovecote serve``."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from service.app import Role, WrongSchema, application, at_work, opened
from service.cli.installation import give_up, shown_database
from service.flows.bells import Bells
from service.flows.runtime import Runtime
from service.providers import PROVIDERS
from service.settings import Settings
from service.store.database import AlreadyRunning, Database, StoreUnavailable
from service.store.migrate import migrate


class _Server(uvicorn.Server):
    """A uvicorn that leaves signals to us: its own handling ends the process before work under way could end."""

    def __init__(self, config: uvicorn.Config, bells: Bells) -> None:
        super().__init__(config)
        self._bells = bells

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Have streams and waiting requests end: uvicorn would wait for them."""
        self._bells.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: Settings, role: Role) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is under way."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    for chatty in ("apscheduler", "httpx", "alembic", "aiosqlite"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Before anything is opened: a second server on the same port would otherwise begin to work, and then stop.
    with _listening(settings) as listener:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_serve(settings, role, listener))
        except (AlreadyRunning, StoreUnavailable, WrongSchema) as error:
            give_up(str(error))


def _listening(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        give_up(f"cannot listen on {settings.host}:{settings.port}: {_reason(error)}")


def _reason(error: OSError) -> str:
    """Say why, without the address that Python adds."""
    return (error.strerror or str(error)).partition(" (")[0]


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return None
    return uvloop.new_event_loop


async def _serve(settings: Settings, role: Role, listener: socket.socket) -> None:
    async with opened(settings) as runtime:
        server = _Server(
            uvicorn.Config(
                application(runtime, role),
                lifespan="off",
                access_log=False,  # paths hold callback tokens
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=10,
            ),
            runtime.bells,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
        _greet(runtime, role, listener)
        if role == "web":
            await server.serve(sockets=[listener])
            return
        async with at_work(runtime):
            await server.serve(sockets=[listener])


def _greet(runtime: Runtime, role: Role, listener: socket.socket) -> None:
    log = logging.getLogger("dovecote")
    settings = runtime.settings
    log.info(
        "%s on http://%s:%d, docs at /docs, database %s",
        role,
        f"[{settings.host}]" if ":" in settings.host else settings.host,
        listener.getsockname()[1],
        shown_database(settings),
    )
    if runtime.upstreams:
        log.info("upstreams: %s", ", ".join(runtime.upstreams))
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
        database = Database(settings.database_url)
        try:
            with database.held():
                return await migrate(database)
        finally:
            await database.close()

    try:
        return asyncio.run(go())
    except (AlreadyRunning, StoreUnavailable) as error:
        give_up(str(error))
