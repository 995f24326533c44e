"""An application served on a real socket of the loopback interface."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

from service.cli.serve import _server
from service.flows.signals.local import Signals


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """Serve an application as `dovecote serve` does, and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _server(app, Signals())
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving
