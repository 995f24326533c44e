"""Serve the sandbox or the receiver over real sockets: in a terminal, or in a test's event loop."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp

from service.sandbox.connections import CuttableProtocol


class Served(Protocol):
    """Anything with an ASGI app: a Sandbox, a Receiver."""

    @property
    def app(self) -> ASGIApp: ...


def serve(served: Served, host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve until interrupted; prints one line with the URL, with the real port where `port` is 0."""
    listener = socket.create_server((host, port))
    sys.stdout.write(f"{type(served).__name__} at {_url(host, listener)}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(_config(served)).run(sockets=[listener])


@contextlib.asynccontextmanager
async def running(
    served: Served, host: str = "127.0.0.1", port: int = 0, *, tls: tuple[Path, Path] | None = None
) -> AsyncIterator[str]:
    """Serve in this event loop while the block runs; yields the base URL.

    :param tls: the files of a certificate and its key: then it is served by HTTPS
    """
    listener = socket.create_server((host, port))
    config = _config(served)
    if tls is not None:
        config.ssl_certfile, config.ssl_keyfile = tls
    server = _Guest(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        yield _url(host, listener) if tls is None else _url(host, listener).replace("http:", "https:", 1)
    finally:
        server.should_exit = True
        await serving


class _Guest(uvicorn.Server):
    """A server in another program's process. That program handles the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(served: Served) -> uvicorn.Config:
    return uvicorn.Config(
        served.app,
        http=CuttableProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,  # a slow answer does not hold up the end
    )


def _url(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"
