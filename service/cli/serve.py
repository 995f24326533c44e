"""Run Dovecote as a server: ``dovecote serve``."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from service.app import Role, WrongSchema, application, at_work, opened
from service.flows.runtime import Runtime
from service.settings import Settings, SettingsError, load
from service.store.database import AlreadyRunning, Database, StoreUnavailable
from service.store.migrate import migrate

EXIT_SETTINGS = 78
EXIT_UNAVAILABLE = 69


class _Server(uvicorn.Server):
    """A uvicorn that leaves signals to us: its own handling ends the process before work under way could end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def read_settings(config: Path | None) -> Settings:
    """Read the settings or end the process with every mistake in them."""
    try:
        return load(os.environ, config)
    except SettingsError as error:
        print(
            "The settings have mistakes:", *(f"  - {mistake}" for mistake in error.mistakes), sep="\n", file=sys.stderr
        )
        sys.exit(EXIT_SETTINGS)


def run(settings: Settings, role: Role) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is under way."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    for chatty in ("apscheduler", "httpx", "alembic", "aiosqlite"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings, role))
    except (AlreadyRunning, StoreUnavailable, WrongSchema) as error:
        print(f"dovecote: {error}", file=sys.stderr)
        sys.exit(EXIT_UNAVAILABLE)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return None
    return uvloop.new_event_loop


async def _serve(settings: Settings, role: Role) -> None:
    async with opened(settings) as runtime:
        server = _Server(
            uvicorn.Config(
                application(runtime, role),
                host=settings.host,
                port=settings.port,
                lifespan="off",
                access_log=False,  # paths hold callback tokens
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=10,
            )
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
        _greet(runtime, role)
        if role == "web":
            await server.serve()
            return
        async with at_work(runtime):
            await server.serve()


def _greet(runtime: Runtime, role: Role) -> None:
    log = logging.getLogger("dovecote")
    settings = runtime.settings
    log.info(
        "%s on http://%s:%d, docs at /docs, database %s",
        role,
        settings.host,
        settings.port,
        runtime.database.url.render_as_string(),
    )
    if runtime.upstreams:
        log.info("upstreams: %s", ", ".join(runtime.upstreams))
    else:
        log.warning(
            "no upstream is configured: set ELKAPI_KEY, COMETAPI_KEY or RUNWAYML_API_SECRET (or try `dovecote demo`)"
        )
    if settings.public_url is None:
        log.warning(
            "no public_url: providers cannot call back, so Dovecote polls. Set DOVECOTE_PUBLIC_URL to get callbacks"
        )
    else:
        log.info("callbacks at %s/callbacks/…", settings.public_url)


def run_migrations(settings: Settings) -> None:
    """Bring the database to this version's schema."""

    async def go() -> None:
        database = Database(settings.database_url)
        try:
            with database.held():
                before, after = await migrate(database)
        finally:
            await database.close()
        print(f"schema {after}, was {before}" if before != after else f"schema {after}, nothing to do")

    try:
        asyncio.run(go())
    except (AlreadyRunning, StoreUnavailable) as error:
        print(f"dovecote: {error}", file=sys.stderr)
        sys.exit(EXIT_UNAVAILABLE)
